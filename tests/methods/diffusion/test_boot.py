"""BOOT: its path is DDIM's, its loss is that of the equation, and a perfect student has none.

.venv/bin/python -m pytest tests/methods/diffusion/test_boot.py
"""

import math
from dataclasses import replace

import pytest
import torch

from stillroom.blocks.diffusion import Path
from stillroom.checks import agree
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.diffusion.boot import BOOT
from stillroom.signals import Batch, Signals
from stillroom.views.diffusion import Denoiser

STEPS = 64
SCHEDULE = {"num_train_timesteps": STEPS, "prediction_type": "sample"}


@pytest.fixture
def view():
    return Denoiser(size=4, channels=1, schedule=SCHEDULE)


class Function(torch.nn.Module):
    """A denoiser that is any function of x_t, a_t and s_t; its parameter is a factor of 1."""

    def __init__(self, path, function):
        super().__init__()
        self.path, self.function = path, function
        self.factor = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, sample, timestep, class_labels=None):
        a, s = self.path.at(timestep, sample)
        return type("Out", (), {"sample": self.factor * self.function(sample, a, s)})


def run(view, method, student, teacher, rows=5):
    """The parts of one prepared batch."""
    sample = torch.zeros(rows, 1, 4, 4, dtype=torch.float64)
    plain = {"sample": sample, "timestep": torch.zeros(rows, dtype=torch.long)}
    batch = Batch(ids=[f"row {n}" for n in range(rows)], student=plain, mask=torch.ones(rows, dtype=torch.bool))
    method.setup(student, teacher, batch, view)
    method.ask = lambda asked: view.emit(teacher, asked.teacher, ("clean",))
    made = method.prepare(batch, Step(0, 10), student, view)
    return made, method.parts(view.emit(student, made.student, ("clean",)), Signals(), made, Step(0, 10))


def test_the_clean_part_moves_as_ddim_does():
    """a_r y_r + s_r eps, with y_r by the update, is DDIM's own x_r, computed from its formula."""
    path = Path(torch.linspace(0.99, 0.01, STEPS, dtype=torch.float64))
    y, f, eps = torch.randn(3, 2, 1, 4, 4, dtype=torch.float64)
    t, r = torch.tensor([40, 63]), torch.tensor([30, 5])
    moved = y + path.gain(t, r, y) * (f - y)
    for row in range(2):
        at, ar = (math.sqrt(0.99 - 0.98 * n / (STEPS - 1)) for n in (int(t[row]), int(r[row])))
        st, sr = math.sqrt(1 - at * at), math.sqrt(1 - ar * ar)
        x = at * y[row] + st * eps[row]
        ddim = ar * f[row] + sr * (x - at * f[row]) / st
        torch.testing.assert_close(ar * moved[row] + sr * eps[row], ddim)
        lambdas = math.log(at / st), math.log(ar / sr)
        assert float(path.gain(t, r, y)[row]) == pytest.approx(1 - math.exp(lambdas[0] - lambdas[1]))


def test_the_exact_student_of_a_constant_teacher_has_no_loss(view):
    """If f is one picture c whatever x, the path is y = c everywhere."""
    picture = torch.randn(1, 4, 4, dtype=torch.float64)

    def constant(x, a, s):
        return picture.expand_as(x)

    _, parts = run(view, BOOT(), Function(view.path, constant), Function(view.path, constant))
    assert float(parts["bootstrap"].sum.detach()) < 1e-20 and float(parts["boundary"].sum.detach()) < 1e-20


def test_the_exact_student_of_a_gaussian_teacher_nears_no_loss_as_steps_get_small():
    """For x_0 ~ N(0, v): f(x, t) = a v x / (a^2 v + s^2), and the exact path from noise is known in closed form.

    The probability flow keeps x_t / sqrt(a^2 v + s^2), so x_t = eps sqrt((a_t^2 v + s_t^2) / (a_T^2 v + s_T^2)) and
    y = (x_t - s_t eps) / a_t. What is left of the loss is DDIM's error, which falls with the square of the step.
    """
    v, errors = 0.3, []
    for steps in (64, 512):
        view = Denoiser(
            size=4, channels=1, schedule=SCHEDULE | {"num_train_timesteps": steps, "beta_end": 1.28 / steps}
        )
        end = view.path.signal[-1] ** 2 * v + view.path.noise[-1] ** 2

        def teacher(x, a, s):
            return a * v * x / (a**2 * v + s**2)

        def student(eps, a, s, end=end):
            return (eps * ((a**2 * v + s**2) / end).sqrt() - s * eps) / a

        models = Function(view.path, student), Function(view.path, teacher)
        _, parts = run(view, BOOT(delta=1 / steps, scaled=False), *models)
        errors.append(float(parts["bootstrap"].mean.detach()))
    assert errors[1] < errors[0] / 100


