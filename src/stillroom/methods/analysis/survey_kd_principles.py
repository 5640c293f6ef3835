"""Why soft labels teach: dark knowledge, temperature, and what decides whether a student can match its teacher.

**Paper**: Gholami and Omar 2023, "Can a student Large Language Model perform as well as it's teacher?" (arXiv
2310.02421).

**Idea**: A teacher's probabilities of the wrong classes say what is like what, which labels do not. A temperature
brings them out; how much of them a student can take up depends on a few things that can be named, and swept.

**Objective**: of logits t of the teacher and s of the student over C classes, labels y, a weight a in [0, 1],

    L = (1 - a) CE(y, s) + a T^2 KL(softmax(t / T) || softmax(s / T)),   T usually 1 to 20, a 0.1 to 0.9.

Three facts about T, which `temperature_limits` checks in float64 on any pair of logits:

    T to infinity   the gradient of the second term goes to ((s - mean s) - (t - mean t)) / C, which is that of
                    |t - s|^2 / (2 C) for logits of mean 0: logits are matched
    T to 0          the gradient over T goes to onehot(argmax s) - onehot(argmax t): only the first place matters
    T^2             without it the gradient shrinks by 4 where a large T doubles; with it, it keeps its size

**Kept and changed**: The paper has no experiments; the determinants it names became an axis that only systems answer
which act on one of them. Kinds of knowledge and schemes are those of the survey of 2021, which the paper repeats, and
stand there. The sweep takes any way of training: it leaves T^2 in, and trains once where the weight is 0 and T means
nothing, so that what is swept is the temperature and not the weight of the loss.

**Use it when**: you distil by logits and must choose T and a: sweep them on validation rows. Also to look for a system
that deals with a wide gap between teacher and student: ``stillroom methods --where determinant=capacity-gap``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillroom.taxonomy import Axis, Value

if TYPE_CHECKING:  # the command line reads the axes, and should not wait for torch
    from torch import Tensor

    from stillroom.signals import Reduced

__all__ = [  # noqa: RUF022 - the first name is the method
    "principle_axes",
    "Sweep",
    "TemperatureLimits",
    "softened_loss",
    "sweep",
    "temperature_limits",
]

DETERMINANT = Axis(
    "determinant",
    "Which of the things that decide success does it act on?",
    (
        Value(
            "capacity-gap", "The gap between a large teacher and a small student: assistants, moving targets, mixes."
        ),
        Value("teacher-quality", "A teacher that is wrong, or too sure of itself: weights, filters, smoothing."),
        Value("data", "How many data there are, which ones, and whether they are like those of the task."),
        Value("balance", "The weights of the losses and the temperature, when they are set by the method itself."),
        Value("training-length", "How long is trained, and in which order."),
        Value("initialisation", "What the student starts from: the teacher's layers, or a training of its own."),
    ),
    base=False,
)


def principle_axes() -> tuple[Axis, ...]:
    """The axis of this survey: ``determinant``."""
    return (DETERMINANT,)


def softened_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, mask: Tensor, *, temperature: float = 4.0, weight: float = 0.9
) -> Reduced:
    """(1 - a) CE + a T^2 KL, summed over the rows of the mask.

    Args:
        student: logits [B, C] or [B, T, C].
        teacher: logits of the same shape; not detached here.
        labels: [B] or [B, T].
        mask: as the labels.
        temperature: T, > 0; it divides both models' logits.
        weight: a, in [0, 1].

    Raises:
        ValueError: a weight outside [0, 1], or a temperature that is not positive.
    """
    from stillroom.objectives import cross_entropy, divergence_loss
    from stillroom.signals import Reduced

    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of the teacher lies in [0, 1]; it is {weight}")
    hard = cross_entropy(student, labels, mask)
    soft = divergence_loss(student, teacher, mask, temperature=temperature, scale_by_t2=True)
    return Reduced((1 - weight) * hard.sum + weight * soft.sum, hard.count)


@dataclass(frozen=True)
class TemperatureLimits:
    """How far a pair of logits is from the limits, at the temperatures asked for; all go to 0.

    Attributes:
        logit_matching: |gradient - gradient of |t - s|^2 / 2 C of centred logits|, over the size of the latter, at the
            high temperature.
        first_place: |gradient / T - (onehot(argmax s) - onehot(argmax t))|, at the low temperature.
        with_square: |1 - |g(2 T)| / |g(T)|| at the high temperature, g the gradient with T^2.
        without_square: |4 - |g(T)| / |g(2 T)|| at the high temperature, g the gradient without it.
    """

    logit_matching: float
    first_place: float
    with_square: float
    without_square: float


def temperature_limits(student: Tensor, teacher: Tensor, *, high: float = 1e4, low: float = 1e-3) -> TemperatureLimits:
    """The three facts about temperature, measured on the gradient of T^2 KL(teacher || student) in float64.

    Args:
        student: logits [B, C], without ties for the first place.
        teacher: logits [B, C], likewise.
        high: a temperature far above the logits.
        low: one far below their differences, > 0.

    Raises:
        ValueError: the logits are equal, so that there is no gradient, or low is not below high.
    """
    import torch
    from torch.nn import functional as F

    if not 0 < low < high:
        raise ValueError(f"the low temperature lies between 0 and the high one; they are {low} and {high}")
    ours, theirs = student.detach().double(), teacher.detach().double()
    matching = ((ours - ours.mean(-1, keepdim=True)) - (theirs - theirs.mean(-1, keepdim=True))) / ours.shape[-1]
    if not bool(matching.abs().max() > 1e-12 * ours.abs().max().clamp(min=1)):
        raise ValueError("the two models' logits differ by a constant only: there is no gradient to look at")
    first = F.one_hot(ours.argmax(-1), ours.shape[-1]) - F.one_hot(theirs.argmax(-1), theirs.shape[-1])
    at_high, beyond = _gradient(ours, theirs, high), _gradient(ours, theirs, 2 * high)
    sizes = (at_high.norm(), beyond.norm())
    return TemperatureLimits(
        logit_matching=float((at_high - matching).norm() / matching.norm()),
        first_place=float((_gradient(ours, theirs, low) / low - first.to(torch.float64)).norm()),
        with_square=abs(1 - float(sizes[1] / sizes[0])),
        without_square=abs(4 - float(sizes[0] / high**2 / (sizes[1] / (2 * high) ** 2))),
    )


def _gradient(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Of T^2 KL(teacher || student), row by row, with respect to the student's logits."""
    import torch

    from stillroom.objectives import divergence_loss

    logits = student.clone().requires_grad_()
    mask = torch.ones(logits.shape[:-1], dtype=torch.bool)
    divergence_loss(logits, teacher, mask, temperature=temperature, scale_by_t2=True).sum.backward()
    assert logits.grad is not None
    return logits.grad


