"""The view of speech: frames, labels, what is dropped and refused, how a recogniser is kept; tokens hidden in turn.

.venv/bin/python -m pytest tests/views/test_speech_views.py
"""

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

from stillroom.data.files import load
from stillroom.engine.encoding import encode
from stillroom.errors import UserError
from stillroom.evaluate.speech import error_rates
from stillroom.measuring.held_out import held_out
from stillroom.recipe import Scratch
from stillroom.students.open import new_model
from stillroom.views.base import make_batch
from stillroom.views.load import kind_of, open_model

SMALL = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    **{"feature_projection_input_dim": 240, "conv_depthwise_kernel_size": 3, "mask_time_prob": 0.0},
}
TEXTS = ["turn on the lamp", "turn off the radio"]


def wave(samples, pitch=0.05):
    return np.sin(pitch * np.arange(samples)).astype("float32")


def row(samples=8000, text=TEXTS[0], **more):
    return {"audio": wave(samples).tolist(), "text": text, "sampling_rate": 16_000} | more


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "ctc"
    torch.manual_seed(0)
    new_model(Scratch(architecture="wav2vec2-bert", config=SMALL, vocabulary=300), "ctc", lambda: TEXTS, folder)
    found = open_model(str(folder), "ctc")
    found.model.eval()
    return found


