"""Context-free grammars over characters, read one token at a time, with what their sentences mean.

A rule's alternatives are texts with other rules' names in angle brackets, each with what it means, in which the same
names stand for what those parts mean:

    {"<question>": [("how many people live in <country>", "(population <country>)")],
     "<country>": [("Peru", "country:peru"), ("Chile", "country:chile")]}

Prefixes are recognised by Earley's algorithm (1970); the items that wait for a rule are looked up by its name, so
left recursion, empty parts and ambiguity do no harm. A token may follow if its characters may, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_NAME = re.compile(r"(<[^<>]+>)")
MOST_MEANINGS = 2  # that are looked for in one stretch of a text: two are one too many

Item = tuple[int, int, int]  # alternative, place in it, where it begins
Alternative = str | tuple[str, str]


@dataclass(frozen=True)
class _Chart:
    """What has been recognised up to some character. Compared by identity: each is made once from its parent."""

    sets: tuple[frozenset[Item], ...]
    waiting: tuple[Mapping[str, tuple[Item, ...]], ...]

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class Grammar:
    """An `stillroom.blocks.constraints.Automaton` over a tokenizer's ids, and the meanings of its sentences.

    Args:
        rules: name (in angle brackets) -> its alternatives, each a text, or a text and its meaning.
        start: the name that a sentence is.
        tokens: the text that each token id adds to a sentence; empty for ids that write none. See `token_texts`.
        first: what a sentence begins with beyond its own characters, such as the space after a prompt.

    Raises:
        ValueError: a name without a rule, or a rule that no sentence can come to an end with.
    """

    def __init__(
        self, rules: Mapping[str, Sequence[Alternative]], *, start: str, tokens: Sequence[str], first: str = ""
    ) -> None:
        self._heads: list[str] = []
        self._parts: list[tuple[str, ...]] = []  # characters, and names of rules
        self._meanings: list[str] = []
        self._of: dict[str, list[int]] = {}
        for name, alternatives in rules.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"the rule {name!r} must be called by a name in angle brackets, such as '<country>'")
            for one in alternatives:
                text, meaning = one if isinstance(one, tuple) else (one, one)
                self._of.setdefault(name, []).append(len(self._heads))
                self._heads.append(name)
                self._parts.append(tuple(_parts(text)))
                self._meanings.append(meaning)
        self._check(start)
        self.name, self._top = start, len(self._heads)
        self._heads.append("<>")
        self._parts.append((*first, start))
        self._after: dict[tuple[_Chart, str], _Chart | None] = {}
        self._allowed: dict[_Chart, dict[int, _Chart]] = {}
        self._root = _branches(tokens)
        self._begin = self._closed((), (), {(self._top, 0, 0)})

    def start(self) -> _Chart:
        """Before anything is written."""
        return self._begin

    def complete(self, state: _Chart) -> bool:
        """Whether what was read is a sentence."""
        return (self._top, len(self._parts[self._top]), 0) in state.sets[-1]

    def allowed(self, state: _Chart) -> dict[int, _Chart]:
        """Token id -> state after it, by a walk through the tokens' characters and the grammar at once."""
        if state not in self._allowed:
            found: dict[int, _Chart] = {}
            open_: list[tuple[dict[str, Any], _Chart]] = [(self._root, state)]
            while open_:
                branch, chart = open_.pop()
                found.update(dict.fromkeys(branch.get("", ()), chart))
                for sign, deeper in branch.items():
                    if sign and (after := self.step(chart, sign)) is not None:
                        open_.append((deeper, after))
            self._allowed[state] = found
        return self._allowed[state]

    def step(self, state: _Chart, sign: str) -> _Chart | None:
        """The state after one more character; None where it may not follow."""
        key = (state, sign)
        if key not in self._after:
            moved = {
                (one, place + 1, begun)
                for one, place, begun in state.sets[-1]
                if place < len(self._parts[one]) and self._parts[one][place] == sign
            }
            self._after[key] = self._closed(state.sets, state.waiting, moved) if moved else None
        return self._after[key]

    def _closed(
        self, sets: tuple[frozenset[Item], ...], waiting: tuple[Mapping[str, tuple[Item, ...]], ...], seeds: set[Item]
    ) -> _Chart:
        """The chart with one more set: the seeds, what they predict, and what is completed by them."""
        here, done, open_ = len(sets), set[Item](), list(seeds)
        wait: dict[str, list[Item]] = {}
        empty: set[str] = set()  # rules that came to an end here without a character
        while open_:
            item = open_.pop()
            if item in done:
                continue
            done.add(item)
            one, place, begun = item
            if place == len(self._parts[one]):
                head = self._heads[one]
                if begun == here:
                    empty.add(head)
                parents = wait.get(head, []) if begun == here else waiting[begun].get(head, ())
                open_ += [(above, at + 1, since) for above, at, since in parents]
                continue
            part = self._parts[one][place]
            if len(part) > 1:
                wait.setdefault(part, []).append(item)
                open_ += [(other, 0, here) for other in self._of[part]]
                if part in empty:
                    open_.append((one, place + 1, begun))
        return _Chart((*sets, frozenset(done)), (*waiting, {name: tuple(items) for name, items in wait.items()}))

    # --- meanings ---

    def meaning(self, text: str) -> str | None:
        """What a sentence means; None for a text that is none.

        Raises:
            ValueError: it means two things.
        """
        found = _Meanings(self._of, self._parts, self._meanings, text).of(self.name)
        if len(found) > 1:
            one, other = sorted(found)[:2]
            raise ValueError(f"the sentence {text!r} means both {one!r} and {other!r}; make the grammar unambiguous")
        return next(iter(found), None)

    def sentences(self, most: int = 10_000) -> Iterator[str]:
        """The language's sentences, for grammars without recursion.

        Raises:
            ValueError: there are more than ``most`` of them, so it may be without end.
        """
        for number, text in enumerate(self._texts(self.name, 0)):
            if number == most:
                raise ValueError(f"the grammar has more than {most} sentences; they can't all be listed")
            yield text

    def _texts(self, name: str, depth: int) -> Iterator[str]:
        if depth > 100:
            raise ValueError("the grammar is recursive; its sentences can't all be listed")
        for one in self._of[name]:
            yield from self._spelt(self._parts[one], depth)

    def _spelt(self, parts: tuple[str, ...], depth: int) -> Iterator[str]:
        if not parts:
            yield ""
            return
        for first in self._texts(parts[0], depth + 1) if len(parts[0]) > 1 else [parts[0]]:
            for rest in self._spelt(parts[1:], depth):
                yield first + rest

    def _check(self, start: str) -> None:
        named = {part for parts in self._parts for part in parts if len(part) > 1} | {start}
        if lacking := sorted(named - set(self._of)):
            raise ValueError(f"there is no rule for {lacking[0]}")
        ending: set[str] = set()
        while True:  # rules that come to an end, by those that are known to
            more = {
                self._heads[one]
                for one, parts in enumerate(self._parts)
                if all(len(part) == 1 or part in ending for part in parts)
            }
            if more == ending:
                break
            ending = more
        if endless := sorted(set(self._of) - ending):
            raise ValueError(f"no text comes to an end with {endless[0]}; give it an alternative that does")


