"""ULD: the distance between models of different tokenizers, which places it is taken at, and a run with it.

.venv/bin/python -m pytest tests/methods/language/test_uld.py
"""

import json

import pytest
import torch
from tests.oracles.objectives import cheapest_pairing, softmax
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.checks import build_methods
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.language.uld import ULD
from stillroom.recipe import Scratch, check
from stillroom.run import execute
from stillroom.signals import Batch, Signals
from stillroom.students.open import new_model, train_tokenizer
from stillroom.teachers import LocalTeacher
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM

ROWS = [
    {"prompt": "three plus four is", "completion": " seven"},
    {"prompt": "two", "completion": " is naïve, and more"},
    {"prompt": "one and one", "completion": " is two"},
]
NOW = Step(0, 10)
TEXTS = [row["prompt"] + row["completion"] for row in ROWS]


def part(student, teacher, mask, shared=None, **settings):
    """The parts on logits as lists; labels are all 0."""
    student, teacher = torch.tensor(student, requires_grad=True), torch.tensor(teacher)
    mask = torch.tensor(mask)
    batch = Batch(
        ids=[str(n) for n in range(len(mask))], student={}, mask=mask, labels=torch.zeros_like(mask, dtype=torch.long),
        shared=None if shared is None else torch.tensor(shared),
    )  # fmt: skip
    return ULD(**settings).parts(Signals(logits=student), Signals(logits=teacher), batch, NOW), student


def logits(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).tolist()


def distance(student, teacher, ours=1.0, theirs=1.0):
    return cheapest_pairing(softmax(teacher, theirs), softmax(student, ours))


def test_the_distance_is_averaged_within_each_row_and_summed_over_rows():
    student, teacher = logits(0, 2, 3, 4), logits(1, 2, 3, 6)
    mask = [[True, True, True], [False, True, False]]
    found, _ = part(student, teacher, mask)
    by_place = [[distance(s, t) for s, t in zip(*rows, strict=True)] for rows in zip(student, teacher, strict=True)]
    assert found["uld"].sum.item() == pytest.approx(sum(by_place[0]) / 3 + by_place[1][1], rel=1e-5)
    assert found["uld"].count == 2 and found["ce"].count == 4


def test_each_side_has_a_temperature_and_lambda_is_the_weight():
    student, teacher = logits(0, 1, 1, 4), logits(1, 1, 1, 3)
    found, _ = part(student, teacher, [[True]], student_temperature=2.0, teacher_temperature=0.5)
    assert found["uld"].sum.item() == pytest.approx(distance(student[0][0], teacher[0][0], 2.0, 0.5), rel=1e-5)
    assert ULD().weights == {"ce": 1.0, "uld": 1.5} and ULD(weight=0.3).weights["uld"] == 0.3


def test_only_places_that_both_have_are_compared_and_all_are_trained():
    student, teacher = logits(0, 2, 3, 4), logits(1, 2, 3, 4)
    mask = [[True, True, True], [True, True, False]]
    found, _ = part(student, teacher, mask, shared=[[True, False, True], [False, False, False]])
    wanted = (distance(student[0][0], teacher[0][0]) + distance(student[0][2], teacher[0][2])) / 2
    assert found["uld"].sum.item() == pytest.approx(wanted, rel=1e-5)
    assert found["uld"].count == 2 and found["ce"].count == 5


def test_the_authors_leave_out_the_last_place_of_the_student():
    student, teacher = logits(0, 2, 3, 4), logits(1, 2, 3, 4)
    mask = [[True, True, True], [True, True, False]]
    # In the second row the teacher's answer is the shorter one: the student's last place is not compared anyhow.
    shared = [[True, True, True], [True, False, False]]
    found, _ = part(student, teacher, mask, shared=shared, parity="code")
    wanted = (distance(student[0][0], teacher[0][0]) + distance(student[0][1], teacher[0][1])) / 2
    assert found["uld"].sum.item() == pytest.approx(wanted + distance(student[1][0], teacher[1][0]), rel=1e-5)


def test_the_gradient_sharpens_an_unsure_student_and_knows_no_ids():
    """A student that is nearly even, a teacher that is sure: the student's first id grows, not the teacher's."""
    for teacher in ([9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0]):
        found, student = part([[[0.2, 0.1, 0.0]]], [[teacher]], [[True]])
        found["uld"].sum.backward()
        assert student.grad.argmin() == 0 and student.grad[0, 0, 0] < 0
        assert student.grad.sum().abs() < 1e-6


def test_a_student_that_spreads_its_mass_like_the_teacher_is_left_alone():
    found, student = part([[[1.0, 2.0, 3.0]]], [[[3.0, 1.0, 2.0]]], [[True]])
    found["uld"].sum.backward()
    assert found["uld"].sum.item() == pytest.approx(0, abs=1e-6) and student.grad.abs().max() < 1e-6


