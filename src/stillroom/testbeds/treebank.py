"""Sentences of a probabilistic grammar with their trees, and weak parsers of them: the ground of tree averaging.

The grammar is a small English: noun phrases with adjectives, prepositional phrases and relative clauses, verbs with
objects and sentences; prepositional phrases attach where chance has it. Its words are numbered in their classes. Seven
weak parsers know little of it: one branches to the right, one to the left, one cuts where neighbouring words are least
often met together, and four know the gold tree and cut at random 40 % of the time, each in its own way. No student
sees a gold tree; the best parser is chosen by gold trees of the validation sentences, which is more than a
practitioner could do.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.blocks.biaffine import Biaffine
from stillroom.blocks.charts import best_trees, tree_entropy
from stillroom.blocks.trees import Tree, right_binarised, spans_of, tree_of, words_of
from stillroom.evaluate.brackets import mean_f1
from stillroom.methods.parsing.tree_averaging import TreeAveraging
from stillroom.objectives.trees import tree_nll
from stillroom.testbeds.base import Bench, entry
from stillroom.views.base import pad

SIZES = {False: {"train": 1500, "validation": 200, "test": 500}, True: {"train": 60, "validation": 20, "test": 20}}
SHORTEST, LONGEST = 5, 15  # words
ERRORS = 0.4  # of the splits of a parser that knows the gold tree are drawn
KNOWING = 4  # such parsers
STEPS = {False: 400, True: 2}

# Left side -> (probability, right side); a name in capitals alone is a class of words.
GRAMMAR: dict[str, list[tuple[float, tuple[str, ...]]]] = {
    "s": [(0.85, ("np", "vp")), (0.15, ("pp", "np", "vp"))],
    "np": [
        *((0.35, ("DET", "NOUN")), (0.2, ("DET", "adj", "NOUN")), (0.2, ("PRONOUN",))),
        *((0.15, ("np", "pp")), (0.1, ("np", "rc"))),
    ],
    "adj": [(0.8, ("ADJECTIVE",)), (0.2, ("ADVERB", "ADJECTIVE"))],
    "vp": [
        *((0.2, ("VERB",)), (0.35, ("VERB", "np")), (0.2, ("vp", "pp"))),
        *((0.1, ("SAYS", "sbar")), (0.15, ("MODAL", "vp"))),
    ],
    "pp": [(1.0, ("PREPOSITION", "np"))],
    "rc": [(1.0, ("RELATIVE", "vp"))],
    "sbar": [(1.0, ("COMPLEMENT", "s"))],
}
CLASSES = {
    **{"DET": 4, "NOUN": 60, "PRONOUN": 6, "ADJECTIVE": 20, "ADVERB": 6, "VERB": 40, "SAYS": 5, "MODAL": 5},
    **{"PREPOSITION": 8, "RELATIVE": 2, "COMPLEMENT": 2},
}

SLUG = "tree-averaging"


# --- sentences --------------------------------------------------------------------------------------------------------


@cache
def sentences(part: str, smoke: bool) -> list[Tree]:
    """Gold trees of a part, of different sentences, none of which is in two parts."""
    draw, found = random.Random("treebank"), dict[tuple[str, ...], Tree]()
    sizes = SIZES[smoke]
    while len(found) < sum(sizes.values()):
        tree = _drawn("s", draw, 0)
        if tree is not None and SHORTEST <= len(words := tuple(words_of(tree))) <= LONGEST:
            found.setdefault(words, tree)
    first = {"train": 0, "validation": sizes["train"], "test": sizes["train"] + sizes["validation"]}[part]
    return list(found.values())[first : first + sizes[part]]


def _drawn(name: str, draw: random.Random, depth: int) -> Tree | None:
    """A tree of the grammar; None where it grows without end. A word is drawn by Zipf's law in its class."""
    if name in CLASSES:
        count = CLASSES[name]
        (number,) = draw.choices(range(count), [1 / (rank + 1) for rank in range(count)])
        return f"{name.lower()}{number}"
    if depth > 12:
        return None
    rules = GRAMMAR[name]
    ((_, right),) = draw.choices(rules, [share for share, _ in rules])
    parts = [_drawn(part, draw, depth + 1) for part in right]
    whole = tuple(part for part in parts if part is not None)
    if len(whole) < len(parts):
        return None
    return whole[0] if len(whole) == 1 else whole


