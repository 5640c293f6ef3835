"""`digits`: 1,797 scanned handwritten digits, as scikit-learn carries them (Alpaydin and Kaynak, 1998).

Columns of the one view, `images`: id; image, 8 x 8 numbers in [0, 1], 1 is ink; label, the digit.
Splits are the same share of each digit: train 70 %, validation 15 %, test 15 %. No image occurs twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.data.tables import sample, share
from stillroom.errors import need

if TYPE_CHECKING:
    from datasets import Dataset

VIEWS = {"images": "labelled-image"}
EDGES = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}
SPLITS = tuple(EDGES)
BRIGHTEST = 16


def load(view: str, split: str, limit: int | None, seed: int) -> Dataset:
    """``limit`` images of a split, drawn with ``seed``, or all."""
    need("sklearn", "lexical")
    import datasets
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    chosen = sorted(place for digit in range(10) for place in _part([*(labels == digit).nonzero()[0]], split))
    features = datasets.Features(
        id=datasets.Value("string"),
        image=datasets.Array2D((8, 8), "float32"),
        label=datasets.ClassLabel(names=[str(digit) for digit in range(10)]),
    )
    columns = {
        "id": [f"digit-{place}" for place in chosen],
        "image": (images[chosen].reshape(-1, 8, 8) / BRIGHTEST).astype("float32"),
        "label": labels[chosen],
    }
    return sample(datasets.Dataset.from_dict(columns, features=features), limit, seed)


def _part(places: list[int], split: str) -> list[int]:
    """The split's share of one digit's images, which are put in an order that has nothing to do with who wrote them."""
    mixed = sorted(places, key=lambda place: share(f"digit-{place}"))
    low, high = (round(edge * len(mixed)) for edge in EDGES[split])
    return mixed[low:high]
