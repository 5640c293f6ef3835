"""What methods are measured against: plain training, and the plain form of distillation for each kind of model.

They are objectives like any other, found by name beside the catalogue's slugs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from stillroom.blocks.lora import LowRank, check_rank
from stillroom.method import Objective, Step
from stillroom.methods.baselines_diffusion import Denoise
from stillroom.methods.baselines_embeddings import Contrastive, EmbeddingMatch
from stillroom.methods.baselines_encoders import MaskedTokens
from stillroom.methods.baselines_graphs import LinkLabels, LinkMatch, NodeDistillation, NodeLabels
from stillroom.methods.baselines_multimodal import ClipContrast, SimilarityKL
from stillroom.methods.baselines_retrieval import ListwiseCE, ListwiseKL, RankNet, ScoreMSE
from stillroom.methods.baselines_speech import Transcripts
from stillroom.methods.baselines_vision import Triplets
from stillroom.objectives.divergence import Divergence, forward_kl, jsd, reverse_kl
from stillroom.objectives.logits import cross_entropy_drawn, divergence_loss, divergence_topk
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals

if TYPE_CHECKING:
    from stillroom.views.base import View


class SupervisedTokens(Objective):
    """Plain fine-tuning: the cross-entropy of the data's own tokens. No teacher.

    Args:
        label_smoothing: probability mass spread evenly over the vocabulary, in [0, 1).
    """

    needs = Needs(student=("logits",))
    rowwise: ClassVar[bool] = True

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """The cross-entropy over trained tokens."""
        assert student.logits is not None and batch.labels is not None
        return {"sft": cross_entropy(student.logits, batch.labels, batch.mask, label_smoothing=self.label_smoothing)}


class TeacherTexts(SupervisedTokens):
    """Sequence-level distillation in its plain form: fine-tuning on the answers that the teacher writes.

    Kim and Rush 2016, section 3.2, with the teacher's likeliest text (greedy or sampled as the recipe's teacher says)
    for the mode. The full system, with beams and interpolation, is `seqkd`.
    """

    needs = Needs(student=("logits",), teacher=("text",))


class LowRankTokens(SupervisedTokens):
    """Plain fine-tuning of low-rank adapters alone, merged into the weights at the end (LoRA, Hu et al. 2021).

    Args:
        rank: of the adapters, at least 1.
        alpha: their scale, above 0; what they add is multiplied by alpha over rank.
        dropout: of what goes into them, in [0, 1).
        targets: names of the layers that get one; None is every linear layer but the head.
        label_smoothing: probability mass spread evenly over the vocabulary, in [0, 1).
    """

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        targets: list[str] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing)
        check_rank(rank, alpha, dropout)
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Put adapters beside the student's layers, and hold its own weights."""
        like = next(student.parameters())
        self.adapters = LowRank(student, rank=self.rank, alpha=self.alpha, dropout=self.dropout, targets=self.targets)
        student.to(dtype=like.dtype)

    def finish(self, student: nn.Module) -> None:
        """Merge them."""
        self.adapters.merge()


class TokenDivergence(Objective):
    """Token-level distillation: a divergence between the two next-token distributions, averaged over trained tokens.

    Args:
        divergence: of student and teacher log-probs; see `stillroom.objectives.divergence`.
        temperature: both distributions are softened by it, > 0.
        scale_by_t2: multiply by temperature squared (Hinton et al. 2015, section 2), which keeps gradients comparable
            when a hard loss stands beside it.
        sft: weight of the data's own cross-entropy beside it, >= 0.
    """

    needs = Needs(student=("logits",), teacher=("logits",))
    rowwise: ClassVar[bool] = True
    same_tokenizer: bool = True

    def __init__(
        self, *, divergence: Divergence, temperature: float = 1.0, scale_by_t2: bool = False, sft: float = 0.0
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0; it is {temperature}")
        if sft < 0:
            raise ValueError(f"sft, the weight of the data's own cross-entropy, must be >= 0; it is {sft}")
        self.divergence, self.temperature, self.scale_by_t2 = divergence, temperature, scale_by_t2
        self.takes_draws = divergence is forward_kl
        self.weights = {"kd": 1.0, "sft": sft} if sft else {"kd": 1.0}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``kd``, and ``sft`` where it has a weight."""
        assert student.logits is not None and teacher is not None
        rule = self.divergence
        if teacher.drawn is not None:
            kd = cross_entropy_drawn(student.logits, teacher.drawn, batch.mask, temperature=self.temperature)
        elif teacher.topk is not None:
            kd = divergence_topk(
                student.logits, teacher.topk, batch.mask, divergence=rule, temperature=self.temperature
            )
        else:
            assert teacher.logits is not None
            kd = divergence_loss(
                student.logits, teacher.logits, batch.mask, divergence=rule, temperature=self.temperature
            )
        kd = Reduced(kd.sum * self.temperature**2, kd.count) if self.scale_by_t2 else kd
        if "sft" not in self.weights:
            return {"kd": kd}
        assert batch.labels is not None
        return {"kd": kd, "sft": cross_entropy(student.logits, batch.labels, batch.mask)}


class ForwardKL(TokenDivergence):
    """KL(teacher || student) on every trained token (Hinton et al. 2015, for language models word by word).

    From ids that were drawn (``teacher.sampled``) it is the cross-entropy, which has the same gradient on average.

    Args:
        temperature: both distributions are softened by it, > 0.
        scale_by_t2: multiply by temperature squared.
        sft: weight of the data's own cross-entropy beside it, >= 0.
    """

    def __init__(self, *, temperature: float = 1.0, scale_by_t2: bool = False, sft: float = 0.0) -> None:
        super().__init__(divergence=forward_kl, temperature=temperature, scale_by_t2=scale_by_t2, sft=sft)


class ReverseKL(TokenDivergence):
    """KL(student || teacher) on every trained token.

    Args:
        temperature: both distributions are softened by it, > 0.
        sft: weight of the data's own cross-entropy beside it, >= 0.
    """

    def __init__(self, *, temperature: float = 1.0, sft: float = 0.0) -> None:
        super().__init__(divergence=reverse_kl, temperature=temperature, sft=sft)


class JensenShannon(TokenDivergence):
    """The generalised Jensen-Shannon divergence on every trained token (Agarwal et al. 2024, equation 1).

    Args:
        beta: weight of the teacher in the mixture, in [0, 1]; 0 is forward and 1 reverse KL.
        temperature: both distributions are softened by it, > 0.
        sft: weight of the data's own cross-entropy beside it, >= 0.
    """

    def __init__(self, *, beta: float = 0.5, temperature: float = 1.0, sft: float = 0.0) -> None:
        super().__init__(divergence=jsd(beta), temperature=temperature, sft=sft)


BASELINES: dict[str, type[Objective]] = {
    "sft": SupervisedTokens,
    "lora_sft": LowRankTokens,
    "teacher_texts": TeacherTexts,
    "forward_kl": ForwardKL,
    "reverse_kl": ReverseKL,
    "jsd": JensenShannon,
    "embedding_match": EmbeddingMatch,
    "contrastive": Contrastive,
    "ranknet": RankNet,
    "score_mse": ScoreMSE,
    "listwise_ce": ListwiseCE,
    "listwise_kl": ListwiseKL,
    "mlm": MaskedTokens,
    "triplet": Triplets,
    "denoise": Denoise,
    "ctc": Transcripts,
    "node_labels": NodeLabels,
    "glnn": NodeDistillation,
    "link_bce": LinkLabels,
    "link_match": LinkMatch,
    "clip": ClipContrast,
    "similarity_kl": SimilarityKL,
}
