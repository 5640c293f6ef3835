"""Language-model knowledge in a CTC recogniser: throw-away decoders learn what a masked language model thinks.

**Paper**: Hentschel, Nishikawa, Komatsu and Fujita 2024, "Keep Decoding Parallel with Effective Knowledge
Distillation from Language Models to End-to-end Speech Recognisers" (ICASSP 2024, arXiv 2401.11700), there called
interAED-KD.

**Idea**: CTC is decoded at once, frame by frame, because it believes labels independent; so it knows little of
language. While it is trained, small attention decoders sit on its last layer and on one in the middle, and learn at
each label what a masked language model thinks could stand there. What they need for that must be in the encoder; they
are then thrown away, and decoding is as fast as before.

**Objective**: with h^l the states of layer l of L, y_1 ... y_n the labels, and Q_i the teacher's distribution over the
label in place i when it is hidden and all others are seen (the likeliest K, renormalised),

    L_ctc    = (1 - w) CTC(h^L) + w CTC(h^m), of one output head,          m the layer in the middle
    L_ce(l)  = -1/n sum_i log P_l(y_i | y_<i, h^l)
    L_kd(l)  = -1/n sum_i sum_v Q_i(v) log P_l(v | y_<i, h^l)
    loss     = (1 - b) L_ctc + b mean over l in {m, L} of [(1 - a) L_ce(l) + a L_kd(l)],

each the mean over utterances; CTC is divided by n too, so that all terms are by label.

**Kept and changed**: the paper leaves w, a, b and K open to us: w = 0.5, a = 0.5, b = 0.3, and K = 8 as in earlier work
on BERT and speech recognition. At a temperature tau other than 1, L_kd is multiplied by its square. The decoders have
one layer; the blank is in neither their vocabulary nor the teacher's. ``layer: 0`` leaves out the CTC in the middle and
its decoder, ``middle: false`` the decoder alone. Utterances too short for their labels have no path: their CTC is 0,
and ``log`` counts them. There is no shallow fusion here.

**Use it when**: a recogniser must decode greedily and there is much text of its domain, but little speech. The teacher
is a masked language model with the recogniser's tokens, read with ``teacher.options: {each: true}``, so that it never
sees the label it is asked for; best cached, with ``teacher.top_k`` at least K, as a text of n labels is read n times.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stillroom.blocks.attention_decoder import AttentionDecoder
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.ctc import ctc_loss, too_short
from stillroom.objectives.sequence import sequence_mean
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.speech import CTC

__all__ = ["CTCLMDistillation", "soft_labels"]

SURE = 0.99  # of the right label, on the sample: a teacher that says so most likely sees what it is asked for


class CTCLMDistillation(Objective):
    """CTC, beside decoders that learn labels and a masked language model's distributions over them.

    Args:
        layer: the layer in the middle, from 1; None takes half of the depth, 0 leaves it out.
        inter: w, weight of the CTC loss in the middle, in [0, 1).
        soft: a, the teacher's share of the decoders' loss, in [0, 1].
        decoders: b, weight of the decoders' loss, in [0, 1).
        middle: whether the layer in the middle has a decoder.
        last: whether the last layer has one.
        top_k: K, the teacher's likeliest labels that are kept, >= 1.
        temperature: tau, of the teacher, > 0.
        decoder_layers: of each decoder, >= 1.
        heads: of the decoders' attention; a divisor of the encoder's width.

    Raises:
        ValueError: a value outside its range, or no layer that has a decoder.
    """

    kind: ClassVar[str] = "ctc"
    needs = Needs(student=("logits",), teacher=("logits",))
    units: ClassVar[dict[str, Unit]] = dict.fromkeys(("ctc", "inter_ctc", "hard", "soft"), "row")
    same_tokenizer: bool = True

    def __init__(
        self,
        *,
        layer: int | None = None,
        inter: float = 0.5,
        soft: float = 0.5,
        decoders: float = 0.3,
        middle: bool = True,
        last: bool = True,
        top_k: int = 8,
        temperature: float = 1.0,
        decoder_layers: int = 1,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if not 0 <= inter < 1 or not 0 <= soft <= 1 or not 0 <= decoders < 1:
            raise ValueError(
                f"inter and decoders are shares in [0, 1), soft one in [0, 1]; they are {inter}, {decoders} and {soft}"
            )
        if (layer is not None and layer < 0) or top_k < 1 or temperature <= 0 or min(decoder_layers, heads) < 1:
            raise ValueError(
                "layer must be >= 0, top_k, decoder_layers and heads >= 1, temperature > 0; they are "
                f"{layer}, {top_k}, {decoder_layers}, {heads} and {temperature}"
            )
        middle = middle and layer != 0
        if not (middle or last):
            raise ValueError(
                "with a decoder neither in the middle nor on the last layer there is nothing to distil into"
            )
        self.layer, self.middle, self.last, self.top_k, self.temperature = layer, middle, last, top_k, temperature
        self.decoder_layers, self.heads = decoder_layers, heads
        inter = 0.0 if layer == 0 else inter
        weights = {"ctc": (1 - decoders) * (1 - inter), "inter_ctc": (1 - decoders) * inter}
        weights |= {"hard": decoders * (1 - soft), "soft": decoders * soft}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.rows, self.short = 0, 0

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Make the decoders.

        Raises:
            UserError: there is no such layer, or teacher and student do not have the same labels.
        """
        assert isinstance(view, CTC) and sample.emitted is not None
        config: Any = student.config
        depth, self.blank = config.num_hidden_layers, view.blank
        inter = depth // 2 if self.layer is None else self.layer
        if inter >= depth:
            raise UserError(f"the layer in the middle must lie below the last, {depth}; it is {inter}")
        self._compare(sample, len(view.tokenizer))
        self.inter = inter
        self.heard = [*([inter] if self.middle else []), *([depth] if self.last else [])]
        taps = [f"tap:head:{inter}"] if "inter_ctc" in self.weights else []
        states = [f"hidden:{layer}" for layer in self.heard]
        self.needs = Needs(student=("logits", *taps, *states), teacher=("logits",))
        settings = {"layers": self.decoder_layers, "heads": self.heads, "forbidden": view.blank}
        made = {f"{n}": AttentionDecoder(len(view.tokenizer), config.hidden_size, **settings) for n in self.heard}
        self.decoders = nn.ModuleDict(made)

    def _compare(self, sample: Batch, vocabulary: int) -> None:
        """See that the teacher speaks of the student's labels, and does not see the one it is asked for."""
        assert sample.emitted is not None and sample.labels is not None
        logits = sample.emitted.logits
        if logits is not None and logits.shape[-1] != vocabulary:
            raise UserError(
                f"the teacher has {logits.shape[-1]} tokens and the recogniser {vocabulary}; make the recogniser with "
                "the teacher's tokenizer (student.new.tokenizer)"
            )
        if self.top_k > vocabulary:
            raise UserError(f"top_k is {self.top_k}, more than the vocabulary of {vocabulary}")
        ids, log_q = soft_labels(sample.emitted, self.top_k, blank=self.blank, temperature=self.temperature)
        right = (log_q.exp() * (ids == sample.labels.unsqueeze(-1))).sum(-1)[sample.mask]
        if len(right) and float(right.mean()) > SURE:
            warnings.warn(
                "the teacher is sure of nearly every label, as one that sees it would be; read it with each: true",
                stacklevel=2,
            )

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``ctc``, ``inter_ctc``, ``hard`` and ``soft``, each over rows; those without a weight are left out."""
        assert student.logits is not None and student.mask is not None and batch.labels is not None
        assert teacher is not None
        frames, labels, mask = student.mask, batch.labels, batch.mask
        parts = {"ctc": ctc_loss(student.logits, frames, labels, mask, blank=self.blank)}
        if "inter_ctc" in self.weights:
            logits = student.taps[f"head:{self.inter}"]
            parts["inter_ctc"] = ctc_loss(logits, frames, labels, mask, blank=self.blank)
        rows = mask.any(-1)
        self.rows += int(rows.sum())
        self.short += int(too_short(frames[rows], labels[rows], mask[rows]).sum())
        decoded = {name for name in ("hard", "soft") if name in self.weights}
        if not rows.any():
            return parts | {name: parts["ctc"] for name in decoded}
        found = self._decoded(student, teacher, batch, rows)
        return parts | {name: found[name] for name in decoded}

    def _decoded(self, student: Signals, teacher: Signals, batch: Batch, rows: Tensor) -> dict[str, Reduced]:
        """``hard`` and ``soft``, the mean over the decoders, of rows that have labels."""
        assert batch.labels is not None and student.mask is not None
        mask, frames = batch.mask[rows], student.mask[rows]
        labels = batch.labels[rows].masked_fill(~mask, 0)
        ids, log_q = soft_labels(teacher, self.top_k, blank=self.blank, temperature=self.temperature)
        ids = ids[rows].masked_fill(~mask.unsqueeze(-1), 0)
        q = log_q[rows].masked_fill(~mask.unsqueeze(-1), -math.inf).exp()
        sums: dict[str, Tensor] = {}
        for layer in self.heard:
            logits = self.decoders[f"{layer}"](labels, mask, student.hidden[layer][rows], frames)
            log_p = logits.float().log_softmax(-1) if logits.dtype != torch.float64 else logits.log_softmax(-1)
            hard = -log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            kept = log_p.gather(-1, ids).masked_fill(q == 0, 0.0)  # the blank's is minus infinity, and nothing of it
            soft = -(q.detach() * kept).sum(-1) * self.temperature**2
            for name, values in (("hard", hard), ("soft", soft)):
                mean = sequence_mean(values, mask).sum / len(self.heard)
                sums[name] = sums[name] + mean if name in sums else mean
        return {name: Reduced(value, rows.sum()) for name, value in sums.items()}

    def log(self) -> dict[str, float]:
        """``too_short``: the share of utterances so far with fewer frames than their labels need."""
        return {"too_short": self.short / self.rows} if self.rows else {}


def soft_labels(teacher: Signals, top_k: int, *, blank: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The teacher's likeliest labels and their log-probabilities, renormalised, [B, U, K] both.

    Args:
        teacher: logits [B, U, V], or the kept part of distributions at this temperature already, with K ids or more.
        top_k: K.
        blank: an id that is no label.
        temperature: of the logits.

    Raises:
        UserError: fewer ids were kept.
    """
    if teacher.topk is None:
        assert teacher.logits is not None
        never = torch.arange(teacher.logits.shape[-1], device=teacher.logits.device) == blank
        values, ids = (teacher.logits / temperature).masked_fill(never, -math.inf).topk(top_k, -1)
        return ids, values.log_softmax(-1)
    if teacher.topk.ids.shape[-1] < top_k:
        raise UserError(
            f"the cache keeps {teacher.topk.ids.shape[-1]} labels a place, and top_k is {top_k}; raise teacher.top_k, "
            "and cut none of them (teacher.nucleus, teacher.epsilon_cutoff)"
        )
    kept = teacher.topk.log_probs.masked_fill(teacher.topk.ids == blank, -math.inf)
    values, order = kept.topk(top_k, -1)
    return teacher.topk.ids.gather(-1, order), values.log_softmax(-1)
