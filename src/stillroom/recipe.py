"""The recipe: one YAML file that says what is distilled into what, on which data, how, and against what.

An unknown key is refused with the nearest known one. Overrides from the command line (``--set train.steps=100``) go
through the same checks. Whatever a recipe leaves out has a default that a reader can find here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from stillroom import catalog
from stillroom.engine.settings import Train
from stillroom.errors import UserError, nearest
from stillroom.synthesis.settings import Step

# The kind of model that most methods of a family are for.
TASKS = {
    "encoders": "encoder",
    "embeddings": "embeddings",
    "retrieval": "bi-encoder",
    "vision": "image",
    "diffusion": "denoiser",
    "speech": "ctc",
    "graphs": "node",
    "multimodal": "image-text",
}


# What can change without a change of the weights, as pydantic leaves it out.
_DECIDE_NOTHING: Any = dict.fromkeys(("name", "output", "against", "evaluate"), True) | {"method": {"label"}}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Scratch(_Strict):
    """A model made from nothing: a transformers architecture with its sizes, or one of torch_geometric.

    Attributes:
        architecture: the ``model_type`` of a transformers configuration (llama, qwen3, bert, ...); for nodes and links
            a model of torch_geometric (GCN, GraphSAGE, GAT, MLP, ...).
        config: its arguments (hidden_size, num_hidden_layers, ...; in_channels, hidden_channels, num_layers, ...).
        tokenizer: the folder or hub id to take a tokenizer from; None trains one.
        vocabulary: the size of a byte-level BPE vocabulary trained on the data, where ``tokenizer`` is None.
    """

    architecture: str
    config: dict[str, Any] = {}
    tokenizer: str | None = None
    vocabulary: int = Field(4096, ge=300)


class Cut(_Strict):
    """A student cut out of a model.

    Attributes:
        of: the model to cut; ``teacher`` for the recipe's own.
        layers: which of its layers stay, from 0; None keeps all.
        embedding_size: width of factorised token embeddings; None leaves them whole.
        vocabulary: tokens that stay, the most frequent in the data; None keeps all.
    """

    of: str = "teacher"
    layers: list[int] | None = None
    embedding_size: int | None = Field(None, ge=1)
    vocabulary: int | None = Field(None, ge=100)


class Static(_Strict):
    """A static student: one vector a token, and a text's vector is the mean of its tokens' (for embeddings only).

    Attributes:
        of: the encoder that it is made of; ``teacher`` for the recipe's own.
        dimensions: of the vectors.
        start: ``teacher`` takes the encoder's vectors of single tokens, reduced by PCA; ``random`` draws them.
        weights: of the tokens, to start with, by how rare a token is: in the data (``corpus``), by its place in the
            vocabulary (``zipf``); ``none`` weighs all alike.
        vocabulary: tokens that stay, the most frequent in the data; None keeps all.
    """

    of: str = "teacher"
    dimensions: int = Field(256, ge=1)
    start: Literal["teacher", "random"] = "teacher"
    weights: Literal["corpus", "zipf", "none"] = "corpus"
    vocabulary: int | None = Field(None, ge=100)


class Model(_Strict):
    """A teacher or a student: a saved model, one made from nothing, one cut out of another, or a static one.

    Attributes:
        model: a folder or a hub id.
        new: make one from nothing.
        cut: cut one out of another.
        static: make a bag of token vectors out of an encoder.
        kind: what it is, where that differs from the recipe's ``task``.
        revision: of the hub.
        dtype: of the weights.
        max_length: the window in tokens.
        attention: an attention implementation of transformers (``eager`` where attention maps are needed).
        options: further arguments of the view, by name.
    """

    model: str | None = None
    new: Scratch | None = None
    cut: Cut | None = None
    static: Static | None = None
    kind: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_length: int | None = Field(None, ge=2)
    attention: str | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        given = [name for name in ("model", "new", "cut", "static") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of model, new, cut and static (given: {', '.join(given) or 'none'})")
        return self

    @property
    def title(self) -> str:
        """What the model is called: its name, or where it came from."""
        if self.cut is not None:
            return f"cut of {'the teacher' if self.cut.of == 'teacher' else self.cut.of}"
        if self.static is not None:
            return f"static, of {'the teacher' if self.static.of == 'teacher' else self.static.of}"
        return self.model or "new"

    @model_serializer(mode="wrap")
    def _without_static(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A student that is not static says nothing of it, so recipes from before there were such ones still match."""
        state: dict[str, Any] = plain(self)
        return {name: value for name, value in state.items() if name != "static" or value is not None}


