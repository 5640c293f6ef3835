"""MiniLMv2, and the other task-agnostic objectives that it was compared with.

**Paper**: Udagawa, Trivedi, Merler and Bhattacharjee 2023, "A Comparative Analysis of Task-Agnostic Distillation
Methods for Compressing Transformer Language Models" (EMNLP 2023, industry track). The winner, MiniLMv2, is Wang, Bao,
Huang, Dong and Wei 2021 (arXiv 2012.15828).

**Idea**: What should a small encoder copy from a large one when no task is given? Its output distribution (OD), its
hidden states (HS), or, best of the three, how the tokens of a text relate to each other among the queries, the keys
and the values of one upper layer (MHA). Relations have no width, so models of any shape can be paired.

**Objective**: of teacher layer l and the student's last, Q, K, V [T, d] are the outputs of the three maps of the
self-attention for the T tokens of a text, cut into A heads of width d / A. With R_ab = softmax(a b^T sqrt(A / d)) in
each head,

    MHA = sum over pairs ab in {QQ, KK, VV} of 1/3 (mean over heads and tokens of KL(R_ab teacher || R_ab student));
    HS  = sum over layers (i, j) of a map of the mean over tokens of |W_ij h_i - h_j|^2 / width;
    OD  = mean over hidden tokens of KL(teacher || student), of the two masked-language heads,

each averaged over texts (OD over hidden tokens). W is there only where the widths differ, and is dropped after
training.

**Kept and changed**: MHA is that of the reference code, with padding taken off both axes before the softmax. {QK: 1,
VV: 1} is MiniLM's first version. A teacher of more than 12 layers is read at seven eighths of its depth (21 of 24).
Hidden states are averaged text by text too, where the paper's wording leaves it open. OD hides tokens as BERT's
training does, from both models alike; the paper does not say where it compares. A one-to-n map sums over the teacher's
layers. The published settings are Adam, eps 1e-6, 6e-4, weight decay 0.01, batches of 256 texts of up to 512 tokens,
400,000 steps of which 4,000 warm up.

**Use it when**: a general encoder is to be made small, to be fine-tuned later; there is plain text and the teacher's
weights. Same tokenizer. OD is for a student that keeps its masked-language head; HS needs a map of layers, and rewards
a good one.
"""

from __future__ import annotations

from math import gcd
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stillroom.blocks.layer_maps import LayerMap, layer_map
from stillroom.blocks.masking import hide
from stillroom.blocks.projectors import projector
from stillroom.blocks.taps import Projections, all_attention_projections, attention_projections
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.attention_relations import attention_relation
from stillroom.objectives.features import mse_rows
from stillroom.objectives.logits import divergence_loss
from stillroom.objectives.rows import select, spread
from stillroom.objectives.sequence import sequence_mean
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View

__all__ = ["MiniLMv2"]

DEEP = 12  # layers, beyond which the last is no longer the best to learn from

PAIRS = [a + b for a in "qkv" for b in "qkv"]


