"""Write a student as an ONNX graph, and believe the graph only where it gives what the model gives.

The graph is made by `torch.onnx.export` with ``dynamo=True``. That traces one example; a model that takes another
path for longer inputs is traced without complaint and is then wrong on them. So before the file gets its name, ONNX
Runtime runs it on inputs of several batch sizes and lengths, and a graph that differs from the model anywhere is
refused and deleted.

What goes in is what the model's own forward takes (``input_ids``, ``attention_mask``, ``pixel_values``, ...); what
comes out is one tensor: ``sentence_embedding`` (with pooling and normalisation inside the graph), ``scores``,
``logits`` or ``last_hidden_state``, and of any other module ``output``. Weights and arithmetic are float32. A
language model's graph has no cache of keys and values: it scores texts, and to generate with it is slow.
"""

from __future__ import annotations

import copy
import inspect
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import UserError, need
from stillroom.export.parity import Inputs, Parity, check_parity
from stillroom.export.transformers import first_line, from_sentence_transformers

Axes = dict[str, dict[int, "torch.export.Dim"]]  # input -> axis -> its name

ONE_FILE_LIMIT = 1_500_000_000  # bytes of weights; protobuf, which an ONNX file is, ends at 2 GB
OUTPUTS = ("sentence_embedding", "scores", "logits", "last_hidden_state")
AXES = {(1, 0): "places", (2, 0): "batch", (2, 1): "length", (4, 0): "batch", (4, 2): "height", (4, 3): "width"}

# Where the caller brings no held-out rows: short and long, of several scripts, and none of them like the next.
TEXTS = (
    "Yes.",
    "The kettle had been singing for a while before anybody thought of the tea.",
    "Où est la gare, s'il vous plaît ?",
    "def area(radius): return 3.14159 * radius ** 2",
    "A still is a vessel in which a liquid is heated until its spirit rises, and cooled until it comes down again in "
    "another place, stronger and less of it; what is left behind was mostly water, and nobody has ever missed it.",
    "Wie viele Beine hat eine Spinne? Acht.",
    "東京の冬は晴れの日が多い。",
    "Invoice 2291 of 14 March: 12 x 4.75 = 57.00 EUR, payable within 30 days; late payment costs 1.5 % a month.",
    "Ну и что?",
)


def export_onnx(
    model: nn.Module | str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    processor: Any = None,
    examples: Sequence[str] | Sequence[tuple[str, str]] | Sequence[Inputs] = TEXTS,
) -> Parity:
    """Export a model to ``out`` and check it with ONNX Runtime.

    The examples are what the graph is traced with and checked on, so they decide which axes are free: an axis is free
    if the examples differ along it. They should be held-out rows.

    Args:
        model: a model, which is copied and left as it is; or a folder (or hub id) of one.
        out: the graph's file, ``.onnx``; weights beyond 1.5 GB go to a second file beside it, named ``.onnx.data``.
        task: the kind of model that the folder holds, as in a recipe: language, embeddings, encoder, ...
        processor: the tokenizer, if a model is given that has none of its own and the examples are texts.
        examples: texts; pairs of texts, for a reranker; or, for any model, inputs by the names of its forward, of at
            least two batch sizes.

    Raises:
        UserError: the graph differs from the model by more than 1e-3, or the model can't be traced; there is no new
            file then. Or the examples can't show what they must.
    """
    out = Path(out)
    if out.suffix != ".onnx":
        raise UserError(f"{out} is no name for a graph; give a file that ends with .onnx")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, "export")
    graph, processor = _prepared(model, task, processor)
    batches = _batches(graph.model, processor, examples)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        file = Path(folder) / out.name
        _trace(graph, batches, file)
        parity = check_parity(file, graph, batches)
        out.with_name(f"{out.name}.data").unlink(missing_ok=True)  # an older graph's, if that one had such a file
        # The weights first, then the graph that names them.
        for written in sorted(Path(folder).iterdir(), reverse=True):
            written.replace(out.parent / written.name)
    return parity


