"""Modular early exits: one encoder, several depths to stop at, all trained at once.

**Paper**: Gurioli, Pennino, Monteiro and Gabbrielli 2025, "One Model to Train them All: Hierarchical Self-Distillation
for Enhanced Early Layer Embeddings" (arXiv 2503.03008); the models are ModularStarEncoder.

**Idea**: Exits stand after some layers of one deep encoder. Their losses are summed, each weighted by its depth, so the
lower layers are shaped by what the deeper exits need of them. A user takes the depth that fits, and gets a better small
encoder than one trained alone.

**Objective**: with L layers, exits i, and hidden states h_i (through the encoder's last normalisation, if it has one),

    loss = sum over i of (i / L) L_i.

Pre-training: L_i = masked language modelling + in-context classification ("are these two fragments of one source?",
from the first token), both read by heads that all exits share from h_i + e_i, e_i a learnt vector of the exit.
Retrieval: z_i = normalize(P_i pool(h_i)), a map P_i for each exit, and L_i the symmetric contrast of pairs, cosines
times 10. There is no explicit teacher.

**Kept and changed**: ``stage="pretrain"`` works on models with a masked-language head (the vectors e_i and the
classifier are dropped afterwards), ``"retrieve"`` on sentence-transformers pipelines, with whatever pooling these have:
the paper's left padding and [CLS] at the end are one choice of it. The encoder's shape is the user's; a EuroBERT has
the paper's bidirectional attention, grouped heads and rotary positions. Exits default to the paper's shares of the
depth (4, 9, 18, 27, 36 of 36). Every exit is handed over as a pipeline of its own with the layers that it needs, and
the deepest is the run's model. ``towards_deepest`` adds the distance of each exit's vector from the deepest one's,
without gradient to that; it is off. Fragments are packed by `stillroom.synthesis.fragments`, which also renames
identifiers (30% of the frequent ones). Published: batches of 2,048 pairs, 1e-5, 20,000 steps, 1.07 million triples.

**Use it when**: the same vectors' model must run on several budgets. For one fixed small budget a small model of its
own, distilled, is cheaper to train.
"""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.masking import hide
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import two_sided_info_nce
from stillroom.objectives.features import cosine_distance
from stillroom.objectives.rows import select
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.students.truncate import find_layers, keep_layers
from stillroom.views.base import View

__all__ = ["ModularEarlyExit"]

SHARES = (1 / 9, 1 / 4, 1 / 2, 3 / 4, 1)
HEADS = ("lm_head", "cls")  # what transformers call the masked-language heads