def test_audio_becomes_stacked_frames_and_text_labels(opened):
    view = opened.view
    assert (view.stride, view.bins, view.rate) == (3, 80, 16_000)  # the stride is read off the model's width
    encoded = view.encode(row(16_000))
    frames = 1 + (16_000 - 400) // 160
    assert encoded["length"] == frames // 3 and not encoded["dropped"]
    assert view.tokenizer.decode(encoded["labels"]) == TEXTS[0] and not set(encoded["labels"]) & set(
        view.tokenizer.all_special_ids
    )
    found = view.frames(wave(16_000))
    assert found.shape == (frames // 3, 240)
    single = found.reshape(-1, 80)  # mean 0 and variance 1 in each bin, over all frames but a left-out last one
    assert np.abs(single.mean(0)).max() < 0.05 and np.abs(single.std(0) - 1).max() < 0.2


def test_a_batch_has_masks_of_frames_and_of_labels(opened):
    view = opened.view
    rows = [row(16_000), row(8_000, text="the lamp")]
    batch = make_batch(view, None, [{"student": view.encode(one)} for one in rows])
    sizes = [len(view.frames(np.asarray(one["audio"]))) for one in rows]
    assert batch.student["attention_mask"].sum(-1).tolist() == sizes and batch.student["input_features"].shape == (
        2,
        sizes[0],
        240,
    )
    counted = [len(view.tokenizer(one["text"], add_special_tokens=False)["input_ids"]) for one in rows]
    assert batch.mask.sum(-1).tolist() == counted and (batch.labels[~batch.mask] == view.blank).all()
    with torch.no_grad():
        found = view.emit(opened.model, batch.student, ("logits", "hidden:1", "tap:head:1", "tap:head:2"))
    assert torch.equal(found.mask, batch.student["attention_mask"].bool())
    torch.testing.assert_close(found.taps["head:1"], opened.model.lm_head(found.hidden[1]))
    torch.testing.assert_close(found.taps["head:2"], found.logits)  # the last layer's is the output
    alone = make_batch(view, None, [{"student": view.encode(rows[1])}])
    with torch.no_grad():
        single = view.emit(opened.model, alone.student, ("logits",))
    torch.testing.assert_close(found.logits[1, : sizes[1]], single.logits[0], atol=1e-5, rtol=1e-4)


def test_a_saved_recogniser_loads_with_transformers_alone(opened, tmp_path):
    opened.view.save(opened.model, tmp_path / "saved")
    model = AutoModelForCTC.from_pretrained(tmp_path / "saved").eval()
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    inputs = extractor(wave(12_000), sampling_rate=16_000, pad_to_multiple_of=None, return_tensors="pt")
    batch = make_batch(opened.view, None, [{"student": opened.view.encode(row(12_000))}])
    with torch.no_grad():
        ours = opened.view.emit(opened.model, batch.student, ("logits",)).logits
        torch.testing.assert_close(model(**inputs).logits, ours, atol=2e-3, rtol=1e-2)  # ours were kept in float16
    assert tokenizer.get_vocab() == opened.view.tokenizer.get_vocab() and kind_of(str(tmp_path / "saved")) == "ctc"
    assert open_model(str(tmp_path / "saved"), "ctc").view.fingerprint == opened.view.fingerprint


def test_what_is_read_off_a_path_is_text(opened):
    ids = opened.view.tokenizer(TEXTS[1], add_special_tokens=False)["input_ids"]
    path = [token for one in ids for token in (opened.view.blank, one, one)]
    logits = torch.nn.functional.one_hot(torch.tensor([path]), len(opened.view.tokenizer)).float()
    signals = type("S", (), {"logits": logits, "mask": torch.ones(1, len(path)).bool()})()
    assert opened.view.transcripts(signals) == [TEXTS[1]]


def test_rows_that_are_too_short_are_dropped_and_counted(opened):
    kept, counts = encode(Dataset.from_list([row(), row(300)]), opened.view)
    assert len(kept) == 1 and counts.dropped == {"with less than 3 frames of audio": 1}
    assert counts.trained == len(kept[0]["student"]["labels"])
    metrics = held_out(opened, None, Dataset.from_list([row(), row(300, text="gone")]))
    assert set(metrics) == {"wer", "cer"} and metrics["wer"] > 0


def test_audio_at_another_rate_is_refused_by_its_row(opened):
    rows = Dataset.from_list([row(), row(sampling_rate=8000)])
    with pytest.raises(
        UserError, match=r"the data, row 2: the audio has 8000 samples a second, and the model reads 16000"
    ):
        encode(rows, opened.view)


def test_an_empty_transcript_is_refused_by_its_row(opened, tmp_path):
    with pytest.raises(UserError, match=r"the data, row 2: the transcript is empty"):
        encode(Dataset.from_list([row(), row(text=" ")]), opened.view)
    (tmp_path / "rows.jsonl").write_text('{"audio": [0.1, 0.2], "text": ""}\n')
    with pytest.raises(UserError, match=r"rows.jsonl line 1: 'text' is empty"):
        load(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="row 2: the transcript is empty, so it has no error rate"):
        error_rates(["a", "b"], ["a", ""])


def test_sound_files_are_read_beside_their_rows(opened, tmp_path):
    soundfile.write(tmp_path / "one.wav", wave(8000), 16_000)
    soundfile.write(tmp_path / "two.wav", wave(8000), 8_000)
    (tmp_path / "rows.jsonl").write_text(
        '{"audio": "one.wav", "text": "the lamp"}\n{"audio": "two.wav", "text": "the"}\n'
    )
    rows = load(tmp_path / "rows.jsonl")
    found = opened.view.encode(rows[0])
    plain = opened.view.encode({"audio": wave(8000), "text": "the lamp"})
    assert found["length"] == plain["length"] and found["labels"] == plain["labels"]
    with pytest.raises(UserError, match="row 2: the audio has 8000 samples a second"):
        encode(rows, opened.view)
    (tmp_path / "rows.jsonl").write_text('{"audio": "three.wav", "text": "the lamp"}\n')
    with pytest.raises(UserError, match=r"line 1: there is no audio 'three.wav'"):
        load(tmp_path / "rows.jsonl")


def test_error_rates_are_counted_over_all_words():
    found = error_rates(["turn on the the lamp", ""], ["turn off the lamp", "stop"])
    assert found["wer"] == pytest.approx(3 / 5)  # off for on, one the too many, stop left out
    assert found["cer"] == pytest.approx((5 + 4) / 21)  # "n the" in place of "ff"; "stop"


# --- masked language models that hide every token in turn -------------------------------------------------------------


def test_each_token_is_judged_without_being_seen(tmp_path):
    torch.manual_seed(0)
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    new_model(Scratch(architecture="bert", config=config, vocabulary=300), "masked-lm", lambda: TEXTS, tmp_path / "lm")
    one = open_model(str(tmp_path / "lm"), "masked-lm", each=True)
    one.model.eval()
    batch = make_batch(one.view, None, [{"student": one.view.encode({"text": text})} for text in (*TEXTS, "the")])
    with torch.no_grad():
        found = one.view.emit(one.model, batch.student, ("logits",)).logits
        for number in range(3):
            for place in batch.mask[number].nonzero()[:, 0].tolist():
                ids = batch.student["input_ids"][number : number + 1].clone()
                ids[0, place] = one.view.tokenizer.mask_token_id
                mask = batch.student["attention_mask"][number : number + 1]
                wanted = one.model(input_ids=ids, attention_mask=mask).logits[0, place]
                torch.testing.assert_close(found[number, place], wanted, atol=1e-5, rtol=1e-4)
        other = {name: value.clone() for name, value in batch.student.items()}
        other["input_ids"][0, 2] += 1
        changed = one.view.emit(one.model, other, ("logits",)).logits
    torch.testing.assert_close(found[0, 2], changed[0, 2])
    assert not torch.allclose(found[0, 1], changed[0, 1]) and not found[~batch.mask].any()
    assert one.view.fingerprint != open_model(str(tmp_path / "lm"), "masked-lm").view.fingerprint
    with pytest.raises(ValueError, match="there are logits alone; hidden:1 was asked for"):
        one.view.emit(one.model, batch.student, ("hidden:1",))
