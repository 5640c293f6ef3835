"""How well speech was recognised: word and character error rates."""

from __future__ import annotations

from collections.abc import Sequence

from stillroom.errors import UserError, need


def error_rates(said: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """``wer`` and ``cer``: words (characters) replaced, left out and added, over those of all transcripts; may pass 1.

    Args:
        said: what was recognised; may be empty.
        wanted: the transcripts.

    Raises:
        UserError: a transcript is empty, so that no rate is defined; the message names the row.
    """
    if len(said) != len(wanted):
        raise ValueError(f"{len(said)} recognised texts and {len(wanted)} transcripts do not pair up")
    if empty := [place for place, text in enumerate(wanted, 1) if not text.strip()]:
        raise UserError(f"row {empty[0]}: the transcript is empty, so it has no error rate; leave the row out")
    library = need("jiwer", "speech")
    return {"wer": float(library.wer(list(wanted), list(said))), "cer": float(library.cer(list(wanted), list(said)))}
