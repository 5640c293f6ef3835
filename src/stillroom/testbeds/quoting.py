"""Questions in two steps over ten sentences: the ground of quote extraction.

A context says of a few countries which city lies there, how people pay and what they speak; the question names a city
and asks for money or language, so that two sentences are needed: the city's, and one of its country. A small Llama, the
reader, first learns to answer from sentences in which all the world's names are shuffled, so that it knows names and no
facts, and to find a sentence that has a name. A teacher that knows the answer marks the quotes, with errors that the
pipeline is to find; adapters on the same Llama learn to quote from what it keeps, on the real facts of training
countries. Questions of the test are about other countries.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from stillroom.blocks.sampler import answers, stop_ids
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.facts import load
from stillroom.evaluate.generation import exact_match
from stillroom.evaluate.quotes import reply_scores
from stillroom.methods.synthesis.llmquoter import STUDENT, LLMQuoter, answer_from_quotes, quoter_prompt, reader_prompt
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.synthesis.quotes import write_quotes
from stillroom.synthesis.writers import FunctionWriter
from stillroom.testbeds.base import UNWATCHED, Bench, entry, trained_once
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened, open_model

SENTENCES = 10
NOISE = 0.15  # of the teacher's replies have an error
TRAINED = {False: 20_000, True: 60}  # shuffled contexts that the reader learns from
MARKED = {False: 2000, True: 24}  # contexts that the teacher marks
ASKED = {False: 200, True: 6}  # questions of the test
RELATIONS = {"uses_currency": "money", "official_language": "language"}
SAID = {"city": "{b} is in {a}.", "money": "{a} pays with {b}.", "language": "{a} speaks {b}."}
QUESTIONS = {"money": "What does {city} pay with?", "language": "What does {city} speak?"}

MODEL = {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3, "num_attention_heads": 4}
SHAPE = {"max_position_embeddings": 256, "initializer_range": 0.08}
WINDOW = 224

SLUG = "llmquoter"
Row = dict[str, Any]


# --- contexts ---------------------------------------------------------------------------------------------------------


@cache
def countries(split: str) -> list[dict[str, str]]:
    """Countries of a split with a city, money and language of their own: names, each of one country's first."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in load("triples", split, None, 0):
        kind = "city" if row["relation"] == "has_city" else RELATIONS.get(row["relation"])
        if kind is not None and row["subject_type"] == "country":
            found[row["subject_label"]].setdefault(kind, row["object_label"])
    return [{"country": name, **own} for name, own in sorted(found.items()) if len(own) == 3]


def contexts(known: list[dict[str, str]], count: int, seed: int) -> list[Row]:
    """Questions with their context, sentences, gold quotes and answer."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        asked, *others = draw.sample(known, 5)
        kind = draw.choice(list(QUESTIONS))
        gold = [_say("city", asked), _say(kind, asked)]
        rest = [_say(one, asked) for one in QUESTIONS if one != kind]
        rest += draw.sample([_say(one, other) for other in others for one in SAID], SENTENCES - 3)
        said = [*gold, *rest]
        draw.shuffle(said)
        question, context = QUESTIONS[kind].format(city=asked["city"]), "\n".join(said)
        found = {"question": question, "context": context, "answer": asked[kind]}
        rows.append({"id": f"{seed}-{number}", **found, "gold": gold})
    return rows


def _say(kind: str, country: dict[str, str]) -> str:
    return SAID[kind].format(a=country["country"], b=country[kind])


def shuffled(draw: random.Random) -> list[dict[str, str]]:
    """Countries with the cities, money and languages of others, all names of the world among them."""
    known = [row for split in ("train", "validation", "test") for row in countries(split)]
    columns = {kind: draw.sample([row[kind] for row in known], len(known)) for kind in known[0]}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


# --- reader -----------------------------------------------------------------------------------------------------------


def _reading_rows(smoke: bool) -> str:
    """A file of {prompt, completion}: answers from the gold sentences and some more, and sentences that have a name."""

    def build(folder: Path) -> None:
        folder.mkdir()
        draw, lines = random.Random(0), []
        for start in range(0, TRAINED[smoke], 200):
            for row in contexts(shuffled(draw), min(200, TRAINED[smoke]), start):
                said = row["context"].split("\n")
                if draw.random() < 0.5:
                    more = [one for one in said if one not in row["gold"]]
                    shown = row["gold"] + draw.sample(more, draw.randint(0, len(more)))
                    draw.shuffle(shown)
                    prompt, completion = reader_prompt(row["question"], shown), f" {row['answer']}"
                else:
                    chosen = draw.choice(said)
                    name = next(name for name in (*_names(chosen),) if sum(name in one for one in said) == 1)
                    prompt, completion = _find(name, row["context"]), f" {write_quotes([chosen])}"
                lines.append(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
        (folder / "rows.jsonl").write_text("".join(lines))

    mark = fingerprint(countries("train"), countries("test"), TRAINED[smoke], SAID, QUESTIONS, SENTENCES, 1)
    return str(build_once("testbeds/quoting", mark, build) / "rows.jsonl")


def _names(sentence: str) -> list[str]:
    """What a sentence is about, the rarer name first, and the sentence itself."""
    for form in (" is in ", " pays with ", " speaks "):
        if form in sentence:
            first, _, second = sentence.removesuffix(".").partition(form)
            return [first, second, sentence] if form == " is in " else [second, first, sentence]
    raise AssertionError(sentence)


def _find(name: str, context: str) -> str:
    return f"Context:\n{context}\n\nFind: {name}\nQuotes:"


def reader(smoke: bool = False) -> str:
    """The folder of the model that answers, and that the quoter starts from."""
    new = {"architecture": "llama", "config": MODEL | SHAPE, "vocabulary": 2048}
    recipe = {
        "task": "language",
        "student": {"new": new, "max_length": WINDOW},
        "data": _reading_rows(smoke),
        "method": "sft",
        "train": _train(2 if smoke else 600, 2e-3),
    }
    return trained_once("quoting-reader", recipe)


def _train(steps: int, rate: float, seed: int = 0) -> dict[str, Any]:
    return {
        "steps": steps,
        "batch_size": 24,
        "learning_rate": rate,
        **UNWATCHED,
        "seed": seed,
    }


# --- quoter -----------------------------------------------------------------------------------------------------------


def marked(smoke: bool, seed: int) -> Dataset:
    """The pipeline's rows: what the teacher marked in contexts of training countries, and what was kept of it."""
    rows = contexts(countries("train"), MARKED[smoke], 1000 + seed)
    right = {(row["question"], row["context"]): row["gold"] for row in rows}
    draw = random.Random(seed)

    def mark(turns: list[Any]) -> list[str]:
        return [_marks(right[tuple(json.loads(one[-1]["content"]))], draw) for one in turns]

    method = LLMQuoter(
        teacher=FunctionWriter(mark, name="oracle"), ask=lambda row: json.dumps([row["question"], row["context"]])
    )
    return method.run(Dataset.from_list(rows))


