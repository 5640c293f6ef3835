"""The ground of the family `diffusion`: its judge, its sampler, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_diffusion.py
"""

import pytest
import torch

from stillroom.blocks.diffusion import Path, ddim
from stillroom.reproduce import reproduce
from stillroom.testbeds import diffusion

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_judge_reads_digits_that_it_was_not_trained_on():
    pictures, classes = diffusion.real("test")
    assert float((diffusion.judge()(pictures).argmax(1) == classes).float().mean()) > 0.95


def test_real_digits_are_nearer_to_real_digits_than_spoilt_ones():
    pictures, classes = diffusion.real("train")
    spoilt = pictures + 0.8 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    clean, dirty = diffusion.quality(pictures, classes), diffusion.quality(spoilt, classes)
    assert clean["frechet"] < dirty["frechet"] / 10 and clean["asked_for"] > dirty["asked_for"]


def test_ddim_ends_in_the_picture_of_a_constant_estimate_and_counts_its_calls():
    path, calls = Path(torch.linspace(0.99, 0.01, 50)), []
    picture = torch.randn(2, 1, 3, 3)

    def estimate(x, t):
        calls.append(int(t[0]))
        return picture

    assert torch.equal(ddim(estimate, path, torch.randn(2, 1, 3, 3), 4), picture)
    assert calls == [49, 37, 24, 12]
    with pytest.raises(ValueError, match="50 timesteps"):
        ddim(estimate, path, picture, 51)


def test_the_bench_runs():
    result = reproduce("boot", seeds=[0], smoke=True)
    names = ["teacher-16-steps", "teacher-4-steps", "teacher-1-step", *diffusion.SYSTEMS]
    assert list(result["systems"]) == names
    assert all(system["values"][0] is not None for system in result["systems"].values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(whole_ground):
    """The teacher draws better in sixteen steps than in one, by more than the noises differ."""
    systems = reproduce("boot")["systems"]
    better, worse = systems["teacher-16-steps"], systems["teacher-1-step"]
    assert worse["mean"] - better["mean"] > 2 * max(worse["std"], better["std"])
