"""What is kept of a teacher: which store, which rows, which texts; and a real server as the teacher of a recipe.

.venv/bin/python -m pytest tests/test_labelling.py
"""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from tests.servers import limited_server, make_tiny_llama, transformers_server

from stillroom import labelling, texts
from stillroom.checks import build_method, check_teacher
from stillroom.errors import UserError
from stillroom.recipe import Scratch, check
from stillroom.run import execute
from stillroom.signals import Signals
from stillroom.store import Store
from stillroom.students.open import new_model
from stillroom.teachers import chat
from stillroom.views.load import Opened, open_model
from stillroom.views.sentence import text_id

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
ROWS = [{"prompt": f"{n} plus {n} is", "completion": f" {2 * n}"} for n in range(6)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("teacher")
    words = [row["prompt"] + row["completion"] for row in ROWS]
    new_model(Scratch(architecture="llama", config=SIZES, vocabulary=300), "language", lambda: words, made)
    return str(made)


@pytest.fixture
def opened(folder):
    return open_model(folder, "language", max_length=32)


def recipe(**teacher):
    teacher = {name: value for name, value in ({"model": "t", "top_k": 8} | teacher).items() if value is not None}
    return check({"name": "x", "task": "language", "student": "s", "data": "d", "method": "sft", "teacher": teacher})


class Counting:
    """A teacher that emits its view's signals, and counts the rows it is asked about."""

    def __init__(self, opened):
        self.opened, self.asked = opened, []

    def __call__(self, batch, needs):
        self.asked += batch.ids
        with torch.no_grad():
            return self.opened.view.emit(self.opened.model, batch.student, needs)


def keep(opened, rows, needs=("logits",), **settings):
    teacher = Counting(opened)
    temperature = settings.pop("temperature", 1.0)
    given = recipe(**settings)
    kept = labelling.keep_signals(
        given, "t", teacher, opened, needs, [Dataset.from_list(rows)], temperature=temperature
    )
    return kept, teacher.asked[len(needs) :]  # the first row of each signal is for its shape


# --- signals ----------------------------------------------------------------------------------------------------------


def test_only_what_is_missing_is_asked_for(opened):
    first, asked = keep(opened, ROWS[:4])
    assert len(asked) == 4
    second, asked = keep(opened, ROWS)
    assert second == first and len(asked) == 2 and len(Store.open(first)) == 6
    assert keep(opened, ROWS)[1] == []


def test_another_teacher_temperature_or_tokenizer_has_a_store_of_its_own(opened, folder):
    places = {keep(opened, ROWS)[0], keep(opened, ROWS, temperature=2.0)[0], keep(opened, ROWS, top_k=4)[0]}
    other = open_model(folder, "language", max_length=32)
    with torch.no_grad():
        other.model.lm_head.weight[7, 3] += 1.0  # one number in 4,800
        other.model.lm_head.weight += 1e-3
    places.add(keep(other, ROWS)[0])
    longer = open_model(folder, "language", max_length=64)
    places.add(keep(longer, ROWS)[0])
    assert len(places) == 5


def test_the_hash_of_weights_changes_with_any_training_and_not_with_being_opened_again(opened, folder):
    again = open_model(folder, "language").model
    before = labelling.weights_hash(again)
    assert before == labelling.weights_hash(opened.model)
    logits = again(torch.tensor([[5, 6, 7]])).logits
    logits.square().mean().backward()
    torch.optim.SGD(again.parameters(), lr=1e-3).step()
    assert labelling.weights_hash(again) != before


@pytest.mark.parametrize(("codec", "bound"), [("topk16", 0.004), ("packed", 5 / 32 + 1e-5)])
def test_distributions_are_kept_at_their_temperature(opened, codec, bound):
    kept, _ = keep(opened, ROWS[:1], temperature=2.0, top_k=300, codec=codec)
    store = Store.open(kept)
    (row,) = store.gather(list(store.ids()))["topk"]
    encoded = opened.view.collate([opened.view.encode(ROWS[0])])
    with torch.no_grad():
        logits = opened.model(**encoded.arguments).logits[encoded.mask]
    wanted = (logits / 2.0).log_softmax(-1).gather(-1, row.ids)
    assert row.ids.shape[-1] == opened.model.config.vocab_size
    torch.testing.assert_close(row.log_probs, wanted, atol=bound, rtol=0)


def test_a_nucleus_and_draws_have_stores_of_their_own_that_say_so(opened):
    places = [
        keep(opened, ROWS, **settings)[0]
        for settings in ({}, {"nucleus": 0.5, "top_k": 300}, {"codec": "topk8"}, {"sampled": 5, "top_k": None})
    ]
    assert len(set(places)) == 4
    kept = [Store.open(place).header.signals for place in places]
    assert [signals.get("topk", signals.get("drawn")).codec for signals in kept] == [
        "topk16",
        "packed",
        "topk8",
        "drawn",
    ]
    assert kept[1]["topk"].nucleus == 0.5 and set(kept[3]) == {"drawn"} and kept[3]["drawn"].k == 5
    rows = Store.open(places[1]).gather(list(Store.open(places[1]).ids()))["topk"]
    for row in rows:
        mass, fewest = row.log_probs.double().exp().sum(-1), (~row.log_probs.isneginf()).sum(-1)
        assert (mass > 0.5 - 0.02).all() and (fewest > 1).all()  # the tail's log-odds are right to 1/32
    drawn = Store.open(places[3]).gather(list(Store.open(places[3]).ids()))["drawn"]
    assert all(torch.allclose(row.weights.sum(-1), torch.ones(len(row.weights))) for row in drawn)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nucleus": 0.9}, r"teacher\.nucleus is for tokens"),
        ({"sampled": 9, "top_k": None}, r"teacher\.sampled is for tokens"),
        ({"codec": "packed"}, r"use teacher\.codec=topk8"),
    ],
)
def test_what_is_for_tokens_is_refused_where_a_row_has_one_distribution(settings, said):
    with pytest.raises(UserError, match=said):
        labelling.of_distributions(recipe(**settings).teacher, 10, tokens=False)
    plain = labelling.of_distributions(recipe().teacher, 5, tokens=False)
    assert (plain.codec, plain.k, plain.shape) == ("topk16", 5, ())


