"""How signals become arrays on disk: a table of small codecs, each with the error it is allowed to make.

A codec maps values ``[L, ...]`` (L positions: rows, tokens or bytes) to a few arrays of the same leading length, and
back. No position is encoded with the help of another, so a row's bytes do not depend on its neighbours.

========== ================================= =========================================================================
codec      keeps                             error of one value x
========== ================================= =========================================================================
float32    any tensor                        0
float16    any tensor                        2^-11 |x|, and 2^-25 where |x| < 2^-14
int8       a tensor with a last axis         m / 253 + 2^-127, m the largest |x| along the last axis
utf8       text                              0
topk16     the kept part of a distribution   of log p that of float16 (below -65504 it is kept as -65504); of the tail 0
topk8      the same, half as large           of log p: r / 508 + 2^-22 |log p|, where r = min(top - lowest, 32) is the
                                             range of the position's finite log-probs; one that lies more than 32
                                             below the top (less than 2e-14 of its probability) is kept as 32 below;
                                             of the tail 0
========== ================================= =========================================================================

-inf is kept as -inf by float32, float16, topk16 and topk8. NaN is refused by every codec.

Shapes: ``L`` positions, ``K`` kept ids, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.signals import TopK

if TYPE_CHECKING:
    from stillroom.store.header import Signal

Arrays = dict[str, NDArray[Any]]
Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
NATS_KEPT = 32.0
LEVELS = 254
MINUS_INFINITY = 255


@dataclass(frozen=True)
class Codec:
    """One way to keep a signal.

    check: raises ValueError where a `Signal` asks for what the codec cannot do.
    layout: part -> its dtype and its shape per position.
    encode: values -> part -> array [L, ...]. Raises ValueError for values that it cannot keep.
    decode: the way back.
    """

    check: Callable[[Signal], None]
    layout: Callable[[Signal], Layout]
    encode: Callable[[Signal, Any], Arrays]
    decode: Callable[[Signal, Arrays], Any]

    def bytes_per_position(self, signal: Signal) -> int:
        """What one position takes on disk: what to multiply by the number of tokens before labelling."""
        return sum(dtype.itemsize * prod(shape) for dtype, shape in self.layout(signal).values())


@torch.no_grad()
def keep_top_k(logits: Tensor, k: int) -> TopK:
    """The ``k`` most likely ids of each position, their log-probs in the whole distribution, and the mass of the rest.

    The tail is summed over the ids that were left out, not taken as 1 minus what was kept: that difference would
    lose every tail below 1e-7. Which of several equally likely ids is kept at the border is not defined.

    Args:
        logits: [..., V]; -inf forbids an id. Computed in float32.
        k: 1 to V.

    Returns:
        ids [..., k] from the most likely down, log_probs [..., k], tail [...] in [0, 1].

    Raises:
        ValueError: k is out of range.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k is {k}; it must lie between 1 and the vocabulary's {logits.shape[-1]} ids")
    logits = logits.float()
    kept, ids = logits.topk(k)
    top = kept[..., :1]
    rest = (logits - top).exp_().scatter_(-1, ids, 0.0).sum(-1)
    total = rest + (kept - top).exp().sum(-1)
    return TopK(ids, (kept - top - total.log().unsqueeze(-1)).clamp(max=0.0), rest / total)


def _array(values: Tensor) -> NDArray[Any]:
    return values.detach().to("cpu", torch.float32).contiguous().numpy()


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise ValueError(what)


def _no_top_k(signal: Signal) -> None:
    _refuse(signal.k is not None or signal.vocabulary is not None, f"{signal.codec} takes neither k nor vocabulary")


def _float(dtype: type[np.floating[Any]]) -> Codec:
    def encode(_signal: Signal, values: Tensor) -> Arrays:
        exact = _array(values)
        _refuse(bool(np.isnan(exact).any()), "it holds NaN")
        with np.errstate(over="ignore"):
            kept = exact.astype(dtype)
        _refuse(
            bool((np.isinf(kept) & np.isfinite(exact)).any()),
            f"it holds {np.abs(exact[np.isfinite(exact)]).max(initial=0):.6g}, beyond float16; use the codec float32",
        )
        return {"values": kept}

    return Codec(
        check=_no_top_k,
        layout=lambda signal: {"values": (np.dtype(dtype), signal.position)},
        encode=encode,
        decode=lambda _signal, arrays: torch.from_numpy(arrays["values"].astype(np.float32)),
    )


def _check_int8(signal: Signal) -> None:
    _no_top_k(signal)
    _refuse(not signal.position, "int8 scales along a last axis, which single numbers do not have; use float16")


def _encode_int8(_signal: Signal, values: Tensor) -> Arrays:
    exact = _array(values)
    _refuse(not np.isfinite(exact).all(), "it holds NaN or infinity, which int8 cannot scale; use float32")
    # The smallest normal number keeps 0 / 0 away, and a scale that is too small to divide by.
    scale = np.maximum(np.abs(exact).max(-1, keepdims=True, initial=0) / 127, np.finfo(np.float32).tiny)
    return {"values": np.rint(exact / scale).clip(-127, 127).astype(np.int8), "scale": scale[..., 0].astype(np.float32)}


def _layout_int8(signal: Signal) -> Layout:
    shape = signal.position
    return {"values": (np.dtype(np.int8), shape), "scale": (np.dtype(np.float32), shape[:-1])}


