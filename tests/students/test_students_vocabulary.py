"""Cutting a vocabulary, in tokenizers of both kinds and in models with one table, a tied head or one of its own.

Run: pytest tests/students/test_students_vocabulary.py
"""

import copy

import pytest
import torch
from tokenizers import Tokenizer, models, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from stillroom.errors import UserError
from stillroom.students.vocabulary import choose_ids, count_tokens, cut_model, cut_tokenizer

CORPUS = ["Return the number of lines in the file."] * 5
UNSEEN = ["The default folder", "zebra", "x = [1, 2]", "unable to read the smallest"]
KINDS = ["word_pieces", "byte_pairs"]


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return request.getfixturevalue(request.param)


def reduced(tokenizer, room=12):
    """A tokenizer with room for so many pieces of the corpus beside those that can't be spared, and what was kept."""
    nothing = torch.zeros(len(tokenizer), dtype=torch.long)
    size = len(choose_ids(tokenizer, nothing, len(tokenizer))) + room
    keep = choose_ids(tokenizer, count_tokens(tokenizer, CORPUS), size)
    assert len(keep) <= size
    return cut_tokenizer(tokenizer, keep), keep


def test_counts_by_hand(word_pieces):
    counts = count_tokens(word_pieces, ["the file", "the the"], chunk=1)
    vocabulary = word_pieces.get_vocab()
    assert len(counts) == len(word_pieces) and counts.sum() == 4 + 4
    assert [int(counts[vocabulary[piece]]) for piece in ("the", "file", "[CLS]", "[PAD]")] == [3, 1, 2, 0]


def test_text_made_of_kept_pieces_is_read_as_before(tokenizer):
    small, keep = reduced(tokenizer, room=70)
    assert len(keep) < len(tokenizer)
    assert [keep[new] for new in small(CORPUS[0])["input_ids"]] == tokenizer(CORPUS[0])["input_ids"]


def test_other_text_is_spelled_with_pieces_that_stay(tokenizer):
    small, keep = reduced(tokenizer, room=4)
    for text in UNSEEN:
        old, new = tokenizer(text)["input_ids"], small(text)["input_ids"]
        assert len(new) >= len(old)
        assert new.count(small.unk_token_id) == old.count(tokenizer.unk_token_id)
        assert small.decode(new, skip_special_tokens=True) == tokenizer.decode(old, skip_special_tokens=True)
    old_pieces = tokenizer.convert_ids_to_tokens(keep)
    assert small.convert_ids_to_tokens(range(len(small))) == old_pieces


def test_special_tokens_keep_their_roles(tokenizer):
    small, _ = reduced(tokenizer)
    assert small.special_tokens_map == tokenizer.special_tokens_map
    for piece in tokenizer.all_special_tokens:
        assert small.convert_tokens_to_ids(piece) == small.get_vocab()[piece] < len(small)
    first = tokenizer.convert_ids_to_tokens(tokenizer("file")["input_ids"])[0]
    assert small.convert_ids_to_tokens(small("file")["input_ids"])[0] == first


def test_special_tokens_around_a_text_are_renumbered_in_every_form(byte_pairs):
    bos, end = (byte_pairs.convert_tokens_to_ids(piece) for piece in ("<|bos|>", "<|end|>"))
    byte_pairs = copy.deepcopy(byte_pairs)
    byte_pairs.backend_tokenizer.post_processor = processors.RobertaProcessing(("<|end|>", end), ("<|bos|>", bos))
    small, _ = reduced(byte_pairs)
    ids = small("file")["input_ids"]
    assert [ids[0], ids[-1]] == [small.bos_token_id, small.eos_token_id]


def test_loads_again(tokenizer, tmp_path):
    small, _ = reduced(tokenizer)
    small.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == small.get_vocab() and again.pad_token_id == small.pad_token_id
    for text in CORPUS + UNSEEN:
        assert again(text)["input_ids"] == small(text)["input_ids"]


