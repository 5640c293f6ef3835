"""The memory of a forward and a backward pass, from shapes alone: nothing is loaded and nothing is computed.

A model runs on tensors that have a shape, a type and no content (PyTorch's `FakeTensorMode`), and every storage is
counted from the operation that makes it to the moment when nothing holds it any more. So what attention keeps, what
autocast copies and what autograd saves is what PyTorch would keep, for any architecture, on a machine that could not
hold it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Passed(NamedTuple):
    """Bytes of one pass, beside the weights and the batch.

    peak: the most at any moment, gradients of weights with it. held: between forward and backward pass. out: of what
    the model gives.
    """

    peak: int
    held: int
    out: int


class _Living(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, and that are still there; not of those there before."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in before}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        name = storage._cdata
        if name in self._sizes:  # a view, or an operation in place
            return
        self._sizes[name] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, name)

    def _forget(self, name: int) -> None:
        self.now -= self._sizes.pop(name, 0)


def passed(
    model: nn.Module,
    run: Callable[[nn.Module, dict[str, Tensor]], Any],
    arguments: Mapping[str, Tensor],
    *,
    learns: bool,
    half: torch.dtype | None = None,
) -> Passed:
    """What a pass takes.

    Args:
        model: on the ``meta`` device; its weights have a shape and nothing else.
        run: gives what the model emits on arguments, in any nest of tensors.
        arguments: of a batch; only their shapes and types count.
        learns: whether gradients flow back from all that is emitted to the weights.
        half: the type that autocast computes in, if it does.

    Raises:
        RuntimeError: the model asks for the content of a tensor, of which there is none.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.set_grad_enabled(learns):
        _given_shapes(model).train(learns).requires_grad_(learns)
        batch: dict[str, Tensor] = {name: mode.from_tensor(value) for name, value in arguments.items()}
        living = _Living([*model.parameters(), *model.buffers(), *batch.values()])
        with living:
            with torch.autocast("cpu", half, enabled=half is not None):
                out = [tensor for tensor in tree_leaves(run(model, batch)) if isinstance(tensor, Tensor)]
            held, storages = living.now, {one.untyped_storage()._cdata: one.untyped_storage() for one in out}
            if learns:
                ends = [one for one in out if one.requires_grad]
                torch.autograd.backward(ends, [torch.ones_like(one) for one in ends])
        return Passed(living.peak, held, sum(storage.nbytes() for storage in storages.values()))


def _given_shapes(model: nn.Module) -> nn.Module:
    """The same model with weights that count as the processor's, so that operations are chosen as they would be."""
    model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu"))
    tie = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    return model
