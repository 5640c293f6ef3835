"""Two tokenizations of one text: where tokens end, in bytes, and which places of two models belong together.

.venv/bin/python -m pytest tests/blocks/test_alignment.py
"""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from stillroom.blocks.alignment import UNKNOWN, byte_ends, same_places
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM

CHAT = (
    "{% for message in messages %}<{{ message.role }}>:{{ message.content }}{% if message.role == 'assistant' %}"
    "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>:{% endif %}"
)


def byte_level(*merges):
    """Byte-level BPE with just these merges; every other byte is a token of its own."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return wrapped(made)


def wordpiece(*words, lower=False):
    """WordPiece with these words and parts of words."""
    vocabulary = {word: number for number, word in enumerate(["[UNK]", "[CLS]", "[SEP]", *words])}
    made = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=False, handle_chinese_chars=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return wrapped(made)


def byte_fallback(*pieces):
    """As SentencePiece with bytes for what it does not know: words begin with a mark, which is no part of the text."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    made = Tokenizer(
        models.BPE(
            vocab={name: number for number, name in enumerate(names)}, merges=[], unk_token="<unk>", byte_fallback=True
        )
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return wrapped(made)


def wrapped(made):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHAT
    return tokenizer


def cuts(tokenizer, text, **settings):
    ids, ends = byte_ends(tokenizer, text, **settings)
    return list(zip(tokenizer.convert_ids_to_tokens(ids), ends, strict=True))


# --- where tokens end -------------------------------------------------------------------------------------------------


def test_byte_level_tokens_end_within_characters_too():
    """é is c3 a9, the emoji f0 9f 99 82; Ġ is how byte-level BPE writes a space."""
    assert cuts(byte_level(("Ġ", "c")), "a cé🙂!") == [
        ("a", 1), ("Ġc", 3), ("Ã", 4), ("©", 5), ("ð", 6), ("Ł", 7), ("Ļ", 8), ("Ĥ", 9), ("!", 10),
    ]  # fmt: skip


def test_a_byte_level_token_may_hold_the_end_of_one_character_and_the_start_of_another():
    """éé as c3, a9 c3, a9: the token in the middle lies across both."""
    assert cuts(byte_level(("©", "Ã")), "éé") == [("Ã", 1), ("©Ã", 3), ("©", 4)]


def test_wordpieces_end_with_their_characters():
    """naïver is 7 bytes; the space belongs to no token; 東 and 京 have three bytes each."""
    tokenizer = wordpiece("na", "##ï", "##ver", "東", "京", "!")
    assert cuts(tokenizer, "naïver 東京!") == [("na", 2), ("##ï", 4), ("##ver", 7), ("東", 11), ("京", 14), ("!", 15)]


def test_an_unknown_word_ends_where_it_ends_and_lower_case_does_not_move_anything():
    tokenizer = wordpiece("käse", "und", lower=True)
    assert cuts(tokenizer, "KÄSE  Brot und") == [("käse", 5), ("[UNK]", 11), ("und", 15)]


def test_special_tokens_have_read_what_stands_before_them():
    assert cuts(wordpiece("ab"), "ab", add_special_tokens=True) == [("[CLS]", 0), ("ab", 2), ("[SEP]", 2)]


def test_single_bytes_of_sentencepiece_are_known_only_where_the_character_ends():
    assert cuts(byte_fallback("▁", "a", "b"), "a é b")[1:] == [
        ("a", 1), ("▁", 2), ("<0xC3>", UNKNOWN), ("<0xA9>", 4), ("▁", 5), ("b", 6),
    ]  # fmt: skip


def test_a_space_that_the_tokenizer_puts_first_is_not_counted():
    tokenizer = byte_level(("Ġ", "a"))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    assert cuts(tokenizer, "aé") == [("Ġa", 1), ("Ã", 2), ("©", 3)]


@pytest.mark.parametrize("text", ["", "  x  ", "a\n\tb", "東京 é🙂é naïve", "<|end|> a<|pad|>é"])
def test_all_bytes_are_read_in_order(text):
    for tokenizer in (byte_level(("Ġ", "a"), ("©", "ð")), byte_fallback("▁", "a", "b")):
        ids, ends = byte_ends(tokenizer, text)
        known = [end for end in ends if end != UNKNOWN]
        assert len(ids) == len(ends) and known == sorted(known)
        assert not text or known[-1] == len(text.encode())


# --- which places belong together -------------------------------------------------------------------------------------


def places(own, other):
    """The places of two rows of as many reads, all of them masked, that are the same."""
    masks = [torch.ones(1, len(read), dtype=torch.bool) for read in (own, other)]
    found = same_places(torch.tensor([own]), masks[0], torch.tensor([other]), masks[1])
    return [mask[0].nonzero().flatten().tolist() for mask in found]