def _decode_int8(_signal: Signal, arrays: Arrays) -> Tensor:
    return torch.from_numpy(arrays["values"].astype(np.float32) * arrays["scale"][..., None])


def _check_utf8(signal: Signal) -> None:
    _no_top_k(signal)
    _refuse(signal.shape != (None,), f"text has the shape (None,), not {signal.shape}")


def _check_top_k(signal: Signal) -> None:
    _refuse(signal.k is None or signal.vocabulary is None, f"{signal.codec} needs k and vocabulary")
    assert signal.k is not None and signal.vocabulary is not None
    _refuse(signal.k > signal.vocabulary, f"k is {signal.k}, more than the vocabulary's {signal.vocabulary} ids")
    _refuse(bool(signal.position), f"a top-k has the shape (None,) or (), not {signal.shape}")


def _id_dtype(signal: Signal) -> np.dtype[Any]:
    assert signal.vocabulary is not None
    return np.dtype(np.uint16 if signal.vocabulary <= 2**16 else np.int32)


def _checked_top_k(signal: Signal, values: TopK) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """ids, log-probs and tail as arrays, after all that can be wrong with them was looked for."""
    ids, log_probs, tail = values.ids.cpu().numpy(), _array(values.log_probs), _array(values.tail)
    assert signal.vocabulary is not None
    _refuse(
        ids.shape[-1] != signal.k or ids.shape != log_probs.shape, f"it must have {signal.k} ids and log-probs each"
    )
    _refuse(tail.shape != ids.shape[:-1], f"its tail has shape {tail.shape}, not {ids.shape[:-1]}")
    _refuse(bool(((ids < 0) | (ids >= signal.vocabulary)).any()), f"ids must lie in [0, {signal.vocabulary})")
    _refuse(bool(np.isnan(log_probs).any() or np.isnan(tail).any()), "it holds NaN")
    _refuse(bool((log_probs > 0).any()), "log-probs must not exceed 0")
    _refuse(bool(((tail < 0) | (tail > 1)).any()), "its tail must lie in [0, 1]")
    return ids.astype(_id_dtype(signal)), log_probs, tail


def _layout_topk16(signal: Signal) -> Layout:
    assert signal.k is not None
    shape = (signal.k,)
    half = np.dtype(np.float16)
    return {"ids": (_id_dtype(signal), shape), "log_probs": (half, shape), "tail": (np.dtype(np.float32), ())}


def _encode_topk16(signal: Signal, values: TopK) -> Arrays:
    ids, log_probs, tail = _checked_top_k(signal, values)
    lowest = np.finfo(np.float16).min
    kept = np.where(np.isneginf(log_probs), log_probs, log_probs.clip(lowest)).astype(np.float16)
    return {"ids": ids, "log_probs": kept, "tail": tail}


def _decode_topk16(_signal: Signal, arrays: Arrays) -> TopK:
    ids, log_probs, tail = (torch.from_numpy(arrays[part].astype(dtype)) for part, dtype in _DECODED)
    return TopK(ids, log_probs, tail)


_DECODED = (("ids", np.int64), ("log_probs", np.float32), ("tail", np.float32))


def _layout_topk8(signal: Signal) -> Layout:
    assert signal.k is not None
    shape, single = (signal.k,), np.dtype(np.float32)
    byte = np.dtype(np.uint8)
    return {
        "ids": (_id_dtype(signal), shape),
        "levels": (byte, shape),
        "top": (single, ()),
        "range": (single, ()),
        "tail": (single, ()),
    }


def _encode_topk8(signal: Signal, values: TopK) -> Arrays:
    """Levels count down from the top in 254 equal steps; level 255 is -inf."""
    ids, log_probs, tail = _checked_top_k(signal, values)
    top = log_probs.max(-1)
    _refuse(bool(np.isneginf(top).any()), "a position gives every kept id the probability 0")
    possible = np.isfinite(log_probs)
    below = (top[..., None] - np.where(possible, log_probs, top[..., None])).clip(max=NATS_KEPT)
    width = below.max(-1)
    step = np.maximum(width, np.finfo(np.float32).tiny)[..., None] / LEVELS
    levels = np.where(possible, np.rint(below / step), MINUS_INFINITY)
    return {"ids": ids, "levels": levels.astype(np.uint8), "top": top, "range": width.astype(np.float32), "tail": tail}


def _decode_topk8(_signal: Signal, arrays: Arrays) -> TopK:
    levels = arrays["levels"]
    below = levels.astype(np.float32) * (arrays["range"] / LEVELS)[..., None]
    log_probs = np.where(levels == MINUS_INFINITY, -np.inf, arrays["top"][..., None] - below).astype(np.float32)
    return TopK(
        *(torch.from_numpy(part) for part in (arrays["ids"].astype(np.int64), log_probs, arrays["tail"].copy()))
    )


CODECS: dict[str, Codec] = {
    "float32": _float(np.float32),
    "float16": _float(np.float16),
    "int8": Codec(_check_int8, _layout_int8, _encode_int8, _decode_int8),
    "utf8": Codec(
        check=_check_utf8,
        layout=lambda _signal: {"bytes": (np.dtype(np.uint8), ())},
        encode=lambda _signal, text: {"bytes": text},
        decode=lambda _signal, arrays: arrays["bytes"],
    ),
    "topk16": Codec(_check_top_k, _layout_topk16, _encode_topk16, _decode_topk16),
    "topk8": Codec(_check_top_k, _layout_topk8, _encode_topk8, _decode_topk8),
}
