"""Seq-KD: its loss, the teacher's search, the choice by BLEU, pruning, and a run of each variant.

.venv/bin/python -m pytest tests/methods/language/test_seqkd.py
"""

import itertools
import json
import logging
import math

import pytest
import sacrebleu
import torch
from safetensors.torch import load_file
from tests.oracles.objectives import masked_places, softmax
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom import texts
from stillroom.asking import label
from stillroom.blocks.sampler import hypotheses
from stillroom.checks import build_method, build_methods
from stillroom.errors import UserError
from stillroom.evaluate.generation import sentence_bleu
from stillroom.method import Step, Writing
from stillroom.methods.language.seqkd import SeqKD, smallest
from stillroom.recipe import Method, Scratch, check
from stillroom.run import execute
from stillroom.signals import Batch, Signals, TopK
from stillroom.students.open import new_model
from stillroom.views.load import open_model

ROWS = [{"prompt": f"{n} plus {n} is", "completion": f" {2 * n} in all"} for n in range(12)]
NOW = Step(0, 10)


# --- the loss ---------------------------------------------------------------------------------------------------------


def parts(teacher=None, **settings):
    torch.manual_seed(0)
    student, logits = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    mask = torch.tensor([[True, True, False], [False, True, True]])
    batch = Batch(ids=["a", "b"], student={}, mask=mask, labels=torch.tensor([[0, 4, 9], [9, 2, 1]]))
    method = SeqKD(**settings)
    found = method.parts(Signals(logits=student), teacher or Signals(logits=logits), batch, NOW)
    return method, found, student, logits, batch


def expected(student, teacher, batch):
    """The two sums of the equation, place by place."""
    nll = word = 0.0
    for place in masked_places(batch.mask.numpy()):
        q, p = softmax(student[place].tolist()), softmax(teacher[place].tolist())
        nll -= math.log(q[int(batch.labels[place])])
        word -= sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    return nll, word


def test_by_word_both_sums_have_a_half():
    method, found, student, teacher, batch = parts(variant="word")
    nll, word = expected(student, teacher, batch)
    assert method.weights == {"nll": 0.5, "word": 0.5}
    assert found["nll"].sum.item() == pytest.approx(nll, rel=1e-5)
    assert found["word"].sum.item() == pytest.approx(word, rel=1e-5)
    assert found["nll"].count == found["word"].count == 4


def test_all_logs_of_a_cache_teach_like_the_live_teacher():
    *_, teacher, _ = parts()
    logs, ids = teacher.log_softmax(-1).sort(-1, descending=True)
    kept = Signals(topk=TopK(ids, logs, torch.zeros(2, 3)))
    torch.testing.assert_close(parts(kept, variant="word")[1]["word"].sum, parts(variant="word")[1]["word"].sum)


@pytest.mark.parametrize("variant", ["seq", "inter"])
def test_by_sequence_only_the_answers_count_unless_a_share_is_given(variant):
    method, found, *_ = parts(variant=variant)
    assert set(found) == {"nll"} and method.weights == {"nll": 1.0}
    assert method.needs.teacher == ("text",) and method.needs.asked == () and not method.same_tokenizer
    method, found, *_ = parts(variant=variant, word=0.25)
    assert set(found) == {"nll", "word"} and method.weights == {"nll": 0.75, "word": 0.25}
    assert method.needs.teacher == ("text", "logits") and method.needs.asked == ("logits",) and method.same_tokenizer
    assert set(parts(variant=variant, word=1.0)[1]) == {"word"}


def test_what_the_teacher_is_to_write():
    assert SeqKD().writing == Writing(beams=5) and SeqKD(variant="inter").writing == Writing(beams=35, nearest=True)
    assert SeqKD(beams=7).writing == Writing(beams=7) and SeqKD(beams=1).writing == Writing()
    assert SeqKD(variant="word").needs.teacher == ("logits",)


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "words"},
        {"word": 1.1},
        {"word": -0.1},
        {"beams": 0},
        {"variant": "inter", "beams": 1},
        {"variant": "word", "beams": 5},
        {"variant": "word", "word": 0.0},
        {"prune": 1.0},
        {"prune": -0.1},
    ],
)
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError):
        SeqKD(**settings)


# --- the search -------------------------------------------------------------------------------------------------------