@dataclass(frozen=True)
class Sweep:
    """What a student reached under each temperature and weight; more is better.

    Attributes:
        values: (temperature, weight) -> what was reached. A weight of 0 stands under every temperature.
        temperatures: in rising order.
        weights: in rising order.
    """

    values: dict[tuple[float, float], float]
    temperatures: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def best(self) -> tuple[float, float]:
        """The temperature and weight that reached most; the lowest of each among equals."""
        return max(self.values, key=lambda key: (self.values[key], -key[0], -key[1]))

    def curve(self, weight: float) -> tuple[float, ...]:
        """The values of one weight, over the temperatures."""
        return tuple(self.values[temperature, weight] for temperature in self.temperatures)

    def interior(self, weight: float) -> bool:
        """Whether a temperature between the lowest and the highest reaches more than both."""
        curve = self.curve(weight)
        return max(curve[1:-1], default=float("-inf")) > max(curve[0], curve[-1])

    def table(self) -> str:
        """The values as text: a row a weight, a column a temperature."""
        head = "weight" + "".join(f"{f'T={temperature:g}':>9}" for temperature in self.temperatures)
        rows = [f"{weight:>6g}" + "".join(f"{value:>9.4f}" for value in self.curve(weight)) for weight in self.weights]
        return "\n".join([head, *rows])


def sweep(
    run: Callable[[float, float], float],
    *,
    temperatures: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0),
    weights: Sequence[float] = (0.0, 0.5, 0.9),
) -> Sweep:
    """Train under every temperature and weight.

    Args:
        run: trains a student, given temperature and weight, and gives what it reached on validation rows; every call
            must start from the same weights and see the same rows.
        temperatures: to try, > 0.
        weights: of the teacher, in [0, 1]; where it is 0, one run stands for all temperatures.

    Raises:
        ValueError: there is nothing to try, or something outside its range.
    """
    heats, shares = sorted(set(temperatures)), sorted(set(weights))
    if not heats or not shares or heats[0] <= 0 or shares[0] < 0 or shares[-1] > 1:
        raise ValueError(f"a sweep needs temperatures > 0 and weights in [0, 1]; they are {heats} and {shares}")
    values: dict[tuple[float, float], float] = {}
    for share in shares:
        for heat in heats:
            repeated = share == 0 and heat != heats[0]
            values[heat, share] = values[heats[0], share] if repeated else run(heat, share)
    return Sweep(values, tuple(heats), tuple(shares))
