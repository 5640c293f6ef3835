"""The ground of the family `language`: its rows, what it measures, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_language.py
"""

import json
import re
from pathlib import Path
from statistics import mean, stdev

import pytest

from stillroom.data.arithmetic import evaluate
from stillroom.reproduce import reproduce
from stillroom.testbeds import language
from stillroom.views.load import open_model

pytestmark = pytest.mark.usefixtures("own_cache")


def rows(part):
    return [json.loads(line) for line in Path(language.problems(part, True)).read_text().splitlines()]


def test_problems_are_easy_and_right_and_no_part_asks_what_another_does():
    everything = [row for part in language.SHARES for row in rows(part)]
    assert min(len(rows(part)) for part in language.SHARES) >= 8
    for row in everything:
        assert max(map(int, re.findall(r"\d+", row["prompt"] + row["completion"]))) <= 30
        sums = re.findall(r"(\d+ [-+*/] \d+) = (\d+)", row["completion"])
        assert 1 <= len(sums) <= 2 and all(evaluate(left) == int(right) for left, right in sums)
        assert row["completion"].endswith(f"The answer is {row['answer']}.") and sums[-1][1] == row["answer"]
        assert row["completion"].startswith(" ")
    assert len({row["prompt"] for row in everything}) == len(everything)


def test_the_share_of_right_answers_is_counted(monkeypatch):
    """Two problems are answered rightly, one of them without an end; the others wrongly, in one way or another."""
    opened = open_model(language.start(smoke=True), "language", max_length=language.WINDOW)
    wanted = rows("test")
    said = [row["completion"] for row in wanted]
    said[2:] = ["I don't know"] * (len(said) - 2)
    said[2] = f" The answer is {int(wanted[2]['answer']) + 1}."
    said[3] = f" The answer is {wanted[3]['answer']}1."
    said[4] = f" It is {wanted[4]['answer']}."
    said[5] = " The answer is"
    said[6] = f" The answer is {int(wanted[6]['answer']) + 1}. The answer is {wanted[6]['answer']}."
    end = opened.view.tokenizer.eos_token_id
    ids = [opened.view.tokenizer(text, add_special_tokens=False)["input_ids"] + [end] for text in said]
    ids[1].pop()
    monkeypatch.setattr(language, "answers", lambda *_, **__: ids)
    found = language.solved(opened, smoke=True)
    assert found["exact_match"] == 2 / len(wanted)
    assert found["kl_own"] > 0 and found["kl_data"] > 0


def test_the_distance_is_none_for_the_teacher_itself():
    opened = open_model(language.teacher(smoke=True), "language", max_length=language.WINDOW)
    found = language.solved(opened, smoke=True)
    assert found["kl_own"] == pytest.approx(0, abs=1e-6) and found["kl_data"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("slug", sorted(language.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    bench = language.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    everybody = {slug, bench.versus} | ({"teacher", "untrained"} if bench.recipe else set())
    assert everybody <= set(result["systems"])
    assert all(system["values"][0] is not None for system in result["systems"].values())
    assert "verdict" not in result


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher solves more problems than a student that is trained without it, by more than its seeds differ."""
    systems = reproduce("taid", folder=tmp_path)["systems"]
    taught, alone = (systems[name]["metrics"]["exact_match"] for name in ("teacher", "sft"))
    assert min(taught) - mean(alone) > 3 * stdev(alone)
