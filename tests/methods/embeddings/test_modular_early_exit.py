"""Modular early exits: losses by a slow reference, weights by depth, exits as pipelines, pre-training, packed rows.

pytest tests/methods/embeddings/test_modular_early_exit.py
"""

import pytest
import torch
from datasets import Dataset
from tests.contracts import kinds

from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.embeddings.modular_early_exit import ModularEarlyExit
from stillroom.recipe import Scratch
from stillroom.students.open import new_model
from stillroom.synthesis.fragments import pack_fragments, rename_identifiers
from stillroom.views.base import make_batch
from stillroom.views.load import open_model

STEP = Step(0, 1)
ROWS = kinds.pairs()
SHAPES = {
    "bert": kinds.BERT | {"hidden_size": 16, "num_hidden_layers": 4},
    "eurobert": kinds.BERT
    | {"hidden_size": 16, "num_hidden_layers": 4, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    def get(architecture, kind="embeddings"):
        folder = tmp_path_factory.mktemp("model")
        torch.manual_seed(0)
        scratch = Scratch(architecture=architecture, config=SHAPES[architecture], vocabulary=300)
        new_model(scratch, kind, lambda: kinds.TEXTS, folder)
        opened = open_model(str(folder), kind, max_length=32)
        opened.model.double().eval()
        return opened

    return get


def set_up(opened, rows=ROWS, **settings):
    method = ModularEarlyExit(**settings)
    batch = make_batch(opened.view, None, [{"student": opened.view.encode(row)} for row in rows])
    method.setup(opened.model, None, batch, opened.view)
    return method.double().eval(), batch


@pytest.mark.parametrize("architecture", ["bert", "eurobert"])
def test_each_exit_is_the_pipeline_that_is_handed_over(made, architecture, tmp_path):
    """An exit's vectors in training are those of its pipeline, saved and loaded by sentence-transformers alone."""
    from sentence_transformers import SentenceTransformer

    opened = made(architecture)
    method, batch = set_up(opened, exits=[1, 3, 4], dimensions=6)
    with torch.no_grad():
        signals = opened.view.emit(opened.model, batch.student, method.needs.student)
        exits = {number: method.vectors(signals, number) for number in (1, 3, 4)}
    assert method.also(opened.model).keys() == {"exit-1", "exit-3"}
    texts = [text for row in ROWS for text in (row["anchor"], row["positive"])]
    for number in (1, 3, 4):
        pipeline = opened.model if number == 4 else method.also(opened.model)[f"exit-{number}"]
        opened.view.save(pipeline, tmp_path / str(number))
        loaded = SentenceTransformer(str(tmp_path / str(number)), device="cpu", model_kwargs={"dtype": torch.float64})
        loaded.max_seq_length = 32
        assert loaded[0].auto_model.config.num_hidden_layers == number
        found = torch.as_tensor(loaded.encode(texts, convert_to_tensor=True)).double()
        torch.testing.assert_close(found, exits[number], atol=1e-5, rtol=1e-4)


def test_losses_by_a_slow_reference_and_weights_by_depth(made):
    opened = made("bert")
    method, batch = set_up(opened, exits=[1, 4])
    with torch.no_grad():
        signals = opened.view.emit(opened.model, batch.student, method.needs.student)
        found = method.parts(signals, None, batch, STEP)
        assert found.keys() == {"pairs_1", "pairs_4"}
        for number in (1, 4):
            vectors = method.vectors(signals, number)
            scores = 10 * vectors[0::2] @ vectors[1::2].T
            both = sum(-side[n].log_softmax(0)[n] for side in (scores, scores.T) for n in range(len(ROWS))) / 2
            assert float(found[f"pairs_{number}"].sum) == pytest.approx(float(both))
    assert method.weights["pairs_1"] == 0.25 and method.weights["pairs_4"] == 1.0
    assert method.units["pairs_1"] == "pair" and method.across_rows


def test_deeper_exits_shape_the_layers_below_them_and_maps_are_their_own(made):
    opened = made("bert")
    method, batch = set_up(opened, exits=[2, 4])
    signals = opened.view.emit(opened.model, batch.student, method.needs.student)
    found = method.parts(signals, None, batch, STEP)
    layers = opened.model[0].auto_model.encoder.layer
    below, above = (layers[place].output.dense.weight for place in (0, 3))
    own, last = method.maps["2"].weight, opened.model[2].linear.weight
    for part, reached in (("pairs_2", (True, False, True, False)), ("pairs_4", (True, True, False, True))):
        grads = torch.autograd.grad(found[part].sum, [below, above, own, last], allow_unused=True, retain_graph=True)
        assert tuple(grad is not None and bool(grad.abs().sum() > 0) for grad in grads) == reached


def test_the_optional_distance_leaves_the_deepest_exit_alone(made):
    opened = made("bert")
    method, batch = set_up(opened, exits=[2, 4], towards_deepest=0.5)
    signals = opened.view.emit(opened.model, batch.student, method.needs.student)
    near = method.parts(signals, None, batch, STEP)["near_2"]
    assert method.weights["near_2"] == 0.25 and int(near.count) == len(batch)
    above = opened.model[0].auto_model.encoder.layer[3].output.dense.weight
    assert torch.autograd.grad(near.sum, [above], allow_unused=True)[0] is None


def test_the_papers_exits_are_shares_of_the_depth(made):
    method, _ = set_up(made("bert"))
    assert method.exits == [1, 2, 3, 4]
    assert sorted({max(1, round(36 * share)) for share in (1 / 9, 1 / 4, 1 / 2, 3 / 4, 1)}) == [4, 9, 18, 27, 36]


PACKED = [{"text": f"row {n} [SEP] row {n + 1}: {'more ' * n}", "label": n % 2} for n in range(6)]


@pytest.mark.parametrize("architecture", ["bert", "eurobert"])
def test_pretraining_by_a_slow_reference(made, architecture):
    opened = made(architecture, "masked-lm")
    method, batch = set_up(opened, PACKED, stage="pretrain", exits=[2, 4])
    torch.nn.init.normal_(method.depths["4"])
    torch.manual_seed(1)
    batch = method.prepare(batch, STEP, opened.model, opened.view)
    with torch.no_grad():
        signals = opened.view.emit(opened.model, batch.student, method.needs.student)
        found = method.parts(signals, None, batch, STEP)
        method.depths["4"].zero_()
        plain = method.parts(signals, None, batch, STEP)
        logits = opened.view.emit(opened.model, batch.student, ("logits",)).logits
    wanted = torch.nn.functional.cross_entropy(logits[batch.mask], batch.labels[batch.mask], reduction="sum")
    assert float(plain["mlm_4"].sum) == pytest.approx(float(wanted), rel=1e-5)  # without its vector, the model's own
    assert float(found["mlm_4"].sum) != pytest.approx(float(wanted), rel=1e-3)
    with torch.no_grad():
        first = method.states(signals, 2)[:, 0]
        p = method.same(first).squeeze(-1).sigmoid()
    rows = batch.mask.any(-1)
    by_hand = sum(-(p[n] if PACKED[n]["label"] else 1 - p[n]).log() for n in range(6) if rows[n])
    assert float(plain["icc_2"].sum) == pytest.approx(float(by_hand)) and int(plain["icc_2"].count) == int(rows.sum())
    assert method.weights["mlm_2"] == method.weights["icc_2"] == 0.5


def test_what_does_not_fit_is_refused(made):
    with pytest.raises(ValueError, match="in order"):
        ModularEarlyExit(exits=[4, 2])
    with pytest.raises(ValueError, match="from 1"):
        ModularEarlyExit(exits=[0, 2])
    with pytest.raises(UserError, match="must be the whole encoder, which has 4 layers; it is 6"):
        set_up(made("bert"), exits=[2, 6])
    with pytest.raises(UserError, match="rows need a label"):
        set_up(made("bert", "masked-lm"), [{"text": "a"}], stage="pretrain", exits=[4])


# --- rows -------------------------------------------------------------------------------------------------------------

FRAGMENTS = Dataset.from_list(
    [{"text": f"{name}{n}", "source": name} for name in "abc" for n in range(20)] + [{"text": "d0", "source": "d"}]
)


def test_half_of_the_packed_fragments_are_of_one_source():
    done = pack_fragments(FRAGMENTS, seed=3)
    assert done.account.rejected == {"the only fragment of its source": 1} and done.account.adds_up
    rows = done.dataset.to_list()
    for row in rows:
        first, second = row["text"].split(" [SEP] ")
        assert (first[0] == second[0]) == bool(row["label"]) and first != second
    assert 15 < sum(row["label"] for row in rows) < 45


def test_following_fragments_are_the_next_ones():
    for row in pack_fragments(FRAGMENTS, following=True).dataset:
        first, second = row["text"].split(" [SEP] ")
        if row["label"]:
            assert int(second[1:]) == (int(first[1:]) + 1) % 20
    with pytest.raises(UserError, match="of one source"):
        pack_fragments(FRAGMENTS.select(range(5)))


def test_frequent_names_are_replaced_everywhere_or_nowhere():
    code = "def add(total, v0):\n    total = total + v0\n    return total"
    assert rename_identifiers(code, seed=0, chance=0.0) == code
    assert rename_identifiers(code, seed=0, chance=1.0) == "def add(v1, v2):\n    v1 = v1 + v2\n    return v1"
    some = {rename_identifiers(code, seed=seed) for seed in range(40)}
    assert code in some and len(some) == 4  # two frequent names, each replaced or not
