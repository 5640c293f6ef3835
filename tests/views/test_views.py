"""How each kind of model reads a row: what is trained, where it stands in the tensors, what becomes of too long rows.

.venv/bin/python -m pytest tests/views/test_views.py
"""

import copy
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from stillroom.errors import UserError
from stillroom.recipe import Scratch
from stillroom.signals import Batch, Signals
from stillroom.students.open import new_model, train_tokenizer
from stillroom.teachers.local import LocalTeacher, realign
from stillroom.views import locate as locating
from stillroom.views.base import make_batch, pad, row_key, run, tokenizer_hash
from stillroom.views.causal_lm import CausalLM
from stillroom.views.encoder import MaskedLM, TextClassifier, TextEncoder
from stillroom.views.image import ImageClassifier, ImageEncoder
from stillroom.views.load import kind_of, open_model, view_class
from stillroom.views.locate import locate
from stillroom.views.ranking import BiEncoder, CrossEncoder
from stillroom.views.sentence import SentenceEncoder, text_id
from stillroom.views.vocabulary import compare

# One word, one id, so that every expectation below can be read off the row.
WORDS = [
    "<pad>",
    "<end>",
    "<unk>",
    "[CLS]",
    "[SEP]",
    "user:",
    "bot:",
    "sys:",
    "two",
    "plus",
    "is",
    "four",
    "five",
    "thanks",
    "bye",
    "good",
    "think",
    "so",
    "yes",
    "no",
    "more",
]
PAD, END, UNK = 0, 1, 2
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }} <end> {% endfor %}"
ASK = "{% if add_generation_prompt %}bot: {% endif %}"


PLAIN = TURNS.replace("m.role", "{'user':'user','assistant':'bot','system':'sys'}[m.role]") + ASK


def words(vocabulary=WORDS, template=PLAIN, **names):
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    settings = {"eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unk>"} | names
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    made.chat_template = template
    return made


def encoders():
    """The same words between [CLS] and [SEP]."""
    tokenizer = words(cls_token="[CLS]", sep_token="[SEP]", eos_token=None)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))],
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


def ids(text):
    return [WORDS.index(word) for word in text.split()]


def said(view, row):
    """The tokens of a row, and those of them that are trained, in words."""
    encoded = view.encode(row)
    tokens = [WORDS[place] for place in encoded["input_ids"]]
    trained = [word for word, yes in zip(tokens, encoded["trained"], strict=True) if yes]
    return " ".join(tokens), " ".join(trained)


# --- language models: what is trained ---------------------------------------------------------------------------------


def test_all_of_a_text_and_its_end_are_trained():
    assert said(CausalLM(words()), {"text": "two plus two"}) == ("two plus two <end>", "two plus two <end>")


def test_of_a_completion_only_the_answer_and_its_end_are_trained():
    row = {"prompt": "two plus two is", "completion": "four"}
    assert said(CausalLM(words()), row) == ("two plus two is four <end>", "four <end>")
    assert said(CausalLM(words(), end=False), row) == ("two plus two is four", "four")


CHAT = [
    {"role": "system", "content": "good"},
    {"role": "user", "content": "two plus two"},
    {"role": "assistant", "content": "is four"},
    {"role": "user", "content": "thanks"},
    {"role": "assistant", "content": "bye"},
]


def test_of_a_chat_every_turn_of_the_assistant_and_its_end_are_trained():
    whole = "sys: good <end> user: two plus two <end> bot: is four <end> user: thanks <end> bot: bye <end>"
    assert said(CausalLM(words()), {"messages": CHAT}) == (whole, "is four <end> bye <end>")


def test_a_chat_that_closes_with_the_user_trains_on_what_the_assistant_said_before():
    assert said(CausalLM(words()), {"messages": CHAT[:4]})[1] == "is four <end>"


def test_a_template_that_rewrites_earlier_turns_leaves_the_last_turn_to_train_on():
    """Thoughts are shown in the last turn only, as reasoning models' templates do."""
    template = (
        "{% for m in messages %}{{ 'bot' if m.role == 'assistant' else 'user' }}: "
        "{% if m.role == 'assistant' and loop.last %}think so {% endif %}{{ m.content }} <end> {% endfor %}" + ASK
    )
    whole, trained = said(CausalLM(words(template=template)), {"messages": CHAT[1:]})
    assert whole == "user: two plus two <end> bot: is four <end> user: thanks <end> bot: think so bye <end>"
    assert trained == "think so bye <end>"


