"""What every method must keep over a run: resume bit for bit, an untouched teacher, an export with its own keys,
padded vocabularies that change nothing, a cached teacher that teaches like the live one.

pytest tests/contracts/test_runs.py
"""

import copy
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from safetensors import safe_open
from tests.contracts import worlds
from tests.contracts.test_contracts import loss, same

from stillroom.checks import check_teacher
from stillroom.errors import UserError
from stillroom.labelling import CACHEABLE, keep_signals
from stillroom.recipe import check
from stillroom.signals import TopK
from stillroom.store import Store
from stillroom.store.keep import keep_top_k
from stillroom.teachers import CachedTeacher, LocalTeacher


def trainer(case, folder, **settings):
    """Real training of a fresh copy of the case, in float32."""
    made = worlds.case(case.method, case.world)
    learning = [made.learning.model] if made.learning else []
    for model in (made.student.model, made.teacher.model, made.objective, *learning):
        model.float()
    return worlds.trainer(made, folder, **({"steps": 4, "batch_size": 4} | settings))


def state(pair):
    return {name: tensor.clone() for name, tensor in pair.state_dict().items()}


def test_resume_is_bitwise_and_the_teacher_is_untouched(case, tmp_path):
    whole = trainer(case, tmp_path / "whole", save_every=1)
    teacher = whole.teacher.model if whole.teacher is not None else case.teacher.model
    before = state(teacher)
    whole.run()
    assert whole.teacher is None or not teacher.training
    for name, tensor in state(teacher).items():
        assert torch.equal(tensor, before[name]), name
    cut = trainer(case, tmp_path / "cut", save_every=1)
    step, cut_at = cut.train_step, 2

    def stopping():
        if cut.step == cut_at:
            raise KeyboardInterrupt
        return step()

    cut.train_step = stopping
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    resumed = trainer(case, tmp_path / "cut", save_every=1)
    resumed.run(resume=True)
    found, wanted = state(resumed.pair), state(whole.pair)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(tensor, found[name]) or (tensor.isnan().all() and found[name].isnan().all()), name


def keys(folder):
    found = set()
    for file in folder.rglob("*.safetensors"):
        with safe_open(str(file), "pt") as opened:
            found |= {(str(file.relative_to(folder)), key) for key in opened.keys()}  # noqa: SIM118 - not a dict
    return found


def test_the_export_has_exactly_the_students_own_keys(case, tmp_path):
    fresh = case.student if case.objective.changes_student else case.world.open("student")
    fresh.view.save(fresh.model.float(), tmp_path / "before")
    trained = trainer(case, tmp_path / "run")
    trained.run()
    trained.view.save(trained.pair.student, tmp_path / "after")
    assert keys(tmp_path / "after") == keys(tmp_path / "before")


def test_a_padded_vocabulary_changes_nothing(case):
    if case.world.view("student") != "language":
        pytest.skip("only language models have logits over a vocabulary")
    batch = case.batch(case.world.rows)
    plain = loss(case, batch)
    for side in ("student", "teacher"):
        padded = replace(case, **{side: getattr(case, side)._replace(model=copy.deepcopy(getattr(case, side).model))})
        model = getattr(padded, side).model
        width = model.config.vocab_size
        model.resize_token_embeddings(width + 128, mean_resizing=False)
        with torch.no_grad():
            model.get_output_embeddings().weight[width:] = 3.0
        model.double().requires_grad_(side == "student")
        parts = loss(padded, batch)[0]
        for name in parts:
            torch.testing.assert_close(parts[name].sum, plain[0][name].sum, atol=1e-9, rtol=1e-9)


