"""One graph: a vector for every node, and which nodes are joined. Kept as a safetensors file with two tensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stillroom.errors import UserError

KEYS = ("features", "edges")


@dataclass(frozen=True)
class Graph:
    """An undirected graph. Make one with `Graph.of`, which checks it.

    Attributes:
        features: [N, D], float32.
        edges: [2, E], int64: each edge in both directions, none twice, none from a node to itself (layers that want
            self-loops add their own), ordered by the first node and then the second.
    """

    features: Tensor
    edges: Tensor

    @classmethod
    def of(cls, features: Tensor, edges: Tensor, name: str = "the graph") -> Graph:
        """A graph from features and edges in any order and direction.

        Args:
            features: [N, D].
            edges: [2, E], pairs of nodes, numbered from 0.
            name: of the graph, for messages.

        Raises:
            UserError: shapes that do not fit, features that are not finite, or an edge to a node that is not there;
                the message names the edge.
        """
        features = torch.as_tensor(features)
        edges = torch.as_tensor(edges)
        if features.dim() != 2 or not features.is_floating_point():
            raise UserError(
                f"{name}: features must be numbers of the shape [nodes, width]; found {list(features.shape)}, "
                f"{features.dtype}"
            )
        if edges.dim() != 2 or len(edges) != 2 or edges.is_floating_point():
            raise UserError(f"{name}: edges must be whole numbers of the shape [2, edges]; found {list(edges.shape)}")
        edges = edges.long()
        if (wrong := ((edges < 0) | (edges >= len(features))).any(0)).any():
            place = int(wrong.nonzero()[0])
            raise UserError(
                f"{name}: edge {place + 1} joins the nodes {edges[0, place]} and {edges[1, place]}, and there are "
                f"nodes 0 to {len(features) - 1}; mend the edge, or give every node its features"
            )
        if not features.isfinite().all():
            place = int((~features.isfinite()).any(1).nonzero()[0])
            raise UserError(f"{name}: the features of node {place} are not all finite")
        return cls(features.float().contiguous(), both_ways(edges, len(features)))

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """A graph from its file; checked like any other.

        Raises:
            UserError: there is no such file, or it holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no graph {path}; give a safetensors file with {' and '.join(KEYS)}")
        try:
            with safe_open(str(path), "pt") as file:
                if missing := [key for key in KEYS if key not in file.keys()]:  # noqa: SIM118 - not a dict
                    raise UserError(f"{path} is no graph: it has no tensor {missing[0]!r} ({' and '.join(KEYS)})")
                return cls.of(file.get_tensor(KEYS[0]), file.get_tensor(KEYS[1]), str(path))
        except SafetensorError as error:
            raise UserError(f"{path} is no safetensors file: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the graph."""
        save_file({"features": self.features, "edges": self.edges}, str(path))

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over features and edges."""
        digest = hashlib.sha256(self.features.numpy().tobytes())
        digest.update(self.edges.numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def starts(self) -> Tensor:
        """[N + 1]: the neighbours of node n are ``edges[1, starts[n] : starts[n + 1]]``."""
        counts = torch.bincount(self.edges[0], minlength=len(self))
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def joined(self, first: Tensor, second: Tensor) -> Tensor:
        """Whether there is an edge between nodes, [...] and [...] -> [...]."""
        keys = self.edges[0] * len(self) + self.edges[1]
        asked = first.cpu() * len(self) + second.cpu()
        if not len(keys):
            return torch.zeros_like(asked, dtype=torch.bool)
        return (keys[torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)] == asked).to(first.device)


def both_ways(edges: Tensor, nodes: int) -> Tensor:
    """Edges [2, E] in both directions, each once, in order, without those from a node to itself."""
    edges = edges[:, edges[0] != edges[1]]
    keys = torch.unique(torch.cat([edges[0] * nodes + edges[1], edges[1] * nodes + edges[0]]))
    return torch.stack([keys // nodes, keys % nodes])
