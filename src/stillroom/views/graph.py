"""Graphs: models of nodes and of links, from torch_geometric.

A row names a node, or two that are joined; the graph itself, features and edges, stands in a file that the view is
given (`stillroom.data.graphs.Graph`). A graph neural network reads all of it, whatever rows a batch has, and a frozen
one only once. A model that reads features alone (an MLP) sees the batch's nodes and nothing of the graph.

How models are kept, and loaded without stillroom, stands in `stillroom.views.graph_models`.

Shapes: ``B`` rows, ``N`` pairs of nodes a row, ``D`` width, ``C`` classes.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from stillroom.data.graphs.graph import Graph
from stillroom.errors import UserError
from stillroom.signals import Signals
from stillroom.views.base import Inputs, LibraryView, Row, digest, row_key
from stillroom.views.graph_models import built, layers, read_config, reads_edges, run_nodes, save

NO_LABEL = -1


class GraphView(LibraryView):
    """What views of nodes and of links share.

    Args:
        graph: the graph's file.
    """

    def __init__(self, *, graph: str | Path) -> None:
        self.graph = Graph.load(graph)
        self._kept: tuple[Any, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of the graph, since rows are read by it."""
        return digest(type(self).__name__, self.graph.fingerprint)

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view, from its options alone.

        Raises:
            UserError: no graph is named.
        """
        if "graph" not in options:
            raise UserError("a model of this kind reads a graph; name its file as the option 'graph' (options.graph)")
        return cls(**options)

    @classmethod
    def open(cls, folder: Path, dtype: torch.dtype, attention: str | None, **options: Any) -> tuple[nn.Module, Self]:
        """The model, from safetensors only, and its view."""
        model = built(read_config(folder))
        load_model(model, str(folder / "model.safetensors"))
        return model.to(dtype), cls.read(folder, **options)

    @classmethod
    def built(cls, config: dict[str, Any]) -> nn.Module:
        """A model of nodes, or of links by its parts."""
        return built(config)

    @classmethod
    def new(cls, architecture: str, arguments: dict[str, Any], folder: Path) -> None:
        """Write an untrained model.

        Raises:
            UserError: an unknown architecture, or arguments that it does not take.
        """
        save(built(cls.config(architecture, arguments)), folder)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Model and configuration, as torch_geometric reads them."""
        save(model, folder)

    def check(self, rows: Any, name: str) -> None:
        """See that every row names nodes of the graph.

        Raises:
            UserError: one does not; the message names the row.
        """
        for column in {"node", "source", "target"} & set(rows.column_names):
            found = torch.as_tensor(rows.with_format(None)[column][:])
            if (wrong := (found < 0) | (found >= len(self.graph))).any():
                place = int(wrong.nonzero()[0])
                raise UserError(
                    f"{name}, row {place + 1}: {column!r} is {int(found[place])}, and the graph has nodes 0 to "
                    f"{len(self.graph) - 1}; mend the row, or name the graph that it belongs to"
                )

    def vectors(
        self, model: nn.Module, nodes: Tensor, needs: tuple[str, ...], prefix: str = ""
    ) -> tuple[Tensor, dict[int, Tensor], dict[str, Tensor]]:
        """What a model gives for some nodes.

        Args:
            model: of nodes.
            nodes: [n].
            needs: of these ``hidden:N`` and ``tap:NAME`` are looked at.
            prefix: of the names of taps, where the model is a part of another.

        Returns:
            Outputs [n, C]; what each asked layer reads, [n, H] (0 the features, the last number the outputs); taps, of
            all nodes where the model reads the graph.
        """
        like = next(model.parameters())
        if not reads_edges(model):
            return run_nodes(model, needs, prefix, self._features(like)[nodes])
        outputs, hidden, taps = self._whole(model, needs, prefix, like)
        return outputs[nodes], {layer: states[nodes] for layer, states in hidden.items()}, taps

    def _features(self, like: Tensor) -> Tensor:
        return self.graph.features.to(like.device, like.dtype)

    def _whole(self, model: nn.Module, needs: tuple[str, ...], prefix: str, like: Tensor) -> Any:
        """The model on the whole graph; of a model that learns nothing, the last answer is kept until it changes."""
        frozen = not torch.is_grad_enabled() and not model.training
        state = [*model.parameters(), *model.buffers()]
        key = needs, prefix, like.device, like.dtype, tuple((id(one), one._version) for one in state)
        if frozen and self._kept is not None and self._kept[0]() is model and self._kept[1] == key:
            return self._kept[2]
        found = run_nodes(model, needs, prefix, self._features(like), self.graph.edges.to(like.device))
        if frozen:
            self._kept = weakref.ref(model), key, found
        return found


