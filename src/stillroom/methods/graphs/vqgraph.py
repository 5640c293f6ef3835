"""VQGraph: a codebook of local graph structures, and an MLP that learns which of them a node belongs to.

**Paper**: Yang, Tian, Xu, Liu, Hong, Qu, Zhang, Cui, Zhang and Leskovec 2024, "VQGraph: Rethinking Graph
Representation Space for Bridging GNNs and MLPs" (ICLR 2024, arXiv 2308.02117); code YangLing0818/VQGraph.

**Idea**: A few class probabilities are a poor message from a graph neural network to an MLP. So the network first
learns, beside its classes, a codebook of node vectors from which edges and vectors can be rebuilt: each code stands for
a kind of neighbourhood. The MLP then copies how near each node is to all of these codes.

**Objective**: stage ``tokenizer``, for a `QuantisedGNN` with vectors h_i of its first layer, their codes q_i = e_{z_i}
(nearest of C, straight-through), and two linear decoders D_n and D_e:

    CE(labels) + 1e-3 mse(h, D_n q) + 0.03 sqrt(mse(A, A')) + 0.25 mse(sg(q), h),

A' the products (D_e q)(D_e q)^T brought to [0, 1] over the whole matrix, A the adjacency matrix with self-loops. The
second layer and the classifier read D_e q. Codes follow the vectors that chose them (moving averages, decay 0.8).

Stage ``student``, with r_ic how near h_i (of the frozen teacher) or g_i (a linear map of the MLP's hidden layer) is to
code c, and class distributions p of the teacher and p' of the student:

    lambda CE(labels) + (1 - lambda) KL(p || p') + lambda_c T^2 KL(softmax(r^T / T) || softmax(r^S / T)), T = 4,

the first over nodes whose label is known, the others over all nodes of the batch.

**Kept and changed**: the released student script passes probabilities where its divergence expects their logarithms,
which explains its lambda_c of 1e-8; here it is a true KL, and lambda_c is 1. It compares by cosine on the teacher's
side and by minus the Euclidean distance on the student's; here both compare as the codebook does, and
``parity="code"`` gives theirs. Three optimiser steps an epoch (codes, labels, soft labels) are one step of the sum. The
checkpoint is not chosen on test nodes. ``edges="sigmoid"`` and ``nodes="cosine"`` are the paper's forms of the two
reconstructions, sigmoid and squared error, and (1 - cosine)^gamma; the code's are the default. The edge term holds a
matrix of all nodes by all nodes, so the tokenizer is for graphs of at most 20,000 nodes; it should be trained with all
its nodes in a batch. Nodes that a batch leaves out are in the reconstructions all the same, and their labels unseen.

**Use it when**: nodes are classified at a rate that reading neighbours does not allow, and structure matters. It needs
the teacher trained this way; with any other teacher, take ``glnn``. Look at ``dead`` and ``perplexity`` in the
tokenizer's log: codes that nobody uses teach nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.vector_quantiser import VectorQuantiser, code_scores
from stillroom.errors import UserError, need
from stillroom.method import Objective, Step
from stillroom.objectives.logits import divergence_from, divergence_loss
from stillroom.objectives.rows import select
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.graph import GraphView

__all__ = ["VQGraph", "edge_error", "node_error"]

MOST_NODES = 20_000  # of a dense adjacency matrix: 1.6 GB
TAPS = ("tap:encoded", "tap:quantiser", "tap:node_decoder", "tap:edge_decoder")


class VQGraph(Objective):
    """Train the tokenizer, or an MLP by its codes.

    Args:
        stage: ``student``, of a `QuantisedGNN` teacher; or ``tokenizer``, which trains one and has no teacher.
        labels: lambda, weight of the labels' cross-entropy beside the teacher's class probabilities, in [0, 1].
        codes: lambda_c, weight of the code assignments, >= 0.
        temperature: T, of the code assignments, > 0.
        node: of the tokenizer, weight of the vectors' reconstruction, >= 0.
        edge: of the tokenizer, weight of the edges' reconstruction, >= 0.
        commitment: of the tokenizer, weight of the distance between vectors and their codes, >= 0.
        nodes: of the tokenizer, how vectors are held against their reconstruction: ``mse``, or ``cosine``, the paper's.
        edges: likewise edges: ``min-max``, or ``sigmoid``, the paper's.
        gamma: exponent of the cosine error, > 0.
        parity: ``paper``, or ``code``: the student's nearness is minus the distance whatever the teacher's is.

    Raises:
        ValueError: a value outside its range.
    """

    kind: ClassVar[str] = "node"
    units: ClassVar[dict[str, Unit]] = {
        **{"labels": "own", "soft_labels": "row", "codes": "row"},
        **{"node": "batch", "edge": "batch", "commitment": "batch"},
    }
    live_teacher: bool = True

    def __init__(
        self,
        *,
        stage: Literal["student", "tokenizer"] = "student",
        labels: float = 0.0,
        codes: float = 1.0,
        temperature: float = 4.0,
        node: float = 1e-3,
        edge: float = 0.03,
        commitment: float = 0.25,
        nodes: Literal["mse", "cosine"] = "mse",
        edges: Literal["min-max", "sigmoid"] = "min-max",
        gamma: float = 1.0,
        parity: Literal["paper", "code"] = "paper",
    ) -> None:
        super().__init__()
        if not 0 <= labels <= 1 or min(codes, node, edge, commitment) < 0:
            raise ValueError(
                f"labels is a share in [0, 1], codes, node, edge and commitment are weights >= 0; they are {labels}, "
                f"{codes}, {node}, {edge} and {commitment}"
            )
        if temperature <= 0 or gamma <= 0:
            raise ValueError(f"temperature and gamma must be > 0; they are {temperature} and {gamma}")
        self.stage, self.temperature, self.parity = stage, temperature, parity
        self.nodes, self.edges, self.gamma = nodes, edges, gamma
        if stage == "tokenizer":
            self.needs = Needs(student=("logits", *TAPS))
            self.weights = {"labels": 1.0, "node": node, "edge": edge, "commitment": commitment}
        else:
            self.needs = Needs(student=("logits", "embedding"), teacher=("logits", "tap:encoded"))
            self.weights = {"labels": labels, "soft_labels": 1 - labels, "codes": codes}

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """For a tokenizer the adjacency matrix; for a student the codebook, and a map to its width.

        Raises:
            UserError: there is no codebook where one is needed, or the graph is too large.
        """
        with_codes = student if self.stage == "tokenizer" else teacher
        quantiser: Any = getattr(with_codes, "quantiser", None)
        if not isinstance(quantiser, VectorQuantiser):
            whose = "student" if self.stage == "tokenizer" else "teacher"
            raise UserError(
                f"the {whose} has no codebook; it must be a QuantisedGNN (student.new.architecture), and a teacher "
                "trained as one by this method with stage: tokenizer"
            )
        if self.stage == "tokenizer":
            assert isinstance(view, GraphView)
            self._quantiser = (quantiser,)  # in a tuple, as it is the student's part and not this one's
            self.register_buffer("adjacency", adjacency(len(view.graph), view.graph.edges), persistent=False)
            return
        self.register_buffer("book", quantiser.book.detach().clone())
        self.compare = quantiser.compare
        with torch.no_grad():
            hidden = view.emit(student, sample.student, ("embedding",)).embedding
        assert hidden is not None
        self.map = nn.Linear(hidden.shape[-1], quantiser.book.shape[-1])

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """Of a student ``labels``, ``soft_labels`` and ``codes``; of a tokenizer ``labels`` and three a batch."""
        assert student.logits is not None and batch.labels is not None
        known = batch.mask & (batch.labels >= 0)
        labels = {"labels": cross_entropy(student.logits, batch.labels, known)}
        if self.stage == "tokenizer":
            return labels | self._reconstructions(student, batch.mask)
        assert student.embedding is not None and teacher is not None
        nodes = (batch.student if batch.teacher is None else batch.teacher)["nodes"]
        book = self.get_buffer("book")
        theirs = code_scores(select(teacher.taps["encoded"][nodes], batch.mask), book, self.compare)
        compare = "distance" if self.parity == "code" else self.compare
        ours = code_scores(self.map(select(student.embedding, batch.mask)), book, compare)
        every = batch.mask[batch.mask]
        codes = divergence_loss(ours, theirs.detach(), every, temperature=self.temperature, scale_by_t2=True)
        return labels | {"soft_labels": divergence_from(student.logits, teacher, batch.mask), "codes": codes}

    def _reconstructions(self, student: Signals, mask: Tensor) -> dict[str, Reduced]:
        encoded, codes = student.taps["encoded"], student.taps["quantiser"]
        terms = {
            "node": node_error(student.taps["node_decoder"], encoded, self.nodes, self.gamma),
            "edge": edge_error(student.taps["edge_decoder"], self.get_buffer("adjacency").to(encoded), self.edges),
            "commitment": F.mse_loss(encoded, codes.detach()),
        }
        there = mask.any()
        return {name: Reduced(term * there, torch.ones_like(there).sum()) for name, term in terms.items()}

    def log(self) -> dict[str, float]:
        """Of a tokenizer the ``perplexity`` of code use, and the share of ``dead`` codes."""
        if self.stage != "tokenizer":
            return {}
        (quantiser,) = self._quantiser
        return {"perplexity": quantiser.perplexity, "dead": quantiser.dead}


class QuantisedGNN(nn.Module):
    """Two message-passing layers with a codebook between them: the tokenizer, which is also the teacher.

    Args:
        in_channels: width of the features.
        hidden_channels: D, of vectors, codes and the second layer.
        out_channels: classes.
        codes: C, at least 2; the paper takes about as many as there are nodes.
        conv: ``GCN`` or ``GraphSAGE``.
        compare: how codes are compared, ``cosine`` or ``distance``.
        decay: of the codes' moving averages, in [0, 1).
        dropout: after the first layer's activation, in [0, 1).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        codes: int = 5000,
        conv: Literal["GCN", "GraphSAGE"] = "GCN",
        compare: Literal["cosine", "distance"] = "cosine",
        decay: float = 0.8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        library = need("torch_geometric.nn", "graphs")
        layer = {"GCN": library.GCNConv, "GraphSAGE": library.SAGEConv}[conv]
        self.in_channels, self.hidden_channels, self.out_channels = in_channels, hidden_channels, out_channels
        self.convs = nn.ModuleList([layer(in_channels, hidden_channels), layer(hidden_channels, hidden_channels)])
        self.dropout = nn.Dropout(dropout)
        self.encoded = nn.Identity()  # a place to look at the vectors that are quantised
        self.quantiser = VectorQuantiser(codes, hidden_channels, compare=compare, decay=decay)
        self.node_decoder = nn.Linear(hidden_channels, hidden_channels)
        self.edge_decoder = nn.Linear(hidden_channels, hidden_channels)
        self.classifier = nn.Linear(hidden_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Features [N, in] and edges [2, E] -> logits [N, C]."""
        encoded = self.encoded(self.dropout(self.convs[0](x, edge_index).relu()))
        codes = self.quantiser(encoded).codes
        self.node_decoder(codes)  # for those who look at it
        return self.classifier(self.convs[1](self.edge_decoder(codes), edge_index).relu())


def adjacency(nodes: int, edges: Tensor) -> Tensor:
    """[N, N], 1 where an edge joins two nodes and from each node to itself.

    Raises:
        UserError: the matrix would be too large.
    """
    if nodes > MOST_NODES:
        raise UserError(
            f"the tokenizer's edge term holds all pairs of nodes; the graph has {nodes}, more than {MOST_NODES}: "
            "train it on a part of the graph"
        )
    found = torch.eye(nodes)
    found[edges[0], edges[1]] = 1.0
    return found


def edge_error(decoded: Tensor, target: Tensor, form: str) -> Tensor:
    """How far the products of decoded vectors [N, D] are from an adjacency matrix [N, N].

    ``min-max``: sqrt of the mean squared error of the products, brought to [0, 1] over the whole matrix. ``sigmoid``:
    the mean squared error of their sigmoids.

    Raises:
        ValueError: the matrix is not [N, N].
    """
    if target.shape != (len(decoded), len(decoded)):
        raise ValueError(f"{len(decoded)} nodes need a square matrix of edges; this has shape {tuple(target.shape)}")
    products = decoded @ decoded.T
    if form == "sigmoid":
        return F.mse_loss(products.sigmoid(), target)
    low, high = products.aminmax()
    scaled = (products - low) / (high - low).clamp(min=torch.finfo(products.dtype).tiny)
    return (F.mse_loss(scaled, target) + torch.finfo(products.dtype).tiny).sqrt()


def node_error(decoded: Tensor, encoded: Tensor, form: str, gamma: float = 1.0) -> Tensor:
    """How far decoded vectors are from those that were quantised, [N, D] both: ``mse``, or (1 - ``cosine``)^gamma."""
    if form == "mse":
        return F.mse_loss(decoded, encoded)
    gaps = 1 - F.cosine_similarity(decoded, encoded, dim=-1)
    return gaps.clamp(min=torch.finfo(gaps.dtype).eps).pow(gamma).mean()