class MiniLMv2(Objective):
    """Learn a teacher encoder's relations among tokens; or its hidden states, or its output distribution.

    Args:
        objective: ``mha``, ``hs`` or ``od``.
        relations: of MHA, weights > 0 of pairs of Q, K and V.
        heads: of MHA, relation heads A; a divisor of both models' widths, whatever heads these have.
        teacher_layer: of MHA, from 1, or from -1 downwards; by default as the teacher's depth has it.
        layers: of HS, a rule of `stillroom.blocks.layer_maps` or pairs of a student's and a teacher's layer.
        embeddings: of HS, whether the outputs of the embeddings are a pair too.
        rate: of OD, the chance of each token to be hidden, in (0, 1].

    Raises:
        ValueError: a value outside its range.
    """

    kind: ClassVar[str] = "encoder"
    units: ClassVar[dict[str, Unit]] = {"hs": "row", "od": "token", **dict.fromkeys(PAIRS, "row")}
    same_tokenizer: bool = True
    live_teacher: bool = True

    def __init__(
        self,
        *,
        objective: Literal["mha", "hs", "od"] = "mha",
        relations: dict[str, float] | None = None,
        heads: int = 48,
        teacher_layer: int | None = None,
        layers: str | list[list[Any]] = "last",
        embeddings: bool = False,
        rate: float = 0.15,
    ) -> None:
        super().__init__()
        relations = {"QQ": 1 / 3, "KK": 1 / 3, "VV": 1 / 3} if relations is None else relations
        wrong = [pair for pair in relations if len(pair) != 2 or not set(pair) <= set("QKV")]
        if wrong or not relations or min(relations.values()) <= 0:
            raise ValueError(
                f"relations gives pairs of Q, K and V a weight > 0, such as {{QK: 1, VV: 1}}; not {relations}"
            )
        if heads < 1 or not 0 < rate <= 1:
            raise ValueError(f"heads must be >= 1 and rate in (0, 1]; they are {heads} and {rate}")
        self.objective, self.relations, self.heads, self.teacher_layer = objective, relations, heads, teacher_layer
        self.layers, self.embeddings, self.rate = layers, embeddings, rate
        self.weights = {pair.lower(): weight for pair, weight in relations.items()} if objective == "mha" else {}
        asked = ("logits",) if objective == "od" else ("hidden:-1",)  # until the models are known
        self.needs = Needs(student=asked, teacher=asked)

    @classmethod
    def example(cls) -> MiniLMv2:
        """One that fits models of width 16 and 32."""
        return cls(heads=8)

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Find the layers, and see that the models can be compared.

        Raises:
            UserError: they can't.
        """
        assert teacher is not None
        if sample.teacher is not None:
            raise UserError(
                "token by token, teacher and student must read alike: give them one tokenizer and max_length"
            )
        if self.objective == "mha":
            self._find_maps(student, teacher, sample, view)
        elif self.objective == "hs":
            self._find_layers(student, teacher, sample, view)
        else:
            self._compare_heads(student, sample, view)

    def _find_maps(self, student: nn.Module, teacher: nn.Module, sample: Batch, view: View) -> None:
        depth = len(all_attention_projections(teacher))
        layer = self.teacher_layer or (depth if depth <= DEEP else round(depth * 7 / 8))
        self.of_student, self.of_teacher = attention_projections(student, -1), attention_projections(teacher, layer)
        self.needs = Needs(student=_taps(self.of_student), teacher=_taps(self.of_teacher))
        with torch.no_grad():
            found = [
                view.emit(model, sample.student, needs).taps[name].shape[-1]
                for model, needs, names in (
                    (student, self.needs.student, self.of_student),
                    (teacher, self.needs.teacher, self.of_teacher),
                )
                for name in names
            ]
        if any(width % self.heads for width in found):
            ours, theirs = found[0], found[3]
            raise UserError(
                f"{self.heads} relation heads must divide the widths of both models, {ours} of the student and "
                f"{theirs} of the teacher; take a divisor of {gcd(*found)}"
            )

    def _find_layers(self, student: nn.Module, teacher: nn.Module, sample: Batch, view: View) -> None:
        with torch.no_grad():
            ours, theirs = (view.emit(model, sample.student, ("hidden:all",)).hidden for model in (student, teacher))
        pairs: LayerMap = layer_map(self.layers, len(ours) - 1, len(theirs) - 1)
        if self.embeddings and pairs[0][0] != 0:
            pairs = [(0, (0,)), *pairs]
        self.pairs = [(layer, target) for layer, targets in pairs for target in targets]
        self.maps = nn.ModuleDict(
            {f"{i}-{j}": projector(ours[i].shape[-1], theirs[j].shape[-1]) for i, j in self.pairs}
        )
        self.needs = Needs(
            student=tuple(f"hidden:{i}" for i, _ in pairs),
            teacher=tuple(dict.fromkeys(f"hidden:{j}" for _, j in self.pairs)),
        )

    def _compare_heads(self, student: nn.Module, sample: Batch, view: View) -> None:
        tokenizer: Any = getattr(view, "tokenizer", None)
        if tokenizer is None or tokenizer.mask_token_id is None:
            raise UserError("to compare what two models say of hidden tokens, their tokenizer must have a mask token")
        with torch.no_grad():
            ours = view.emit(student, sample.student, ("logits",)).logits
        assert ours is not None and sample.emitted is not None and sample.emitted.logits is not None
        self.vocabulary = len(tokenizer)
        sizes = ours.shape[-1], sample.emitted.logits.shape[-1]
        if min(sizes) < self.vocabulary:
            raise UserError(
                f"the tokenizer has {self.vocabulary} tokens, and the heads of student and teacher give {sizes[0]} and "
                f"{sizes[1]}; both must say something of each token"
            )

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """For OD, hide some tokens from both models."""
        return hide(batch, view.tokenizer, self.rate) if self.objective == "od" else batch

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``qq``, ``kk``, ``vv`` or ``hs``, over texts; or ``od``, over hidden tokens."""
        assert teacher is not None
        if self.objective == "od":
            assert student.logits is not None and teacher.logits is not None
            ours, theirs = student.logits[..., : self.vocabulary], teacher.logits[..., : self.vocabulary]
            return {"od": divergence_loss(ours, theirs, batch.mask)}
        assert student.mask is not None
        tokens = student.mask & batch.mask.reshape(len(batch), -1).any(-1, keepdim=True)
        return (
            self._relations(student, teacher, tokens)
            if self.objective == "mha"
            else self._states(student, teacher, tokens)
        )

    def _relations(self, student: Signals, teacher: Signals, tokens: Tensor) -> dict[str, Reduced]:
        ours = dict(zip("QKV", (student.taps[name] for name in self.of_student), strict=True))
        theirs = dict(zip("QKV", (teacher.taps[name] for name in self.of_teacher), strict=True))
        return {
            pair.lower(): attention_relation(
                (ours[pair[0]], ours[pair[1]]), (theirs[pair[0]], theirs[pair[1]]), tokens, heads=self.heads
            )
            for pair in self.relations
        }

    def _states(self, student: Signals, teacher: Signals, tokens: Tensor) -> dict[str, Reduced]:
        errors = torch.zeros((), device=tokens.device)
        for i, j in self.pairs:
            ours, theirs = select(student.hidden[i], tokens), select(teacher.hidden[j], tokens)
            errors = errors + mse_rows(self.maps[f"{i}-{j}"](ours), theirs)
        return {"hs": sequence_mean(spread(errors, tokens), tokens)}


def _taps(names: Projections) -> tuple[str, ...]:
    return tuple(f"tap:{name}" for name in names)