def test_the_most_frequent_come_first(word_pieces):
    counts = torch.zeros(len(word_pieces), dtype=torch.long)
    vocabulary = word_pieces.get_vocab()
    spared = choose_ids(word_pieces, counts, len(word_pieces))
    counts[vocabulary["file"]], counts[vocabulary["number"]] = 3, 7
    assert set(choose_ids(word_pieces, counts, len(spared) + 1)) - set(spared) == {vocabulary["number"]}
    assert choose_ids(word_pieces, counts, len(word_pieces)) == sorted(
        {*spared, vocabulary["number"], vocabulary["file"]}
    )


def test_what_a_piece_is_merged_from_stays_with_it(byte_pairs):
    vocabulary = byte_pairs.get_vocab()
    longest = max(vocabulary, key=lambda piece: (len(piece), piece) if "<" not in piece else (0, ""))
    counts = torch.zeros(len(byte_pairs), dtype=torch.long)
    counts[vocabulary[longest]] = 1
    small = cut_tokenizer(byte_pairs, choose_ids(byte_pairs, counts, len(byte_pairs)))
    assert len(small) < len(byte_pairs)
    text = byte_pairs.decode([vocabulary[longest]])
    assert small.tokenize(text) == byte_pairs.tokenize(text) == [longest]


def test_a_piece_that_does_not_fit_with_its_parts_is_left_out(byte_pairs):
    vocabulary = byte_pairs.get_vocab()
    nothing = torch.zeros(len(byte_pairs), dtype=torch.long)
    spared = choose_ids(byte_pairs, nothing, len(byte_pairs))
    counts = nothing.clone()
    counts[vocabulary["Ġthe"]] = 1  # merged from other pieces than single bytes, so it needs more than one place
    assert choose_ids(byte_pairs, counts, len(spared) + 1) == spared


def test_a_size_below_the_characters_is_refused(tokenizer):
    with pytest.raises(UserError, match=r"a vocabulary of 10 is too small: .* alone are"):
        choose_ids(tokenizer, count_tokens(tokenizer, CORPUS), 10)


def test_other_kinds_are_refused():
    unigram = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", -1.0), ("<unk>", -2.0)], 1)))
    with pytest.raises(UserError, match="Unigram tokenizer can't be cut"):
        choose_ids(unigram, torch.ones(2), 2)


def language_model(size, tied):
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        tie_word_embeddings=tied, bos_token_id=size - 2, eos_token_id=[size - 1, 3], pad_token_id=size - 1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_language_model_gives_the_kept_logits(byte_pairs, tied):
    padded = len(byte_pairs) + 7  # embedding tables often have more rows than the tokenizer has ids
    model = language_model(padded, tied)
    small_tokenizer, keep = reduced(byte_pairs)
    small = cut_model(model, keep)
    new = small_tokenizer(CORPUS[0], return_tensors="pt")["input_ids"]
    old = torch.tensor(keep)[new]
    with torch.no_grad():
        assert torch.allclose(small(new).logits, model(old).logits[..., keep], atol=1e-6)
    assert (small.lm_head.weight is small.model.embed_tokens.weight) == tied
    assert small.config.vocab_size == len(keep) and model.config.vocab_size == padded
    assert small.config.pad_token_id is None  # the last row of the padded table is no token


def test_ids_in_configurations_are_the_new_ones(byte_pairs):
    model = language_model(len(byte_pairs), tied=True)
    model.generation_config.eos_token_id = [len(byte_pairs) - 1, 3]
    small_tokenizer, keep = reduced(byte_pairs)
    small = cut_model(model, keep)
    end = small_tokenizer.eos_token_id
    assert small.config.bos_token_id == small_tokenizer.bos_token_id
    assert small.config.eos_token_id == small.generation_config.eos_token_id == [end, keep.index(3)]
    assert model.config.eos_token_id == [len(byte_pairs) - 1, 3]


def test_masked_language_model_keeps_the_bias_of_its_head(word_pieces):
    config = BertConfig(
        vocab_size=len(word_pieces), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    model = BertForMaskedLM(config).eval()
    torch.nn.init.normal_(model.cls.predictions.bias)
    small_tokenizer, keep = reduced(word_pieces)
    small = cut_model(model, keep)
    new = small_tokenizer(UNSEEN[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.allclose(small(new).logits, model(torch.tensor(keep)[new]).logits[..., keep], atol=1e-6)
    assert small.cls.predictions.bias is small.cls.predictions.decoder.bias