def test_places_that_have_read_as_much():
    assert places([0, 2, 5, 9], [0, 1, 2, 9, 12]) == [[0, 1, 3], [0, 2, 3]]
    assert places([0, 2, 2, 5], [0, 0, 2, 5]) == [[0, 2, 3], [1, 2, 3]]  # of equals the last
    assert places([0, UNKNOWN, 4], [0, UNKNOWN, 4]) == [[0, 2], [0, 2]]
    assert places([7], [8]) == [[], []]


def test_only_masked_places_count():
    own, other = torch.tensor([[0, 0, 3, 6]] * 2), torch.tensor([[0, 3, 6]] * 2)
    mask = torch.tensor([[False, True, True, True], [False, True, False, True]])
    counterpart = torch.tensor([[True, True, False], [True, True, True]])
    ours, theirs = same_places(own, mask, other, counterpart)
    assert ours.tolist() == [[False, True, True, False], [False, True, False, True]]
    assert theirs.tolist() == [[True, True, False], [True, False, True]]


# --- views ------------------------------------------------------------------------------------------------------------

STUDENT = byte_level(("Ġ", "t"), ("Ġt", "w"), ("Ġtw", "o"))
TEACHER = wordpiece("is", "two", "##s", "é", "<", ">", "assistant", "user", "say", ":")


def batch_of(rows, unit, **settings):
    views = [CausalLM(tokenizer, **settings).counting(unit) for tokenizer in (STUDENT, TEACHER)]
    return make_batch(*views, [{"student": views[0].encode(row), "teacher": views[1].encode(row)} for row in rows])


def pairs(batch, row=0):
    """Which label of the student stands beside which of the teacher, by name."""
    theirs = torch.roll(batch.teacher["input_ids"], -1, 1)
    ours = STUDENT.convert_ids_to_tokens(batch.labels[row][batch.shared[row]].tolist())
    others = TEACHER.convert_ids_to_tokens(theirs[row][batch.teacher_mask[row]].tolist())
    assert len(ours) == len(others)
    return list(zip(ours, others, strict=True))


def test_bytes_set_what_follows_the_same_text_side_by_side():
    """The student cuts " twos é" as Ġtwo s Ġ c3 a9 end, the teacher as two ##s é end."""
    batch = batch_of([{"prompt": "is", "completion": " twos é"}], "bytes")
    assert pairs(batch) == [("Ġtwo", "two"), ("s", "##s"), ("Ġ", "é"), ("<|end|>", "<|end|>")]
    assert batch.shared.sum() == 4 and batch.mask.sum() == 6 and (batch.mask | ~batch.shared).all()


def test_numbers_set_the_nth_token_beside_the_nth_and_leave_the_tail():
    batch = batch_of([{"prompt": "is", "completion": " twos é"}], "index")
    assert pairs(batch) == [("Ġtwo", "two"), ("s", "##s"), ("Ġ", "é"), ("Ã", "<|end|>")]


def test_each_turn_of_a_chat_is_aligned_by_itself():
    messages = [
        {"role": "user", "content": "say"},
        {"role": "assistant", "content": "two é"},
        {"role": "user", "content": "say two"},
        {"role": "assistant", "content": "twos"},
    ]
    batch = batch_of([{"messages": messages}], "bytes")
    wanted = [("t", "two"), ("Ġ", "é"), ("<|end|>", "<|end|>"), ("t", "two"), ("s", "##s"), ("<|end|>", "<|end|>")]
    assert pairs(batch) == wanted
    by_number = pairs(batch_of([{"messages": messages}], "index"))
    assert by_number == [("t", "two"), ("w", "é"), ("o", "<|end|>"), ("t", "two"), ("w", "##s"), ("o", "<|end|>")]


def test_rows_that_are_cut_stay_aligned():
    row = {"prompt": "is two two two", "completion": " twos é"}
    batch = batch_of([row, {"prompt": "is", "completion": " two"}], "bytes", max_length=6)
    assert batch.student["input_ids"].shape[1] <= 6
    assert pairs(batch)[:3] == [("Ġtwo", "two"), ("s", "##s"), ("Ġ", "é")]
    assert pairs(batch, 1) == [("Ġtwo", "two"), ("<|end|>", "<|end|>")]


def test_a_view_that_counts_reads_the_same_tokens_and_has_another_fingerprint():
    plain = CausalLM(STUDENT)
    row = {"prompt": "is", "completion": " twos é"}
    for unit in ("index", "bytes"):
        view = plain.counting(unit)
        assert view.encode(row)["input_ids"] == plain.encode(row)["input_ids"]
        assert view.fingerprint != plain.fingerprint
    assert plain.counting("bytes").fingerprint != plain.counting("index").fingerprint
    assert "read" not in plain.encode(row)
