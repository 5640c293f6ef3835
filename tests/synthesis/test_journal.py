"""The journal of paid-for answers: what is in it survives, and nothing else is taken for an answer.

Run: pytest tests/synthesis/test_journal.py
"""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from stillroom.errors import UserError
from stillroom.synthesis import journal as module
from stillroom.synthesis.journal import Journal

HEADER = {"model": "m", "settings": {"temperature": 0.0}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "folder" / "answers.jsonl"


def fill(path, **answers):
    with Journal(path, HEADER) as journal:
        for key, answer in answers.items():
            journal.append(key, answer)


def test_answers_are_found_again(path):
    fill(path, a={"text": "é \n 😀"}, b=[1, None])
    with Journal(path, HEADER) as journal:
        assert journal.get("a") == {"text": "é \n 😀"} and journal.get("b") == [1, None]
        assert journal.get("c") is None and "a" in journal and "c" not in journal and len(journal) == 2
        assert journal.note is None
        journal.append("c", 3)
    fill(path, d=4)
    assert [json.loads(line).get("key") for line in path.read_text().splitlines()] == [None, "a", "b", "c", "d"]


def test_a_key_is_written_once(path):
    fill(path, a=1)
    with Journal(path, HEADER) as journal, pytest.raises(ValueError, match="has an answer for 'a' already"):
        journal.append("a", 2)


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_torn_last_line_is_dropped_with_a_note(path, cut):
    fill(path, a="first", b="second")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path, HEADER) as journal:
        assert "a" in journal and "b" not in journal
        assert "line 3 of the journal" in journal.note
        journal.append("b", "second")
    assert path.read_bytes() == whole


def test_a_torn_header_is_written_anew(path):
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:17])
    fill(path)
    assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_refused_by_number(path):
    fill(path, a=1, b=2, c=3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\0" * 9 + b"\n", *lines[3:]]))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"line 3 of the journal .* is damaged; delete that line"):
        Journal(path, HEADER)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["not a journal", '{"prompt": "a row of data"}\n', "[1, 2"])
def test_another_file_is_left_alone(path, content):
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match="is no journal, and is left as it is"):
        Journal(path, HEADER)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ({"model": "n", "settings": {"temperature": 0.0}}, "model was 'm' and is 'n'"),
        ({"model": "m", "settings": {"temperature": 1.0}}, "settings.temperature was 0.0 and is 1.0"),
        ({"model": "m", "settings": {}}, "settings.temperature was 0.0 and is None"),
        ({**HEADER, "template": "t"}, "template was None and is 't'"),
    ],
)
def test_another_header_is_refused_by_name(path, header, named):
    fill(path, a=1)
    with pytest.raises(UserError, match=named):
        Journal(path, header)


def test_two_writers_are_refused(path):
    with Journal(path, HEADER), pytest.raises(UserError, match="is being written by this process"):
        Journal(path, HEADER)
    fill(path, a=1)


def test_threads_share_a_journal_and_its_syncs(path, monkeypatch):
    synced = []

    def slow_sync(descriptor, sync=os.fsync):
        synced.append(path.read_bytes().count(b"\n"))
        sync(descriptor)

    with Journal(path, HEADER) as journal:
        monkeypatch.setattr(module.os, "fsync", slow_sync)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: journal.append(str(number), number), range(200)))
        monkeypatch.undo()
        assert [journal.get(str(number)) for number in range(200)] == list(range(200))
    # Each was synced, the last included, yet not each by itself.
    assert synced[-1] == 201 and len(synced) <= 200


def test_an_acknowledged_answer_is_synced(path, monkeypatch):
    with Journal(path, HEADER) as journal:
        calls = []
        monkeypatch.setattr(module.os, "fsync", lambda _: calls.append(path.read_bytes().splitlines()[-1]))
        journal.append("a", 1)
        assert calls == [b'{"key": "a", "answer": 1}']
        monkeypatch.undo()


def test_a_full_disk_leaves_the_journal_as_it_was(path, monkeypatch):
    with Journal(path, HEADER) as journal:
        before = path.read_bytes()

        def half(descriptor, data, place, write=os.pwrite):
            if len(data) > 8:
                return write(descriptor, data[:8], place)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module.os, "pwrite", half)
        with pytest.raises(OSError, match="No space"):
            journal.append("a", "something")
        monkeypatch.undo()
        assert path.read_bytes() == before and "a" not in journal
        journal.append("a", "something")
    with Journal(path, HEADER) as journal:
        assert journal.get("a") == "something" and journal.note is None


def test_what_was_acknowledged_before_a_kill_is_there(path):
    for enough in (20, 60):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            journal = Journal(path, HEADER)
            for number in range(len(journal), 10**6):
                journal.append(str(number), "x" * number)
                os.write(writing, f"{number}\n".encode())
        os.close(writing)
        with os.fdopen(reading) as told:
            while int(told.readline()) < enough:
                pass
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            last = max([enough, *map(int, told.read().split())])
        with Journal(path, HEADER) as journal:
            assert [journal.get(str(n)) for n in range(last + 1)] == ["x" * n for n in range(last + 1)]