def llama(vocabulary=6):
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.6,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def log_probability(model, prompt, answer):
    logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(float(logs[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))


def all_answers(vocabulary, stop, longest):
    """Every answer that ends, and every one that comes to no end."""
    others = [token for token in range(vocabulary) if token != stop]
    for length in range(longest):
        yield from ([*start, stop] for start in itertools.product(others, repeat=length))
    yield from map(list, itertools.product(others, repeat=longest))


@pytest.mark.parametrize("prompt", [[3, 1, 4], [2], [5, 5]])
def test_wide_enough_a_search_finds_the_likeliest_answers_of_all(prompt):
    model = llama()
    ranked = sorted(all_answers(6, 0, 3), key=lambda answer: -log_probability(model, prompt, answer))
    found = hypotheses(model, [prompt], stop=[0], max_new_tokens=3, beams=120)
    assert len(found) == 1 and len(found[0]) == 120
    assert found[0][:10] == ranked[:10]


def test_rows_of_a_search_do_not_mix_and_ids_beyond_the_vocabulary_are_not_written():
    model, prompts = llama(), [[3, 1, 4, 4], [2], [5, 5]]
    together = hypotheses(model, prompts, stop=[0], max_new_tokens=4, beams=3, vocabulary=5)
    assert together == [hypotheses(model, [p], stop=[0], max_new_tokens=4, beams=3, vocabulary=5)[0] for p in prompts]
    assert [len(among) for among in together] == [3, 3, 3]
    assert max(max(answer) for among in together for answer in among) < 5
    for prompt, among in zip(prompts, together, strict=True):
        scores = [log_probability(model, prompt, answer) for answer in among]
        assert scores[0] == max(scores)


def test_a_search_is_without_dropout_and_without_the_models_own_settings():
    model = llama()
    wanted = hypotheses(model, [[3, 1]], stop=[0], max_new_tokens=4, beams=3)
    model.train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.generation_config.length_penalty = 5.0
    assert hypotheses(model, [[3, 1]], stop=[0], max_new_tokens=4, beams=3) == wanted
    assert model.training


def test_a_search_needs_a_beam_and_prompts():
    for beams, prompts in ((0, [[1]]), (2, []), (2, [[1], []])):
        with pytest.raises(ValueError, match="at least one"):
            hypotheses(llama(), prompts, stop=[0], max_new_tokens=2, beams=beams)


def test_sentence_bleu_by_hand():
    """Five words, four right; pairs 3 of 4, triples 2 of 3, fours 1 of 2: with 1 added to all but the first."""
    wanted = 100 * (4 / 5 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert sentence_bleu("the cat sat on it", "the cat sat on mats") == pytest.approx(wanted)
    plain = sacrebleu.sentence_bleu("a b c d e", ["a b c d e"]).score
    assert sentence_bleu("a b c d e", "a b c d e") == pytest.approx(plain) == pytest.approx(100)


def test_the_nearest_is_chosen_by_bleu_and_the_first_without_a_wish():
    found = ["She has ten.", "She had 3 and 4, so 7.", "He had 3 and 4, so 7."]
    assert texts._chosen(found, None) == found[0]
    assert texts._chosen(found, "She had 3 and 4, so 8.") == found[1]
    assert texts._chosen([], "x") == texts._chosen([], None) == ""


# --- pruning ----------------------------------------------------------------------------------------------------------


def test_the_smallest_weights_over_all_matrices_together():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, -5.0], [3.0, -0.2]]))
        model[1].weight.copy_(torch.tensor([[0.3, 4.0]]))
        model[0].bias.zero_()
    chosen = smallest(model, 0.5)
    assert set(chosen) == {"0.weight", "1.weight"}
    assert chosen["0.weight"].tolist() == [[True, False], [False, True]] and chosen["1.weight"].tolist() == [
        [True, False]
    ]
    assert sum(int(mask.sum()) for mask in smallest(model, 0.99).values()) == 5


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_what_was_pruned_stays_zero_and_the_rest_learns(optimizer):
    model = llama()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    SeqKD(prune=0.6).setup(model, None, None, None)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    gone = {name: value == 0 for name, value in start.items() if value.dim() > 1}
    share = sum(int(mask.sum()) for mask in gone.values()) / sum(mask.numel() for mask in gone.values())
    assert share == pytest.approx(0.6, abs=1e-3)
    kept = torch.cat([before[name][~mask].abs() for name, mask in gone.items()]).min()
    assert kept >= torch.cat([before[name][mask].abs() for name, mask in gone.items()]).max()
    stepper = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        stepper.zero_grad()
        model(torch.tensor([[1, 2, 3, 4]]), labels=torch.tensor([[1, 2, 3, 4]])).loss.backward()
        stepper.step()
    for name, weight in model.named_parameters():
        if name in gone:
            assert not weight[gone[name]].any()
            assert not gone[name].all() and not torch.equal(weight, start[name])


