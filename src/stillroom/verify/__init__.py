"""Verifiers: what a model wrote is read, solved or run, and held against what is known. Nothing in it is trusted.

Text is parsed by a whitelist; what must be executed (programs, SQL, systems of equations that are not linear) runs in
a limited process of its own (`stillroom.verify.limited`). What fails is no exception but a `Failed`, with one of a few
reasons, so that it can be counted.
"""

from stillroom.verify.answers import number_in, same_number, stated_number
from stillroom.verify.equations import solve, value_of
from stillroom.verify.limited import Failed
from stillroom.verify.programs import run_program
from stillroom.verify.votes import vote

__all__ = [
    "Failed",
    "number_in",
    "run_program",
    "same_number",
    "solve",
    "stated_number",
    "value_of",
    "vote",
]
