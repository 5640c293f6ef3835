"""Asking a writer about rows: what is asked, given, counted, and taken up again after every kind of end.

Run: pytest tests/synthesis/test_generate.py
"""

import json
import multiprocessing
import time
from collections import Counter

import pytest
from datasets import Dataset
from tests.servers import counting_proxy, limited_server, make_tiny_llama, transformers_server

from stillroom.errors import UserError
from stillroom.synthesis.costs import Price
from stillroom.synthesis.generate import generate
from stillroom.synthesis.limits import Budget, Limits
from stillroom.synthesis.writers import FunctionWriter, Written
from stillroom.teachers import chat
from stillroom.teachers.endpoint import Endpoint

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(chat, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def rows(count):
    return Dataset.from_list([{"id": f"r{number}", "topic": f"topic {number}"} for number in range(count)])


def question(row):
    return f"question about {row['topic']}"


def shout(conversations):
    return [turns[-1]["content"].upper() for turns in conversations]


def test_replies_stand_beside_their_rows_in_order():
    with limited_server(delay=0.01) as server:
        done = generate(rows(9), Endpoint(server.url, "tiny", concurrency=4), question, price=Price(1e6, 2e6))
    assert done.dataset["id"] == [f"r{number}" for number in range(9)]
    assert done.dataset["reply"] == [f"you said question about topic {number}" for number in range(9)]
    assert done.dataset[3]["reply_call"] == {
        "asked": ["question about topic 3"],
        "finish_reason": "stop",
        "tokens_in": 4,
        "tokens_out": 6,
        "sample": 0,
        "log_prob": None,
    }
    account = done.account
    assert (account.rows, account.kept, account.asked, account.answered) == (9, 9, 9, 9) and account.adds_up
    assert (account.tokens_in, account.tokens_out, account.money) == (36, 54, 36 + 2 * 54)
    assert account.seconds > 0 and account.note == ""


def test_several_samples_are_rows_of_their_own():
    with limited_server() as server:
        done = generate(rows(3), Endpoint(server.url, "tiny", temperature=1.0), question, samples=2, column="said")
    assert done.dataset["id"] == ["r0#0", "r0#1", "r1#0", "r1#1", "r2#0", "r2#1"]
    assert done.dataset["topic"] == ["topic 0"] * 2 + ["topic 1"] * 2 + ["topic 2"] * 2
    assert sorted(done.dataset["said"][:2]) == [
        "you said question about topic 0 0",
        "you said question about topic 0 1",
    ]
    assert (done.account.rows, done.account.added, done.account.kept) == (3, 3, 6) and done.account.adds_up


def test_a_conversation_and_a_row_with_nothing_to_ask(tmp_path):
    def template(row):
        if row["topic"] == "topic 1":
            return None
        return [{"role": "system", "content": "be brief"}, {"role": "user", "content": row["topic"]}]

    done = generate(rows(3), FunctionWriter(shout, name="shout"), template, rejects=tmp_path / "aside.jsonl")
    assert done.dataset["reply"] == ["TOPIC 0", "TOPIC 2"]
    assert done.dataset[0]["reply_call"]["asked"] == ["be brief", "topic 0"]
    assert done.account.rejected == {"nothing to ask": 1} and done.account.adds_up
    (line,) = (tmp_path / "aside.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == {"id": "r1", "topic": "topic 1"}


def test_equal_rows_without_ids_are_told_apart_and_equal_ids_are_refused():
    same = Dataset.from_list([{"topic": "x"}, {"topic": "y"}, {"topic": "x"}])
    done = generate(same, FunctionWriter(shout, name="shout", batch=1), question)
    assert done.dataset["topic"] == ["x", "y", "x"] and len(set(done.dataset["id"])) == 3
    twice = Dataset.from_list([{"id": "a", "topic": "x"}, {"id": "a", "topic": "y"}])
    for batch in (1, 8):
        with pytest.raises(UserError, match="'a' occurs twice"):
            generate(twice, FunctionWriter(shout, name="shout", batch=batch), question)


def test_a_taken_column_is_refused_before_anything_is_asked():
    with limited_server() as server:
        with pytest.raises(UserError, match="there is a column 'topic' already"):
            generate(rows(2), Endpoint(server.url, "tiny"), question, column="topic")
        assert server.requests == []


def test_half_a_character_does_no_harm(tmp_path):
    journal = tmp_path / "j.jsonl"
    with limited_server(say=lambda prompt: ("smile \ud83d", "length")) as server:
        for _ in range(2):
            endpoint = Endpoint(server.url, "tiny", journal=journal)
            assert generate(rows(1), endpoint, question).dataset["reply"] == ["smile \ufffd"]
            endpoint.close()
        assert len(server.requests) == 1


# A function of this process.


def test_a_function_is_called_in_batches_and_not_again_for_what_its_journal_has(tmp_path):
    calls = []

    def function(conversations):
        calls.append([turns[0]["content"] for turns in conversations])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [Written(text.upper(), tokens_in=2, tokens_out=3) for text in calls[-1]]

    def once():
        writer = FunctionWriter(function, name="f", batch=2, journal=tmp_path / "j.jsonl")
        try:
            return generate(rows(7), writer, question)
        finally:
            writer.close()

    with pytest.raises(KeyboardInterrupt):
        once()
    done = once()
    asked = [text for call in calls for text in call]
    assert [len(call) for call in calls] == [2, 2, 2, 2, 1]
    interrupted = calls[2]
    assert Counter(asked) == Counter([question(row) for row in rows(7)] + interrupted)
    assert done.dataset["reply"] == [question(row).upper() for row in rows(7)]
    assert (done.account.remembered, done.account.answered, done.account.tokens_out) == (4, 3, 9)


def test_what_a_function_may_give():
    with pytest.raises(ValueError, match="got 2 prompts and gave 1 answers"):
        generate(rows(2), FunctionWriter(lambda turns: ["one"], name="f"), question)
    done = generate(rows(2), FunctionWriter(lambda turns: ["one", None], name="f"), question)
    assert done.dataset["id"] == ["r0"] and done.account.rejected == {"no answer": 1} and done.account.adds_up
    none = generate(rows(2), FunctionWriter(lambda turns: [None, None], name="f"), question)
    assert len(none.dataset) == 0 and {"id", "reply", "reply_call", "topic"} == set(none.dataset.column_names)


# A server that stops, and limits that are reached.


def test_a_server_that_stops_ends_the_run_with_what_there_is_and_the_next_one_asks_for_the_rest(tmp_path):
    settings = {"journal": tmp_path / "j.jsonl", "retries": 1, "concurrency": 3, "failure_limit": 4}
    with limited_server(stops_after=10) as server:
        endpoint = Endpoint(server.url, "tiny", **settings)
        first = generate(rows(40), endpoint, question, rejects=tmp_path / "aside.jsonl")
        endpoint.close()
        assert first.account.kept == 10 == len(first.dataset) and first.account.adds_up
        assert first.account.rejected["no answer"] >= 4 and first.account.rejected["not asked"] > 0
        assert "j.jsonl" in first.account.note and "run the same command again" in first.account.note
        aside = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
        assert len(aside) == first.account.rejected["no answer"]
        assert all("connection failed" in line["detail"] for line in aside)
        assert not {line["row"]["id"] for line in aside} & set(first.dataset["id"])
        server.limits.stops_after = None
        endpoint = Endpoint(server.url, "tiny", **settings)
        second = generate(rows(40), endpoint, question)
        answered = Counter(server.answered)
    assert second.dataset["reply"] == [f"you said {question(row)}" for row in rows(40)]
    assert second.account.note == "" and second.account.remembered == 10 and second.account.answered == 30
    assert answered == Counter({question(row): 1 for row in rows(40)})


def test_what_was_paid_for_is_given_even_if_it_comes_after_the_end(tmp_path):
    """The journal has the last rows; the first ones can't be asked."""
    with limited_server() as server:
        endpoint = Endpoint(server.url, "tiny", journal=tmp_path / "j.jsonl")
        generate(rows(20).select(range(15, 20)), endpoint, question)
        endpoint.close()
        limits = Limits(budget=Budget(requests=7))
        endpoint = Endpoint(server.url, "tiny", journal=tmp_path / "j.jsonl", gate=limits, concurrency=1)
        done = generate(rows(20), endpoint, question)
        assert len(server.requests) == 7
    assert done.dataset["id"] == ["r0", "r1", *(f"r{number}" for number in range(15, 20))]
    assert done.account.rejected == {"not asked": 13}


def test_a_budget_is_that_of_the_whole_data_set_however_often_it_is_run(tmp_path):
    with limited_server() as server:
        for allowed, kept in ((5, 5), (5, 5), (8, 8), (100, 20)):
            gate = Limits(budget=Budget(requests=allowed))
            endpoint = Endpoint(server.url, "tiny", journal=tmp_path / "j.jsonl", gate=gate, concurrency=3)
            done = generate(rows(20), endpoint, question)
            endpoint.close()
            assert len(done.dataset) == kept == len(server.requests) and done.account.adds_up
            ended = done.account.note
            assert (f"the budget of {allowed} requests is spent" in ended) == (kept < 20)
        assert Counter(server.answered) == Counter({question(row): 1 for row in rows(20)})


# A run that is killed.


def run(url, journal, count, concurrency, model="tiny", tokens=16):
    endpoint = Endpoint(url, model, journal=journal, concurrency=concurrency, max_tokens=tokens)
    return generate(rows(count), endpoint, question)


def start(*settings, **more):
    """The run in a process of its own, which can be killed."""
    process = multiprocessing.get_context("fork").Process(target=run, args=settings, kwargs=more, daemon=True)
    process.start()
    return process


def kept_in(journal):
    """The prompts of the journal's whole lines; the last line may be torn."""
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []
    return {f"question about topic {json.loads(line)['key'].split()[0][1:]}" for line in lines}


def wait_until(met, process=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline and (process is None or process.is_alive())
        time.sleep(0.002)


def test_kill_9_with_four_open_questions_asks_those_four_again_and_no_other(tmp_path):
    """The server answers ten and holds the others, so what is open at the kill is known exactly."""
    journal = tmp_path / "j.jsonl"
    with limited_server(holds_after=10) as server:
        process = start(server.url, journal, 40, concurrency=4)
        wait_until(lambda: len(kept_in(journal)) == 10 and server.open == 4, process)
        process.kill()
        process.join()
        first = Counter(server.prompts())
        kept = kept_in(journal)
        assert set(first.values()) == {1} and len(first) == 14 and kept < set(first)
        held = set(first) - kept
        server.limits.holds_after = None
        server.release.set()
        wait_until(lambda: server.open == 0)
        endpoint = Endpoint(server.url, "tiny", journal=journal, concurrency=4, max_tokens=16)
        done = generate(rows(40), endpoint, question)
        asked = Counter(server.prompts())
    assert {prompt for prompt, times in asked.items() if times == 2} == held and max(asked.values()) == 2
    assert set(asked) == {question(row) for row in rows(40)}
    assert done.dataset["reply"] == [f"you said {question(row)}" for row in rows(40)]
    assert (done.account.remembered, done.account.asked) == (10, 30)


def test_kill_9_at_any_moment_loses_no_row_and_asks_no_kept_answer_again(tmp_path):
    journal, count, concurrency = tmp_path / "j.jsonl", 60, 4
    kills = 0
    with limited_server(delay=0.02) as server:
        for enough in (7, 25, 44):
            before, kept = len(server.requests), kept_in(journal)
            process = start(server.url, journal, count, concurrency)
            wait_until(lambda enough=enough: len(server.answered) >= enough, process)
            process.kill()
            process.join()
            kills += 1
            wait_until(lambda: server.open == 0)
            assert not kept & set(server.prompts()[before:])
        kept, before = kept_in(journal), len(server.requests)
        assert len(kept) < count
        endpoint = Endpoint(server.url, "tiny", journal=journal, concurrency=concurrency, max_tokens=16)
        done = generate(rows(count), endpoint, question)
        endpoint.close()
        assert not kept & set(server.prompts()[before:])
        asked = Counter(server.prompts())
        assert set(asked) == {question(row) for row in rows(count)}
        assert count <= asked.total() <= count + kills * concurrency
        total = len(server.requests)
        endpoint = Endpoint(server.url, "tiny", journal=journal, concurrency=concurrency, max_tokens=16)
        again = generate(rows(count), endpoint, question)
        assert len(server.requests) == total
    assert done.dataset["reply"] == again.dataset["reply"] == [f"you said {question(row)}" for row in rows(count)]


@pytest.mark.slow
def test_kill_9_in_front_of_a_real_server(tmp_path):
    folder, journal, count = make_tiny_llama(tmp_path / "model"), tmp_path / "j.jsonl", 24
    with transformers_server(folder) as url, counting_proxy(url) as proxy:
        for enough in (3, 12):
            before, kept = len(proxy.asked), kept_in(journal)
            process = start(proxy.url, journal, count, 2, model=str(folder), tokens=8)
            wait_until(lambda enough=enough: len(proxy.answered) >= enough, process)
            process.kill()
            process.join()
            wait_until(lambda: proxy.open == 0)
            assert not kept & set(proxy.asked[before:])
        kept, before = kept_in(journal), len(proxy.asked)
        assert 0 < len(kept) < count
        endpoint = Endpoint(proxy.url, str(folder), journal=journal, concurrency=2, max_tokens=8)
        done = generate(rows(count), endpoint, question)
        assert not kept & set(proxy.asked[before:])
        assert set(proxy.asked) == {question(row) for row in rows(count)}
        assert len(proxy.asked) <= count + 2 * 2
    assert len(done.dataset) == count and done.account.remembered == len(kept) and done.account.tokens_in > 0
