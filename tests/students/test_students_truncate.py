"""Keeping some layers of a model.

Run: pytest tests/students/test_students_truncate.py
"""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    T5Config,
    T5Model,
)

from stillroom.students.truncate import find_layers, keep_layers

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
IDS = torch.arange(1, 9).reshape(1, 8)


def qwen(**options):
    config = Qwen2Config(
        **SMALL,
        num_hidden_layers=4,
        num_key_value_heads=1,
        layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
        use_sliding_window=True,
        sliding_window=4,
        **options,
    )
    return Qwen2ForCausalLM(config).eval()


MODELS = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SMALL, num_hidden_layers=4)).eval(),
    "electra": lambda: ElectraModel(ElectraConfig(**SMALL, embedding_size=8, num_hidden_layers=4)).eval(),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=4, n_head=2)).eval(),
    "qwen2": qwen,
}


def run_by_hand(model, kept):
    """The model with the layers that go turned into ones that hand on what they get."""
    _, blocks = find_layers(model)
    handles = [
        block.register_forward_hook(
            lambda _module, given, _kwargs, output: (given[0], *output[1:]) if isinstance(output, tuple) else given[0],
            with_kwargs=True,
        )
        for number, block in enumerate(blocks)
        if number not in kept
    ]
    with torch.no_grad():
        output = model(input_ids=IDS)[0]
    for handle in handles:
        handle.remove()
    return output


@pytest.mark.parametrize("name", MODELS)
def test_is_the_model_without_the_other_layers(name):
    model = MODELS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    student = keep_layers(model, [0, -1])
    with torch.no_grad():
        assert torch.allclose(student(input_ids=IDS)[0], run_by_hand(model, [0, 3]), atol=1e-6)
    assert student.config.num_hidden_layers == 2 and model.config.num_hidden_layers == 4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not {id(p) for p in student.parameters()} & {id(p) for p in model.parameters()}


def test_order_is_the_one_given():
    model = MODELS["bert"]()
    student = keep_layers(model, [2, 0])
    kept = student.bert.encoder.layer
    assert torch.equal(kept[0].output.dense.weight, model.bert.encoder.layer[2].output.dense.weight)
    assert torch.equal(kept[1].output.dense.weight, model.bert.encoder.layer[0].output.dense.weight)


def test_tied_head_stays_tied():
    student = keep_layers(qwen(tie_word_embeddings=True), [0, 2])
    assert student.lm_head.weight is student.model.embed_tokens.weight


def test_generates_with_a_cache_and_loads_again(tmp_path):
    student = keep_layers(qwen(), [1, 2])
    assert student.config.layer_types == ["sliding_attention", "full_attention"]
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    cached = student.generate(IDS, use_cache=True, **options)
    assert torch.equal(cached, student.generate(IDS, use_cache=False, **options))
    student.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, student(IDS).logits)


def mixture(**options):
    config = Qwen2MoeConfig(
        **SMALL, num_hidden_layers=4, num_key_value_heads=2, num_experts=2, num_experts_per_tok=1,
        moe_intermediate_size=8, shared_expert_intermediate_size=8, **options,
    )  # fmt: skip
    return Qwen2MoeForCausalLM(config)


def test_numbers_of_dense_layers_follow():
    assert keep_layers(mixture(mlp_only_layers=[0, 3]), [1, 3]).config.mlp_only_layers == [1]


def test_a_model_that_could_not_be_loaded_again_is_refused():
    with pytest.raises(ValueError, match="would not load again"):
        keep_layers(mixture(decoder_sparse_step=2), [1, 2])  # dense and sparse take turns, by number


@pytest.mark.parametrize(
    ("layers", "words"), [([], "at least one"), ([0, 4], "layer 4 does not exist"), ([3, -1], "same layer twice")]
)
def test_wrong_layers_are_refused(layers, words):
    with pytest.raises(ValueError, match=words):
        keep_layers(MODELS["bert"](), layers)


def test_two_lists_of_layers_are_refused():
    with pytest.raises(ValueError, match=r"found encoder\.block, decoder\.block"):
        keep_layers(T5Model(T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)), [0])
