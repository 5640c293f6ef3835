"""DCD: Distillation Contrastive Decoding, a model against itself, weakened and badly prompted.

**Paper**: Phan, Tran and Phan 2024, "Distillation Contrastive Decoding: Improving LLMs Reasoning with Contrastive
Decoding and Distillation" (arXiv 2402.14874).

**Idea**: Contrastive decoding takes from a model's logits what a smaller, worse model would say too. Here that amateur
is the model itself: with dropout in its attention or with rounded weights, and after demonstrations whose reasoning is
wrong. No second model is needed, and what is left is what good reasoning adds.

**Objective**: nothing is trained. At each step, with the expert's next-token logits e [B, V] after valid demonstrations
and the question, and the amateur's a [B, V] after invalid ones and the same question and answer so far,

    score_v = (1 + beta) e_v - beta a_v where e_v >= max e + log alpha, else -inf

and the likeliest token by score is written, and read by both.

**Kept and changed**: Logits are not normalised, as in the authors' code; the likeliest token is the same. They patch
``generate``; this is a logits processor for the plain one, with a key-value cache of the amateur's own. They set the
dropout's rate on the outer model and put all of it in train mode; here it is set in the attention modules, which read
it, and only these are in train mode, for the length of the amateur's pass. Their hand-written wrong demonstrations are
made from the right ones by rule (`contrast_prompts`). The quantised amateur is a copy with weights rounded in groups
(`stillroom.blocks.rounding`) where they load one quantised by AWQ or GPTQ. Any model with the same tokens may be the
amateur, which is contrastive decoding proper. Sampling works as well; beams do not, and are refused.

**Use it when**: a model that is good at following demonstrations must reason better and may take twice the time a
token. Together with a repetition penalty it errs: that changes the expert's logits and not the amateur's.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor

from stillroom.errors import UserError
from stillroom.views.base import pad

__all__ = [  # noqa: RUF022 - the first name is the method
    "DistillationContrastiveDecoding",
    "Demonstration",
    "contrast",
    "contrast_prompts",
    "wrong_rationales",
]

Wrong = Literal["numbers", "steps", "operations", "objects"]


class DistillationContrastiveDecoding(LogitsProcessor):
    """Contrast the logits that ``generate`` gives with those of an amateur that reads the same answer.

    One processor serves one batch of prompts; give it to ``model.generate(..., logits_processor=[processor])``. The
    amateur's dropout draws from torch's generator, so ``torch.manual_seed`` before it makes a run repeatable.

    Args:
        model: that generates; with an ``amateur`` of its own it is not asked again.
        prompts: token ids of what the amateur reads before each answer: invalid demonstrations, then the question.
        alpha: a token may be written if the expert gives it this share of its likeliest token's probability, in (0, 1].
        beta: how much the amateur counts, >= 0; at 0 the expert decodes alone, among these tokens.
        dropout: rate in the amateur's attention, in [0, 1); 0 leaves it whole.
        amateur: another model with the same tokens, such as a `rounded_copy`; None is ``model`` itself.
        question: how many tokens at the end of the prompts must be the same for expert and amateur: those of the final
            question, at least 1.

    Raises:
        ValueError: a value outside its range, or no prompt.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        *,
        alpha: float = 0.1,
        beta: float = 0.8,
        dropout: float = 0.2,
        amateur: Any = None,
        question: int = 1,
    ) -> None:
        check_rates(alpha, beta)
        if not 0 <= dropout < 1 or question < 1:
            raise ValueError(f"dropout must be in [0, 1) and question at least 1; they are {dropout} and {question}")
        if not prompts or min(len(prompt) for prompt in prompts) < question:
            raise ValueError("the amateur needs prompts, each at least as long as the question")
        self.amateur = model if amateur is None else amateur
        self.prompts, self.question = [list(prompt) for prompt in prompts], question
        self.alpha, self.beta, self.dropout = alpha, beta, dropout
        self.read: Tensor | None = None  # what the expert had read at the last step
        self.cache: Any = None
        self.real: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The contrast of scores [B, V], after the tokens input_ids [B, L] that the expert has read.

        Raises:
            UserError: other rows than prompts, another final question, a beam search, or an amateur with other tokens.
        """
        new = self._unread(input_ids)
        with _weakened(self.amateur, self.dropout):
            amateur = self._ask(new)
        self.read = input_ids
        if amateur.shape[-1] != scores.shape[-1]:
            raise UserError(
                f"the amateur has {amateur.shape[-1]} logits and the expert {scores.shape[-1]}; both must have the "
                "same tokens"
            )
        return contrast(scores, amateur.to(scores), alpha=self.alpha, beta=self.beta)

    def _unread(self, input_ids: Tensor) -> Tensor:
        """The tokens that the amateur has not read: its whole prompts [B, P], or the one written last [B, 1]."""
        if len(input_ids) != len(self.prompts):
            raise UserError(
                f"the amateur has {len(self.prompts)} prompts and the expert {len(input_ids)} rows; give one prompt a "
                "row, and generate without beams and with one answer a prompt"
            )
        if self.read is not None and input_ids.shape[1] == self.read.shape[1] + 1:
            if not torch.equal(input_ids[:, :-1], self.read):
                raise UserError("rows changed places between two steps; generate without beams (num_beams=1)")
            assert self.real is not None
            self.real = nn.functional.pad(self.real, (0, 1), value=True)
            return input_ids[:, -1:]
        ends = [prompt[-self.question :] for prompt in self.prompts]
        if input_ids[:, -self.question :].tolist() != ends:
            row = next(n for n, end in enumerate(ends) if input_ids[n, -self.question :].tolist() != end)
            raise UserError(f"row {row}: the prompts of expert and amateur end in different questions")
        backwards, real = pad([prompt[::-1] for prompt in self.prompts])
        self.cache, self.real = None, real.flip(1).to(input_ids.device)
        return backwards.flip(1).to(input_ids.device)

    @torch.no_grad()
    def _ask(self, new: Tensor) -> Tensor:
        """The amateur's next-token logits [B, V]; its cache grows by what it reads."""
        assert self.real is not None
        known = inspect.signature(self.amateur.forward).parameters
        places = (self.real.long().cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        extra = {"position_ids": places, "logits_to_keep": 1}
        output = self.amateur(
            input_ids=new,
            attention_mask=self.real.long(),
            past_key_values=self.cache,
            use_cache=True,
            **{name: value for name, value in extra.items() if name in known},
        )
        self.cache = output.past_key_values
        return output.logits[:, -1]


def check_rates(alpha: float, beta: float) -> None:
    """Refuse values outside their range.

    Raises:
        ValueError: alpha is outside (0, 1], or beta below 0.
    """
    if not 0 < alpha <= 1 or beta < 0:
        raise ValueError(f"alpha must be in (0, 1] and beta >= 0; they are {alpha} and {beta}")


def contrast(expert: Tensor, amateur: Tensor, *, alpha: float = 0.1, beta: float = 0.8) -> Tensor:
    """(1 + beta) expert - beta amateur where the expert finds a token plausible, -inf elsewhere.

    Args:
        expert: logits, [..., V].
        amateur: logits, [..., V].
        alpha: the share of the likeliest token's probability from which on a token is plausible, in (0, 1].
        beta: how much the amateur counts, >= 0.

    Returns:
        [..., V]; at least the expert's likeliest token is finite.

    Raises:
        ValueError: a value outside its range.
    """
    check_rates(alpha, beta)
    plausible = expert >= expert.amax(-1, keepdim=True) + math.log(alpha)
    return ((1 + beta) * expert - beta * amateur).masked_fill(~plausible, -math.inf)


@contextmanager
def _weakened(model: nn.Module, rate: float) -> Iterator[None]:
    """The model in eval mode but for dropout at this rate on its attention weights; all is as before afterwards.

    Raises:
        UserError: none of the model's parts is an attention with dropout.
    """
    modes = [(module, module.training) for module in model.modules()]
    rates: list[tuple[nn.Module, str, float]] = []
    model.eval()
    try:
        if rate:
            for module in list(model.modules()):
                rates += _set_dropout(module, rate)
            if not rates:
                raise UserError("this model's attention has no dropout to set; take dropout=0 and another amateur")
        yield
    finally:
        for module, name, value in rates:
            setattr(module, name, value)
        for module, training in modes:
            module.training = training


def _set_dropout(module: nn.Module, rate: float) -> list[tuple[nn.Module, str, float]]:
    """Set the dropout of an attention, if the module is one, and what it was: (module, attribute, value)."""
    if "Attention" not in type(module).__name__:
        return []
    held = [
        (module, name) for name in ("attention_dropout", "dropout") if isinstance(getattr(module, name, None), float)
    ]
    # The dropout of an attention's output is another matter.
    held += [
        (child, "p")
        for name, child in module.named_children()
        if isinstance(child, nn.Dropout) and not name.startswith(("resid", "out"))
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name in held]
    for owner, name in held:
        setattr(owner, name, rate)
        owner.training = module.training = True
    return before


# --- prompts ----------------------------------------------------------------------------------------------------------


class Demonstration(NamedTuple):
    """A question, and how it is answered, step by step."""

    question: str
    rationale: str


def contrast_prompts(
    demonstrations: Sequence[Demonstration],
    question: str,
    *,
    wrong: Wrong | None = "numbers",
    shown: str = "Q: {question}\nA: {rationale}\n\n",
    asked: str = "Q: {question}\nA:",
) -> tuple[str, str]:
    """The prompts of expert and amateur: the same questions, with right and with wrong rationales.

    Args:
        demonstrations: right ones, at least one.
        question: the final one, the same for both.
        wrong: how the amateur's rationales are spoilt, see `wrong_rationales`; None leaves them right.
        shown: how a demonstration is written.
        asked: how the final question is.

    Raises:
        UserError: there is no demonstration, or one can't be spoilt in this way.
    """
    if not demonstrations:
        raise UserError("give at least one demonstration, whose reasoning the amateur is to see spoilt")
    right = [example.rationale for example in demonstrations]
    spoilt = right if wrong is None else wrong_rationales(right, wrong)
    final = asked.format(question=question)
    expert, amateur = (
        "".join(
            shown.format(question=example.question, rationale=rationale)
            for example, rationale in zip(demonstrations, rationales, strict=True)
        )
        for rationales in (right, spoilt)
    )
    return expert + final, amateur + final


def wrong_rationales(rationales: Sequence[str], wrong: Wrong) -> list[str]:
    """Rationales that are well written and wrong.

    Args:
        rationales: right ones.
        wrong: ``numbers``, each number becomes the next other one of the same rationale (a single one grows by 1);
            ``steps``, the sentences come in reverse order; ``operations``, + and -, * and / change places; ``objects``,
            each question gets the rationale of the next one.

    Raises:
        UserError: one would stay as it is.
    """
    if wrong == "objects":
        spoilt = [*rationales[1:], *rationales[:1]]
    elif wrong in _RULES:
        spoilt = [_RULES[wrong](rationale) for rationale in rationales]
    else:
        raise UserError(f"there is no way {wrong!r} to spoil a rationale; there are {', '.join(_RULES)} and objects")
    for right, made in zip(rationales, spoilt, strict=True):
        if right == made:
            raise UserError(f"{right!r} can't be made wrong by {wrong!r}; take another way, or another demonstration")
    return spoilt


def _other_numbers(text: str) -> str:
    numbers = list(dict.fromkeys(re.findall(r"\d+", text)))
    if len(numbers) == 1:
        return re.sub(r"\d+", str(int(numbers[0]) + 1), text)
    following = dict(zip(numbers, [*numbers[1:], *numbers[:1]], strict=True))
    return re.sub(r"\d+", lambda found: following[found[0]], text)


def _reversed_steps(text: str) -> str:
    return " ".join(reversed(re.split(r"(?<=[.!?])\s+", text.strip())))


def _other_operations(text: str) -> str:
    other = dict(zip("+-*/×÷", "-+/*÷×", strict=True))
    return re.sub(r"(?<=\s)[-+*/×÷](?=\s)", lambda found: other[found[0]], text)


_RULES: dict[str, Callable[[str], str]] = {
    "numbers": _other_numbers,
    "steps": _reversed_steps,
    "operations": _other_operations,
}
