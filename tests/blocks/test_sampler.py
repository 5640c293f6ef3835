"""Text written by a model: what is sampled, where it ends, and batches remade from it.

.venv/bin/python -m pytest tests/blocks/test_sampler.py
"""

import copy

import pytest
import torch
from torch.nn.functional import pad
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from stillroom.blocks.sampler import answers, prompts_of, stop_ids, teacher_prompts_of, with_answers
from stillroom.signals import Batch
from stillroom.students.open import train_tokenizer
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM

PROMPTS = [[5, 9, 3, 7, 11, 8], [4], [6, 12, 6], [10, 3]]


def llama(vocabulary=30, dropout=0.0):
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.6, attention_dropout=dropout,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(3)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.6)
    ).eval()


@torch.no_grad()
def by_hand(model, prompt, count):
    """The likeliest continuation, one forward pass over the whole text a token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_padding_of_shorter_prompts_cannot_be_seen(make):
    model = make()
    expected = [by_hand(model, prompt, 8) for prompt in PROMPTS]
    assert len({tuple(row) for row in expected}) == len(PROMPTS)
    assert answers(model, PROMPTS, stop=[], max_new_tokens=8, temperature=0) == expected


def test_an_answer_ends_with_the_first_of_any_stop_token():
    model = llama()
    expected = by_hand(model, PROMPTS[0], 12)
    sooner, later = list(dict.fromkeys(expected))[1:3]
    wanted = expected[: expected.index(sooner) + 1]
    assert answers(model, PROMPTS[:1], stop=[later, sooner], max_new_tokens=12, temperature=0) == [wanted]


def test_rows_that_ended_early_are_cut_at_their_stop_token_though_padding_is_the_same_token():
    model = llama()
    expected = by_hand(model, PROMPTS[0], 8)
    stop = expected[1]
    short, long = answers(model, [PROMPTS[0], PROMPTS[1]], stop=[stop], max_new_tokens=8, temperature=0)
    assert short == expected[:2] and len(long) > 2 and long == by_hand(model, PROMPTS[1], len(long))


def test_a_prompt_may_hold_the_stop_token():
    model = llama()
    prompt = [5, 29, 3]
    assert answers(model, [prompt], stop=[29], max_new_tokens=4, temperature=0) == [by_hand(model, prompt, 4)]


def test_samples_follow_the_softened_distribution_whatever_the_models_own_settings_say():
    model = llama(vocabulary=8)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.1, top_k=1, repetition_penalty=5.0, min_new_tokens=3, suppress_tokens=[1]
    )
    before = model.generation_config
    prompt, temperature = [2, 2, 5], 1.5
    with torch.no_grad():
        wanted = (model(torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1)
    torch.manual_seed(0)
    drawn = answers(model, [prompt] * 4000, stop=[], max_new_tokens=1, temperature=temperature)
    shares = torch.bincount(torch.tensor(drawn)[:, 0], minlength=8) / 4000
    error = (wanted * (1 - wanted) / 4000).sqrt()
    assert ((shares - wanted).abs() < 4 * error).all()
    assert model.generation_config is before


def test_greedy_is_greedy_though_the_model_would_sample():
    model = llama()
    model.generation_config = GenerationConfig(do_sample=True, temperature=3.0, repetition_penalty=3.0)
    expected = [by_hand(model, prompt, 6) for prompt in PROMPTS]
    assert answers(model, PROMPTS, stop=[], max_new_tokens=6, temperature=0) == expected


def test_ids_beyond_the_vocabulary_are_never_written():
    model = llama()
    torch.manual_seed(0)
    free = answers(model, PROMPTS * 20, stop=[], max_new_tokens=8, temperature=2.0)
    kept = answers(model, PROMPTS * 20, stop=[], max_new_tokens=8, temperature=2.0, vocabulary=12)
    assert max(map(max, free)) >= 12 > max(map(max, kept))


def test_dropout_is_off_while_writing_and_every_part_is_in_its_mode_afterwards():
    model = llama(dropout=0.5).train()
    model.model.layers[0].eval()  # a part that its owner froze
    modes = [module.training for module in model.modules()]
    written = answers(model, PROMPTS, stop=[], max_new_tokens=8, temperature=0)
    assert [module.training for module in model.modules()] == modes
    model.eval()
    assert written == [by_hand(model, prompt, 8) for prompt in PROMPTS]


def test_modes_come_back_when_writing_fails():
    model = llama().train()
    with pytest.raises(IndexError):
        answers(model, [[1000]], stop=[], max_new_tokens=1)
    assert all(module.training for module in model.modules())


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        answers(llama(), [[3], []], stop=[], max_new_tokens=1)


def test_what_ends_an_answer():
    model = llama()
    tokenizer = train_tokenizer(["a b"], 300)
    model.generation_config.eos_token_id = [7, tokenizer.eos_token_id]
    assert stop_ids(model, tokenizer) == [7, tokenizer.eos_token_id]
    model.generation_config.eos_token_id = 7
    assert stop_ids(model, tokenizer) == [7, tokenizer.eos_token_id]


# --- batches ----------------------------------------------------------------------------------------------------------

ROWS = [
    {"id": "one", "prompt": "three plus four is", "completion": " seven"},
    {"id": "two", "prompt": "two", "completion": " is a number and there is more to be said of it"},
]
CHAT = [
    {
        "id": "talk",
        "messages": [
            {"role": "user", "content": "three plus four"},
            {"role": "assistant", "content": "seven"},
            {"role": "user", "content": "and one"},
            {"role": "assistant", "content": "eight"},
        ],
    }
]


@pytest.fixture(scope="module")
def view():
    return CausalLM(train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 300), max_length=200)


def batch_of(view, rows, teacher_view=None):
    views = {"student": view} | ({"teacher": teacher_view} if teacher_view else {})
    return make_batch(view, teacher_view, [{name: v.encode(row) for name, v in views.items()} for row in rows])


@pytest.mark.parametrize("rows", [ROWS, CHAT], ids=["completion", "chat of two answers"])
def test_prompts_are_what_the_view_would_ask(view, rows):
    assert prompts_of(batch_of(view, rows)) == [view.prompt(row) for row in rows]


def test_a_row_that_trains_nothing_is_all_prompt(view):
    batch = batch_of(view, ROWS)
    batch.mask = torch.zeros_like(batch.mask)
    lengths = batch.student["attention_mask"].sum(1).tolist()
    assert [len(prompt) for prompt in prompts_of(batch)] == lengths


@pytest.mark.parametrize("same", [True, False], ids=["pad is end of sequence", "pad is its own token"])
def test_the_datas_own_answers_remake_the_batch(view, same):
    if same:
        tokenizer = copy.deepcopy(view.tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
        view = CausalLM(tokenizer)
    batch = batch_of(view, ROWS)
    prompts = [view.prompt(row) for row in ROWS]
    end = view.tokenizer.eos_token_id
    own = [[*view.tokenizer(row["completion"], add_special_tokens=False)["input_ids"], end] for row in ROWS]
    remade = with_answers(batch, prompts, own)
    assert torch.equal(remade.mask, batch.mask)
    assert torch.equal(remade.student["attention_mask"], batch.student["attention_mask"])
    real = batch.student["attention_mask"].bool()
    assert torch.equal(remade.student["input_ids"][real], batch.student["input_ids"][real])
    assert torch.equal(remade.labels[remade.mask], batch.labels[batch.mask])
    assert set(remade.ids).isdisjoint(batch.ids)


def test_prompts_are_masked_row_by_row_and_the_stop_token_is_trained(view):
    remade = with_answers(batch_of(view, ROWS), [[11, 12, 13, 14, 15], [16]], [[21, 0], [22, 23, 0]])
    assert remade.student["input_ids"].tolist() == [[11, 12, 13, 14, 15, 21, 0], [16, 22, 23, 0, 0, 0, 0]]
    assert remade.student["attention_mask"].sum(1).tolist() == [7, 4]
    assert remade.mask.int().tolist() == [[0, 0, 0, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]]
    assert remade.labels[remade.mask].tolist() == [21, 0, 22, 23, 0]


def test_a_teacher_with_another_prompt_reads_the_same_answers_after_its_own(view):
    class Polite(CausalLM):
        def _tokens(self, row):
            return super()._tokens(row | {"prompt": f"please say {row['prompt']}"})

    batch = batch_of(view, ROWS, Polite(view.tokenizer, max_length=200))
    asked = [view.tokenizer(f"please say {row['prompt']}")["input_ids"] for row in ROWS]
    assert teacher_prompts_of(batch) == asked != prompts_of(batch)
    written = [[21, 22, 0], [23, 0]]
    remade = with_answers(batch, prompts_of(batch), written)
    width = remade.teacher["input_ids"].shape[1]
    expected = [pad(torch.tensor(p + w), (0, width - len(p + w))) for p, w in zip(asked, written, strict=True)]
    assert torch.equal(remade.teacher["input_ids"], torch.stack(expected))
    predicted = torch.roll(remade.teacher["input_ids"], -1, dims=1)[remade.teacher_mask]
    assert torch.equal(predicted, remade.labels[remade.mask]) and predicted.tolist() == [21, 22, 0, 23, 0]


def test_other_columns_stay(view):
    batch: Batch = batch_of(view, ROWS)
    batch.columns["weight"] = torch.tensor([1.0, 2.0])
    assert with_answers(batch, [[1], [2]], [[3], [4]]).columns["weight"].tolist() == [1.0, 2.0]
