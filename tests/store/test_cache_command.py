"""`stillroom cache`: a store looked into, checked and merged from the command line.

Run: pytest tests/store/test_cache_command.py
"""

import json

import pytest
from tests.store.conftest import content, make_header, make_rows

from stillroom.cli.app import run
from stillroom.store import Store


@pytest.fixture
def folder(tmp_path):
    with Store.create(tmp_path / "store", make_header()) as writer:
        writer.append(*make_rows(0, 90))
    return tmp_path / "store"


def test_info(folder, capsys):
    assert run(["cache", "info", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "90 rows" in shown and "teacher: big" in shown and "topk8" in shown
    assert run(["cache", "info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Store.open(folder).info()


def test_verify(folder, capsys):
    assert run(["cache", "verify", str(folder)]) == 0
    assert "all 90 rows are whole" in capsys.readouterr().out
    path = sorted(folder.glob("*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert run(["cache", "verify", str(folder)]) == 1
    assert f"{path} was altered" in capsys.readouterr().err
    assert run(["cache", "verify", str(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"] == [f"{path} was altered: its checksum does not fit"]


def test_merge(folder, tmp_path, capsys):
    for part, (first, stop) in enumerate(((0, 50), (50, 90))):
        with Store.create(tmp_path / f"part{part}", make_header()) as writer:
            writer.append(*make_rows(first, stop))
    parts = [str(tmp_path / "part0"), str(tmp_path / "part1")]
    assert run(["cache", "merge", *parts, "--out", str(tmp_path / "whole")]) == 0
    assert "90 rows from 2 stores" in capsys.readouterr().out
    assert content(tmp_path / "whole") == content(folder)
    assert run(["cache", "merge", *parts, "--out", str(tmp_path / "whole")]) == 2
    assert "exists; choose another folder" in capsys.readouterr().err


def test_a_folder_without_a_store_is_wrong_use(tmp_path, capsys):
    assert run(["cache", "info", str(tmp_path)]) == 2
    assert "holds no store" in capsys.readouterr().err
