"""Factorised embeddings: an ELECTRA fitted to a BERT.

Run: pytest tests/students/test_students_factorise.py
"""

import pytest
import torch
from transformers import AutoModel, BertConfig, BertLMHeadModel

from stillroom.students.factorise import factorise

SIZES = [2, 8, 16, 31]


def embedded(model, ids):
    """What the first layer is given."""
    with torch.no_grad():
        if hasattr(model, "embeddings_project"):
            return model.embeddings_project(model.embeddings(ids))
        return model.embeddings(ids)


def error(bert, electra, counts):
    """Mean squared distance of the words at the first positions, weighted by how often each occurs."""
    ids = torch.arange(bert.config.vocab_size).unsqueeze(1)
    distance = (embedded(bert, ids) - embedded(electra, ids)).square().mean(-1).squeeze(1)
    return float((counts * distance).sum() / counts.sum())


def of_low_rank(bert, rank):
    """Give the word table rows of one length in a space of few dimensions, and no positions: then the fit is exact."""
    width = bert.config.hidden_size
    basis = torch.linalg.qr(torch.randn(width, width) - 1).Q
    ones = torch.ones(width, 1) / width**0.5
    basis = torch.linalg.qr(basis - ones @ (ones.T @ basis)).Q[:, :rank]
    half = torch.nn.functional.normalize(torch.randn(bert.config.vocab_size // 2, rank), dim=-1) @ basis.T
    rows = torch.cat([half, -half])  # so that the mean is 0
    embeddings = bert.embeddings
    with torch.no_grad():
        embeddings.word_embeddings.weight.copy_(3 * rows + 0.7)  # the mean that LayerNorm takes away
        embeddings.position_embeddings.weight.zero_()
        embeddings.token_type_embeddings.weight.zero_()
        embeddings.LayerNorm.weight.fill_(1.3)
        embeddings.LayerNorm.bias.normal_()
    return bert


def test_exact_where_the_table_has_that_rank(bert):
    bert = of_low_rank(bert, rank=7)
    ids = torch.arange(bert.config.vocab_size).reshape(-1, 2)
    exact = factorise(bert, 8, torch.ones(bert.config.vocab_size))  # one dimension goes to the mean of 0
    assert torch.allclose(embedded(exact, ids), embedded(bert, ids), atol=1e-4)
    short = factorise(bert, 7, torch.ones(bert.config.vocab_size))
    assert not torch.allclose(embedded(short, ids), embedded(bert, ids), atol=1e-1)


def test_layers_are_the_same(bert):
    electra = factorise(bert, 16, torch.ones(bert.config.vocab_size))
    hidden = torch.randn(2, 5, 32)
    with torch.no_grad():
        ours, theirs = (model.encoder(hidden).last_hidden_state for model in (electra, bert))
    assert torch.equal(ours, theirs)


def test_wider_is_nearer(bert):
    counts = torch.ones(bert.config.vocab_size)
    errors = [error(bert, factorise(bert, size, counts), counts) for size in SIZES]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1 * errors[0]


def test_frequent_words_are_fitted_best(bert):
    often = torch.ones(bert.config.vocab_size)
    often[10:20] = 1000
    even = torch.ones_like(often)
    assert error(bert, factorise(bert, 8, often), often) < 0.9 * error(bert, factorise(bert, 8, even), often)


def test_positions_and_types_count_too(bert):
    electra = factorise(bert, 31, torch.ones(bert.config.vocab_size))
    ids = torch.randint(5, 60, (8, 30))
    moved = embedded(bert, ids.roll(1, 1)).roll(-1, 1) - embedded(bert, ids)
    ours = embedded(electra, ids.roll(1, 1)).roll(-1, 1) - embedded(electra, ids)
    assert torch.nn.functional.cosine_similarity(moved, ours, dim=-1).mean() > 0.8


def test_loads_again_with_transformers(bert, tmp_path):
    electra = factorise(bert, 16, torch.ones(bert.config.vocab_size))
    electra.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    ids = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        assert torch.equal(again(ids).last_hidden_state, electra(ids).last_hidden_state)


def test_rows_of_a_padded_table_need_no_counts(bert):
    whole = torch.ones(bert.config.vocab_size)
    whole[-9:] = 0
    ids = torch.arange(20).reshape(2, 10)
    assert torch.equal(embedded(factorise(bert, 8, whole), ids), embedded(factorise(bert, 8, whole[:-9].clone()), ids))


@pytest.mark.parametrize("size", [1, 32])
def test_sizes_that_save_nothing_are_refused(bert, size):
    with pytest.raises(ValueError, match="between 2 and 31"):
        factorise(bert, size, torch.ones(bert.config.vocab_size))


def test_wrong_counts_and_models_are_refused(bert):
    with pytest.raises(ValueError, match="counts are given for"):
        factorise(bert, 8, torch.ones(bert.config.vocab_size + 1))
    decoder = BertLMHeadModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(ValueError, match="only a BERT encoder"):
        factorise(decoder, 4, torch.ones(9))
