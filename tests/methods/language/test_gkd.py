"""GKD: whose answers are trained on, what the loss is on them, and the reward beside it.

.venv/bin/python -m pytest tests/methods/language/test_gkd.py
"""

import copy
import math

import pytest
import torch
from datasets import Dataset
from tests.oracles.objectives import DIVERGENCES, jsd, masked_places, softmax
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.checks import build_method, build_methods
from stillroom.engine.encoding import encode
from stillroom.engine.loop import Trainer
from stillroom.engine.settings import Train
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.language import gkd
from stillroom.methods.language.gkd import GKD
from stillroom.recipe import Method, check
from stillroom.students.open import train_tokenizer
from stillroom.teachers import LocalTeacher
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM

ROWS = [
    {"prompt": "three plus four is", "completion": " seven"},
    {"prompt": "two", "completion": " is a number and more"},
    {"prompt": "one and one", "completion": " is two"},
]
NOW = Step(0, 10)
GREEDY = {"sampling_temperature": 1e-4, "max_new_tokens": 6}


def llama(seed, dropout=0.0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=310, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3, attention_dropout=dropout,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.fixture
def view():
    return CausalLM(train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 300), max_length=48)


@pytest.fixture
def batch(view):
    return make_batch(view, None, [{"student": view.encode(row)} for row in ROWS])


def emit(model, view, batch):
    return view.emit(model, batch.student, ("logits",))


def run(method, batch, view, student, teacher, step=NOW):
    """Prepare and compute: the batch as it was trained on, and the parts."""
    batch = method.prepare(batch, step, student, view)
    with torch.no_grad():
        asked = LocalTeacher(teacher, view)(batch, ("logits",))
    return batch, method.parts(emit(student, view, batch), asked, batch, step)


@torch.no_grad()
def likeliest(model, view, prompt, count):
    """The likeliest continuation among the view's ids, one forward pass a token, up to the end of sequence."""
    ids = list(prompt)
    model = copy.deepcopy(model).eval()
    while len(ids) - len(prompt) < count and ids[-1] != view.tokenizer.eos_token_id:
        ids.append(int(model(torch.tensor([ids])).logits[0, -1, : view.vocabulary].argmax()))
    return ids[len(prompt) :]


def trained(batch):
    return [labels[mask].tolist() for labels, mask in zip(batch.labels, batch.mask, strict=True)]


# --- the data's answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "wanted"),
    [(0.0, DIVERGENCES["forward_kl"]), (1.0, DIVERGENCES["reverse_kl"]), (0.3, lambda p, q: jsd(p, q, 0.3))],
)
def test_without_own_answers_it_is_the_divergence_on_the_data(batch, view, beta, wanted):
    student, teacher = llama(1), llama(2)
    same, parts = run(GKD(lmbda=0.0, beta=beta, temperature=2.0), batch, view, student, teacher)
    assert same is batch
    ours, theirs = (emit(model.eval(), view, batch).logits.tolist() for model in (student, teacher))
    expected = sum(
        wanted(softmax(theirs[row][token], 2.0), softmax(ours[row][token], 2.0))
        for row, token in masked_places(batch.mask.numpy())
    )
    assert parts["gkd"].sum.item() == pytest.approx(expected, rel=1e-4)
    assert parts["gkd"].count == batch.mask.sum()


def test_validation_is_always_on_the_data(batch, view):
    assert GKD(lmbda=1.0).eval().prepare(batch, NOW, llama(1), view) is batch
    assert GKD(lmbda=0.0, seq_kd=True).eval().prepare(batch, NOW, llama(1), view) is batch


# --- own answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(batch, view, beta):
    student = llama(1)
    remade, parts = run(GKD(lmbda=1.0, beta=beta, max_new_tokens=6), batch, view, student, copy.deepcopy(student))
    assert remade is not batch and remade.mask.any()
    parts["gkd"].mean.backward()
    assert abs(parts["gkd"].sum.item()) < 1e-6
    assert max(p.grad.abs().max() for p in student.parameters() if p.grad is not None) < 1e-6


