"""Where to cut a critic's scores: as high as keeps enough of the good rows, or as low as is precise enough.

Choose it on labelled rows that are not those to be filtered, and keep what scores strictly higher
(`stillroom.synthesis.filters.above`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stillroom.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Threshold(NamedTuple):
    """A cut, and what scoring strictly higher means on the labelled rows.

    Attributes:
        value: of the score; minus infinity where everything is kept.
        recall: share of the good rows that is kept.
        precision: share of the kept rows that is good; 1 where none is kept.
        kept: share of all rows that is kept.
    """

    value: float
    recall: float
    precision: float
    kept: float


def threshold_for(
    scores: Sequence[float],
    good: Sequence[bool],
    *,
    recall: float | None = None,
    precision: float | None = None,
) -> Threshold:
    """The highest threshold that keeps a recall of at least ``recall``, or the lowest with at least that precision.

    Args:
        scores: of the labelled rows, higher for better ones; no NaN.
        good: their labels.
        recall: in (0, 1].
        precision: in (0, 1]; give one of the two.

    Raises:
        UserError: all labels are the same, so nothing can be chosen; or no threshold is that precise.
    """
    import numpy as np

    if (recall is None) == (precision is None):
        raise ValueError("give either a recall or a precision")
    values, labels = _checked(scores, good)
    cuts = np.concatenate([[-np.inf], np.unique(values)])
    found = [_at(cut, values, labels) for cut in cuts.tolist()]
    if recall is not None:
        return max(cut for cut in found if cut.recall >= recall)
    fitting = [cut for cut in found if cut.precision >= (precision or 0) and cut.kept > 0]
    if not fitting:
        best = max(cut.precision for cut in found if cut.kept > 0)
        raise UserError(f"no threshold is {precision:g} precise on these rows; the best is {best:.3f}")
    return fitting[0]


def crossing(scores: Sequence[float], good: Sequence[bool], *, recall: float) -> Threshold:
    """Where the recall falls to ``recall``, going up: the lowest of the scores which few enough good rows reach.

    The recall that is compared counts rows that reach a score; what is kept scores strictly higher, and so its recall
    is ``recall`` at most, where `threshold_for` sees to it that it is at least that.

    Args:
        scores: of the labelled rows, higher for better ones; no NaN.
        good: their labels.
        recall: in (0, 1].

    Raises:
        UserError: all labels are the same; or even the highest score is reached by a larger share of the good rows.
    """
    values, labels = _checked(scores, good)
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be in (0, 1]; it is {recall}")
    import numpy as np

    for cut in np.unique(values).tolist():
        if ((values >= cut) & labels).sum() <= recall * labels.sum():
            return _at(cut, values, labels)
    raise UserError(f"more than {recall:g} of the good rows have the highest score; let the critic tell them apart")


def _checked(scores: Sequence[float], good: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    import numpy as np

    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(good, dtype=bool)
    if values.shape != labels.shape or values.ndim != 1 or np.isnan(values).any():
        raise ValueError("there must be as many scores as labels, and no NaN among them")
    if labels.all() or not labels.any():
        raise UserError("a threshold needs both good and bad labelled rows; add some of the other kind")
    return values, labels


def _at(cut: float, values: NDArray[np.float64], labels: NDArray[np.bool_]) -> Threshold:
    above = values > cut
    hits, kept = int((above & labels).sum()), int(above.sum())
    return Threshold(cut, hits / int(labels.sum()), hits / kept if kept else 1.0, kept / len(values))