class NodeView(GraphView):
    """Rows of a node, maybe labelled, for models that give logits [B, C].

    Labels [B] are -1 where a row has none. ``embedding`` [B, H] is what the model's last layer reads; ``hidden:N``
    [B, H] what layer N + 1 reads, 0 the features and the last one the logits.
    """

    formats: ClassVar[tuple[str, ...]] = ("labelled-node", "node")
    primary: ClassVar[tuple[str, bool]] = ("accuracy", True)

    @classmethod
    def config(cls, architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Architecture and arguments as they are."""
        return {"architecture": architecture, "arguments": arguments}

    def encode(self, row: Row) -> dict[str, Any]:
        """A row's ``node`` and ``label``."""
        label = NO_LABEL if row.get("label") is None else row["label"]
        plain = {"id": row_key(row), "dropped": "", "shortened": False, "length": 1}
        return plain | {"node": row["node"], "label": label}

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Nodes [B], their labels [B], and a mask [B] of rows."""
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"nodes": torch.tensor([row["node"] for row in rows], dtype=torch.long)},
            mask=torch.ones(len(rows), dtype=torch.bool),
            labels=torch.tensor([row["label"] for row in rows], dtype=torch.long),
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, C] and vectors of the batch's nodes; taps of all nodes where the model reads the graph."""
        asked = (*needs, "hidden:-2") if "embedding" in needs else needs
        logits, hidden, taps = self.vectors(model, arguments["nodes"], asked)
        return Signals(
            logits=logits if "logits" in needs else None,
            embedding=hidden[len(layers(model)) - 1] if "embedding" in needs else None,
            hidden=hidden,
            taps=taps,
        )


class LinkView(GraphView):
    """Rows of two nodes, for models that score pairs: an encoder of nodes, and a predictor of a link.

    A pair's score is the predictor's logit for the elementwise product of the two vectors; its sigmoid is the
    probability of a link. Scores [B, N] are those of ``pairs`` [B, N, 2]: a row's own link first, then each of its
    ``negatives``, two nodes that no link joins, then its ``anchor`` with each node of its ``context``. A row that has
    none of these has one pair; a method may draw them (`stillroom.blocks.random_walks`). ``embedding`` [B, D] is the
    vector of the anchor, which is the first node where none is named.

    In a batch ``columns["candidates"]`` [B, N] says which pairs are there, ``columns["links"]`` [B, N] which of them
    are the row's own link (1), negatives (0) or context (-1).
    """

    formats: ClassVar[tuple[str, ...]] = ("link",)

    @classmethod
    def config(cls, architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Encoder and predictor; the argument ``predictor`` is the predictor's own, of which two widths are known."""
        own = dict(arguments)
        ends = {"in_channels": own.get("out_channels", own.get("hidden_channels")), "out_channels": 1}
        predictor = {"num_layers": 2, "hidden_channels": ends["in_channels"], "norm": None}
        predictor |= own.pop("predictor", {})
        return {
            "parts": {
                "encoder": {"architecture": architecture, "arguments": own},
                "predictor": {"architecture": "MLP", "arguments": predictor | ends},
            }
        }

    def encode(self, row: Row) -> dict[str, Any]:
        """A row's pairs of nodes, and what each of them is."""
        negatives, context = row.get("negatives") or [], row.get("context") or []
        anchor = row["source"] if row.get("anchor") is None else row["anchor"]
        pairs = [[row["source"], row["target"]], *negatives, *([anchor, node] for node in context)]
        links = [1, *[0] * len(negatives), *[-1] * len(context)]
        plain = {"id": row_key(row), "dropped": "", "shortened": False, "length": 1}
        return plain | {"anchor": anchor, "pairs": [list(pair) for pair in pairs], "links": links}

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Anchors [B], pairs [B, N, 2], and what the pairs are."""
        sizes = torch.tensor([len(row["links"]) for row in rows])
        width = int(sizes.max()) if len(rows) else 0
        real = torch.arange(width) < sizes.unsqueeze(1)
        pairs, links = torch.zeros(len(rows), width, 2, dtype=torch.long), torch.zeros(real.shape, dtype=torch.long)
        pairs[real] = torch.tensor([pair for row in rows for pair in row["pairs"]], dtype=torch.long).reshape(-1, 2)
        links[real] = torch.tensor([link for row in rows for link in row["links"]], dtype=torch.long)
        nodes = torch.tensor([row["anchor"] for row in rows], dtype=torch.long)
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"nodes": nodes, "pairs": pairs, "candidates": real},
            mask=torch.ones(len(rows), dtype=torch.bool),
            columns={"candidates": real, "links": links},
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Scores [B, N] (logits), and the anchors' vectors [B, D]; each node is encoded once."""
        parts: Any = model
        pairs = arguments["pairs"][arguments["candidates"]]
        nodes, places = torch.cat([arguments["nodes"], pairs.flatten()]).unique(return_inverse=True)
        vectors, _, taps = self.vectors(parts["encoder"], nodes, needs, "encoder.")
        anchors, ends = places[: len(arguments["nodes"])], places[len(arguments["nodes"]) :].reshape(-1, 2)
        signals = Signals(embedding=vectors[anchors] if "embedding" in needs else None, taps=taps)
        if "scores" in needs:
            found = parts["predictor"](vectors[ends[:, 0]] * vectors[ends[:, 1]])[:, 0]
            empty = found.new_zeros(arguments["candidates"].shape)
            signals.scores = empty.masked_scatter(arguments["candidates"], found)
        return signals
