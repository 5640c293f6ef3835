"""The codebook: nearest codes, straight-through gradients, codes that move and codes that nobody uses.

.venv/bin/python -m pytest tests/blocks/test_vector_quantiser.py
"""

import math

import pytest
import torch

from stillroom.blocks.vector_quantiser import VectorQuantiser, code_scores


def quantiser(book, **settings):
    made = VectorQuantiser(len(book), len(book[0]), **settings)
    made.book.copy_(torch.tensor(book))
    return made


BOOK = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]


def test_each_vector_gets_the_code_of_its_direction_or_the_nearest():
    vectors = torch.tensor([[0.2, 0.1], [9.0, 10.0], [-3.0, 1.0]])
    assert quantiser(BOOK).eval()(vectors).places.tolist() == [0, 1, 2]
    near = quantiser([[0.0, 0.0], [10.0, 10.0]], compare="distance").eval()
    assert near(vectors).places.tolist() == [0, 1, 0]
    assert torch.equal(near(vectors).codes, near.book[[0, 1, 0]])


def test_the_gradient_passes_as_if_nothing_was_replaced():
    vectors = torch.tensor([[0.2, 0.1], [3.0, 4.0]], requires_grad=True)
    found = quantiser(BOOK).eval()(vectors).codes
    torch.testing.assert_close(found.detach(), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    (found * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert vectors.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_chosen_code_moves_a_fifth_of_the_way_to_the_normalised_mean_of_its_vectors():
    made = quantiser(BOOK).train()
    made(torch.tensor([[2.0, 0.0], [0.0, 5.0], [4.0, 3.0]]))
    mean = torch.tensor([1.0 + 0.8, 0.0 + 0.6])  # of the first and third, each of length 1
    wanted = 0.8 * torch.tensor([1.0, 0.0]) + 0.2 * mean / mean.norm()
    torch.testing.assert_close(made.book, torch.stack([wanted, torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 0.0])]))
    assert float(made.book[0].norm()) < 1  # as in the authors' code, which normalises for the search alone


def test_by_distance_a_code_moves_towards_the_plain_mean():
    made = quantiser([[0.0, 0.0], [10.0, 10.0]], compare="distance", decay=0.5).train()
    made(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert made.book.tolist() == [[1.0, 0.0], [10.0, 10.0]]


def test_nothing_moves_in_evaluation():
    made = quantiser(BOOK).eval()
    made(torch.tensor([[2.0, 1.0]]))
    assert made.book.tolist() == BOOK and not made.chosen.any()


def test_use_is_reported():
    made = quantiser(BOOK, decay=0.0).train()
    made(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]))
    assert made.perplexity == pytest.approx(2.0) and made.dead == pytest.approx(1 / 3)
    made(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert made.perplexity == pytest.approx(math.exp(entropy), rel=1e-6)


def test_scores_are_cosines_or_minus_distances():
    vectors, book = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert code_scores(vectors, book, "cosine")[0].tolist() == pytest.approx([0.6, 0.8])
    assert code_scores(vectors, book, "distance")[0].tolist() == pytest.approx([-math.sqrt(20), -math.sqrt(13)])
    at = book.clone().requires_grad_()
    code_scores(at, book, "distance").sum().backward()  # where the distance is 0
    assert at.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"codes": 1, "width": 2}, "at least 2 codes"), ({"codes": 2, "width": 2, "decay": 1.0}, r"decay in \[0, 1\)")],
)
def test_a_setting_out_of_range_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        VectorQuantiser(**arguments)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match="width 3"):
        quantiser(BOOK)(torch.ones(1, 3))
    with pytest.raises(ValueError, match="width 3"):
        code_scores(torch.ones(1, 3), torch.ones(2, 2), "cosine")
