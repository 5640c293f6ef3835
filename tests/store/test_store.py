"""The store: rows come back, files do not depend on how they were written, and what does not fit is refused by name.

Run: pytest tests/store/test_store.py
"""

import json
import multiprocessing
import time

import pytest
import torch
from tests.store.conftest import content, make_header, make_rows

from stillroom.errors import UserError
from stillroom.signals import TopK
from stillroom.store import Header, Signal, Store, merge, shards, table

ROWS = 90


def write(folder, header, steps, first=0, stop=ROWS):
    with Store.create(folder, header) as writer:
        for start in range(first, stop, steps):
            writer.append(*make_rows(start, min(start + steps, stop)))
    return Store.open(folder)


@pytest.fixture
def store(tmp_path, header):
    return write(tmp_path / "store", header, steps=7)


def assert_rows_are(store, numbers):
    """Compare with the rows as they were made, within a twentieth: the codecs' own tests know the exact bounds."""
    ids = [make_rows(number, number + 1)[0][0] for number in numbers]
    got = store.gather(ids)
    for place, number in enumerate(numbers):
        _, made = make_rows(number, number + 1)
        assert got["text"][place] == made["text"][0]
        assert torch.equal(got["scores"][place], made["scores"][0])
        assert torch.allclose(got["embedding"][place], made["embedding"][0], atol=2e-3)
        assert torch.allclose(got["hidden:2"][place], made["hidden:2"][0], atol=0.02)
        topk, exact = got["topk"][place], made["topk"][0]
        assert torch.equal(topk.ids, exact.ids) and torch.equal(topk.tail, exact.tail)
        assert torch.allclose(topk.log_probs, exact.log_probs, atol=0.02)


def test_rows_come_back_in_the_order_asked_for(store):
    assert len(store) == ROWS and len(store.info()["signals"]) == 5 and store.info()["files"] > 3
    assert_rows_are(store, [*range(ROWS)])
    assert_rows_are(store, [88, 3, 41, 3, 0, 89])
    assert list(store.ids()) == make_rows(0, ROWS)[0]
    assert "row 5 é" in store and "row 90 é" not in store


def test_some_signals_of_no_rows_and_of_rows_without_positions(store):
    assert set(store.gather(["row 0 é"], ["text", "hidden:2"])) == {"text", "hidden:2"}
    empty = store.gather([])
    assert empty["embedding"].shape == (0, 8) and empty["text"] == [] and empty["topk"] == []
    only = store.gather(["row 0 é", "row 6 é"])
    assert [len(row) for row in only["hidden:2"]] == [0, 0] and only["text"] == ["", ""]


def test_ids_whose_hashes_are_equal_are_told_apart(tmp_path, header, monkeypatch):
    for module in (shards, table):
        monkeypatch.setattr(module, "id_hash", lambda name: len(name) % 2)
    opened = write(tmp_path / "s", header, steps=7)
    assert_rows_are(opened, [3, 88, 0, 41])
    assert "row 90 é" not in opened
    with Store.resume(opened.folder, header) as writer:
        assert writer.missing(make_rows(0, ROWS + 1)[0]) == [ROWS]


def test_a_missing_row_is_named(store):
    with pytest.raises(UserError, match=r"has no row 'x' \(nor 1 others\)"):
        store.gather(["row 1 é", "x", "y"])


def test_files_do_not_depend_on_how_rows_were_appended(tmp_path, header, store):
    for steps in (1, 30, ROWS):
        write(tmp_path / f"by{steps}", header, steps)
        assert content(tmp_path / f"by{steps}") == content(store.folder)


def test_files_do_not_depend_on_flushes_and_resumes(tmp_path, header, store):
    folder = tmp_path / "other"
    for start in range(0, ROWS, 10):
        with Store.resume(folder, header) as writer:
            assert len(writer) == start
            assert writer.missing(make_rows(0, ROWS)[0]) == [*range(start, ROWS)]
            for number in range(start, start + 10):
                writer.append(*make_rows(number, number + 1))
                if number % 3 == 0:
                    writer.flush()
    assert content(folder) == content(store.folder)


