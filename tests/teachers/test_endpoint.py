"""The teacher behind an address, against a real server and against one that limits itself on purpose.

Run: pytest tests/teachers/test_endpoint.py
"""

import json
import logging
import os
import subprocess
import sys
import time
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.servers import limited_server, make_tiny_llama, transformers_server

from stillroom.errors import UserError
from stillroom.signals import Batch
from stillroom.synthesis.costs import Price
from stillroom.teachers import chat
from stillroom.teachers.endpoint import Endpoint, EndpointError, EndpointTeacher

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Back off for hundredths of a second, and let no key of the developer's reach a test server."""
    monkeypatch.setattr(chat, "FIRST_WAIT", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(endpoint, prompts):
    return {answer.id: answer for answer in endpoint.complete(prompts, [f"r{i}" for i in range(len(prompts))])}


def prompts(count):
    return [f"question {number}" for number in range(count)]


def test_each_answer_has_its_id_and_everything_is_counted():
    with limited_server() as server:
        endpoint = Endpoint(server.url, "tiny", concurrency=3)
        answers = ask(endpoint, prompts(7))
    assert {name: answer.text for name, answer in answers.items()} == {
        f"r{i}": f"you said question {i}" for i in range(7)
    }
    assert {answer.finish_reason for answer in answers.values()} == {"stop"}
    assert (endpoint.usage.requests, endpoint.usage.answers, endpoint.usage.failures) == (7, 7, 0)
    assert (endpoint.usage.tokens_in, endpoint.usage.tokens_out) == (7 * 2, 7 * 4)
    assert Price(2.0, 10.0).of(endpoint.usage.tokens_in, endpoint.usage.tokens_out) == pytest.approx(
        (14 * 2 + 28 * 10) / 1e6
    )


def test_the_request_carries_the_settings_and_extra_fields_replace_them():
    with limited_server() as server:
        extra = {"max_tokens": None, "max_completion_tokens": 9, "seed": 1}
        ask(
            Endpoint(server.url, "tiny", temperature=0.5, top_p=0.9, extra=extra), [[{"role": "user", "content": "hi"}]]
        )
        body = server.requests[0][2]
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 9,
        "seed": 1,
    }


def test_no_more_than_the_allowed_questions_are_open_and_rows_are_drawn_as_needed():
    drawn = []

    def rows():
        for prompt in prompts(40):
            drawn.append(prompt)
            yield prompt

    with limited_server(delay=0.02) as server:
        answers = Endpoint(server.url, "tiny", concurrency=4).complete(rows(), map(str, range(40)))
        next(answers)
        assert len(drawn) <= 2 * 4 + 1
        list(answers)
        assert 1 < server.most_open <= 4


@pytest.mark.parametrize("trouble", [429, 408, 500, 503, "hang", "reset", "malformed", "cut", "shapeless"])
def test_trouble_that_passes_costs_one_more_request(trouble):
    with limited_server(first=[trouble], hang=0.6) as server:
        endpoint = Endpoint(server.url, "tiny", timeout=0.3)
        answers = ask(endpoint, ["hello"])
        assert server.prompts() == ["hello", "hello"]
    assert answers["r0"].text == "you said hello"
    assert (endpoint.usage.requests, endpoint.usage.answers, endpoint.failures) == (2, 1, [])


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(form):
    after = (
        "1" if form == "seconds" else formatdate(time.time() + 3, usegmt=True)
    )  # whole seconds, and the server starts first
    with limited_server(first=[429], retry_after=after) as server:
        ask(Endpoint(server.url, "tiny"), ["hello"])
        (_, first, _), (_, second, _) = server.requests
    assert 0.95 <= second - first < 4


def test_waits_grow_twofold():
    with limited_server(first=[500] * 4) as server:
        ask(Endpoint(server.url, "tiny"), ["hello"])
        times = [moment for _, moment, _ in server.requests]
    waits = [later - earlier for earlier, later in pairwise(times)]
    for number, wait in enumerate(waits):
        assert 0.5 * 0.02 * 2**number <= wait <= 0.02 * 2**number + 0.25


def test_a_row_that_stays_in_trouble_is_reported_with_its_reason_and_the_others_go_on():
    with limited_server(first=[500, 500, 500]) as server:
        endpoint = Endpoint(server.url, "tiny", retries=2, concurrency=2)
        assert ask(endpoint, ["a", "b"]) == {}
        assert sorted(failure.id for failure in endpoint.failures) == ["r0", "r1"]
        assert endpoint.failures[0].reason == "the server says 500: too much at once (asked 3 times)"
        assert endpoint.usage.requests == len(server.requests) == 6


