"""The pipeline by hand: heads, tails, names, the critic's threshold, what is dropped and why; a real model and server.

.venv/bin/python -m pytest tests/methods/synthesis/test_symbolic_kd.py
"""

import json

import numpy as np
import pytest
from datasets import Dataset
from tests.servers import limited_server

from stillroom import catalog
from stillroom.errors import UserError
from stillroom.methods.synthesis.symbolic_kd import HEADS, TAILS, SymbolicKD, student_prompt
from stillroom.synthesis.account import chain
from stillroom.synthesis.atomic import ATOMIC
from stillroom.synthesis.critic import Critic, triple_features
from stillroom.synthesis.triples import Relation
from stillroom.synthesis.writers import FunctionWriter, Written
from stillroom.teachers.endpoint import Endpoint

SEEDS = Dataset.from_list([{"head": f"PersonX does thing {n}"} for n in range(6)])
IS = Relation("is", "What is it?", "It is", (("apple", "a fruit"), ("oak", "a tree")), "Word")
HAS = Relation("has", "", "It has", (("apple", "a core"),), "Word")


def writer(function):
    return FunctionWriter(lambda turns: [function(one[-1]["content"]) for one in turns], name="canned")


def asked(prompt):
    """The head and the relation that a prompt of these relations ends with."""
    *_, head, line = prompt.splitlines()
    return head.removeprefix("Word: "), line


class Known:
    """A critic that was told the score of each tail."""

    def __init__(self, scores):
        self.told, self.seen = scores, None

    def fit(self, X, y, held_out=None):
        self.seen = [row["tail"] for row in X]

    def scores(self, X):
        return np.array([self.told(row) for row in X])


# --- heads ------------------------------------------------------------------------------------------------------------


def heads(replies, **settings):
    given = iter(replies)
    write = FunctionWriter(lambda turns: [next(given) for _ in turns], name="canned")
    made = SymbolicKD(tails=write, heads=write, batches=1, samples=len(replies), seeds=3, **settings)
    return made, made.write_heads(SEEDS)


def test_heads_are_dropped_for_no_stop_low_likelihood_odd_signs_shortness_and_repetition():
    replies = [
        Written(" PersonX eats an apple", log_prob=-1.0),
        Written(" PersonX runs to the", "length", log_prob=-0.5),
        Written(" PersonX sleeps", log_prob=-1.0),
        Written(" PersonX eats @@ apples", log_prob=-1.0),
        Written(" PersonX eats an apple.\n5. PersonX drinks much tea", log_prob=-2.0),
        Written(" PersonX does thing 3", log_prob=-1.0),
        Written(" PersonX reads the paper", log_prob=-9.0),
        Written("", log_prob=-1.0),
    ]
    made, found = heads(replies, unlikely=0.2)  # a fifth of the seven that came to an end is one
    assert found["head"] == ["PersonX eats an apple"]
    assert [dict(one.rejected) for one in made.accounts] == [
        {},
        {"reply was cut off": 1},
        {"among the 20% least likely": 1},
        {"head has odd characters or none": 2, "head has fewer than 3 words": 1},
        {"duplicate": 2},
    ]
    assert chain(made.accounts).adds_up


def test_each_prompt_is_a_list_of_seeds_drawn_anew():
    prompts = []

    def write(turns):
        prompts.extend(one[-1]["content"] for one in turns)
        return [Written(" PersonX goes far away", log_prob=0.0)] * len(turns)

    made = SymbolicKD(
        tails=writer(str), heads=FunctionWriter(write, name="x"), batches=4, samples=2, seeds=3, task="Go on."
    )
    made.write_heads(SEEDS)
    lists = {prompt for prompt in prompts}
    assert len(prompts) == 8 and len(lists) == 4
    for prompt in lists:
        first, empty, *items, last = prompt.splitlines()
        assert (first, empty, last) == ("Go on.", "", "4.")
        shown = [item.partition(". ")[2] for item in items]
        assert [item.partition(".")[0] for item in items] == ["1", "2", "3"] and len(set(shown)) == 3
        assert set(shown) <= set(SEEDS["head"])


def test_a_writer_without_log_probabilities_is_refused_unless_nothing_is_dropped_by_them():
    with pytest.raises(UserError, match="top_logprobs=1"):
        heads([" PersonX eats an apple"])
    assert heads([" PersonX eats an apple"], unlikely=0)[1]["head"] == ["PersonX eats an apple"]


# --- tails ------------------------------------------------------------------------------------------------------------


