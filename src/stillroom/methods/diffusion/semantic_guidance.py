"""Semantic guidance: while a picture is made, phrases of the prompt that are drifting away get guidance of their own.

**Paper.** *Semantic Guidance Tuning for Text-To-Image Diffusion Models* (2023), arXiv 2312.15964; code
github.com/korguy/Concept-Diffusion.

**Idea.** The direction that a prompt pulls in is the difference of two predictions of the noise. Each noun phrase of
the prompt pulls in one of its own. Where the prompt's direction no longer has much in common with a phrase's, the
picture is losing that phrase, and the phrase's own direction, reduced to its strongest places, is added.

**Objective.** No training. At step i the network predicts the noise for the empty prompt (e_0), the prompt (e_c) and
each phrase p (e_p), each [B, C, height, width]; g = e_c - e_0 and g_p = e_p - e_0. Keep in each channel of a direction
the entries whose size reaches its q-quantile; what is in no phrase is A::

    m_p = kept(g_p);   m_A = kept(g), then for p in order  m_A <- m_A - (<m_A, m_p> / ||m_p||^2) m_p
    rho_{i,k} = |cos(g, m_k)|  for each phrase and A
    G_p = m_p + s nu_p;   G_A = -(g - m_A);   nu_k <- b nu_k + (1 - b) G_k,  nu = 0 at first
    e = e_0 + w g + w_c sum over k of G_k [ mean of rho_{i-window..i-1, k} < th_k ],   only while warmup < i < cooldown

The mean is over the steps before this one, cut at the first. e is the noise that any scheduler's step is given.

**Kept and changed.** All of the released code's rule and the values of its configuration file (its functions have other
defaults). The mean of no step (a window at i = 0) counts as similar, so nothing is added; a phrase whose direction is 0
everywhere is similar too, where the code divides 0 by 0. Noun phrases are the caller's, as the parser is: without any
the rule is classifier-free guidance. The paper's text speaks of steering towards what has diverged alone; the term that
pushes away from what no phrase explains is the code's.

**Use it when** a text-to-image model leaves out objects of a prompt that names several, and len(phrases) + 2 calls a
step are affordable. It can't show what the model does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["SemanticGuidance"]


class SemanticGuidance:
    """The rule, for one batch of pictures that are made side by side; it remembers the steps before.

    Args:
        guidance: w, of the whole prompt, >= 0; 1 is the prompt's own prediction.
        phrase_guidance: w_c, of a phrase that has drifted away, >= 0.
        threshold: th, the similarity below which a phrase has drifted, in [0, 1]; one number, or one for each phrase
            and a last one for what is in none of them. 0 never adds anything.
        quantile: q in [0, 1), the share of each channel that is set to 0.
        momentum: b in [0, 1), of the running mean of what is added.
        momentum_scale: s >= 0, how much of that mean is added to a phrase's direction.
        warmup: the first step that nothing is added at, counted from 0; so are all before.
        cooldown: the first step after those that something is added at.
        window: steps that a similarity is the mean of, >= 1.
    """

    def __init__(
        self,
        *,
        guidance: float = 7.5,
        phrase_guidance: float = 8.5,
        threshold: float | Sequence[float] = 0.5,
        quantile: float = 0.9,
        momentum: float = 0.5,
        momentum_scale: float = 0.5,
        warmup: int = 5,
        cooldown: int = 50,
        window: int = 5,
    ) -> None:
        limits = [threshold] if isinstance(threshold, int | float) else list(threshold)
        if guidance < 0 or phrase_guidance < 0 or momentum_scale < 0:
            raise ValueError("guidance, phrase_guidance and momentum_scale are at least 0")
        if not all(0 <= limit <= 1 for limit in limits) or not 0 <= quantile < 1 or not 0 <= momentum < 1:
            raise ValueError("thresholds lie in [0, 1], quantile and momentum in [0, 1)")
        if window < 1:
            raise ValueError(f"a similarity is the mean of at least one step; window is {window}")
        self.guidance, self.phrase_guidance, self.limits = guidance, phrase_guidance, limits
        self.quantile, self.momentum, self.momentum_scale = quantile, momentum, momentum_scale
        self.warmup, self.cooldown, self.window = warmup, cooldown, window
        self.similarities: list[Tensor] = []
        self.running: Tensor | None = None

    def noise(self, network: Any, x: Tensor, t: Tensor, contexts: Tensor, masks: Tensor | None = None) -> Tensor:
        """The noise to take out of x_t, as a scheduler's step is given it; asks the network once.

        Args:
            network: a diffusers `UNet2DConditionModel`, or what is called like one, that predicts noise.
            x: pictures at timestep t, [B, C, height, width].
            t: one timestep for all.
            contexts: encoded texts [P + 2, B, L, D]: the empty prompt, the prompt, and each of its phrases.
            masks: which of the texts' places are read, [P + 2, B, L]; all, if None.

        Returns:
            [B, C, height, width].
        """
        texts = len(contexts)
        said = None if masks is None else masks.flatten(0, 1)
        found = network(x.repeat(texts, 1, 1, 1), t, contexts.flatten(0, 1), encoder_attention_mask=said).sample
        empty, prompt, *phrases = found.unflatten(0, (texts, len(x)))
        return self(empty, prompt, torch.stack(phrases) if phrases else x.new_zeros(0, *x.shape))

    def __call__(self, empty: Tensor, prompt: Tensor, phrases: Tensor) -> Tensor:
        """The noise to take out at this step.

        Args:
            empty: e_0 [B, C, height, width].
            prompt: e_c, likewise.
            phrases: e_p [P, B, C, height, width]; P may be 0.

        Raises:
            ValueError: the shapes, or the number of thresholds, do not fit.
        """
        if prompt.shape != empty.shape or phrases.shape[1:] != empty.shape:
            raise ValueError(
                f"the predictions have shapes {list(empty.shape)}, {list(prompt.shape)} and, for each phrase, "
                f"{list(phrases.shape[1:])}; they must agree"
            )
        direction = prompt - empty
        plain = empty + self.guidance * direction
        if not len(phrases):
            return plain
        kept = strongest(phrases - empty, self.quantile)
        rest = without(strongest(direction, self.quantile), kept)
        added = torch.cat([self._with_momentum(kept), (rest - direction).unsqueeze(0)])
        drifted = self._drifted(len(added), direction)
        self.similarities.append(similarity(direction, torch.cat([kept, rest.unsqueeze(0)])))
        self._remember(added)
        if drifted is None:
            return plain
        chosen = added * drifted.reshape(*drifted.shape, *[1] * (direction.dim() - 1))
        return plain + self.phrase_guidance * chosen.sum(0)

    def _with_momentum(self, kept: Tensor) -> Tensor:
        return kept if self.running is None else kept + self.momentum_scale * self.running[:-1]

    def _remember(self, added: Tensor) -> None:
        before = torch.zeros_like(added) if self.running is None else self.running
        self.running = self.momentum * before + (1 - self.momentum) * added

    def _drifted(self, count: int, like: Tensor) -> Tensor | None:
        """Which of the directions [P + 1, B] are to be added at this step; None for none, whatever they are."""
        number = len(self.similarities)
        if not self.warmup < number < self.cooldown or not number:
            return None
        if len(self.limits) not in (1, count):
            raise ValueError(
                f"there are {len(self.limits)} thresholds for {count - 1} phrases and what is in none; give one for "
                "all, or one each"
            )
        recent = torch.stack(self.similarities[-self.window :]).mean(0)
        limits = torch.tensor(self.limits, dtype=recent.dtype, device=like.device)
        return (recent < limits.unsqueeze(-1)).to(like.dtype)


def strongest(direction: Tensor, quantile: float) -> Tensor:
    """Each channel [..., height, width] with 0 wherever its size is below that quantile of the channel."""
    size = direction.abs().flatten(-2)
    limit = torch.quantile(size.float(), quantile, dim=-1, keepdim=True)
    return direction * (size >= limit.to(size.dtype)).reshape(direction.shape)


def without(direction: Tensor, others: Tensor) -> Tensor:
    """A direction [B, ...] less its part along each of others [P, B, ...], one after the other (Gram and Schmidt)."""
    left = direction.flatten(1)
    for other in others.flatten(2):
        length = other.square().sum(1, keepdim=True)
        along = (left * other).sum(1, keepdim=True) / length.masked_fill(length == 0, 1.0)
        left = left - along * other
    return left.reshape(direction.shape)


def similarity(direction: Tensor, others: Tensor) -> Tensor:
    """|cosine| of a direction [B, ...] and each of others [P, B, ...]: [P, B] in [0, 1]; 1 where one of them is 0."""
    one, many = direction.flatten(1), others.flatten(2)
    found = F.cosine_similarity(one.unsqueeze(0).expand_as(many), many, dim=-1).abs().clamp(max=1.0)
    empty = (many.abs().amax(-1) == 0) | (one.abs().amax(-1) == 0)
    return found.masked_fill(empty, 1.0)