def test_a_refused_row_is_asked_once():
    with limited_server(refuse="bad") as server:
        endpoint = Endpoint(server.url, "tiny")
        answers = ask(endpoint, ["good", "bad", "better"])
        assert server.prompts().count("bad") == 1
    assert set(answers) == {"r0", "r2"}
    assert [(f.id, f.reason) for f in endpoint.failures] == [
        ("r1", "the server says 400: the prompt is too long (key none)")
    ]


def test_a_wait_of_an_hour_is_no_wait_but_a_failure():
    with limited_server(first=[429] * 9, retry_after="3600") as server:
        endpoint = Endpoint(server.url, "tiny")
        assert ask(endpoint, ["hello"]) == {}
        assert len(server.requests) == 1
    assert "asks to wait 3600 s" in endpoint.failures[0].reason


def test_too_many_failures_end_the_run_with_what_there_is(tmp_path):
    rows = ["good", "bad 0", "bad 1", "bad 2", *(f"bad {i}" for i in range(3, 200))]
    got = []
    with limited_server(refuse="bad") as server:
        endpoint = Endpoint(server.url, "tiny", failure_limit=3, concurrency=2, journal=tmp_path / "answers.jsonl")
        with pytest.raises(EndpointError, match=r"3 rows|4 rows|5 rows|6 rows|7 rows") as error:
            for answer in endpoint.complete(rows, map(str, range(len(rows)))):
                got.append(answer.id)
        assert len(server.requests) <= 1 + 3 + 2 * 2
    assert got == ["0"]
    assert "answers.jsonl" in str(error.value) and "run the same command again" in str(error.value)


def test_a_wrong_key_ends_the_run_and_never_shows(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    caplog.set_level(logging.DEBUG)
    with limited_server(key="another") as server:
        endpoint = Endpoint(server.url, "tiny", key_variable="MY_KEY", journal=tmp_path / "j.jsonl")
        with pytest.raises(UserError, match="does not accept the key in the environment variable MY_KEY") as error:
            ask(endpoint, prompts(4))
    with limited_server(refuse="bad") as server:
        other = Endpoint(server.url, "tiny", key_variable="MY_KEY", journal=tmp_path / "k.jsonl")
        assert set(ask(other, ["good", "bad"])) == {"r0"}
    assert other.failures[0].reason.endswith("(key ***)")
    shown = str(error.value) + caplog.text + "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    assert "very-secret" not in shown


def test_a_server_that_wants_a_key_says_where_to_put_it():
    with limited_server(key="k") as server, pytest.raises(UserError, match=r"wants a key: put it in .* OPENAI_API_KEY"):
        ask(Endpoint(server.url, "tiny"), ["hello"])


def test_a_wrong_model_and_a_wrong_address_are_told():
    with limited_server() as server:
        with pytest.raises(UserError, match="has no model 'huge'"):
            ask(Endpoint(server.url, "huge"), ["hello"])
        with pytest.raises(UserError, match=r"is not the API \(/v1\) itself"):
            ask(Endpoint(server.url.removesuffix("/v1"), "tiny"), ["hello"])
    with pytest.raises(UserError, match="begins with http"):
        Endpoint("localhost:8000", "tiny")


def test_an_address_loses_its_secrets():
    assert chat.without_secrets("https://me:pw@host:8/v1/?api-key=x#y") == "https://host:8/v1"


def test_ids_must_differ():
    with limited_server() as server, pytest.raises(UserError, match="'a' occurs twice"):
        list(Endpoint(server.url, "tiny").complete(["x", "y"], ["a", "a"]))


# The journal: no answered question is asked again.


def test_a_second_run_asks_nothing_and_gives_the_same(tmp_path):
    with limited_server() as server:
        runs = []
        for _ in range(2):
            endpoint = Endpoint(server.url, "tiny", top_logprobs=2, journal=tmp_path / "j.jsonl")
            runs.append(ask(endpoint, prompts(5)))
            endpoint.close()
        assert runs[0] == runs[1] and len(server.requests) == 5
    assert (endpoint.usage.from_journal, endpoint.usage.requests, endpoint.usage.tokens_in) == (5, 0, 0)


def test_a_row_whose_text_changed_is_asked_again(tmp_path):
    with limited_server() as server:
        for prompt in ("old", "new", "old"):
            endpoint = Endpoint(server.url, "tiny", journal=tmp_path / "j.jsonl")
            assert ask(endpoint, [prompt])["r0"].text == f"you said {prompt}"
            endpoint.close()
        assert server.prompts() == ["old", "new"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"temperature": 1.0}, "settings.temperature was 0.0 and is 1.0"),
        ({"max_tokens": 7}, "settings.max_tokens was 256 and is 7"),
        ({"template": "Q: {}"}, "template was None and is '"),
        ({"extra": {"seed": 1}}, "settings.seed was None and is 1"),
    ],
)
def test_a_journal_of_other_settings_is_refused_by_name(tmp_path, change, named):
    with limited_server() as server:
        Endpoint(server.url, "tiny", journal=tmp_path / "j.jsonl").close()
        with pytest.raises(UserError) as error:
            Endpoint(server.url, "tiny", journal=tmp_path / "j.jsonl", **change)
    assert named in str(error.value)