def _marks(gold: list[str], draw: random.Random) -> str:
    """The gold quotes, in some replies with an error: words of its own, a quote that nobody wrote, a half one."""
    if draw.random() >= NOISE:
        return write_quotes(gold)
    return draw.choice(
        [
            f"Here they are: {write_quotes(gold)}",
            write_quotes([gold[0].replace(" is in ", " is a city of "), gold[1]]),
            write_quotes(gold)[:-5],
        ]
    )


def quoter(smoke: bool, seed: int, rows: list[Row] | Dataset) -> tuple[Opened, float]:
    """The reader with adapters that learnt to complete these rows, merged."""
    model, began = reader(smoke), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lines = [json.dumps({"prompt": row["prompt"], "completion": row["completion"]}) + "\n" for row in rows]
        Path(f"{folder}/rows.jsonl").write_text("".join(lines))
        recipe = {
            "name": "run",
            "output": folder,
            "task": "language",
            "student": {"model": model, "max_length": WINDOW},
            "data": f"{folder}/rows.jsonl",
            "method": STUDENT["method"],
            "train": _train(2 if smoke else 200, 3e-3, seed),
        }
        run = execute(check(recipe), timed=False)
        return open_model(str(run.model), "language", max_length=WINDOW), time.monotonic() - began


@torch.no_grad()
def _write(opened: Opened, prompts: list[str], new: int) -> list[str]:
    """Greedy replies."""
    view, said = opened.view, list[str]()
    assert isinstance(view, CausalLM)
    for start in range(0, len(prompts), 64):
        ids = [view.tokenizer(prompt)["input_ids"] for prompt in prompts[start : start + 64]]
        stop = stop_ids(opened.model, view.tokenizer)
        found = answers(opened.model, ids, stop=stop, max_new_tokens=new, temperature=0, vocabulary=view.vocabulary)
        said += view.tokenizer.batch_decode(found, skip_special_tokens=True)
    return said


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Answers from the whole context, from predicted quotes and from gold ones; quotes before and after the tuning."""
    rows = contexts(countries("test"), ASKED[smoke], 5000 + seed)
    right, gold = [row["answer"] for row in rows], [row["gold"] for row in rows]
    base = open_model(reader(smoke), "language", max_length=WINDOW)
    kept = marked(smoke, seed)
    made, seconds = quoter(smoke, seed, kept)
    both = [{**row, "completion": f"{row['completion']}\nAnswer: {row['answer']}"} for row in kept.to_list()]
    raft, raft_seconds = quoter(smoke, seed, both)

    def read(prompts: list[str]) -> list[str]:
        return [said.strip() for said in _write(base, prompts, 16)]

    def quote(opened: Opened, new: int = 80) -> list[str]:
        return _write(opened, [quoter_prompt(row["question"], row["context"]) for row in rows], new)

    def answered(
        name: str, opened: Opened, said: list[str], scores: dict[str, float] | None = None, spent: float | None = None
    ) -> dict[str, Any]:
        metrics = {"accuracy": exact_match(said, right)} | (scores or {})
        return entry(name, "student" if name == SLUG else "baseline", opened.model, metrics, spent)

    entries = []
    for name, opened, spent in ((SLUG, made, seconds), ("untuned-quoter", base, None)):
        replies = quote(opened)
        pairs = answer_from_quotes(rows, lambda _, said=replies: said, read)  # type: ignore[misc]
        entries.append(answered(name, opened, [said for said, _ in pairs], reply_scores(replies, gold), spent))
    whole = read([reader_prompt(row["question"], row["context"].split("\n")) for row in rows])
    entries.append(answered("full-context", base, whole))
    entries.append(answered("gold-quotes", base, read([reader_prompt(row["question"], row["gold"]) for row in rows])))
    replies = quote(raft, 100)
    last = [reply.rpartition("Answer:")[2].strip() for reply in replies]
    found = reply_scores([reply.partition("\nAnswer:")[0] for reply in replies], gold)
    entries.append(answered("raft", raft, last, found, raft_seconds))
    return entries


QUOTED = Bench(
    claim="A reader answers more from the quotes that a tuned quoter found than from the whole context.",
    metric="accuracy",
    higher_is_better=True,
    versus="full-context",
    measure=measure,
)