def test_every_row_trains_exactly_what_the_student_wrote_after_its_prompt(batch, view):
    student = llama(1, dropout=0.5).train()  # which is off while it writes
    remade = GKD(lmbda=1.0, **GREEDY).prepare(batch, NOW, student, view)
    prompts = [view.prompt(row) for row in ROWS]
    written = [likeliest(student, view, prompt, 6) for prompt in prompts]
    for ids, real, prompt, answer in zip(
        remade.student["input_ids"], remade.student["attention_mask"].bool(), prompts, written, strict=True
    ):
        assert ids[real].tolist() == prompt + answer
    assert trained(remade) == written
    assert all(module.training for module in student.modules())


def test_the_end_of_sequence_is_trained_and_nothing_after_it(batch, view):
    student = llama(1)
    first = likeliest(student, view, view.prompt(ROWS[0]), 6)
    view.tokenizer.eos_token = view.tokenizer.convert_ids_to_tokens(first[2])
    assert view.tokenizer.eos_token_id == first[2] != first[1] != first[0]
    remade = GKD(lmbda=1.0, **GREEDY).prepare(batch, NOW, student, view)
    answers = trained(remade)
    assert answers[0] == first[:3]
    assert answers[1:] == [likeliest(student, view, view.prompt(row), 6) for row in ROWS[1:]]
    assert max(map(len, answers)) > 3  # the first row is padded behind its end


def test_no_gradient_is_recorded_while_the_student_writes(batch, view):
    student, recorded = llama(1), []
    student.lm_head.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    GKD(lmbda=1.0, max_new_tokens=3).prepare(batch, NOW, student, view)
    assert recorded and not any(recorded)


def test_only_ids_that_both_models_share_are_written(batch, view):
    student = llama(1)
    with torch.no_grad():
        student.lm_head.weight[view.vocabulary :] = 100 * student.lm_head.weight[: 310 - view.vocabulary]
    method = GKD(lmbda=1.0, sampling_temperature=3.0, max_new_tokens=12)
    assert max(map(max, trained(method.prepare(batch, NOW, student, view)))) < view.vocabulary


def test_sampling_and_loss_have_temperatures_of_their_own(batch, view):
    student, teacher = llama(1), llama(2)
    cold, _ = run(GKD(lmbda=1.0, temperature=1.0, **GREEDY), batch, view, student, teacher)
    same, parts = run(GKD(lmbda=1.0, temperature=4.0, **GREEDY), batch, view, student, teacher)
    assert trained(cold) == trained(same)
    ours, theirs = (emit(model.eval(), view, same).logits.tolist() for model in (student, teacher))
    expected = sum(
        jsd(softmax(theirs[row][token], 4.0), softmax(ours[row][token], 4.0), 0.5)
        for row, token in masked_places(same.mask.numpy())
    )
    assert parts["gkd"].sum.item() == pytest.approx(expected, rel=1e-4)


# --- who writes -------------------------------------------------------------------------------------------------------


def writers(method, batch, view, steps, monkeypatch):
    """For each step whether the student wrote."""
    monkeypatch.setattr(gkd, "answers", lambda model, prompts, **_: [[5]] * len(prompts))
    student = llama(1)
    return [method.prepare(batch, Step(number, steps), student, view) is not batch for number in range(steps)]


def test_the_student_writes_on_its_share_of_the_steps(batch, view, monkeypatch):
    method = GKD(lmbda=0.3)
    method.setup(llama(1), None, batch, view)
    share = sum(writers(method, batch, view, 1000, monkeypatch)) / 1000
    assert abs(share - 0.3) < 3 * math.sqrt(0.3 * 0.7 / 1000)


