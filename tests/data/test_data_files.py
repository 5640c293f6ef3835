"""Files, globs and the hub: read, checked, refused by file and line, split without leaks.

Run: pytest tests/data/test_data_files.py
"""

import json
import os
import subprocess
import sys

import datasets
import pytest
from PIL import Image

from stillroom.data import cache_folder, load, row_id, split_rows
from stillroom.errors import UserError

CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def refusal(source, **arguments):
    with pytest.raises(UserError) as caught:
        load(source, **arguments)
    return str(caught.value)


# --- what comes in ---


def test_jsonl_keeps_columns_and_gives_ids(write):
    rows = [{"text": f"text {number}", "page": number} for number in range(2500)]
    found = load(write(rows))
    assert found.column_names == ["text", "page", "id"]
    assert found["text"][:] == [row["text"] for row in rows]
    assert found["id"][1234] == row_id(rows[1234])
    assert found.cache_files, "the table is mapped from a file"


def test_ids_that_rows_bring_become_text(write):
    assert load(write([{"id": 5, "text": "a"}, {"id": 6, "text": "b"}]))["id"][:] == ["5", "6"]


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('\ufeff{"text": "a"}\n\n{"text": "b"}\n   \n')
    assert load(path)["text"][:] == ["a", "b"]


def test_types_are_learnt_from_all_rows(write):
    rows = [{"text": "t", "score": None, "extra": 1} for _ in range(1500)] + [{"text": "t", "score": 0.5, "extra": 1.5}]
    found = load(write(rows))
    assert found.features["score"].dtype == found.features["extra"].dtype == "float64"
    assert found[1500]["score"] == 0.5


def test_a_column_that_comes_late_is_there(write):
    found = load(write([{"text": "a"}] * 1200 + [{"text": "b", "note": "late"}]))
    assert found[0]["note"] is None
    assert found[1200]["note"] == "late"


def test_json_csv_and_parquet_give_the_same_rows(tmp_path):
    rows = [{"prompt": f'with "quotes", {number}\nand lines', "completion": f"c{number}"} for number in range(5)]
    table = datasets.Dataset.from_list(rows)
    (tmp_path / "x.json").write_text(json.dumps(rows, indent=2))
    table.to_csv(tmp_path / "x.csv")
    table.to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = [load(tmp_path / f"x.{ending}").to_list() for ending in ("jsonl", "json", "csv", "parquet")]
    assert found[0] == found[1] == found[2] == found[3]
    assert [row["prompt"] for row in found[0]] == [row["prompt"] for row in rows]