def test_an_iteration_left_early_keeps_the_answers_that_were_under_way(tmp_path):
    with limited_server(delay=0.05) as server:
        endpoint = Endpoint(server.url, "tiny", concurrency=4, journal=tmp_path / "j.jsonl")
        for _ in endpoint.complete(prompts(30), map(str, range(30))):
            break
        assert len(endpoint.journal) == endpoint.usage.answers == len(server.answered) < 30


KILLED = """
import sys
from stillroom.teachers import chat
from stillroom.teachers.endpoint import Endpoint
chat.FIRST_WAIT = 0.02
endpoint = Endpoint(sys.argv[1], "tiny", concurrency=4, journal=sys.argv[2])
for answer in endpoint.complete([f"question {i}" for i in range(60)], [f"r{i}" for i in range(60)]):
    pass
"""


def test_after_a_kill_no_answer_that_was_kept_is_asked_for_again(tmp_path):
    journal = tmp_path / "j.jsonl"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    kept = set()
    with limited_server(delay=0.02, first=[429]) as server:
        for enough in (12, 30):
            before = len(server.requests)
            process = subprocess.Popen([sys.executable, "-c", KILLED, server.url, str(journal)], env=environment)
            while len(server.answered) < enough and process.poll() is None:
                time.sleep(0.005)
            process.kill()
            process.wait()
            assert not kept & set(server.prompts()[before:])
            kept = kept_prompts(journal)
            assert enough - 2 * 4 <= len(kept) < 60
            while server.open:  # what the dead client had sent is still being answered
                time.sleep(0.01)
        before = len(server.requests)
        endpoint = Endpoint(server.url, "tiny", journal=journal)
        answers = ask(endpoint, prompts(60))
        assert not kept & set(server.prompts()[before:])
    assert {name: answer.text for name, answer in answers.items()} == {
        f"r{i}": f"you said question {i}" for i in range(60)
    }
    assert endpoint.usage.from_journal == len(kept)
    # Answers on their way when the client died are unknown to it: at most as many as there were open questions.
    assert len(server.answered) <= 60 + 2 * 4


def kept_prompts(journal):
    """Of the whole lines; the last may be torn."""
    keys = [json.loads(line)["key"].split()[0] for line in journal.read_bytes().split(b"\n")[1:-1]]
    return {f"question {key[1:]}" for key in keys}


# Log-probs, and what a server offers.


def test_log_probs_come_with_the_answer():
    with limited_server() as server:
        answer = ask(Endpoint(server.url, "tiny", top_logprobs=3), ["hello"])["r0"]
    assert [choice.token for choice in answer.top_logprobs] == ["you", "said", "hello"]
    assert answer.top_logprobs[0].log_prob == -0.5
    assert answer.top_logprobs[2].top == (("t0", -0.5), ("t1", -1.0), ("t2", -1.5))


def test_log_probs_that_do_not_come_end_the_run(tmp_path):
    with limited_server(log_probs="ignored") as server:
        endpoint = Endpoint(server.url, "tiny", top_logprobs=3, journal=tmp_path / "j.jsonl")
        with pytest.raises(UserError, match="returns no log-probabilities though 3 alternatives were asked for"):
            ask(endpoint, ["hello"])
        assert len(endpoint.journal) == 0


