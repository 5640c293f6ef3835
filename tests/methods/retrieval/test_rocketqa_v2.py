"""RocketQAv2: the value by hand, who gets which gradient, a re-ranker that learns in a run and is saved, lists made.

pytest tests/methods/retrieval/test_rocketqa_v2.py
"""

import json
import math

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tests.contracts import worlds

from stillroom.checks import build_methods
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.retrieval.rocketqa_v2 import RocketQAv2
from stillroom.recipe import check
from stillroom.run import distill
from stillroom.signals import Batch, Signals
from stillroom.synthesis.candidate_lists import candidate_lists

STEP = Step(0, 1)


def batch(candidates):
    candidates = torch.tensor(candidates)
    return Batch(
        ids=[str(n) for n in range(len(candidates))],
        student={},
        mask=torch.ones(len(candidates), dtype=torch.bool),
        columns={"candidates": candidates},
    )


def parts(student, teacher, rows, **settings):
    return RocketQAv2(**settings).parts(Signals(scores=student), Signals(scores=teacher), rows, STEP)


def test_the_values_by_hand():
    """Of ln 3 : 0 the softmax is 3/4 : 1/4; the padded third place counts for nothing."""
    teacher = torch.tensor([[math.log(3), 0.0, 99.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.0, -99.0]], dtype=torch.float64)
    found = parts(student, teacher, batch([[True, True, False]]))
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(found["reranker"].sum) == pytest.approx(-math.log(0.75))
    assert float(found["retriever"].sum) == pytest.approx(kl)
    by_element = parts(student, teacher, batch([[True, True, False]]), mode="elementwise")
    assert float(by_element["retriever"].sum) == pytest.approx(kl / 2)
    assert {int(part.count) for part in (*found.values(), *by_element.values())} == {1}


def test_elementwise_is_the_mean_over_all_elements_of_lists_of_one_length():
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    part = parts(student, teacher, batch([[True] * 5] * 3), mode="elementwise")["retriever"]
    frameworks = torch.nn.functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="mean")
    assert float(part.mean) == pytest.approx(float(frameworks))


@pytest.mark.parametrize("teacher_grad", [False, True])
def test_labels_reach_the_reranker_alone_and_the_distribution_the_retriever(teacher_grad):
    torch.manual_seed(1)
    student = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    found = parts(student, teacher, batch([[True] * 3] * 2), teacher_grad=teacher_grad)
    labels = torch.autograd.grad(found["reranker"].sum, [student, teacher], allow_unused=True, retain_graph=True)
    assert labels[0] is None and float(labels[1].abs().sum()) > 0
    distil = torch.autograd.grad(found["retriever"].sum, [student, teacher], allow_unused=True)
    torch.testing.assert_close(distil[0], student.softmax(-1) - teacher.softmax(-1))  # d KL(p||q) / d s = q - p
    assert (distil[1] is not None) == teacher_grad
    if teacher_grad:  # d KL(p||q) / d r_i = p_i (log p_i / q_i - KL)
        p, ratio = teacher.softmax(-1), teacher.log_softmax(-1) - student.log_softmax(-1)
        torch.testing.assert_close(distil[1], p * (ratio - (p * ratio).sum(-1, keepdim=True)))


def test_the_reranker_of_a_run_learns_is_saved_and_the_recipes_own_is_left(tmp_path):
    world = worlds.build("bi-encoder", tmp_path / "world")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in world.rows))
    before = load_file(f"{world.teacher}/model.safetensors")
    recipe = check(
        {
            "name": "both",
            "output": str(tmp_path),
            "task": "bi-encoder",
            "teacher": {"model": world.teacher, "kind": "cross-encoder", "max_length": 48},
            "student": {"model": world.student, "max_length": 48},
            "data": {"train": str(rows), "validation": str(rows)},
            "method": "rocketqa-v2",
            "against": ["listwise_kl"],
            "train": {"steps": 3, "batch_size": 4, "device": "cpu", "learning_rate": 1e-3, "save_every": 0},
        }
    )
    run = distill(recipe)
    after = load_file(f"{world.teacher}/model.safetensors")
    taught = load_file(run.folder / "teacher" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert taught.keys() == before.keys()
    assert any(not torch.equal(before[name], taught[name]) for name in before)
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(run.folder / "teacher")
    roles = {system["name"]: system["role"] for system in run.evaluation["systems"]}
    assert roles["rocketqa-v2-teacher"] == "trained-teacher" and roles["listwise_kl"] == "baseline"
    assert run.report.exists()


def test_a_cached_teacher_or_several_are_refused():
    plain = {"name": "x", "task": "bi-encoder", "student": "s", "data": "d", "method": "rocketqa-v2"}
    with pytest.raises(UserError, match=r"teacher\.cache=false"):
        build_methods(check(plain | {"teacher": {"model": "t", "cache": True}}))
    group = {"group": {"a": "t", "b": "u"}, "mix": {"a": 1, "b": 1}}
    with pytest.raises(UserError, match="trains its teacher"):
        build_methods(check(plain | {"teacher": group}))


def test_a_mode_that_is_none():
    with pytest.raises(ValueError, match="mode must be batchmean or elementwise"):
        RocketQAv2(mode="sum")


# --- the lists --------------------------------------------------------------------------------------------------------

FOUND = Dataset.from_list(
    [
        {"id": "labelled", "anchor": "q", "positive": "a", "found": ["b", "a", "c"], "scores": [0.05, 0.95, 0.5]},
        {"id": "unlabelled", "anchor": "r", "positive": None, "found": ["b", "d", "e"], "scores": [0.95, 0.02, 0.92]},
        {"id": "doubtful", "anchor": "s", "positive": None, "found": ["b", "d"], "scores": [0.9, 0.01]},
    ]
)


def test_plain_lists_have_the_label_and_others_that_were_found():
    made = candidate_lists(FOUND, negatives=2)
    assert made.dataset.to_list() == [{"id": "labelled", "anchor": "q", "positive": "a", "negative": ["b", "c"]}]
    assert made.account.rejected == {"no candidate is labelled relevant": 2} and made.account.adds_up


def test_denoised_lists_take_only_what_is_sure(tmp_path):
    made = candidate_lists(FOUND, negatives=1, denoise=True, rejects=tmp_path / "aside.jsonl")
    rows = {row["id"]: (row["positive"], row["negative"]) for row in made.dataset}
    assert rows == {"labelled": ("a", ["b"]), "unlabelled": ("b", ["d"])}  # 0.9 is not above 0.9
    assert made.account.rejected == {"no candidate is surely relevant": 1}
    assert json.loads((tmp_path / "aside.jsonl").read_text())["row"]["id"] == "doubtful"


def test_a_list_is_dropped_where_too_little_was_found():
    assert candidate_lists(FOUND, negatives=2, denoise=True).account.rejected == {
        "too few other candidates": 2,
        "no candidate is surely relevant": 1,
    }


def test_the_draw_of_a_row_does_not_depend_on_the_others():
    many = [{"anchor": f"q{n}", "positive": "a", "found": [f"t{m}" for m in range(30)]} for n in range(3)]
    whole = candidate_lists(Dataset.from_list(many), negatives=5, seed=3).dataset["negative"][:]
    first = candidate_lists(Dataset.from_list(many[:1]), negatives=5, seed=3).dataset["negative"][:]
    assert whole[0] == first[0] and whole[0] != whole[1]


def test_scores_that_are_not_there_are_named():
    with pytest.raises(UserError, match="there is no column 'scores'"):
        candidate_lists(FOUND.remove_columns("scores"), negatives=1, denoise=True)