def test_a_template_without_a_generation_prompt_of_its_own_is_refused():
    other = "{% if add_generation_prompt %}no {% endif %}"
    view = CausalLM(words(template=TURNS + other))
    with pytest.raises(UserError, match="generation prompt is not a prefix"):
        view.encode({"messages": CHAT})


def test_the_prompt_to_answer():
    view = CausalLM(words())
    assert view.prompt({"prompt": "two plus", "completion": "two"}) == ids("two plus")
    asked = ids("sys: good <end> user: two plus two <end> bot: is four <end> user: thanks <end> bot:")
    assert view.prompt({"messages": CHAT}) == view.prompt({"messages": CHAT[:4]}) == asked
    with pytest.raises(UserError, match="no prompt to answer"):
        view.prompt({"text": "two"})


def test_a_tokenizer_without_an_end_is_refused_unless_none_is_wanted():
    with pytest.raises(UserError, match="end-of-sequence"):
        CausalLM(words(eos_token=None))
    assert said(CausalLM(words(eos_token=None), end=False), {"text": "two plus"})[1] == "two plus"


def test_bytes_of_one_letter_stay_with_their_turn():
    """A byte-level tokenizer cuts letters into several tokens; none of them may be lost, none of the user's trained."""
    tokenizer = train_tokenizer(["plain"] * 3, 300)
    row = {"messages": [{"role": "user", "content": "東 🙂"}, {"role": "assistant", "content": "🙂 naïve 東"}]}
    encoded = CausalLM(tokenizer).encode(row)
    trained = [place for place, yes in zip(encoded["input_ids"], encoded["trained"], strict=True) if yes]
    assert tokenizer.decode(trained) == "🙂 naïve 東<|end|>"


# --- language models: where it stands ---------------------------------------------------------------------------------


