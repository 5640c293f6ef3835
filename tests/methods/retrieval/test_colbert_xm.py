"""ColBERT-XM: scores and losses by slow references, frozen languages, adapters that matter, what is exported.

pytest tests/methods/retrieval/test_colbert_xm.py
"""

import pytest
import torch
from tests.contracts import kinds, worlds

from stillroom.checks import build_method
from stillroom.engine.loop import seed_all
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.baselines_encoders import MaskedTokens
from stillroom.methods.retrieval.colbert_xm import ColBERTXM
from stillroom.objectives.interaction import maxsim
from stillroom.recipe import Method
from stillroom.signals import Batch, Signals
from stillroom.students.languages import add_language
from stillroom.views.load import kind_of, open_model

STEP = Step(0, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.build("late-interaction", tmp_path_factory.mktemp("world"))


def batch(candidates):
    candidates = torch.tensor(candidates)
    rows = torch.ones(len(candidates), dtype=torch.bool)
    return Batch(
        ids=[str(n) for n in range(len(candidates))], student={}, mask=rows, columns={"candidates": candidates}
    )


def test_maxsim_by_a_slow_reference():
    torch.manual_seed(0)
    queries, documents = torch.randn(3, 4, 5), torch.randn(2, 6, 5)
    asked = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    given = torch.tensor([[1, 1, 0, 1, 0, 0], [1] * 6]).bool()
    found = maxsim(queries[:, None], documents[None], asked[:, None], given[None])
    for b in range(3):
        for n in range(2):
            total = 0.0
            for i in range(4):
                if asked[b, i]:
                    total += max(float(queries[b, i] @ documents[n, j]) for j in range(6) if given[n, j])
            assert float(found[b, n]) == pytest.approx(total, rel=1e-5)


def test_maxsim_looks_at_nothing_outside_its_masks():
    torch.manual_seed(1)
    queries, documents = torch.randn(4, 5, requires_grad=True), torch.randn(6, 5)
    documents[4:] = float("nan")
    given = torch.arange(6) < 4
    value = maxsim(queries, documents, torch.ones(4).bool(), given)
    value.backward()
    assert bool(value.isfinite()) and bool(queries.grad.isfinite().all())
    assert float(value) == pytest.approx(float((queries.detach() @ documents[:4].T).amax(-1).sum()))


def test_the_two_losses_by_hand():
    """Three rows with one other document each, the last without: its own others are in the first softmax alone."""
    torch.manual_seed(2)
    crossed = torch.randn(3, 3, 2, dtype=torch.float64)
    candidates = [[True, True], [True, True], [True, False]]
    scores = torch.stack([crossed[n, n] for n in range(3)])
    found = ColBERTXM().parts(Signals(scores=scores, crossed=crossed), None, batch(candidates), STEP)
    own = in_batch = 0.0
    for n in range(3):
        mine = [float(crossed[n, n, k]) for k in range(2) if candidates[n][k]]
        own -= float(torch.tensor(mine, dtype=torch.float64).log_softmax(0)[0])
        others = [float(crossed[n, m, k]) for m in range(3) for k in range(2) if m != n and candidates[m][k]]
        in_batch -= float(torch.tensor([mine[0], *others], dtype=torch.float64).log_softmax(0)[0])
    assert float(found["list"].sum) == pytest.approx(own) and float(found["batch"].sum) == pytest.approx(in_batch)
    assert {int(part.count) for part in found.values()} == {3}


def test_versions_1_and_2():
    torch.manual_seed(3)
    scores, theirs = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    rows = batch([[True] * 3] * 2)
    plain = ColBERTXM(version=1)
    assert list(plain.parts(Signals(scores=scores), None, rows, STEP)) == ["list"] and not plain.across_rows
    taught = ColBERTXM(version=2).parts(Signals(scores=scores), Signals(scores=theirs), rows, STEP)["distil"]
    wanted = torch.nn.functional.kl_div(scores.log_softmax(-1), theirs.softmax(-1), reduction="sum")
    assert float(taught.sum) == pytest.approx(float(wanted))


def test_only_what_belongs_to_no_language_learns(world, tmp_path):
    made = worlds.case("colbert-xm", world)
    for model in (made.student.model, made.objective):
        model.float()
    before = {name: value.clone() for name, value in made.student.model.state_dict().items()}
    worlds.trainer(made, tmp_path, steps=3, batch_size=8, save_every=0).run()
    after = made.student.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert not [name for name in changed if "adapter" in name or "embeddings." in name]
    assert {"linear" in name or "encoder.layer" in name for name in changed} == {True}
    assert all(parameter.requires_grad for parameter in made.student.model.parameters())


def test_the_language_chooses_the_adapter(world):
    opened = world.open("student")
    for name, parameter in opened.model.named_parameters():
        if "adapter_modules.de" in name:
            parameter.data.add_(1.0)
    rows = [kinds.triples_in_two_languages()[1] | {"language": language} for language in ("en", "de")]
    scores = []
    for row in rows:
        inputs = opened.view.collate([opened.view.encode(row)])
        scores.append(opened.view.emit(opened.model, inputs.arguments, ("scores",)).scores)
    assert not torch.allclose(*scores)
    mixed = opened.view.collate([opened.view.encode(row) for row in rows])
    together = opened.view.emit(opened.model, mixed.arguments, ("scores",)).scores
    torch.testing.assert_close(together, torch.cat(scores))


def test_a_language_without_an_adapter_is_refused(world):
    view = world.open("student").view
    with pytest.raises(UserError, match="no adapter for the language 'fr'"):
        view.encode({"anchor": "a", "positive": "b", "language": "fr"})


def test_what_is_exported_scores_alike_in_sentence_transformers(world, tmp_path):
    from sentence_transformers import MultiVectorEncoder

    opened = world.open("student")
    opened.model.float().eval()
    opened.view.save(opened.model, tmp_path / "model")
    assert kind_of(str(tmp_path / "model")) == "late-interaction"
    loaded = MultiVectorEncoder(str(tmp_path / "model"), device="cpu")
    row = {
        "anchor": "about 3",
        "positive": "row 3: more, more!",
        "negative": ["row 4 (that is, another)."],
        "language": "de",
    }
    inputs = opened.view.collate([opened.view.encode(row)])
    with torch.no_grad():
        ours = opened.view.emit(opened.model, inputs.arguments, ("scores",)).scores
    loaded[0].auto_model.set_default_language("de")
    queries = loaded.encode_query([row["anchor"]])
    documents = loaded.encode_document([row["positive"], *row["negative"]])
    assert len(queries[0]) == 32  # filled up with mask tokens, which count
    torch.testing.assert_close(torch.as_tensor(loaded.similarity(queries, documents)).cpu(), ours, atol=1e-4, rtol=1e-4)


def test_a_new_language_is_an_adapter_that_learns_alone(tmp_path):
    made = worlds.build("masked-lm", tmp_path / "plain")
    config = kinds.KINDS["late-interaction"].small
    from stillroom.recipe import Scratch
    from stillroom.students.open import new_model

    seed_all(0, 0, 0)
    new_model(
        Scratch(architecture="xmod", config=config, tokenizer=made.student), "masked-lm", lambda: [], tmp_path / "x"
    )
    opened = open_model(str(tmp_path / "x"), "masked-lm", languages=["en", "de", "fr"], max_length=48)
    add_language(opened.model, "fr", like="en")
    method = MaskedTokens(only="adapter_modules.fr", rate=1.0)
    rows = [{"text": f"une phrase {n}", "language": "fr"} for n in range(4)]
    encoded = [{"student": opened.view.encode(row)} for row in rows]
    from stillroom.views.base import make_batch

    of = make_batch(opened.view, None, encoded)
    method.setup(opened.model, None, of, opened.view)
    hidden = method.prepare(of, STEP, opened.model, opened.view)
    part = method.parts(opened.view.emit(opened.model, hidden.student, ("logits",)), None, hidden, STEP)["mlm"]
    part.mean.backward()
    learnt = {name for name, parameter in opened.model.named_parameters() if parameter.grad is not None}
    assert learnt and all("adapter_modules.fr" in name for name in learnt)
    method.finish(opened.model)
    opened.view.save(opened.model, tmp_path / "three")
    again = open_model(str(tmp_path / "three"), "masked-lm", languages=["en", "de", "fr"], max_length=48)
    assert list(again.model.config.languages) == ["en", "de", "fr"]
    with pytest.raises(UserError, match="has an adapter for 'fr' already"):
        add_language(again.model, "fr", like="en")
    with pytest.raises(UserError, match="whose name holds"):
        MaskedTokens(only="adapter_modules.sw").setup(again.model, None, of, again.view)


def test_a_model_without_adapters_and_an_unknown_version_are_refused():
    with pytest.raises(UserError, match="no adapters for languages"):
        ColBERTXM().setup(torch.nn.Linear(2, 2), None, None, None)
    with pytest.raises(UserError, match="version"):
        build_method(Method(name="colbert-xm", version=3))