# --- parsers ----------------------------------------------------------------------------------------------------------

Split = Callable[[int, int], int]


def top_down(words: Sequence[str], split: Split) -> Tree:
    """The binary tree whose spans are cut where ``split`` says: a place between start and end."""

    def node(start: int, end: int) -> Tree:
        if end - start == 1:
            return words[start]
        cut = split(start, end)
        return (node(start, cut), node(cut, end))

    return node(0, len(words))


def right_branching(tree: Tree) -> Tree:
    """Cuts after the first word."""
    return top_down(words_of(tree), lambda start, end: start + 1)


def left_branching(tree: Tree) -> Tree:
    """Cuts before the last word."""
    return top_down(words_of(tree), lambda start, end: end - 1)


@cache
def _met(smoke: bool) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """How often words and pairs of neighbours occur in the training sentences; a word is known by its class alone."""
    words, pairs = Counter[str](), Counter[tuple[str, str]]()
    for tree in sentences("train", smoke):
        classes = [word.rstrip("0123456789") for word in words_of(tree)]
        words.update(classes)
        pairs.update(itertools.pairwise(classes))
    return words, pairs


def by_information(tree: Tree, smoke: bool) -> Tree:
    """Cuts where the pointwise mutual information of neighbouring words' classes is lowest."""
    words, (single, both) = words_of(tree), _met(smoke)
    classes = [word.rstrip("0123456789") for word in words]

    def information(place: int) -> float:
        left, right = classes[place - 1], classes[place]
        return math.log((both[left, right] + 0.1) / (single[left] * single[right] + 1))

    return top_down(words, lambda start, end: min(range(start + 1, end), key=information))


def with_errors(tree: Tree, draw: random.Random) -> Tree:
    """Cuts where the gold tree does, and anywhere 40 % of the time; below a wrong cut again as gold as can be."""
    words = words_of(tree)
    height = [0] * (len(words) + 1)  # how high up the gold tree two neighbours part
    for start, end in spans_of(right_binarised(tree)):
        for place in range(start + 1, end):
            height[place] += 1

    def split(start: int, end: int) -> int:
        if draw.random() < ERRORS:
            return draw.randrange(start + 1, end)
        return min(range(start + 1, end), key=lambda place: height[place])

    return top_down(words, split)


def parsed(part: str, smoke: bool, seed: int) -> dict[str, list[Tree]]:
    """Parser -> its trees of the sentences of a part."""
    gold = sentences(part, smoke)
    found = {
        "right-branching": [right_branching(tree) for tree in gold],
        "left-branching": [left_branching(tree) for tree in gold],
        "mutual-information": [by_information(tree, smoke) for tree in gold],
    }
    for number in range(KNOWING):
        draw = random.Random(f"{part} {seed} {number}")
        found[f"erring-{number}"] = [with_errors(tree, draw) for tree in gold]
    return found


# --- student ----------------------------------------------------------------------------------------------------------


