"""Several data sets as one, in chosen proportions, with a column that says where each row comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stillroom.errors import UserError, nearest
from stillroom.synthesis.account import Outcome, accounted
from stillroom.synthesis.columns import beside, free

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

NOT_DRAWN = "not drawn"


def mix(
    datasets: Mapping[str, Dataset],
    *,
    counts: Mapping[str, int] | None = None,
    weights: Mapping[str, float] | None = None,
    temperature: float | None = None,
    rows: int | None = None,
    repeat: bool = False,
    column: str = "source",
    seed: int = 0,
    stage: str = "mix",
) -> Outcome:
    """Draw from each data set and shuffle.

    One of ``counts``, ``weights`` and ``temperature`` says how much of each: so many rows, or shares. A temperature T
    gives a data set of n rows a share proportional to n^(1/T): 1 keeps the sizes' proportions, a large one makes the
    shares equal. What is drawn of one data set does not depend on the others, but for its number.

    Args:
        datasets: name -> rows. Columns that one lacks are null in its rows.
        counts: name -> rows to draw.
        weights: name -> weight, of at least 0; shares are weights over their sum.
        temperature: above 0.
        rows: how many there will be, with weights or a temperature; as many as the shares allow without repeating a
            row if not given.
        repeat: a data set may be drawn from more often than it has rows. Each of its rows then comes equally often,
            give or take one.
        column: for the name of the source.
        seed: of the draw and of the order.
        stage: name in the account.

    Raises:
        UserError: a name is not known, or more rows are wanted than there are and ``repeat`` is off.
    """
    from datasets import concatenate_datasets

    if sum(option is not None for option in (counts, weights, temperature)) != 1:
        raise ValueError("give one of counts, weights and temperature")
    sizes = {name: len(part) for name, part in datasets.items()}
    for part in datasets.values():
        free(part, [column])
    if counts is not None:
        wanted = {name: counts.get(name, 0) for name in sizes}
        _known(counts, sizes)
    else:
        wanted = numbers(sizes, _shares(sizes, weights, temperature), rows, repeat)
    with accounted(stage) as account:
        account.rows = sum(sizes.values())
        parts = []
        for name, part in datasets.items():
            number, size = wanted[name], sizes[name]
            if number < 0 or (number > size and (not repeat or size == 0)):
                way = "; allow repeats, or ask for fewer" if size else ""
                raise UserError(f"{number} rows of {name!r} are wanted, and it has {size}{way}")
            account.added += max(number - size, 0)
            account.rejected[NOT_DRAWN] += max(size - number, 0)
            account.kept += number
            if number:
                parts.append(beside(part, _drawn(size, number, _generator(seed, name)), {column: [name] * number}))
        account.rejected = +account.rejected
        if not parts:
            raise UserError("nothing is drawn from any data set")
        try:
            whole = concatenate_datasets(parts)
        except ValueError as error:
            raise UserError(f"the data sets do not fit together: {error}; give their columns the same types") from None
        order = _generator(seed, "").permutation(len(whole))
    return Outcome(whole.select(order), account)


def numbers(
    sizes: Mapping[str, int], shares: Mapping[str, float], rows: int | None = None, repeat: bool = False
) -> dict[str, int]:
    """How many rows of each make these shares (Hamilton's method of largest remainders, so they add up to ``rows``).

    Args:
        sizes: name -> rows that there are.
        shares: name -> share, adding up to 1.
        rows: in all; if not given, as many as there are with repeats, else as many as no data set is exhausted by.
        repeat: see `mix`.
    """
    if rows is None:
        fits = (int(sizes[name] / share + 1e-9) for name, share in shares.items() if share > 0)
        rows = sum(sizes.values()) if repeat else min(fits)
    exact = {name: shares[name] * rows for name in sizes}
    found = {name: int(number + 1e-9) for name, number in exact.items()}
    left = rows - sum(found.values())
    for name in sorted(sizes, key=lambda name: (found[name] - exact[name], name))[:left]:
        found[name] += 1
    return found


def _shares(
    sizes: Mapping[str, int], weights: Mapping[str, float] | None, temperature: float | None
) -> dict[str, float]:
    if weights is not None:
        _known(weights, sizes)
        if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
            raise UserError("weights are at least 0, and one of them is above 0")
        heavy = {name: float(weights.get(name, 0)) for name in sizes}
    else:
        assert temperature is not None
        if temperature <= 0:
            raise UserError(f"the temperature must be above 0; it is {temperature}")
        largest = max(sizes.values(), default=0)  # relative sizes, so that a small temperature does not overflow
        heavy = {name: (size / largest) ** (1 / temperature) if size else 0.0 for name, size in sizes.items()}
    whole = sum(heavy.values())
    if not whole:
        raise UserError("all data sets are empty")
    return {name: weight / whole for name, weight in heavy.items()}


def _known(asked: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    for name in asked:
        if name not in sizes:
            raise UserError(f"there is no data set {name!r} to mix{nearest(name, sizes)}")


def _drawn(size: int, number: int, generator: np.random.Generator) -> list[int]:
    """Whole passes, then a draw without replacement, in the old order."""
    import numpy as np

    passes, rest = divmod(number, size)
    last = np.sort(generator.permutation(size)[:rest])
    return [*list(range(size)) * passes, *last.tolist()]


def _generator(seed: int, name: str) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
