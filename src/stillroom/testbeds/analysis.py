"""`analysis`: what models know and what was done to them; each ground is in a module of its own."""

from __future__ import annotations

from stillroom.testbeds.base import Bench
from stillroom.testbeds.graded_facts import DOUBTED
from stillroom.testbeds.laundering import LAUNDERED
from stillroom.testbeds.principles import BENCHES as SURVEYS

BENCHES: dict[str, Bench] = {"semantic-entropy-probes": DOUBTED, "data-laundering": LAUNDERED, **SURVEYS}
