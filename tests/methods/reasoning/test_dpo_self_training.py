"""DPO-ST: the loss by hand on real models, what samples become, and the loop with a sampler that is known.

.venv/bin/python -m pytest tests/methods/reasoning/test_dpo_self_training.py
"""

import copy
import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.reasoning.dpo_self_training import (
    DPOSelfTraining,
    SelfTraining,
    capped,
    distinct,
    preference_pairs,
    right_and_wrong,
)
from stillroom.recipe import Method
from stillroom.students.open import train_tokenizer
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM

ROWS = [
    {"prompt": "three plus four is", "chosen": " seven", "rejected": " eight or nine"},
    {"prompt": "two", "chosen": " is a number and more", "rejected": " is none"},
]
NOW = Step(0, 10)


def llama(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=310, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture
def view():
    return CausalLM(train_tokenizer([" ".join(row.values()) for row in ROWS], 300), max_length=48)


@pytest.fixture
def batch(view):
    return make_batch(view, None, [{"student": view.encode(row)} for row in ROWS])


def parts(student, start, view, batch, **settings):
    method = DPOSelfTraining(**settings)
    method.setup(start, None, batch, view)
    return method.parts(view.emit(student, batch.student, ("logits",)), None, batch, NOW)


@torch.no_grad()
def log_prob(model, view, prompt, answer):
    """Of the answer's tokens and the end, one forward pass, summed one by one."""
    asked = view.tokenizer(prompt)["input_ids"]
    said = [*view.tokenizer(answer)["input_ids"], view.tokenizer.eos_token_id]
    logits = model(torch.tensor([asked + said])).logits[0].double()
    total = 0.0
    for place, token in enumerate(said, len(asked) - 1):
        row = logits[place].tolist()[: view.vocabulary]
        total += row[token] - math.log(sum(math.exp(value) for value in row))
    return total


# --- the objective ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_loss_by_hand(view, batch, beta):
    student, start = llama(1), llama(2)
    found = parts(student, start, view, batch, beta=beta)
    expected, seen = 0.0, 0
    for row in ROWS:
        gain = {
            name: log_prob(student, view, row["prompt"], row[name]) - log_prob(start, view, row["prompt"], row[name])
            for name in ("chosen", "rejected")
        }
        margin = gain["chosen"] - gain["rejected"]
        expected += math.log(1 + math.exp(-beta * margin))
        seen += margin > 0
    assert found["dpo"].sum.item() == pytest.approx(expected, rel=1e-6) and found["dpo"].count == 2
    assert found["preferred"].sum == seen and found["preferred"].count == 2


def test_at_its_start_the_loss_is_log_two_and_pulls_the_chosen_up(view, batch):
    student = llama(1)
    method = DPOSelfTraining()
    method.setup(student, None, batch, view)
    before = [log_prob(student, view, row["prompt"], row[name]) for row in ROWS for name in ("chosen", "rejected")]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = method.parts(view.emit(student, batch.student, ("logits",)), None, batch, NOW)["dpo"].mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2), abs=1e-9) and losses[-1] < losses[0]
    after = [log_prob(student, view, row["prompt"], row[name]) for row in ROWS for name in ("chosen", "rejected")]
    for place in (0, 2):
        assert after[place] - before[place] > after[place + 1] - before[place + 1]


def test_the_copy_is_no_part_of_what_is_trained_or_saved(view, batch):
    student = llama(1)
    method = DPOSelfTraining()
    method.setup(student, None, batch, view)
    assert not list(method.parameters()) and not method.state_dict()
    kept = copy.deepcopy(method.reference.model.state_dict())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, kept[name]) for name, value in method.reference.model.state_dict().items())


# --- what samples become ----------------------------------------------------------------------------------------------


def test_samples_are_sorted_by_their_answer():
    texts = ["3 + 4 = 7. The answer is 7.", "The answer is 8.", "I don't know", "The answer is 7.", "The answer is 7."]
    right, wrong = right_and_wrong(texts, "7")
    assert right == ["3 + 4 = 7. The answer is 7.", "The answer is 7."]
    assert wrong == ["I don't know", "The answer is 8."]
    assert right_and_wrong(["a", "b"], 1, {"a": 1, "b": 2}.get) == (["a"], ["b"])


def test_like_texts_are_dropped_by_their_words():
    """Jaccard of the second with the first 3/4; of the third 2/5; of the fourth with the third 3/4."""
    texts = ["a b c", "a b c d", "a b e f", "a b e", "g"]
    assert distinct(texts) == ["a b c", "a b e f", "g"]
    assert distinct(texts, most=0.75) == texts and distinct(texts, most=0.0) == ["a b c", "g"]


def test_signs_count_as_words():
    assert distinct(["8 - 3 = 5", "8 * 3 = 5"], most=0.7) == ["8 - 3 = 5", "8 * 3 = 5"]