class Teacher(_Strict):
    """Whoever is learnt from: one model, several, or an endpoint.

    Attributes:
        model: a folder or hub id (with ``kind``, ``revision``, ``dtype``, ``max_length``, ``attention``, ``options``
            as for a student).
        group: name -> model, for several teachers.
        route: the column that names each row's teacher, with ``group``.
        mix: name -> weight, with ``group``.
        endpoint: the address of an OpenAI-compatible server, for teachers that give text; ``model`` is then its name
            there.
        key_variable: the environment variable that holds the server's key.
        cache: compute the signals once, keep them on disk, and train from there.
        top_k: log-probs kept a token in such a cache; where they are cut, at most so many.
        nucleus: keep of each token only the likeliest ids whose probabilities sum to this, in (0, 1).
        epsilon_cutoff: keep of each token the likeliest id, and of the others those at least so probable, in (0, 1).
        codec: how they are kept. ``topk16`` and ``topk8`` keep top_k ids everywhere, with log-probs in 16 and 8 bits;
            ``packed`` takes a third of the bytes and is right to 5/32 nat, ``packed-coarse`` still fewer and to 17/32.
            None is packed where they are cut, else topk16.
        sampled: in place of the likeliest ids keep so many draws from each distribution, an estimate without bias;
            for methods whose loss is linear in the teacher's probabilities.
        max_new_tokens: of texts that the teacher writes.
        temperature: of texts that the teacher writes; 0 takes the likeliest token.
    """

    model: str | None = None
    kind: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_length: int | None = Field(None, ge=2)
    attention: str | None = None
    options: dict[str, Any] = {}
    group: dict[str, Model] | None = None
    route: str | None = None
    mix: dict[str, float] | None = None
    endpoint: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    cache: bool = False
    top_k: int = Field(64, ge=1)
    nucleus: float | None = Field(None, gt=0, lt=1)
    epsilon_cutoff: float | None = Field(None, gt=0, lt=1)
    codec: Literal["packed", "packed-coarse", "topk8", "topk16"] | None = None
    sampled: int | None = Field(None, ge=1)
    max_new_tokens: int = Field(128, ge=1)
    temperature: float = Field(0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_way_to_keep(self) -> Teacher:
        cut = next((name for name in ("nucleus", "epsilon_cutoff") if getattr(self, name) is not None), None)
        if cut is not None and self.codec in ("topk8", "topk16"):
            raise ValueError(f"{self.codec} keeps top_k ids at every token; leave out {cut}, or take codec: packed")
        # A recipe that was written down has every default in it, so only what differs from them was asked for.
        plain = {name: Teacher.model_fields[name].default for name in ("top_k", "nucleus", "epsilon_cutoff", "codec")}
        also = [name for name, value in plain.items() if getattr(self, name) != value]
        if self.sampled is not None and also:
            raise ValueError(f"sampled keeps drawn ids in place of the likeliest; leave out {' and '.join(also)}")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Teacher:
        if (self.model is None) == (self.group is None):
            raise ValueError("give either model or group")
        if self.group is None:
            return self
        if (self.route is None) == (self.mix is None):
            raise ValueError("a group needs either route (a column) or mix (weights)")
        if self.endpoint is not None or self.cache:
            raise ValueError("a group runs here and live; it takes neither endpoint nor cache")
        if self.mix is not None and (
            set(self.mix) != set(self.group) or min(self.mix.values()) < 0 or not sum(self.mix.values())
        ):
            raise ValueError(f"mix needs a weight >= 0 for each of {', '.join(self.group)}, and one above 0")
        return self

    @property
    def title(self) -> str | None:
        """What the teacher is called: the model, or the names of a group joined."""
        return self.model or " + ".join(self.group or ())

    def as_model(self) -> Model:
        """The single teacher, as a model."""
        names = ("model", "kind", "revision", "dtype", "max_length", "attention", "options")
        return Model(**{name: getattr(self, name) for name in names})


class Source(_Strict):
    """Some rows.

    Attributes:
        source: a file (JSONL, JSON, CSV, Parquet), a built-in loader, or a hub data set.
        view: which rows of a built-in loader.
        split: train, validation or test. Built-in sources and the hub give train if none is named; files give all their
            rows, and else the named part of a fixed division.
        limit: at most so many rows; chosen by the seed.
        format: one of `stillroom.data.rows`, such as text, completion, chat, pair, triple, labelled-image; None
            recognises it by the columns.
        seed: of the choice.
        options: further arguments of a built-in loader.
        steps: of synthesis, that make training rows of these; rows of any columns can be such seeds, and ``format`` is
            then that of what the steps make.
    """

    source: str
    view: str | None = None
    split: str | None = None
    limit: int | None = Field(None, ge=1)
    format: str | None = None
    seed: int = 0
    options: dict[str, Any] = {}
    steps: list[Step] = []

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


class Data(_Strict):
    """What is trained on and what is held out.

    Attributes:
        train: one source or several, which are joined.
        validation: rows held out to choose the best checkpoint; None splits off every fiftieth row, at most 1,000.
    """

    train: list[Source]
    validation: Source | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str | list) or (isinstance(value, dict) and "source" in value):
            value = {"train": value}
        if isinstance(value, dict) and "train" in value and not isinstance(value["train"], list):
            value = value | {"train": [value["train"]]}
        return value