def test_all_micro_batches_and_processes_of_a_step_have_one_writer_and_seeds_differ(batch, view, monkeypatch):
    found, student = [], llama(1)
    for seed in (0, 0, 1):
        torch.manual_seed(seed)  # as a run does before every setup, in every process
        method = GKD(lmbda=0.5)
        method.setup(student, None, batch, view)
        torch.manual_seed(len(found))  # from here on each process draws on its own
        found.append(writers(method, batch, view, 50, monkeypatch))
    assert found[0] == found[1] != found[2]
    resumed = GKD(lmbda=0.5)
    resumed.load_state_dict(method.state_dict())
    assert writers(resumed, batch, view, 50, monkeypatch) == found[2]


def test_on_the_other_steps_the_teacher_may_write(batch, view):
    student, teacher = llama(1), llama(2)
    method = GKD(lmbda=0.0, seq_kd=True, **GREEDY)
    method.setup(student, teacher, batch, view)
    remade = method.prepare(batch, NOW, student, view)
    assert trained(remade) == [likeliest(teacher, view, view.prompt(row), 6) for row in ROWS]
    assert not list(method.parameters()) and set(method.state_dict()) == {"seed", "baseline"}


def test_a_teacher_that_is_to_write_must_be_a_model(batch, view):
    with pytest.raises(UserError, match=r"teacher\.model"):
        GKD(seq_kd=True).setup(llama(1), None, batch, view)


def test_a_cached_teacher_is_refused_before_anything_loads():
    plain = {"name": "x", "task": "language", "student": "s", "data": "d", "method": "gkd"}
    recipe = check(plain | {"teacher": {"model": "t", "cache": True}})
    with pytest.raises(UserError, match=r"teacher\.cache=false"):
        build_methods(recipe)


# --- the reward -------------------------------------------------------------------------------------------------------


def test_the_reward_is_a_policy_gradient_on_own_answers(batch, view):
    student, teacher = llama(1), llama(2)
    heard = []

    def reward(prompts, said):
        heard.append((prompts, said))
        return [1.0, 0.0, 4.0]

    method = GKD(lmbda=1.0, reward=reward, alpha=0.25, max_new_tokens=4, sampling_temperature=2.0)
    method.baseline.fill_(0.5)
    remade, parts = run(method, batch, view, student, teacher)
    assert method.weights == {"gkd": 0.25, "policy": 0.75, "reward": 0.0}
    assert heard == [([row["prompt"] for row in ROWS], [view.tokenizer.decode(ids) for ids in trained(remade)])]
    q = emit(student.eval(), view, remade).logits
    expected = 0.0
    for row, advantage in enumerate([0.5, -0.5, 3.5]):
        for token in remade.mask[row].nonzero()[:, 0].tolist():
            label = int(remade.labels[row, token])
            expected -= advantage * math.log(softmax(q[row, token].tolist(), 2.0)[label])
    assert parts["policy"].sum.item() == pytest.approx(expected, rel=1e-4)
    assert (parts["policy"].count, parts["reward"].sum, parts["reward"].count) == (3, 5.0, 3)
    assert remade.counts()["row"] == 3


def test_the_policy_gradient_is_that_of_the_expected_reward(view):
    """With answers of one token, its mean over all answers, each as often as q has it, is the gradient of sum q r."""
    student, teacher, tokens = llama(1), llama(2), range(view.vocabulary)
    rewards = torch.linspace(-1, 2, view.vocabulary)
    prompt = torch.tensor([view.prompt(ROWS[0])])
    q = student(prompt).logits[0, -1, : view.vocabulary].softmax(-1)
    (wanted,) = torch.autograd.grad(-(q * rewards).sum(), student.lm_head.weight)
    batch = make_batch(view, None, [{"student": view.encode(ROWS[0])}] * view.vocabulary)
    # Each answer comes once; it is the advantage, reward - baseline, that is made as large as the answer is frequent.
    frequent = (q.detach() * (rewards - 0.7) + 0.7).tolist()
    method = GKD(lmbda=1.0, reward=lambda prompts, said: frequent, alpha=0.0)
    method.baseline.fill_(0.7)  # changes nothing on average
    method._ask = lambda *_: [[token] for token in tokens]
    _, parts = run(method, batch, view, student, teacher)
    (found,) = torch.autograd.grad(parts["policy"].sum, student.lm_head.weight)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def test_the_baseline_is_the_mean_reward_of_the_last_step_that_had_one():
    method = GKD(reward=lambda prompts, said: [0.0] * len(said), alpha=0.5)
    method.after_step(NOW, {"gkd": 1.0, "policy": 2.0, "reward": 0.25})
    method.after_step(NOW, {"gkd": 1.0})
    assert float(method.baseline) == 0.25


