"""Perplexity, bits per byte and accuracy against a loop over tokens, with real tokenizers trained on the spot.

Run: pytest tests/evaluate/test_language.py
"""

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from stillroom.evaluate import language
from stillroom.evaluate.language import evaluate_language, token_losses, trained_bytes
from stillroom.signals import Batch

TEXTS = ["The cat sat on the mat, and purred.", "Où est la gare ? Là-bas.", "東京の冬は晴れ", "def f(x): return x + 1"]


def tokenizer(kind):
    if kind == "bytes":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>")
    backend.train_from_iterator(TEXTS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def batch(tokenizer, texts, prompt=0):
    """Rows of <s> text </s>, padded with </s>; the first ``prompt`` tokens of the text are not trained."""
    rows = [[0, *tokenizer(text)["input_ids"], 1] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    mask = torch.tensor([[prompt <= place < len(row) - 1 for place in range(width)] for row in rows])
    return Batch(ids=list(texts), student={"input_ids": ids}, mask=mask, labels=ids.roll(-1, dims=1))


def model(vocabulary, dtype=torch.float32):
    """A bigram model: the logits of a place depend on its token alone."""
    table = torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(0)).to(dtype)
    return lambda batch: table[batch.student["input_ids"]]


def slow(batches, logits):
    """Negative log-likelihoods and hits, token by token in double precision."""
    nats, hits = [], []
    for one in batches:
        for b, t in zip(*one.mask.nonzero(as_tuple=True), strict=True):
            row = logits(one)[b, t].double().numpy()
            nats.append(math.log(np.exp(row).sum()) - row[one.labels[b, t]])
            hits.append(row.argmax() == one.labels[b, t])
    return nats, hits


@pytest.mark.parametrize("sizes", [(4,), (1, 3), (1, 1, 1, 1)])
def test_any_split_gives_what_a_loop_over_tokens_gives(sizes, monkeypatch):
    monkeypatch.setattr(language, "TOKENS_AT_ONCE", 5)
    own = tokenizer("bytes")
    logits = model(len(own))
    batches = [batch(own, [str(text) for text in part]) for part in np.split(np.array(TEXTS), np.cumsum(sizes)[:-1])]
    nats, hits = slow([batch(own, TEXTS)], logits)
    found = evaluate_language(batches, logits, count_bytes=trained_bytes(own))
    size = sum(len(text.encode()) for text in TEXTS)
    assert found == pytest.approx(
        {
            "nats_per_token": np.mean(nats),
            "perplexity": math.exp(np.mean(nats)),
            "next_token_accuracy": np.mean(hits),
            "tokens": len(nats),
            "bits_per_byte": sum(nats) / math.log(2) / size,
            "bytes": size,
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("kind", ["bytes", "unigram"])
@pytest.mark.parametrize("prompt", [0, 3])
def test_bytes_are_those_of_the_trained_text(kind, prompt):
    own = tokenizer(kind)
    count = trained_bytes(own)
    for text in TEXTS:
        ids = own(text)["input_ids"]
        size = len(own.decode(ids).encode()) - len(own.decode(ids[:prompt], skip_special_tokens=True).encode())
        assert count(batch(own, [text], prompt)) == size
        if not prompt:
            assert size == len(text.encode())


def test_a_run_keeps_the_space_before_its_first_word():
    own = tokenizer("unigram")
    one = batch(own, ["The cat sat"])
    tokens = own.convert_ids_to_tokens(one.labels[0].tolist())
    second = [place for place, token in enumerate(tokens) if token.startswith("▁")][1]
    one.mask[0, :second] = False
    assert trained_bytes(own)(one) == len(" cat sat")


def test_several_runs_in_a_row_add_up():
    own = tokenizer("bytes")
    one = batch(own, ["The cat sat on the mat, and purred."])
    whole = trained_bytes(own)(one)
    hole = int(one.mask.sum()) // 2
    one.mask[0, hole] = False
    lost = len(own.decode(one.labels[0, hole : hole + 1]).encode())
    assert trained_bytes(own)(one) == whole - lost


def test_bits_per_byte_ignore_how_the_text_was_cut_into_tokens():
    # A model that finds all tokens equally likely pays log2(V) bits a token, whatever V is.
    for kind in ("bytes", "unigram"):
        own = tokenizer(kind)
        one = batch(own, TEXTS)
        found = evaluate_language(
            [one], lambda one, own=own: torch.zeros(*one.mask.shape, len(own)), count_bytes=trained_bytes(own)
        )
        size = sum(len(text.encode()) for text in TEXTS)
        assert found["perplexity"] == pytest.approx(len(own), rel=1e-5)
        assert found["bits_per_byte"] == pytest.approx(int(one.mask.sum()) * math.log2(len(own)) / size, rel=1e-5)


def test_only_masked_places_are_read():
    one = batch(tokenizer("bytes"), TEXTS)
    logits = model(320)(one)
    clean = token_losses(logits, one.labels, one.mask)
    logits[~one.mask] = math.nan
    labels = one.labels.masked_fill(~one.mask, -100)
    assert token_losses(logits, labels, one.mask) == clean


def test_half_precision_is_measured_in_single():
    one = batch(tokenizer("bytes"), TEXTS)
    table = model(320, torch.bfloat16)
    expected = evaluate_language([one], lambda one: table(one).float())
    assert evaluate_language([one], table) == expected


def test_a_hopeless_model_has_infinite_perplexity():
    one = batch(tokenizer("bytes"), TEXTS[:1])
    wrong = torch.full((*one.mask.shape, 320), 0.0).scatter_(-1, one.labels.unsqueeze(-1), -5000.0)
    assert evaluate_language([one], lambda one: wrong)["perplexity"] == math.inf


def test_bad_input():
    one = batch(tokenizer("bytes"), TEXTS)
    with pytest.raises(ValueError, match="don't fit"):
        token_losses(torch.zeros(4, 3, 320), one.labels, one.mask)
    with pytest.raises(ValueError, match="no place was in the mask"):
        evaluate_language([], model(320))
    one.mask = torch.zeros_like(one.mask)
    with pytest.raises(ValueError, match="no place was in the mask"):
        evaluate_language([one], model(320))
    one.labels = None
    with pytest.raises(ValueError, match="no labels"):
        evaluate_language([one], model(320))
