"""``stillroom check``: data files looked over before anything else is.

.venv/bin/python -m pytest tests/cli/test_check.py
"""

import json

import pytest
from tests.cli.conftest import sums, write_rows

PAIRS = [{"anchor": "a", "positive": "b"}, {"anchor": "c", "positive": "d"}]


def test_good_rows_are_counted_and_their_format_is_named(stillroom, shop):
    told = stillroom("check", shop.rows)
    assert (told.code, told.err) == (0, "")
    assert told.out == f"{shop.rows}: 60 rows of the format completion, all good\n"
    told = json.loads(stillroom("check", shop.rows, "--json").out)
    assert (told["rows"], told["format"]) == (60, "completion") and {"prompt", "completion"} <= set(told["columns"])


@pytest.mark.parametrize("method", ["sft", "taid", "forward_kl"])
def test_rows_that_a_method_can_learn_from(stillroom, shop, method):
    assert stillroom("check", shop.rows, "--for", method).code == 0


def test_rows_that_it_cannot(stillroom, tmp_path):
    pairs = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    assert stillroom("check", pairs, "--for", "distilcse").code == 0
    told = stillroom("check", pairs, "--for", "taid")
    assert (told.code, told.out) == (2, "")
    assert "'pair', and 'taid' reads text or completion or chat" in told.err


def test_a_method_that_is_not_there(stillroom, shop):
    told = stillroom("check", shop.rows, "--for", "tiad")
    assert told.code == 2 and "did you mean 'taid'?" in told.err


def test_the_bad_row_is_named_by_file_and_line(stillroom, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([json.dumps(row) for row in sums(40)] + ['{"prompt": 3, "completion": "x"}']) + "\n")
    told = stillroom("check", path)
    assert told.code == 2 and "bad.jsonl line 41: 'prompt' must be a string; found a number" in told.err


def test_two_different_rows_under_one_id_are_named(stillroom, tmp_path):
    rows = [{"id": "7", "text": "one"}, {"id": "8", "text": "two"}, {"id": "7", "text": "three"}]
    told = stillroom("check", write_rows(tmp_path / "ids.jsonl", rows))
    assert told.code == 2 and "same id '7'" in told.err and "line 1" in told.err and "line 3" in told.err


def test_columns_that_make_no_format(stillroom, tmp_path):
    told = stillroom("check", write_rows(tmp_path / "odd.jsonl", [{"question": "a", "answer": "b"}]))
    assert told.code == 2 and "question, answer make none of the formats" in told.err and "messages" in told.err