def test_where_pad_is_eos_the_end_is_still_learnt(case):
    if case.world.view("student") != "language":
        pytest.skip("only language models end their answers")
    tokenizer = copy.deepcopy(case.student.view.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    view = type(case.student.view)(tokenizer, max_length=48)
    batch = view.collate([view.encode(row) for row in case.world.rows])
    for row in range(len(case.world.rows)):
        last = int(batch.mask[row].nonzero()[-1])
        assert int(batch.labels[row, last]) == tokenizer.eos_token_id
        assert not batch.mask[row, last + 1 :].any()
    plain = case.batch(case.world.rows)
    assert torch.equal(batch.mask, plain.mask)


def test_a_cached_teacher_teaches_like_the_live_one(case, tmp_path, monkeypatch):
    needs = case.objective.needs.teacher
    keep = {"name": "x", "task": case.world.view("student"), "student": "s", "method": "sft", "data": "d"}
    recipe = check(keep | {"teacher": {"model": "t", "cache": True, "top_k": 10_000}})
    live = case.objective.live_teacher or case.objective.trains_teacher
    if live or any(need not in (*CACHEABLE, "text") for need in needs):
        with pytest.raises(UserError, match=r"teacher\.cache=false"):
            check_teacher(recipe, {case.method: case.objective})
        return
    check_teacher(recipe, {case.method: case.objective})
    if not needs or "text" in needs:
        return  # nothing is asked of a teacher, or texts, which tests/cli/test_distill.py follows into training
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    for model in (case.student.model, case.teacher.model, case.objective):
        model.float()  # what is kept was computed on what views give
    live = LocalTeacher(case.teacher.model, case.teacher.view)
    rows = [Dataset.from_list(case.world.rows)]
    cached = CachedTeacher(Store.open(keep_signals(recipe, "t", live, case.teacher, needs, rows)))
    batch = case.batch(case.world.rows)
    student = case.student.view.emit(case.student.model, batch.student, case.objective.needs.student)
    if "logits" in needs and batch.mask.dim() == 2:  # what is kept is the distribution at the trained places
        wanted = live(batch, needs).logits
        kept = keep_top_k(wanted[batch.mask], wanted.shape[-1])
        found = cached(batch, needs).topk
        assert isinstance(found, TopK)
        torch.testing.assert_close(found.log_probs[batch.mask].double(), kept.log_probs.double(), atol=0.02, rtol=0.01)
    ours = case.objective.parts(student, cached(batch, needs), batch, None)
    theirs = case.objective.parts(student, live(batch, needs), batch, None)
    for name in theirs:
        torch.testing.assert_close(ours[name].mean.double(), theirs[name].mean.double(), atol=5e-3, rtol=5e-3)


class Mean(worlds.BASELINES["sft"]):
    """The field's commonest defect: each batch divides by its own count."""

    def parts(self, student, teacher, batch, step):
        sft = super().parts(student, teacher, batch, step)["sft"]
        return {"sft": sft._replace(sum=sft.sum / sft.count)}


class Unmasked(worlds.BASELINES["sft"]):
    """Trains on padding."""

    def parts(self, student, teacher, batch, step):
        from stillroom.objectives.sequence import cross_entropy

        return {"sft": cross_entropy(student.logits, batch.labels, torch.ones_like(batch.mask))}


@pytest.mark.parametrize(
    ("broken", "contract"),
    [
        (Mean, "test_splitting_the_batch_changes_nothing"),
        (Unmasked, "test_padding_changes_nothing"),
        (Unmasked, "test_counts_are_those_declared"),
        (Unmasked, "test_masked_rows_count_for_nothing"),
        (Unmasked, "test_an_empty_mask_gives_an_exact_differentiable_zero"),
        (Unmasked, "test_nan_outside_the_mask_does_no_harm"),
    ],
)
def test_the_contracts_catch_what_they_are_for(world_of, broken, contract):
    from tests.contracts import test_contracts

    made = worlds.case("sft", world_of("language"))
    made.objective = broken()
    with pytest.raises(AssertionError):
        getattr(test_contracts, contract)(made)


def test_same_can_tell_apart(world_of):
    made = worlds.case("sft", world_of("language"))
    rows = made.world.rows
    with pytest.raises(AssertionError):
        same(loss(made, made.batch(rows)), loss(made, made.batch(rows[:-1])))
