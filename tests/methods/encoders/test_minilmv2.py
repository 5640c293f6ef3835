"""MiniLMv2 and its rivals: values against slow references on real models, layers found, padding, what is refused.

.venv/bin/python -m pytest tests/methods/encoders/test_minilmv2.py
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.oracles import objectives as oracle

from stillroom.checks import build_method, build_methods
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.encoders.minilmv2 import MiniLMv2
from stillroom.recipe import Method, Scratch, check
from stillroom.signals import Signals
from stillroom.students.open import new_model
from stillroom.teachers import LocalTeacher
from stillroom.views.base import make_batch
from stillroom.views.load import open_model

STEP = Step(0, 1)
TEXTS = ["sort the list", "return", "a sum of all squares of the numbers in the list", "the list, in order"]
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}
LARGE = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 16}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student and a teacher of other width, depth and head count, in float64."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, config in (("student", SMALL), ("teacher", LARGE)):
        same = None if name == "student" else str(folder / "student")
        scratch = Scratch(architecture="bert", config=config, vocabulary=300, tokenizer=same)
        new_model(scratch, "masked-lm", lambda: TEXTS, folder / name)
    return folder


def opened(models, which, kind="masked-lm", **options):
    found = open_model(str(models / which), kind, **options)
    found.model.double().eval()
    return found


class Paired:
    """A method that has been set up on the two models, and what both emit."""

    def __init__(self, models, kind="masked-lm", texts=TEXTS, teacher_options=None, **settings):
        self.student = opened(models, "student", kind)
        self.teacher = opened(models, "teacher", kind, **(teacher_options or {}))
        self.method = MiniLMv2(**settings).double()
        same = self.teacher.view.fingerprint == self.student.view.fingerprint
        other = None if same else self.teacher.view
        rows = [{"text": text} for text in texts]
        encoded = [
            {"student": self.student.view.encode(row)} | ({"teacher": other.encode(row)} if other else {})
            for row in rows
        ]
        self.batch = make_batch(self.student.view, other, encoded)
        self.ask = LocalTeacher(self.teacher.model, self.teacher.view)
        self.batch.emitted = self.ask(self.batch, self.method.needs.teacher)
        torch.manual_seed(1)
        self.method.setup(self.student.model, self.teacher.model, self.batch, self.student.view)
        self.method.double()

    @torch.no_grad()
    def signals(self, batch=None):
        batch = batch or self.batch
        needs = self.method.needs
        return self.student.view.emit(self.student.model, batch.student, needs.student), self.ask(batch, needs.teacher)

    @torch.no_grad()
    def parts(self, batch=None):
        return self.method.parts(*self.signals(batch), batch or self.batch, STEP)


def real(paired):
    return paired.batch.student["attention_mask"].bool()


# --- relations --------------------------------------------------------------------------------------------------------


def test_relations_are_those_of_the_definition(models):
    paired = Paired(models, heads=6)
    student, teacher = paired.signals()
    names = ["query", "key", "value"]
    for part, name in zip(("qq", "kk", "vv"), names, strict=True):
        ours = student.taps[f"bert.encoder.layer.1.attention.self.{name}"].numpy()
        theirs = teacher.taps[f"bert.encoder.layer.3.attention.self.{name}"].numpy()
        wanted = oracle.attention_relation([ours, ours], [theirs, theirs], real(paired).numpy(), 6)
        found = paired.parts()[part]
        assert float(found.sum) == pytest.approx(wanted, rel=1e-7) and int(found.count) == len(TEXTS)
    assert paired.method.weights == {"qq": 1 / 3, "kk": 1 / 3, "vv": 1 / 3}


def test_minilms_first_version_compares_the_scores_of_the_attention(models):
    paired = Paired(models, heads=2, relations={"QK": 1.0, "VV": 0.5})
    student, teacher = paired.signals()
    sides = [
        [
            signals.taps[f"bert.encoder.layer.{layer}.attention.self.{name}"].detach().numpy()
            for name in ("query", "key")
        ]
        for signals, layer in ((student, 1), (teacher, 3))
    ]
    found = paired.parts()
    assert found.keys() == {"qk", "vv"} and paired.method.weights == {"qk": 1.0, "vv": 0.5}
    assert float(found["qk"].sum) == pytest.approx(oracle.attention_relation(*sides, real(paired).numpy(), 2), rel=1e-7)


def test_a_student_that_relates_its_tokens_alike_has_nothing_to_learn(models):
    """Each of its relation heads is the teacher's, turned: inner products are all that is compared."""
    paired = Paired(models, heads=6)
    student, teacher = paired.signals()
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    for mine, its in zip(paired.method.of_student, paired.method.of_teacher, strict=True):
        student.taps[mine] = (teacher.taps[its].unflatten(-1, (6, 8)) @ turn).flatten(-2)
    assert all(float(part.sum) < 1e-12 for part in paired.method.parts(student, teacher, paired.batch, STEP).values())