class SpanParser(nn.Module):
    """Scores of all spans of a sentence, by a BiLSTM and a biaffine layer between the places around the words."""

    def __init__(self, vocabulary: int, width: int = 96) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.read = nn.LSTM(width, width, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.left, self.right = (nn.Sequential(nn.Linear(2 * width, width), nn.ReLU()) for _ in range(2))
        self.pair = Biaffine(width)

    def forward(self, ids: Tensor) -> Tensor:
        """Scores [B, N + 1, N + 1] of words [B, N + 2], which begin and end with a mark."""
        forward, backward = self.read(self.words(ids))[0].chunk(2, -1)
        places = torch.cat([forward[:, :-1], backward[:, 1:]], -1)
        return self.pair(self.left(places), self.right(places)).squeeze(-1)


UNKNOWN, MARK = 0, 1


def trained(trees: Sequence[Tree], smoke: bool, seed: int) -> tuple[SpanParser, dict[str, int]]:
    """A student of these trees: as many steps, and the same start for each seed, whatever the trees."""
    known = sorted({word for tree in sentences("train", smoke) for word in words_of(tree)})
    vocabulary = {word: number for number, word in enumerate(known, 2)}
    torch.manual_seed(seed)
    student = SpanParser(len(vocabulary) + 2)
    optimiser = torch.optim.AdamW(student.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS[smoke])
    encoded = [(_ids(tree, vocabulary), spans_of(tree)) for tree in trees]
    for _ in range(STEPS[smoke]):
        chosen = [encoded[int(n)] for n in torch.randint(len(encoded), (32,))]
        ids, real = pad([one for one, _ in chosen])
        spans = torch.zeros(len(chosen), ids.shape[1] - 1, ids.shape[1] - 1, dtype=torch.bool)
        for row, (_, own) in enumerate(chosen):
            spans[row][tuple(torch.tensor(own).T)] = True
        loss = tree_nll(student(ids), spans, real.sum(1) - 2, torch.ones(len(chosen), dtype=torch.bool)).mean
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return student.eval(), vocabulary


def _ids(tree: Tree, vocabulary: dict[str, int]) -> list[int]:
    return [MARK, *(vocabulary.get(word, UNKNOWN) for word in words_of(tree)), MARK]


@torch.no_grad()
def _of_student(student: SpanParser, vocabulary: dict[str, int], gold: Sequence[Tree]) -> dict[str, float]:
    """``f1``, and ``entropy``: the mean over sentences of that of the student's trees, in nats a word."""
    found: list[Tree] = []
    unsure = 0.0
    for start in range(0, len(gold), 128):
        ids, real = pad([_ids(tree, vocabulary) for tree in gold[start : start + 128]])
        scores, lengths = student(ids), real.sum(1) - 2
        unsure += float((tree_entropy(scores, lengths) / lengths).sum())
        spans = best_trees(scores, lengths)[1]
        found += [tree_of(words_of(tree), own) for tree, own in zip(gold[start : start + 128], spans, strict=True)]
    return {"f1": mean_f1(gold, found), "entropy": unsure / len(gold)}


# --- bench ------------------------------------------------------------------------------------------------------------


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """F1 on the test of each parser, of their averages, and of students of the averages and of all trees."""
    gold, held_out = sentences("test", smoke), sentences("validation", smoke)
    teachers, before = parsed("test", smoke, seed), parsed("validation", smoke, seed)
    f1 = {name: mean_f1(gold, trees) for name, trees in teachers.items()}
    best = max(before, key=lambda name: mean_f1(held_out, before[name]))
    together = list(zip(*teachers.values(), strict=True))
    entries = [
        *(_of_trees(mode, mean_f1(gold, TreeAveraging(mode=mode).fit_transform(together))) for mode in MODES),  # type: ignore[arg-type]
        _of_trees("best-teacher", f1[best]),
        _of_trees("mean-teacher", sum(f1.values()) / len(f1)),
        *(_of_trees(name, value) for name, value in f1.items()),
    ]
    entries[0] |= {"name": SLUG, "role": "student"}
    shown = parsed("train", smoke, seed)
    sets = {
        "student-of-averages": TreeAveraging().fit_transform(list(zip(*shown.values(), strict=True))),
        "student-of-union": [tree for trees in shown.values() for tree in trees],
        "student-of-best": shown[best],
    }
    for name, trees in sets.items():
        began = time.monotonic()
        student, vocabulary = trained(trees, smoke, seed)
        seconds = time.monotonic() - began
        entries.append(entry(name, "baseline", student, _of_student(student, vocabulary, gold), seconds))
    return entries


MODES = ("generative", "selective")


def _of_trees(name: str, value: float) -> dict[str, Any]:
    return entry(name, "baseline", 0, {"f1": value})


AVERAGED = Bench(
    claim="The average of several weak parsers' trees is nearer to the gold trees than those of the best parser.",
    metric="f1",
    higher_is_better=True,
    versus="best-teacher",
    measure=measure,
)
