"""Plain distillation of sentence encoders: each part by hand, and what is refused.

Run: pytest tests/methods/embeddings/test_embedding_match.py
"""

import math

import pytest
import torch

from stillroom.method import Step
from stillroom.methods.baselines_embeddings import EmbeddingMatch
from stillroom.signals import Batch, Signals

# Two pairs of texts: in the student's eyes both anchors are alike, in the teacher's no two texts are.
STUDENT = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
TEACHER = torch.eye(4)
STEP = Step(0, 1)


def parts(**settings):
    method = EmbeddingMatch(**settings)
    method.project = torch.nn.Identity()
    batch = Batch(
        ids=list("abcd"),
        student={},
        mask=torch.ones(4, dtype=torch.bool),
        columns={"pairs": torch.tensor([[0, 1], [2, 3]])},
    )
    return method.parts(Signals(embedding=STUDENT), Signals(embedding=TEACHER), batch, STEP)


def test_each_part_by_hand():
    found = parts(contrast=1.0, neighbours=1.0, temperature=1.0)
    assert float(found["cosine"].sum) == pytest.approx(0 + 0 + 1 + 1)
    assert float(found["similarity"].sum) == pytest.approx(2 / 16)  # one pair of cosines of 16 is 1 in place of 0
    # Rows 0 and 2: e / (e + 2) for one another and 1 / (e + 2) for the rest, against thirds; the other rows see thirds.
    chances = [math.e / (math.e + 2), 1 / (math.e + 2), 1 / (math.e + 2)]
    assert float(found["neighbours"].sum) == pytest.approx(2 * sum(math.log(1 / 3 / p) / 3 for p in chances))
    # All anchors and positives are at right angles: each finds its own by chance.
    assert float(found["contrast"].sum) == pytest.approx(2 * math.log(2))
    assert [int(found[name].count) for name in ("cosine", "similarity", "neighbours", "contrast")] == [4, 1, 4, 2]


def test_a_part_without_weight_is_left_out():
    assert set(parts()) == {"cosine", "similarity"} and set(parts(similarity=0.0)) == {"cosine"}
    assert EmbeddingMatch(neighbours=2.0).weights["neighbours"] == 2.0


@pytest.mark.parametrize("wrong", [{"similarity": -1}, {"contrast": -1}, {"neighbours": -1}, {"temperature": 0}])
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be >= 0 and temperature > 0"):
        EmbeddingMatch(**wrong)
