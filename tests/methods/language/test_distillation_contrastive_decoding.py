"""DCD: the score of a step by hand, the amateur's own context and cache, its weakening, and the prompts.

.venv/bin/python -m pytest tests/methods/language/test_distillation_contrastive_decoding.py
"""

import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from stillroom import catalog
from stillroom.blocks.rounding import rounded_copy
from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.methods.language.distillation_contrastive_decoding import (
    Demonstration,
    DistillationContrastiveDecoding,
    _weakened,
    contrast,
    contrast_prompts,
    wrong_rationales,
)
from stillroom.recipe import Method

QUESTIONS = [[9, 4], [5, 6], [7, 9]]
EXPERT = [[3, 11, 8, *QUESTIONS[0]], [12, *QUESTIONS[1]], [*QUESTIONS[2]]]
AMATEUR = [[14, *QUESTIONS[0]], [*QUESTIONS[1]], [13, 2, 2, 15, *QUESTIONS[2]]]


def llama(seed=3, layers=2):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.6,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.6)
    return GPT2LMHeadModel(config).eval()


def generate(model, processor, prompts=EXPERT, count=8, **settings):
    """New tokens of a plain ``generate`` over prompts padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    real = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    out = model.generate(
        ids, attention_mask=real, max_new_tokens=count, do_sample=False, pad_token_id=0, eos_token_id=None,
        logits_processor=[processor], **settings,
    )  # fmt: skip
    return out[:, width:].tolist()


@torch.no_grad()
def next_logits(model, ids):
    return model(torch.tensor([ids])).logits[0, -1].tolist()


def by_hand(model, amateur, expert_prompt, amateur_prompt, count, alpha, beta):
    """Both read everything again at each step; plausibility by probabilities, scores one by one."""
    written = []
    for _ in range(count):
        e, a = next_logits(model, expert_prompt + written), next_logits(amateur, amateur_prompt + written)
        weights = [math.exp(value) for value in e]
        scores = {
            token: (1 + beta) * e[token] - beta * a[token]
            for token, weight in enumerate(weights)
            if weight / sum(weights) >= alpha * max(weights) / sum(weights)
        }
        written.append(max(scores, key=scores.get))
    return written


def test_the_contrast_by_hand():
    """alpha 0.5 keeps what lies within log 2 = 0.69 of the best; 1.5 e - 0.5 a."""
    found = contrast(torch.tensor([2.0, 1.5, 1.0]), torch.tensor([3.0, -1.0, 9.0]), alpha=0.5, beta=0.5)
    assert found.tolist() == pytest.approx([1.5, 2.75, -math.inf])


def test_the_likeliest_token_is_the_same_for_logits_and_log_probabilities():
    torch.manual_seed(0)
    expert, amateur = torch.randn(40, 9), torch.randn(40, 9)
    raw, normal = contrast(expert, amateur), contrast(expert.log_softmax(-1), amateur.log_softmax(-1))
    assert torch.equal(raw.argmax(-1), normal.argmax(-1)) and torch.equal(raw.isinf(), normal.isinf())
    assert torch.equal(contrast(expert, amateur, alpha=1.0).argmax(-1), expert.argmax(-1))
    assert torch.equal(contrast(expert, amateur, beta=0.0).argmax(-1), expert.argmax(-1))


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.8), (0.01, 3.0)])
def test_generation_is_that_of_two_models_that_read_everything_again(make, alpha, beta):
    """Rows of different lengths, padded differently for the two, with caches; the amateur is prompted otherwise."""
    model = make()
    processor = DistillationContrastiveDecoding(model, AMATEUR, alpha=alpha, beta=beta, dropout=0.0, question=2)
    expected = [
        by_hand(model, model, expert, amateur, 8, alpha, beta) for expert, amateur in zip(EXPERT, AMATEUR, strict=True)
    ]
    assert generate(model, processor) == expected
    greedy = [by_hand(model, model, expert, expert, 8, 1.0, 0.0) for expert in EXPERT]
    assert expected != greedy
    assert generate(model, processor) == expected  # the next batch of the same prompts starts anew


def test_another_model_may_be_the_amateur():
    model, small = llama(), llama(seed=5, layers=1)
    processor = DistillationContrastiveDecoding(model, EXPERT, beta=2.0, dropout=0.0, amateur=small)
    assert generate(model, processor) == [by_hand(model, small, prompt, prompt, 8, 0.1, 2.0) for prompt in EXPERT]
    rounded = rounded_copy(model, bits=2)
    processor = DistillationContrastiveDecoding(model, EXPERT, beta=2.0, dropout=0.0, amateur=rounded)
    assert generate(model, processor) == [by_hand(model, rounded, prompt, prompt, 8, 0.1, 2.0) for prompt in EXPERT]


def test_without_dropout_a_model_has_nothing_against_itself():
    model = llama()
    processor = DistillationContrastiveDecoding(model, EXPERT, dropout=0.0)
    assert generate(model, processor) == [by_hand(model, model, prompt, prompt, 8, 1.0, 0.0) for prompt in EXPERT]


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [llama, gpt2])
def test_dropout_weakens_the_amateur_and_leaves_the_expert_alone(make):
    model = make().train()
    ids = torch.tensor([EXPERT[0]])
    model.eval()
    with torch.no_grad():
        whole = model(ids).logits
        torch.manual_seed(0)
        with _weakened(model, 0.5):
            weak, other = model(ids).logits, model(ids).logits
        assert not torch.allclose(weak, whole) and not torch.allclose(weak, other)
        assert torch.equal(model(ids).logits, whole)
    assert not any(module.training for module in model.modules())


def test_only_the_attention_is_in_train_mode_and_all_is_put_back_even_after_an_error():
    model = gpt2().train()
    model.transformer.h[0].mlp.eval()
    modes = [module.training for module in model.modules()]
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    with pytest.raises(KeyError), _weakened(model, 0.4):
        found = {name: module.p for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
        assert {name for name, p in found.items() if p == 0.4} == {
            f"transformer.h.{n}.attn.attn_dropout" for n in (0, 1)
        }
        training = {name for name, module in model.named_modules() if module.training}
        assert training == {f"transformer.h.{n}.attn{rest}" for n in (0, 1) for rest in ("", ".attn_dropout")}
        raise KeyError
    assert [module.training for module in model.modules()] == modes
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == rates


def test_the_first_tokens_dropout_stays_in_the_cache_and_a_seed_repeats_a_run():
    model = llama()
    found = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        processor = DistillationContrastiveDecoding(model, AMATEUR, alpha=0.01, beta=3.0, dropout=0.5)
        found.append(generate(model, processor))
    assert found[0] == found[1] and any(other != found[0] for other in found[2:])


def test_a_model_without_attention_is_refused():
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, state_size=4)).eval()
    processor = DistillationContrastiveDecoding(model, [[1, 2]])
    with pytest.raises(UserError, match="no dropout to set"):
        processor(torch.tensor([[1, 2]]), torch.zeros(1, 30))


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_beams_other_rows_and_other_questions_are_refused():
    model = llama()
    with pytest.raises(UserError, match="without beams"):
        generate(model, DistillationContrastiveDecoding(model, AMATEUR), num_beams=2)
    with pytest.raises(UserError, match="different questions"):
        generate(model, DistillationContrastiveDecoding(model, [*AMATEUR[1:], AMATEUR[0]]))
    other = [*AMATEUR[:2], [13, 8, 9]]  # the last token is that of the question, the one before it is not
    with pytest.raises(UserError, match="row 2"):
        generate(model, DistillationContrastiveDecoding(model, other, question=2))


def test_rows_that_change_places_are_refused():
    model = llama()
    processor = DistillationContrastiveDecoding(model, [[1, 2], [3, 2]])
    processor(torch.tensor([[1, 2], [3, 2]]), torch.zeros(2, 30))
    with pytest.raises(UserError, match="changed places"):
        processor(torch.tensor([[3, 2, 5], [1, 2, 5]]), torch.zeros(2, 30))


def test_an_amateur_with_other_tokens_is_refused():
    processor = DistillationContrastiveDecoding(llama(), [[1, 2]])
    with pytest.raises(UserError, match="30 logits and the expert 31"):
        processor(torch.tensor([[1, 2]]), torch.zeros(1, 31))


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 0.0}, {"alpha": 1.1}, {"beta": -0.1}, {"dropout": 1.0}, {"dropout": -0.1}, {"question": 0}],
)
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError):
        DistillationContrastiveDecoding(None, [[1]], **settings)


def test_no_prompt_is_refused():
    for prompts in ([], [[1], []], [[1]]):
        with pytest.raises(ValueError, match="prompts"):
            DistillationContrastiveDecoding(None, prompts, question=2)


def test_the_catalogue_knows_a_decoding_rule_and_no_recipe_trains_with_it():
    system = catalog.find("distillation-contrastive-decoding")
    assert system.source.kind == "decoding rule"
    assert catalog.load(system.slug) is DistillationContrastiveDecoding
    with pytest.raises(UserError, match="is not trained with"):
        build_method(Method(name=system.slug))


# --- prompts ----------------------------------------------------------------------------------------------------------

SOLVED = [
    Demonstration("Ann has 3 pens and buys 4. How many?", "She had 3. 3 + 4 = 7. The answer is 7."),
    Demonstration("A car has 4 wheels. And 5 cars?", "Each has 4. 5 * 4 = 20. The answer is 20."),
]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("numbers", "She had 4. 4 + 7 = 3. The answer is 3."),
        ("steps", "The answer is 7. 3 + 4 = 7. She had 3."),
        ("operations", "She had 3. 3 - 4 = 7. The answer is 7."),
        ("objects", "Each has 4. 5 * 4 = 20. The answer is 20."),
    ],
)
def test_wrong_rationales_by_hand(wrong, expected):
    assert wrong_rationales([example.rationale for example in SOLVED], wrong)[0] == expected


def test_both_prompts_ask_the_same():
    expert, amateur = contrast_prompts(SOLVED, "And now?", wrong="objects")
    first, second = SOLVED
    assert expert == (
        f"Q: {first.question}\nA: {first.rationale}\n\nQ: {second.question}\nA: {second.rationale}\n\nQ: And now?\nA:"
    )
    assert amateur == (
        f"Q: {first.question}\nA: {second.rationale}\n\nQ: {second.question}\nA: {first.rationale}\n\nQ: And now?\nA:"
    )
    assert len(set(contrast_prompts(SOLVED, "x", wrong=None))) == 1


def test_a_rationale_that_would_stay_right_is_refused():
    with pytest.raises(UserError, match="can't be made wrong by 'operations'"):
        wrong_rationales(["It is 3."], "operations")
    with pytest.raises(UserError, match="can't be made wrong by 'objects'"):
        contrast_prompts(SOLVED[:1], "x", wrong="objects")
    with pytest.raises(UserError, match="no way 'words'"):
        wrong_rationales(["x"], "words")
    with pytest.raises(UserError, match="at least one demonstration"):
        contrast_prompts([], "x")
    assert wrong_rationales(["It is 3."], "numbers") == ["It is 4."]
