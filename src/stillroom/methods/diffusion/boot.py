"""BOOT: a student that makes in one step the picture that its teacher's path from the same noise ends in, without data.

**Paper.** Gu, Zhai, Zhang, Liu, Susskind: *BOOT: Data-free Distillation of Denoising Diffusion Models with
Bootstrapping* (2023), arXiv 2306.05544. There is no official code.

**Idea.** A sampler's path from noise eps is x_t = a_t y_t + s_t eps, so what changes on it is the clean part y_t. The
student learns y(eps, t) for every t by bootstrapping: its value a little nearer to the picture is its value here, moved
by what the teacher says. All of its inputs are noise, so no picture is needed.

**Objective.** With lambda_t = ln(a_t / s_t) and the teacher's estimate f(x, t) of the picture, the clean part follows
dy/dt = lambda'_t (f(x_t, t) - y_t). DDIM solves it from t to r = max(t - delta, t_min) as y_r = y_t + k (f(x_t, t) -
y_t), where k = 1 - exp(lambda_t - lambda_r) lies in (0, 1). So, with sg stopping the gradient and x_t = a_t y(eps, t) +
s_t eps::

    L_BS = E min(1 / k^2, 10^4) || y(eps, r) - sg( y(eps, t) + k (f(x_t, t) - y(eps, t)) ) ||^2
    L_BC = E || y(eps, T) - f(eps, T) ||^2

and the loss is L_BS + beta L_BC. Squares are means over a picture's numbers; eps [C, height, width] and t, uniform on
the timesteps from delta on, are drawn for each row; T is the last timestep. One call, y(eps, t_min), makes a picture.

**Kept and changed.** Both losses, the same noise in input and target, one timestep drawn on the whole range throughout,
and the averaged weights that are exported are the paper's. delta is given as a share of all timesteps and rounded to
whole ones; the paper's weights w_t vary and are 1 here. ``heun`` averages the teacher's two estimates inside the exact
exponential step, so it is DDIM where they agree; the paper averages slopes. A teacher with guidance is one whose view
has it (``teacher.options.guidance``); its weight is fixed and not an input of the student. The student starts as the
teacher where the recipe says so (``student: {model: ...}`` naming the same folder).

**Use it when** a diffusion model is to make a picture in one call, you have its weights and not its data, and some
loss of detail and variety is fine. Where several steps are affordable, a few DDIM steps of the teacher are the measure
to beat.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from stillroom.blocks.diffusion import Path, drawn
from stillroom.blocks.ema import EMA
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.features import mse
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.diffusion import Denoiser

__all__ = ["BOOT"]


class BOOT(Objective):
    """Bootstrapped one-step distillation.

    Args:
        delta: from t to the next point of the path, as a share of all timesteps; in (0, 1).
        boundary: beta, the weight of the boundary condition, >= 0.
        heun: ask the teacher at the end of the step too, and take the mean of both answers.
        scaled: divide by k^2, so that a small step weighs as much as a large one; False weighs all the same.
        weight_limit: the most that 1 / k^2 may be, > 0.
        average: momentum of the averaged weights, which are those of the student in the end; in [0, 1).
    """

    kind: ClassVar[str] = "denoiser"
    needs = Needs(student=("clean",), teacher=("clean",))
    units: ClassVar[dict[str, Unit]] = {"bootstrap": "row", "boundary": "row"}
    needs_prepare: ClassVar[bool] = True
    live_teacher: bool = True

    def __init__(
        self,
        *,
        delta: float = 1 / 64,
        boundary: float = 1.0,
        heun: bool = False,
        scaled: bool = True,
        weight_limit: float = 1e4,
        average: float = 0.9999,
    ) -> None:
        super().__init__()
        if not 0 < delta < 1:
            raise ValueError(f"delta is a share of all timesteps in (0, 1); it is {delta}")
        if boundary < 0 or weight_limit <= 0 or not 0 <= average < 1:
            raise ValueError("boundary is at least 0, weight_limit above 0, average in [0, 1)")
        self.delta, self.heun, self.scaled, self.weight_limit = delta, heun, scaled, weight_limit
        self.average, self.weights = average, {"boundary": boundary}
        self.path = Path(torch.linspace(0.99, 0.01, 2))
        self.slow: EMA | None = None
        self._student: tuple[nn.Module, ...] = ()

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Take over the schedule, and begin the average of the weights.

        Raises:
            UserError: the student is no denoiser, or does not predict pictures.
        """
        if not isinstance(view, Denoiser):
            raise UserError("BOOT distils denoisers; set task: denoiser")
        if view.prediction != "sample":
            raise UserError(
                f"BOOT's student says what the picture is from noise alone, this one predicts {view.prediction!r}; "
                "give its schedule prediction_type: sample"
            )
        self.path, self._student = view.path, (student,)
        self.slow = EMA(student, self.average)

    @property
    def stride(self) -> int:
        """Delta in whole timesteps."""
        return max(round(self.delta * len(self.path)), 1)

    @torch.no_grad()
    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Draw noise and timesteps, walk to where the student is now, and ask the teacher there and at the start."""
        shape = [*batch.student["sample"].shape[1:]]
        eps, level = drawn(batch.ids, seed=step.seed, step=step.number, shape=shape, like=batch.student["sample"])
        last, stride = len(self.path) - 1, self.stride
        t = stride + (level * (last + 1 - stride)).long()
        r = t - stride
        own = {name: value for name, value in batch.student.items() if name not in ("sample", "timestep")}
        here = view.emit(student, own | {"sample": eps, "timestep": t}, ("clean",)).clean
        assert here is not None
        ends = torch.full_like(t, last)
        reached = self._at(batch, own, self.path.noised(here, eps, t), t)
        k = self.path.gain(t, r, eps)
        if self.heun:
            onward = here + k * (reached - here)
            reached = (reached + self._at(batch, own, self.path.noised(onward, eps, r), r)) / 2
        columns = {"target": here + k * (reached - here), "gain": k.flatten(), "start": self._at(batch, own, eps, ends)}
        twice = {name: torch.cat([value, value]) for name, value in own.items()}
        arguments = twice | {"sample": torch.cat([eps, eps]), "timestep": torch.cat([r, ends])}
        return replace(batch, student=arguments, columns=batch.columns | columns, emitted=Signals())

    def _at(self, batch: Batch, own: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        """The teacher's estimate of the picture at x_t."""
        assert self.ask is not None
        clean = self.ask(replace(batch, teacher=own | {"sample": x, "timestep": t})).clean
        assert clean is not None
        return clean

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``bootstrap`` and ``boundary``, means of squares over each row's numbers."""
        assert student.clean is not None
        moved, start = (half.flatten(1) for half in student.clean.chunk(2))
        gain = batch.columns["gain"].unsqueeze(1)
        root = (1 / gain).clamp(max=self.weight_limit**0.5) if self.scaled else torch.ones_like(gain)
        return {
            "bootstrap": mse(root * moved, root * batch.columns["target"].flatten(1), batch.mask),
            "boundary": mse(start, batch.columns["start"].flatten(1), batch.mask),
        }

    def after_step(self, step: Step, losses: dict[str, float]) -> None:
        """Move the average."""
        assert self.slow is not None
        self.slow.update(self._student[0])

    def finish(self, student: nn.Module) -> None:
        """The student gets the averaged weights."""
        assert self.slow is not None
        student.load_state_dict(self.slow.copy.state_dict())
