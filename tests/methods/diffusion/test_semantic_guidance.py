"""Semantic guidance: each rule by hand, and classifier-free guidance wherever nothing drifts.

.venv/bin/python -m pytest tests/methods/diffusion/test_semantic_guidance.py
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stillroom.methods.diffusion.semantic_guidance import SemanticGuidance, similarity, strongest, without


def draw(seed, phrases=2):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 2, 4, 4)
    empty, prompt = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return empty, prompt, torch.randn(phrases, *shape, generator=generator, dtype=torch.float64)


def test_only_the_strongest_places_of_a_channel_are_kept():
    channel = torch.tensor([[1.0, -9.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    both = torch.cat([channel, 100 * channel], 1)  # each channel has a quantile of its own
    kept = strongest(both, 0.5)
    assert kept[0, 0].flatten().tolist() == [0.0, -9.0, 0.0, 4.0] and torch.equal(kept[0, 1], 100 * kept[0, 0])
    assert torch.equal(strongest(both, 0.0), both)


def test_what_is_left_is_orthogonal_to_the_last_phrase_and_zero_phrases_do_no_harm():
    _empty, prompt, phrases = draw(0)
    left = without(prompt, phrases)
    assert (left * phrases[-1]).flatten(1).sum(1).abs().max() < 1e-10
    assert torch.equal(without(prompt, torch.zeros_like(phrases)), prompt)


def test_similarity_is_the_size_of_the_cosine():
    _empty, prompt, phrases = draw(1)
    one, many = prompt.flatten(1).numpy(), phrases.flatten(2).numpy()
    by_hand = np.abs((one[None] * many).sum(-1)) / np.linalg.norm(one, axis=-1) / np.linalg.norm(many, axis=-1)
    np.testing.assert_allclose(similarity(prompt, phrases).numpy(), by_hand)
    assert torch.equal(similarity(prompt, torch.zeros_like(phrases)), torch.ones(2, 3, dtype=torch.float64))


def test_threshold_zero_is_guidance_without_a_classifier_bit_for_bit():
    rule = SemanticGuidance(threshold=0.0, warmup=-1, guidance=3.0)
    for step in range(4):
        empty, prompt, phrases = draw(step)
        assert torch.equal(rule(empty, prompt, phrases), empty + 3.0 * (prompt - empty))


def test_no_phrases_is_guidance_without_a_classifier():
    empty, prompt, _ = draw(0)
    assert torch.equal(
        SemanticGuidance(guidance=2.0)(empty, prompt, torch.zeros(0, *empty.shape)), empty + 2.0 * (prompt - empty)
    )


def slow(steps, *, w, w_c, th, q, b, s, warmup, cooldown, window):
    """The card's algorithm for one picture, number by number, in NumPy."""
    nu, history, out = None, [], []
    for i, (empty, prompt, phrases) in enumerate(steps):

        def kept(direction):
            found = np.zeros_like(direction)
            for c, channel in enumerate(direction):
                found[c] = np.where(np.abs(channel) >= np.quantile(np.abs(channel), q), channel, 0)
            return found

        g = prompt - empty
        m = [kept(phrase - empty) for phrase in phrases]
        rest = kept(g)
        for one in m:
            rest = rest - (rest * one).sum() / (one**2).sum() * one
        nu = [np.zeros_like(g)] * (len(m) + 1) if nu is None else nu
        added = [one + s * nu[p] for p, one in enumerate(m)] + [-(g - rest)]
        total = np.zeros_like(g)
        if warmup < i < cooldown and i > 0:
            for k, one in enumerate(added):
                recent = [past[k] for past in history[max(0, i - window) : i]]
                if np.mean(recent) < th:
                    total = total + one
        history.append([abs((g * k).sum()) / np.linalg.norm(g) / np.linalg.norm(k) for k in (*m, rest)])
        nu = [b * old + (1 - b) * new for old, new in zip(nu, added, strict=True)]
        out.append(empty + w * g + w_c * total)
    return out


