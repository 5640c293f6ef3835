"""A calculator inside decoding: what a model opens as a sum, ``<<48/2=``, is finished with the right number.

GSM8K's solutions carry such marks (Cobbe et al. 2021). Sums are read by a whitelist and computed exactly
(`stillroom.verify.equations`); nothing that a model wrote is evaluated.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from stillroom.verify.equations import value_of
from stillroom.verify.limited import Failed

_WINDOW = 64  # tokens at the end of a text in which an open sum is looked for


class Calculator(LogitsProcessor):
    """Forces the result and the closing bracket of each sum that a row leaves open, row by row.

    It keeps nothing between two steps: what is to be forced is read off the text so far, so rows may change places (as
    in a beam search), and a batch may be of any size. A sum that can't be computed is left to the model.

    Args:
        tokenizer: of the model.
        opening: the mark that begins a sum.
        closing: the mark that ends it, after the result. Where the tokenizer makes one token of the mark and what
            always follows it (``>>.``), give both: forced alone, the mark would be another token than was learnt.
        before: what stands between ``=`` and the result, such as a space.
        digits: decimals that a result is rounded to, at least 0; whole numbers have none.
        negative: whether results below 0 are forced, too.

    Raises:
        ValueError: an empty mark, or digits below 0.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        opening: str = "<<",
        closing: str = ">>",
        before: str = "",
        digits: int = 2,
        negative: bool = False,
    ) -> None:
        if not opening or not closing.strip() or digits < 0:
            raise ValueError("a sum needs marks to open and close it, and its result at least 0 digits")
        self.tokenizer, self.opening, self.closing, self.before = tokenizer, opening, closing, before
        self.digits, self.negative = digits, negative
        texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
        self.equals = torch.tensor([text.rstrip().endswith("=") for text in texts])
        self.longest = 24  # tokens of a result with its closing mark, at most

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V], with all but one token of a row at -inf where that one is forced; input_ids [B, L]."""
        recent = input_ids[:, -self.longest :]
        known = self.equals.to(recent.device)
        waiting = (known[recent.clamp(max=len(known) - 1)] & (recent < len(known))).any(1)  # rows with a recent "="
        forced = {row: token for row in waiting.nonzero()[:, 0].tolist() if (token := self._next(input_ids[row])) >= 0}
        if not forced:
            return scores
        rows = torch.tensor(list(forced), device=scores.device)
        tokens = torch.tensor(list(forced.values()), device=scores.device)
        out = scores.clone()
        out[rows] = -math.inf
        out[rows, tokens] = 0.0
        return out

    def _next(self, ids: Tensor) -> int:
        """The token that must come next in a row; -1 where the model is free."""
        tail = ids[-_WINDOW:].tolist()
        place = max((number for number, token in enumerate(tail) if self._is_equals(token)), default=-1)
        if place < 0:
            return -1
        _, opened, expression = self.tokenizer.decode(tail[: place + 1]).rpartition(self.opening)
        expression = expression.rstrip()
        if not opened or self.closing.strip() in expression or not expression.endswith("=") or "=" in expression[:-1]:
            return -1
        result = self._result(expression[:-1])
        if result is None:
            return -1
        wanted = self.tokenizer(self.before + result + self.closing, add_special_tokens=False)["input_ids"]
        written = tail[place + 1 :]
        return wanted[len(written)] if len(written) < len(wanted) and wanted[: len(written)] == written else -1

    def _is_equals(self, token: int) -> bool:
        return token < len(self.equals) and bool(self.equals[token])

    def _result(self, expression: str) -> str | None:
        value = value_of(expression)
        if isinstance(value, Failed) or (value < 0 and not self.negative):
            return None
        return shown(value, self.digits)


def shown(value: Fraction, digits: int = 2) -> str:
    """A number as it is written: whole, or with so many decimals, without zeros at the end."""
    rounded = round(value * 10**digits)
    whole, part = divmod(abs(rounded), 10**digits)
    decimals = f"{part:0{digits}d}".rstrip("0") if digits else ""
    return f"{'-' if rounded < 0 else ''}{whole}{'.' if decimals else ''}{decimals}"
