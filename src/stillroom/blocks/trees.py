"""Constituency trees as nested tuples of words, and their spans.

A leaf is a word, an inner node the tuple of its children. A span (start, end) is half-open, from 0, everywhere in
stillroom: the words start, ..., end - 1. Labels are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Tree = str | tuple["Tree", ...]
Span = tuple[int, int]

_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def read_tree(text: str, *, labelled: bool = True) -> Tree:
    """A tree from brackets; unary chains are collapsed, and brackets without a word left out.

    Args:
        text: ``(S (NP (DT the) (NN dog)) (VP barks))``, or ``((the dog) barks)``.
        labelled: a word right after an opening bracket is a label.

    Raises:
        ValueError: the brackets don't match, or there is no word.
    """
    stack: list[list[Tree]] = [[]]
    before = ""
    for token in _TOKEN.findall(text):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise ValueError(f"the brackets of {text!r} don't match")
            if children := stack.pop():
                stack[-1].append(children[0] if len(children) == 1 else tuple(children))
        elif not (labelled and before == "("):
            stack[-1].append(token)
        before = token
    if len(stack) != 1 or len(stack[0]) != 1:
        raise ValueError(f"one tree whose brackets match is needed; found {text!r}")
    return stack[0][0]


def words_of(tree: Tree) -> list[str]:
    """The leaves from left to right."""
    return [tree] if isinstance(tree, str) else [word for child in tree for word in words_of(child)]


def spans_of(tree: Tree) -> list[Span]:
    """Every inner node's span, the whole sentence's among them; a span that is there twice comes twice."""
    found: list[Span] = []

    def walk(node: Tree, start: int) -> int:
        if isinstance(node, str):
            return start + 1
        end = start
        for child in node:
            end = walk(child, end)
        found.append((start, end))
        return end

    walk(tree, 0)
    return found


def inner_spans(tree: Tree) -> frozenset[Span]:
    """The spans that say something: not the whole sentence, nor a single word."""
    every = spans_of(tree)
    size = every[-1][1] if every else 1
    return frozenset(span for span in every if 1 < span[1] - span[0] < size)


def right_binarised(tree: Tree) -> Tree:
    """Nodes of more than two children as chains to the right, nodes of one child as that child."""
    if isinstance(tree, str):
        return tree
    children = [right_binarised(child) for child in tree]
    node = children[-1]
    for child in reversed(children[:-1]):
        node = (child, node)
    return node


def tree_of(words: Sequence[str], spans: Iterable[Span]) -> Tree:
    """The tree over the words with these spans, which must nest; single words and the whole may be left out.

    Raises:
        ValueError: two spans cross, one lies outside, or there is no word.
    """
    if not words:
        raise ValueError("a tree has at least one word")
    size = len(words)
    stack: list[tuple[Span, list[Tree]]] = []
    order = sorted({(start, end) for start, end in spans if end - start > 1} | {(0, size)}, key=lambda s: (s[0], -s[1]))
    if order[0][0] < 0 or any(end > size for _, end in order):
        raise ValueError(f"a span lies outside a sentence of {size} words")
    if size == 1:
        return words[0]
    place, left = 0, list(order)
    while place < size or stack:
        while left and left[0][0] == place:
            span = left.pop(0)
            if stack and span[1] > stack[-1][0][1]:
                raise ValueError(f"the spans {stack[-1][0]} and {span} cross")
            stack.append((span, []))
        if place < stack[-1][0][1]:
            stack[-1][1].append(words[place])
            place += 1
        while stack and stack[-1][0][1] == place:
            _, children = stack.pop()
            node: Tree = tuple(children) if len(children) > 1 else children[0]
            if not stack:
                return node
            stack[-1][1].append(node)
    raise AssertionError("the whole sentence closes the tree")
