"""What may be written next: automata over token ids, and the mask that they lay on a model's scores.

An automaton reads tokens one by one. In every state it knows which tokens may follow and whether it may end here. A
`Trie` holds a closed set of sequences; `Grammar` (in `stillroom.blocks.grammar`) any context-free language; whatever
else has the three methods of `Automaton` (a graph of signatures, a finite-state machine) can stand in their place.
`Constrained` is the logits processor for transformers' ``generate``; `stillroom.blocks.constrained_search` searches
with beams.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import LogitsProcessor

State = Hashable


class Automaton(Protocol):
    """A language over token ids. States are hashable and opaque; every state can be completed to a whole sequence."""

    def start(self) -> Any:
        """The state before anything is written."""
        ...

    def allowed(self, state: Any) -> dict[int, Any]:
        """Token id -> the state after it, for every token that may follow. Empty where only the end may."""
        ...

    def complete(self, state: Any) -> bool:
        """Whether what was read is a whole sequence."""
        ...


class Trie:
    """A closed set of token sequences. A state is the number of a node.

    A text can often be cut into tokens in several ways; only the way that is given is in the trie, so that the
    probability of a text is that of one path.

    Args:
        sequences: of token ids, none of them empty.

    Raises:
        ValueError: there is none, or one is empty.
    """

    def __init__(self, sequences: Iterable[Sequence[int]]) -> None:
        self._next: list[dict[int, int]] = [{}]
        self._ends: set[int] = set()
        for sequence in sequences:
            if not sequence:
                raise ValueError("an empty sequence can't be written; leave it out of the trie")
            node = 0
            for token in sequence:
                if token not in self._next[node]:
                    self._next[node][token] = len(self._next)
                    self._next.append({})
                node = self._next[node][token]
            self._ends.add(node)
        if not self._ends:
            raise ValueError("a trie needs at least one sequence")

    def start(self) -> int:
        """The root."""
        return 0

    def allowed(self, state: int) -> dict[int, int]:
        """The children of a node, by their token."""
        return self._next[state]

    def complete(self, state: int) -> bool:
        """Whether a sequence ends at this node."""
        return state in self._ends


def follow(automaton: Automaton, state: Any, tokens: Iterable[int]) -> Any | None:
    """The state after these tokens; None where one of them may not follow."""
    for token in tokens:
        after = automaton.allowed(state)
        if token not in after:
            return None
        state = after[token]
    return state


def accepts(automaton: Automaton, tokens: Iterable[int]) -> bool:
    """Whether the tokens are a whole sequence of the language."""
    state = follow(automaton, automaton.start(), tokens)
    return state is not None and automaton.complete(state)


def choices(automaton: Automaton, state: Any) -> dict[int, Any]:
    """What may follow a state that is looked at in a search.

    Raises:
        ValueError: nothing may follow, and it may not end here either: the automaton has a dead end.
    """
    after = automaton.allowed(state)
    if not after and not automaton.complete(state):
        raise ValueError(f"nothing may follow the state {state!r}, and it is no end: the grammar or trie is wrong")
    return after


class Constrained(LogitsProcessor):
    """Sets to -inf all that an automaton does not allow. One serves one ``generate``, with beams or without.

    Scores are left as they are otherwise: in a beam search, where they are log-probabilities, nothing is normalised
    anew over what is allowed.

    Args:
        automaton: of what is written; or one for each row of prompts, in their order.
        prompt: how many tokens at the beginning of each row are given and not written (padding included).
        stop: ids that end a row. They are allowed where the automaton may end, and alone after an end.

    Raises:
        ValueError: there is no stop id.
    """

    def __init__(self, automaton: Automaton | Sequence[Automaton], prompt: int, stop: Sequence[int]) -> None:
        if not stop:
            raise ValueError("a row must be able to end; give at least one stop id")
        self.automata = list(automaton) if isinstance(automaton, Sequence) else [automaton]
        self.prompt, self.stop = prompt, list(stop)
        self._known: list[dict[tuple[int, ...], Any]] = [{(): one.start()} for one in self.automata]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores [B, V] after input_ids [B, L], where rows of one prompt (beams) stand together."""
        beams, left = divmod(len(input_ids), len(self.automata))
        if left:
            raise ValueError(f"{len(self.automata)} automata can't be shared out among {len(input_ids)} rows")
        masked = torch.full_like(scores, -math.inf)
        for row, written in enumerate(input_ids[:, self.prompt :].tolist()):
            ids = torch.tensor(self._may_follow(row // beams, tuple(written)), device=scores.device)
            masked[row, ids] = scores[row, ids]
        return masked

    def _may_follow(self, number: int, written: tuple[int, ...]) -> list[int]:
        if any(token in self.stop for token in written):
            return self.stop
        automaton, known = self.automata[number], self._known[number]
        if written not in known:  # its beginning was seen a step before, unless beams begin with something forbidden
            before = known.get(written[:-1])
            known[written] = None if before is None else automaton.allowed(before).get(written[-1])
        state = known[written]
        if state is None:  # a beam of probability 0, kept by a search that had nothing better: it may only end
            return self.stop
        return [*choices(automaton, state), *(self.stop if automaton.complete(state) else [])]
