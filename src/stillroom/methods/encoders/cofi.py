"""CoFi: coarse and fine structured pruning, taught layer by layer.

**Paper**: Xia, Zhong and Chen 2022, "Structured Pruning Learns Compact and Accurate Models" (ACL 2022, arXiv
2204.00408); code princeton-nlp/CoFiPruning.

**Idea**: Masks are learnt for whole attention and feed-forward blocks, for heads, feed-forward units and hidden
dimensions at once, under a constraint on what is left; meanwhile the unpruned model teaches the survivor, and which of
its layers a teacher layer is compared with is found anew in every step.

**Objective**: every mask is a hard-concrete variable with probability q of not being 0, drawn once a step. With L
layers, A heads, I units, width H, and sizes P_head of a head and 2 (or 3, gated) H of a unit, the expected size is

    S = P_head / H * sum q_h q_l^attention q_la  +  2 * sum q_h q_l^feed q_li,     s = 1 - S / (size of all layers),

and the loss, with T = 2, a shared linear map W that starts as the identity, and teacher layers i in a set,

    0.1 T^2 KL(teacher || student) + 0.9 * sum over i of MSE(W h_student,m(i), h_teacher,i) + l1 (s - t) + l2 (s - t)^2.

m(i): from the top down, the student's layer of the smallest error among those whose attention is there and that lie
below the last one taken. The target t rises from 0; l1 and l2 are raised along their gradient.

**Kept and changed**: The stages (distillation alone, pruning while t rises and then stays, fine-tuning of what is
left) are shares of one run: ``warm_up``, ``rise``, ``settle``. At the last the masks are settled (the expected number
of zeros in each group, soft values for the rest) and stay; the model is cut at the end, which changes no output.
Validation chooses among settled models only; the paper takes the best of the pruning stage and then fine-tunes. Errors
of hidden states are averaged over real tokens, text by text (the code averages over padding too); the table of tokens
is frozen. A block that is gone writes 0, and a layer without blocks passes on its input; the authors' BERT skips the
normalisation of each removed block too, which no plain BERT could load. For the same reason all layers of the exported
model are as wide as the widest: zeros fill the others, and in a BERT, where a head's width is the model's over its
heads, attention shrinks with the hidden width alone. EuroBERT has no such limit. The hidden width is rounded up where
heads must divide it. Where no lower layer is left the match falls back on the last one taken (the code's index runs
out). Published: AdamW 2e-5, masks and multipliers 0.01, batch 32, 20 epochs (large tasks) or 100 of pruning with t
rising over 2 or 20, then 20 of fine-tuning.

**Use it when**: a fine-tuned encoder must be several times smaller for one task and a general small one is not good
enough; start the student as the teacher's copy. Below about half the size, truncation with distillation is simpler and
as good.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stillroom.blocks.hard_concrete import HardConcrete, Sparsity
from stillroom.blocks.masked import Masked
from stillroom.method import Objective, Step
from stillroom.objectives.features import mse_rows
from stillroom.objectives.logits import divergence_loss
from stillroom.objectives.rows import select, spread
from stillroom.objectives.sequence import sequence_mean
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.students.prune import Masks, prune, shapes_of
from stillroom.students.sites import find_sites
from stillroom.views.base import View

__all__ = ["CoFi"]

STARTS = {"hidden": 10.0, "head": 10.0, "head_layer": 10.0, "mlp": 10.0, "intermediate": 0.0}
DISTILLING, PRUNING, SETTLED = 0, 1, 2


class CoFi(Objective):
    """Prune a classifier under a sparsity target while its unpruned teacher shows it outputs and hidden states.

    Args:
        sparsity: share of the layers' numbers that goes, in (0, 1); embeddings are neither cut in length nor counted.
        masks: which are learnt, of ``hidden``, ``head``, ``intermediate``, ``head_layer`` and ``mlp``.
        kd: weight of the divergence of outputs, >= 0.
        layers: weight of the errors of hidden states, >= 0.
        temperature: of the outputs, > 0.
        matching: ``ordered`` takes student layers from the top down; ``free`` the nearest, order and masks aside.
        teacher_layers: numbers of the layers that teach, from 1; by default four, evenly spaced, the last among them.
        warm_up: share of the steps before anything is pruned, in [0, 1).
        rise: share of the steps in which the target rises, > 0.
        settle: where in the run the masks are settled, in (0, 1].
        mask_rate: learning rate of masks and multipliers, > 0.
        start: mean of all masks' log alpha to begin with; by default 10 (kept for sure), and 0 for units.

    Raises:
        ValueError: a value outside its range.
    """

    needs = Needs(student=("logits", "hidden:all"), teacher=("logits", "hidden:all"))
    units: ClassVar[dict[str, Unit]] = {"kd": "row", "layers": "row", "sparsity": "row"}
    kind: ClassVar[str] = "text-classifier"
    across_rows: ClassVar[bool] = True
    changes_student: ClassVar[bool] = True
    same_tokenizer: bool = True
    live_teacher: bool = True
    stage: Tensor
    seed: Tensor

    def __init__(
        self,
        *,
        sparsity: float = 0.95,
        masks: tuple[str, ...] = ("hidden", "head", "intermediate", "head_layer", "mlp"),
        kd: float = 0.1,
        layers: float = 0.9,
        temperature: float = 2.0,
        matching: Literal["ordered", "free"] = "ordered",
        teacher_layers: list[int] | None = None,
        warm_up: float = 0.05,
        rise: float = 0.25,
        settle: float = 0.6,
        mask_rate: float = 0.01,
        start: float | None = None,
    ) -> None:
        super().__init__()
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity, the share that goes, must be between 0 and 1; it is {sparsity}")
        if unknown := [name for name in masks if name not in STARTS]:
            raise ValueError(f"there is no mask {unknown[0]!r}; there are {', '.join(STARTS)}")
        if not {"head", "intermediate", "head_layer", "mlp"} & set(masks):
            raise ValueError(
                "masks must name one of head, intermediate, head_layer and mlp, or nothing could be pruned"
            )
        if min(kd, layers) < 0 or temperature <= 0 or mask_rate <= 0:
            raise ValueError("kd and layers must be >= 0, temperature and mask_rate > 0")
        if not (warm_up >= 0 and rise > 0 and warm_up + rise <= settle <= 1):
            raise ValueError(
                f"warm_up + rise must not lie beyond settle, nor settle beyond 1; they are {warm_up}, {rise}, {settle}"
            )
        self.sparsity, self.names, self.temperature, self.matching = sparsity, masks, temperature, matching
        self.teacher_layers, self.warm_up, self.rise, self.settle = teacher_layers, warm_up, rise, settle
        self.start = start
        self.weights = {"kd": kd, "layers": layers, "sparsity": 1.0}
        self.rates = {"masks.": mask_rate, "cost.": mask_rate}
        self._drawn: dict[str, Tensor] = {}

    @classmethod
    def example(cls) -> CoFi:
        """One that prunes from the first step, with masks that may be 0 or 1, on models of other sizes."""
        return cls(warm_up=0.0, sparsity=0.5, start=1.0, masks=("head", "intermediate", "hidden"))

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Make masks, multipliers and the map; hook the masks in; freeze the embeddings."""
        model: Any = student
        self.sites = find_sites(model)
        shapes = shapes_of(self.sites)
        made = {}
        for name in self.names:
            shape = shapes[name] if name in ("hidden", "head", "intermediate") else (*shapes[name], 1)
            made[name] = HardConcrete(*shape, start=STARTS[name] if self.start is None else self.start)
        self.masks, self.cost = nn.ModuleDict(made), Sparsity()
        assert sample.emitted is not None
        states = sample.emitted.hidden
        self.project = nn.Linear(self.sites.width, states[0].shape[-1])
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        depth = len(states) - 1
        numbers = self.teacher_layers or sorted({max(1, round(depth * quarter / 4)) for quarter in (1, 2, 3, 4)})
        if beyond := [number for number in numbers if not 1 <= number <= depth]:
            raise ValueError(f"teacher_layers names {beyond[0]}, and the teacher has layers 1 to {depth}")
        self.taught_by = sorted(numbers)
        every = tuple(f"hidden:{number}" for number in range(1, self.sites.depth + 1))
        self.needs = Needs(student=("logits", *every), teacher=("logits", *(f"hidden:{n}" for n in self.taught_by)))
        self.head_size, self.inner_size = self.sites.head_parameters(model), self.sites.inner_parameters(model)
        self.register_buffer("stage", torch.tensor(PRUNING if not self.warm_up else DISTILLING))
        self.register_buffer("seed", torch.randint(2**31, ()))
        for name, shape in shapes.items():
            self.register_buffer(f"kept_{name}", torch.ones(shape))
        model.get_input_embeddings().weight.requires_grad_(False)
        self._hooks = Masked(model, self.sites, self.now)

    # --- masks --------------------------------------------------------------------------------------------------------

    def now(self) -> Masks | None:
        """The masks of the next forward pass: none, drawn ones in training, settled ones else."""
        if int(self.stage) == DISTILLING:
            return None
        if int(self.stage) == SETTLED:
            return Masks(**{name: getattr(self, f"kept_{name}") for name in STARTS})
        if self.training and self._drawn:
            return self._whole({name: self._mask(name)(self._drawn[name]) for name in self.names})
        return self.settled()

    def _mask(self, name: str) -> HardConcrete:
        mask = self.masks[name]
        assert isinstance(mask, HardConcrete)
        return mask

    def settled(self) -> Masks:
        """The masks as they are where nothing is drawn, with as many hidden dimensions as such a model can have."""
        found = self._whole({name: self._mask(name).settled() for name in self.names})
        if "hidden" not in self.names:
            return found
        most = int((found.head != 0).sum(-1).mul(found.head_layer != 0).max())
        hidden = self._mask("hidden")
        width = self.sites.width_for(int(hidden.kept()), most)
        return Masks(
            **{name: getattr(found, name) for name in STARTS if name != "hidden"}, hidden=hidden.settled(width)
        )

    def _whole(self, found: dict[str, Tensor]) -> Masks:
        """All masks: those that are learnt, and ones."""
        shaped = {name: found[name].squeeze(-1) if name in ("head_layer", "mlp") else found[name] for name in found}
        ones = Masks.whole(self.sites, self.project.weight)
        return Masks(**{name: shaped.get(name, getattr(ones, name)) for name in STARTS})

    def expected_sparsity(self) -> Tensor:
        """1 - the expected size over the size of all layers, as the equation above has it."""
        sites = self.sites
        open_ = self._whole({name: self._mask(name).open() for name in self.names})
        hidden = open_.hidden.mean()
        heads = (open_.head_layer.unsqueeze(-1) * open_.head).sum()
        units = (open_.mlp.unsqueeze(-1) * open_.intermediate).sum()
        maps = len(sites.style.feeds) + 1
        a_unit = maps * sites.width if "hidden" in self.names else self.inner_size // sites.inner
        size = hidden * (self.head_size * heads + a_unit * units)
        return 1 - size / (sites.depth * (sites.heads * self.head_size + self.inner_size))

    # --- a step -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Enter the stage that the step belongs to, and draw the step's noise, the same in every process."""
        done = step.number / max(step.total, 1)
        if self.training and done >= self.settle and int(self.stage) != SETTLED:
            self._settle()
        elif self.training and done >= self.warm_up and int(self.stage) == DISTILLING:
            self.stage.fill_(PRUNING)
        generator = torch.Generator().manual_seed(int(self.seed) + step.number)
        for name in self.names:
            like = self._mask(name).log_alpha
            self._drawn[name] = torch.rand(like.shape, generator=generator, dtype=torch.float64).to(like)
        return batch

    def _settle(self) -> None:
        found = self.settled()
        if not any(found.stays(layer) for layer in range(self.sites.depth)):
            raise ValueError(f"at a sparsity of {self.sparsity} no layer is left; lower it, or train longer")
        for name in STARTS:
            getattr(self, f"kept_{name}").copy_(getattr(found, name))
        self.stage.fill_(SETTLED)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``kd``, ``layers`` and, while there is something to prune, ``sparsity``; over texts."""
        assert student.logits is not None and student.mask is not None
        assert teacher is not None and teacher.logits is not None
        kd = divergence_loss(student.logits, teacher.logits, batch.mask, temperature=self.temperature, scale_by_t2=True)
        tokens = student.mask & batch.mask.unsqueeze(-1)
        found = {"kd": kd, "layers": self._layers(student, teacher, tokens)}
        if int(self.stage) == PRUNING:
            cost = self.cost(self.expected_sparsity(), self.target(step))
            found["sparsity"] = Reduced(cost * kd.count, kd.count)
        return found

    def target(self, step: Step) -> float:
        """The sparsity asked for at this step."""
        risen = (step.number / max(step.total, 1) - self.warm_up) / self.rise
        return self.sparsity * min(max(risen, 0.0), 1.0)

    def _layers(self, student: Signals, teacher: Signals, tokens: Tensor) -> Reduced:
        ours = [self.project(select(student.hidden[number + 1], tokens)) for number in range(self.sites.depth)]
        theirs = [select(teacher.hidden[number], tokens) for number in self.taught_by]
        errors = torch.stack([torch.stack([mse_rows(mine, its) for mine in ours]) for its in theirs])
        masks = self.now()
        alive = [True] * self.sites.depth if masks is None else (masks.head_layer != 0).tolist()
        chosen = match(errors.detach().mean(-1), alive, ordered=self.matching == "ordered")
        total = sum((errors[place, layer] for place, layer in enumerate(chosen)), torch.zeros((), device=tokens.device))
        return sequence_mean(spread(total, tokens), tokens)

    def after_step(self, step: Step, losses: dict[str, float]) -> None:
        """Keep the masks where they can still move."""
        for name in self.names:
            self._mask(name).clamp()

    def eligible(self, step: Step) -> bool:
        """Only a settled student is what will be exported."""
        return int(self.stage) == SETTLED

    def finish(self, student: nn.Module) -> None:
        """Cut for good what the masks leave out."""
        if int(self.stage) != SETTLED:
            self._settle()
        self._hooks.release()
        model: Any = student
        prune(model, Masks(**{name: getattr(self, f"kept_{name}") for name in STARTS}))
        model.requires_grad_(True)

    def log(self) -> dict[str, float]:
        """The expected sparsity, and the multipliers."""
        with torch.no_grad():
            sparsity = float(self.expected_sparsity())
        multipliers = {"linear": float(self.cost.linear.detach()), "square": float(self.cost.square.detach())}
        return {"expected_sparsity": sparsity, **multipliers}


def match(errors: Tensor, alive: list[bool], *, ordered: bool) -> list[int]:
    """The student's layer, from 0, for each teacher layer.

    Args:
        errors: [teacher layers, student layers].
        alive: which of the student's layers may be taken, in order.
        ordered: whether they are taken from the top down, each below the last; else each is the nearest of all.
    """
    if not ordered:
        return errors.argmin(-1).tolist()
    numbers: list[list[float]] = errors.tolist()
    below, chosen = len(alive), []
    for row in reversed(numbers):
        usable = [layer for layer in range(below) if alive[layer]]
        below = min(usable, key=row.__getitem__) if usable else min(below, len(alive) - 1)
        chosen.append(below)
    return chosen[::-1]
