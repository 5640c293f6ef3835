"""The training loop: one step of every method, on one device or many.

A step is: the rows of the step -> micro-batches -> ``prepare`` (rollouts, corruption) -> count what will be trained,
over all micro-batches and processes -> teacher's signals -> one wrapped forward that gives the loss parts -> each
part's sum divided by its global count -> backward -> clip -> optimiser. So the gradient is the same however the rows
were split.

All randomness of a step is drawn from (seed, step, process), which makes a resumed run the undisturbed one, bit for
bit.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from tqdm.auto import tqdm

from stillroom.engine import sharding, together
from stillroom.engine.ahead import Ahead
from stillroom.engine.batches import plan_batches, share
from stillroom.engine.optimizer import build_optimizer
from stillroom.engine.precision import resolve
from stillroom.engine.saving import Checkpoints
from stillroom.engine.schedule import factor
from stillroom.engine.settings import Train
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.signals import Batch, Reduced, Signals
from stillroom.teachers.base import Teacher
from stillroom.teachers.cached import CachedTeacher
from stillroom.teachers.local import LearningTeacher
from stillroom.views.base import View, make_batch

log = logging.getLogger(__name__)

Evaluate = Callable[[nn.Module], dict[str, float]]


class TrainingStopped(UserError):  # noqa: N818 - named for what happened
    """Training ended early because a number was not finite; the message names the part and the step."""


class Pair(nn.Module):
    """Student, objective and a teacher that learns as one module: what is wrapped for several processes, in step.

    What a teacher emits that does not learn comes from outside.
    """

    def __init__(
        self, student: nn.Module, objective: Objective, view: View, teacher: LearningTeacher | None = None
    ) -> None:
        super().__init__()
        self.student, self.objective, self.view, self.teacher = student, objective, view, teacher

    def forward(self, batch: Batch, teacher: Signals | None, step: Step) -> dict[str, Reduced]:
        """The loss parts of one micro-batch, as sums and counts."""
        needs = self.objective.needs.student
        signals = self.view.emit(self.student, batch.student, needs)
        if self.teacher is not None:
            teacher = self.teacher(batch, self.objective.needs.asked)
        signals.others = [self.view.emit(self.student, arguments, needs) for arguments in batch.others]
        return self.objective.parts(signals, teacher, batch, step)


@dataclass
class Trained:
    """What came of a run.

    steps: optimiser steps done. seconds: of training, over all resumed parts. tokens: trained ones. best: the step
    whose weights the student now has, and the value that chose it (None without validation). history: as in
    metrics.jsonl.
    """

    steps: int
    seconds: float
    tokens: int
    best: tuple[int, float] | None
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Trains one student with one objective.

    Args:
        student: trained in place.
        objective: already set up (its projectors exist).
        view: how the student reads rows.
        emitting: the same view, as it gives the signals that are trained on (perhaps without whole logits); None for
            ``view`` itself.
        teacher: None for methods without one; a `LearningTeacher` is trained too.
        teacher_view: where the teacher reads rows differently.
        rows: encoded rows (``stillroom.engine.encoding``).
        validation: encoded rows for the validation loss; may be empty.
        settings: the recipe's ``train``.
        folder: of the run; checkpoints and metrics.jsonl go there.
        fingerprint: of the recipe; a checkpoint of another one is refused.
        evaluate: further measurements on the student at each evaluation.
        primary: the evaluation metric that chooses the best checkpoint, and whether more of it is better.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        objective: Objective,
        view: View,
        teacher: Teacher | None,
        teacher_view: View | None,
        rows: Any,
        validation: Any,
        settings: Train,
        folder: Path,
        fingerprint: str,
        evaluate: Evaluate | None = None,
        primary: tuple[str, bool] = ("loss", False),
        emitting: View | None = None,
    ) -> None:
        self.settings, self.folder = settings, folder
        learning = teacher if isinstance(teacher, LearningTeacher) else None
        self.teacher = None if learning is not None else teacher
        self.teacher_view, self.view, self.objective = teacher_view, view, objective
        self.rows, self.validation, self.evaluate, self.primary = rows, validation, evaluate, primary
        self.precision = resolve(settings.precision, settings.device)
        AcceleratorState._reset_state()  # it keeps the precision of this process's last run, and refuses another
        trackers = [name for name in settings.trackers if name != "none"]
        self.accelerator = Accelerator(
            mixed_precision=self.precision,
            log_with=trackers or None,
            project_dir=str(folder),
            cpu=settings.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.plan = plan_batches(rows, settings, fill=objective.across_rows)
        self.total = settings.steps or math.ceil(settings.epochs * self.plan.steps_per_epoch)
        self.ahead = Ahead(self.plan.rows, self._read, self.total)
        self.whole = Pair(student, objective, emitting or view, learning)
        self.sharded = settings.sharded and self.accelerator.num_processes > 1
        self.pair, self.optimizer = self._shared_out() if self.sharded else self._copied()
        self.objective.ask = self._ask
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        self.best: tuple[int, float] | None = None
        self.checkpoints = Checkpoints(
            folder,
            fingerprint=fingerprint,
            rows=self.plan.fingerprint,
            accelerator=self.accelerator,
            pair=self.pair,
            optimizer=self.optimizer,
        )
        if trackers:
            self.accelerator.init_trackers("stillroom")

    def _copied(self) -> tuple[Any, Any]:
        """Student and objective whole on every process."""
        return self.accelerator.prepare(self.whole, self._optimizer(self.whole))

    def _shared_out(self) -> tuple[Any, Any]:
        """A part of student and objective on every process; those that were given wait in main memory for the end."""
        vars(self.objective).pop("ask", None)  # whoever answers is not copied along
        pair = sharding.shard(copy.deepcopy(self.whole), self.accelerator.device)
        self.whole.to("cpu")
        self.objective = pair.objective
        return pair, self.accelerator.prepare(self._optimizer(pair))

    def _optimizer(self, pair: Pair) -> torch.optim.Optimizer:
        rates = {f"objective.{name}": rate for name, rate in self.objective.rates.items()}
        return build_optimizer(pair, self.settings, rates)

    # --- one step -----------------------------------------------------------------------------------------------------

    def batches(self, number: int) -> list[Batch]:
        """This process's micro-batches of a step, on its device."""
        return [batch.to(self.accelerator.device) for batch in self.ahead.take(number)]

    def _read(self, places: list[int]) -> list[Batch]:
        """This process's part of some rows as micro-batches, with what a store keeps of them; a thread does this."""
        accelerator, asked = self.accelerator, self.objective.needs.asked
        kept = isinstance(self.teacher, CachedTeacher) and type(self.objective).prepare is Objective.prepare
        parts = share(
            places,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            micro_batch=self.settings.micro_batch or self.settings.batch_size,
        )
        batches = [make_batch(self.view, self.teacher_view, read(self.rows, part)) for part in parts]
        if kept and asked:
            batches = [replace(batch, emitted=self._ask(batch)) for batch in batches]
        return batches

    def train_step(self) -> dict[str, float] | None:
        """One optimiser step; gives each part's mean, or None where the step had no rows."""
        step = Step(self.step, self.total, self.settings.seed)
        seed_all(self.settings.seed, self.step, self.accelerator.process_index)
        self.pair.train()
        with torch.no_grad():
            student = self._student()
            batches = [self.objective.prepare(batch, step, student, self.view) for batch in self.batches(self.step)]
        if not batches:
            return None
        counts = self._global_counts(batches)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with self._meeting(last):
                parts = self._forward(batch, step)
                loss = self._loss(parts, counts, single=len(batches) == 1)
                for name, part in parts.items():
                    value = part.sum.detach().double()
                    sums[name] = sums[name] + value if name in sums else value
                if loss.requires_grad:
                    self.accelerator.backward(loss)
        losses = self._update(sums, counts)
        self.objective.after_step(step, losses)
        return losses

    def _student(self) -> nn.Module:
        """The student as a method may call it by itself, such as to generate with it: whole on every process."""
        if self.sharded and type(self.objective).prepare is not Objective.prepare:
            self.whole.to(self.accelerator.device)
            sharding.bring_together(self.pair.student, self.whole.student)
        student: nn.Module = self.accelerator.unwrap_model(self.whole if self.sharded else self.pair).student
        return student

    def _meeting(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients of a step's micro-batches meet those of other processes with the last one."""
        if not self.sharded:
            return nullcontext() if last else self.accelerator.no_sync(self.pair)
        self.pair.set_requires_gradient_sync(last)
        return nullcontext()

    def _forward(self, batch: Batch, step: Step) -> dict[str, Reduced]:
        asked = self._asked(batch)
        with self.accelerator.autocast() if self.sharded else nullcontext():
            return self.pair(batch, asked, step)

    def _asked(self, batch: Batch) -> Signals | None:
        """The teacher's signals on a batch, unless the method has asked for them already."""
        if batch.emitted is not None or self.teacher is None or not self.objective.needs.asked:
            return batch.emitted
        return self._ask(batch)

    def _ask(self, batch: Batch) -> Signals:
        """The teacher's signals on any batch."""
        assert self.teacher is not None
        return self.teacher(batch, self.objective.needs.asked)

    def _global_counts(self, batches: list[Batch]) -> dict[str, Tensor]:
        """Trained tokens, rows and batches of the whole step, over micro-batches and processes."""
        own = [batch.counts() for batch in batches]
        return {unit: self._sum_over_processes(sum(count[unit] for count in own)) for unit in own[0]}

    def _sum_over_processes(self, value: Any) -> Tensor:
        return self.accelerator.reduce(value, "sum") if self.accelerator.num_processes > 1 else value

    def _loss(self, parts: dict[str, Reduced], counts: dict[str, Tensor], *, single: bool) -> Tensor:
        """Each part's sum over its global count, weighted; times the processes, because DDP averages over them."""
        total = torch.zeros((), device=self.accelerator.device)
        for name, part in parts.items():
            unit = self.objective.units.get(name, "token")
            if unit == "own":
                if not single:
                    raise UserError(
                        f"the count of the part {name!r} is known only after the forward pass, so it can't be "
                        "accumulated: "
                        "set train.micro_batch to train.batch_size"
                    )
                counts[name] = self._sum_over_processes(part.count)
            count = counts[name if unit == "own" else unit]
            total = total + self.objective.weights.get(name, 1.0) * part.sum / count.clamp(min=1)
        return total * self.accelerator.num_processes

    def _update(self, sums: dict[str, Tensor], counts: dict[str, Tensor]) -> dict[str, float]:
        """Clip and step, unless a number is not finite; gives each part's mean."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * (1.0 if group["constant"] else self._factor())
        norm = self.accelerator.clip_grad_norm_(self.pair.parameters(), self.settings.clip or math.inf)
        losses, tokens, self.grad_norm = self._numbers(sums, counts, norm)
        self._stop_if_not_finite(losses)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.tokens += tokens
        return losses

    def _numbers(
        self, sums: dict[str, Tensor], counts: dict[str, Tensor], norm: Tensor | None
    ) -> tuple[dict[str, float], int, float]:
        """Each part's mean, the trained tokens and the gradient's norm: all that a step reads from the device, once."""
        numbers = []
        for name, value in sums.items():
            unit = self.objective.units.get(name, "token")
            count = counts[name if unit == "own" else unit]
            numbers.append(self._sum_over_processes(value) / count.clamp(min=1))
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        numbers += [counts["token"], torch.zeros(()) if norm is None else norm]
        device = self.accelerator.device
        *means, tokens, length = torch.stack([number.detach().double().to(device) for number in numbers]).tolist()
        return dict(zip(sums, means, strict=True)), int(tokens), length

    def _stop_if_not_finite(self, losses: dict[str, float]) -> None:
        """Stop before a NaN reaches the weights; all processes know the same numbers, so all of them stop."""
        kept = "the weights are still those of the step before: lower train.learning_rate"
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            rows = [self.rows[place]["student"]["id"] for place in self.plan.rows(self.step)[:3]]
            raise TrainingStopped(
                f"the part {bad[0]!r} of the loss is not finite at step {self.step}; {kept}, or look at the step's "
                f"rows {rows}..."
            )
        if not math.isfinite(self.grad_norm) and self.precision != "fp16":
            model = self.accelerator.unwrap_model(self.pair)
            names = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            raise TrainingStopped(
                f"the gradient of {names[0] if names else 'the model'} is not finite at step {self.step}, though every "
                f"part of the loss is; {kept}"
            )

    def _factor(self) -> float:
        return factor(self.step, self.total, warmup=self.settings.warmup, shape=self.settings.schedule)

    # --- the run ------------------------------------------------------------------------------------------------------

    @torch.enable_grad()
    def run(self, *, resume: bool = False) -> Trained:
        """Train to the end, from the start or from the newest checkpoint; with gradients, whatever the caller set.

        Raises:
            UserError: there are checkpoints and ``resume`` is false; or they are of another recipe.
            TrainingStopped: a loss or gradient was not finite.
        """
        self._begin(resume)
        settings, began, before = self.settings, time.monotonic(), self.seconds
        bar = tqdm(total=self.total, initial=self.step, unit="step", disable=None, dynamic_ncols=True, leave=False)
        while self.step < self.total:
            together.begin(f"training, step {self.step}")
            started = time.monotonic()
            losses = self.train_step()
            self.step += 1
            self.seconds = before + time.monotonic() - began
            done = self.step == self.total
            if losses is not None and (self.step % settings.log_every == 0 or done or self.step == 1):
                self._log(losses, time.monotonic() - started)
            bar.update()
            if self._due(settings.evaluate_every):
                together.begin(f"the evaluation after step {self.step}")
                self._evaluate()
            if self._due(settings.save_every):
                together.begin(f"the checkpoint of step {self.step}")
                self._save()
        bar.close()
        self._take_best()
        if self.sharded:
            self._give_back()
        self.whole.objective.finish(self.whole.student)
        if settings.trackers:
            self.accelerator.end_training()
        history = (
            [json.loads(line) for line in self._metrics.read_text().splitlines()] if self._metrics.exists() else []
        )
        return Trained(self.step, self.seconds, self.tokens, self.best, history)

    def _due(self, every: int | None) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        every = max(self.total // 10, 1) if every is None else every
        return bool(every) and (self.step % every == 0 or self.step == self.total)

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def _begin(self, resume: bool) -> None:
        state, main = self.checkpoints.load(resume=resume), self.accelerator.is_main_process
        if state is None:
            if main:
                self._metrics.unlink(missing_ok=True)
            return
        self.step, self.seconds, self.tokens = state["step"], state["seconds"], state["tokens"]
        self.best = tuple(state["best"]) if state["best"] else None
        if main and self._metrics.exists():
            lines = [line for line in self._metrics.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            self._metrics.write_text("".join(line + "\n" for line in kept))
        log.info("resumed at step %d of %d", self.step, self.total)

    def _save(self) -> None:
        best = list(self.best) if self.best else None
        progress = {"seconds": self.seconds, "tokens": self.tokens, "best": best}
        self.checkpoints.save(self.step, progress, keep=self.settings.keep)

    def _take_best(self) -> None:
        """Give the student the weights of the best evaluation; without evaluations it keeps its last."""
        if self.best is not None and self.best[0] != self.step:
            self.checkpoints.load_best()

    def _give_back(self) -> None:
        """What was trained in parts, to the student and the objective that were handed in, on the first process."""
        state = self.checkpoints.weights()
        if self.accelerator.is_main_process:
            self.whole.load_state_dict(state)

    # --- measuring ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Each part's mean over the validation rows, and ``loss``, their weighted sum."""
        model, student = self.accelerator.unwrap_model(self.pair).eval(), self._student()
        step = Step(self.step, self.total, self.settings.seed)
        sums: dict[str, list[float]] = {}
        size, end = self.settings.micro_batch or self.settings.batch_size, len(self.validation)
        if self.objective.across_rows and end > size:  # such a loss is another one on a smaller batch
            end -= end % size
        for start in range(0, end, size):
            places = list(range(start, min(start + size, end)))
            batch = make_batch(self.view, self.teacher_view, read(self.validation, places)).to(self.accelerator.device)
            seed_all(self.settings.seed, start, 0)
            batch = self.objective.prepare(batch, step, student, self.view)
            for name, part in model(batch, self._asked(batch), step).items():
                total = sums.setdefault(name, [0.0, 0.0])
                total[0] += float(part.sum)
                total[1] += float(part.count)
        means = {name: total / max(count, 1) for name, (total, count) in sums.items()}
        return means | {"loss": sum(self.objective.weights.get(name, 1.0) * value for name, value in means.items())}

    def _evaluate(self) -> None:
        metrics = self.validate() if len(self.validation) else {}
        student = self.accelerator.unwrap_model(self.pair).student
        if self.evaluate is not None:
            metrics |= self.evaluate(student)
        if not metrics:
            return
        self._write({"step": self.step, "evaluation": metrics})
        name, more_is_better = self.primary if self.primary[0] in metrics else ("loss", False)
        value = metrics[name]
        better = self.best is None or (value > self.best[1] if more_is_better else value < self.best[1])
        if better and math.isfinite(value) and self.objective.eligible(Step(self.step, self.total)):
            self.best = (self.step, value)
            self.checkpoints.save_best(self.step)
        log.info("step %d: %s", self.step, ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))

    def _log(self, losses: dict[str, float], seconds: float) -> None:
        total = sum(self.objective.weights.get(name, 1.0) * value for name, value in losses.items())
        line = {
            "step": self.step,
            "total": total,
            "parts": losses,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "grad_norm": self.grad_norm,
            "rows_per_second": self.settings.batch_size / max(seconds, 1e-9),
            "log": self.objective.log(),
        }
        self._write(line)
        self.accelerator.log({"loss": total, **losses, **line["log"]}, step=self.step)
        log.info("step %d of %d: loss %.4g", self.step, self.total, total)

    def _write(self, line: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with self._metrics.open("a") as file:
                file.write(json.dumps(line) + "\n")


def read(rows: Any, places: list[int]) -> list[dict[str, Any]]:
    """Some rows of a data set, by place, as dictionaries."""
    columns = rows[places]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def seed_all(seed: int, step: int, process: int) -> None:
    """Make all randomness that follows a function of (seed, step, process)."""
    mixed = random.Random(f"{seed}/{step}/{process}").getrandbits(32)
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def micro_batches(rows: Any, size: int) -> Iterator[list[dict[str, Any]]]:
    """All rows in order, ``size`` at a time."""
    for start in range(0, len(rows), size):
        yield read(rows, list(range(start, min(start + size, len(rows)))))
