"""Weights shared out among processes (PyTorch's FSDP2), and brought together again.

With ``train.sharded`` every process keeps one part of each weight, of its gradient and of what the optimiser remembers
of it; a layer is whole for as long as it is computed. What is saved is whole, so a run may go on with another number
of processes, and a student that was trained like this is a model like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

Module = TypeVar("Module", bound=nn.Module)


def layers_of(module: nn.Module) -> list[nn.Module]:
    """The repeated layers of a transformers model, which it keeps together (``_no_split_modules``), wherever it is."""
    kinds = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    return [part for part in module.modules() if type(part).__name__ in kinds]


def shard(module: Module, device: torch.device) -> Module:
    """Share out a module's weights in place, each of its repeated layers by itself and the rest together.

    What stands outside the layers (embeddings, the last norm, the head) stays whole from the forward pass to the end of
    the backward pass; a loss that takes the head's weight finds it whole.

    Args:
        module: on any device; its parts move to this process's own one after the other.
        device: of this process.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in layers_of(module):
        fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh, reshard_after_forward=False)
    return module


@torch.no_grad()
def bring_together(source: nn.Module, target: nn.Module) -> None:
    """Copy weights that are shared out into a whole module of the same kind. All processes take part."""
    for own, whole in zip(source.parameters(), target.parameters(), strict=True):
        whole.copy_(own.full_tensor() if isinstance(own, DTensor) else own)


def gathered(state: Any, *, keep: bool) -> Any:
    """A nested state with every shared-out tensor whole, in main memory. All processes take part.

    Args:
        state: of a module or an optimiser.
        keep: whether this process wants it; the others get None for tensors that were shared out.
    """
    if isinstance(state, DTensor):
        found = state.full_tensor()
        return found.cpu() if keep else None
    if isinstance(state, Mapping):
        return {name: gathered(part, keep=keep) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(gathered(part, keep=keep) for part in state)
    return state


def load_module(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load a whole state into a module, shared out or not."""
    own = module.state_dict()
    module.load_state_dict({name: _like(own.get(name), value) for name, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a whole state into an optimiser whose weights may be shared out."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        number: {name: _like(weights[number], value) for name, value in kept.items()}
        for number, kept in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": moments})


def _like(own: Any, value: Any) -> Any:
    """A whole tensor, shared out as its own counterpart is."""
    if not isinstance(own, DTensor) or not isinstance(value, Tensor) or value.shape != own.shape:
        return value
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