def test_a_frozen_matrix_is_not_pruned():
    model = llama()
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    with pytest.raises(UserError, match=r"up_proj\.weight is frozen"):
        SeqKD(prune=0.5).setup(model, None, None, None)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student, a teacher that has learnt to end, and rows, in a folder."""
    folder = tmp_path_factory.mktemp("seqkd")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    sizes = {"intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}
    words = [row["prompt"] + row["completion"] for row in ROWS]
    torch.manual_seed(0)
    scratch = Scratch(architecture="llama", config=sizes | {"hidden_size": 32}, vocabulary=300)
    new_model(scratch, "language", lambda: words, folder / "student")
    plain = {
        "task": "language",
        "data": str(folder / "rows.jsonl"),
        "method": "sft",
        "name": "t",
        "output": str(folder),
    }
    train = {"steps": 60, "batch_size": 12, "learning_rate": 1e-2, "device": "cpu", "save_every": 0}
    execute(
        check(plain | {"student": {"model": str(folder / "student"), "max_length": 48}, "train": train}), timed=False
    )
    return folder


def recipe(models, folder, method, **settings):
    return check(
        {
            "name": "run", "output": str(folder), "task": "language",
            "teacher": {"model": str(models / "t" / "model"), "max_new_tokens": 12},
            "student": {"model": str(models / "student"), "max_length": 48}, "data": str(models / "rows.jsonl"),
            "method": method,
            "train": {"steps": 2, "batch_size": 6, "learning_rate": 1e-2, "device": "cpu", "save_every": 0},
        }
        | settings
    )  # fmt: skip


@pytest.mark.parametrize(
    "method",
    [
        {"name": "seqkd", "beams": 3},
        {"name": "seqkd", "variant": "inter", "beams": 4},
        {"name": "seqkd", "variant": "word"},
        {"name": "seqkd", "variant": "inter", "beams": 4, "word": 0.5, "prune": 0.3},
    ],
)
def test_each_variant_runs(models, tmp_path, monkeypatch, method):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    run = execute(recipe(models, tmp_path, method), timed=False)
    assert run.trained["seqkd"].steps == 2
    weights = load_file(run.model / "model.safetensors")
    zeros = sum(int((w == 0).sum()) for w in weights.values() if w.dim() > 1)
    matrices = sum(w.numel() for w in weights.values() if w.dim() > 1)
    assert zeros == pytest.approx(method.get("prune", 0) * matrices, rel=0.02, abs=40)  # a padding row is 0 in any case


def test_rows_are_answered_by_what_the_search_ends_with(models, tmp_path, monkeypatch):
    """The likeliest ended hypothesis, or that nearest to the data's answer, found again here one prompt at a time."""
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    made = recipe(models, tmp_path, "seqkd")
    from datasets import Dataset

    rows = Dataset.from_list(ROWS)
    teacher = open_model(made.teacher.model, "language", max_length=48)
    tokenizer = teacher.view.tokenizer
    for writing in (Writing(beams=4), Writing(beams=4, nearest=True)):
        wanted = {}
        for row in ROWS:
            (among,) = hypotheses(
                teacher.model, [tokenizer(row["prompt"])["input_ids"]], stop=[tokenizer.eos_token_id],
                max_new_tokens=12, beams=4, vocabulary=len(tokenizer),
            )  # fmt: skip
            said = [tokenizer.decode(ids[:-1]) for ids in among if ids[-1] == tokenizer.eos_token_id]
            if said and writing.nearest:
                said.sort(key=lambda text: -sentence_bleu(text, row["completion"]))
            if said and said[0]:
                wanted[row["prompt"]] = said[0]
        found = texts.with_teacher_texts(made, teacher, rows, writing)
        assert dict(zip(found["prompt"], found["completion"], strict=True)) == wanted and len(wanted) > 3


def test_prompts_that_are_too_long_and_hypotheses_without_an_end_are_told(models, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    made = recipe(models, tmp_path, "seqkd")
    from datasets import Dataset

    rows = [*ROWS, {"prompt": "and " * 60, "completion": " no"}]
    teacher = open_model(made.teacher.model, "language", max_length=48)
    with caplog.at_level(logging.INFO):
        found = texts.with_teacher_texts(made, teacher, Dataset.from_list(rows), Writing(beams=3))
    assert "1 of 13 prompts are longer than 48 tokens" in caplog.text
    assert "of 36 hypotheses came to no end" in caplog.text
    assert rows[-1]["prompt"] not in found["prompt"]


def test_texts_are_searched_for_once(models, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    made = recipe(models, tmp_path, {"name": "seqkd", "beams": 3})
    label(made)
    monkeypatch.setattr(texts, "hypotheses", None)
    execute(made, timed=False)
    with pytest.raises(TypeError):  # another width is another search
        execute(recipe(models, tmp_path / "other", {"name": "seqkd", "beams": 4}), timed=False)


def test_an_endpoint_does_not_search():
    plain = {"name": "x", "task": "language", "student": "s", "data": "d", "method": "seqkd"}
    endpoint = {"teacher": {"model": "t", "endpoint": "http://localhost:1"}}
    with pytest.raises(UserError, match="beam search, which an endpoint does not do"):
        build_methods(check(plain | endpoint))
    assert build_methods(check(plain | endpoint | {"method": {"name": "seqkd", "beams": 1}}))


def test_a_recipes_settings_reach_it():
    made = build_method(Method(name="seqkd", variant="inter", beams=9, word=0.5))
    assert made.writing == Writing(beams=9, nearest=True) and made.weights == {"nll": 0.5, "word": 0.5}
