"""Models of nodes and links: made from a configuration, kept, and run.

A model is kept as ``config.json`` (its architecture and its arguments) and ``model.safetensors``, and is made again by

    config = json.loads(Path(folder, "config.json").read_text())
    model = getattr(torch_geometric.nn, config["architecture"])(**config["arguments"])
    safetensors.torch.load_model(model, Path(folder, "model.safetensors"))

and a model of links by its two ``parts``, each like this, in a `torch.nn.ModuleDict`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stillroom.errors import UserError, nearest, need
from stillroom.signals import record

# Architectures by the name in a configuration: those of torch_geometric, and those of methods with parts of their own.
LIBRARY = ("GCN", "GraphSAGE", "GAT", "GIN", "PNA", "EdgeCNN", "MLP")
OWN = {"QuantisedGNN": "stillroom.methods.graphs.vqgraph:QuantisedGNN"}


def reads_edges(model: nn.Module) -> bool:
    """Whether a model of nodes passes messages along edges; else it reads features alone."""
    passing = need("torch_geometric.nn", "graphs").MessagePassing
    return any(isinstance(module, passing) for module in model.modules())


def layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a model of nodes, from the features to the outputs."""
    found: Any = getattr(model, "convs", None) if hasattr(model, "convs") else getattr(model, "lins", None)
    if found is None:
        raise UserError(
            f"{type(model).__name__} has neither convs nor lins, so its layers can't be told; ask for a tap"
        )
    return list(found)


def built(config: Mapping[str, Any]) -> nn.Module:
    """An untrained model of a configuration, which it keeps as ``made_of``.

    Raises:
        UserError: an unknown architecture, or arguments that it does not take.
    """
    if "parts" in config:
        model: nn.Module = nn.ModuleDict({name: built(part) for name, part in config["parts"].items()})
    else:
        model = _built(config["architecture"], config["arguments"])
    model.made_of = dict(config)  # type: ignore[assignment]
    return model


def _built(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    if architecture in OWN:
        module, _, name = OWN[architecture].partition(":")
        kind = getattr(import_module(module), name)
    elif architecture in LIBRARY:
        kind = getattr(need("torch_geometric.nn", "graphs"), architecture)
    else:
        known = (*LIBRARY, *OWN)
        raise UserError(
            f"there is no architecture {architecture!r}{nearest(architecture, known)}; there are {', '.join(known)}"
        )
    try:
        return kind(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"there can be no {architecture} with {dict(arguments)}: {error or 'a setting is missing'}"
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a saved model.

    Raises:
        UserError: it is of another kind.
    """
    config = json.loads((folder / "config.json").read_text())
    if "parts" not in config and not {"architecture", "arguments"} <= set(config):
        raise UserError("its config.json tells no architecture of torch_geometric")
    return config


class _Config:
    """What is saved beside the weights."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def save_pretrained(self, folder: Path) -> None:
        (Path(folder) / "config.json").write_text(json.dumps(self.config, indent=1) + "\n")


def save(model: nn.Module, folder: Path) -> None:
    """Write configuration and weights, and nothing else."""
    from stillroom.export.transformers import save_clean

    config: Any = model.made_of
    save_clean(model, folder, _Config(config), own_keys=built(config).state_dict())


# --- running ----------------------------------------------------------------------------------------------------------


def run_nodes(
    model: nn.Module, needs: tuple[str, ...], prefix: str, *inputs: Tensor
) -> tuple[Tensor, dict[int, Tensor], dict[str, Tensor]]:
    """Outputs, what layers read, and taps, in one forward pass.

    Raises:
        UserError: the features have another width than the model reads.
    """
    wanted = tuple(need.removeprefix("tap:" + prefix) for need in needs if need.startswith("tap:" + prefix))
    depth = len(layers(model)) if any(need.startswith("hidden:") for need in needs) else 0
    numbers = hidden_numbers(needs, depth)
    with record(model, wanted) as taps, _read_by(model, numbers) as read:
        try:
            outputs = model(*inputs)
        except RuntimeError as error:
            width = getattr(model, "in_channels", inputs[0].shape[-1])
            if width == inputs[0].shape[-1]:
                raise
            raise UserError(
                f"the model reads features of the width {width}, and the graph has {inputs[0].shape[-1]}; name the "
                "graph that it was made for, or give it in_channels"
            ) from error
    if depth in numbers:
        read[depth] = outputs
    return outputs, read, {prefix + name: value for name, value in taps.items()}


def hidden_numbers(needs: tuple[str, ...], depth: int) -> list[int]:
    """The layers that ``hidden:N`` asks for, from 0 to the depth."""
    asked = [need.partition(":")[2] for need in needs if need.startswith("hidden:")]
    if "all" in asked:
        return list(range(depth + 1))
    numbers = [int(number) % (depth + 1) if int(number) < 0 else int(number) for number in asked]
    if beyond := [number for number in numbers if number > depth]:
        raise ValueError(f"the model has hidden states 0 to {depth}; there is no {beyond[0]}")
    return sorted(set(numbers))


@contextmanager
def _read_by(model: nn.Module, numbers: list[int]) -> Iterator[dict[int, Tensor]]:
    """What some layers are given, during one forward pass."""
    read: dict[int, Tensor] = {}
    found = layers(model) if numbers else []

    def keep(number: int) -> Any:
        return lambda _module, inputs: read.__setitem__(number, inputs[0])

    handles = [found[n].register_forward_pre_hook(keep(n)) for n in numbers if n < len(found)]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()