# --- two tokenizers ---------------------------------------------------------------------------------------------------


def llama(seed, vocabulary):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=96, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("unit", ["index", "bytes"])
def test_the_whole_way_from_two_tokenizers_by_hand(unit):
    """Every row on its own, without padding: tokens, one forward pass each, and what follows as much of the answer."""
    views = [CausalLM(train_tokenizer(TEXTS, size), max_length=96).counting(unit) for size in (270, 330)]
    models = [llama(seed, view.vocabulary) for seed, view in enumerate(views)]
    encoded = [{"student": views[0].encode(row), "teacher": views[1].encode(row)} for row in ROWS]
    batch = make_batch(*views, encoded)
    asked = LocalTeacher(models[1], views[1])(batch, ("logits",))
    found = ULD(alignment=unit).parts(views[0].emit(models[0], batch.student, ("logits",)), asked, batch, NOW)
    wanted, different = 0.0, False
    for row in ROWS:
        sides = []
        for view, model in zip(views, models, strict=True):
            prompt, answer = (view.tokenizer(row[name])["input_ids"] for name in ("prompt", "completion"))
            ids = [*prompt, *answer, view.tokenizer.eos_token_id]
            with torch.no_grad():
                rows = model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
            # An end of the answer's first tokens is what they decode to; cut characters decode to a mark, and are none.
            texts = [view.tokenizer.decode(answer[:count]) for count in range(len(answer) + 1)]
            read = texts if unit == "bytes" else range(len(texts))
            sides.append(dict(zip(read, rows.tolist(), strict=True)))
            different = different or len(answer) != len(sides[0]) - 1
        common = [read for read in sides[0] if read in sides[1] and "\ufffd" not in str(read)]
        assert len(common) > 1
        wanted += sum(distance_of(sides[0][read], sides[1][read]) for read in common) / len(common)
    assert different and found["uld"].sum.item() == pytest.approx(wanted, rel=1e-4)


def distance_of(student, teacher):
    """The same by sorting, since no one can try all pairings of 300 ids."""
    ours, theirs = sorted(softmax(student), reverse=True), sorted(softmax(teacher), reverse=True)
    size = max(len(ours), len(theirs))
    pairs = zip([*ours, *[0.0] * (size - len(ours))], [*theirs, *[0.0] * (size - len(theirs))], strict=True)
    return sum(abs(one - other) for one, other in pairs)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student and a teacher with tokenizers of their own, in folders, and rows."""
    folder = tmp_path_factory.mktemp("uld")
    rows = [{"prompt": f"{n} plus {n} is", "completion": f" {2 * n}, naïve or not"} for n in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [row["prompt"] + row["completion"] for row in rows]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    for name, size, spread in (("student", 300, 0.02), ("teacher", 340, 1.0)):  # one that is unsure, one that is sure
        torch.manual_seed(size)
        scratch = Scratch(architecture="llama", config=sizes | {"initializer_range": spread}, vocabulary=size)
        new_model(scratch, "language", lambda: texts, folder / name)
    return folder


@pytest.mark.parametrize("alignment", ["index", "bytes"])
def test_a_run_brings_the_two_distributions_together(models, tmp_path, alignment):
    recipe = check(
        {
            "name": "run", "output": str(tmp_path), "task": "language", "teacher": str(models / "teacher"),
            "student": {"model": str(models / "student"), "max_length": 64}, "data": str(models / "rows.jsonl"),
            "method": {"name": "uld", "weight": 5.0, "alignment": alignment},
            "train": {"steps": 12, "batch_size": 6, "learning_rate": 1e-2, "device": "cpu", "save_every": 0,
                      "log_every": 1},
        }
    )  # fmt: skip
    execute(recipe, timed=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["parts"]["uld"] for line in lines if "parts" in line]
    assert all(0 < loss < 2 for loss in losses) and losses[-1] < losses[0]


def test_other_tokens_are_no_hindrance_and_a_cache_is_refused_before_anything_loads():
    plain = {"name": "x", "task": "language", "student": "s", "data": "d", "method": "uld"}
    assert not build_methods(check(plain | {"teacher": "t"}))["uld"].same_tokenizer
    with pytest.raises(UserError, match=r"teacher\.cache=false"):
        build_methods(check(plain | {"teacher": {"model": "t", "cache": True}}))
    texts = build_methods(check(plain | {"teacher": "t", "method": {"name": "uld", "texts": True}}))["uld"]
    assert texts.needs.teacher == ("text", "logits") and texts.needs.asked == ("logits",)


@pytest.mark.parametrize(
    "settings",
    [
        {"weight": 0.0},
        {"student_temperature": 0.0},
        {"teacher_temperature": -1.0},
        {"alignment": "words"},
        {"parity": "papre"},
    ],
)
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError):
        ULD(**settings)