class ModularEarlyExit(Objective):
    """Train all exits of an encoder at once.

    Args:
        stage: ``retrieve`` on pairs, with a pipeline; or ``pretrain`` on texts, with a masked-language model.
        exits: after how many layers, in order, the depth itself last; by default the paper's shares of the depth.
        dimensions: of the vectors; by default the encoder's width.
        scale: what cosines are multiplied by, > 0.
        rate: in pre-training, the chance of each token to be hidden, in (0, 1].
        towards_deepest: weight of each exit's distance from the deepest exit's vector, >= 0.

    Raises:
        ValueError: a value outside its range.
    """

    kind: ClassVar[str] = "embeddings"
    changes_student: ClassVar[bool] = True

    def __init__(
        self,
        *,
        stage: Literal["retrieve", "pretrain"] = "retrieve",
        exits: list[int] | None = None,
        dimensions: int | None = None,
        scale: float = 10.0,
        rate: float = 0.15,
        towards_deepest: float = 0.0,
    ) -> None:
        super().__init__()
        if stage not in ("retrieve", "pretrain"):
            raise ValueError(f"stage must be retrieve or pretrain; it is {stage!r}")
        if exits is not None and (not exits or exits != sorted(set(exits)) or exits[0] < 1):
            raise ValueError(f"exits must be numbers of layers from 1, in order, each once; they are {exits}")
        if scale <= 0 or not 0 < rate <= 1 or towards_deepest < 0 or (dimensions is not None and dimensions < 1):
            raise ValueError("scale must be > 0, rate in (0, 1], towards_deepest >= 0 and dimensions >= 1")
        self.stage, self.exits, self.dimensions, self.scale = stage, exits or [], dimensions, scale
        self.rate, self.towards_deepest = rate, towards_deepest
        self.needs = Needs(student=("embedding",) if stage == "retrieve" else ("logits",))
        self.across_rows = stage == "retrieve"  # type: ignore[misc]  # each contrasts with the others
        self.reads = ("pair", "triple") if stage == "retrieve" else ("labelled-text",)

    @property
    def units(self) -> dict[str, Unit]:  # type: ignore[override]  # a class's own where it depends on nothing
        """By exit: pairs; or tokens and rows."""
        names: dict[str, Unit] = {"pairs": "pair", "near": "row", "mlm": "token", "icc": "row"}
        return {f"{name}_{number}": unit for number in self.exits for name, unit in names.items()}

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Find the exits; make their maps, or the heads that they share.

        Raises:
            UserError: an exit lies beyond the encoder, or the model has not what the stage needs.
        """
        whole: Any = student
        body = whole[0].auto_model if self.stage == "retrieve" else whole
        _, layers = find_layers(body)
        depth = len(layers)
        self.exits = self.exits or sorted({max(1, round(depth * share)) for share in SHARES})
        if self.exits[-1] != depth:
            raise UserError(
                f"the last exit must be the whole encoder, which has {depth} layers; it is {self.exits[-1]}"
            )
        names = {id(module): name for name, module in student.named_modules()}
        self.taps = {number: names[id(layers[number - 1])] for number in self.exits}
        base = body if self.stage == "retrieve" else body.base_model
        self._norm: tuple[nn.Module | None] = (getattr(base, "norm", None),)  # a tuple: it stays the student's own
        width = base.config.hidden_size
        self.weights = {name: number / depth for number in self.exits for name in (f"pairs_{number}", f"mlm_{number}")}
        self.weights |= {f"icc_{number}": number / depth for number in self.exits}
        self.weights |= {f"near_{number}": self.towards_deepest * number / depth for number in self.exits}
        taps = tuple(f"tap:{name}" for name in self.taps.values())
        if self.stage == "retrieve":
            self._make_maps(whole, width)
            self.needs = Needs(student=("embedding", *taps))
        else:
            self._make_heads(whole, width, sample)
            self.needs = Needs(student=taps)

    def _make_maps(self, student: Any, width: int) -> None:
        modules = import_module("sentence_transformers.sentence_transformer.modules")
        while isinstance(student[-1], modules.Normalize):
            del student[-1]
        if len(student) != 2:
            raise UserError("the student must be a pipeline of a transformer and a pooling; it has further modules")
        size = self.dimensions or width
        like = next(student.parameters())
        student.append(modules.Dense(width, size, bias=False, activation_function=nn.Identity()).to(like))
        student.append(modules.Normalize())
        self._pooling: tuple[nn.Module] = (student[1],)
        self.maps = nn.ModuleDict({str(number): nn.Linear(width, size, bias=False) for number in self.exits[:-1]})

    def _make_heads(self, student: Any, width: int, sample: Batch) -> None:
        name = next((name for name in HEADS if hasattr(student, name)), None)
        if name is None:
            raise UserError(f"{type(student).__name__} has no masked-language head; pre-train a masked-lm")
        if "label" not in sample.columns:
            raise UserError(
                "rows need a label, whether their two fragments are of one source (pack_fragments makes it)"
            )
        self._head: tuple[nn.Module] = (getattr(student, name),)
        self.depths = nn.ParameterDict({str(number): nn.Parameter(torch.zeros(width)) for number in self.exits})
        self.same = nn.Linear(width, 1)

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """In pre-training, hide some tokens."""
        return hide(batch, view.tokenizer, self.rate) if self.stage == "pretrain" else batch

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``pairs_i`` for each exit i; or ``mlm_i`` and ``icc_i``."""
        return self._retrieve(student, batch) if self.stage == "retrieve" else self._pretrain(student, batch)

    def states(self, student: Signals, number: int) -> Tensor:
        """What an exit gives, [B, T, H], 0 in padded places."""
        assert student.mask is not None
        found = student.taps[self.taps[number]].masked_fill(~student.mask.unsqueeze(-1), 0.0)
        (norm,) = self._norm
        return found if norm is None else norm(found)

    def vectors(self, student: Signals, number: int) -> Tensor:
        """An exit's vectors [texts, D], of unit length."""
        assert student.embedding is not None and student.mask is not None
        if number == self.exits[-1]:
            return student.embedding
        (pool,) = self._pooling
        features = {"token_embeddings": self.states(student, number), "attention_mask": student.mask.long()}
        return F.normalize(self.maps[str(number)](pool(features)["sentence_embedding"]), dim=-1)

    def _retrieve(self, student: Signals, batch: Batch) -> dict[str, Reduced]:
        pairs = batch.columns["pairs"]
        real = batch.mask[pairs].all(-1)
        found: dict[str, Reduced] = {}
        for number in self.exits:
            vectors = self.vectors(student, number)
            found[f"pairs_{number}"] = two_sided_info_nce(
                vectors[pairs[:, 0]], vectors[pairs[:, 1]], real, scale=self.scale
            )
            if self.towards_deepest and number != self.exits[-1]:
                assert student.embedding is not None
                found[f"near_{number}"] = cosine_distance(vectors, student.embedding.detach(), batch.mask)
        return found

    def _pretrain(self, student: Signals, batch: Batch) -> dict[str, Reduced]:
        assert batch.labels is not None
        (head,) = self._head
        hidden, labels = batch.mask, batch.labels
        whole = torch.ones(int(hidden.sum()), dtype=torch.bool, device=hidden.device)
        rows = hidden.any(-1)
        same = torch.as_tensor(batch.columns["label"], device=hidden.device)
        found: dict[str, Reduced] = {}
        for number in self.exits:
            states = self.states(student, number) + self.depths[str(number)]
            found[f"mlm_{number}"] = cross_entropy(head(select(states, hidden)), labels[hidden], whole)
            said = self.same(select(states[:, 0], rows)).squeeze(-1)
            wanted = same[rows].to(said)
            error = F.binary_cross_entropy_with_logits(said, wanted, reduction="sum")
            found[f"icc_{number}"] = Reduced(error, rows.sum())
        return found

    def also(self, student: nn.Module) -> dict[str, nn.Module]:
        """The pipelines of the earlier exits, each with the layers that it needs."""
        if self.stage != "retrieve":
            return {}
        return {f"exit-{number}": self.until(student, number) for number in self.exits[:-1]}

    def until(self, student: Any, number: int) -> nn.Module:
        """A pipeline of its own that ends at this exit."""
        modules = import_module("sentence_transformers.sentence_transformer.modules")
        library = import_module("sentence_transformers")
        first = copy.deepcopy(student[0])
        first.model = keep_layers(first.model, list(range(number)))
        dense = copy.deepcopy(student[2])
        if number != self.exits[-1]:
            with torch.no_grad():
                linear: Any = self.maps[str(number)]
                dense.linear.weight.copy_(linear.weight)
        parts = [first, copy.deepcopy(student[1]), dense, modules.Normalize()]
        return library.SentenceTransformer(modules=parts, device=str(next(student.parameters()).device))