def test_the_whole_rule_is_the_slow_one():
    settings = {"w": 2.0, "w_c": 3.0, "th": 0.6, "q": 0.5, "b": 0.4, "s": 0.6, "warmup": 1, "cooldown": 6, "window": 2}
    rule = SemanticGuidance(
        guidance=2.0,
        phrase_guidance=3.0,
        threshold=0.6,
        quantile=0.5,
        momentum=0.4,
        momentum_scale=0.6,
        warmup=1,
        cooldown=6,
        window=2,
    )
    steps = [draw(seed) for seed in range(8)]
    found = [rule(*step).numpy() for step in steps]
    plain = [empty + 2.0 * (prompt - empty) for empty, prompt, _ in steps]
    for row in range(3):
        expected = slow(
            [(e[row].numpy(), p[row].numpy(), phrases[:, row].numpy()) for e, p, phrases in steps], **settings
        )
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[row], theirs, atol=1e-9)
    changed = [not np.allclose(ours, other.numpy()) for ours, other in zip(found, plain, strict=True)]
    assert changed[:2] == [False, False] and changed[6:] == [False, False] and any(changed[2:6])


@pytest.mark.parametrize(
    "settings", [{"threshold": 1.5}, {"quantile": 1.0}, {"momentum": 1.0}, {"window": 0}, {"guidance": -1.0}]
)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SemanticGuidance(**settings)


def test_what_does_not_fit_is_refused():
    empty, prompt, phrases = draw(0)
    with pytest.raises(ValueError, match="must agree"):
        SemanticGuidance()(empty, prompt, phrases[:, :2])
    rule = SemanticGuidance(threshold=[0.5, 0.5], warmup=0)
    rule(empty, prompt, phrases)
    with pytest.raises(ValueError, match="2 thresholds for 2 phrases"):
        rule(empty, prompt, phrases)


class Network:
    """Predicts the picture plus a pattern as strong as the text's mean; counts how often it was asked."""

    asked = 0
    pattern = torch.arange(1.0, 33.0).reshape(2, 4, 4)

    def __call__(self, x, t, context, encoder_attention_mask=None):
        self.asked += 1
        weight = torch.ones(context.shape[:2]) if encoder_attention_mask is None else encoder_attention_mask.float()
        said = (context.mean(-1) * weight).sum(1) / weight.sum(1)
        return SimpleNamespace(sample=x + said.reshape(-1, 1, 1, 1) * self.pattern)


def test_the_network_is_asked_once_for_all_texts_of_a_step():
    generator = torch.Generator().manual_seed(0)
    x, contexts = torch.randn(3, 2, 4, 4, generator=generator), torch.randn(4, 3, 5, 8, generator=generator)
    masks = torch.ones(4, 3, 5, dtype=torch.bool)
    masks[:, :, 3:] = False
    network, rule = Network(), SemanticGuidance(warmup=0, threshold=0.9)
    for step in range(3):
        found = rule.noise(network, x, torch.tensor(step), contexts, masks)
    again = SemanticGuidance(warmup=0, threshold=0.9)
    means = contexts[:, :, :3].mean((2, 3)).reshape(4, 3, 1, 1, 1) * Network.pattern
    for _ in range(3):
        wanted = again(x + means[0], x + means[1], x + means[2:])
    assert network.asked == 3
    torch.testing.assert_close(found, wanted)


def test_a_prompt_without_phrases_asks_for_two_texts():
    x, contexts = torch.randn(3, 2, 4, 4), torch.randn(2, 3, 5, 8)
    found = SemanticGuidance(guidance=2.0).noise(Network(), x, torch.tensor(0), contexts)
    empty, prompt = contexts.mean((2, 3)).reshape(2, 3, 1, 1, 1) * Network.pattern
    torch.testing.assert_close(found, x + empty + 2.0 * (prompt - empty))