@pytest.mark.parametrize(
    ("method", "taken"), [("forward_kl", True), ("seqkd", True), ("reverse_kl", False), ("jsd", False)]
)
def test_draws_are_refused_where_they_would_mislead(method, taken):
    given = recipe(cache=True, sampled=8, top_k=None)
    if method == "seqkd":
        given.method.variant = "word"
    objective = build_method(given.method.model_copy(update={"name": method}))
    if taken:
        check_teacher(given, {method: objective})
    else:
        with pytest.raises(UserError, match=f"'{method}' would be misled by ids that were drawn"):
            check_teacher(given, {method: objective})


@pytest.mark.parametrize("kept", [{"nucleus": 0.9}, {"sampled": 16}])
def test_a_student_learns_from_what_was_kept(tmp_path, folder, kept):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = check(
        {
            "name": "kept",
            "output": str(tmp_path / "runs"),
            "teacher": {"model": folder, "cache": True, **kept},
            "student": {"model": folder, "max_length": 32},
            "data": str(tmp_path / "rows.jsonl"),
            "method": "forward_kl",
            "train": {"steps": 2, "batch_size": 4, "device": "cpu"},
        }
    )
    assert execute(given, timed=False).counts.rows > 0


def test_what_is_too_large_to_keep_is_refused(opened):
    with pytest.raises(UserError, match=r"hidden:1 is too large to keep .*teacher\.cache=false"):
        keep(opened, ROWS, needs=("hidden:1",))


