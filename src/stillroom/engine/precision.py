"""Which arithmetic a machine is quick at."""

from __future__ import annotations

import torch


def resolve(precision: str, device: str = "auto") -> str:
    """What ``auto`` means on this machine: bf16 where the hardware multiplies it natively, else float32 (``no``).

    Args:
        precision: auto, no, bf16 or fp16.
        device: ``cpu`` to leave an accelerator aside.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available() and device != "cpu":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "no"
