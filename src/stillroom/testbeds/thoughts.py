"""Problems with two unknowns, and thoughts of three kinds about them: the ground of `mix-thoughts`.

A solver that slips now and then writes equations, programs and chains; the pipeline keeps what comes to the right
answer. Students begin with one small Llama that can read the questions and say their numbers, up to 99, but has never
seen one solved. Each then has the same steps, on one kind of thoughts, on all of them, or on bare answers; what is
equal is the number of steps, so the mix sees each kind a third as often. Training ends at 60 things; of the test, one
half stays below, the other asks for numbers between 61 and 99.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.methods.reasoning.mix_thoughts import KINDS, Kind, MixThoughts, answer_of, asked
from stillroom.testbeds.base import Bench, entry
from stillroom.testbeds.small_llama import parameters, train, untrained, writer
from stillroom.testbeds.two_unknowns import Problem, Solver, problems, readings, thought
from stillroom.verify.answers import number_in, same_number

SLIPS = 0.2
DRAWN = {False: 2000, True: 40}
TESTED = {False: 150, True: 4}  # problems of each half of the test
LARGER = {"least": 61, "most": 99}
READING = {False: 300, True: 2}
STEPS = {False: 250, True: 2}
NEW_TOKENS = {False: 48, True: 4}
CONFIG = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_VERSION = 1  # of the problems and the start; a change makes what is in the cache stale


def reader(smoke: bool = False) -> str:
    """The folder of the model that everybody starts from."""

    def build(folder: Path) -> None:
        rows = list(readings(400 if smoke else 8000))
        shown = list(problems("train", 400))
        texts = [row["prompt"] + row["completion"] for row in rows[:2000]]
        texts += [asked(problem.question, kind) + thought(problem, kind) for problem in shown for kind in KINDS]
        start = untrained(folder / "untrained", CONFIG, texts, 600)
        train(folder, start, rows, steps=READING[smoke], learning_rate=6e-3)

    mark = fingerprint(_VERSION, CONFIG, READING[smoke])
    return str(build_once("testbeds/thoughts-reader", mark, build) / "run" / "model")


@cache
def thoughts(smoke: bool) -> list[dict[str, Any]]:
    """The rows of the pipeline, of all kinds."""
    known = list(problems("train", DRAWN[smoke]))

    def build(folder: Path) -> None:
        from datasets import Dataset

        rows = Dataset.from_list([{"question": one.question, "answer": str(one.answer)} for one in known])
        made = MixThoughts(Solver(known, slips=SLIPS)).run(rows)
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))

    kept = build_once("testbeds/thoughts", fingerprint(_VERSION, DRAWN[smoke], SLIPS), build)
    return [json.loads(line) for line in (kept / "rows.jsonl").read_text().splitlines()]


def tests(smoke: bool) -> dict[str, list[Problem]]:
    """The two halves of the test."""
    count = TESTED[smoke]
    return {"exact_match": list(problems("test", count)), "larger": list(problems("test", count, **LARGER))}


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Train a student on each kind of thoughts, on all and on bare answers: entries as in a run's evaluation.json."""
    start, rows, halves = reader(smoke), thoughts(smoke), tests(smoke)
    solved = {row["question"]: row["answer"] for row in rows}
    bare = [{"prompt": f"{question}\nAnswer:\n", "completion": answer} for question, answer in solved.items()]
    data: dict[str, list[dict[str, Any]]] = {
        "mix-thoughts": rows,
        **{kind: [row for row in rows if row["kind"] == kind] for kind in KINDS},
        "answers-only": bare,
    }
    entries = [entry("solver", "teacher", 0, _solver(halves))]
    size = parameters(start)
    for name, own in data.items():
        with tempfile.TemporaryDirectory() as folder:
            kept = [{"prompt": row["prompt"], "completion": row["completion"]} for row in own]
            model, seconds = train(
                Path(folder), start, kept, steps=STEPS[smoke], learning_rate=4e-3, schedule="cosine", seed=seed
            )
            written = _written(model, name, halves, NEW_TOKENS[smoke])
        role = "student" if name == "mix-thoughts" else "baseline"
        entries.append(entry(name, role, size, _shares(written, halves), seconds, alone=name == "answers-only"))
        if name == "mix-thoughts":
            entries.append(entry("mix-vote", "baseline", size, _shares(written, halves, rule="vote"), seconds))
            entries += [
                entry(f"mix-{kind}", "baseline", size, _shares(written, halves, priority=[kind]), seconds)
                for kind in KINDS
            ]
    return entries


def _written(model: str, name: str, halves: dict[str, list[Problem]], new: int) -> dict[str, list[dict[str, str]]]:
    """What a student writes of each problem, of each kind that it has learnt."""
    write = writer(model, new_tokens=new)
    kinds: Sequence[Any] = tuple(KINDS) if name == "mix-thoughts" else (name,)
    found: dict[str, list[dict[str, str]]] = {}
    for half, rows in halves.items():
        said = {
            kind: write(
                [asked(one.question, kind) if kind in KINDS else f"{one.question}\nAnswer:\n" for one in rows], 1, 0.0
            )
            for kind in kinds
        }
        found[half] = [{kind: said[kind][place][0] for kind in kinds} for place in range(len(rows))]
    return found


def _shares(
    written: dict[str, list[dict[str, Any]]], halves: dict[str, list[Problem]], **rule: Any
) -> dict[str, float]:
    """The share of right answers of each half."""

    def right(texts: dict[Any, str], problem: Problem) -> bool:
        bare = texts.get("answers-only")
        return same_number(answer_of(texts, **rule) if bare is None else number_in(bare), problem.answer)

    return {
        half: sum(right(texts, problem) for texts, problem in zip(written[half], rows, strict=True)) / len(rows)
        for half, rows in halves.items()
    }


def _solver(halves: dict[str, list[Problem]]) -> dict[str, float]:
    """The teacher's own answers, by its chains."""
    shares = {}
    for half, rows in halves.items():
        said = Solver(rows, slips=SLIPS)([f"chain\nQuestion: {one.question}" for one in rows], 1, 0.0)
        kind: Kind = "chain"
        shares[half] = sum(
            same_number(answer_of({kind: text}), one.answer) for (text,), one in zip(said, rows, strict=True)
        ) / len(rows)
    return shares


MIXED = Bench(
    claim="Trained on equations, programs and chains, a student solves more problems than on equations alone.",
    metric="exact_match",
    higher_is_better=True,
    versus="equations",
    measure=measure,
)
