"""Every loss with small inputs, of which some lie outside its mask: what the contracts are run on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from stillroom import objectives as ob
from stillroom.signals import Reduced, TopK, masked_sum


@dataclass
class Case:
    """``outside`` says, input by input, which entries the masks leave out; the first input is the student's."""

    name: str
    call: Callable
    inputs: dict
    masks: dict
    outside: dict
    integers: dict = field(default_factory=dict)  # labels and indices, one entry a row like everything else
    constant: tuple = ()  # inputs that are given no gradient by design

    def __call__(self, inputs=None, masks=None, rows=slice(None)):
        given = (self.inputs if inputs is None else inputs) | (self.masks if masks is None else masks) | self.integers
        return self.call(**{key: value[rows] for key, value in given.items()})


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simple(name, call, mask, integers=None, constant=(), **inputs):
    """A case with one mask, over the leading sizes of every input."""
    outside = {
        key: (~mask).reshape(mask.shape + (1,) * (value.dim() - mask.dim())).expand(value.shape)
        for key, value in inputs.items()
    }
    return Case(name, call, inputs, {"mask": mask}, outside, integers or {}, constant)


TOKENS = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
ROWS = torch.tensor([1, 0, 1, 1, 1, 0]).bool()
LISTS = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
LABELS = torch.tensor([[0, 4, -100, 9], [2, -100, 1, -100], [-100, -100, 7, -100]])
KEPT_IDS = torch.tensor([3, 0]).expand(3, 4, 2)
RANKING = torch.tensor([[2, 0, -1], [3, 1, 0], [-1, -1, -1], [1, -1, -1]])

s_tokens, t_tokens = normal(1, 3, 4, 5), normal(2, 3, 4, 5)
s_rows, t_rows, t_wide = normal(3, 6, 4), normal(4, 6, 4), normal(5, 6, 7)
s_lists, t_lists = normal(6, 4, 4), normal(7, 4, 4)
pairs = {"chosen": normal(8, 6), "rejected": normal(9, 6), "kept": normal(10, 6), "lost": normal(11, 6)}


def preference(loss, **options):
    return lambda mask, chosen, rejected, kept, lost: loss(chosen, rejected, kept, lost, mask, **options)


def divergence(name):
    return lambda mask, student, teacher: ob.divergence_loss(
        student, teacher, mask, divergence=ob.named(name), temperature=2.0
    )


DIVERGENCES = (
    "forward_kl",
    "reverse_kl",
    "symmetric_kl",
    "total_variation",
    "soft_cross_entropy",
    "jsd",
    "skew_forward_kl",
    "skew_reverse_kl",
    "alpha_beta",
)

