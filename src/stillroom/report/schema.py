"""What the files of a run folder hold: ``run.json``, ``evaluation.json`` and the lines of ``metrics.jsonl``.

Only what the report prints is named here; further fields are let through and ignored. A `Name` is whatever stands for
something in a table, a chart or a sentence: one line, and never longer than fits there, whoever wrote the file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, model_validator

from stillroom.report.text import shorten

Name = Annotated[str, AfterValidator(lambda text: shorten(text, 100))]
Unit = Annotated[str, AfterValidator(lambda text: shorten(text, 12))]


class Metric(BaseModel):
    """What a metric is called and which way is better."""

    title: Name
    higher_is_better: bool = True
    unit: Unit = ""


class Cost(BaseModel):
    """What a system costs: seconds of training, rows a second, milliseconds a row (median, 95th percentile), bytes."""

    train_seconds: float | None = None
    throughput: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    peak_bytes: int | None = None


class System(BaseModel):
    """One measured model. ``without_teacher`` marks the student that was trained on the data alone."""

    name: Name
    role: Literal["teacher", "trained-teacher", "student", "start", "baseline"]
    parameters: int | None = None
    disk_bytes: int | None = None
    metrics: dict[Name, float | None] = {}
    cost: Cost = Cost()
    without_teacher: bool = False


class Measure(BaseModel):
    """A figure with its interval, where one was computed. In the file a bare number will do."""

    value: float | None
    low: float | None = None
    high: float | None = None
    title: Name = ""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {"value": data}


class Bin(BaseModel):
    """Predictions of like confidence: how sure they were, how often they were right, how many they are."""

    confidence: float
    accuracy: float
    count: int


class Calibration(BaseModel):
    """How far a system's confidence can be believed; ``error`` is the expected calibration error."""

    system: Name
    error: float | None = None
    bins: list[Bin] = []


class Disagreement(BaseModel):
    """An input on which student and teacher part."""

    input: str
    teacher: str
    student: str
    disagreement: float


class Evaluation(BaseModel):
    """``evaluation.json``. ``primary`` is the metric that the report leads with; empty if nothing could be measured."""

    primary: Name
    metrics: dict[Name, Metric]
    systems: list[System]
    agreement: dict[Name, Measure] = {}
    calibration: list[Calibration] = []
    worst: list[Disagreement] = []

    @model_validator(mode="after")
    def _primary_is_known(self) -> Evaluation:
        if self.primary and self.primary not in self.metrics:
            raise ValueError(f"the primary metric {self.primary!r} is not among the metrics")
        return self

    @property
    def leading(self) -> Metric:
        """What the primary metric is; one without a title where there was nothing to measure."""
        return self.metrics.get(self.primary) or Metric(title="")

    def role(self, role: str) -> System | None:
        """The first system in that role."""
        return next((system for system in self.systems if system.role == role), None)

    def value(self, system: System | None) -> float | None:
        """The primary metric of a system."""
        return None if system is None else system.metrics.get(self.primary)


class Counts(BaseModel):
    """What the run was fed. ``trained_share``, in [0, 1], is the part of the tokens that counted in the loss."""

    rows: int | None = None
    shortened: int | None = None
    tokens: int | None = None
    trained_share: float | None = None
    dropped: dict[Name, int] = {}


class Made(BaseModel):
    """A step of synthesis: what came in, what it added and kept, why it dropped the rest, and what it spent."""

    stage: Name
    rows: int = 0
    added: int = 0
    kept: int = 0
    rejected: dict[Name, int] = {}
    noted: dict[Name, int] = {}
    asked: int = 0
    remembered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    note: str = ""

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why rows were dropped and what else was noted, the most frequent first."""
        return sorted([*self.rejected.items(), *self.noted.items()], key=lambda item: -item[1])


class About(BaseModel):
    """``run.json``. ``synthesis`` has the steps that made the rows, one list for each source that was made."""

    name: Name
    method: Name = ""
    family: Name = ""
    teacher: Name | None = None
    student: Name | None = None
    command: str = ""
    started: Name = ""
    seconds: float | None = None
    seed: int | None = None
    license: Name | None = None
    versions: dict[Name, Name] = {}
    counts: Counts = Counts()
    synthesis: list[list[Made]] = []


class Line(BaseModel):
    """One line of ``metrics.jsonl``: a logged step or an evaluation."""

    step: int
    total: float | None = None
    parts: dict[Name, float | None] = {}
    log: dict[Name, float | None] = {}
    evaluation: dict[Name, float | None] = {}