def test_a_text_counts_the_same_whoever_stands_beside_it(models):
    """Neither its padding nor the length of its neighbours matters: four texts at once or one by one."""
    for settings in ({"heads": 6}, {"objective": "hs"}):
        together = Paired(models, **settings)
        alone = [Paired(models, texts=[text], **settings) for text in TEXTS]
        for each in alone:
            each.method.load_state_dict(together.method.state_dict())
        for name, part in together.parts().items():
            torch.testing.assert_close(part.sum, sum(each.parts()[name].sum for each in alone))
            assert int(part.count) == len(TEXTS)


@pytest.mark.parametrize(("depth", "layer"), [(6, 6), (12, 12), (16, 14), (24, 21)])
def test_a_deep_teacher_is_read_below_its_last_layer(models, tmp_path, depth, layer):
    config = LARGE | {"num_hidden_layers": depth, "hidden_size": 8, "num_attention_heads": 1}
    scratch = Scratch(architecture="bert", config=config, tokenizer=str(models / "student"))
    new_model(scratch, "encoder", list, tmp_path)
    student, teacher = opened(models, "student", "encoder"), open_model(str(tmp_path), "encoder")
    teacher.model.double()
    method = MiniLMv2(heads=4)
    sample = make_batch(student.view, None, [{"student": student.view.encode({"text": "a list"})}])
    method.setup(student.model, teacher.model, sample, student.view)
    assert method.needs.teacher[0] == f"tap:encoder.layer.{layer - 1}.attention.self.query"


def test_the_layer_of_the_teacher_can_be_named(models):
    for layer, place in ((1, 0), (3, 2), (-1, 3), (-4, 0)):
        found = Paired(models, heads=1, teacher_layer=layer).method.of_teacher.value
        assert found == f"bert.encoder.layer.{place}.attention.self.value"
    with pytest.raises(UserError, match="layers 1 to 4"):
        Paired(models, heads=1, teacher_layer=5)


# --- hidden states ----------------------------------------------------------------------------------------------------


def by_hand(paired, pairs):
    """Text by text, layer by layer, in numpy; W is the method's."""
    needs = ("hidden:all",)
    ours = paired.student.view.emit(paired.student.model, paired.batch.student, needs).hidden
    theirs = paired.ask(paired.batch, needs).hidden
    total = 0.0
    for text, tokens in enumerate(real(paired).sum(1).tolist()):
        for i, j in pairs:
            maps = paired.method.maps[f"{i}-{j}"]
            weight, bias = (value.detach().numpy() for value in (maps.weight, maps.bias))
            mine = ours[i][text, :tokens].detach().numpy() @ weight.T + bias
            total += np.mean((mine - theirs[j][text, :tokens].numpy()) ** 2)
    return total


@pytest.mark.parametrize(
    ("settings", "pairs"),
    [
        ({}, [(2, 4)]),
        ({"layers": "uniform"}, [(1, 2), (2, 4)]),
        ({"layers": "last-2"}, [(1, 3), (2, 4)]),
        ({"layers": "one-to-n"}, [(1, 1), (1, 2), (2, 3), (2, 4)]),
        ({"layers": "last", "embeddings": True}, [(0, 0), (2, 4)]),
        ({"layers": [[0, 0], [1, [1, 3]]], "embeddings": True}, [(0, 0), (1, 1), (1, 3)]),
    ],
)
def test_hidden_states_under_each_map(models, settings, pairs):
    paired = Paired(models, objective="hs", **settings)
    found = paired.parts()["hs"]
    assert float(found.sum) == pytest.approx(by_hand(paired, pairs), rel=1e-7) and int(found.count) == len(TEXTS)