class _Graph(nn.Module):
    """A model as a function from inputs by name to one tensor, whatever the library it comes from."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.output = "output"

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        told = self.model(dict(inputs)) if from_sentence_transformers(self.model) else self.model(**inputs)
        if isinstance(told, Tensor):
            return told
        for name in OUTPUTS:
            if name in told:
                self.output = name
                return told[name]
        raise UserError(f"{type(self.model).__name__} gives none of {', '.join(OUTPUTS)}; wrap it to give one tensor")


def _prepared(model: Any, task: str | None, processor: Any) -> tuple[_Graph, Any]:
    """A float32 copy on the CPU, without dropout or cache, and what makes its inputs."""
    if isinstance(model, nn.Module):
        own = copy.deepcopy(model).to("cpu", torch.float32)
    elif task is None:
        raise UserError("say what kind of model the folder holds: task='language', 'embeddings', 'encoder', ...")
    else:
        from stillroom.views.load import open_model

        opened = open_model(str(model), task)
        own, processor = opened.model, processor or getattr(opened.view, "tokenizer", None)
    config: Any = getattr(own, "config", None)
    if getattr(config, "use_cache", False):
        config.use_cache = False
    return _Graph(own).eval(), processor


def _batches(model: nn.Module, processor: Any, examples: Sequence[Any]) -> list[dict[str, Tensor]]:
    """The examples as inputs; texts in batches of 1, 2, 3, 1, 2, 3, ... as they come."""
    if examples and isinstance(examples[0], Mapping):
        return [{name: value.cpu() for name, value in inputs.items()} for inputs in examples]
    tokenize = _tokenizer(model, processor)
    batches: list[dict[str, Tensor]] = []
    start = 0
    while start < len(examples):
        size = len(batches) % 3 + 1
        batches.append(tokenize(list(examples[start : start + size])))
        start += size
    return batches


def _tokenizer(model: Any, processor: Any) -> Callable[[list[Any]], dict[str, Tensor]]:
    if from_sentence_transformers(model):  # such a pipeline reads texts itself
        return lambda texts: {
            name: value for name, value in model.preprocess(texts).items() if isinstance(value, Tensor)
        }
    if processor is None:
        raise UserError("give the model's tokenizer as processor, or examples as inputs by name")
    processor = copy.deepcopy(processor)
    if processor.pad_token is None:
        processor.pad_token = processor.eos_token or processor.convert_ids_to_tokens(0)
    longest = processor.model_max_length
    longest = min(longest, getattr(getattr(model, "config", None), "max_position_embeddings", longest))
    accepted = inspect.signature(model.forward).parameters

    def tokenize(texts: list[Any]) -> dict[str, Tensor]:
        tokens = processor(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return {name: value for name, value in tokens.items() if name in accepted}

    return tokenize


def _trace(graph: _Graph, batches: list[dict[str, Tensor]], file: Path) -> None:
    axes = _free_axes(batches)
    sample = max(batches, key=lambda inputs: _smallest(inputs, axes))
    if _smallest(sample, axes) < 2:
        raise UserError("no example has two rows of two places at least, which tracing needs; add one")
    with torch.inference_mode():
        graph(sample)  # tells the output's name
    weights = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    try:
        with _without_chatter():
            torch.onnx.export(
                graph,
                kwargs={"inputs": sample},
                f=file,
                input_names=list(sample),
                output_names=[graph.output],
                dynamic_shapes={"inputs": axes},
                external_data=weights > ONE_FILE_LIMIT,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(
            f"{type(graph.model).__name__} can't be traced ({first_line(error.__cause__ or error)}); a model of "
            "transformers often can when it is loaded with attn_implementation='eager'"
        ) from error


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep back what the exporter says about its own internals, on which no user can act."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _free_axes(batches: list[dict[str, Tensor]]) -> Axes:
    """For every input, the axes along which the examples differ; two that always have the same size share a name."""
    named: dict[tuple[int, ...], torch.export.Dim] = {}
    axes: Axes = {}
    for name, value in batches[0].items():
        axes[name] = {}
        for axis in range(value.ndim):
            sizes = tuple(inputs[name].shape[axis] for inputs in batches)
            if len(set(sizes)) == 1:
                continue
            label = AXES.get((value.ndim, axis), f"{name}_{axis}")
            taken = {dim.__name__ for dim in named.values()}
            named.setdefault((axis, *sizes), torch.export.Dim(f"{name}_{label}" if label in taken else label))
            axes[name][axis] = named[axis, *sizes]
        needed = {0, 1} if value.ndim == 2 and not value.is_floating_point() else {0}
        if not needed <= set(axes[name]):
            raise UserError(f"the examples' {name!r} must differ in number of rows and in length; give more of them")
    return axes


def _smallest(inputs: dict[str, Tensor], axes: Axes) -> int:
    return min(inputs[name].shape[axis] for name, free in axes.items() for axis in free)
