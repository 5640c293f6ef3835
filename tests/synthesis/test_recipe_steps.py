"""Steps of synthesis from a recipe: what is refused before anybody is asked, what a server is asked, what is kept.

.venv/bin/python -m pytest tests/synthesis/test_recipe_steps.py
"""

import json

import pytest
from tests.servers import limited_server

from stillroom.asking import label
from stillroom.data.files import load
from stillroom.errors import UserError
from stillroom.planning import plan
from stillroom.recipe import check
from stillroom.rows import load_rows
from stillroom.run import distill
from stillroom.synthesis import recipe_steps
from stillroom.synthesis.settings import names_in

TOPICS = ["copper", "worm", "wash", "feints", "hearts", "heads", "tails", "mash"]
REPLIES = {
    "copper": ('```json\n{"question": "Why are stills of copper?", "answer": "It binds the sulphur."}\n```', "stop"),
    "worm": (
        'Here: {"question": "Why are stills made of copper?", "answer": "It binds the sulphur, they say."}',
        "stop",
    ),
    "wash": ('{"question": "What is a wash?", "answ', "length"),
    "feints": ("I would rather not.", "stop"),
    "hearts": ('{"question": "What are hearts?", "answer": "The middle cut of a run, which is kept."}', "stop"),
    "heads": ('{"question": "What are heads?", "answer": "The"}', "stop"),
    "tails": ("", "stop"),
    "mash": ('{"question": "What is mash?"}', "stop"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def seeds(tmp_path):
    path = tmp_path / "topics.jsonl"
    path.write_text("".join(json.dumps({"id": topic, "topic": topic}) + "\n" for topic in TOPICS))
    return path


def say(prompt):
    return REPLIES[prompt.removeprefix("One question about ")]


def steps(url, **more):
    return [
        {"generate": {"model": "tiny", "endpoint": url, "prompt": "One question about {topic}", **more}},
        {"parse": {"fields": {"question": "text", "answer": "text"}}},
        {"filter": [{"length": {"column": "answer", "least": 3}}, {"sentence": "answer"}]},
        {"deduplicate": {"column": "question", "near": 0.6, "unit": "characters"}},
        {"columns": {"prompt": "{question}", "completion": " {answer}"}},
    ]


TINY = {
    "architecture": "llama",
    "vocabulary": 300,
    "config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
}


def recipe(folder, source, chain, **more):
    plain = {
        "name": "made",
        "task": "language",
        "student": {"new": TINY, "max_length": 48},
        "data": {"train": {"source": str(source), "steps": chain}},
        "method": "sft",
        "train": {"steps": 2, "batch_size": 2, "device": "cpu"},
        "output": str(folder / "runs"),
    }
    return check(plain | more)


def test_seeds_become_rows_and_what_is_dropped_has_a_reason(tmp_path, seeds):
    with limited_server(say=say) as server:
        made = recipe(tmp_path, seeds, steps(server.url))
        rows = load_rows(made).train[0]
        assert sorted(server.prompts()) == sorted(f"One question about {topic}" for topic in TOPICS)
        assert rows.to_list() == [
            {"id": "copper", "prompt": "Why are stills of copper?", "completion": " It binds the sulphur."},
            {"id": "hearts", "prompt": "What are hearts?", "completion": " The middle cut of a run, which is kept."},
        ]
        # A run of another name asks nothing: the answers belong to the model and the way of asking.
        load_rows(made.model_copy(update={"name": "again"}))
        assert len(server.prompts()) == len(TOPICS)
    (accounts,) = json.loads((tmp_path / "runs" / "made" / "rows" / "accounts.json").read_text())
    kept = {account["stage"]: account["kept"] for account in accounts}
    assert kept == {"1-generate": 8, "2-parse": 4, "3-filter": 3, "4-deduplicate": 2, "5-columns": 2}
    assert accounts[1]["rejected"] == {"truncated": 1, "not JSON": 1, "empty": 1, "wrong fields": 1}
    dropped = (tmp_path / "runs" / "made" / "rows" / "dropped-0" / "2-parse.jsonl").read_text().splitlines()
    assert {json.loads(line)["row"]["id"] for line in dropped} == {"wash", "feints", "tails", "mash"}


def test_a_server_that_stops_ends_the_run_with_what_it_has(tmp_path):
    """The second run asks for what is missing, and for nothing else; counted on the server's side."""
    path = tmp_path / "numbers.jsonl"
    path.write_text("".join(json.dumps({"number": str(number)}) + "\n" for number in range(40)))
    with limited_server(stops_after=3) as server:
        ask = {"model": "tiny", "endpoint": server.url, "prompt": "{number}", "concurrency": 1, "retries": 0}
        chain = [{"generate": ask}, {"columns": {"text": "{reply}"}}]
        with pytest.raises(UserError, match=r"1-generate ended with 3 answers: .*go on"):
            load_rows(recipe(tmp_path, path, chain))
        assert len(server.answered) == 3
        server.limits.stops_after = None
        assert len(load_rows(recipe(tmp_path, path, chain)).train[0]) == 40
        assert sorted(server.answered, key=int) == [str(number) for number in range(40)]


def test_a_step_may_go_on_with_part_of_the_answers(tmp_path, seeds):
    with limited_server(say=say) as server:
        chain = steps(server.url, concurrency=1, partial=True, budget={"requests": 5})
        assert load_rows(recipe(tmp_path, seeds, chain)).train[0]["id"] == ["copper", "hearts"]
        assert len(server.prompts()) == 5


def test_a_run_goes_from_seeds_to_a_report(tmp_path, seeds):
    with limited_server(say=say) as server:
        run = distill(recipe(tmp_path, seeds, steps(server.url)))
    page = run.report.read_text()
    assert "How the rows were made" in page and "1 truncated" in page and "5-columns" in page
    assert "2 rows were made by steps of synthesis from 8 seeds" in (run.folder / "model" / "README.md").read_text()


def test_a_plan_asks_nobody(tmp_path, seeds):
    with limited_server(say=say) as server:
        made = recipe(tmp_path, seeds, steps(server.url, price={"tokens_in": 1.0, "tokens_out": 2.0}))
        (asked,) = plan(made).questions
        assert (asked.step, asked.number, asked.answered) == ("1-generate", 8, 0)
        assert asked.tokens_out == 8 * 256 and asked.money == pytest.approx((asked.tokens_in + 2 * 8 * 256) / 1e6)
        prompts = sum(len(f"One question about {topic}") for topic in TOPICS)
        assert asked.tokens_in == pytest.approx(prompts / 3, rel=0.01)
        assert not server.prompts() and not (tmp_path / "runs").exists()
        assert label(made) == tmp_path / "runs" / "made" / "rows"
        after = plan(made)
        assert not after.questions and after.rows == 2 and len(server.prompts()) == 8


def test_a_judge_drops_what_it_does_not_like(tmp_path, seeds):
    def judge(prompt):
        return ("Score: 9" if "copper" in prompt or "mash" in prompt else "Score: 3"), "stop"

    with limited_server(say=judge) as server:
        chain = [
            {"judge": {"model": "tiny", "endpoint": server.url, "rubric": "How good is {topic}?", "least": 5}},
            {"columns": {"text": "{topic} has {score}"}},
        ]
        rows = load_rows(recipe(tmp_path, seeds, chain)).train[0]
    assert rows["text"] == ["copper has 9.0", "mash has 9.0"]
    (accounts,) = json.loads((tmp_path / "runs" / "made" / "rows" / "accounts.json").read_text())
    assert accounts[0]["rejected"] == {"score is below 5": 6} and accounts[0]["kept"] == 2


def test_a_model_that_runs_here_writes_too(tmp_path, seeds):
    from tests.servers import make_tiny_llama

    folder = make_tiny_llama(tmp_path / "tiny")
    ask = {"model": str(folder), "prompt": "{topic}", "max_new_tokens": 4, "temperature": 1.0, "samples": 2}
    chain = [{"generate": ask}, {"columns": {"prompt": "{topic}", "completion": "{reply}."}}]
    rows = load_rows(recipe(tmp_path, seeds, chain)).train[0]
    assert rows["id"] == [f"{topic}#{number}" for topic in TOPICS for number in (0, 1)]
    again = load_rows(recipe(tmp_path, seeds, chain, name="again")).train[0]
    assert again["completion"] == rows["completion"]  # drawn once, and kept
    (accounts,) = json.loads((tmp_path / "runs" / "again" / "rows" / "accounts.json").read_text())
    assert accounts[0]["remembered"] == 16 and accounts[0]["asked"] == 0


def test_workers_write_what_one_process_does(tmp_path, seeds, monkeypatch):
    """Half of the questions were answered before; workers answer the rest, in the same batches."""
    pytest.importorskip("ray", reason="writing by workers needs ray: pip install 'stillroom[scale]'")
    from tests.servers import make_tiny_llama

    folder = make_tiny_llama(tmp_path / "tiny")
    ask = {"model": str(folder), "prompt": "{topic}", "max_new_tokens": 4, "temperature": 1.0, "concurrency": 2}
    chain = [{"generate": ask}, {"columns": {"prompt": "{topic}", "completion": "{reply}."}}]
    alone = label(recipe(tmp_path, seeds, chain))
    rows = load_rows(recipe(tmp_path, seeds, chain)).train[0]
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "workers"))
    few = tmp_path / "few.jsonl"
    few.write_text("".join(seeds.read_text().splitlines(keepends=True)[:4]))
    label(recipe(tmp_path, few, chain, name="few"))
    by_workers = label(recipe(tmp_path, seeds, chain, name="workers"), engine="ray", workers=2)
    assert by_workers != alone
    again = load_rows(recipe(tmp_path, seeds, chain, name="workers")).train[0]
    assert again["id"] == rows["id"] and again["completion"] == rows["completion"]
    (accounts,) = json.loads((tmp_path / "runs" / "workers" / "rows" / "accounts.json").read_text())
    assert accounts[0]["kept"] == 8


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"generate": {"model": "m", "prompt": "{topc}"}}, "there is no column 'topc' .*topic"),
        ({"generate": {"model": "m", "prompt": "{topic.__class__}"}}, "may name columns.*nothing else"),
        ({"generate": {"model": "m", "prompt": "{topic"}}, "can't be read"),
        ({"generate": {"model": "m", "prompt": "x", "budget": {"requests": 3}}}, "a pace and a budget are for"),
        ({"generate": {"model": "m", "endpoint": "e", "prompt": "x", "budget": {"money": 3}}}, "needs the price"),
        ({"parse": {"fields": {"a": "texts"}}}, "fields"),
        ({"filter": {"sentence": "topic", "above": {"column": "topic", "threshold": 1}}}, "a rule is one of"),
        ({"parse": {"fields": {"a": "text"}, "column": "topic"}, "filter": []}, "a step is one of"),
        ({"columns": {"anchor": "{topic}"}}, "rows of .*anchor|none of the formats"),
        ({"deduplicat": {"column": "topic"}}, "deduplicate"),
    ],
)
def test_what_can_not_work_is_refused_before_anybody_is_asked(tmp_path, seeds, change, told):
    with pytest.raises(UserError, match=told):
        plan(recipe(tmp_path, seeds, [change]))


def test_braces_are_written_twice():
    assert names_in("{{as they are}} {topic}") == ("topic",)
    assert recipe_steps.fill("{{x}} {topic}", {"topic": "a {b}"}) == "{x} a {b}"
    assert recipe_steps.fill("{topic}", {"topic": None}) is None


def test_rows_of_any_columns_are_seeds_and_nothing_else(seeds):
    assert load(str(seeds), format="any").column_names == ["id", "topic"]
    with pytest.raises(UserError, match="none of the formats"):
        load(str(seeds))
