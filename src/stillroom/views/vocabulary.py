"""Do two tokenizers mean the same by an id? Compared by their vocabularies, never by the width of a model's logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Read by both tokenizers to see that they also cut text alike, which a vocabulary alone does not show.
PROBE = (
    "def total(prices: list[float]) -> float:\n\treturn sum(prices)  # the sum, 12345.67 in all",
    "Ein naïver Käfer läuft übers Straßenpflaster; 東京は雨です。 🙂 don't  stop",
    "",
)


@dataclass(frozen=True)
class Agreement:
    """What two tokenizers share.

    shared: ids from 0 up to here mean the same token in both. sizes: of the two vocabularies, without padding.
    same_cuts: they split the probe texts into the same ids.
    """

    shared: int
    sizes: tuple[int, int]
    same_cuts: bool

    @property
    def usable(self) -> bool:
        """Whether one's logits can be compared with the other's, id by id, over the shared ids.

        At most one in a hundred ids may lie beyond the shared ones: special tokens that one side has and the other not.
        """
        return self.same_cuts and self.shared >= 0.99 * max(self.sizes)

    def __str__(self) -> str:
        if self.shared == self.sizes[0] == self.sizes[1] and self.same_cuts:
            return f"teacher and student share all {self.shared:,} token ids"
        if self.usable:
            return (
                f"teacher and student share token ids 0 to {self.shared - 1:,} (their vocabularies have "
                f"{self.sizes[0]:,} and {self.sizes[1]:,}); both are cut to these"
            )
        why = "split text differently" if not self.same_cuts else f"agree on {self.shared:,} ids only"
        return f"the tokenizers of teacher ({self.sizes[0]:,} tokens) and student ({self.sizes[1]:,}) {why}"


def compare(teacher: Any, student: Any) -> Agreement:
    """Compare two tokenizers by what their ids stand for and by how they cut a few texts."""
    of_teacher = {place: token for token, place in teacher.get_vocab().items()}
    of_student = {place: token for token, place in student.get_vocab().items()}
    shared = 0
    while shared in of_teacher and of_teacher[shared] == of_student.get(shared):
        shared += 1
    cuts = [[each(text, add_special_tokens=False)["input_ids"] for text in PROBE] for each in (teacher, student)]
    return Agreement(shared, (len(of_teacher), len(of_student)), cuts[0] == cuts[1])
