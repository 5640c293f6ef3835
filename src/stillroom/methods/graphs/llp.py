"""LLP: linkless link prediction, by the order and the distribution of a teacher's scores around each node.

**Paper**: Guo, Shiao, Zhang, Liu, Chawla, Shah and Zhao 2023, "Linkless Link Prediction via Relational Distillation"
(ICML 2023, arXiv 2210.05801); code snap-research/linkless-link-prediction.

**Idea**: A graph neural network predicts links well and needs the graph at every prediction; an MLP on a node's own
features is fast and predicts badly. Instead of the teacher's single scores or vectors, the MLP copies how the teacher
orders the nodes around an anchor, and how it spreads its scores over them.

**Objective**: of each anchor v, drawn evenly from all nodes, a context C_v of K = S h (1 + r) nodes: what S walks of h
steps from v come to, in order and with repetitions, and S h r nodes drawn evenly. With the link probabilities s_vi of
the student and t_vi of the teacher (after the sigmoid), and r_ij = 1 where t_vi > t_vj + delta, -1 where t_vi < t_vj -
delta, else 0,

    L_R   = mean over v and i < j of max(0, -r_ij (s_vi - s_vj) + delta)
    L_D   = T^2 mean over v of KL(softmax(t_v / T) || softmax(s_v / T))
    L_sup = mean of the binary cross-entropy over links of the batch and as many pairs that no link joins

    loss  = a L_sup + b L_R + c L_D.

Probabilities serve as logits in L_D. Pairs with r_ij = 0 add the constant delta and no gradient.

**Kept and changed**: losses, contexts and defaults are the code's. There an epoch runs through links and anchors in
two loaders side by side; here each row, a link, draws an anchor of its own, which is the same in the mean. Pairs
without a link are drawn anew each step from those that the training graph does not join. An anchor without neighbours
gets nodes drawn evenly in place of walks that would stay put, and ``log`` counts them. The teacher's vectors are
computed once, since it is frozen and reads the whole graph whatever the rows are. Rows may bring their own negatives
and contexts; then nothing is drawn. The code clips gradients to norm 1 module by module, and stops early by Hits@20 on
validation links; here ``train.clip`` clips all together, and when to stop is the recipe's affair.

**Use it when**: links are to be predicted where the graph is too large or too slow to read at each prediction, or new
nodes come without links. The view's graph must hold training links only: walks go along them. Weights differ much
between data sets (1e-3 to 1e3 in the paper); choose them on validation.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stillroom.blocks.random_walks import contexts, with_pairs
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.links import link_bce
from stillroom.objectives.ranking import listwise_kl
from stillroom.objectives.rows import in_float32, need_shape
from stillroom.objectives.sequence import row_means
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.graph import LinkView

__all__ = ["LLP", "rank_loss"]


class LLP(Objective):
    """The teacher's order and distribution of link probabilities over a context of each anchor.

    Args:
        supervised: weight a of the links' own cross-entropy, >= 0.
        rank: weight b of L_R, >= 0.
        distribution: weight c of L_D, >= 0.
        delta: how far two probabilities must lie apart to be put in order, and by how much the student's should; in
            (0, 1). The paper tries 0.05, 0.1 and 0.2.
        temperature: of L_D, > 0.
        walks: S, from each anchor, >= 1.
        hops: h, steps of a walk, >= 1.
        random: r, evenly drawn nodes for each node of a walk, >= 0.
        method: ``nb``, S walks that start at the anchor, or ``rw``, one walk of S h steps.

    Raises:
        ValueError: a value outside its range, or nothing to learn from the teacher.
    """

    kind: ClassVar[str] = "link"
    needs = Needs(student=("scores",), teacher=("scores",))
    units: ClassVar[dict[str, Unit]] = {"links": "row", "rank": "row", "distribution": "row"}
    live_teacher: bool = True

    def __init__(
        self,
        *,
        supervised: float = 0.1,
        rank: float = 1.0,
        distribution: float = 1.0,
        delta: float = 0.1,
        temperature: float = 1.0,
        walks: int = 3,
        hops: int = 2,
        random: float = 1.0,
        method: Literal["nb", "rw"] = "nb",
    ) -> None:
        super().__init__()
        if min(supervised, rank, distribution) < 0 or not (rank or distribution):
            raise ValueError(
                "supervised, rank and distribution are weights >= 0, the last two not both 0; they are "
                f"{supervised}, {rank} and {distribution}"
            )
        if not 0 < delta < 1 or temperature <= 0:
            raise ValueError(f"delta must be in (0, 1) and temperature > 0; they are {delta} and {temperature}")
        if walks < 1 or hops < 1 or random < 0 or walks * hops + round(walks * hops * random) < 2:
            raise ValueError(
                "walks and hops must be >= 1, random >= 0, and a context have 2 nodes; they are "
                f"{walks}, {hops} and {random}"
            )
        self.delta, self.temperature = delta, temperature
        self.walks, self.hops, self.random, self.method = walks, hops, random, method
        weights = {"links": supervised, "rank": rank, "distribution": distribution}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.anchors, self.alone = 0, 0

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Draw negatives, anchors and their contexts, unless the rows bring pairs of their own."""
        assert isinstance(view, LinkView)
        graph = view.graph
        if batch.student["pairs"].shape[1] > 1:
            return batch
        anchors = torch.randint(len(graph), (len(batch),))
        self.anchors += len(anchors)
        self.alone += int((graph.starts[anchors + 1] == graph.starts[anchors]).sum())
        found = contexts(graph, anchors, walks=self.walks, hops=self.hops, random=self.random, method=self.method)
        return with_pairs(batch, graph, anchors, found)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``links``, ``rank`` and ``distribution``, each over rows; those without a weight are left out.

        Raises:
            UserError: a context has fewer than two nodes.
        """
        assert student.scores is not None and teacher is not None and teacher.scores is not None
        there, links = batch.columns["candidates"] & batch.mask.unsqueeze(1), batch.columns["links"]
        around = there & (links < 0)
        if bool((around.sum(1) < 2)[batch.mask].any()):
            raise UserError("a context needs two nodes to be put in order; give each row's 'context' more, or none")
        ours, theirs = (
            in_float32(scores).masked_fill(~around, 0.0).sigmoid() for scores in (student.scores, teacher.scores)
        )
        parts = {}
        if "links" in self.weights:
            parts["links"] = link_bce(student.scores, links, there)
        if "rank" in self.weights:
            parts["rank"] = rank_loss(ours, theirs, around, delta=self.delta)
        if "distribution" in self.weights:
            t = self.temperature
            kl = listwise_kl(ours, theirs, around, student_temperature=t, teacher_temperature=t)
            parts["distribution"] = Reduced(kl.sum * t**2, kl.count)
        return parts

    def log(self) -> dict[str, float]:
        """``isolated``: the share of anchors so far that had no neighbour."""
        return {"isolated": self.alone / self.anchors} if self.anchors else {}


def rank_loss(student: Tensor, teacher: Tensor, mask: Tensor, *, delta: float) -> Reduced:
    """max(0, -r_ij (s_i - s_j) + delta) with the teacher's order r_ij, the mean over each list's pairs i < j.

    Args:
        student: [B, N].
        teacher: [B, N].
        mask: [B, N], candidates that are there.
        delta: the least difference that is an order, and the margin.

    Returns:
        The sum of the lists' means, and the number of lists that have a pair.
    """
    need_shape(mask, student.shape)
    mask = mask.bool()
    first, second = torch.triu_indices(mask.shape[1], mask.shape[1], 1, device=mask.device)
    pairs = mask[:, first] & mask[:, second]
    gap = teacher[:, first] - teacher[:, second]
    order = (gap > delta).to(gap.dtype) - (gap < -delta).to(gap.dtype)
    losses = torch.relu(delta - order * (student[:, first] - student[:, second]))
    return Reduced(row_means(losses, pairs).sum(), pairs.any(-1).sum())