def test_models_of_one_width_need_no_map(models):
    paired = Paired(models, objective="hs")
    assert [tuple(p.shape) for p in paired.method.parameters()] == [(48, 24), (48,)]
    twins = MiniLMv2(objective="hs")
    twins.setup(paired.student.model, paired.student.model, paired.batch, paired.student.view)
    assert not list(twins.parameters())
    states, _ = paired.signals()
    again = paired.student.view.emit(paired.student.model, paired.batch.student, twins.needs.teacher)
    assert float(twins.parts(states, again, paired.batch, STEP)["hs"].sum) < 1e-20


# --- output distributions ---------------------------------------------------------------------------------------------


def test_outputs_are_compared_where_both_models_have_tokens_hidden(models):
    paired = Paired(models, objective="od", rate=0.4)
    torch.manual_seed(3)
    hidden = paired.method.prepare(paired.batch, STEP, paired.student.model, paired.student.view)
    changed = hidden.student["input_ids"] != paired.batch.student["input_ids"]
    assert hidden.mask.any() and not (changed & ~hidden.mask).any() and hidden.teacher is None
    student, teacher = paired.signals(hidden)
    wanted = oracle.divergence_sum("forward_kl", student.logits.numpy(), teacher.logits.numpy(), hidden.mask.numpy())
    found = paired.method.parts(student, teacher, hidden, STEP)["od"]
    assert float(found.sum) == pytest.approx(wanted, rel=1e-7)
    assert int(found.count) == int(hidden.mask.sum()) == int(hidden.counts()["token"])


def test_with_all_hidden_it_is_plain_distillation_at_every_word(models):
    paired = Paired(models, objective="od", rate=1.0)
    hidden = paired.method.prepare(paired.batch, STEP, paired.student.model, paired.student.view)
    assert torch.equal(hidden.mask, paired.batch.mask)
    assert int(hidden.mask.sum()) == int(real(paired).sum()) - 2 * len(TEXTS)  # [CLS] and [SEP] are not words


def test_columns_that_pad_a_head_say_nothing(models):
    """Models pad their vocabularies, each to a number of its own."""
    paired = Paired(models, objective="od")
    student, teacher = paired.signals()
    wide = torch.cat([teacher.logits, torch.full((*teacher.logits.shape[:2], 20), 50.0)], -1)
    plain = paired.method.parts(student, teacher, paired.batch, STEP)["od"]
    padded = paired.method.parts(student, Signals(logits=wide), paired.batch, STEP)["od"]
    torch.testing.assert_close(padded.sum, plain.sum)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [5, 16, 48, 96])
def test_heads_that_divide_only_one_width_are_refused(models, heads):
    with pytest.raises(
        UserError, match=rf"{heads} relation heads .* 24 of the student and 48 .*; take a divisor of 24"
    ):
        Paired(models, heads=heads)


def test_two_ways_to_read_a_text_are_refused(models):
    with pytest.raises(UserError, match="one tokenizer and max_length"):
        Paired(models, heads=6, teacher_options={"max_length": 7})


def test_outputs_need_a_head_and_a_mask_token(models):
    plain = {
        "name": "x",
        "teacher": "t",
        "student": "s",
        "data": "d",
        "method": {"name": "minilmv2", "objective": "od"},
    }
    assert check(plain).task == "encoder"
    with pytest.raises(UserError, match="learns by logits, which a model of the kind 'encoder' does not give"):
        build_methods(check(plain))
    paired = Paired(models, objective="od")
    paired.student.view.tokenizer.mask_token = None
    with pytest.raises(UserError, match="must have a mask token"):
        paired.method.setup(paired.student.model, paired.teacher.model, paired.batch, paired.student.view)
    paired = Paired(models, objective="od")
    narrow = replace(paired.batch, emitted=Signals(logits=torch.zeros(4, 9, 10)))
    with pytest.raises(UserError, match=r"has \d+ tokens, and the heads .* give \d+ and 10"):
        paired.method.setup(paired.student.model, paired.teacher.model, narrow, paired.student.view)


@pytest.mark.parametrize(
    "settings",
    [
        {"relations": {}},
        {"relations": {"QX": 1.0}},
        {"relations": {"Q": 1.0}},
        {"relations": {"QQ": 0.0}},
        {"heads": 0},
        {"rate": 0.0},
        {"objective": "mah"},
    ],
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="minilmv2"):
        build_method(Method(name="minilmv2", **settings))
