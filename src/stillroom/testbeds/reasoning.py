"""`reasoning`: small Llamas that learn to solve word problems from checked thoughts, and from their own attempts.

What is measured on each ground is the share of problems whose answer is right. For `mix-thoughts` see
`stillroom.testbeds.thoughts`, for `dpo-self-training` `stillroom.testbeds.attempts`.
"""

from __future__ import annotations

from stillroom.testbeds.attempts import ATTEMPTED
from stillroom.testbeds.base import Bench
from stillroom.testbeds.thoughts import MIXED

BENCHES: dict[str, Bench] = {"dpo-self-training": ATTEMPTED, "mix-thoughts": MIXED}
