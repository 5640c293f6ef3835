"""From a batch's signals to the rows of a store, and back.

A row keeps what does not depend on its batch. Distributions are kept at the trained places (``batch.mask``), in order,
and hidden states at the teacher's real tokens; padding is neither kept nor missed, on whichever side it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stillroom.errors import UserError
from stillroom.signals import Batch, Drawn, Signals, TopK
from stillroom.store.header import Header, Signal
from stillroom.store.keep import cut_below, cut_to_nucleus, draw, keep_top_k


def rows_of(header: Header, batch: Batch, signals: Signals) -> dict[str, Any]:
    """What `Writer.append` takes, from what a teacher emitted on a batch.

    ``topk`` and ``drawn`` are made from full logits where the teacher gives these, at the header's temperature.

    Raises:
        ValueError: the store keeps a signal that the teacher did not give.
    """
    return {name: _rows(header, name, signal, batch, signals) for name, signal in header.signals.items()}


def _rows(header: Header, name: str, signal: Signal, batch: Batch, signals: Signals) -> Any:
    values, mask = _emitted(name, signals), batch.mask
    if values is None and name in ("topk", "drawn") and signals.logits is not None:
        assert signal.k is not None
        at = (signals.logits[mask] if signal.varies else signals.logits).float() / header.temperature
        if name == "drawn":
            rows = at.split(mask.sum(-1).tolist())
            return [draw(row, signal.k, row_id) for row, row_id in zip(rows, batch.ids, strict=True)]
        values = keep_top_k(at, signal.k)
        if signal.nucleus is not None:
            values = cut_to_nucleus(values, signal.nucleus)
        if signal.epsilon_cutoff is not None:
            values = cut_below(values, signal.epsilon_cutoff)
        return _cut(values, mask) if signal.varies else values
    if values is None:
        raise ValueError(f"the store keeps {name!r}, which the teacher did not give")
    if name in ("scale", "bias"):
        return values.expand(len(batch))
    if not signal.varies or name in ("scores", "text"):
        return values
    if name not in ("topk", "drawn", "logits"):
        mask = signals.mask if signals.mask is not None else torch.ones(values.shape[:2], dtype=torch.bool)
    if isinstance(values, TopK | Drawn):
        return _cut(type(values)(*(part[mask] for part in values)), mask)
    return _cut(values[mask], mask)


def _emitted(name: str, signals: Signals) -> Any:
    kind, _, argument = name.partition(":")
    if kind == "hidden":
        return signals.hidden.get(int(argument))
    if kind in ("tap", "tower"):
        return getattr(signals, kind + "s").get(argument)
    return getattr(signals, kind)


def _cut(values: Any, mask: Tensor) -> list[Any]:
    """Positions of all rows one after another, as one piece a row."""
    sizes = mask.sum(-1).tolist()
    if isinstance(values, TopK | Drawn):
        return [type(values)(*parts) for parts in zip(*(part.split(sizes) for part in values), strict=True)]
    return list(values.split(sizes))


def signals_of(header: Header, stored: Mapping[str, Any], batch: Batch, needs: tuple[str, ...]) -> Signals:
    """What the teacher emitted on this batch, in the batch's own padding.

    Args:
        header: of the store.
        stored: as `Store.gather` gives it, one entry a signal that `names_for` lists.
        batch: the rows, in the same order.
        needs: what was asked for. ``logits`` is answered by a top-k or by drawn ids, where these are what is kept.

    Raises:
        UserError: a row has another length now than when it was labelled.
    """
    signals = Signals()
    for name in names_for(header, needs):
        signal, kind, argument = header.signals[name], *name.partition(":")[::2]
        values = stored[name]
        if signal.varies and kind in ("topk", "drawn", "logits"):
            values = _spread(values, batch.mask, batch.ids, name)
        elif signal.varies and kind in ("hidden", "tap"):
            signals.mask = _real_tokens(batch)
            values = _spread(values, signals.mask, batch.ids, name)
        elif signal.varies and kind == "scores":
            values = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
        if kind == "hidden":
            signals.hidden[int(argument)] = values
        elif kind in ("tap", "tower"):
            getattr(signals, kind + "s")[argument] = values
        elif kind in ("scale", "bias"):
            setattr(signals, kind, values[0])
        else:
            setattr(signals, kind, values)
    return signals.map(lambda tensor: tensor.to(batch.mask.device))


def names_for(header: Header, needs: tuple[str, ...]) -> list[str]:
    """The store's name of each need.

    Raises:
        UserError: the store does not keep it.
    """
    return [_name_for(header, need) for need in needs]


def _name_for(header: Header, need: str) -> str:
    kind, _, layer = need.partition(":")
    kept = next((name for name in ("topk", "drawn") if name in header.signals), need)
    name = kept if need == "logits" else need
    if kind == "hidden" and layer.startswith("-") and header.depth is not None:
        name = f"hidden:{header.depth + 1 + int(layer)}"
    if name not in header.signals:
        raise UserError(f"the store keeps {', '.join(header.signals)} and not {need}; label again, asking for it too")
    return name


def _real_tokens(batch: Batch) -> Tensor:
    view = batch.student if batch.teacher is None else batch.teacher
    return view["attention_mask"].bool()


def _spread(rows: list[Any], mask: Tensor, ids: list[str], name: str) -> Any:
    """Rows of different lengths at the true places of ``mask`` [B, T]; the other places are 0."""
    for row, size, row_id in zip(rows, mask.sum(-1).tolist(), ids, strict=True):
        if (kept := len(row[-1] if isinstance(row, TopK | Drawn) else row)) != size:
            raise UserError(
                f"the row {row_id!r} has {size} places now and {kept} in the store ({name}): its text, the template or "
                "max_length changed since; label again"
            )
    if isinstance(rows[0], TopK | Drawn):
        return type(rows[0])(*(_spread_tensors(parts, mask) for parts in zip(*rows, strict=True)))
    return _spread_tensors(rows, mask)


def _spread_tensors(rows: Any, mask: Tensor) -> Tensor:
    flat = torch.cat(list(rows))
    spread = flat.new_zeros(*mask.shape, *flat.shape[1:])
    spread[mask.to(flat.device)] = flat
    return spread
