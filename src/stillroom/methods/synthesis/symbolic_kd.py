"""Symbolic knowledge distillation: a large model writes a graph, a critic purifies it, a small model learns it.

**Paper**: West et al. 2022, "Symbolic Knowledge Distillation: from General Language Models to Commonsense Models"
(NAACL 2022, arXiv 2110.07178; code: peterwestai2/symbolic-knowledge-distillation).

**Idea**: A general language model knows more than it says reliably. Prompted with examples, it writes heads, then tails
for each head and relation, as text; a critic trained on some thousand human labels keeps the good triples; a much
smaller model trained on these is a better commonsense model than its teacher.

**Objective**: with the critic's probability c(h, r, t) that people call a triple valid, and the threshold theta at
which its recall on labelled triples has fallen to R (0.5 filters much, 0.8 some), the student is trained on

    G = {(h, r, t) : c(h, r, t) > theta},   loss = mean over G of  -log p(t [EOS] | h r [GEN]),

the mean over the tokens of t. theta is the mean of the thresholds found on the labelled validation and test triples.

**Kept and changed**: Kept: lists of seeds drawn anew for every batch, samples of 100, the proper stop, the 20 % of
least log-probability dropped, odd characters and short heads dropped, prompts for each relation with first names for
the persons that are mapped back, duplicates dropped in each (head, relation), splits by head, and the walk up the
precision-recall curve. The critic is a logistic head on the features of any encoder, where theirs is a fine-tuned
RoBERTa-large-MNLI; its strength is chosen like their checkpoint, by precision at a recall of 0.8 on validation labels.
Anything with ``fit`` and ``scores`` may be the critic. Triples of heads that were labelled are dropped from the graph,
since the threshold was chosen on them. Prompts and examples are our own, five for each relation (theirs has five, the
paper ten), and a tail that was cut off is dropped like a head. [GEN] is plain text in the student's prompt unless its
tokenizer has such a token. Writers hold the sampling: `HEADS` and `TAILS` are the paper's settings for an endpoint.

**Use it when**: a general model writes short facts well enough that a third of them are wrong, a thousand can be
labelled, and what is wanted is the graph itself or a small model that completes it. Without labels, the rows are only
as good as the writer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from datasets import Dataset

from stillroom.data.tables import part_of, split_rows
from stillroom.errors import UserError
from stillroom.method import Pipeline
from stillroom.synthesis import filters
from stillroom.synthesis.account import Account, Outcome, accounted
from stillroom.synthesis.atomic import ATOMIC
from stillroom.synthesis.columns import beside, each_row, require
from stillroom.synthesis.duplicates import exact
from stillroom.synthesis.generate import generate
from stillroom.synthesis.listed import listed
from stillroom.synthesis.threshold import Threshold, crossing
from stillroom.synthesis.triples import Relation, names_for, strangers, unnamed

if TYPE_CHECKING:
    from stillroom.synthesis.writers import Writer

__all__ = ["SymbolicKD", "HEADS", "TAILS", "Judge", "student_prompt"]  # noqa: RUF022 - the first name is the method

HEADS: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 0.9,
    "max_tokens": 12,
    "top_logprobs": 1,
    "extra": {"presence_penalty": 0.5, "frequency_penalty": 0.5, "stop": "\n"},
}
"""What an `Endpoint` that writes heads is made with."""
TAILS: dict[str, Any] = {"temperature": 1.0, "top_p": 0.5, "max_tokens": 12, "extra": {"stop": "\n\n"}}
"""What an `Endpoint` that writes tails is made with."""

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
_PLAIN = re.compile(r"[A-Za-z0-9À-ɏ '’,.-]+")


class Judge(Protocol):
    """A critic that learns from labelled rows and scores others; `stillroom.synthesis.critic.Critic` is one."""

    def fit(self, X: Any, y: Any, held_out: Any = None) -> Any:
        """Learn from rows and labels."""
        ...

    def scores(self, X: Any) -> Any:
        """One number a row, higher for better ones."""
        ...


class SymbolicKD(Pipeline):
    """Seeds to a purified graph of (head, relation, tail), as rows that a language model can be trained on.

    The stages can be run one by one: `write_heads`, `write_tails`, `train_critic`, `purify`, `student_rows`.

    Args:
        tails: who writes tails; see `TAILS`.
        heads: who writes heads, with log-probabilities; see `HEADS`. None takes the rows that `run` is given as heads.
        relations: what is asked of every head.
        critic: learns in `train_critic`; None leaves the graph as it was written.
        recall: of good triples that the critic's threshold aims at, in (0, 1]; smaller ones filter more.
        batches: prompts for heads, each with examples of its own.
        samples: heads sampled for a prompt.
        seeds: examples in a prompt for heads.
        tries: tails sampled for each head and relation.
        shots: examples in a prompt for tails, as far as the relation has them.
        unlikely: the share of heads with the least log-probability that is dropped, in [0, 1).
        shortest: words that a head has at least.
        task: a sentence above the list of heads.
        shares: of train, validation and test, by head.
        seed: of the choice of seeds and of the persons' names.
        rejects: folder for the dropped rows, a file for each step.

    Attributes:
        accounts: of all steps that ran, in their order.
        threshold: of the critic's score; None before `train_critic`.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(
        self,
        *,
        tails: Writer,
        heads: Writer | None = None,
        relations: Sequence[Relation] = ATOMIC,
        critic: Judge | None = None,
        recall: float = 0.5,
        batches: int = 10,
        samples: int = 100,
        seeds: int = 10,
        tries: int = 10,
        shots: int = 10,
        unlikely: float = 0.2,
        shortest: int = 3,
        task: str = "",
        shares: Mapping[str, float] = SHARES,
        seed: int = 0,
        rejects: str | Path | None = None,
    ) -> None:
        if not 0 < recall <= 1 or not 0 <= unlikely < 1 or min(batches, samples, seeds, tries, shortest) < 1:
            raise ValueError("recall lies in (0, 1], unlikely in [0, 1), and all numbers are at least 1")
        if len({relation.name for relation in relations}) != len(relations) or not relations:
            raise ValueError("there must be relations, each with a name of its own")
        self.heads, self.tails, self.critic = heads, tails, critic
        self.relations = {relation.name: relation for relation in relations}
        self.recall, self.batches, self.samples, self.seeds = recall, batches, samples, seeds
        self.tries, self.shots, self.unlikely, self.shortest, self.task = tries, shots, unlikely, shortest, task
        self.shares, self.seed = dict(shares), seed
        self.rejects = None if rejects is None else Path(rejects)
        self.accounts: list[Account] = []
        self.threshold: float | None = None
        self.labelled: set[str] = set()

    def run(self, dataset: Dataset) -> Dataset:
        """The graph: head, relation, tail, split, score (where there is a critic), and the student's prompt and text.

        Args:
            dataset: rows with ``head``: seeds, or the heads themselves where nobody writes heads.

        Raises:
            UserError: the critic has not been trained, or the heads' writer gives no log-probabilities.
        """
        if self.critic is not None and self.threshold is None:
            raise UserError("the critic has no threshold yet; label some triples and call train_critic first")
        graph = self.write_tails(self.write_heads(dataset) if self.heads is not None else dataset)
        return self.student_rows(self.purify(graph) if self.critic is not None else graph)

    # --- heads ---

    def write_heads(self, seeds: Dataset) -> Dataset:
        """New heads after lists of seeds (rows with ``head``), those of them that pass; columns id and head."""
        require(seeds, "head")
        known, draw = list(dict.fromkeys(seeds["head"])), random.Random(self.seed)
        if self.heads is None or len(known) < self.seeds:
            raise UserError(f"new heads need a writer and at least {self.seeds} seeds; there are {len(known)} seeds")
        prompts = Dataset.from_list(
            [{"id": f"heads-{n}", "prompt": self._list(draw.sample(known, self.seeds))} for n in range(self.batches)]
        )
        asked = self._note(
            generate(
                prompts,
                self.heads,
                lambda row: row["prompt"],
                samples=self.samples,
                rejects=self._aside("write heads"),
                stage="write heads",
            )
        )
        whole = self._keep(asked, [filters.finished()], "cut off heads")
        heads = ["".join(listed(reply, first=True)[:1]) for reply in whole["reply"]]
        rows = beside(whole.remove_columns(["prompt", "reply"]), range(len(whole)), {"head": heads})
        likely = self._drop_unlikely(rows).remove_columns(["reply_call"])
        fitting = self._keep(likely, [_plain, filters.length("head", least=self.shortest)], "odd heads")
        stage = "repeated heads"
        return self._note(exact(fitting, "head", against=known, rejects=self._aside(stage), stage=stage))

    def _list(self, shown: Sequence[str]) -> str:
        lines = [f"{number}. {head}" for number, head in enumerate(shown, 1)]
        return "\n".join([*([self.task, ""] if self.task else []), *lines, f"{len(lines) + 1}."])

    def _drop_unlikely(self, rows: Dataset) -> Dataset:
        """All but the heads of least log-probability."""
        if not self.unlikely or not len(rows):
            return rows
        found = [call["log_prob"] for call in rows["reply_call"]]
        if None in found:
            raise UserError(
                "the heads' writer gives no log-probabilities to drop the least likely heads by; ask for them "
                "(top_logprobs=1 of an endpoint), or set unlikely=0"
            )
        ranked = sorted(range(len(found)), key=found.__getitem__)
        last = set(ranked[: int(self.unlikely * len(found))])
        marked = beside(rows, range(len(rows)), {"unlikely": [place in last for place in range(len(rows))]})
        told = f"among the {self.unlikely:.0%} least likely"
        kept = self._keep(marked, [lambda row: told if row["unlikely"] else None], "unlikely heads")
        return kept.remove_columns(["unlikely"])

    # --- tails ---

    def write_tails(self, heads: Dataset) -> Dataset:
        """Tails for each head (column ``head``) and relation: id, head, relation, tail and split, each triple once."""
        require(heads, "head")
        with accounted("relations") as account:
            account.rows, account.kept = len(heads), len(heads) * len(self.relations)
            account.added = account.kept - account.rows
            ids = heads["id"] if "id" in heads.column_names else [str(place) for place in range(len(heads))]
            pairs = [(place, name) for place in range(len(heads)) for name in self.relations]
            made = {
                "relation": [name for _, name in pairs],
                "id": [f"{ids[place]} {name}" for place, name in pairs],
                "split": [part_of(heads[place]["head"], self.shares) for place, _ in pairs],
            }
            asking = beside(heads.select_columns(["head"]), [place for place, _ in pairs], made)
        self.accounts.append(account)
        asked = self._note(
            generate(
                asking,
                self.tails,
                lambda row: self._ask(row)[0],
                samples=self.tries,
                rejects=self._aside("write tails"),
                stage="write tails",
            )
        )
        whole = self._keep(asked, [filters.finished()], "cut off tails")
        tails = [self._tail(row) for row in each_row(whole)]
        rows = beside(whole.remove_columns(["reply", "reply_call"]), range(len(whole)), {"tail": tails})
        fitting = self._keep(rows, [filters.length("tail", least=1), _nobody], "odd tails")
        stage = "repeated triples"
        return self._note(exact(fitting, ["head", "relation", "tail"], rejects=self._aside(stage), stage=stage))

    def _ask(self, row: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        return self.relations[row["relation"]].prompt(row["head"], shots=self.shots, seed=self.seed)

    def _tail(self, row: Mapping[str, Any]) -> str:
        """The first line of a reply, with the persons back in it."""
        lines = row["reply"].strip().splitlines()
        return unnamed(lines[0].strip().rstrip(".").strip(), names_for(row["head"], self.seed)) if lines else ""

    # --- critic ---

    def train_critic(
        self, labelled: Dataset, *, shares: Mapping[str, float] | None = None
    ) -> dict[str, list[Threshold] | float]:
        """Let the critic learn from rows with head, relation, tail and ``good``, and choose the threshold.

        Args:
            labelled: by people, or by whom they trust.
            shares: of the heads for training, validation and test; 60, 20 and 20 % if not given.

        Returns:
            ``threshold``, and ``found``: what was found on the validation and on the test triples.

        Raises:
            UserError: a part has labels of one kind only.
        """
        require(labelled, "head", "relation", "tail", "good")
        if self.critic is None:
            raise UserError("there is no critic to train; give SymbolicKD one, such as stillroom.synthesis.critic")
        parts = split_rows(labelled, "head", dict(shares or {"train": 0.6, "validation": 0.2, "test": 0.2}))
        rows = {name: part.to_list() for name, part in parts.items()}
        good = {name: [bool(row["good"]) for row in part] for name, part in rows.items()}
        self.critic.fit(rows["train"], good["train"], held_out=(rows["validation"], good["validation"]))
        found = [
            crossing(list(self.critic.scores(rows[name])), good[name], recall=self.recall)
            for name in ("validation", "test")
        ]
        self.threshold = sum(one.value for one in found) / len(found)
        self.labelled = set(labelled["head"])
        return {"threshold": self.threshold, "found": found}

    def purify(self, graph: Dataset) -> Dataset:
        """The triples that the critic scores above the threshold, with their score; none of a head it was shown."""
        if self.critic is None or self.threshold is None:
            raise UserError("there is nothing to purify with; give a critic and call train_critic first")
        own = self._keep(graph, [self._labelled], "labelled heads")
        scores = [float(score) for batch in own.iter(1000) for score in self.critic.scores(_rows(batch))]
        scored = beside(own, range(len(own)), {"score": scores})
        return self._keep(scored, [filters.above("score", self.threshold)], "critic")

    def _labelled(self, row: Mapping[str, Any]) -> str | None:
        return "the critic saw labels of this head" if row["head"] in self.labelled else None

    # --- student ---

    @staticmethod
    def student_rows(graph: Dataset) -> Dataset:
        """The graph with ``prompt`` (head, relation, [GEN]) and ``completion`` (the tail), as recipes read them."""
        require(graph, "head", "relation", "tail")
        made = {
            "prompt": [student_prompt(row["head"], row["relation"]) for row in each_row(graph)],
            "completion": [f" {row['tail']}" for row in each_row(graph)],
        }
        return beside(graph, range(len(graph)), made)

    # --- accounts ---

    def _note(self, outcome: Outcome) -> Dataset:
        self.accounts.append(outcome.account)
        return outcome.dataset

    def _keep(self, dataset: Dataset, rules: Sequence[filters.Filter], stage: str) -> Dataset:
        return self._note(filters.keep(dataset, rules, rejects=self._aside(stage), stage=stage))

    def _aside(self, stage: str) -> Path | None:
        return None if self.rejects is None else self.rejects / f"{stage.replace(' ', '-')}.jsonl"


def student_prompt(head: str, relation: str) -> str:
    """What the student reads before a tail."""
    return f"{head} {relation} [GEN]"


def _rows(batch: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def _plain(row: Mapping[str, Any]) -> str | None:
    return None if _PLAIN.fullmatch(row["head"]) else "head has odd characters or none"


def _nobody(row: Mapping[str, Any]) -> str | None:
    """People that the head does not know of; those that it names itself are its own."""
    new = [name for name in strangers(row["tail"]) if name not in row["head"]]
    return "tail names somebody else" if new else None
