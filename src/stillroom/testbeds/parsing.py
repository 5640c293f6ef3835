"""`parsing`: questions about countries with their meanings, and sentences whose trees a grammar knows.

The first is the ground of semantic parsers (`stillroom.testbeds.meanings`), the second that of parsers to trees
(`stillroom.testbeds.treebank`).
"""

from __future__ import annotations

from stillroom.testbeds.base import Bench
from stillroom.testbeds.meanings import PARSED
from stillroom.testbeds.treebank import AVERAGED

BENCHES: dict[str, Bench] = {"constrained-lm-parser": PARSED, "tree-averaging": AVERAGED}
