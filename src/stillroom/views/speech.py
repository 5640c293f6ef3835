"""Speech: recognisers that give every frame a distribution over labels and a blank (CTC).

A row is audio and its transcript. Audio becomes log-mel frames once, before training (80 bins, a window of 25 ms every
10 ms, at 16 kHz; each bin has mean 0 and variance 1 over an utterance), and so many neighbours at a time are stacked
into one, which makes the sequence shorter. Models are those of transformers that read such frames, such as
Wav2Vec2-BERT.

Shapes: ``B`` rows, ``F`` frames after stacking, ``U`` labels, ``V`` vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillroom.errors import UserError, need
from stillroom.objectives.ctc import greedy_labels
from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, TransformersView, digest, pad, row_key, run, tokenizer_hash

WINDOW, HOP = 400, 160  # samples of a frame, and from one to the next


class CTC(TransformersView):
    """Rows of audio and transcript, for CTC models: logits [B, F, V].

    Labels [B, U] are the transcript's tokens, and ``mask`` [B, U] those that are there; neither is aligned with frames,
    of which the signals' ``mask`` [B, F] says which are real. The tokenizer's padding token is the blank. ``hidden:N``
    is [B, F, H]; the tap ``head:N`` is the output head on hidden state N, [B, F, V].

    Args:
        tokenizer: a fast transformers tokenizer with a padding token.
        stride: frames that are stacked into one.
        bins: of the mel scale.
        rate: samples a second.
    """

    auto: ClassVar = "AutoModelForCTC"
    formats: ClassVar = ("transcribed-audio",)

    def __init__(self, tokenizer: Any, *, stride: int = 4, bins: int = 80, rate: int = 16_000) -> None:
        from transformers import SeamlessM4TFeatureExtractor

        if min(stride, bins) < 1 or rate < 1000:
            raise UserError(f"stride and bins must be at least 1, and rate 1000; they are {stride}, {bins} and {rate}")
        self.tokenizer, self.stride, self.bins, self.rate = tokenizer, stride, bins, rate
        self.blank: int = tokenizer.pad_token_id
        sizes = {"feature_size": bins, "num_mel_bins": bins, "sampling_rate": rate, "stride": stride}
        self.extractor = SeamlessM4TFeatureExtractor(**sizes)

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view that the folder's files describe; ``options`` go before them."""
        from transformers import AutoTokenizer

        found: dict[str, Any] = {}
        if (file := folder / "config.json").is_file():
            width = json.loads(file.read_text()).get("feature_projection_input_dim")
            found |= {"stride": width // options.get("bins", 80)} if width else {}
        if (file := folder / "preprocessor_config.json").is_file():
            kept = json.loads(file.read_text())
            found |= {"stride": kept["stride"], "bins": kept["num_mel_bins"], "rate": kept["sampling_rate"]}
        return cls(AutoTokenizer.from_pretrained(folder), **(found | options))

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and frames."""
        return digest("ctc", tokenizer_hash(self.tokenizer), self.stride, self.bins, self.rate)

    def check(self, rows: Any, name: str) -> None:
        """See that every row has a transcript, and audio at the view's rate.

        Raises:
            UserError: one has not; the message names the row.
        """
        plain = rows.with_format(None)
        for place, text in enumerate(plain["text"][:], 1):
            if not (text or "").strip():
                raise UserError(f"{name}, row {place}: the transcript is empty; leave the row out")
        for place, rate in enumerate(self._rates(plain), 1):
            if rate != self.rate:
                raise UserError(
                    f"{name}, row {place}: the audio has {rate} samples a second, and the model reads {self.rate}; "
                    "resample it"
                )

    def _rates(self, rows: Any) -> list[int]:
        """Of rows that tell one, or whose audio is a file that does; nothing otherwise."""
        if "sampling_rate" in rows.column_names:
            return rows["sampling_rate"][:]
        if len(rows) and isinstance(rows[0]["audio"], str):
            info = need("soundfile", "speech").info
            return [info(path).samplerate for path in rows["audio"][:]]
        return []

    def encode(self, row: Row) -> dict[str, Any]:
        """A row's ``frames`` as bytes of float16, and its ``labels``, without special tokens."""
        special = set(self.tokenizer.all_special_ids)
        ids = self.tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        labels = [token for token in ids if token not in special]
        frames = self.frames(row["audio"])
        dropped = "" if labels else "without a token in the transcript"
        if not len(frames):
            dropped = f"with less than {self.stride} frames of audio"
        return {
            "id": row_key(row),
            "dropped": dropped,
            "shortened": False,
            "length": len(frames),
            "frames": frames.astype(np.float16).tobytes(),
            "labels": labels,
            "trained": [True] * len(labels),
        }

    def frames(self, audio: Any) -> np.ndarray:
        """Log-mel frames, stacked, [F, stride bins]; none where the audio is too short for one.

        Args:
            audio: numbers in [-1, 1], or a file that soundfile reads; of several channels the first is taken.

        Raises:
            UserError: the numbers are not finite.
        """
        if isinstance(audio, str):
            audio = need("soundfile", "speech").read(audio, dtype="float32", always_2d=True)[0][:, 0]
        wave = np.asarray(audio, dtype=np.float32)
        if not np.isfinite(wave).all():
            raise UserError("audio must be finite numbers in [-1, 1]")
        if len(wave) < WINDOW + (max(self.stride, 2) - 1) * HOP:
            return np.zeros((0, self.bins * self.stride), dtype=np.float32)
        return self.extractor(wave, sampling_rate=self.rate, pad_to_multiple_of=None)["input_features"][0]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Frames [B, F, stride bins] with their mask; labels [B, U] with theirs."""
        width = self.bins * self.stride
        found = [torch.from_numpy(np.frombuffer(row["frames"], np.float16).astype(np.float32)) for row in rows]
        frames = [one.reshape(-1, width) for one in found]
        features = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
        real = torch.arange(features.shape[1]) < torch.tensor([len(one) for one in frames]).unsqueeze(1)
        labels, mask = pad([row["labels"] for row in rows], self.blank)
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"input_features": features, "attention_mask": real.long()},
            mask=mask,
            labels=labels,
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, F, V], hidden states, taps; and in ``mask`` the real frames."""
        heads = {need: need.removeprefix("tap:head:") for need in needs if need.startswith("tap:head:")}
        asked = [*(need for need in needs if need not in heads), *(f"hidden:{layer}" for layer in heads.values())]
        output, signals = run(model, arguments, tuple(dict.fromkeys(asked)))
        whole: Any = model
        signals.mask = arguments["attention_mask"].bool()
        if output.logits.shape[1] != signals.mask.shape[1]:  # an adapter that shortens the sequence
            lengths = whole._get_feat_extract_output_lengths(signals.mask.sum(-1))
            signals.mask = torch.arange(output.logits.shape[1], device=lengths.device) < lengths.unsqueeze(1)
        if "logits" in needs:
            signals.logits = output.logits
        for layer in heads.values():
            signals.taps[f"head:{layer}"] = whole.lm_head(signals.hidden[int(layer)])
        return signals

    def transcripts(self, signals: Signals) -> list[str]:
        """What is read off the likeliest path of each row."""
        assert signals.logits is not None and signals.mask is not None
        ids = greedy_labels(signals.logits, signals.mask, blank=self.blank)
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def save(self, model: nn.Module, folder: Path) -> None:
        """Model, tokenizer and feature extractor, as the ``Auto`` classes read them."""
        from stillroom.export.transformers import save_clean

        save_clean(model, folder, _Both(self.tokenizer, self.extractor))


class _Both:
    """Tokenizer and feature extractor, saved together."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def save_pretrained(self, folder: Path) -> None:
        for part in self.parts:
            part.save_pretrained(folder)