def test_a_text_that_occurs_twice_is_kept_once():
    class View:
        fingerprint = "v"
        formats = ("pair",)

        def check(self, rows, name):
            """Any will do."""

        def encode(self, row):
            both = [row["anchor"], row["positive"]]
            ids = [text_id(text) for text in both]
            return {"id": ids[0], "ids": ids, "texts": both, "length": 1, "dropped": "", "shortened": False}

        def collate(self, rows):
            ids = [name for row in rows for name in row["ids"]]
            lengths = torch.tensor([float(len(text)) for row in rows for text in row["texts"]])
            real = torch.ones(len(ids), dtype=torch.bool)
            return SimpleNamespace(ids=ids, arguments={"x": lengths}, mask=real, labels=None, columns={})

        def emit(self, model, arguments, needs):
            return Signals(embedding=arguments["x"][:, None] * torch.tensor([1.0, 2.0]))

    opened = Opened(torch.nn.Linear(1, 1), View(), "t")
    rows = [{"anchor": "abc", "positive": "de"}, {"anchor": "de", "positive": "abc"}, {"anchor": "f", "positive": "de"}]
    kept, _ = keep(opened, rows, needs=("embedding",))
    store = Store.open(kept)
    assert sorted(store.ids()) == sorted(text_id(text) for text in ("abc", "de", "f"))
    assert store.gather([text_id("de"), text_id("abc")])["embedding"].tolist() == [[2, 4], [3, 6]]


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scripted(opened, monkeypatch):
    """The teacher answers every prompt with what it is told to; counts what it was asked."""
    tokenizer, asked = opened.view.tokenizer, []

    def answers(model, prompts, *, stop, max_new_tokens, temperature, vocabulary):
        assert vocabulary == len(tokenizer)
        asked.extend(tokenizer.decode(prompt) for prompt in prompts)
        told = []
        for prompt in prompts:
            said = tokenizer(" so " + tokenizer.decode(prompt)[0])["input_ids"]
            told.append(said if tokenizer.decode(prompt).startswith("3") else [*said, stop[0]])
        return told

    monkeypatch.setattr(texts, "answers", answers)
    return asked


def test_answers_take_the_place_of_the_datas_own_and_those_without_end_are_left_out(opened, scripted, caplog):
    rows = [row | {"other": n} for n, row in enumerate(ROWS)]
    with caplog.at_level(logging.WARNING):
        answered = texts.with_teacher_texts(recipe(), opened, Dataset.from_list(rows))
    assert answered["completion"] == [f" so {n}" for n in (0, 1, 2, 4, 5)]
    assert answered["prompt"] == [ROWS[n]["prompt"] for n in (0, 1, 2, 4, 5)] and answered["other"] == [0, 1, 2, 4, 5]
    assert "1 of 6 answers came to no end" in caplog.text
    assert len(scripted) == 6
    texts.with_teacher_texts(recipe(), opened, Dataset.from_list([*rows, rows[0]]))
    assert len(scripted) == 6  # all of it was kept
    texts.with_teacher_texts(recipe(temperature=0.5), opened, Dataset.from_list(rows[:1]))
    assert len(scripted) == 7


