"""Hiding parts of what a model reads: tokens of a text, patches of a picture.

Shapes: ``B`` rows, ``T`` tokens, ``P`` patches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stillroom.signals import Batch

SHOWN_AS_MASK, SHOWN_AS_ANOTHER = 0.8, 0.1  # of the hidden tokens; the rest are shown as they are


def hide(batch: Batch, tokenizer: Any, rate: float) -> Batch:
    """The batch with some of its trained tokens hidden, and only these trained.

    Four in five are shown as the mask token, one in ten as another token, one in ten as itself, so that a model can't
    rely on the mask token to tell where it is asked (BERT, Devlin et al., 2019, section 3.1).

    Args:
        batch: with ``mask`` [B, T], the tokens that may be hidden. Student and teacher read it alike.
        tokenizer: of both.
        rate: the chance of each token to be hidden, in (0, 1].

    Raises:
        ValueError: the teacher has a view of its own, so its tokens stand elsewhere.
    """
    if batch.teacher is not None:
        raise ValueError("tokens can be hidden only where teacher and student read the same ones")
    ids = batch.student["input_ids"]
    hidden = batch.mask & (torch.rand(ids.shape, device=ids.device) < rate)
    shown = _shown(ids, tokenizer.mask_token_id, len(tokenizer))
    return replace(batch, student=batch.student | {"input_ids": shown.where(hidden, ids)}, mask=hidden)


def hide_patches(batch: Batch, patches: int, ratio: float) -> Batch:
    """The batch with some patches of every picture hidden from the student; the teacher sees whole pictures.

    Hidden patches are left out of the sequence, as in MAE (He et al., 2022): the student reads fewer places.

    Args:
        batch: of pictures that the student's view cuts into patches.
        patches: P, of a picture.
        ratio: the share that is hidden, in [0, 1); at least one patch stays.
    """
    kept = max(int(patches * (1 - ratio)), 1)
    order = torch.rand(len(batch), patches, device=batch.mask.device).argsort(-1)
    whole = batch.student if batch.teacher is None else batch.teacher
    return replace(batch, teacher=whole, student=batch.student | {"patches": order[:, :kept]})


def _shown(ids: Tensor, mask_id: int, vocabulary: int) -> Tensor:
    """What would be shown of each token if it were hidden, [B, T]."""
    lot = torch.rand(ids.shape, device=ids.device)
    others = torch.randint(vocabulary, ids.shape, device=ids.device)
    shown = others.where(lot < SHOWN_AS_MASK + SHOWN_AS_ANOTHER, ids)
    return shown.masked_fill(lot < SHOWN_AS_MASK, mask_id)
