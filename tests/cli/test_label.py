"""``stillroom label``: the teacher is asked once; afterwards `distill` asks it nothing.

.venv/bin/python -m pytest tests/cli/test_label.py
"""

import json

import pytest
import torch
from tests.cli.conftest import TINY, TRAIN, contents, new_model, sums, write_rows
from tests.servers import limited_server

from stillroom.store import Store
from stillroom.teachers import LocalTeacher


@pytest.fixture
def asked(monkeypatch):
    """Counts the rows that a live teacher is asked about."""
    count = [0]
    real = LocalTeacher.__call__

    def call(self, batch, needs):
        count[0] += len(batch)
        return real(self, batch, needs)

    monkeypatch.setattr(LocalTeacher, "__call__", call)
    return count


def test_after_label_distill_asks_the_teacher_nothing_for_training(stillroom, recipe, shop, asked, monkeypatch):
    monkeypatch.setattr("stillroom.run.measure_all", lambda *_, **__: {"primary": "", "metrics": {}, "systems": []})
    keys = {"teacher": {"model": shop.teacher, "cache": True, "top_k": 8}, "method": "forward_kl"}
    told = stillroom("label", recipe(**keys), "--json")
    assert told.code == 0, told.err
    info = json.loads(told.out)
    assert info["rows"] == 90 and info["header"]["signals"]["topk"]["k"] == 8 and asked[0] >= 90
    asked[0] = 0
    again = stillroom("label", recipe(**keys))
    assert f"{info['path']}: 90 rows" in again.out
    assert stillroom("distill", recipe("run", against=["jsd"], **keys)).code == 0
    assert asked[0] <= 3  # one row each time, for the shape of what is kept


def test_a_killed_label_goes_on_and_ends_in_the_same_bytes(stillroom, recipe, shop, tmp_path, monkeypatch):
    keys = {"teacher": {"model": shop.teacher, "cache": True}, "method": "forward_kl"}
    monkeypatch.setattr("stillroom.labelling.FLUSH_SECONDS", 0)
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "whole"))
    assert stillroom("label", recipe(**keys)).code == 0
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "killed"))
    real, calls = LocalTeacher.__call__, [0]

    def call(self, batch, needs):
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return real(self, batch, needs)

    with monkeypatch.context() as patch:
        patch.setattr(LocalTeacher, "__call__", call)
        assert stillroom("label", recipe(**keys)).code == 130
    assert stillroom("label", recipe(**keys)).code == 0
    whole, killed = (contents(tmp_path / name / "signals") for name in ("whole", "killed"))
    assert whole == killed and whole


def test_texts_are_written_once_for_all_sources(stillroom, recipe, shop, tmp_path, monkeypatch):
    more = write_rows(tmp_path / "more.jsonl", [{"prompt": f"{n} minus 1 is", "completion": " so"} for n in range(5)])
    keys = {"teacher": {"model": shop.teacher, "max_new_tokens": 2}, "method": "teacher_texts"}
    keys["data"] = {"train": [shop.rows, more]}
    told = stillroom("label", recipe(**keys), "--json")
    assert told.code == 0, told.err
    prompts = {row["prompt"] for row in sums(60)}
    assert json.loads(told.out)["rows"] == len(prompts) + 5

    def refuse(*_, **__):
        raise AssertionError("the teacher is asked again")

    monkeypatch.setattr("stillroom.texts.answers", refuse)
    found = stillroom("distill", recipe("run", **keys))  # an untrained teacher comes to no end in two tokens
    assert found.code == 2 and "raise teacher.max_new_tokens" in found.err


def test_vectors_of_a_teacher_with_another_tokenizer_are_kept_by_text(stillroom, recipe, tmp_path, asked, monkeypatch):
    monkeypatch.setattr("stillroom.run.measure_all", lambda *_, **__: {"primary": "", "metrics": {}, "systems": []})
    texts = [f"the {a} and the {b}" for a in ("cat", "dog", "owl", "fox") for b in ("tree", "river", "stone")]
    rows = write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in texts])
    teacher = new_model("embeddings", tmp_path / "teacher", TINY | {"max_position_embeddings": 64}, ["few words"])
    student = new_model("embeddings", tmp_path / "student", TINY | {"hidden_size": 8}, texts, vocabulary=400)
    keys = {
        "task": "embeddings",
        "teacher": {"model": teacher, "cache": True},
        "student": student,
        "method": {"name": "distilcse", "queue": 16},
        "data": rows,
        "train": TRAIN | {"batch_size": 4},
    }
    told = stillroom("label", recipe(**keys), "--json")
    assert told.code == 0, told.err
    store = Store.open(json.loads(told.out)["path"])
    assert len(store) == 12 and store.header.signals["embedding"].shape == (16,)
    asked[0] = 0
    done = stillroom("distill", recipe("run", **keys))
    assert done.code == 0, done.err
    assert asked[0] <= 2

    from sentence_transformers import SentenceTransformer

    from stillroom.views.sentence import text_id

    kept = store.gather([text_id(text) for text in texts])["embedding"]
    wanted = torch.tensor(SentenceTransformer(teacher, device="cpu").encode(texts))
    torch.testing.assert_close(kept, wanted, atol=2e-3, rtol=0)


def test_an_endpoint_is_paid_once(stillroom, recipe):
    with limited_server() as server:
        teacher = {"endpoint": server.url, "model": "tiny", "max_new_tokens": 16}
        keys = {"teacher": teacher, "method": "teacher_texts", "train": TRAIN | {"steps": 2}}
        told = stillroom("label", recipe(**keys))
        assert told.code == 0, told.err
        assert (
            told.out.endswith(f"{len({row['prompt'] for row in sums(60)})} answers\n") and "answers/tiny-" in told.out
        )
        paid = len(server.requests)
        assert paid == len({row["prompt"] for row in sums(60)})
        assert json.loads(stillroom("label", recipe(**keys), "--json").out)["answers"] == paid
        done = stillroom("distill", recipe("run", **keys))
        assert done.code == 0, done.err
        assert len(server.requests) == paid


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"method": "sft"}, "without a single teacher"),
        ({"method": "sft", "teacher": "x"}, "'sft' asks the teacher for nothing"),
        ({"method": "gkd", "teacher": "x"}, "'gkd' asks its teacher as training goes on"),
    ],
)
def test_where_there_is_nothing_to_label_it_says_so(stillroom, recipe, keys, words):
    found = stillroom("label", recipe(**keys))
    assert (found.code, found.out) == (2, "") and words in found.err
