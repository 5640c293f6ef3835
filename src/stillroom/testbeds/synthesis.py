"""`synthesis`: pipelines that make data, each on a world in which what they write can be checked.

Triples about words that WordNet confirms or not (`stillroom.testbeds.knowledge`), and quotes that a question in two
steps needs (`stillroom.testbeds.quoting`).
"""

from __future__ import annotations

from stillroom.testbeds.base import Bench
from stillroom.testbeds.knowledge import WRITTEN
from stillroom.testbeds.quoting import QUOTED

BENCHES: dict[str, Bench] = {"symbolic-kd": WRITTEN, "llmquoter": QUOTED}
