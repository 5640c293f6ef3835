"""A map of knowledge distillation: kinds of knowledge, schemes, techniques, students, applications.

**Paper**: Gou, Yu, Maybank and Tao 2021, "Knowledge Distillation: A Survey" (International Journal of Computer Vision
129, arXiv 2006.05525).

**Idea**: Every method of distillation answers the same few questions: what of the teacher is copied, who is trained
when, by what further means, into what kind of student, and for what. The answers are the base taxonomy of the
catalogue.

**Objective**: the plainest form of each kind of knowledge, of teacher t and student s,

    response  T^2 KL(softmax(t / T) || softmax(s / T)) of logits
    feature   mean |r(f_s) - f_t|^2 of features f, r a projection where widths differ; of attention maps
              |Q_s / |Q_s| - Q_t / |Q_t||^2 with Q = sum over channels of A_c^2
    relation  between examples: of distances |x_i - x_j| / mean by smooth L1, of angles likewise, of cosines
              |G_s - G_t|^2 / n^2 with rows of G = Q Q^T brought to length 1
              between layers: the mean squared difference of G = F_1^T F_2 / (h w)

**Kept and changed**: The survey's axis "distillation algorithm" is called ``technique`` here, because the survey of
distillation of language models means something else by algorithm. It got a value ``plain`` for methods that use none of
the techniques, and each axis ``none`` for what it does not apply to: a third of the catalogue has no teacher. The
survey calls a student that is its own teacher self-distillation when deeper layers teach shallower ones or earlier
epochs later ones; here a moving average of the student's weights, a frozen earlier copy and the same model with a
longer prompt count too. The axis of applications is shared with the survey of methods for language models.

**Use it when**: you look for a system by what it does, as in ``stillroom methods --where knowledge=relation``, or for
the reference implementation of a kind of knowledge to build upon. The ground compares the kinds on one task.
"""

from __future__ import annotations

from stillroom.taxonomy import NOTHING, Axis, Value

__all__ = ["general_axes"]

KNOWLEDGE = Axis(
    "knowledge",
    "What of the teacher is copied?",
    (
        Value(
            "response",
            "What the teacher says: logits, class probabilities, scores, or its answers as text. The student is asked "
            "the same, and its answer compared, usually by a divergence of softened distributions.",
            "stillroom.objectives.divergence_loss",
        ),
        Value(
            "feature",
            "What the teacher computes on the way: hidden states, attention maps, patch or sentence vectors. They are "
            "compared layer by layer, through a projection where widths differ.",
            "stillroom.objectives.mse",
        ),
        Value(
            "relation",
            "How examples, tokens or layers lie towards one another: distances, angles, similarity matrices, flows "
            "between layers. The two spaces may have any widths.",
            "stillroom.objectives.distance_relation",
        ),
        Value(NOTHING, "Nothing of a teacher is copied."),
    ),
)

SCHEME = Axis(
    "scheme",
    "Who is trained when?",
    (
        Value(
            "offline",
            "The teacher is trained before and stays as it is. Its signals can be computed once and kept.",
            "stillroom.methods.baselines.ForwardKL",
        ),
        Value(
            "online",
            "Teacher and student are trained together, and may teach each other, so that no large model has to exist "
            "before.",
            "stillroom.blocks.mutual.mutual_divergence",
        ),
        Value(
            "self",
            "The student is its own teacher: by a moving average of its weights, an earlier copy, deeper layers, or a "
            "prompt that only the teacher sees.",
            "stillroom.blocks.ema.EMA",
        ),
        Value(NOTHING, "There is no teacher."),
    ),
)

TECHNIQUE = Axis(
    "technique",
    "By what further means?",
    (
        Value(
            "adversarial",
            "A discriminator tells student from teacher, or the data are sought on which the student does worst.",
        ),
        Value("multi-teacher", "Several teachers are averaged, weighted, chosen or made to agree."),
        Value(
            "cross-modal",
            "What was learnt on one kind of input is handed to a model of another: from text to images, from images "
            "to point clouds, from text to speech.",
        ),
        Value("graph-based", "Knowledge is carried by a graph, or the student does without the graph it came from."),
        Value(
            "attention-based",
            "Attention is what is copied, or what picks what is copied: maps of convolutions, of heads, across "
            "modalities.",
            "stillroom.objectives.attention_map",
        ),
        Value(
            "data-free",
            "The teacher's own data are not needed: inputs are generated, or gathered elsewhere and chosen by the "
            "teacher.",
        ),
        Value("quantised", "The student computes with few bits and learns from the full-precision model."),
        Value("lifelong", "Tasks come one after another, and the model before teaches the next not to forget."),
        Value("searched", "The student's architecture is found by search."),
        Value("plain", "None of these: one teacher, the same kind of input, the data at hand."),
        Value(NOTHING, "Nothing is distilled."),
    ),
)

ARCHITECTURE = Axis(
    "architecture",
    "What is the student beside the teacher?",
    (
        Value("simplified", "The teacher's kind with fewer layers, heads, channels or weights."),
        Value("quantised", "The teacher with fewer bits a weight."),
        Value("same", "The same structure: what changes is what it knows."),
        Value(
            "efficient", "A different structure that is cheaper: two towers for one, a graph-free net, long filters."
        ),
        Value("searched", "A structure found by search."),
        Value("assistant", "A model of middle size stands between, where the gap is wide."),
        Value(NOTHING, "No student is made."),
    ),
)

APPLICATION = Axis(
    "application",
    "What is it for?",
    (
        Value("visual-recognition", "Images, clips and scenes: classes, boxes, masks, features."),
        Value("nlp", "Text."),
        Value("speech", "Speech."),
        Value("other", "Recommendation, graphs, tables, security."),
    ),
)


def general_axes() -> tuple[Axis, ...]:
    """The axes of this survey: ``knowledge``, ``scheme``, ``technique``, ``architecture``, ``application``."""
    return (KNOWLEDGE, SCHEME, TECHNIQUE, ARCHITECTURE, APPLICATION)
