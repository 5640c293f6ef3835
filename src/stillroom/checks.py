"""What must hold before anything is trained: what the methods ask for is there, and models and rows fit together.

Everything here speaks of recipes and views, not of weights, so `plan` refuses just what `distill` would.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stillroom import catalog
from stillroom.errors import UserError, nearest
from stillroom.labelling import CACHEABLE
from stillroom.method import Objective, Writing
from stillroom.recipe import Method, Recipe
from stillroom.views.base import View
from stillroom.views.causal_lm import CausalLM
from stillroom.views.diffusion import Denoiser
from stillroom.views.load import view_class
from stillroom.views.speech import CTC
from stillroom.views.vocabulary import compare

UNTRAINED = "untrained"

# What a kind of model gives beside hidden states and taps.
EMITS = {
    "language": ("logits",),
    "encoder": (),
    "masked-lm": ("logits",),
    "text-classifier": ("logits",),
    "token-classifier": ("logits",),
    "image": ("logits", "embedding"),
    "embeddings": ("embedding",),
    "image-encoder": ("embedding",),
    "denoiser": ("clean",),
    "ctc": ("logits",),
    "node": ("logits", "embedding"),
    "link": ("embedding", "scores"),
    "image-text": ("tower:image", "tower:text", "scale", "bias"),
    "bi-encoder": ("scores", "crossed"),
    "late-interaction": ("scores", "crossed"),
    "segmentation": ("logits",),
    "cross-encoder": ("scores",),
}
ALL_EMITTED = {need for given in EMITS.values() for need in given}


def build_methods(recipe: Recipe) -> dict[str, Objective]:
    """The recipe's method and those it is held against, by name; ``untrained`` is none of them.

    Raises:
        UserError: as `build_method`; or student or teacher can't give what one of them asks for.
    """
    methods = [recipe.method, *(method for method in recipe.against if method.name != UNTRAINED)]
    objectives = {method.called: build_method(method) for method in methods}
    check_options(recipe)
    check_student(recipe, objectives)
    check_teacher(recipe, objectives)
    check_sharding(recipe, objectives)
    return objectives


def build_method(method: Method) -> Objective:
    """The objective of a method's name and parameters.

    Raises:
        UserError: unknown name or parameter, or a value outside its range.
    """
    made = catalog.resolve(method.name)
    if not (inspect.isclass(made) and issubclass(made, Objective)):
        raise UserError(f"{method.name!r} is not trained with; `stillroom show {method.name}` says how it is used")
    signature = inspect.signature(made.__init__, eval_str=True).parameters
    known = {name: kind for name, kind in signature.items() if name != "self"}
    if unknown := [name for name in method.parameters if name not in known]:
        raise UserError(
            f"the method {method.name!r} has no parameter {unknown[0]!r}{nearest(unknown[0], known)}"
            + (f" (it has {', '.join(known)})" if known else "")
        )
    needed = [name for name, kind in known.items() if kind.default is kind.empty and name not in method.parameters]
    if needed:
        raise UserError(f"the method {method.name!r} needs the parameter {needed[0]!r}; write method.{needed[0]}")
    values = {name: _typed(method.name, known[name], value) for name, value in method.parameters.items()}
    try:
        return made(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"method {method.name!r}: {error}") from None


def _typed(method: str, parameter: inspect.Parameter, value: Any) -> Any:
    """The value as the parameter's annotation has it: YAML takes 1e-3 for a text, and a whole number is a float too."""
    if parameter.annotation is parameter.empty:
        return value
    try:
        return TypeAdapter(parameter.annotation).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UserError(f"method {method!r}: {parameter.name} can't be {value!r}: {reason}") from None