def test_lists_and_globs_join_files(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": name}) + "\n")
    assert load(str(tmp_path / "*.jsonl"))["text"][:] == ["a.jsonl", "b.jsonl"]
    assert load(str(tmp_path / "*" / "*.jsonl"))["text"][:] == ["deep/c.jsonl"]
    assert load([tmp_path / "b.jsonl", str(tmp_path / "deep" / "*.jsonl")])["text"][:] == ["b.jsonl", "deep/c.jsonl"]


def test_negatives_are_always_a_list(write):
    rows = [{"anchor": "a", "positive": "b", "negative": "c"}, {"anchor": "a", "positive": "b", "negative": ["c", "d"]}]
    assert load(write(rows))["negative"][:] == [["c"], ["c", "d"]]


def test_label_names_become_numbers(write):
    path = write([{"text": "a", "label": "wet"}, {"text": "b", "label": "dry"}, {"text": "c", "label": "wet"}])
    found = load(path)
    assert found.features["label"].names == ["dry", "wet"]
    assert found["label"][:] == [1, 0, 1]
    assert load(path, classes=["wet", "dry", "ice"])["label"][:] == [0, 1, 0]
    assert load(path, format="text")["label"][:] == ["wet", "dry", "wet"]


def test_csv_labels_of_digits_are_numbers(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\nfirst,0\nsecond,2\n")
    assert load(tmp_path / "x.csv")["label"][:] == [0, 2]


def test_images_are_found_from_the_folder_of_their_file(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    Image.new("L", (3, 2), 255).save(tmp_path / "pictures" / "white.png")
    (tmp_path / "x.jsonl").write_text(json.dumps({"image": "pictures/white.png", "label": "white"}) + "\n")
    monkeypatch.chdir("/")
    found = load(tmp_path / "x.jsonl")
    assert found[0]["image"].size == (3, 2)
    assert found[0]["id"] == row_id({"image": "pictures/white.png", "label": "white"}), "wherever the folder lies"
    (tmp_path / "x.jsonl").write_text(json.dumps({"image": "pictures/black.png", "label": "white"}) + "\n")
    assert refusal(tmp_path / "x.jsonl").startswith("x.jsonl line 1: there is no image 'pictures/black.png' in ")


# --- what is refused ---

BAD = [
    ('{"messages": "hi"}', "x.jsonl line 3: 'messages' must be a list of {role, content}; found a string"),
    ('{"messages": [}', "x.jsonl line 3: not valid JSON: Expecting value at character 15"),
    ("[1, 2]", "x.jsonl line 3: a row must be an object with named columns; found a list"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_is_named(tmp_path, line, message):
    good = json.dumps({"messages": CHAT})
    (tmp_path / "x.jsonl").write_text(f"{good}\n{good}\n{line}\n{good}\n")
    assert refusal(tmp_path / "x.jsonl") == message


def test_a_bad_row_of_json_is_named_by_its_line(tmp_path):
    (tmp_path / "x.json").write_text('[\n  {"text": "a"},\n  {\n    "text": 4\n  }\n]\n')
    assert refusal(tmp_path / "x.json") == "x.json line 3: 'text' must be a string; found a number"
    (tmp_path / "x.json").write_text('[\n  {"text": "a"}\n  {"text": "b"}\n]\n')
    assert refusal(tmp_path / "x.json").startswith("x.json line 2: not valid JSON: after this row a comma")
    (tmp_path / "x.json").write_text('[\n  {"text": "a"},\n  {"text": \n')
    assert refusal(tmp_path / "x.json").startswith("x.json line 3: not valid JSON") or "line 4" in refusal(
        tmp_path / "x.json"
    )
    (tmp_path / "x.json").write_text('{"text": "a"}\n')
    assert "must hold a list of rows" in refusal(tmp_path / "x.json")


def test_a_bad_row_of_csv_is_named_by_the_line_it_begins_on(tmp_path):
    (tmp_path / "x.csv").write_text('text\n"two\nlines"\n""\n')
    assert refusal(tmp_path / "x.csv") == "x.csv line 4: 'text' is missing (found no columns)"
    (tmp_path / "x.csv").write_text('prompt,completion\na,"b\nb"\n"c\nc",\n')
    assert refusal(tmp_path / "x.csv") == "x.csv line 4: 'completion' is missing (found prompt)"
    (tmp_path / "x.csv").write_text("prompt,completion\na,b\na,b,c\n")
    assert refusal(tmp_path / "x.csv") == "x.csv line 3: 3 values, where the header names 2 columns"


def test_a_bad_row_of_parquet_is_named_by_number(tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "b", None]}).to_parquet(tmp_path / "x.parquet")
    assert refusal(tmp_path / "x.parquet") == "x.parquet row 3: 'text' is missing (found no columns)"
    (tmp_path / "x.parquet").write_text("nothing of the kind")
    assert refusal(tmp_path / "x.parquet").startswith("x.parquet: not a Parquet file")


def test_missing_files_name_the_nearest(tmp_path, write, monkeypatch):
    path = write([{"text": "a"}], "chats.jsonl")
    assert refusal(tmp_path / "chat.jsonl").endswith("chat.jsonl: no such file; did you mean 'chats.jsonl'?")
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "chat.jsonl")
    assert refusal(str(tmp_path / "*.csv")).startswith("no file matches")
    assert "is a folder; name its files" in refusal(tmp_path)
    assert refusal([]) == "the list of data files is empty"
    (tmp_path / "x.txt").write_text("a")
    assert refusal(tmp_path / "x.txt") == "x.txt: files of rows end in .jsonl, .json, .csv, .parquet"
    monkeypatch.chdir(path.parent)
    assert refusal("chat.jsonl") == "chat.jsonl: no such file; did you mean 'chats.jsonl'?"
    message = refusal("pydoc")
    assert message.startswith("'pydoc' is neither a file, nor a built-in source (arithmetic, ")
    assert message.endswith("did you mean 'pydocs'?")


def test_empty_files_are_refused(tmp_path):
    for name, text in (("x.jsonl", "\n\n"), ("x.json", "[]"), ("x.csv", "text\n"), ("y.csv", "")):
        (tmp_path / name).write_text(text)
        assert refusal(tmp_path / name) == f"{name} holds no rows"


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "x.jsonl").write_bytes('{"text": "é"}\n'.encode("latin-1"))
    assert refusal(tmp_path / "x.jsonl").startswith("x.jsonl: not UTF-8 text")


def test_two_kinds_of_value_in_one_column_are_refused(write):
    rows = [{"text": "a", "score": 1}, {"text": "b", "score": "high"}]
    message = "column 'score' must hold one kind of value; found a number and a string"
    assert refusal(write(rows)) == f"rows.jsonl line 1 to rows.jsonl line 2: {message}"
    far = [rows[0]] * 1000 + [rows[1]]
    assert "column 'score' must hold one kind of value; found a string of a kind that" in refusal(write(far))


def test_labels_of_two_kinds_are_refused(write):
    path = write([{"text": "a", "label": "dry"}, {"text": "b", "label": 1}])
    assert refusal(path).startswith("rows.jsonl line 2: labels are names in some rows and numbers in others")
    assert refusal(path, classes=["wet"]).startswith("rows.jsonl line 1: label 'dry' is none of the classes wet")


def test_one_id_for_two_different_rows_is_refused(write):
    same = {"id": "a", "text": "x"}
    assert len(load(write([same, same]))) == 2, "a row that is listed twice is the same row"
    path = write([same, {"id": "b", "text": "y"}, {"id": "a", "text": "z"}])
    found = "rows.jsonl line 1 and rows.jsonl line 3 have the same id 'a' but differ; ids must be unique"
    assert refusal(path) == found


def test_nothing_is_kept_of_a_file_that_was_refused(write):
    before = set(cache_folder().glob("files/*"))
    refusal(write([{"text": "a"}, {"text": 4}]))
    assert {path.suffix for path in set(cache_folder().glob("files/*")) - before} <= {".lock"}


# --- limits and splits ---


def test_limits_draw_by_seed(write):
    path = write([{"text": str(number)} for number in range(200)])
    first = load(path, limit=20)["text"][:]
    assert first == load(path, limit=20)["text"][:]
    assert first == sorted(first, key=int)
    assert first != load(path, limit=20, seed=1)["text"][:]
    assert len(set(first)) == 20
    assert len(load(path, limit=1000)) == 200
    assert refusal(path, limit=0) == "limit must be at least 1; it is 0"


def test_splits_of_a_file_keep_groups_together_and_lose_nothing(write):
    rows = [{"text": str(number), "source": f"s{number % 150}"} for number in range(800)]
    path = write(rows)
    parts = {split: load(path, split=split, group="source") for split in ("train", "validation", "test")}
    assert sorted(text for part in parts.values() for text in part["text"]) == sorted(row["text"] for row in rows)
    groups = [set(part["source"]) for part in parts.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert all(groups)
    assert load(path, split="test", group="source", seed=5)["text"][:] == parts["test"]["text"][:]


def test_a_row_never_changes_sides(write):
    rows = [{"text": str(number)} for number in range(600)]
    small, large = (set(load(write(rows[:end], f"{end}.jsonl"), split="test")["text"]) for end in (300, 600))
    assert small <= large
    assert 30 < len(large) < 90, "about a tenth"


def test_wrong_splits_are_refused(write):
    path = write([{"text": "a"}])
    assert refusal(path, split="valid") == (
        "there is no split 'valid'; did you mean 'validation'?; splits: train, validation, test"
    )
    assert refusal(path, split="validation").startswith("validation gets none of 1 rows")
    assert refusal(path, split="test", group="txt") == "there is no column 'txt' to split by; did you mean 'text'?"
    assert refusal(path, group="text").startswith("'group' keeps rows together in a split")
    with pytest.raises(ValueError, match="must add up to 1"):
        split_rows(load(path), "id", {"train": 0.8})


# --- built-in sources and the hub ---


def test_views_and_options_of_built_in_sources_are_checked(write):
    assert refusal("digits", view="image") == "digits has no view 'image'; did you mean 'images'?; views: images"
    assert refusal("digits", split="dev").startswith("digits has no split 'dev'")
    assert refusal("arithmetic", view="problems", format="chat").endswith("; use view chat")
    assert refusal("digits", capp=3) == "digits has no option 'capp' (it has none)"
    assert "pydocs has no option 'capp'; did you mean 'cap'? (it has packages, cap)" in refusal("pydocs", capp=3)
    assert refusal(write([{"text": "a"}]), view="chat").startswith("only built-in sources have views")
    assert refusal(write([{"text": "a"}]), cap=3).startswith("only built-in sources have the option 'cap'")


def test_the_hub_out_of_reach_is_said():
    code = "from stillroom.data import load; load('no-such-owner/no-such-data')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "UserError: the hub can't be reached to load 'no-such-owner/no-such-data'" in done.stderr


def test_rows_of_the_hub_are_checked_like_others(monkeypatch):
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: table)
    found = load("owner/name")
    assert found["label"][:] == [1, 0]
    assert found.features["label"].names == ["no", "yes"]
    assert len(found["id"][0]) == 16
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: table.rename_column("text", "words"))
    assert "the columns words, label make none of the formats" in refusal("owner/name")
