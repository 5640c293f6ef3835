"""Several teachers as one: each row to the teacher that its column names, or all mixed by weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from stillroom.errors import UserError, nearest
from stillroom.signals import Batch, Signals, TopK
from stillroom.teachers.base import Teacher


class GroupTeacher:
    """Teachers by name, with a rule that says who speaks for a row.

    Args:
        teachers: name -> teacher. Their signals must have the same shapes.
        route: the column whose value names a row's teacher.
        mix: name -> weight, normalised to sum 1. Distributions are mixed as probabilities (the mixture's log-probs are
            returned as logits), embeddings and scores as weighted sums.

    Raises:
        ValueError: neither or both of ``route`` and ``mix`` are given, or ``mix`` names other teachers.
    """

    def __init__(
        self, teachers: Mapping[str, Teacher], *, route: str | None = None, mix: Mapping[str, float] | None = None
    ) -> None:
        if (route is None) == (mix is None):
            raise ValueError("give either route (a column) or mix (weights)")
        if mix is not None and (set(mix) != set(teachers) or min(mix.values()) < 0 or not sum(mix.values())):
            raise ValueError(f"mix needs one weight >= 0 for each of {sorted(teachers)}; it names {sorted(mix)}")
        self.teachers, self.route, self.mix = dict(teachers), route, mix

    def __call__(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        """The signals of whoever speaks for each row."""
        if self.mix is not None:
            return self._mixed(batch, needs)
        return self._routed(batch, needs)

    def _mixed(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        if outside := [need for need in needs if need not in ("logits", "embedding", "scores")]:
            raise UserError(f"{outside[0]} can't be mixed between teachers; route rows to one teacher each instead")
        assert self.mix is not None
        total = sum(self.mix.values())
        mixed: dict[str, Tensor] = {}
        for name, teacher in self.teachers.items():
            share = self.mix[name] / total
            if not share:
                continue
            signals = teacher(batch, needs)
            if signals.logits is not None:
                log_probs = signals.logits.float().log_softmax(-1) + math.log(share)
                mixed["logits"] = torch.logaddexp(mixed["logits"], log_probs) if "logits" in mixed else log_probs
            for kind in ("embedding", "scores"):
                if (value := getattr(signals, kind)) is not None:
                    mixed[kind] = mixed[kind] + share * value if kind in mixed else share * value
        return Signals(logits=mixed.get("logits"), embedding=mixed.get("embedding"), scores=mixed.get("scores"))

    def _routed(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        assert self.route is not None
        if whole := [need for need in needs if need in ("scale", "bias")]:
            raise UserError(f"the {whole[0]} is one number for a whole batch, so its rows can't go to several teachers")
        if self.route not in batch.columns:
            raise UserError(f"rows have no column {self.route!r} to choose a teacher by")
        names = [str(name) for name in batch.columns[self.route]]
        for name in names:
            if name not in self.teachers:
                raise UserError(f"a row asks for the teacher {name!r}{nearest(name, self.teachers)}")
        found: Signals | None = None
        for name in dict.fromkeys(names):
            rows = torch.tensor([place for place, other in enumerate(names) if other == name], device=batch.mask.device)
            part = self.teachers[name](batch.take(rows), needs)
            found = _scatter(found, part, rows, len(names))
        assert found is not None
        return found


def _scatter(whole: Signals | None, part: Signals, rows: Tensor, count: int) -> Signals:
    """Put the rows of ``part`` at their places in ``whole``."""

    def put(old: Any, new: Any) -> Any:
        if isinstance(new, Tensor):
            out = new.new_zeros(count, *new.shape[1:]) if old is None else old
            out[rows] = new
            return out
        if isinstance(new, TopK):
            return TopK(*(put(before, after) for before, after in zip(old or (None,) * 3, new, strict=True)))
        if isinstance(new, dict):
            return {name: put((old or {}).get(name), value) for name, value in new.items()}
        if isinstance(new, list) and new and isinstance(new[0], str):
            out = [""] * count if old is None else old
            for place, text in zip(rows.tolist(), new, strict=True):
                out[place] = text
            return out
        return new

    return Signals(
        **{item.name: put(getattr(whole, item.name, None), getattr(part, item.name)) for item in fields(part)}
    )
