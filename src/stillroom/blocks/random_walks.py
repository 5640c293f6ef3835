"""Drawing from a graph: walks along its edges, and pairs of nodes that no edge joins.

All randomness is torch's, so that a training step's draws follow its seed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stillroom.data.graphs.graph import Graph
from stillroom.errors import UserError
from stillroom.signals import Batch

ROUNDS = 100  # of drawing anew what an edge joins, before the graph counts as too dense


def random_walks(graph: Graph, nodes: Tensor, steps: int) -> Tensor:
    """The nodes that a walk from each node comes to, [n] -> [n, steps]; each next one is drawn among the neighbours.

    The node that it starts from is not among them, unless the walk comes back. A node without neighbours stays put.
    """
    visited = []
    for _ in range(steps):
        first, count = graph.starts[nodes], graph.starts[nodes + 1] - graph.starts[nodes]
        drawn = (torch.rand(nodes.shape) * count).long().minimum((count - 1).clamp(min=0))
        place = (first + drawn).clamp(max=max(graph.edges.shape[1] - 1, 0))
        nodes = torch.where(count > 0, graph.edges[1][place], nodes) if graph.edges.shape[1] else nodes
        visited.append(nodes)
    return torch.stack(visited, -1)


def contexts(graph: Graph, nodes: Tensor, *, walks: int, hops: int, random: float, method: str = "nb") -> Tensor:
    """The nodes that anchors are compared with: near ones by walks, and some drawn evenly from all.

    Args:
        graph: walked on.
        nodes: [n], the anchors. One without neighbours gets nodes drawn evenly in place of near ones.
        walks: from each anchor.
        hops: steps of a walk.
        random: evenly drawn nodes for each near one.
        method: ``nb``, walks that all start at the anchor, or ``rw``, one walk as long as these together.

    Returns:
        [n, walks hops (1 + random)]; near ones first, in the order of the walks, with repetitions.
    """
    near = walks * hops
    if method == "rw":
        found = random_walks(graph, nodes, near)
    else:
        found = random_walks(graph, nodes.repeat_interleave(walks), hops).reshape(len(nodes), near)
    alone = graph.starts[nodes + 1] == graph.starts[nodes]
    found = torch.where(alone.unsqueeze(1), torch.randint(len(graph), found.shape), found)
    return torch.cat([found, torch.randint(len(graph), (len(nodes), round(near * random)))], -1)


def unjoined_pairs(graph: Graph, count: int) -> Tensor:
    """[count, 2] pairs of different nodes that no edge joins, drawn evenly.

    Raises:
        UserError: nearly all nodes are joined.
    """
    pairs = torch.randint(len(graph), (count, 2))
    for _ in range(ROUNDS):
        wrong = (pairs[:, 0] == pairs[:, 1]) | graph.joined(pairs[:, 0], pairs[:, 1])
        if not wrong.any():
            return pairs
        pairs[wrong] = torch.randint(len(graph), (int(wrong.sum()), 2))
    raise UserError(f"nearly all of the graph's {len(graph)} nodes are joined, so no pairs without a link can be drawn")


def with_pairs(batch: Batch, graph: Graph, anchors: Tensor | None = None, context: Tensor | None = None) -> Batch:
    """A batch of links with one drawn pair that no link joins beside each, and maybe anchors with their contexts.

    A batch whose rows bring pairs beside their own link is left as it is.

    Args:
        batch: as `stillroom.views.graph.LinkView` collates it.
        graph: to draw from.
        anchors: [B]; those of the rows where none are given.
        context: [B, K], nodes beside each anchor.
    """
    pairs = batch.student["pairs"]
    if pairs.shape[1] != 1:
        return batch
    device, rows = pairs.device, len(batch)
    found = [pairs, unjoined_pairs(graph, rows).to(device).unsqueeze(1)]
    links = [pairs.new_ones(rows, 1), pairs.new_zeros(rows, 1)]
    if anchors is not None and context is not None:
        ends = torch.stack([anchors.unsqueeze(1).expand_as(context), context], -1)
        found.append(ends.to(device))
        links.append(pairs.new_full(context.shape, -1))
    nodes = batch.student["nodes"] if anchors is None else anchors.to(device)
    both = torch.cat(found, 1)
    real = torch.ones(both.shape[:2], dtype=torch.bool, device=device)
    drawn = {"nodes": nodes, "pairs": both, "candidates": real}
    columns = batch.columns | {"candidates": real, "links": torch.cat(links, 1)}
    teacher = None if batch.teacher is None else batch.teacher | drawn
    return replace(batch, student=batch.student | drawn, teacher=teacher, columns=columns)