CASES = [
    *(simple(name, divergence(name), TOKENS, student=s_tokens, teacher=t_tokens) for name in DIVERGENCES),
    simple(
        "divergence_topk",
        lambda mask, ids, student, kept, tail: ob.divergence_topk(student, TopK(ids, kept, tail), mask),
        TOKENS,
        {"ids": KEPT_IDS},
        student=s_tokens,
        kept=t_tokens.log_softmax(-1)[..., [3, 0]],
        tail=t_tokens.softmax(-1)[..., [1, 2, 4]].sum(-1),
    ),
    simple(
        "cross_entropy",
        lambda mask, labels, logits: ob.cross_entropy(logits, labels, mask),
        TOKENS,
        {"labels": LABELS},
        logits=s_tokens,
    ),
    simple(
        "smoothed",
        lambda mask, labels, logits: ob.cross_entropy(logits, labels, mask, label_smoothing=0.1),
        TOKENS,
        {"labels": LABELS},
        logits=s_tokens,
    ),
    simple(
        "sequence_log_prob",
        lambda mask, labels, logits: Reduced(ob.sequence_log_prob(logits, labels, mask).sum(), mask.any(-1).sum()),
        TOKENS,
        {"labels": LABELS},
        logits=s_tokens,
    ),
    simple(
        "sorted_l1",
        lambda mask, student, teacher: masked_sum(ob.sorted_l1_rows(student, teacher, mask), mask),
        TOKENS,
        student=s_tokens,
        teacher=torch.cat([t_tokens, s_tokens[..., :2].flip(0)], -1),
    ),
    simple("sequence_mean", lambda mask, values: ob.sequence_mean(values, mask), TOKENS, values=s_tokens[..., 0]),
    *(
        simple(
            loss.__name__,
            lambda mask, student, teacher, loss=loss: loss(student, teacher, mask),
            TOKENS,
            student=s_tokens,
            teacher=t_tokens,
        )
        for loss in (ob.mse, ob.normalised_mse, ob.cosine_distance, ob.smooth_l1)
    ),
    *(
        simple(
            loss.__name__,
            lambda mask, student, teacher, loss=loss: loss(student, teacher, mask),
            ROWS,
            student=s_rows,
            teacher=t_wide,
        )
        for loss in (ob.distance_relation, ob.angle_relation, ob.gram_relation, ob.cka_relation)
    ),
    simple(
        "neighbour_relation",
        lambda mask, student, teacher: ob.neighbour_relation(student, teacher, mask, temperature=0.5),
        ROWS,
        student=s_rows,
        teacher=t_wide,
    ),
    simple(
        "similarity_preserving",
        lambda mask, student, teacher: ob.gram_relation(student, teacher, mask, normalise="rows"),
        ROWS,
        student=s_rows,
        teacher=t_wide,
    ),
    simple(
        "attention_map",
        lambda mask, student, teacher: ob.attention_map(student, teacher, mask),
        ROWS,
        student=normal(18, 6, 2, 3, 3),
        teacher=normal(19, 6, 4, 3, 3),
    ),
    simple(
        "flow",
        lambda mask, first, second, t_first, t_second: ob.flow((first, second), (t_first, t_second), mask),
        ROWS,
        first=normal(20, 6, 2, 3, 3),
        second=normal(21, 6, 3, 3, 3),
        t_first=normal(22, 6, 2, 2, 2),
        t_second=normal(23, 6, 3, 2, 2),
    ),
    simple(
        "attention_relation",
        lambda mask, q, k, tq, tk: ob.attention_relation((q, k), (tq, tk), mask, heads=2),
        TOKENS,
        q=normal(12, 3, 4, 4),
        k=normal(13, 3, 4, 4),
        tq=normal(14, 3, 4, 6),
        tk=normal(15, 3, 4, 6),
    ),
    simple(
        "info_nce",
        lambda mask, anchors, targets: ob.info_nce(anchors, targets, mask, scale=5.0),
        ROWS,
        anchors=s_rows,
        targets=t_rows,
    ),
    simple(
        "two_sided_info_nce",
        lambda mask, first, second: ob.two_sided_info_nce(first, second, mask, scale=5.0, margin=0.1),
        ROWS,
        first=s_rows,
        second=t_rows,
    ),
    simple(
        "sigmoid_pairs",
        lambda mask, anchors, targets: ob.sigmoid_pairs(
            anchors, targets, torch.eye(6).bool(), mask, columns=mask, scale=5.0, bias=-1.0
        ),
        ROWS,
        anchors=s_rows,
        targets=t_rows,
    ),
    Case(
        "info_nce_with_own_negatives",
        lambda anchors, targets, negatives, mask, negative_mask: ob.info_nce(
            anchors, targets, mask, negatives=negatives, negative_mask=negative_mask, normalise=False
        ),
        {"anchors": s_rows, "targets": t_rows, "negatives": normal(16, 6, 2, 4)},
        {"mask": ROWS, "negative_mask": torch.tensor([[1, 0], [1, 1], [1, 1], [0, 0], [0, 1], [0, 1]]).bool()},
        {
            "anchors": (~ROWS)[:, None].expand(6, 4),
            "targets": (~ROWS)[:, None].expand(6, 4),
            "negatives": torch.tensor([[0, 1], [1, 1], [0, 0], [1, 1], [1, 0], [1, 1]])
            .bool()[..., None]
            .expand(6, 2, 4),
        },
    ),
    Case(
        "info_nce_with_a_queue",
        lambda anchors, targets, negatives, mask, negative_mask: ob.info_nce(
            anchors, targets, mask, negatives=negatives, negative_mask=negative_mask
        ),
        {"anchors": s_rows, "targets": t_rows, "negatives": normal(17, 3, 4)},
        {"mask": ROWS, "negative_mask": torch.tensor([1, 0, 1]).bool()},
        {
            "anchors": (~ROWS)[:, None].expand(6, 4),
            "targets": (~ROWS)[:, None].expand(6, 4),
            "negatives": torch.tensor([0, 1, 0]).bool()[:, None].expand(3, 4),
        },
    ),
    *(
        simple(
            loss.__name__,
            lambda mask, student, teacher, loss=loss: loss(student, teacher, mask),
            LISTS,
            student=s_lists,
            teacher=t_lists,
        )
        for loss in (ob.score_mse, ob.margin_mse, ob.listwise_kl, ob.ranknet, ob.rank_hinge)
    ),
    simple(
        "lambda_loss",
        lambda mask, student, gains: ob.lambda_loss(student, gains.abs(), mask),
        LISTS,
        constant=("gains",),
        student=s_lists,
        gains=t_lists,
    ),
    simple(
        "pairwise_logistic",
        lambda mask, better, worse, probability, weight: ob.pairwise_logistic(
            better, worse, mask, probability=probability, weight=weight
        ),
        ROWS,
        better=pairs["chosen"],
        worse=pairs["rejected"],
        probability=pairs["kept"].sigmoid(),
        weight=pairs["lost"],
    ),
    simple(
        "pairwise_hinge",
        lambda mask, better, worse, margin: ob.pairwise_hinge(better, worse, mask, margin=margin),
        ROWS,
        better=pairs["chosen"],
        worse=pairs["rejected"],
        margin=pairs["kept"],
    ),
    simple(
        "triplet",
        lambda mask, labels, vectors: ob.triplet(vectors, labels, mask, margin=2.0),
        ROWS,
        {"labels": torch.tensor([0, 1, 0, 1, 1, 0])},
        vectors=s_rows,
    ),
    simple(
        "pyramid_mse",
        lambda mask, student, teacher: ob.pyramid_mse(student, teacher, mask),
        ROWS,
        student=normal(12, 6, 3, 5, 5),
        teacher=normal(13, 6, 3, 5, 5),
    ),
    simple(
        "channel_kl",
        lambda mask, student, teacher: ob.channel_kl(student, teacher, mask, temperature=2.0),
        ROWS,
        student=normal(12, 6, 3, 5, 5),
        teacher=normal(13, 6, 3, 5, 5),
    ),
    simple(
        "asymmetric",
        lambda mask, targets, logits: ob.asymmetric(logits, targets, mask),
        ROWS,
        {"targets": normal(14, 6, 4) > 0},
        logits=s_rows,
    ),
    simple("dpo", preference(ob.dpo, label_smoothing=0.1), ROWS, **pairs),
    simple("ipo", preference(ob.ipo), ROWS, **pairs),
    simple("preference_hinge", preference(ob.preference_hinge), ROWS, **pairs),
    simple(
        "plackett_luce",
        lambda mask, ranking, scores: ob.plackett_luce(scores, ranking if mask.any() else -1 - 0 * ranking, mask),
        LISTS,
        {"ranking": RANKING},
        scores=s_lists,
    ),
]

# Those that compare the rows of a batch with each other, so that cutting it changes them by design.
ACROSS_ROWS = {
    "distance_relation",
    "angle_relation",
    "gram_relation",
    "neighbour_relation",
    "similarity_preserving",
    "cka_relation",
    "info_nce",
    "info_nce_with_own_negatives",
    "info_nce_with_a_queue",
    "two_sided_info_nce",
    "sigmoid_pairs",
    "triplet",
}