def check_sharding(recipe: Recipe, objectives: Mapping[str, Objective]) -> None:
    """See that weights can be shared out among processes, where that is asked for.

    Raises:
        UserError: they can't, or it is asked for in another way than by the recipe.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise UserError(
            "weights are shared out by the recipe: set train.sharded to true, and launch without --use_fsdp"
        )
    if not recipe.train.sharded:
        return
    if recipe.task != "language":
        raise UserError(f"train.sharded is for language models, not for the task {recipe.task!r}; leave it out")
    for name, objective in objectives.items():
        if objective.trains_teacher:
            raise UserError(f"train.sharded is for teachers that do not change, and {name!r} trains its teacher")


def check_student(recipe: Recipe, objectives: Mapping[str, Objective]) -> None:
    """See that the recipe's kind of student gives what the methods ask for.

    Raises:
        UserError: it does not.
    """
    kind = recipe.student.kind or recipe.task
    for name, objective in objectives.items():
        for need in objective.needs.student:
            if kind in EMITS and need in ALL_EMITTED and need not in EMITS[kind]:
                fitting = [other for other, gives in EMITS.items() if need in gives]
                raise UserError(
                    f"the method {name!r} learns by {need}, which a model of the kind {kind!r} does not give; it is "
                    f"for {', '.join(fitting)}"
                )


def check_teacher(recipe: Recipe, objectives: Mapping[str, Objective]) -> None:
    """See that the recipe's teacher can give what the methods ask for.

    Raises:
        UserError: there is no teacher, or it can't give a signal.
    """
    for name, objective in objectives.items():
        asked = objective.needs.teacher
        if asked and recipe.teacher is None:
            raise UserError(f"the method {name!r} learns from a teacher; give the recipe one")
        if not asked or recipe.teacher is None:
            continue
        if recipe.teacher.endpoint is not None and asked != ("text",):
            raise UserError(f"the method {name!r} needs {', '.join(asked)}, and an endpoint gives text only")
        if recipe.teacher.endpoint is not None and objective.writing != Writing():
            raise UserError(f"{name!r} wants answers found by a beam search, which an endpoint does not do")
        if recipe.teacher.group is not None and "text" in asked:
            raise UserError(f"the method {name!r} learns from texts, which one teacher writes; give teacher.model")
        if objective.trains_teacher and (recipe.teacher.group is not None or recipe.teacher.endpoint is not None):
            raise UserError(
                f"{name!r} trains its teacher, so that must be one model that runs here; give teacher.model"
            )
        if recipe.teacher.cache and (objective.live_teacher or objective.trains_teacher):
            raise UserError(
                f"{name!r} asks its teacher as training goes on, so no cache will do; set teacher.cache=false"
            )
        if recipe.teacher.cache and recipe.teacher.sampled and "logits" in asked and not objective.takes_draws:
            raise UserError(
                f"{name!r} would be misled by ids that were drawn, as its loss is not linear in the teacher's "
                "probabilities; leave out teacher.sampled"
            )
        beyond = [need for need in asked if need not in (*CACHEABLE, "text")]
        if recipe.teacher.cache and beyond:
            raise UserError(f"the method {name!r} needs {beyond[0]}, which is not cached; set teacher.cache=false")


def check_options(recipe: Recipe) -> None:
    """See that the views know the options that the recipe gives them.

    Raises:
        UserError: an unknown kind of model, or an option that its view does not have.
    """
    models: list[tuple[str, Any]] = [("student", recipe.student)]
    if recipe.teacher is not None:
        models += [("teacher", recipe.teacher)]
        models += [(f"teacher.group.{name}", model) for name, model in (recipe.teacher.group or {}).items()]
    for place, model in models:
        kind = model.kind or recipe.task
        known = set(inspect.signature(view_class(kind)).parameters) - {"tokenizer", "pictures"}
        given = {f"options.{name}": name for name in model.options}
        given |= {"max_length": "max_length"} if model.max_length is not None else {}
        for key, name in given.items():
            if name not in known:
                raise UserError(
                    f"{place}.{key}: a model of the kind {kind!r} has no such option{nearest(name, known)} "
                    f"(it has {', '.join(sorted(known))})"
                )


def check_labels(sources: Iterable[Any], classes: int) -> None:
    """See that every label of a classifier's rows is the number of one of its classes.

    Raises:
        UserError: one is not; the message names the row.
    """
    for rows in sources:
        for place, label in enumerate(rows["label"], 1):
            if label is not None and not 0 <= label < classes:
                raise UserError(
                    f"row {place} has the label {label}, and the student has classes 0 to {classes - 1}; mend the row, "
                    "or give the student more classes (num_labels)"
                )


def agree(teachers: Iterable[View | None], student: View, objectives: Mapping[str, Objective]) -> str | None:
    """See that teachers and student can be compared, and cut all vocabularies to the ids that they share.

    Returns:
        One sentence on what they share, where it matters.

    Raises:
        UserError: a method compares distributions id by id, and the ids differ; or a teacher's noise follows another
            schedule than the student's.
    """
    teachers = list(teachers)
    if isinstance(student, Denoiser):
        for teacher in teachers:
            _same_path(teacher, student)
    strict = [name for name, objective in objectives.items() if objective.same_tokenizer]
    if strict and isinstance(student, CTC):
        for teacher in teachers:
            _same_labels(teacher, student, strict[0])
    known = [view for view in teachers if isinstance(view, CausalLM)]
    if not strict or not known or not isinstance(student, CausalLM):
        return None
    said = [_shared(view, student, strict[0]) for view in known]
    for view in known:
        view.vocabulary = student.vocabulary
    return "; ".join(dict.fromkeys(said))


def _same_labels(teacher: View | None, student: CTC, method: str) -> None:
    if teacher is not None and teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise UserError(
            f"teacher and recogniser have different tokens, and {method!r} compares them id by id; make the recogniser "
            "with the teacher's tokenizer (student.new.tokenizer)"
        )


def _same_path(teacher: View | None, student: Denoiser) -> None:
    if isinstance(teacher, Denoiser) and not teacher.path.like(student.path):
        raise UserError(
            f"the teacher's noise follows another schedule than the student's ({len(teacher.path)} and "
            f"{len(student.path)} timesteps), so the same picture and timestep mean another noise to each; give the "
            "student the teacher's (student.options.schedule, as in the teacher's scheduler_config.json)"
        )


def _shared(teacher: CausalLM, student: CausalLM, method: str) -> str:
    agreement = compare(teacher.tokenizer, student.tokenizer)
    if not agreement.usable:
        raise UserError(
            f"{agreement}, and {method!r} compares the two distributions id by id; take a method that does not: "
            + ", ".join(_free_of_ids())
        )
    student.vocabulary = min(agreement.shared, teacher.vocabulary, student.vocabulary)
    return str(agreement)


def _free_of_ids() -> list[str]:
    """The methods for language models that learn from a teacher with another tokenizer."""
    built = {system.slug: catalog.load(system.slug) for system in catalog.systems("language", "implemented")}
    trained = {slug: made for slug, made in built.items() if inspect.isclass(made) and issubclass(made, Objective)}
    return ["teacher_texts", *(slug for slug, made in trained.items() if not made.same_tokenizer)]


def check_group(views: Mapping[str, View]) -> None:
    """See that the teachers of a group read rows alike, since a batch is made once for all of them.

    Raises:
        UserError: two have another tokenizer, template or length.
    """
    (first, like), *others = views.items()
    for name, view in others:
        if view.fingerprint != like.fingerprint:
            raise UserError(
                f"the teachers {first!r} and {name!r} read rows differently (tokenizer, template or max_length); a "
                "group must read alike"
            )