def test_rows_of_a_finished_shard_and_of_the_tail_are_known_to_a_writer(tmp_path, header, store):
    with Store.resume(store.folder, header) as writer:
        assert all(name in writer for name in make_rows(0, ROWS)[0]) and "x" not in writer
        writer.append([], {})
        for number in (0, ROWS - 1):
            with pytest.raises(ValueError, match="was given twice"):
                writer.append(*make_rows(number, number + 1))
        ids, signals = make_rows(ROWS, ROWS + 2)
        with pytest.raises(ValueError, match=f"'{ids[0]}' was given twice"):
            writer.append([ids[0], ids[0]], signals)
        assert len(writer) == ROWS
    assert write(tmp_path / "again", header, 9).info()["bytes"] == Store.open(store.folder).info()["bytes"]


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ({"embedding": torch.zeros(2, 8)}, r"the store keeps \['embedding', 'text'\], but was given \['embedding'\]"),
        (
            {"embedding": torch.zeros(2, 7), "text": ["", ""]},
            r"'embedding' of the rows 'a' to 'b': .* \(7,\), not \(8,\)",
        ),
        ({"embedding": torch.zeros(3, 8), "text": ["", ""]}, "it has 3 rows for 2 ids"),
        ({"embedding": torch.zeros(2, 8), "text": [""]}, "it has 1 rows for 2 ids"),
        ({"embedding": torch.full((2, 8), torch.nan), "text": ["", ""]}, "it holds NaN"),
        ({"embedding": TopK(*[torch.zeros(2, 8)] * 3), "text": ["", ""]}, "the codec float16 keeps tensors"),
    ],
)
def test_what_does_not_fit_the_header_is_refused_and_nothing_is_added(tmp_path, signals, said):
    kept = {"embedding": Signal(codec="float16", shape=(8,)), "text": Signal(codec="utf8", shape=(None,))}
    with Store.create(tmp_path / "s", Header(signals=kept, teacher="t")) as writer:
        with pytest.raises(ValueError, match=said):
            writer.append(["a", "b"], signals)
        assert len(writer) == 0


def test_signals_of_a_fixed_shape_are_given_as_one_tensor(tmp_path):
    kept = {
        "topk": Signal(codec="topk16", shape=(), k=2, vocabulary=9),
        "scores": Signal(codec="float32", shape=(3,)),
        "tap:image": Signal(codec="int8", shape=(2, 2, 5)),
    }
    topk = TopK(torch.tensor([[3, 1], [0, 8]]), torch.tensor([[-0.5, -1.0], [-0.25, -4.0]]), torch.tensor([0.125, 0.0]))
    scores, image = torch.randn(2, 3), torch.randn(2, 2, 2, 5)
    with Store.create(tmp_path / "s", Header(signals=kept, teacher="t")) as writer:
        writer.append(["a", "b"], {"topk": topk, "scores": scores, "tap:image": image})
    got = Store.open(tmp_path / "s").gather(["b", "a"])
    assert all(torch.equal(mine, theirs.flip(0)) for mine, theirs in zip(got["topk"], topk, strict=True))
    assert torch.equal(got["scores"], scores.flip(0))
    assert torch.allclose(got["tap:image"], image.flip(0), atol=0.02)


def test_a_batch_of_equal_lengths_may_be_one_tensor(tmp_path):
    kept = {
        "hidden:0": Signal(codec="float32", shape=(None, 4)),
        "topk": Signal(codec="topk16", shape=(None,), k=1, vocabulary=2),
    }
    hidden = torch.randn(2, 3, 4)
    topk = TopK(torch.ones(2, 3, 1, dtype=torch.long), torch.full((2, 3, 1), -0.5), torch.full((2, 3), 0.25))
    with Store.create(tmp_path / "s", Header(signals=kept, teacher="t")) as writer:
        writer.append(["a", "b"], {"hidden:0": hidden, "topk": topk})
    got = Store.open(tmp_path / "s").gather(["a", "b"])
    assert torch.equal(torch.stack(got["hidden:0"]), hidden)
    assert torch.equal(got["topk"][1].log_probs, topk.log_probs[1])


# Headers.