@pytest.mark.parametrize(
    ("limits", "settings", "most", "said"),
    [
        ({}, {}, 20, "gives log-probabilities of at least 20 alternatives a token"),
        ({}, {"top_logprobs": 50}, 20, "gives log-probabilities of 20 alternatives a token; 50 alternatives"),
        ({"ceiling": 5}, {"top_logprobs": 20}, 5, "gives log-probabilities of 5 alternatives a token; 20 alternatives"),
        ({"ceiling": 1}, {}, 1, "log-probabilities of 1 alternatives"),
        ({"ceiling": 5, "cuts": True}, {}, 5, "log-probabilities of 5 alternatives"),
        ({"ceiling": 100}, {"top_logprobs": 64}, 64, "at least 64 alternatives"),
        ({"log_probs": "ignored"}, {}, 0, "ignores `logprobs` (no log-probabilities will come)"),
        ({"log_probs": "refused"}, {}, 0, "refuses log-probabilities (the server says 400: logprobs is not supported)"),
        ({"models": None}, {}, 20, "(it lists no models)"),
        ({"models": ["other"]}, {}, 20, "(not in its list of models)"),
        ({}, {}, 20, "(listed)"),
        ({"counts": False}, {}, 20, "does not count tokens"),
        ({"samples": False}, {"temperature": 1.0}, 20, "may ignore the temperature"),
    ],
)
def test_a_limit_is_found_before_the_run_and_named(limits, settings, most, said):
    with limited_server(**limits) as server:
        offer = Endpoint(server.url, "tiny", **settings).probe()
    assert offer.top_logprobs == most
    assert said in str(offer)
    assert offer.enough == (settings.get("top_logprobs", 0) <= most)


def test_a_server_that_samples_is_not_suspected():
    with limited_server() as server:
        offer = Endpoint(server.url, "tiny", temperature=1.0).probe()
        assert offer.varies and "temperature" not in str(offer)
        assert Endpoint(server.url, "tiny").probe().varies is None


def test_a_server_that_is_not_there_is_told():
    with pytest.raises(UserError, match="does not answer a chat request: the connection failed"):
        Endpoint("http://127.0.0.1:9/v1", "tiny", retries=1).probe()


# As a teacher.


def batch_of(conversations):
    ids = [f"r{i}" for i in range(len(conversations))]
    return Batch(ids=ids, student={}, mask=torch.ones(len(ids), dtype=torch.bool), columns={"messages": conversations})


def test_the_teacher_writes_one_text_a_row_in_order():
    conversations = [[{"role": "user", "content": word}] for word in ("one", "two", "three")]
    conversations[1].append({"role": "assistant", "content": "what the data says"})
    with limited_server() as server:
        signals = EndpointTeacher(Endpoint(server.url, "tiny"))(batch_of(conversations), ("text",))
    assert signals.text == ["you said one", "you said two", "you said three"]


def test_the_teacher_says_what_it_can_not_give():
    with limited_server(refuse="bad") as server:
        teacher = EndpointTeacher(Endpoint(server.url, "tiny"))
        with pytest.raises(UserError, match="gives text and not logits"):
            teacher(batch_of([]), ("text", "logits"))
        with pytest.raises(UserError, match="no column 'messages'"):
            teacher(Batch(ids=["a"], student={}, mask=torch.ones(1)), ("text",))
        with pytest.raises(EndpointError, match="the row 'r0' got no answer: the server says 400"):
            teacher(batch_of([[{"role": "user", "content": "bad"}]]))


# A real server.


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = make_tiny_llama(tmp_path_factory.mktemp("served"))
    with transformers_server(folder) as url:
        yield url, folder


def test_a_real_server_gives_what_the_model_gives_here(served):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    url, folder = served
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    endpoint = Endpoint(url, str(folder), max_tokens=12)
    questions = ["a still room", "spirits", "where is a house"]
    answers = ask(endpoint, questions)
    for number, question in enumerate(questions):
        message = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(
            message, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            whole = model.generate(**inputs, do_sample=False, max_new_tokens=12)
        written = whole[0, inputs["input_ids"].shape[1] :]
        answer = answers[f"r{number}"]
        assert answer.text == tokenizer.decode(written, skip_special_tokens=True)
        assert (answer.tokens_in, answer.tokens_out) == (inputs["input_ids"].shape[1], len(written))


def test_a_real_server_that_ignores_log_probs_and_temperature_is_found_out(served):
    url, folder = served
    offer = Endpoint(url, str(folder), top_logprobs=5, temperature=1.0).probe()
    assert "ignores `logprobs`" in str(offer) and not offer.enough
    assert offer.varies is False
