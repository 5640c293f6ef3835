"""`lexical`: words and texts as vectors; each ground is in a module of its own."""

from __future__ import annotations

from stillroom.testbeds.base import Bench
from stillroom.testbeds.topics import SEPARATED
from stillroom.testbeds.word_vectors import RETROFITTED

BENCHES: dict[str, Bench] = {"retrofitting": RETROFITTED, "s3-topics": SEPARATED}