def test_the_most_different_pairs_are_taken():
    """Likeness of (gold, x): 1/5, (gold, y): 0, (r, x): 0, (r, y): 1/5."""
    gold, right, wrong = "a b c", ["d e f"], ["c x z", "f y w"]
    assert preference_pairs(right, wrong, gold=gold, pairs=9) == [
        ("a b c", "f y w"),
        ("d e f", "c x z"),
        ("a b c", "c x z"),
        ("d e f", "f y w"),
    ]
    assert len(preference_pairs(right, wrong, gold=gold)) == 3
    assert preference_pairs(right, [], gold=gold) == [] and preference_pairs([], wrong) == []
    assert preference_pairs(["a b c d"], wrong, gold=gold, pairs=9) == preference_pairs([], wrong, gold=gold, pairs=9)
    assert preference_pairs(["same"], ["same"]) == []
    with pytest.raises(ValueError, match="pairs at least 1"):
        preference_pairs(right, wrong, pairs=0)


def test_the_cap_is_a_percentile_of_the_counts():
    """Ten questions with 1 to 10 solutions: nine of them have 9 or fewer, so 9 are left of ten."""
    many = [[str(n) for n in range(size)] for size in range(1, 11)]
    assert [len(some) for some in capped(many)] == [*range(1, 10), 9]
    assert [len(some) for some in capped(many, 0)] == [1] * 10 and capped([]) == []
    assert capped(many)[-1] == many[-1][:9]


# --- the loop ---------------------------------------------------------------------------------------------------------

QUESTIONS = [
    {"prompt": "one", "answer": "1", "completion": "gold says The answer is 1."},
    {"prompt": "two", "answer": "2"},
    {"prompt": "three", "answer": "3"},
]
SAMPLES = {
    "f0": [["x 1 #### 1", "no #### 9"], ["y #### 5"], ["z #### 3", "  "]],
    "dpo(f0)": [["x 1 #### 1"], ["q found #### 2", "w #### 5"], []],
    "f1": [["later #### 7"], [], ["zz #### 4"]],
    "dpo(f1)": [[], ["q found #### 2"], ["k #### 3"]],
}


class Recorded:
    """Trains nothing, and remembers what it was given."""

    def __init__(self):
        self.tuned, self.preferred, self.asked = [], [], []

    def fine_tune(self, rows):
        self.tuned.append(rows)
        return f"f{len(self.tuned) - 1}"

    def prefer(self, model, rows):
        self.preferred.append(rows)
        return f"dpo({model})"

    def sample(self, model):
        def write(prompts, n, temperature):
            self.asked.append((model, n, temperature))
            return SAMPLES[model]

        return write


def test_the_loop_goes_through_its_stages():
    seen = Recorded()
    loop = SelfTraining(QUESTIONS, seen.fine_tune, seen.sample, seen.prefer, rounds=2)
    assert loop.run() == "f2"
    assert seen.asked == [("f0", 5, 0.7), ("dpo(f0)", 3, 0.7), ("f1", 5, 0.7), ("dpo(f1)", 3, 0.7)]
    gold = {"prompt": "one", "completion": "gold says The answer is 1."}
    assert seen.tuned[0] == [gold]
    assert seen.tuned[1] == [
        gold,
        {"prompt": "one", "completion": "x 1 #### 1"},
        {"prompt": "two", "completion": "q found #### 2"},
    ]
    assert {row["prompt"] for row in seen.tuned[2]} == {"one", "two", "three"}
    assert {(row["chosen"], row["rejected"]) for row in seen.preferred[0]} == {
        (gold["completion"], "no #### 9"),
        ("x 1 #### 1", "no #### 9"),
    }
    # In the second round the pool of the first is there still: question three is compared now.
    assert ("z #### 3", "zz #### 4") in {(row["chosen"], row["rejected"]) for row in seen.preferred[1]}
    assert [(one.compared, one.right, one.solved) for one in loop.history] == [(1, 2, 2), (2, 2, 2)]


def test_without_dpo_it_is_classic_self_training():
    seen = Recorded()
    loop = SelfTraining(QUESTIONS, seen.fine_tune, seen.sample, rounds=1)
    assert loop.run() == "f1" and seen.asked == [("f0", 5, 0.7)] and loop.history[0].pairs == 0
    assert [row["completion"] for row in seen.tuned[1]] == [QUESTIONS[0]["completion"], "x 1 #### 1", "z #### 3"]


def test_bad_input_is_refused():
    seen = Recorded()
    with pytest.raises(UserError, match="no question has a solution"):
        SelfTraining(QUESTIONS[1:], seen.fine_tune, seen.sample)
    with pytest.raises(UserError, match="question 0 has no number"):
        SelfTraining([{"prompt": "x", "answer": "many", "completion": "y"}], seen.fine_tune, seen.sample)
    with pytest.raises(ValueError, match="must be at least 1"):
        SelfTraining(QUESTIONS, seen.fine_tune, seen.sample, rounds=0)
    with pytest.raises(UserError, match="beta must be above 0"):
        build_method(Method(name="dpo-self-training", beta=0))
