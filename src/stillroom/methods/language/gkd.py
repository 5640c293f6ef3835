"""GKD: Generalised Knowledge Distillation, on what the student writes itself.

**Paper**: Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist and Bachem 2024, "On-Policy Distillation of Language Models:
Learning from Self-Generated Mistakes" (ICLR 2024). The authors released no code; TRL's ``GKDTrainer`` follows it.

**Idea**: A student that is only trained on other people's texts meets, once it writes alone, prefixes that it never
saw. So let it write, ask the teacher for its distribution at every token of that, and choose the divergence freely.

**Objective**: with the prompts x of a step, u drawn from U(0, 1), teacher p, student q,

    y ~ q(. | x) if u < lmbda, else the data's answers (or the teacher's, with ``seq_kd``)
    loss = D(p || q), averaged over the tokens of y
    D = beta KL(p || M) + (1 - beta) KL(q || M),    M = beta p + (1 - beta) q;    forward KL at beta 0, reverse KL at 1

and, with a reward r of what the student wrote, loss = alpha D - (1 - alpha) (r(y) - b) log q(y | x), where the second
term is summed over tokens and averaged over rows, and b is the mean reward of the last step on which the student wrote.

**Kept and changed**: No gradient flows through the sampling. u is one number a step, the same for every process and
micro-batch; TRL draws one a micro-batch. Defaults are TRL's, except that answers are sampled at temperature 1 as in the
paper (TRL 0.9). The paper finds lmbda = 1 best or nearly so, and starts from a fine-tuned student, as one must: random
text teaches nothing. It leaves the estimator of the reward's gradient open; b has seen none of the answers that it is
subtracted for, so the estimate stays unbiased. Of a chat the last answer is written anew. Validation is on the data's
answers throughout, so that checkpoints can be compared.

**Use it when**: a fine-tuned student must generate well by itself, and time allows it to write during training (several
times the cost of a plain step). Not with a cache of the teacher: the student's answers are in no cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from stillroom.blocks.sampler import answers, prompts_of, stop_ids, teacher_prompts_of, with_answers
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.divergence import jsd
from stillroom.objectives.logits import divergence_loss
from stillroom.objectives.sequence import sequence_log_prob
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.causal_lm import CausalLM

if TYPE_CHECKING:
    from stillroom.views.base import View

__all__ = ["GKD"]

Reward = Callable[[list[str], list[str]], list[float]]


class GKD(Objective):
    """A divergence from the teacher on answers that the student writes, on some steps or all.

    Args:
        lmbda: the share of steps on which the student writes the answers, in [0, 1].
        beta: the teacher's share of the mixture, in [0, 1]; 0 is forward and 1 reverse KL.
        temperature: softens both distributions in the loss, > 0.
        sampling_temperature: softens the distribution that answers are sampled from, > 0.
        max_new_tokens: of an answer; one that is cut off there is trained on as it is.
        seq_kd: on the other steps the teacher writes the answers, instead of the data's.
        reward: scores the student's answers, more is better: prompts and answers as texts to one number each. It is a
            function, so it can't be given in a recipe.
        alpha: the divergence's share beside the reward, in [0, 1]; 1 without a reward, and below 1 with one.

    Raises:
        ValueError: a value outside its range, or a reward without an alpha and the other way round.
    """

    needs = Needs(student=("logits",), teacher=("logits",))
    units: ClassVar[dict[str, Unit]] = {"policy": "row", "reward": "row"}
    same_tokenizer: bool = True
    live_teacher: bool = True
    rowwise: ClassVar[bool] = True
    reads: tuple[str, ...] = ("completion", "chat")

    seed: Tensor
    baseline: Tensor

    def __init__(
        self,
        *,
        lmbda: float = 0.5,
        beta: float = 0.5,
        temperature: float = 1.0,
        sampling_temperature: float = 1.0,
        max_new_tokens: int = 128,
        seq_kd: bool = False,
        reward: Reward | None = None,
        alpha: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= lmbda <= 1:
            raise ValueError(f"lmbda, the share of steps on which the student writes, must be in [0, 1]; it is {lmbda}")
        if temperature <= 0 or sampling_temperature <= 0 or max_new_tokens < 1:
            raise ValueError(
                "temperature and sampling_temperature must be > 0 and max_new_tokens at least 1; "
                f"they are {temperature}, {sampling_temperature} and {max_new_tokens}"
            )
        if reward is not None and not callable(reward):
            raise ValueError(
                f"reward is a function of prompts and answers, so it can be given in Python only; got {reward!r}"
            )
        if not 0 <= alpha <= 1 or (alpha == 1) != (reward is None):
            raise ValueError(f"alpha must be 1 without a reward and in [0, 1) beside one; it is {alpha}")
        if reward is not None and not lmbda:
            raise ValueError("a reward scores what the student writes, and with lmbda=0 it writes nothing")
        self.divergence, self.temperature = jsd(beta), temperature
        self.lmbda, self.seq_kd, self.reward = lmbda, seq_kd, reward
        self.sampling_temperature, self.max_new_tokens = sampling_temperature, max_new_tokens
        self.writes = max_new_tokens if lmbda == 1 else None
        self.weights = {"gkd": alpha, "policy": 1 - alpha, "reward": 0.0} if reward else {"gkd": 1.0}
        self.register_buffer("seed", torch.tensor(0))
        self.register_buffer("baseline", torch.tensor(0.0))

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Draw the seed of u, and keep the teacher at hand where it is to write."""
        self.seed.fill_(int(torch.randint(2**31, ())))
        if self.seq_kd:
            if teacher is None:
                raise UserError(
                    "with seq_kd the teacher writes while the student trains; give the recipe a teacher.model"
                )
            self._ask_teacher = partial(self._ask, teacher)  # no submodule: a teacher is neither trained nor saved

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Put the answers of whoever writes on this step in place of the data's."""
        if not self.training:  # validation
            return batch
        assert isinstance(view, CausalLM)
        prompts = prompts_of(batch)
        if Random(f"{int(self.seed)}/{step.number}").random() < self.lmbda:
            written = self._ask(student, prompts, view)
            batch = with_answers(batch, prompts, written)
            return batch if self.reward is None else self._scored(batch, self.reward, prompts, written, view)
        if self.seq_kd:
            return with_answers(batch, prompts, self._ask_teacher(teacher_prompts_of(batch), view))
        return batch

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``gkd`` over trained tokens; with a reward ``policy`` over rows, and ``reward``, which is only watched."""
        assert student.logits is not None and teacher is not None and teacher.logits is not None
        assert batch.labels is not None
        kd = divergence_loss(
            student.logits, teacher.logits, batch.mask, divergence=self.divergence, temperature=self.temperature
        )
        if "own_rewards" not in batch.columns:
            return {"gkd": kd}
        rewards, rows = batch.columns["own_rewards"], batch.mask.any(-1).sum()
        log_q = sequence_log_prob(student.logits, batch.labels, batch.mask, temperature=self.sampling_temperature)
        return {
            "gkd": kd,
            "policy": Reduced(-((rewards - self.baseline) * log_q).sum(), rows),
            "reward": Reduced(rewards.sum(), rows),
        }

    def after_step(self, step: Step, losses: dict[str, float]) -> None:
        """Remember the mean reward, over all processes and micro-batches."""
        if "reward" in losses:
            self.baseline.fill_(losses["reward"])

    def _ask(self, model: nn.Module, prompts: list[list[int]], view: CausalLM) -> list[list[int]]:
        return answers(
            model,
            prompts,
            stop=stop_ids(model, view.tokenizer),
            max_new_tokens=self.max_new_tokens,
            temperature=self.sampling_temperature,
            vocabulary=view.vocabulary,
        )

    def _scored(
        self, batch: Batch, reward: Reward, prompts: list[list[int]], written: list[list[int]], view: CausalLM
    ) -> Batch:
        """The batch with the rewards of its rows, [B] float32."""
        asked, said = (view.tokenizer.batch_decode(ids, skip_special_tokens=True) for ids in (prompts, written))
        scores = torch.tensor(reward(asked, said), dtype=torch.float32, device=batch.mask.device)
        if scores.shape != (len(batch),):
            raise ValueError(
                f"the reward must give one number for each of {len(batch)} answers; it gave {list(scores.shape)}"
            )
        batch.columns = batch.columns | {"own_rewards": scores}
        return batch
