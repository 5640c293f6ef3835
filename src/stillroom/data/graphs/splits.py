"""Splits of a graph: which labels are known, which nodes and links are not there in training.

Shapes: ``N`` nodes, ``E`` edges of both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.data.graphs.graph import Graph, both_ways
from stillroom.errors import UserError


@dataclass(frozen=True)
class Nodes:
    """A split for node classification, transductive and inductive at once (the "production" setting of GLNN).

    Nodes are numbered anew, so that those unseen come last: numbers mean the same in both graphs.

    Attributes:
        whole: with all nodes and edges.
        seen: without the unseen nodes and their edges; what is trained on.
        labels: [N], of the whole graph.
        order: [N], the old number of each node.
        train: nodes whose label is known.
        validation: nodes whose label chooses.
        test: seen nodes whose label is asked (transductive).
        unseen: nodes that come only after training (inductive).
    """

    whole: Graph
    seen: Graph
    labels: Tensor
    order: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor
    unseen: Tensor


def split_nodes(
    graph: Graph,
    labels: Sequence[int],
    *,
    train: int,
    validation: int,
    unseen: float = 0.2,
    seed: int = 0,
) -> Nodes:
    """Divide the nodes of a graph.

    Args:
        graph: whole.
        labels: one for each node.
        train: nodes of each class whose label is known.
        validation: further nodes of each class.
        unseen: the share of all others that is not there in training, in [0, 1).
        seed: of the draw.

    Raises:
        UserError: a class has too few nodes, or labels and nodes differ in number.
    """
    given = torch.as_tensor(labels)
    if len(given) != len(graph):
        raise UserError(f"the graph has {len(graph)} nodes and there are {len(given)} labels; give one for each node")
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(graph), generator=draw)
    known: list[Tensor] = []
    chosen: list[Tensor] = []
    for label in given.unique():
        own = order[given[order] == label]
        if len(own) <= train + validation:
            raise UserError(
                f"class {int(label)} has {len(own)} nodes, and {train + validation} are asked of each for training and "
                "validation; ask for fewer"
            )
        known.append(own[:train])
        chosen.append(own[train : train + validation])
    taken = torch.zeros(len(graph), dtype=torch.bool)
    taken[torch.cat([*known, *chosen])] = True
    rest = order[~taken[order]]
    hidden = rest[: int(unseen * len(rest))]
    asked = rest[len(hidden) :]
    new_order = torch.cat([torch.cat(known), torch.cat(chosen), asked, hidden])
    number = torch.empty_like(new_order)
    number[new_order] = torch.arange(len(graph))
    features, edges = graph.features[new_order], number[graph.edges]
    size = len(graph) - len(hidden)
    inside = (edges < size).all(0)
    return Nodes(
        whole=Graph(features, both_ways(edges, len(graph))),
        seen=Graph(features[:size].contiguous(), both_ways(edges[:, inside], size)),
        labels=given[new_order],
        order=new_order,
        train=number[torch.cat(known)],
        validation=number[torch.cat(chosen)],
        test=number[asked],
        unseen=number[hidden],
    )


@dataclass(frozen=True)
class Links:
    """A split for link prediction.

    Attributes:
        graph: with the training links alone: what messages pass along and walks go along.
        train: [2, links], each once.
        validation: [2, links] that were taken out of the graph.
        test: [2, links] that were taken out of the graph.
        validation_negatives: [2, pairs] of nodes that no link joins, in the whole graph.
        test_negatives: the same, others.
    """

    graph: Graph
    train: Tensor
    validation: Tensor
    test: Tensor
    validation_negatives: Tensor
    test_negatives: Tensor


def split_links(
    graph: Graph, *, validation: float = 0.05, test: float = 0.1, negatives: int = 5, seed: int = 0
) -> Links:
    """Take links out of a graph.

    Args:
        graph: whole.
        validation: share of the links.
        test: share of the links.
        negatives: unjoined pairs to each link that is taken out; drawn uniformly.
        seed: of the draw.

    Raises:
        UserError: nothing would be left of a part.
    """
    draw = torch.Generator().manual_seed(seed)
    once = graph.edges[:, graph.edges[0] < graph.edges[1]]
    once = once[:, torch.randperm(once.shape[1], generator=draw)]
    sizes = int(validation * once.shape[1]), int(test * once.shape[1])
    if min(*sizes, once.shape[1] - sum(sizes)) < 1:
        raise UserError(
            f"{once.shape[1]} links can't be divided into training, validation ({sizes[0]}), test ({sizes[1]})"
        )
    chosen, asked, kept = once.split([*sizes, once.shape[1] - sum(sizes)], dim=1)
    apart = unjoined(graph, negatives * sum(sizes), draw)
    return Links(
        graph=Graph(graph.features, both_ways(kept, len(graph))),
        train=kept,
        validation=chosen,
        test=asked,
        validation_negatives=apart[:, : negatives * sizes[0]],
        test_negatives=apart[:, negatives * sizes[0] :],
    )


def unjoined(graph: Graph, count: int, draw: torch.Generator) -> Tensor:
    """[2, count] different pairs of nodes that no edge joins, each once in one direction.

    Raises:
        UserError: the graph has not so many.
    """
    nodes = len(graph)
    if count > (nodes * (nodes - 1) - graph.edges.shape[1]) // 4:
        raise UserError(f"a graph of {nodes} nodes is too small to draw {count} pairs that no edge joins")
    found = torch.zeros(0, dtype=torch.long)
    while len(found) < count:
        pairs = torch.randint(nodes, (2, 2 * count), generator=draw).sort(0).values
        pairs = pairs[:, (pairs[0] != pairs[1]) & ~graph.joined(pairs[0], pairs[1])]
        found = torch.unique(torch.cat([found, pairs[0] * nodes + pairs[1]]))
    found = found[torch.randperm(len(found), generator=draw)[:count]]
    return torch.stack([found // nodes, found % nodes])
