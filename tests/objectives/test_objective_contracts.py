"""What every loss promises: masked entries do no harm, an empty mask is an exact 0, half precision becomes float32.

Run: pytest tests/objectives/test_objective_contracts.py
"""

from itertools import pairwise

import pytest
import torch
from tests.objectives.cases import ACROSS_ROWS, CASES

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def fresh(inputs):
    return {key: value.detach().clone().requires_grad_() for key, value in inputs.items()}


@by_name
def test_the_gradient_is_that_of_the_value(case):
    inputs = fresh({key: value for key, value in case.inputs.items() if key not in case.constant})
    constant = {key: case.inputs[key] for key in case.constant}
    keys = list(inputs)
    assert torch.autograd.gradcheck(
        lambda *values: case(dict(zip(keys, values, strict=True)) | constant).sum, [*inputs.values()]
    )


@by_name
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_what_is_outside_the_mask_changes_neither_value_nor_gradient(case, poison):
    clean = fresh(case.inputs)
    bad = fresh({key: value.masked_fill(case.outside[key], poison) for key, value in case.inputs.items()})
    losses = [case(inputs) for inputs in (clean, bad)]
    for loss in losses:
        loss.sum.backward()
    assert losses[0].sum == losses[1].sum != 0
    assert losses[0].count == losses[1].count > 0
    for key in clean:
        if clean[key].grad is None:  # ranking by the teacher's order alone gives it no gradient
            assert bad[key].grad is None
            continue
        assert torch.equal(clean[key].grad, bad[key].grad)
        assert not bad[key].grad[case.outside[key]].any()


@by_name
def test_an_empty_mask_gives_an_exact_zero_that_can_be_differentiated(case):
    inputs = fresh({key: torch.full_like(value, float("nan")) for key, value in case.inputs.items()})
    loss = case(inputs, {key: torch.zeros_like(mask) for key, mask in case.masks.items()})
    assert loss.sum == 0 and loss.count == 0 and loss.mean == 0
    loss.mean.backward()
    student = inputs[next(iter(inputs))]
    assert student.grad is not None
    for value in inputs.values():
        assert value.grad is None or not value.grad.any()


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in ACROSS_ROWS], ids=lambda case: case.name)
def test_cutting_the_batch_changes_nothing(case):
    whole, size = case(), len(case.masks["mask"])
    for cuts in ([*range(size + 1)], [0, 1, size]):
        parts = [case(rows=slice(start, stop)) for start, stop in pairwise(cuts)]
        torch.testing.assert_close(sum(part.sum for part in parts), whole.sum)
        assert sum(int(part.count) for part in parts) == int(whole.count)


@by_name
@pytest.mark.parametrize("student", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("teacher", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_is_worked_on_in_float32(case, student, teacher):
    kinds = dict.fromkeys(case.inputs, teacher)
    kinds[next(iter(kinds))] = student
    rounded = {key: value.to(kinds[key]) for key, value in case.inputs.items()}
    loss, exact = case(rounded), case({key: value.double() for key, value in rounded.items()})
    assert loss.sum.dtype == torch.float32
    assert loss.count == exact.count
    torch.testing.assert_close(loss.sum.double(), exact.sum, rtol=2e-5, atol=2e-5)


@by_name
def test_autocast_does_not_round_the_loss(case):
    inputs = {key: value.float() for key, value in case.inputs.items()}
    with torch.autocast("cpu", torch.bfloat16):
        loss = case(inputs).sum
    torch.testing.assert_close(loss, case(inputs).sum, rtol=1e-6, atol=1e-6)


@by_name
def test_a_mask_of_another_shape_is_refused(case):
    with pytest.raises(ValueError, match="must agree"):
        case(case.inputs, case.masks | {"mask": torch.ones(case.masks["mask"].shape[0] + 1, 9, dtype=torch.bool)})
