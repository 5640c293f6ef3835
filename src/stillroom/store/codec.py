"""How signals become arrays on disk: a table of small codecs, each with the error it is allowed to make.

A `Codec` maps values ``[L, ...]`` (L positions: rows or tokens) to a few arrays of the same leading length, and back.
A `RowCodec` maps each row to bytes, as many as it needs. Neither encodes a row with the help of another, so a row's
bytes do not depend on its neighbours.

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
packed     the same, in a fraction of the    of log p: 5/32 nat, a few hundredths as a rule; of the log of the tail
           bytes; tokens may differ in how   1/32 (a tail below 1.4e-14 or above 1 less that is kept as that, and none
           many ids they keep                as none). What lies more than 32 below the top is left out
packed-    the same, in fewer bytes still    of log p: 17/32 nat, a tenth as a rule; of the tail that of packed
coarse
drawn      how often ids were drawn          0
========== ================================= =========================================================================

-inf is kept as -inf by float32, float16, topk16 and topk8; packed leaves such an id out, and gives empty places back,
which have the log-prob -inf, where one token kept fewer ids than another. NaN is refused by every codec.

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
from stillroom.store import packed
from stillroom.store.checked import as_array, checked_top_k, refuse
from stillroom.store.sets import bits_at_most, tokens_of

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


@dataclass(frozen=True)
class RowCodec:
    """One way to keep a signal whose rows take as many bytes as they need.

    check: raises ValueError where a `Signal` asks for what the codec cannot do.
    encode: rows -> all their bytes one after another, and how many each has. Raises ValueError for what it cannot keep.
    decode: the way back.
    positions: how many positions (tokens, bytes) rows have together.
    most: bytes of a position, at most.
    """

    check: Callable[[Signal], None]
    encode: Callable[[Signal, list[Any]], tuple[NDArray[np.uint8], NDArray[np.int64]]]
    decode: Callable[[Signal, NDArray[np.uint8], NDArray[np.int64]], list[Any]]
    positions: Callable[[NDArray[np.uint8], NDArray[np.int64]], int]
    most: Callable[[Signal], float]

    def layout(self, _signal: Signal) -> Layout:
        """Bytes."""
        return {"bytes": (np.dtype(np.uint8), ())}

    def bytes_per_position(self, signal: Signal) -> float:
        """What one position takes on disk, at most."""
        return self.most(signal)


def _no_top_k(signal: Signal) -> None:
    refuse(signal.k is not None or signal.vocabulary is not None, f"{signal.codec} takes neither k nor vocabulary")


def _float(dtype: type[np.floating[Any]]) -> Codec:
    def encode(_signal: Signal, values: Tensor) -> Arrays:
        exact = as_array(values)
        refuse(bool(np.isnan(exact).any()), "it holds NaN")
        with np.errstate(over="ignore"):
            kept = exact.astype(dtype)
        refuse(
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
    refuse(not signal.position, "int8 scales along a last axis, which single numbers do not have; use float16")


def _encode_int8(_signal: Signal, values: Tensor) -> Arrays:
    exact = as_array(values)
    refuse(not np.isfinite(exact).all(), "it holds NaN or infinity, which int8 cannot scale; use float32")
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
    refuse(signal.shape != (None,), f"text has the shape (None,), not {signal.shape}")


def _encode_utf8(_signal: Signal, rows: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    texts = [text.encode() for text in rows]
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    return np.frombuffer(b"".join(texts), dtype=np.uint8), sizes


def _decode_utf8(_signal: Signal, content: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[str]:
    text = content.tobytes()
    return [text[end - size : end].decode() for end, size in zip(np.cumsum(sizes), sizes, strict=True)]


def _check_row_of_tokens(signal: Signal) -> None:
    _check_top_k(signal)
    refuse(not signal.varies, f"{signal.codec} keeps the tokens of a row together; use topk8 for one place a row")


def _check_top_k(signal: Signal) -> None:
    refuse(signal.k is None or signal.vocabulary is None, f"{signal.codec} needs k and vocabulary")
    assert signal.k is not None and signal.vocabulary is not None
    refuse(signal.k > signal.vocabulary, f"k is {signal.k}, more than the vocabulary's {signal.vocabulary} ids")
    refuse(bool(signal.position), f"a top-k has the shape (None,) or (), not {signal.shape}")


def _id_dtype(signal: Signal) -> np.dtype[Any]:
    assert signal.vocabulary is not None
    return np.dtype(np.uint16 if signal.vocabulary <= 2**16 else np.int32)


def _of_k(signal: Signal, values: TopK) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    assert signal.vocabulary is not None
    ids, log_probs, tail = checked_top_k(values, signal.vocabulary, signal.k)
    return ids.astype(_id_dtype(signal)), log_probs, tail


def _layout_topk16(signal: Signal) -> Layout:
    assert signal.k is not None
    shape = (signal.k,)
    half = np.dtype(np.float16)
    return {"ids": (_id_dtype(signal), shape), "log_probs": (half, shape), "tail": (np.dtype(np.float32), ())}


def _encode_topk16(signal: Signal, values: TopK) -> Arrays:
    ids, log_probs, tail = _of_k(signal, values)
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
    ids, log_probs, tail = _of_k(signal, values)
    top = log_probs.max(-1)
    refuse(bool(np.isneginf(top).any()), "a position gives every kept id the probability 0")
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


_PACKED = RowCodec(
    _check_row_of_tokens,
    packed.encode_packed,
    packed.decode_packed,
    tokens_of,
    lambda signal: bits_at_most(packed.packed_layout(signal)) / 8,
)

CODECS: dict[str, Codec | RowCodec] = {
    "float32": _float(np.float32),
    "float16": _float(np.float16),
    "int8": Codec(_check_int8, _layout_int8, _encode_int8, _decode_int8),
    "utf8": RowCodec(_check_utf8, _encode_utf8, _decode_utf8, lambda content, _sizes: len(content), lambda _signal: 1),
    "topk16": Codec(_check_top_k, _layout_topk16, _encode_topk16, _decode_topk16),
    "topk8": Codec(_check_top_k, _layout_topk8, _encode_topk8, _decode_topk8),
    "packed": _PACKED,
    "packed-coarse": _PACKED,
    "drawn": RowCodec(
        _check_row_of_tokens,
        packed.encode_drawn,
        packed.decode_drawn,
        tokens_of,
        lambda signal: bits_at_most(packed.drawn_layout(signal)) / 8,
    ),
}
