"""The path of a diffusion: from a picture to noise and back, whatever a network was trained to predict.

x_t = a_t x_0 + s_t eps, with a_t^2 + s_t^2 = 1 (variance preserving) and lambda_t = ln(a_t / s_t), which falls as t
grows. A network predicts eps, x_0 or v = a_t eps - s_t x_0 (Salimans and Ho, 2022); each is a linear function of the
others given x_t. Timesteps are whole numbers from 0, the cleanest, to T - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from stillroom.views.base import digest

Prediction = Literal["epsilon", "sample", "v_prediction"]
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "sample", "v_prediction")


class Path(nn.Module):
    """The schedule of a diffusion.

    Args:
        kept: [T], a_t^2 for each timestep (``alphas_cumprod`` of a diffusers scheduler), falling, each in (0, 1).
    """

    signal: Tensor
    noise: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        kept = kept.double()
        if kept.dim() != 1 or bool((kept <= 0).any()) or bool((kept >= 1).any()) or bool((kept.diff() >= 0).any()):
            raise ValueError(
                "a schedule keeps less and less of the picture, timestep by timestep: [T] falling in (0, 1)"
            )
        self.register_buffer("signal", kept.sqrt(), persistent=False)
        self.register_buffer("noise", (1 - kept).sqrt(), persistent=False)

    def __len__(self) -> int:
        return len(self.signal)

    def like(self, other: Path) -> bool:
        """Whether another schedule adds the same noise at each timestep."""
        return len(self) == len(other) and torch.allclose(self.signal, other.signal.to(self.signal.device))

    def at(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t of timesteps [B], shaped to multiply ``like`` [B, ...]."""
        shape = (-1, *[1] * (like.dim() - 1))
        return self.signal[t].to(like).reshape(shape), self.noise[t].to(like).reshape(shape)

    def noised(self, clean: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t of pictures [B, ...] and noise of the same shape."""
        a, s = self.at(t, clean)
        return a * clean + s * eps

    def clean(self, predicted: Tensor, x: Tensor, t: Tensor, kind: Prediction) -> Tensor:
        """The estimate of x_0 that a prediction at x_t stands for."""
        a, s = self.at(t, x)
        if kind == "sample":
            return predicted
        return (x - s * predicted) / a if kind == "epsilon" else a * x - s * predicted

    def eps(self, clean: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The noise that is in x_t if ``clean`` is the picture."""
        a, s = self.at(t, x)
        return (x - a * clean) / s

    def step(self, clean: Tensor, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """DDIM from t to r < t without new noise (Song et al., 2021): x_r = a_r x_0 + s_r eps."""
        return self.noised(clean, self.eps(clean, x, t), r)

    def gain(self, t: Tensor, r: Tensor, like: Tensor) -> Tensor:
        """How far the clean part moves towards an estimate of it on DDIM's step from t to r < t.

        k = 1 - exp(lambda_t - lambda_r), in (0, 1).
        """
        (a, s), (a_r, s_r) = self.at(t, like), self.at(r, like)
        return 1 - (a * s_r) / (s * a_r)

    def weight(self, t: Tensor, like: Tensor, kind: Prediction) -> Tensor:
        """What a squared error of the clean estimate is multiplied by, to be that of the prediction of this kind."""
        a, s = self.at(t, like)
        if kind == "sample":
            return torch.ones_like(a)
        return (a / s) ** 2 if kind == "epsilon" else s**-2


def drawn(ids: Sequence[str], *, seed: int, step: int, shape: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Noise [B, *shape] and a number in [0, 1) [B] for each row, that belong to the row, the step and the seed alone.

    So a loss does not depend on how a batch was divided among micro-batches and processes.
    """
    noise, level = [], []
    for name in ids:
        generator = torch.Generator().manual_seed(int(digest(name, seed, step), 16) % 2**63)
        noise.append(torch.randn(*shape, generator=generator))
        level.append(torch.rand((), generator=generator))
    return torch.stack(noise).to(like), torch.stack(level).to(like)


Estimate = Callable[[Tensor, Tensor], Tensor]
"""x_t [B, ...] and timesteps [B] -> the estimate of the picture."""


@torch.no_grad()
def ddim(estimate: Estimate, path: Path, noise: Tensor, steps: int) -> Tensor:
    """Pictures made of noise in so many calls, without new noise on the way (eta 0).

    Args:
        estimate: a denoiser.
        path: its schedule.
        noise: [B, ...], what the pictures start from.
        steps: calls, spread evenly from the last timestep down; the last one's estimate is the picture.

    Raises:
        ValueError: steps is not between 1 and the number of timesteps.
    """
    if not 1 <= steps <= len(path):
        raise ValueError(f"there are {len(path)} timesteps, and {steps} steps were asked for")
    places = [round((len(path) - 1) * (steps - number) / steps) for number in range(steps)]
    x, clean = noise, noise
    for number, place in enumerate(places):
        t = torch.full((len(noise),), place, device=noise.device)
        clean = estimate(x, t)
        if number + 1 < steps:
            x = path.step(clean, x, t, torch.full_like(t, places[number + 1]))
    return clean