def test_a_step_on_the_data_has_no_reward(batch, view):
    method = GKD(lmbda=1e-9, reward=lambda prompts, said: [0.0] * len(said), alpha=0.5)
    assert set(run(method, batch, view, llama(1), llama(2))[1]) == {"gkd"}


def test_a_reward_must_score_every_answer(batch, view):
    method = GKD(lmbda=1.0, reward=lambda prompts, said: [1.0], alpha=0.5, max_new_tokens=2)
    with pytest.raises(ValueError, match="one number for each of 3 answers"):
        method.prepare(batch, NOW, llama(1), view)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lmbda": -0.1}, "lmbda"),
        ({"lmbda": 1.1}, "lmbda"),
        ({"beta": -0.1}, "beta"),
        ({"beta": 1.1}, "beta"),
        ({"temperature": 0.0}, "temperature"),
        ({"sampling_temperature": 0.0}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"alpha": 0.5}, "alpha"),
        ({"reward": len}, "alpha"),
        ({"reward": len, "alpha": -0.1}, "alpha"),
        ({"reward": len, "alpha": 0.5, "lmbda": 0.0}, "lmbda"),
        ({"reward": "my_reward", "alpha": 0.5}, "function"),
    ],
)
def test_values_outside_their_range_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        GKD(**settings)


def test_a_recipe_can_say_that_there_is_no_reward():
    assert build_method(Method(name="gkd", reward=None)).reward is None
    with pytest.raises(UserError, match="reward"):
        build_method(Method(name="gkd", reward="mine", alpha=0.5))


# --- in the loop ------------------------------------------------------------------------------------------------------


def trained_weights(folder, view, *, lmbda, micro_batch):
    student, teacher = llama(1), llama(2)
    rows = [
        {"prompt": f"{a} plus {b} is", "completion": f" {a + b}" + " in all" * (a % 3)}
        for a in range(4)
        for b in (1, 7)
    ]
    encoded, _ = encode(Dataset.from_list(rows), view)
    method = GKD(lmbda=lmbda, max_new_tokens=4)
    torch.manual_seed(0)
    method.setup(student, teacher, None, view)
    folder.mkdir()
    settings = {"batch_size": 8, "micro_batch": micro_batch, "learning_rate": 1e-3, "eps": 1e-3, "save_every": 0}
    Trainer(
        student=student,
        objective=method,
        view=view,
        teacher=LocalTeacher(teacher, view),
        teacher_view=None,
        rows=encoded,
        validation=[],
        settings=Train(steps=3, device="cpu", **settings),
        folder=folder,
        fingerprint="",
    ).run()
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def test_without_own_answers_splitting_a_batch_changes_nothing(tmp_path, view):
    whole = trained_weights(tmp_path / "whole", view, lmbda=0.0, micro_batch=0)
    split = trained_weights(tmp_path / "split", view, lmbda=0.0, micro_batch=3)
    torch.testing.assert_close(whole, split, atol=1e-6, rtol=1e-5)


def test_with_own_answers_the_same_run_gives_the_same_weights(tmp_path, view):
    first = trained_weights(tmp_path / "first", view, lmbda=1.0, micro_batch=3)
    torch.rand(7)
    second = trained_weights(tmp_path / "second", view, lmbda=1.0, micro_batch=3)
    data = trained_weights(tmp_path / "data", view, lmbda=0.0, micro_batch=3)
    assert torch.equal(first, second) and not torch.equal(first, data)
