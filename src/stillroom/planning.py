"""The plan before the run: from configuration, tokenizer and rows alone, without loading or training anything.

It says what would be trained on (how many tokens, which share of them), whether teacher and student can be compared,
where the memory goes, what a cache would weigh; and it refuses, in one sentence, what can't work.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from stillroom.checks import agree, build_methods, check_group, check_labels
from stillroom.engine.encoding import Counts, encode
from stillroom.errors import UserError
from stillroom.footprint import logits_memory, memory, pass_of, with_answer
from stillroom.labelling import of_distributions
from stillroom.measuring import SUITES, check_suites
from stillroom.method import Objective
from stillroom.recipe import Model, Recipe, Static
from stillroom.rows import Rows, foresee
from stillroom.sizes import Size, config_of, config_size, cut_size, static_size
from stillroom.store.codec import CODECS
from stillroom.students.open import NO_TEACHER, new_config, texts_of, train_tokenizer
from stillroom.synthesis.recipe_steps import Made
from stillroom.views.base import LibraryView, View
from stillroom.views.causal_lm import CausalLM
from stillroom.views.encoder import TextClassifier
from stillroom.views.graph import NodeView
from stillroom.views.image import ImageClassifier
from stillroom.views.load import open_view, view_class
from stillroom.views.locate import locate
from stillroom.views.sentence import SentenceEncoder
from stillroom.views.static import StaticEncoder

SAMPLED_ROWS = 1000


@dataclass
class Sample:
    """Up to 1,000 rows of each source, as the student reads them.

    counts: what became of them. longest: the tokens of the longest row that is left. embeddings, scores: how many
    vectors and scores a teacher would give for them. rows: encoded.
    """

    counts: Counts
    longest: int
    rows: list[dict[str, Any]]
    embeddings: int
    scores: int


@dataclass
class Questions:
    """What a source's next step that asks would cost.

    number: of questions. answered: those that earlier runs kept the answers of. tokens_in: of the prompts, about.
    tokens_out: of the answers, at most. money: at most; None without a price.
    """

    step: str
    number: int
    answered: int
    tokens_in: int
    tokens_out: int
    money: float | None


@dataclass
class Plan:
    """What a run would be.

    Attributes:
        tokenizers: one sentence on what teacher and student share, where it matters.
        counts: of a sample of up to 1,000 rows a source, read as the student will read them.
        rows: in all, before any is dropped.
        steps: optimiser steps a method.
        tokens: that one method would read, padding not counted.
        flops: floating-point operations of one method, about: 6 a student parameter and token, 2 a
            teacher's (6 where it is trained too).
        memory: term -> bytes, for the main method.
        cache_bytes: of the teacher's signals on disk, where they are cached.
        warnings: what works but is likely not meant.
        questions: that steps of synthesis would still ask; until they are answered nothing is known of rows and costs.
        saved: bytes of logits that are never made, since the loss is computed from hidden states in chunks.
    """

    tokenizers: str | None
    counts: Counts
    rows: int
    steps: int
    tokens: int
    flops: float
    memory: dict[str, int]
    cache_bytes: int | None
    warnings: list[str] = field(default_factory=list)
    questions: list[Questions] = field(default_factory=list)
    saved: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        state = asdict(self)
        state["counts"]["trained_share"] = self.counts.trained_share
        return state | {"memory_total": sum(self.memory.values())}


def plan(recipe: Recipe, *, processes: int = 1) -> Plan:
    """Look a recipe over.

    Args:
        recipe: to be run.
        processes: that it is launched as; the memory is that of one of them.

    Raises:
        UserError: it can't work; the message says why and what to do.
    """
    check_suites(recipe.evaluate, recipe.task, SUITES)
    objectives = build_methods(recipe)
    main = objectives[recipe.method.called]
    outlook, warnings = foresee(recipe), list[str]()
    questions = [_questions(made) for made in outlook.made if made.open]
    rows = outlook.rows
    if rows is None:
        return _plan_without_rows(recipe, questions)
    teachers = {name: _view(model, recipe) for name, model in recipe.teachers.items()}
    if len(teachers) > 1:
        check_group(teachers)
    view = _student_view(recipe, teachers.get("teacher"), rows, warnings)
    tokenizers = agree(teachers.values(), view, objectives)
    config = _student_config(recipe, view)
    if isinstance(view, TextClassifier | NodeView) or type(view) is ImageClassifier:
        classes = (
            config_size(config, recipe.student.kind or recipe.task).classes
            if isinstance(view, NodeView)
            else config.num_labels
        )
        check_labels([source for source in rows.train if "label" in source.column_names], classes)
    sample = _sampled(rows, view)
    student = _student_size(recipe, config)
    asked = recipe.teachers if main.needs.teacher else {}
    configs = {name: config_of(model.model, model.revision, model.kind or recipe.task) for name, model in asked.items()}
    teacher_sizes = [config_size(configs[name], model.kind or recipe.task) for name, model in asked.items()]
    as_trained = sample.rows if main.writes is None else [with_answer(row, main.writes) for row in sample.rows]
    row = max(as_trained, key=lambda row: row["length"])
    run = partial(pass_of, row=row, recipe=recipe, processes=processes)
    own = run(
        view, _made_smaller(recipe, config), recipe.student.kind or recipe.task, needs=main.needs.student, learns=True
    )
    passes = [
        run(teachers[name], configs[name], model.kind or recipe.task, needs=main.needs.asked, learns=False)
        for name, model in asked.items()
    ]
    total = sum(len(source) for source in rows.train)
    steps = recipe.train.steps or math.ceil(recipe.train.epochs * -(-total // recipe.train.batch_size))
    tokens = int(sample.counts.tokens / sample.counts.rows * recipe.train.batch_size * steps)
    _warn(recipe, sample, warnings)
    return Plan(
        tokenizers=tokenizers,
        counts=sample.counts,
        rows=total,
        steps=steps,
        tokens=tokens,
        flops=6.0 * student.worked * tokens
        + sum((6.0 if main.trains_teacher else 2.0) * size.worked * tokens for size in teacher_sizes),
        memory=memory(
            recipe,
            main,
            student,
            teacher_sizes,
            row["length"],
            own=own,
            asked=[one for one in passes if one is not None],
            processes=processes,
        ),
        cache_bytes=_cache_bytes(recipe, main, teacher_sizes, sample, rows, view),
        saved=logits_memory(recipe, main, student, teacher_sizes, row["length"], processes)[1],
        warnings=warnings,
    )


def _questions(made: Made) -> Questions:
    last = made.accounts[-1]
    return Questions(last.stage, made.open, last.remembered, *made.open_tokens, made.open_money)


def _plan_without_rows(recipe: Recipe, questions: list[Questions]) -> Plan:
    """All that can be said before the rows are made."""
    said = (
        "what is trained on is known once the questions are answered; `stillroom label` asks them without training"
        if questions
        else "the steps of synthesis keep no row of the answers that there are"
    )
    return Plan(None, Counts(), 0, recipe.train.steps, 0, 0.0, {}, None, [said], questions)


# --- what reads the rows ----------------------------------------------------------------------------------------------


def _view(model: Model, recipe: Recipe) -> View:
    if model.model is None:
        raise UserError("a teacher must be a saved model; give its folder or hub id")
    length = model.max_length or recipe.student.max_length
    options = model.options | ({"max_length": length} if length else {})
    return open_view(model.model, model.kind or recipe.task, revision=model.revision, **options)


def _student_view(recipe: Recipe, teacher: View | None, rows: Rows, warnings: list[str]) -> View:
    """How the student will read rows; a vocabulary that is still to be made is stood in for."""
    student = recipe.student
    options = student.options | ({"max_length": student.max_length} if student.max_length else {})
    kind = view_class(student.kind or recipe.task)
    if student.model is not None:
        return _view(student, recipe)
    if student.static is not None:
        return _static_view(student.static, kind, teacher, options, warnings)
    if issubclass(kind, ImageClassifier | LibraryView):
        return kind(**options)
    if student.new is not None and student.new.tokenizer is not None:
        return kind.read(locate(student.new.tokenizer, weights=False), **options)
    if student.new is not None:
        warnings.append(
            "the student's tokenizer is trained in the run; this plan reads rows with one trained on a sample"
        )
        texts = (text for source in rows.train for text in texts_of(_first(source)))
        return kind(train_tokenizer(texts, student.new.vocabulary, student.kind or recipe.task), **options)  # type: ignore[call-arg]
    assert student.cut is not None
    if student.cut.vocabulary is not None:
        warnings.append("the student's vocabulary is cut in the run; this plan reads rows with the whole one")
    if student.cut.of != "teacher":
        return kind.read(locate(student.cut.of, weights=False), **options)
    if teacher is None:
        raise UserError(NO_TEACHER.format(key="student.cut.of"))
    return teacher


def _static_view(
    static: Static, kind: type[View], teacher: View | None, options: dict[str, Any], warnings: list[str]
) -> View:
    """How a static student reads rows: with the tokens of the model that it is made of."""
    if kind is not SentenceEncoder:
        raise UserError("student.static is for models of the kind 'embeddings'; set the task to embeddings")
    if static.vocabulary is not None:
        warnings.append("the student's vocabulary is cut in the run; this plan reads rows with the whole one")
    if static.of != "teacher":
        teacher = kind.read(locate(static.of, weights=False))
    if teacher is None:
        raise UserError(NO_TEACHER.format(key="student.static.of"))
    return StaticEncoder(teacher.tokenizer, **options)


def _first(source: Any) -> Any:
    return source.select(range(min(len(source), SAMPLED_ROWS)))


def _sampled(rows: Rows, view: View) -> Sample:
    parts = [encode(_first(source), view) for source in rows.train]
    encoded = [row for part, _ in parts for row in part["student"]]
    return Sample(
        counts=sum((counts for _, counts in parts), Counts()),
        longest=max(max(part["length"]) for part, _ in parts),
        rows=encoded,
        embeddings=len({name for row in encoded for name in row.get("ids") or [row["id"]]}),
        scores=sum(len(row.get("candidates") or [0]) for row in encoded),
    )


def _warn(recipe: Recipe, sample: Sample, warnings: list[str]) -> None:
    counts = sample.counts
    if counts.trained_share < 0.05:
        warnings.append(
            f"only {counts.trained_share:.1%} of all tokens are trained; is the answer in the right column?"
        )
    if counts.shortened:
        warnings.append(
            f"{counts.shortened} of {counts.rows} rows are longer than student.max_length and are shortened "
            f"(longest kept: {sample.longest} tokens)"
        )
    for reason, number in counts.dropped.items():
        warnings.append(f"{number} of {counts.rows + number} rows are dropped: {reason}")
    if recipe.folder.is_dir():
        warnings.append(f"{recipe.folder} is there already; a new run needs another name, or --resume")


# --- what it costs ----------------------------------------------------------------------------------------------------


def _student_config(recipe: Recipe, view: View) -> Any:
    """The student's configuration; of one that is made of another model, that model's."""
    student, kind = recipe.student, recipe.student.kind or recipe.task
    if student.new is not None and isinstance(view, LibraryView):
        return view.config(student.new.architecture, student.new.config)
    if student.new is not None:
        return new_config(student.new, getattr(view, "tokenizer", None))
    made_of = student.cut or student.static
    if made_of is not None and made_of.of == "teacher":
        assert recipe.teacher is not None
        return config_of(recipe.teacher.model, recipe.teacher.revision, kind)
    return config_of(student.model if made_of is None else made_of.of, student.revision, kind)


def _made_smaller(recipe: Recipe, config: Any) -> Any:
    """The configuration of a student that is cut out of a model: fewer layers, a smaller vocabulary."""
    cut = recipe.student.cut
    if cut is None:
        return config
    config = copy.deepcopy(config)
    if cut.layers is not None:
        config.num_hidden_layers = len(cut.layers)
    if cut.vocabulary is not None:
        config.vocab_size = min(cut.vocabulary, config.vocab_size)
    return config


def _student_size(recipe: Recipe, config: Any) -> Size:
    kind, cut = recipe.student.kind or recipe.task, recipe.student.cut
    if recipe.student.static is not None:
        return static_size(recipe.student.static, config_size(config, kind))
    return config_size(config, kind) if cut is None else cut_size(config, kind, cut)


def _cache_bytes(
    recipe: Recipe, objective: Objective, teachers: list[Size], sample: Sample, rows: Rows, view: View
) -> int | None:
    """What the teacher's signals on all rows, the held-out ones too, weigh on disk."""
    if recipe.teacher is None or not recipe.teacher.cache or not teachers:
        return None
    (teacher,), counts = teachers, sample.counts
    everything = sum(len(source) for source in rows.train) + (len(rows.validation) if rows.validation else 0)
    size = 0.0
    for need in objective.needs.teacher:
        if need == "logits":
            tokens = isinstance(view, CausalLM)
            width = teacher.vocabulary if tokens else teacher.classes
            signal = of_distributions(recipe.teacher, width, tokens=tokens)
            size += CODECS[signal.codec].bytes_per_position(signal) * (counts.trained if tokens else counts.rows)
        elif need == "embedding":
            size += 2 * teacher.width * sample.embeddings
        elif need.startswith("tower:"):
            size += 2 * teacher.shared_width * counts.rows
        elif need in ("scale", "bias"):
            size += 4 * counts.rows
        elif need == "scores":
            size += 4 * sample.scores
    return int(size * everything / (counts.rows + sum(counts.dropped.values())))
