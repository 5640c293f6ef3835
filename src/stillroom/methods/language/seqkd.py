"""Seq-KD: sequence-level knowledge distillation, by word, by sequence, and by interpolation of the two.

**Paper**: Kim and Rush 2016, "Sequence-Level Knowledge Distillation" (EMNLP 2016).

**Idea**: A teacher's distribution over whole answers has too many of them to learn from, but its mass lies near its
best one. So let the teacher search for its likeliest answer to every prompt, once, and train the student on these: they
are more alike than people's answers, so that a small model can learn them, and greedy decoding then finds them.

**Objective**: with prompt s, the data's answer y, teacher p, student q, and a share a of the word-level loss,

    loss(x) = - (1 - a) sum_t log q(x_t | x_<t, s) - a sum_t sum_v p(v | x_<t, s) log q(v | x_<t, s)

averaged over tokens, on the answers x that the variant names:

    word    x = y, a = 0.5
    seq     x = argmax_x p(x | s), by a beam search (5 beams), a = 0
    inter   x = argmax over the beam (35) of sentence BLEU(x, y), a = 0

With a above 0, ``seq`` and ``inter`` are the paper's combinations with ``word``.

**Kept and changed**: The search goes by summed log-probability, without a bonus for length, since it is the mode that
is sought. Hypotheses that came to no end within ``teacher.max_new_tokens`` are not chosen from, and rows without any
other, or with a prompt that is too long for the teacher, are left out and said. BLEU is sacrebleu's with add-1
smoothing. The paper goes on with ``inter`` from a student that was trained by ``seq``, at a small learning rate: give
that run's model as ``student.model``. ``prune`` is the paper's last step: that share of all weights in matrices, those
of smallest magnitude over the whole model, is 0 from the start and stays 0 while the rest is trained; biases and norms
are left. The paper's models were LSTM encoder-decoders that translate; these are decoders, and a prompt is the source.
Validation is on the data's own answers.

**Use it when**: the student will be decoded greedily, there are prompts, and the teacher runs here. It needs no
teacher while it trains (with a = 0), and works between tokenizers. `teacher_texts` is its plain form, by greedy or
sampled answers, also of an endpoint.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stillroom.errors import UserError
from stillroom.method import Objective, Step, Writing
from stillroom.objectives.divergence import soft_cross_entropy
from stillroom.objectives.logits import cross_entropy_drawn, divergence_loss, divergence_topk
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals

__all__ = ["SeqKD", "smallest"]

BEAMS = {"word": 1, "seq": 5, "inter": 35}


class SeqKD(Objective):
    """Training on the answers that the teacher's beam search finds, on its word distributions, or on both.

    Args:
        variant: whose answers are trained on: ``word``, the data's; ``seq``, the teacher's likeliest; ``inter``, of its
            beam that nearest to the data's.
        word: share of the word-level loss, in [0, 1]; above 0 the teacher must share the tokenizer. None is 0.5 for
            ``word`` and 0 for the others.
        beams: width of the search, >= 1 (``inter`` needs 2); None is 5 for ``seq`` and 35 for ``inter``. With 1 the
            teacher writes as the recipe's teacher says.
        prune: share of the weights that are set to 0 before training, in [0, 1).

    Raises:
        ValueError: a value outside its range, or beams where nothing is searched for.
    """

    rowwise: ClassVar[bool] = True
    reads: tuple[str, ...] = ("completion", "chat")

    def __init__(
        self,
        *,
        variant: Literal["word", "seq", "inter"] = "seq",
        word: float | None = None,
        beams: int | None = None,
        prune: float = 0.0,
    ) -> None:
        super().__init__()
        if variant not in BEAMS:
            raise ValueError(f"variant is one of {', '.join(BEAMS)}, not {variant!r}")
        share = (0.5 if variant == "word" else 0.0) if word is None else word
        if not 0 <= share <= 1 or not 0 <= prune < 1:
            raise ValueError(f"word must be in [0, 1] and prune in [0, 1); they are {share} and {prune}")
        if variant == "word" and (beams is not None or not share):
            raise ValueError(
                "the variant 'word' needs a share of the word-level loss above 0, and searches for nothing"
            )
        width = BEAMS[variant] if beams is None else beams
        if width < (2 if variant == "inter" else 1):
            raise ValueError(f"beams must be at least 1, and 2 for 'inter' to choose from; it is {width}")
        writes = () if variant == "word" else ("text",)
        self.needs = Needs(student=("logits",), teacher=(*writes, *(("logits",) if share else ())))
        self.writing = Writing(beams=width, nearest=variant == "inter")
        self.same_tokenizer = self.takes_draws = share > 0
        self.prune = prune
        self.weights = {name: part for name, part in (("nll", 1 - share), ("word", share)) if part}

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: object) -> None:
        """Prune the student, where that is asked; what was pruned is learnt no more."""
        if not self.prune:
            return
        chosen = smallest(student, self.prune)
        for name, weight in student.named_parameters():
            if name in chosen:
                if not weight.requires_grad:
                    raise UserError(f"{name} is frozen, and can't be pruned while others are trained; set prune=0")
                weight.data.masked_fill_(chosen[name], 0)
                # Adam's steps and weight decay of a weight that is 0 and never had a gradient are 0.
                weight.register_hook(lambda gradient, gone=chosen[name]: gradient.masked_fill(gone, 0))

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``nll`` of the answers' tokens and ``word``, the cross-entropy from the teacher, where they have a share."""
        assert student.logits is not None and batch.labels is not None
        found: dict[str, Reduced] = {}
        if "nll" in self.weights:
            found["nll"] = cross_entropy(student.logits, batch.labels, batch.mask)
        if "word" in self.weights:
            assert teacher is not None
            rule = soft_cross_entropy
            if teacher.drawn is not None:
                found["word"] = cross_entropy_drawn(student.logits, teacher.drawn, batch.mask)
            elif teacher.topk is not None:
                found["word"] = divergence_topk(student.logits, teacher.topk, batch.mask, divergence=rule)
            else:
                assert teacher.logits is not None
                found["word"] = divergence_loss(student.logits, teacher.logits, batch.mask, divergence=rule)
        return found


def smallest(model: nn.Module, share: float) -> dict[str, Tensor]:
    """The weights of smallest magnitude over all matrices of a model together, as one mask a matrix.

    Args:
        model: whose parameters of two and more dimensions are looked at; a shared one once.
        share: of all these weights, in [0, 1); as many are chosen, rounded down.

    Returns:
        Name -> bool mask of the parameter's shape, true where a weight is among the smallest.
    """
    matrices = {name: weight.detach() for name, weight in model.named_parameters() if weight.dim() > 1}
    magnitudes = torch.cat([weight.abs().flatten().float() for weight in matrices.values()])
    chosen = torch.zeros_like(magnitudes, dtype=torch.bool)
    chosen[magnitudes.argsort(stable=True)[: int(share * len(magnitudes))]] = True
    pieces = chosen.split([weight.numel() for weight in matrices.values()])
    return {name: piece.view_as(weight) for (name, weight), piece in zip(matrices.items(), pieces, strict=True)}