def test_value_and_gradient_are_those_of_the_equation(view):
    """One row by hand; the target carries no gradient, so d loss / d factor is 2 w (y_r - target) y_r."""
    student = Function(view.path, lambda x, a, s: 0.5 * x * a)
    teacher = Function(view.path, lambda x, a, s: torch.tanh(x) * s)
    made, parts = run(view, BOOT(delta=0.25, weight_limit=50.0), student, teacher, rows=1)
    eps, ends = made.student["sample"].chunk(2)[0], made.student["timestep"].tolist()
    r, t = ends[0], ends[0] + 16
    assert ends[1] == STEPS - 1
    a, s = view.path.signal, view.path.noise
    here = 0.5 * eps * a[t]
    k = 1 - (a[t] * s[r]) / (s[t] * a[r])
    f = torch.tanh(a[t] * here + s[t] * eps) * s[t]
    weight = min(float(1 / k**2), 50.0)
    moved, target = 0.5 * eps * a[r], here + k * (f - here)
    assert float(parts["bootstrap"].sum.detach()) == pytest.approx(weight * float(((moved - target) ** 2).mean()))
    start = ((0.5 * eps * a[-1] - torch.tanh(eps) * s[-1]) ** 2).mean()
    assert float(parts["boundary"].sum.detach()) == pytest.approx(float(start))
    (gradient,) = torch.autograd.grad(parts["bootstrap"].sum, student.factor)
    assert float(gradient) == pytest.approx(2 * weight * float(((moved - target) * moved).mean()))


def test_heun_is_the_mean_of_both_answers_and_ddim_where_they_agree(view):
    student = Function(view.path, lambda x, a, s: 0.5 * x * a)
    same = Function(view.path, lambda x, a, s: torch.ones_like(x))
    plain, _ = run(view, BOOT(delta=0.25), student, same)
    both, _ = run(view, BOOT(delta=0.25, heun=True), student, same)
    torch.testing.assert_close(plain.columns["target"], both.columns["target"])
    other = Function(view.path, lambda x, a, s: x * s)
    one, _ = run(view, BOOT(delta=0.25), student, other)
    two, _ = run(view, BOOT(delta=0.25, heun=True), student, other)
    eps, r = one.student["sample"].chunk(2)[0], one.student["timestep"].chunk(2)[0]
    k = one.columns["gain"].reshape(-1, 1, 1, 1)
    (a, s), (at, st) = view.path.at(r, eps), view.path.at(r + 16, eps)
    here = 0.5 * eps * at
    first = (at * here + st * eps) * st
    second = (a * one.columns["target"] + s * eps) * s
    torch.testing.assert_close(two.columns["target"], here + k * ((first + second) / 2 - here))


def test_draws_belong_to_the_row_the_step_and_the_seed(view):
    method = BOOT()
    model = Function(view.path, lambda x, a, s: x)
    made, _ = run(view, method, model, model, rows=4)
    again, _ = run(view, method, model, model, rows=2)
    half = made.student["sample"].chunk(2)[0]
    torch.testing.assert_close(half[:2], again.student["sample"].chunk(2)[0])
    plain = replace(again, student={"sample": torch.zeros(2, 1, 4, 4), "timestep": torch.zeros(2, dtype=torch.long)})
    for step in (Step(1, 10), Step(0, 10, seed=1)):
        other = method.prepare(plain, step, model, view).student["sample"].chunk(2)[0]
        assert not torch.equal(other, half[:2])


def test_the_student_ends_with_the_averaged_weights(view):
    student = Function(view.path, lambda x, a, s: x)
    method = BOOT(average=0.9)
    run(view, method, student, student)
    with torch.no_grad():
        student.factor.fill_(3.0)
    method.after_step(Step(0, 10), {})
    method.finish(student)
    assert float(student.factor.detach()) == pytest.approx(0.9 * 1 + 0.1 * 3)


@pytest.mark.parametrize(
    "settings", [{"delta": 0.0}, {"delta": 1.0}, {"boundary": -1.0}, {"weight_limit": 0.0}, {"average": 1.0}]
)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        BOOT(**settings)


def test_a_student_that_predicts_noise_is_refused():
    other = Denoiser(size=4, channels=1, schedule={"num_train_timesteps": STEPS})
    with pytest.raises(UserError, match="prediction_type: sample"):
        BOOT().setup(torch.nn.Linear(1, 1), None, None, other)


def test_a_teacher_with_another_schedule_is_refused():
    teacher = Denoiser(size=4, channels=1, schedule=SCHEDULE | {"beta_schedule": "squaredcos_cap_v2"})
    student = Denoiser(size=4, channels=1, schedule=SCHEDULE)
    assert agree([Denoiser(size=4, channels=1, schedule=SCHEDULE)], student, {}) is None
    with pytest.raises(UserError, match="another schedule"):
        agree([teacher], student, {})