def test_chats_keep_their_turns_but_the_last(opened, scripted):
    turns = [("user", "1 plus 1"), ("assistant", "2"), ("user", "and 1"), ("assistant", "3")]
    rows = [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    rows.append({"messages": rows[0]["messages"][:3]})  # the same question, not answered
    answered = texts.with_teacher_texts(recipe(), opened, Dataset.from_list(rows))["messages"]
    assert answered[0] == answered[1]
    assert [turn["content"] for turn in answered[0]] == ["1 plus 1", "2", "and 1", " so <"]
    assert len(scripted) == 1 and scripted[0].endswith("<|user|>and 1<|end|><|assistant|>")


def test_a_prompt_too_long_loses_its_left_and_leaves_room_for_the_answer(opened, scripted):
    rows = [{"prompt": " ".join(str(n) for n in range(40)) + " is", "completion": " x"}]
    tokenizer, positions = opened.view.tokenizer, opened.model.config.max_position_embeddings
    ids = tokenizer(rows[0]["prompt"])["input_ids"]
    texts.keep_texts(recipe(max_new_tokens=20), opened, Dataset.from_list(rows))
    texts.keep_texts(recipe(max_new_tokens=positions - 12), opened, Dataset.from_list(rows))
    assert len(ids) > 32 and scripted == [tokenizer.decode(ids[-32:]), tokenizer.decode(ids[-12:])]
    with pytest.raises(UserError, match="leaves no room for a prompt"):
        texts.keep_texts(recipe(max_new_tokens=positions), opened, Dataset.from_list(rows))


def test_texts_that_ask_nothing_are_refused(opened):
    for teacher in (opened, None):
        with pytest.raises(UserError, match="plain texts have no prompt to answer"):
            texts.keep_texts(recipe(endpoint="http://127.0.0.1:1/v1"), teacher, Dataset.from_list([{"text": "a"}]))


def test_a_teacher_that_does_not_write_is_refused(opened):
    with pytest.raises(UserError, match="answers are written by a language model"):
        texts.keep_texts(recipe(), opened._replace(view=None), Dataset.from_list(ROWS))


# --- texts of a server ------------------------------------------------------------------------------------------------


def test_the_answers_of_a_server_stand_in_for_the_datas_own_and_are_in_its_journal(monkeypatch):
    with limited_server() as server:
        asks = recipe(model="tiny", endpoint=server.url, temperature=0.5)
        monkeypatch.setattr(chat, "FIRST_WAIT", 0.01)
        answered = texts.with_teacher_texts(asks, None, Dataset.from_list([*ROWS, ROWS[0]]))
        assert answered["completion"] == [f"you said {row['prompt']} 0" for row in [*ROWS, ROWS[0]]]
        assert len(server.requests) == len(ROWS)
        _, told, journal = texts.keep_texts(asks, None, Dataset.from_list(ROWS))
        assert told == answered["completion"][:6] and len(server.requests) == len(ROWS)
        texts.keep_texts(recipe(model="tiny", endpoint=server.url), None, Dataset.from_list(ROWS[:1]))
        assert len(server.requests) == len(ROWS) + 1  # another temperature, another journal
    assert len(journal.read_text().splitlines()) == 1 + len(ROWS)
    with pytest.raises(UserError, match=r"127\.0\.0\.1.* answers nothing: the connection failed"):  # it is gone
        texts.keep_texts(asks, None, Dataset.from_list([{"prompt": "new", "completion": "x"}]))
    assert texts.keep_texts(asks, None, Dataset.from_list(ROWS)).texts == told


@pytest.mark.slow
def test_a_real_server_teaches(tmp_path, folder):
    """`transformers serve` over a tiny model; its cut-off answers are left out, and a student learns the rest."""
    teacher = make_tiny_llama(tmp_path / "served")
    model = open_model(str(teacher), "language").model
    with torch.no_grad():
        model.lm_head.weight[model.config.eos_token_id] *= 2  # so that it ends now and then
    model.save_pretrained(teacher)
    rows = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "x"}]} for n in range(8)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with transformers_server(teacher) as url:
        asks = check(
            {
                "name": "served",
                "output": str(tmp_path / "runs"),
                "teacher": {"model": str(teacher), "endpoint": url, "max_new_tokens": 64, "temperature": 1.0},
                "student": {"model": folder, "max_length": 400},
                "data": str(tmp_path / "rows.jsonl"),
                "method": "teacher_texts",
                "train": {"steps": 2, "batch_size": 4, "device": "cpu"},
            }
        )
        run = execute(asks, timed=False)
    _, told, journal = texts.keep_texts(asks, None, Dataset.from_list(rows))
    ends = [json.loads(line)["answer"]["choices"][0] for line in journal.read_text().splitlines()[1:]]
    assert len(ends) == 8 and run.counts.rows == sum(bool(text) for text in told) > 0
    for choice in ends:
        assert (choice["message"]["content"] in told) == (choice["finish_reason"] != "length")
