"""Two tokenizations of one text, set side by side: where tokens end, in bytes, and which places have read alike.

A place that has read the first n bytes of an answer predicts what follows them. Two models with different tokenizers
can so be compared wherever both have read just as many bytes: there they answer the same question, each in its words.

Shapes: ``B`` rows, ``T`` and ``S`` places of the two models.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

UNKNOWN = -1
"""Stands for an end within a character, where the tokenizer does not tell after which of its bytes."""


def byte_ends(tokenizer: Any, text: str, *, add_special_tokens: bool = False) -> tuple[list[int], list[int]]:
    """The tokens of a text, and how many of its bytes (UTF-8) have been read at the end of each.

    Args:
        tokenizer: a fast transformers tokenizer.
        text: to be cut.
        add_special_tokens: as the tokenizer has it. One before the text ends at 0, one after it where the text does.

    Returns:
        Ids, and as many ends.
    """
    found = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    return found["input_ids"], ends_of(tokenizer, found["input_ids"], found["offset_mapping"], text)


def ends_of(tokenizer: Any, ids: Sequence[int], offsets: Sequence[Sequence[int]], text: str) -> list[int]:
    """The same from ids and their offsets in characters, as a fast tokenizer gives them.

    Where the tokens are bytes of the text and nothing else (byte-level BPE), their sizes tell every end. Otherwise the
    offsets do, in whole characters: of tokens that share one, the last ends where it does, the others are `UNKNOWN`.
    """
    pieces = _pieces(tokenizer, ids, offsets, text)
    added = len(b"".join(pieces or [])) - len(text.encode())  # a space that some tokenizers put before every text
    if pieces is not None and b"".join(pieces) == b" " * max(added, 0) + text.encode():
        return [max(end - added, 0) for end in accumulate(map(len, pieces))]
    before = [0, *accumulate(len(character.encode()) for character in text)]
    followers, follower = [], len(text)  # where the next token that stands for text begins, told from the end
    for start, stop in reversed(offsets):
        followers.append(follower)
        follower = start if start < stop else follower
    ends: list[int] = []
    for (start, stop), follower in zip(offsets, reversed(followers), strict=True):
        if start == stop:  # stands for no text
            ends.append(ends[-1] if ends else 0)
        else:
            ends.append(before[stop] if follower >= stop else UNKNOWN)
    return ends


def _pieces(tokenizer: Any, ids: Sequence[int], offsets: Sequence[Sequence[int]], text: str) -> list[bytes] | None:
    """The bytes that each token stands for; None where the tokenizer does not write tokens as bytes."""
    if "ByteLevel" not in repr(tokenizer.backend_tokenizer.decoder):
        return None
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    literal = tokenizer.added_tokens_decoder
    pieces = []
    for token, name, (start, stop) in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), offsets, strict=True):
        if token in literal or any(letter not in byte_of for letter in name):
            pieces.append(text[start:stop].encode())
        else:
            pieces.append(bytes(byte_of[letter] for letter in name))
    return pieces


def same_places(own: Tensor, own_mask: Tensor, other: Tensor, other_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The masked places of two models that have read just as much.

    Args:
        own: how much one model has read at each place, [B, T] int64, in any unit; negative where that is not known.
        own_mask: [B, T] bool, the places that count.
        other: the same of the other model, [B, S].
        other_mask: [B, S] bool.

    Returns:
        Two masks, [B, T] and [B, S], with as many true places in each row: the n-th of one is the counterpart of the
        n-th of the other. Where several places of a model have read alike (a token that stands for no text), it is the
        last of them.
    """
    ours, theirs = torch.zeros_like(own_mask), torch.zeros_like(other_mask)
    for row in range(len(own)):
        mine, yours = _last(own[row], own_mask[row]), _last(other[row], other_mask[row])
        ours[row, mine[torch.isin(own[row, mine], other[row, yours])]] = True
        theirs[row, yours[torch.isin(other[row, yours], own[row, mine])]] = True
    return ours, theirs


def _last(read: Tensor, mask: Tensor) -> Tensor:
    """The masked places at which an amount was read last. Equal amounts are neighbours, since reading goes forwards."""
    places = torch.nonzero(mask & (read >= 0))[:, 0]
    amounts = read[places]
    ends = torch.ones_like(places, dtype=torch.bool)
    ends[:-1] = amounts[1:] != amounts[:-1]
    return places[ends]
