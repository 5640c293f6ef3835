"""A part of a batch: every tensor's rows, the teacher's signals among them.

.venv/bin/python -m pytest tests/test_signals.py
"""

import pytest
import torch

from stillroom.signals import Batch, Needs, Signals, TopK


def test_a_part_of_a_batch_has_the_rows_that_were_asked_for():
    numbers = torch.arange(4)
    kept = TopK(numbers[:, None, None], numbers[:, None, None].float(), numbers[:, None].float())
    whole = Batch(
        ids=list("abcd"),
        student={"input_ids": numbers[:, None]},
        teacher={"pixel_values": 10 * numbers},
        mask=numbers > 0,
        labels=numbers,
        columns={"names": list("abcd")},
        emitted=Signals(
            towers={"image": 100 * numbers}, scale=torch.tensor(7.0), topk=kept, text=list("wxyz"), hidden={2: numbers}
        ),
    )
    part = whole.take(torch.tensor([3, 0]))
    assert part.ids == ["d", "a"] and part.columns == {} and part.shared is None
    assert part.student["input_ids"].tolist() == [[3], [0]] and part.teacher["pixel_values"].tolist() == [30, 0]
    assert part.mask.tolist() == [True, False] and part.labels.tolist() == [3, 0]
    assert part.emitted.towers["image"].tolist() == [300, 0] and float(part.emitted.scale) == 7
    assert part.emitted.topk.ids.flatten().tolist() == [3, 0] and part.emitted.text == ["z", "w"]
    assert part.emitted.hidden[2].tolist() == [3, 0]


def test_an_unknown_need_is_refused():
    Needs(student=("tower:image", "scale", "bias", "tap:x"))
    with pytest.raises(ValueError, match="unknown need 'tower'"):
        Needs(student=("tower",))
