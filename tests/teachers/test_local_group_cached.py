"""Teachers that run here, several as one, and one that was asked before.

.venv/bin/python -m pytest tests/teachers/test_local_group_cached.py
"""

import copy
import json

import pytest
import torch
from datasets import Dataset

from stillroom.engine.encoding import encode
from stillroom.engine.loop import read
from stillroom.errors import UserError
from stillroom.labelling import keep_signals
from stillroom.recipe import Scratch, check
from stillroom.run import execute
from stillroom.signals import Batch, Signals, TopK
from stillroom.store import Store
from stillroom.students.open import new_model
from stillroom.teachers import CachedTeacher, GroupTeacher, LocalTeacher
from stillroom.teachers.local import realign
from stillroom.views.base import make_batch
from stillroom.views.load import open_model

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def rows(count=12):
    return [
        {
            "messages": [
                {"role": "user", "content": f"{n} plus {n} is"},
                {"role": "assistant", "content": f"{2 * n}" + " indeed" * (n % 3)},
            ],
            "domain": "even" if n % 2 == 0 else "odd",
        }
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two teachers and a student that share a tokenizer, and the rows in a file."""
    folder = tmp_path_factory.mktemp("models")
    texts = [turn["content"] for row in rows() for turn in row["messages"]]
    for number, name in enumerate(("one", "two", "student")):
        torch.manual_seed(number)
        tokenizer = str(folder / "one") if number else None
        scratch = Scratch(architecture="llama", config=SIZES, tokenizer=tokenizer, vocabulary=300)
        new_model(scratch, "language", lambda: texts, folder / name)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return folder


@pytest.fixture
def opened(models):
    return {name: open_model(str(models / name), "language", max_length=48) for name in ("one", "two", "student")}


def batch_of(view, other=None, keep=("domain",), places=range(6)):
    encoded, _ = encode(Dataset.from_list(rows()), view, other, keep=keep)
    return make_batch(view, other, read(encoded, list(places)))


# --- local ------------------------------------------------------------------------------------------------------------


def test_a_teacher_is_frozen_in_eval_mode_and_unchanged_by_being_asked(opened):
    model = opened["one"].model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    teacher = LocalTeacher(model, opened["one"].view)
    signals = teacher(batch_of(opened["one"].view), ("logits", "hidden:-1"))
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert not signals.logits.requires_grad and not signals.hidden[1].requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.train()
    teacher(batch_of(opened["one"].view), ("logits",))
    assert not model.training


def test_a_teacher_with_another_template_speaks_of_the_same_tokens(opened):
    """It reads a longer prompt; at the answer's tokens its logits are those that it gives for its own reading."""
    student, teacher = opened["student"].view, opened["one"]
    tokenizer = copy.deepcopy(teacher.view.tokenizer)
    tokenizer.chat_template = "{{ '<|system|>Be brief and be right.<|end|>' }}" + tokenizer.chat_template
    longer = type(student)(tokenizer, max_length=96)
    batch = batch_of(student, longer)
    assert batch.teacher["input_ids"].shape[1] > batch.student["input_ids"].shape[1]
    found = LocalTeacher(teacher.model, longer)(batch, ("logits",)).logits
    assert found.shape[:2] == batch.student["input_ids"].shape
    with torch.no_grad():
        own = teacher.model(**batch.teacher).logits
    for row in range(len(batch)):
        torch.testing.assert_close(
            found[row][batch.mask[row]], own[row][batch.teacher_mask[row]][:, : longer.vocabulary]
        )
    assert not found[~batch.mask].any()


def test_realign_by_hand_and_where_it_cannot():
    values = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    source = torch.tensor([[False, True, True], [True, False, False]])
    target = torch.tensor([[True, False, False, True], [False, False, True, False]])
    moved = realign(values, source, target)[..., 0].tolist()
    assert moved == [[2, 0, 0, 3], [0, 0, 4, 0]]
    with pytest.raises(ValueError, match=r"row 1 has 1 trained tokens in the teacher's view and 2 in the student's"):
        realign(values, source, torch.tensor([[True, True], [True, True]]))


# --- groups -----------------------------------------------------------------------------------------------------------


def test_routed_rows_are_those_of_each_teacher_alone(opened):
    teachers = {
        name: LocalTeacher(opened[model].model, opened[model].view) for name, model in (("even", "one"), ("odd", "two"))
    }
    batch = batch_of(opened["student"].view)
    assert batch.columns["domain"] == ["even", "odd"] * 3
    needs = ("logits", "hidden:1")
    whole, alone = (
        GroupTeacher(teachers, route="domain")(batch, needs),
        {n: t(batch, needs) for n, t in teachers.items()},
    )
    for row, name in enumerate(batch.columns["domain"]):
        torch.testing.assert_close(whole.logits[row], alone[name].logits[row])
        torch.testing.assert_close(whole.hidden[1][row], alone[name].hidden[1][row])
        assert torch.equal(whole.mask[row], alone[name].mask[row])


def test_a_mixture_by_hand():
    def says(*numbers):
        return lambda batch, needs: Signals(
            logits=torch.tensor([[numbers]]).log() + 3.0, scores=torch.tensor([numbers])
        )

    group = GroupTeacher({"a": says(0.2, 0.8), "b": says(0.6, 0.4)}, mix={"a": 3, "b": 1})
    found = group(None, ("logits", "scores"))
    assert found.logits.exp()[0, 0].tolist() == pytest.approx([0.75 * 0.2 + 0.25 * 0.6, 0.75 * 0.8 + 0.25 * 0.4])
    assert found.scores[0].tolist() == pytest.approx([0.3, 0.7])


def test_a_mixture_of_one_teacher_with_itself_is_that_teacher_and_weight_0_is_nobody(opened):
    one, two = (LocalTeacher(opened[name].model, opened[name].view) for name in ("one", "two"))
    batch = batch_of(opened["student"].view)
    wanted = one(batch, ("logits",)).logits.log_softmax(-1)
    for group, mix in (({"a": one, "b": one}, {"a": 1, "b": 2}), ({"a": one, "b": two}, {"a": 2, "b": 0})):
        torch.testing.assert_close(GroupTeacher(group, mix=mix)(batch, ("logits",)).logits, wanted)


def test_what_a_group_refuses(opened):
    one = LocalTeacher(opened["one"].model, opened["one"].view)
    batch = batch_of(opened["student"].view)
    with pytest.raises(UserError, match=r"asks for the teacher 'even'; did you mean 'evens'\?"):
        GroupTeacher({"evens": one, "odd": one}, route="domain")(batch, ("logits",))
    with pytest.raises(UserError, match="no column 'field'"):
        GroupTeacher({"a": one}, route="field")(batch, ("logits",))
    with pytest.raises(UserError, match="hidden:1 can't be mixed"):
        GroupTeacher({"a": one}, mix={"a": 1})(batch, ("hidden:1",))
    for wrong in ({}, {"route": "x", "mix": {"a": 1}}, {"mix": {"b": 1}}, {"mix": {"a": -1}}, {"mix": {"a": 0}}):
        with pytest.raises(ValueError):
            GroupTeacher({"a": one}, **wrong)


def test_routed_lists_and_kept_distributions_are_put_together():
    def says(name, count):
        kept = TopK(torch.full((count, 1, 2), ord(name)), torch.zeros(count, 1, 2), torch.zeros(count, 1))
        return Signals(text=[name] * count, topk=kept)

    names = ["b", "a", "b"]
    batch = Batch(
        ids=names, student={"x": torch.zeros(3)}, mask=torch.ones(3, dtype=torch.bool), columns={"who": names}
    )
    teachers = {name: lambda part, needs, name=name: says(name, len(part)) for name in ("a", "b")}
    found = GroupTeacher(teachers, route="who")(batch, ("text",))
    assert found.text == names and found.topk.ids[:, 0, 0].tolist() == [ord(name) for name in names]


def run(models, tmp_path, monkeypatch, name, **keys):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    content = {
        "name": name,
        "task": "language",
        "output": str(tmp_path / "runs"),
        "student": {"model": str(models / "student"), "max_length": 48},
        "data": {"train": str(models / "rows.jsonl")},
        "method": "forward_kl",
        "train": {"steps": 4, "batch_size": 4, "learning_rate": 0.01, "device": "cpu", "save_every": 0},
    }
    execute(check(content | keys), timed=False)
    return (tmp_path / "runs" / name / "model" / "model.safetensors").read_bytes()


def test_a_recipe_with_a_group_that_is_all_one_teacher_trains_as_with_that_teacher(models, tmp_path, monkeypatch):
    one = str(models / "one")
    alone = run(models, tmp_path, monkeypatch, "alone", teacher=one)
    routed = {"group": {"even": one, "odd": one}, "route": "domain"}
    assert run(models, tmp_path, monkeypatch, "routed", teacher=routed) == alone
    other = {"group": {"even": one, "odd": str(models / "two")}, "route": "domain"}
    assert run(models, tmp_path, monkeypatch, "other", teacher=other) != alone


# --- cached -----------------------------------------------------------------------------------------------------------


def test_a_cached_teacher_gives_what_the_live_one_gave_in_any_padding(models, opened, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    live = LocalTeacher(opened["one"].model, opened["one"].view)
    recipe = check({"name": "x", "student": "s", "data": "d", "method": "sft", "teacher": {"model": "t", "top_k": 300}})
    kept = keep_signals(recipe, "t", live, opened["one"], ("logits",), [Dataset.from_list(rows())])
    cached = CachedTeacher(Store.open(kept))
    for places in ([0, 1, 2], [2], [5, 2, 7, 1]):
        batch = batch_of(opened["student"].view, places=places)
        found, wanted = cached(batch, ("logits",)).topk, live(batch, ("logits",)).logits.log_softmax(-1)
        whole = torch.zeros_like(wanted).scatter(-1, found.ids, found.log_probs)
        torch.testing.assert_close(whole[batch.mask], wanted[batch.mask], atol=0.01, rtol=1e-3)


def test_a_row_that_was_not_labelled_is_named(models, opened, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    live = LocalTeacher(opened["one"].model, opened["one"].view)
    recipe = check({"name": "x", "student": "s", "data": "d", "method": "sft", "teacher": "t"})
    kept = keep_signals(recipe, "t", live, opened["one"], ("logits",), [Dataset.from_list(rows(4))])
    batch = batch_of(opened["student"].view, places=[3, 4])
    with pytest.raises(UserError, match=rf"no row '{batch.ids[1]}'; `stillroom label` adds what is missing"):
        CachedTeacher(Store.open(kept))(batch, ("logits",))
    with pytest.raises(UserError, match="keeps topk and not embedding"):
        CachedTeacher(Store.open(kept))(batch, ("embedding",))