def test_the_prompt_of_a_relation_by_hand():
    prompt, names = IS.prompt("elm", shots=2)
    assert prompt == "What is it?\n\nWord: apple\nIt is a fruit\n\nWord: oak\nIt is a tree\n\nWord: elm\nIt is"
    assert IS.prompt("elm", shots=0)[0] == "What is it?\n\nWord: elm\nIt is" and "PersonX" in names


def test_every_relation_of_atomic_has_five_examples_and_asks_for_a_tail():
    assert [one.name for one in ATOMIC] == ["xAttr", "xWant", "xNeed", "xReact", "xEffect", "xIntent", "HinderedBy"]
    for relation in ATOMIC:
        assert len(relation.examples) == 5 and all("PersonX" in head for head, _ in relation.examples)
        prompt, names = relation.prompt("PersonX thanks PersonY", shots=5)
        assert "Person" not in prompt.replace("person", "") and prompt.count("Event:") == 6
        assert f"Event: {names['PersonX']} thanks {names['PersonY']}" in prompt


def test_persons_have_first_names_in_prompts_and_are_themselves_again_in_tails():
    def write(prompt):
        head = prompt.rpartition("Event: ")[2].splitlines()[0]
        one, other = head.split(" calls ")
        return f" to ask {other}'s mother if {one} may come.\n\nEvent: nothing"

    made = SymbolicKD(tails=writer(write), relations=ATOMIC[1:2], tries=1)
    graph = made.write_tails(Dataset.from_list([{"head": "PersonX calls PersonY"}]))
    assert graph["tail"] == ["to ask PersonY's mother if PersonX may come"]


def test_tails_of_strangers_and_empty_ones_are_dropped_and_each_triple_comes_once():
    replies = {"It is": [" a tree", "a tree.", " ", " known to Kim"], "It has": [" leaves", " Leaves", "roots", "Kim"]}
    count = {"It is": 0, "It has": 0}

    def write(prompt):
        _, line = asked(prompt)
        count[line] += 1
        return replies[line][count[line] - 1]

    made = SymbolicKD(tails=writer(write), relations=(IS, HAS), tries=4)
    graph = made.write_tails(Dataset.from_list([{"id": "e", "head": "elm"}]))
    found = [(row["relation"], row["tail"]) for row in graph]
    assert found == [("is", "a tree"), ("has", "leaves"), ("has", "roots")]
    assert [dict(one.rejected) for one in made.accounts[-2:]] == [
        {"tail has fewer than 1 words": 1, "tail names somebody else": 2},
        {"duplicate": 2},
    ]
    assert made.accounts[0].added == 1 and chain(made.accounts).adds_up