class Method(BaseModel):
    """A method's name and its parameters, which stand beside it.

    Attributes:
        name: a slug of the catalogue, or a baseline.
        label: what its results are kept under, where a method is there with several settings; else its name.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    label: str | None = Field(None, pattern=r"^[\w.-]+$")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def called(self) -> str:
        """The label, or else the name."""
        return self.label or self.name

    @property
    def parameters(self) -> dict[str, Any]:
        """All but the name and the label."""
        return dict(self.model_extra or {})


class Recipe(_Strict):
    """All that decides a run.

    Attributes:
        name: of the run; its folder is ``output/name``.
        task: the kind of model: language, embeddings, encoder, masked-lm, text-classifier, ...; if it is left out, that
            of the method's family.
        teacher: who is learnt from; None for methods that need nobody.
        student: who learns.
        data: the rows.
        method: a slug of the catalogue or a baseline, with its parameters.
        train: how long and how.
        evaluate: the measurements made on everybody at the end, by name; validation loss, agreement and cost always
            are.
        against: other methods trained on the same rows under the same budget from the same start; ``untrained`` is the
            start itself. Each may have its own parameters, as ``method`` has, and a label.
        output: where runs are kept.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    task: str
    teacher: Teacher | None = None
    student: Model
    data: Data
    method: Method
    train: Train = Train()
    evaluate: list[str] = []
    against: list[Method] = []
    output: str = "runs"

    @model_validator(mode="before")
    @classmethod
    def _task_of_the_method(cls, value: Any) -> Any:
        if isinstance(value, dict) and "task" not in value and (name := value.get("method")):
            return value | {"task": task_of(name.get("name") if isinstance(name, dict) else name)}
        return value

    @field_validator("against", "evaluate", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _each_method_once(self) -> Recipe:
        names = [method.called for method in (self.method, *self.against)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(
                f"{twice!r} is named twice among method and against; results are kept by name, so give one a label"
            )
        return self

    @property
    def teachers(self) -> dict[str, Model]:
        """The teachers that run here, by name; a single one is called ``teacher``."""
        if self.teacher is None or self.teacher.endpoint is not None:
            return {}
        return self.teacher.group or {"teacher": self.teacher.as_model()}

    @property
    def folder(self) -> Path:
        """Where this run is kept."""
        return Path(self.output) / self.name

    @property
    def decides(self) -> dict[str, Any]:
        """All that the method's weights depend on."""
        state = self.model_dump(mode="json", exclude=_DECIDE_NOTHING)
        for free in ("log_every", "save_every", "keep", "trackers", "device", "fused", "sharded"):
            state["train"].pop(free)
        return state

    @property
    def fingerprint(self) -> str:
        """A hash of that; a checkpoint is good for one fingerprint only."""
        return hashlib.sha256(json.dumps(self.decides, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The recipe with every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, width=120)


def task_of(method: Any) -> str:
    """The kind of model that a method is for, by its family; ``language`` for baselines."""
    family = next((system.family for system in catalog.systems() if system.slug == method), "language")
    return TASKS.get(family, "language")


def read(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: of a YAML file.
        overrides: ``key.inner=value`` strings, the value read as YAML.

    Raises:
        UserError: the file is missing or not YAML, or the recipe is wrong; the message names the key.
    """
    path = Path(path)
    if not path.is_file():
        siblings = [str(other) for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"there is no recipe {path}{nearest(str(path), siblings)}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a mapping of keys such as task, teacher, student, data, method")
    content.setdefault("name", path.stem)
    for override in overrides:
        _override(content, override)
    return check(content, str(path))


def check(content: dict[str, Any], where: str = "the recipe") -> Recipe:
    """A recipe from plain data.

    Raises:
        UserError: one sentence on the first thing that is wrong.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {_say(error)}") from None


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set needs key=value, such as train.steps=100; got {override!r}")
    *path, last = key.strip().split(".")
    place = content
    for name in path:
        inner = place.get(name)
        if isinstance(inner, str):  # a short form, such as `method: taid`
            inner = {{"method": "name", "teacher": "model", "student": "model"}.get(name, "source"): inner}
        place[name] = inner = {} if inner is None else inner
        if not isinstance(inner, dict):
            raise UserError(f"--set {key}: {name!r} is not a mapping in the recipe")
        place = inner
    place[last] = yaml.safe_load(value)


def _say(error: ValidationError) -> str:
    """The first complaint in one sentence, with the nearest known key for an unknown one."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *path, last = first["loc"]
        return f"unknown key {place!r}{nearest(str(last), _keys(path))}"
    if first["type"] == "missing":
        return f"{place!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if not isinstance(first["input"], dict | list | BaseModel):
        message += f"; it is {first['input']!r}"
    return f"{place!r}: {message}" if place else message


def _keys(path: Sequence[Any]) -> list[str]:
    """The keys that a part of the recipe knows."""
    model: type[BaseModel] = Recipe
    for name in path:
        if isinstance(name, int):
            continue
        found = model.model_fields.get(str(name))
        inner = _models(found.annotation) if found else []
        if inner:
            model = inner[0]
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]
