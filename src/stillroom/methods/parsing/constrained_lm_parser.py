"""A few-shot semantic parser: a language model paraphrases into a controlled language, and can write nothing else.

**Paper**: Shin et al. 2021, "Constrained Language Models Yield Few-Shot Semantic Parsers" (EMNLP 2021, arXiv
2104.08768; code: microsoft/semantic_parsing_with_constrained_lm).

**Idea**: Language models are better at language than at formal meanings. So a request is paraphrased into a canonical
utterance of a small, English-like language whose sentences stand for meanings one to one; a few similar examples in the
prompt show how, and the search writes only what a grammar or a trie lets it.

**Objective**: nothing is trained. For a request u with examples P(u), over the sentences c of the language L,

    c* = argmin over c in L of  -log p(c, stop | P(u)) / ((5 + |c|) / 6)^0.7,    meaning = m(c*),

by a beam search in which a node's next tokens are those that the language allows after its prefix, with the model's
probabilities as they are (not normalised over what is allowed), and p(stop) sums over all tokens that end a line.

**Kept and changed**: Kept: the prompt (instruction, then "Human: ...", "Computer: ..."), the choice of the k examples
most similar to u by the model's own likelihood, or by BM25, their order (shuffled by default), the cut to a length in
tokens, beam, length penalty, and targets that are canonical utterances or meanings, whichever the language is of. The
similarity of a pair is the log-probability of u's tokens in the line after the example's request; the paper asks a
service whose score is not public. A length counts the stop. Ends are waited for until no unfinished node can win, where
the authors stop after a number of ends. A trie holds one way of cutting each sentence into tokens; a `Grammar` allows
every way, so that a sentence's probability is found in parts. Fine-tuned models, encoder-decoders among them, are used
with ``shots=0``: `training_rows` are what they are tuned on.

**Use it when**: the meanings are known by a grammar or a list, dozens to hundreds of examples are at hand, and a reply
that can't be executed is worse than a wrong one. With thousands of examples, fine-tuning needs no constraint to be
well-formed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from stillroom.blocks.constrained_search import DecoderReader, EncoderDecoderReader, beam_search
from stillroom.blocks.constraints import Automaton, Trie
from stillroom.blocks.grammar import Grammar
from stillroom.blocks.sampler import stop_ids
from stillroom.errors import UserError, need
from stillroom.views.base import pad

__all__ = [
    "ConstrainedLMParser",
    "Parse",
    "training_rows",
]

SHOWN, ASKED = "Human: {utterance}\nComputer: {canonical}\n", "Human: {utterance}\nComputer:"


class Parse(NamedTuple):
    """A sentence that the model wrote, what it means (None outside the language), its log-probability and cost."""

    text: str
    meaning: str | None
    log_prob: float
    cost: float


class ConstrainedLMParser:
    """Utterances to meanings, by sentences of a closed or a grammatical language.

    Args:
        model: a causal language model, or an encoder-decoder, of transformers.
        tokenizer: its own.
        language: the sentences and their meanings, a mapping or pairs; or a `Grammar` over this tokenizer.
        pairs: examples, (utterance, sentence); needed where shots are shown.
        constrained: False lets the model write anything: the ablation.
        shots: examples in a prompt; 0 for fine-tuned models.
        similarity: by which examples are chosen: the model's ``likelihood``, or ``bm25``.
        order: of the examples in the prompt.
        beam: width of the search, at least 1.
        exponent: of the length penalty, at least 0.
        instruction: the prompt's first line, where examples are shown.
        longest: tokens that a prompt may have; the least similar examples are left out until it fits.
        max_new_tokens: longest sentence; None takes the longest of a closed language.
        batch: prompts that are searched for at once.
        seed: of the shuffled order.

    Raises:
        ValueError: a value outside its range.
        UserError: a sentence has two meanings, or there are too few examples.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        language: Mapping[str, str] | Iterable[tuple[str, str]] | Grammar,
        pairs: Sequence[tuple[str, str]] = (),
        constrained: bool = True,
        shots: int = 20,
        similarity: Literal["likelihood", "bm25"] = "likelihood",
        order: Literal["shuffle", "best-first", "best-last"] = "shuffle",
        beam: int = 10,
        exponent: float = 0.7,
        instruction: str = "Let's translate what a human user says into what a computer might say.",
        longest: int = 2048,
        max_new_tokens: int | None = None,
        batch: int = 16,
        seed: int = 0,
    ) -> None:
        if shots < 0 or beam < 1 or exponent < 0 or longest < 1 or batch < 1:
            raise ValueError("shots and exponent are at least 0; beam, longest and batch at least 1")
        if similarity not in ("likelihood", "bm25") or order not in ("shuffle", "best-first", "best-last"):
            raise ValueError("similarity is likelihood or bm25; order is shuffle, best-first or best-last")
        if len(pairs) < shots:
            raise UserError(f"{shots} examples are to be shown and {len(pairs)} are given; lower shots, or give more")
        self.model, self.tokenizer, self.pairs = model, tokenizer, list(pairs)
        self.shots, self.similarity, self.order, self.instruction = shots, similarity, order, instruction
        self.beam, self.exponent, self.longest, self.batch, self.seed = beam, exponent, longest, batch, seed
        self.both = bool(getattr(model.config, "is_encoder_decoder", False))
        self.lead = "" if self.both else " "  # a sentence follows "Computer:", so its first token begins with a space
        self.stop = self._stops()
        self.language: dict[str, str] | Grammar
        self.automaton: Automaton
        if isinstance(language, Grammar):
            self.language = self.automaton = language
        else:
            self.language = _one_to_one(language)
            ids = [self._ids(self.lead + text) for text in self.language]
            self.automaton, max_new_tokens = Trie(ids), max_new_tokens or max(map(len, ids))
        self.constrained, self.max_new_tokens = constrained, max_new_tokens or 128

    def parse(self, utterances: Sequence[str]) -> list[list[Parse]]:
        """The sentences of a beam for each utterance, best first, with their meanings."""
        make = EncoderDecoderReader if self.both else DecoderReader
        found: list[list[Parse]] = []
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            for start in range(0, len(utterances), self.batch):
                prompts = [self._prompt_ids(text) for text in utterances[start : start + self.batch]]
                searched = beam_search(
                    make(self.model, len(self.tokenizer)),
                    prompts,
                    [self.automaton if self.constrained else None] * len(prompts),
                    beam=self.beam,
                    stop=self.stop,
                    max_new_tokens=self.max_new_tokens,
                    exponent=self.exponent,
                )
                found += [[self._parse(*one) for one in among] for among in searched]
        finally:
            for module, training in modes:
                module.training = training
        return found

    def _parse(self, tokens: tuple[int, ...], log_prob: float, cost: float) -> Parse:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        known = self.language
        meaning = known.meaning(text) if isinstance(known, Grammar) else known.get(text)
        return Parse(text, meaning, log_prob, cost)

    # --- prompts ---

    def prompt(self, utterance: str) -> str:
        """What the model reads: the instruction and the most similar examples, then the utterance."""
        if self.both:
            return utterance
        asked = ASKED.format(utterance=utterance)
        if not self.shots:
            return asked
        chosen = self.similar(utterance)[: self.shots]
        while True:
            shown = [SHOWN.format(utterance=said, canonical=meant) for said, meant in self._ordered(chosen)]
            text = "\n".join([f"{self.instruction}\n", *shown, asked])
            if not chosen or len(self._ids(text, special=True)) <= self.longest:
                return text
            chosen.pop()

    def similar(self, utterance: str) -> list[tuple[str, str]]:
        """The examples, the most similar to the utterance first."""
        if self.similarity == "bm25":
            scores = _bm25([said for said, _ in self.pairs], utterance)
        else:
            scores = self._likelihoods(utterance)
        order = sorted(range(len(self.pairs)), key=lambda place: (-scores[place], place))
        return [self.pairs[place] for place in order]

    def _ordered(self, chosen: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if self.order == "shuffle":
            return random.Random(self.seed).sample(chosen, len(chosen))
        return chosen if self.order == "best-first" else chosen[::-1]

    @torch.no_grad()
    def _likelihoods(self, utterance: str) -> list[float]:
        """Log p(utterance | an example's utterance in the line before) for each example."""
        found: list[float] = []
        answer = self._ids(utterance)
        device = next(self.model.parameters()).device
        for start in range(0, len(self.pairs), self.batch):
            before = [self._ids(f"{said}\n", special=True) for said, _ in self.pairs[start : start + self.batch]]
            if self.both:
                ids, real = pad(before)
                labels = torch.tensor([answer] * len(before), device=device)
                out = self.model(input_ids=ids.to(device), attention_mask=real.long().to(device), labels=labels)
                rows: Sequence[Tensor] = list(out.logits)
            else:
                ids, real = pad([[*one, *answer] for one in before])
                logits = self.model(input_ids=ids.to(device), attention_mask=real.long().to(device)).logits
                rows = [row[len(one) - 1 : len(one) - 1 + len(answer)] for row, one in zip(logits, before, strict=True)]
            said = torch.stack(list(rows)).float().log_softmax(-1)
            wanted = torch.tensor(answer, device=device).expand(len(before), -1).unsqueeze(-1)
            found += said.gather(-1, wanted).squeeze(-1).sum(-1).tolist()
        return found

    def _prompt_ids(self, utterance: str) -> list[int]:
        return self._ids(self.prompt(utterance), special=True)[-self.longest :]

    def _ids(self, text: str, *, special: bool = False) -> list[int]:
        return self.tokenizer(text, add_special_tokens=special)["input_ids"]

    def _stops(self) -> list[int]:
        """The ends of a sequence; after a prompt, every token that begins with a new line too."""
        found = stop_ids(self.model, self.tokenizer)
        if not self.both:
            known = self.tokenizer.get_vocab().values()
            found += [number for number in known if self.tokenizer.decode([number]).startswith("\n")]
        return sorted(set(found))


def training_rows(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Rows to fine-tune a causal model on, so that it is used without examples in its prompt: prompt, completion."""
    return [
        {"prompt": ASKED.format(utterance=utterance), "completion": f" {canonical}"} for utterance, canonical in pairs
    ]


def _one_to_one(language: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text, meaning in language.items() if isinstance(language, Mapping) else language:
        if found.setdefault(text, meaning) != meaning:
            raise UserError(f"the sentence {text!r} has two meanings, {found[text]!r} and {meaning!r}; word one anew")
    return found


def _bm25(texts: Sequence[str], query: str) -> list[float]:
    """BM25 of each text for the query."""
    library = need("bm25s", "retrieval")
    index = library.BM25()
    tokens = [text.lower().split() for text in texts]
    index.index(tokens, show_progress=False)
    known = [word for word in query.lower().split() if any(word in one for one in tokens)]
    return [float(score) for score in index.get_scores(known)] if known else [0.0] * len(texts)