def test_all_triples_of_a_head_are_in_one_split():
    made = SymbolicKD(tails=writer(lambda prompt: asked(prompt)[0] + " thing"), relations=(IS, HAS), tries=1)
    graph = made.run(Dataset.from_list([{"head": f"word {n}"} for n in range(60)]))
    by_head = {}
    for row in graph:
        by_head.setdefault(row["head"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_head.values())
    assert set.union(*by_head.values()) == {"train", "validation", "test"}
    assert graph[0]["prompt"] == student_prompt("word 0", "is") == "word 0 is [GEN]"
    assert graph[0]["completion"] == " word 0 thing"


# --- critic -----------------------------------------------------------------------------------------------------------


def labelled(count=200):
    """Scores 0, 1, ... in each head; the upper half is good, with some confusion."""
    rows = []
    for n in range(count):
        rows += [
            {"head": f"head {n}", "relation": "is", "tail": str(score), "good": score >= 5 or score == 2}
            for score in range(10)
        ]
    return Dataset.from_list(rows)


def test_the_threshold_is_where_the_recall_falls_to_what_is_asked():
    """Good are 2, 5, 6, 7, 8, 9. Half of them reach 7, and kept is what is above it; four fifths of them: 6, 7, ..."""
    critic = Known(lambda row: float(row["tail"]))
    made = SymbolicKD(tails=writer(str), critic=critic, recall=0.5)
    told = made.train_critic(labelled())
    assert made.threshold == 7.0 and [one.value for one in told["found"]] == [7.0, 7.0]
    assert told["found"][0].recall == pytest.approx(2 / 6)
    made.recall = 0.8
    assert made.train_critic(labelled())["threshold"] == 6.0  # 5 of 6 is more than 0.8, 4 of 6 reach it
    seen, whole = set(critic.seen), labelled()
    assert seen == {str(n) for n in range(10)} and len(critic.seen) < len(whole)


def test_the_graph_is_what_scores_strictly_above_and_was_not_labelled():
    made = SymbolicKD(tails=writer(str), critic=Known(lambda row: float(row["tail"])), recall=0.5)
    made.train_critic(labelled())
    rows = [{"head": "new", "relation": "is", "tail": str(n)} for n in range(10)]
    rows += [{"head": "head 3", "relation": "is", "tail": "9"}]
    found = made.purify(Dataset.from_list(rows))
    assert found["tail"] == ["8", "9"] and found["score"] == [8.0, 9.0]
    assert made.accounts[-2].rejected == {"the critic saw labels of this head": 1}
    assert made.accounts[-1].rejected == {"score is not above 7": 8}


def test_a_logistic_critic_learns_what_is_good_by_relation():
    """Vectors of one number: under "is" equal numbers are good, under "has" different ones."""
    numbers = {str(n): [float(n % 2)] for n in range(40)}
    features = triple_features(lambda texts: np.array([numbers[text] for text in texts]), ["is", "has"])
    rows = [
        {"head": str(a), "relation": relation, "tail": str(b), "good": (a % 2 == b % 2) == (relation == "is")}
        for a in range(20)
        for b in range(20, 40)
        for relation in ("is", "has")
    ]
    critic = Critic(features, passes=5, strengths=(1.0,))
    made = SymbolicKD(tails=writer(str), critic=critic, relations=(IS, HAS), recall=0.9)
    told = made.train_critic(Dataset.from_list(rows))
    assert told["found"][0].precision == told["found"][1].precision == 1.0
    scores, good = critic.scores(rows), np.array([row["good"] for row in rows])
    assert scores[good].min() > scores[~good].max()
    assert features(rows[:1]).shape == (1, 2 * 6) and len(critic.scores([])) == 0


def test_labels_of_one_kind_are_refused():
    good = labelled().filter(lambda row: row["good"])
    for critic in (Known(lambda row: 1.0), Critic(lambda rows: np.ones((len(rows), 1)))):
        with pytest.raises(UserError, match="good and bad"):
            SymbolicKD(tails=writer(str), critic=critic).train_critic(good)


def test_a_critic_without_a_threshold_is_refused_before_anything_is_asked():
    made = SymbolicKD(tails=writer(lambda _: pytest.fail("asked")), critic=Known(lambda row: 1.0))
    with pytest.raises(UserError, match="call train_critic"):
        made.run(SEEDS)
    for wrong in ({"recall": 0.0}, {"unlikely": 1.0}, {"tries": 0}, {"relations": (IS, IS)}):
        with pytest.raises(ValueError):
            SymbolicKD(tails=writer(str), **wrong)
    assert catalog.load("symbolic-kd") is SymbolicKD


# --- the whole, with a server -----------------------------------------------------------------------------------------


def test_the_whole_pipeline_with_a_server_keeps_aside_what_it_drops(tmp_path):
    """The server's answers depend on the prompt alone; heads are of the sort that passes."""

    def say(prompt):
        if "Word:" in prompt:
            head, line = asked(prompt)
            return f" {'bad' if 'has' in line and '1' in head else 'good'} {head.split()[-1]}", "stop"
        return f" PersonX does deed {abs(hash(prompt)) % 50}", "stop"

    with limited_server(say=say, samples=False) as server:
        settings = {"concurrency": 2}
        made = SymbolicKD(
            heads=Endpoint(server.url, "tiny", **HEADS, **settings, journal=tmp_path / "heads.jsonl"),
            tails=Endpoint(server.url, "tiny", **TAILS, **settings),
            relations=(IS, HAS), batches=4, samples=2, seeds=3, tries=2, unlikely=0.0,
            critic=Known(lambda row: float(row["tail"].startswith("good"))),
            rejects=tmp_path / "rejects",
        )  # fmt: skip
        made.threshold = 0.5
        graph = made.run(SEEDS)
        bodies = [body for _, _, body in server.requests]
    assert len(graph) and all(row["tail"].startswith("good") and row["score"] > 0.5 for row in graph)
    assert {body["top_p"] for body in bodies} == {0.9, 0.5}
    assert {body.get("presence_penalty") for body in bodies} == {0.5, None}
    assert chain(made.accounts).adds_up
    dropped = [json.loads(line) for line in (tmp_path / "rejects" / "repeated-triples.jsonl").read_text().splitlines()]
    assert dropped and {line["reason"] for line in dropped} == {"duplicate"}