class _Meanings:
    """All meanings of stretches of one text, up to `MOST_MEANINGS` each, from the shortest stretch up."""

    def __init__(
        self, of: Mapping[str, list[int]], parts: Sequence[tuple[str, ...]], meanings: Sequence[str], text: str
    ) -> None:
        self._alternatives, self._parts, self._said, self._text = of, parts, meanings, text
        self._open: set[tuple[str, int, int]] = set()
        self._found: dict[tuple[str, int, int], frozenset[str]] = {}

    def of(self, name: str) -> frozenset[str]:
        return self._rule(name, 0, len(self._text))

    def _rule(self, name: str, start: int, end: int) -> frozenset[str]:
        key = (name, start, end)
        if key in self._found:
            return self._found[key]
        if key in self._open:  # a rule that is itself and nothing more adds no meaning
            return frozenset()
        self._open.add(key)
        found: set[str] = set()
        for one in self._alternatives[name]:
            for filled in self._fill(self._parts[one], start, end):
                found.add(_put(self._said[one], filled))
                if len(found) >= MOST_MEANINGS:
                    break
        self._open.discard(key)
        if not self._open:
            self._found[key] = frozenset(found)
        return frozenset(found)

    def _fill(self, parts: tuple[str, ...], start: int, end: int) -> Iterator[tuple[tuple[str, str], ...]]:
        """Ways in which the parts make up the stretch: (name, meaning) of those that are rules, in order."""
        if not parts:
            if start == end:
                yield ()
            return
        part, rest = parts[0], parts[1:]
        if len(part) == 1:
            if start < end and self._text[start] == part:
                yield from self._fill(rest, start + 1, end)
            return
        for stop in [end] if not rest else range(start, end + 1):
            later = list(self._fill(rest, stop, end))
            if later:
                for meaning in self._rule(part, start, stop):
                    yield from (((part, meaning), *other) for other in later)


def _put(template: str, filled: tuple[tuple[str, str], ...]) -> str:
    """A meaning with its parts': the n-th mark of a name stands for the n-th part of that name."""
    said: dict[str, list[str]] = {}
    for name, meaning in filled:
        said.setdefault(name, []).append(meaning)
    seen: dict[str, int] = {}

    def one(found: re.Match[str]) -> str:
        name = found[1]
        if name not in said:
            return name
        place = min(seen.get(name, 0), len(said[name]) - 1)
        seen[name] = place + 1
        return said[name][place]

    return _NAME.sub(one, template)


def _parts(text: str) -> Iterator[str]:
    for piece in _NAME.split(text):
        if _NAME.fullmatch(piece):
            yield piece
        else:
            yield from piece


def _branches(tokens: Sequence[str]) -> dict[str, Any]:
    """The tokens by their characters: nested, with the ids of those that end here under an empty text."""
    root: dict[str, Any] = {}
    for number, text in enumerate(tokens):
        if text:
            branch = root
            for sign in text:
                branch = branch.setdefault(sign, {})
            branch.setdefault("", []).append(number)
    return root


def token_texts(tokenizer: Any) -> tuple[str, ...]:
    """What each token id adds to a text; empty for special tokens and for those that hold a part of a character.

    A character that only several tokens together can write can so not be written under a grammar.
    """
    return _token_texts(tokenizer)


@cache
def _token_texts(tokenizer: Any) -> tuple[str, ...]:
    special = set(tokenizer.all_special_ids)
    mark = tokenizer("a", add_special_tokens=False)["input_ids"]
    before = tokenizer.decode(mark)
    found = []
    for number in range(len(tokenizer)):
        text = "" if number in special else tokenizer.decode([*mark, number], clean_up_tokenization_spaces=False)
        text = text.removeprefix(before)
        found.append("" if "�" in text else text)
    return tuple(found)