def test_labels_and_mask_stand_where_the_logits_speak_of_them():
    view = CausalLM(words())
    rows = [{"prompt": "two plus two is", "completion": "four"}, {"prompt": "two is", "completion": "two"}]
    batch = view.collate([view.encode(row) for row in rows])
    assert batch.arguments["input_ids"].tolist() == [
        ids("two plus two is four <end>"),
        [*ids("two is two <end>"), 0, 0],
    ]
    assert batch.arguments["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0]]
    no, yes = False, True
    # place 3 reads "is" and predicts "four"; place 4 reads "four" and predicts the end
    assert batch.mask.tolist() == [[no, no, no, yes, yes, no], [no, yes, yes, no, no, no]]
    assert batch.labels[batch.mask].tolist() == ids("four <end> two <end>")


def test_where_pad_is_the_end_the_end_is_trained_and_padding_is_not():
    view = CausalLM(words(pad_token="<end>"))
    batch = view.collate([view.encode({"text": text}) for text in ("two plus two", "two")])
    assert batch.labels[batch.mask].tolist() == ids("plus two <end> <end>")
    assert batch.arguments["attention_mask"].sum(-1).tolist() == [4, 2]


def test_the_first_token_of_a_text_is_predicted_from_nothing_and_so_not_trained():
    batch = (view := CausalLM(words())).collate([view.encode({"text": "two plus"})])
    assert batch.labels[batch.mask].tolist() == ids("plus <end>")


# --- language models: too long ----------------------------------------------------------------------------------------

LONG = {"prompt": "two plus two plus two is", "completion": "so four"}


@pytest.mark.parametrize(
    ("length", "whole", "trained"),
    [
        (9, "two plus two plus two is so four <end>", "so four <end>"),
        (6, "plus two is so four <end>", "so four <end>"),
        (4, "is so four <end>", "so four <end>"),
        (3, "is so four", "so four"),  # one token of the prompt always stays, for the answer's first to be predicted
    ],
)
def test_a_prompt_loses_its_left_and_then_the_answer_its_right(length, whole, trained):
    view = CausalLM(words(), max_length=length)
    assert said(view, LONG) == (whole, trained)
    assert view.encode(LONG)["shortened"] == (length < 9) and view.encode(LONG)["dropped"] == ""


def test_a_text_loses_its_right():
    assert said(CausalLM(words(), max_length=2), {"text": "two plus two"})[0] == "two plus"


def test_long_rows_are_left_out_where_that_is_the_rule():
    view = CausalLM(words(), max_length=8, overflow="drop")
    assert view.encode(LONG)["dropped"] == "longer than 8 tokens"
    assert view.encode({"text": "two"})["dropped"] == ""


def test_a_row_with_nothing_to_train_on_is_left_out():
    view = CausalLM(words(), end=False)
    assert view.encode({"prompt": "two", "completion": " "})["dropped"] == "no token to train on"
    assert view.encode({"text": "two"})["dropped"] == "no token to train on"
    assert view.encode({"text": "two plus"})["dropped"] == ""


# --- language models: what they emit ----------------------------------------------------------------------------------


class Echo(nn.Module):
    """Gives logits [B, T, 40] that count up, and hidden states."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 1, bias=False)

    def forward(self, input_ids, output_hidden_states=False, output_attentions=False, **_):
        shape = (*input_ids.shape, 40)
        tapped = self.inner(torch.ones(1))
        states = tuple(torch.full((*input_ids.shape, 3), float(n)) for n in range(3)) if output_hidden_states else None
        logits = torch.arange(40.0).expand(shape) + 0 * tapped
        return SimpleNamespace(logits=logits, hidden_states=states, attentions=(None,) if output_attentions else None)


def test_padded_ids_of_a_vocabulary_are_cut_off():
    view = CausalLM(words())
    batch = view.collate([view.encode({"text": "two plus"})])
    assert view.emit(Echo(), batch.arguments, ("logits",)).logits.shape == (1, 3, len(WORDS))
    view.vocabulary = 7
    assert view.emit(Echo(), batch.arguments, ("logits",)).logits[0, 0].tolist() == list(range(7))
    assert view.emit(Echo(), batch.arguments, ()).logits is None


def test_hidden_states_by_number_from_either_side_and_taps_by_name():
    arguments = {"input_ids": torch.zeros(1, 2, dtype=torch.long)}
    _, signals = run(Echo(), arguments, ("hidden:-1", "hidden:0", "tap:inner"))
    assert sorted(signals.hidden) == [0, 2] and float(signals.hidden[2].mean()) == 2.0 and "inner" in signals.taps
    assert sorted(run(Echo(), arguments, ("hidden:all",))[1].hidden) == [0, 1, 2]
    with pytest.raises(ValueError, match="there is no 3"):
        run(Echo(), arguments, ("hidden:3",))
    with pytest.raises(ValueError, match="eager"):
        run(Echo(), arguments, ("attentions:0",))
    with pytest.raises(ValueError, match="nearest is 'inner'"):
        run(Echo(), arguments, ("tap:iner",))


# --- teachers with another prompt -------------------------------------------------------------------------------------


def test_a_teachers_logits_move_to_the_students_places():
    """The teacher saw two more words before the same answer."""
    student, teacher = CausalLM(words(), max_length=16), CausalLM(words(), max_length=17)
    short = {"prompt": "two plus two is", "completion": "four", "id": "a"}
    long = {"prompt": "so yes two plus two is", "completion": "four", "id": "a"}
    rows = [{"student": student.encode(short), "teacher": teacher.encode(long) | {"id": student.encode(short)["id"]}}]
    batch = make_batch(student, teacher, rows)
    assert batch.mask.nonzero().tolist() == [[0, 3], [0, 4]] and batch.teacher_mask.nonzero().tolist() == [
        [0, 5],
        [0, 6],
    ]

    class Places(nn.Module):
        def forward(self, input_ids, **_):
            return SimpleNamespace(logits=torch.arange(input_ids.shape[1]).float()[None, :, None].expand(1, -1, 40))

    logits = LocalTeacher(Places(), teacher)(batch, ("logits",)).logits
    assert logits[0, :, 0].tolist() == [0, 0, 0, 5, 6, 0]


def test_answers_of_different_length_are_not_aligned():
    with pytest.raises(ValueError, match="row 1 has 2 trained tokens in the teacher's view and 1"):
        realign(
            torch.zeros(2, 3, 1), torch.tensor([[1, 0, 0], [1, 1, 0]]).bool(), torch.tensor([[0, 1], [1, 0]]).bool()
        )


def test_views_of_different_rows_do_not_make_a_batch():
    view, other = CausalLM(words()), CausalLM(words(), max_length=9)
    with pytest.raises(ValueError, match="the teacher's view has rows"):
        make_batch(
            view, other, [{"student": view.encode({"text": "two two"}), "teacher": other.encode({"text": "no no"})}]
        )


# --- sentences --------------------------------------------------------------------------------------------------------


def test_every_text_of_a_sentence_row_stands_alone():
    view = SentenceEncoder(encoders())
    rows = [
        {"anchor": "two", "positive": "two plus", "negative": ["four", "five"]},
        {"text": "no"},
        {"anchor": "no", "positive": "yes", "negative": "two"},
    ]
    batch = view.collate([view.encode(row) for row in rows])
    texts = ["two", "two plus", "four", "five", "no", "no", "yes", "two"]
    assert batch.ids == [text_id(text) for text in texts]
    assert batch.ids[4] == batch.ids[5] and batch.ids[0] == batch.ids[7]  # the same text, the same vector in a cache
    assert batch.columns["pairs"].tolist() == [[0, 1], [5, 6]] and batch.columns["negatives"].tolist() == [2, 3, 7]
    assert batch.arguments["input_ids"][1].tolist() == ids("[CLS] two plus [SEP]")
    assert batch.arguments["attention_mask"].sum(-1).tolist() == [3, 4, 3, 3, 3, 3, 3, 3]
    whole = Batch(ids=batch.ids, student=batch.arguments, mask=batch.mask, columns=batch.columns)
    assert int(whole.counts()["row"]) == 8 and int(whole.counts()["pair"]) == 2


def test_rows_of_single_texts_have_no_pairs():
    view = SentenceEncoder(encoders())
    batch = view.collate([view.encode({"text": "two"})])
    assert batch.columns["pairs"].shape == (0, 2) and batch.columns["negatives"].shape == (0,)


@pytest.mark.parametrize("view", [SentenceEncoder(encoders(), max_length=4), TextEncoder(encoders(), max_length=4)])
def test_long_texts_are_cut_on_the_right_and_said(view):
    long, short = (view.encode({"text": text}) for text in ("two plus two plus", "two"))
    found = long["texts"][0] if "texts" in long else long["input_ids"]
    assert found == ids("[CLS] two plus [SEP]") and long["length"] == 4
    assert long["shortened"] and not short["shortened"]


# --- encoders ---------------------------------------------------------------------------------------------------------


def test_an_encoder_reads_texts_and_labels():
    view = TextClassifier(encoders())
    batch = view.collate([view.encode({"text": "two plus", "label": 1}), view.encode({"text": "no", "label": 0})])
    assert batch.arguments["input_ids"].tolist() == [ids("[CLS] two plus [SEP]"), [*ids("[CLS] no [SEP]"), PAD]]
    assert batch.labels.tolist() == [1, 0] and batch.mask.tolist() == [True, True]
    assert view.collate([view.encode({"text": "no"})]).labels is None


# --- rankings ---------------------------------------------------------------------------------------------------------

RANKED = [
    {"anchor": "two plus two", "positive": "four", "negative": ["five", "no more"]},
    {"anchor": "thanks", "positive": "bye"},
]


class Sums(nn.Module):
    """A sentence encoder whose vector is [number of tokens, sum of ids]."""

    def forward(self, features):
        real = features["attention_mask"].float()
        vectors = torch.stack([real.sum(-1), (features["input_ids"] * real).sum(-1)], -1)
        return {"sentence_embedding": vectors}


def test_a_bi_encoder_scores_by_inner_products_and_keeps_rows_apart():
    view = BiEncoder(encoders(), query_length=4)
    batch = view.collate([view.encode(row) for row in RANKED])
    assert batch.arguments["query_input_ids"].tolist() == [ids("[CLS] two plus [SEP]"), [*ids("[CLS] thanks [SEP]"), 0]]
    assert batch.columns["candidates"].tolist() == [[True, True, True], [True, False, False]]
    scores = view.emit(Sums(), batch.arguments, ("scores",)).scores

    def vector(text):
        return np.array([len(text.split()), sum(ids(text))])

    first = [vector("[CLS] two plus [SEP]") @ vector(f"[CLS] {text} [SEP]") for text in ("four", "five", "no more")]
    second = vector("[CLS] thanks [SEP]") @ vector("[CLS] bye [SEP]")
    assert scores.tolist() == [first, [second, 0, 0]]


def test_a_cross_encoder_reads_both_together_and_cuts_the_candidate():
    view = CrossEncoder(encoders(), max_length=7)
    batch = view.collate([view.encode(row) for row in RANKED])
    assert batch.arguments["input_ids"].tolist() == [
        ids("[CLS] two plus two [SEP] four [SEP]"),
        ids("[CLS] two plus two [SEP] five [SEP]"),
        ids("[CLS] two plus two [SEP] no [SEP]"),
        [*ids("[CLS] thanks [SEP] bye [SEP]"), PAD, PAD],
    ]
    assert batch.arguments["token_type_ids"].tolist()[2:] == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0]]

    class Lengths(nn.Module):
        def forward(self, attention_mask, **arguments):
            assert "candidates" not in arguments
            return SimpleNamespace(logits=attention_mask.sum(-1, keepdim=True).float(), hidden_states=None)

    assert view.emit(Lengths(), batch.arguments, ("scores",)).scores.tolist() == [[7, 7, 7], [5, 0, 0]]


def test_segments_are_left_out_where_the_model_reads_none():
    tokenizer = encoders()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    view = CrossEncoder(tokenizer)
    assert "token_type_ids" not in view.collate([view.encode(RANKED[0])]).arguments


# --- images -----------------------------------------------------------------------------------------------------------


def png(array, mode=None):
    from PIL import Image

    image, file = Image.fromarray(np.asarray(array)), io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, "png")
    return file.getvalue()


SQUARE = np.array([[0, 255], [51, 0]], dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        SQUARE,
        SQUARE / 255,
        (SQUARE / 255).tolist(),
        png(SQUARE),
        png(SQUARE, "RGB"),
        png(SQUARE, "P"),
        np.stack([SQUARE] * 3, -1),
        np.stack([SQUARE] * 3),
        SQUARE.tolist(),
        SQUARE.astype(np.uint16) * 257,
        png(SQUARE.astype(np.uint16) * 257),
    ],
    ids=[
        "bytes",
        "floats",
        "lists",
        "grey-file",
        "colour-file",
        "palette-file",
        "last",
        "first",
        "integers",
        "16-bit-numbers",
        "16-bit-file",
    ],
)
def test_an_image_is_the_same_however_it_comes(image):
    for channels in (1, 3):
        view = ImageClassifier(size=2, channels=channels)
        batch = view.collate([view.encode({"image": image, "label": 3})])
        expected = torch.tensor([[[[-1.0, 1.0], [-0.6, -1.0]]] * channels])
        torch.testing.assert_close(batch.arguments["pixel_values"], expected)
        assert batch.labels.tolist() == [3]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_picture_that_a_data_set_has_opened_is_read_as_its_file(mode):
    """A data set of files gives opened pictures, in whatever mode they were saved."""
    from PIL import Image

    colours = np.zeros((4, 4, 3), dtype=np.uint8)
    colours[..., 0] = 200
    file = png(colours, mode)
    view = ImageClassifier(size=4)
    torch.testing.assert_close(view.pixels(Image.open(io.BytesIO(file))), view.pixels(file))


def test_images_are_resized_and_colours_become_grey():
    colours = np.zeros((4, 8, 3), dtype=np.uint8)
    colours[..., 0] = 255
    view = ImageClassifier(size=2, channels=1)
    assert torch.allclose(view.pixels(colours), torch.full((1, 2, 2), 1 / 3))


def test_what_is_no_image_is_refused():
    with pytest.raises(UserError, match="can't be decoded"):
        ImageClassifier(size=2).encode({"image": b"no image"})
    with pytest.raises(UserError, match=r"numbers from 0\.0 to 255\.0"):
        ImageClassifier(size=2).encode({"image": SQUARE.astype(float)})
    with pytest.raises(UserError, match=r"shape \[4, 2, 2\]"):
        ImageClassifier(size=2).encode({"image": np.zeros((4, 2, 2))})
    with pytest.raises(UserError, match="1 or 3 channels"):
        ImageClassifier(channels=2)


# --- names of rows and of views ---------------------------------------------------------------------------------------


def test_a_row_is_named_by_its_id_and_its_content():
    row = {"id": "7", "text": "two"}
    assert row_key(row).startswith("7#") and row_key(row) == row_key({"text": "two", "id": "7", "more": None})
    assert row_key({"text": "two"}) == row_key(row).removeprefix("7#")
    others = [{"id": "7", "text": "four"}, {"id": "8", "text": "two"}, {"id": "7", "text": "two", "label": 1}]
    assert len({row_key(other) for other in [row, *others]}) == 4


def test_a_decoded_picture_has_the_same_name_in_every_process():
    from PIL import Image

    one, other = Image.fromarray(SQUARE), Image.fromarray(SQUARE)
    assert row_key({"image": one}) == row_key({"image": other}) != row_key({"image": Image.fromarray(SQUARE + 1)})


def test_arrays_that_differ_anywhere_have_other_names():
    """Shown as text, a large array is its corners."""
    one, other = np.zeros((100, 100)), np.zeros((100, 100))
    other[50, 50] = 1
    for wrap in (lambda array: array, lambda array: [array], lambda array: {"of": array}, torch.from_numpy):
        assert row_key({"image": wrap(one)}) == row_key({"image": wrap(one.copy())}) != row_key({"image": wrap(other)})


def test_no_two_views_share_a_fingerprint_unless_they_read_alike():
    language, text = words(), encoders()
    smaller = words(WORDS[:-1])
    other_template = words(template=TURNS)
    views = [
        CausalLM(language),
        CausalLM(language, max_length=9),
        CausalLM(language, overflow="drop"),
        CausalLM(language, end=False),
        CausalLM(smaller),
        CausalLM(other_template),
        SentenceEncoder(text),
        SentenceEncoder(text, max_length=9),
        TextEncoder(text),
        BiEncoder(text),
        BiEncoder(text, query_length=9),
        CrossEncoder(text),
        CrossEncoder(text, max_length=9),
        ImageClassifier(size=8),
        ImageClassifier(size=9),
        ImageClassifier(size=8, channels=1),
    ]
    assert len({view.fingerprint for view in views}) == len(views)
    assert CausalLM(copy.deepcopy(language)).fingerprint == CausalLM(language).fingerprint
    assert TextEncoder(text).fingerprint == MaskedLM(text).fingerprint == TextClassifier(text).fingerprint
    assert tokenizer_hash(language) != tokenizer_hash(other_template)


def test_padding():
    padded, real = pad([[1, 2, 3], [4]], value=9, multiple=4)
    assert padded.tolist() == [[1, 2, 3, 9], [4, 9, 9, 9]]
    assert real.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert pad([])[0].shape == (0, 1) and pad([[]])[1].tolist() == [[False]]


# --- do two tokenizers agree? -----------------------------------------------------------------------------------------


def test_tokenizers_that_agree():
    found = compare(words(), words())
    assert found.usable and found.shared == len(WORDS) and "share all" in str(found)


def test_tokenizers_that_differ_in_a_few_special_tokens_share_the_rest():
    many = [*WORDS, *(f"w{n}" for n in range(300))]
    found = compare(words([*many, "<tool>", "<image>"]), words(many))
    assert found.usable and found.shared == len(many) and found.sizes == (len(many) + 2, len(many))
    assert f"0 to {len(many) - 1:,}" in str(found)


def test_the_same_words_under_other_numbers_do_not_agree():
    swapped = [*WORDS[:8], WORDS[9], WORDS[8], *WORDS[10:]]
    found = compare(words(swapped), words())
    assert not found.usable and found.shared == 8 and "agree on 8 ids only" in str(found)


def test_the_same_vocabulary_cut_otherwise_does_not_agree():
    many = [*WORDS, "def", "in", "all"]
    whole, parts = words(many), words(many)
    parts.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    found = compare(whole, parts)
    assert found.shared == len(many) and not found.usable and "split text differently" in str(found)


# --- finding and opening models ---------------------------------------------------------------------------------------

TINY = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of each kind that a tokenizer goes with, as its library saves it."""
    made = {}
    for kind, architecture in {
        "language": "llama",
        "embeddings": "bert",
        "encoder": "bert",
        "masked-lm": "bert",
        "text-classifier": "bert",
    }.items():
        made[kind] = tmp_path_factory.mktemp("models") / kind
        scratch = Scratch(architecture=architecture, config=TINY, vocabulary=300)
        new_model(scratch, kind, lambda: ["two plus two"], made[kind])
    return made


def test_the_kind_of_a_saved_model_is_read_off_its_files(folders, tmp_path):
    for kind, folder in folders.items():
        assert kind_of(str(folder)) == kind
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Strange"]}))
    with pytest.raises(UserError, match="does not say what kind"):
        kind_of(str(tmp_path))


def test_every_kind_opens_and_emits_what_is_asked(folders):
    wanted = {
        "language": ("logits", "hidden:-1"),
        "embeddings": ("embedding",),
        "encoder": ("hidden:-1",),
        "masked-lm": ("logits",),
        "text-classifier": ("logits",),
    }
    for kind, folder in folders.items():
        opened = open_model(str(folder), kind, max_length=9)
        inputs = opened.view.collate([opened.view.encode({"text": text}) for text in ("two plus", "two plus two is")])
        with torch.no_grad():
            signals = opened.view.emit(opened.model.eval(), inputs.arguments, wanted[kind])
        assert isinstance(signals, Signals) and opened.view.max_length == 9 and opened.source == str(folder)
        shapes = {
            "language": lambda s, opened=opened: (*s.mask.shape, opened.view.vocabulary),
            "masked-lm": lambda s, opened=opened: (*s.mask.shape, opened.model.config.vocab_size),
            "text-classifier": lambda s: (2, 2),
        }
        if kind in shapes:
            assert tuple(signals.logits.shape) == shapes[kind](signals)
        if kind == "embeddings":
            assert torch.allclose(signals.embedding.norm(dim=-1), torch.ones(2), atol=1e-5)
        for state in signals.hidden.values():
            assert state.shape == (*signals.mask.shape, TINY["hidden_size"])


def test_padding_does_not_change_a_sentences_vector(folders):
    opened = open_model(str(folders["embeddings"]), "embeddings")
    opened.model.eval()
    rows = [opened.view.encode({"text": text}) for text in ("two", "two plus two plus two plus two")]
    with torch.no_grad():
        alone, together = (
            opened.view.emit(opened.model, opened.view.collate(some).arguments, ("embedding",)).embedding[0]
            for some in (rows[:1], rows)
        )
    torch.testing.assert_close(alone, together)


def test_image_views_read_their_size_from_the_saved_processor(tmp_path):
    config = {"num_channels": 1, "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    new_model(Scratch(architecture="resnet", config=config), "image-encoder", list, tmp_path / "first")
    opened = open_model(str(tmp_path / "first"), "image-encoder", size=8)
    assert (opened.view.size, opened.view.channels) == (8, 1)
    opened.view.save(opened.model, tmp_path / "second")
    again = open_model(str(tmp_path / "second"), "image-encoder")
    assert isinstance(again.view, ImageEncoder) and again.view.fingerprint == opened.view.fingerprint
    batch = again.view.collate([again.view.encode({"image": SQUARE})])
    with torch.no_grad():
        assert again.view.emit(again.model.eval(), batch.arguments, ("embedding",)).embedding.shape == (1, 8)


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="'bi-encoder'"):
        view_class("bi_encoder")


def test_a_model_of_an_unknown_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="can't be opened as a model of the kind 'language'"):
        open_model(str(tmp_path), "language")


def test_a_folder_is_found_or_refused_with_the_way_out(folders, tmp_path):
    assert locate(str(folders["language"])) == folders["language"]
    assert locate(str(folders["embeddings"])) == folders["embeddings"]
    with pytest.raises(UserError, match=r"has no config\.json"):
        locate(str(tmp_path))
    with pytest.raises(UserError, match=r"there is no model folder .*did you mean .*language'"):
        locate(str(folders["language"].parent / "langauge"))


def test_without_a_network_a_hub_id_is_read_from_the_package_that_carries_it(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = locate("sentence-transformers/all-MiniLM-L6-v2")
    assert (found / "modules.json").is_file()
    with pytest.raises(UserError, match="neither a folder nor in the local cache"):
        locate("nobody/nothing")
    monkeypatch.setattr(locating, "CARRIED", {"nobody/nothing": ("no_such_package", "model", "no-such-package")})
    with pytest.raises(UserError, match="pip install no-such-package"):
        locate("nobody/nothing")
