"""Which teacher layers each student layer learns from.

Layers are numbered from 1 to the depth, as hidden states are in `Signals`; 0 is the output of the embeddings, which
only an explicit map names. A map is a list of (student layer, teacher layers), in the order of the student's layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from stillroom.errors import UserError, nearest

LayerMap = list[tuple[int, tuple[int, ...]]]


def uniform(student_depth: int, teacher_depth: int) -> LayerMap:
    """Student layer i and teacher layer i x (teacher depth / student depth), rounded half up: last meets last."""
    _need_depths(student_depth, teacher_depth)
    return [
        (layer, (max(1, (2 * layer * teacher_depth + student_depth) // (2 * student_depth)),))
        for layer in range(1, student_depth + 1)
    ]


def last(student_depth: int, teacher_depth: int) -> LayerMap:
    """The two last layers only."""
    return last_k(student_depth, teacher_depth, 1)


def last_k(student_depth: int, teacher_depth: int, k: int) -> LayerMap:
    """The last k layers of each, in order.

    Raises:
        UserError: ``k`` is below 1 or above either depth.
    """
    _need_depths(student_depth, teacher_depth)
    if not 1 <= k <= min(student_depth, teacher_depth):
        raise UserError(
            f"can't match the last {k} layers of a student with {student_depth} and a teacher with {teacher_depth}; "
            f"take 1 to {min(student_depth, teacher_depth)}"
        )
    return [(student_depth - back, (teacher_depth - back,)) for back in reversed(range(k))]


def top_aligned(student_depth: int, teacher_depth: int) -> LayerMap:
    """All layers of the shallower model, counted from the top: last meets last, last but one meets last but one."""
    _need_depths(student_depth, teacher_depth)
    return last_k(student_depth, teacher_depth, min(student_depth, teacher_depth))


def one_to_n(student_depth: int, teacher_depth: int) -> LayerMap:
    """The teacher cut into as many blocks of consecutive layers as the student has layers; layer i learns from block i.

    Raises:
        UserError: the student's depth does not divide the teacher's.
    """
    _need_depths(student_depth, teacher_depth)
    size, rest = divmod(teacher_depth, student_depth)
    if rest:
        raise UserError(
            f"{teacher_depth} teacher layers can't be cut into {student_depth} equal blocks; take 'uniform' instead"
        )
    return [(block + 1, tuple(range(block * size + 1, (block + 1) * size + 1))) for block in range(student_depth)]


def explicit(pairs: Iterable[Sequence[int | Sequence[int]]], student_depth: int, teacher_depth: int) -> LayerMap:
    """A map written out, such as ``[[1, 4], [2, [7, 8]], [-1, -1]]``.

    Negative numbers count from the last layer, 0 is the embeddings.

    Raises:
        UserError: a layer that does not exist, a student layer named twice, an entry that is no pair, no entry at all.
    """
    _need_depths(student_depth, teacher_depth)
    found: dict[int, tuple[int, ...]] = {}
    for pair in pairs:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], int):
            raise UserError(
                f"a layer map holds pairs of a student layer and its teacher layers, such as [1, 4]; not {pair}"
            )
        layer = _resolve(pair[0], student_depth, "student")
        targets = [pair[1]] if isinstance(pair[1], int) else list(pair[1])
        if layer in found or not targets:
            raise UserError(f"student layer {pair[0]} must stand once in a layer map, with at least one teacher layer")
        found[layer] = tuple(_resolve(target, teacher_depth, "teacher") for target in targets)
    if not found:
        raise UserError("the layer map is empty; name at least one pair, such as [-1, -1] for the last layers")
    return sorted(found.items())


RULES: dict[str, Callable[[int, int], LayerMap]] = {
    "uniform": uniform,
    "last": last,
    "top-aligned": top_aligned,
    "one-to-n": one_to_n,
}


def layer_map(rule: str | Iterable[Sequence[int | Sequence[int]]], student_depth: int, teacher_depth: int) -> LayerMap:
    """A layer map as a recipe writes it.

    Args:
        rule: ``uniform``, ``last``, ``last-K`` with a number for K, ``top-aligned``, ``one-to-n``, or the pairs
            themselves (see `explicit`).
        student_depth: how many layers the student has.
        teacher_depth: how many the teacher has.

    Raises:
        UserError: an unknown rule, or one that these depths do not allow.
    """
    if not isinstance(rule, str):
        return explicit(rule, student_depth, teacher_depth)
    head, _, number = rule.rpartition("-")
    if head == "last" and number.isdigit():
        return last_k(student_depth, teacher_depth, int(number))
    if rule not in RULES:
        raise UserError(
            f"unknown layer map {rule!r}{nearest(rule, RULES)}; there are last-K, {', '.join(RULES)}, or pairs"
        )
    return RULES[rule](student_depth, teacher_depth)


def _resolve(layer: int, depth: int, whose: str) -> int:
    if not isinstance(layer, int) or not -depth <= layer <= depth:
        raise UserError(f"the {whose} has layers 0 to {depth} (or -{depth} to -1 from the last), not {layer!r}")
    return layer if layer >= 0 else depth + 1 + layer


def _need_depths(student_depth: int, teacher_depth: int) -> None:
    if min(student_depth, teacher_depth) < 1:
        raise UserError(f"a layer map needs models with layers, not depths {student_depth} and {teacher_depth}")