CHANGES = {
    "teacher": "small",
    "revision": "r2",
    "tokenizer": "t2",
    "template": None,
    "data": "d2",
    "depth": 12,
    "temperature": 2.0,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_that_differs_is_refused_by_name_with_both_values(store, header, field):
    was, now = getattr(header, field), CHANGES[field]
    for attempt in (
        lambda: Store.open(store.folder, expect={field: now}),
        lambda: Store.resume(store.folder, make_header(**{field: now})),
    ):
        with pytest.raises(UserError) as error:
            attempt()
        assert f"{field} is {was!r} in the store and {now!r} here (" in str(error.value)
    assert len(Store.open(store.folder, expect={field: was})) == ROWS
    Store.resume(store.folder, header).close()


def test_signals_that_differ_are_refused_by_name(store, header):
    other = Signal(codec="topk8", shape=(None,), k=9, vocabulary=50)
    with pytest.raises(UserError, match=r"signals\.topk\.k is 5 in the store and 9 here"):
        Store.open(store.folder, expect={"signals": {"topk": other}})
    with pytest.raises(UserError, match=r"signals\.logits\.codec is None in the store and 'float32' here"):
        Store.open(store.folder, expect={"signals": {"logits": Signal(codec="float32", shape=(3,))}})
    fewer = header.model_copy(update={"signals": {"text": header.signals["text"]}})
    Store.open(store.folder, expect={"signals": fewer.signals})
    with pytest.raises(UserError, match=r"signals\.embedding\.codec is 'float16' in the store and None here"):
        Store.resume(store.folder, fewer)


def test_a_store_of_another_format_is_refused(store):
    path = store.folder / "header.json"
    for change, said in (({"format": 2}, r"header\.format"), ({"colour": "red"}, r"header\.colour")):
        fields = json.loads(path.read_text())
        path.write_text(json.dumps({**fields, "header": {**fields["header"], **change}}))
        with pytest.raises(UserError, match=f"cannot be read by this version of stillroom.*{said}"):
            Store.open(store.folder)
        path.write_text(json.dumps(fields))
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        Store.open(store.folder)


def test_names_that_a_store_does_not_keep_are_refused():
    for name in ("ids", "hidden:-1", "attentions:1", "tap:a/b"):
        with pytest.raises(ValueError, match=f"a store keeps no '{name}'"):
            Header(signals={name: Signal(codec="float32", shape=(1,))}, teacher="t")


def test_what_is_no_store_or_there_already_is_told(tmp_path, header, store):
    with pytest.raises(UserError, match="holds no store"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds a store already"):
        Store.create(store.folder, header)
    with pytest.raises(UserError, match="is not empty and holds no store"):
        Store.create(tmp_path, header)


def test_two_writers_are_refused(store, header):
    with Store.resume(store.folder, header), pytest.raises(UserError, match="being written by this process"):
        Store.resume(store.folder, header)
    Store.resume(store.folder, header).close()


def append(folder, header, first, stop, begun=None):
    """A process of its own: appends some rows; with an event it tells when it began, and takes its time."""
    with Store.resume(folder, header) as writer:
        if begun is not None:
            begun.set()
            time.sleep(1)
        writer.append(*make_rows(first, stop))


def test_two_processes_write_one_after_the_other(tmp_path, header):
    """The second waits, then adds to what the first has written, though there was nothing when it came."""
    fresh = multiprocessing.get_context("spawn")
    begun, folder = fresh.Event(), tmp_path / "new" / "store"
    first = fresh.Process(target=append, args=(folder, header, 0, 5, begun))
    first.start()
    assert begun.wait(60)
    second = fresh.Process(target=append, args=(folder, header, 5, 9))
    second.start()
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0
    assert_rows_are(Store.open(folder), range(9))


# Damage.


def damaged(store, number, change):
    path = sorted(store.folder.glob("*.safetensors"))[number]
    path.write_bytes(change(path.read_bytes()))
    return path


def flip(place):
    return lambda content: content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("place", [0, 9, 400, 1500, -200, -1])
def test_a_flipped_byte_is_refused_by_name(store, place):
    size = sorted(store.folder.glob("*.safetensors"))[1].stat().st_size
    path = damaged(store, 1, flip(place % size))
    assert Store.open(store.folder).verify() == [f"{path} was altered: its checksum does not fit"]
    inside = make_rows(int(path.name[5:15]), int(path.name[16:26]) + 1)[0]
    for read in (lambda opened: opened.gather(inside), lambda opened: list(opened.ids())):
        with pytest.raises(UserError, match=f"{path.name} was altered: .*; put the file back from a copy"):
            read(Store.open(store.folder))


def test_rows_of_the_other_files_can_still_be_read(store):
    damaged(store, 1, flip(3000))
    assert_rows_are(Store.open(store.folder), [0, 1])


def test_a_torn_and_a_missing_file_are_refused_by_name(store, header):
    path = damaged(store, -1, lambda content: content[:-5])
    assert Store.open(store.folder).verify() == [
        f"{path} is torn: it has {path.stat().st_size} bytes and should have {path.stat().st_size + 5}"
    ]
    with pytest.raises(UserError, match=f"{path.name} is torn"):
        Store.open(store.folder).gather(["row 0 é"])
    with pytest.raises(UserError, match=f"{path.name} is torn"):
        Store.resume(store.folder, header)
    path.unlink()
    assert Store.open(store.folder).verify() == [f"{path} is missing"]
    with pytest.raises(UserError, match=f"{path.name} is missing"):
        Store.open(store.folder).gather(["row 0 é"])


def test_verify_tells_how_far_it_is(store):
    told = []
    assert store.verify(lambda done, total: told.append((done, total))) == []
    files = store.info()["files"]
    assert told == [(number, files) for number in range(1, files + 1)]


# Merging, size and speed.


def test_merged_stores_are_the_store_that_one_process_had_written(tmp_path, header, store):
    for part, (first, stop) in enumerate(((0, 20), (20, 21), (21, ROWS))):
        write(tmp_path / f"part{part}", header, 4, first, stop)
    before = content(tmp_path / "part1")
    merged = merge([tmp_path / f"part{part}" for part in range(3)], tmp_path / "merged")
    assert content(merged.folder) == content(store.folder)
    assert content(tmp_path / "part1") == before
    assert not (tmp_path / "merged.part").exists()


def test_stores_that_do_not_fit_are_not_merged(tmp_path, header):
    write(tmp_path / "a", header, 5, 0, 10)
    write(tmp_path / "b", make_header(teacher="small"), 5, 10, 20)
    write(tmp_path / "c", header, 5, 9, 12)
    with pytest.raises(UserError, match="teacher is 'small' in the store and 'big' here"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    with pytest.raises(UserError, match="c overlaps with the stores before it: the row 'row 9 é'"):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()
    with pytest.raises(UserError, match="exists; choose another folder"):
        merge([tmp_path / "a"], tmp_path / "b")


def test_info_counts_what_is_there(store, header):
    info = store.info()
    assert info["rows"] == ROWS and info["bytes"] == sum(p.stat().st_size for p in store.folder.glob("*.safetensors"))
    assert info["signals"]["embedding"] == {"codec": "float16", "positions": ROWS, "bytes_per_position": 16}
    tokens = sum(number % 6 for number in range(ROWS))
    # topk8: 5 ids of 2 bytes, 5 levels, top, range and tail of 4 bytes each.
    assert info["signals"]["topk"] == {"codec": "topk8", "positions": tokens, "bytes_per_position": 5 * 2 + 5 + 3 * 4}
    assert info["signals"]["hidden:2"]["bytes_per_position"] == 4 + 4
    assert info["header"] == json.loads(header.model_dump_json())


def test_sixty_four_embeddings_take_less_than_a_millisecond(tmp_path):
    kept = {"embedding": Signal(codec="float16", shape=(384,))}
    ids = [f"document-{number}" for number in range(20000)]
    with Store.create(tmp_path / "s", Header(signals=kept, teacher="t", shard_bytes=2**20)) as writer:
        writer.append(ids, {"embedding": torch.randn(20000, 384)})
    store = Store.open(tmp_path / "s")
    order = torch.randperm(20000, generator=torch.Generator().manual_seed(0)).tolist()
    times = []
    for start in range(0, 12800, 64):
        wanted = [ids[number] for number in order[start : start + 64]]
        begin = time.perf_counter()
        store.gather(wanted)
        times.append(time.perf_counter() - begin)
    assert sorted(times)[len(times) // 2] < 1e-3
