"""What a teacher writes in place of the data's answers, kept so that nothing is written or paid for twice.

A teacher that runs here fills a store of texts; one behind an endpoint fills a journal. A row's key is what was asked,
so rows that two runs share are answered once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from stillroom.blocks.sampler import answers, hypotheses, stop_ids
from stillroom.engine.loop import seed_all
from stillroom.errors import UserError
from stillroom.evaluate.generation import sentence_bleu
from stillroom.labelling import by_the_first, header_of, kept_at
from stillroom.method import Writing
from stillroom.store import Signal, Store
from stillroom.views.base import digest
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened

if TYPE_CHECKING:
    from stillroom.recipe import Recipe, Teacher

log = logging.getLogger(__name__)


PLAIN = Writing()


class Texts(NamedTuple):
    """Rows as plain data, what the teacher wrote for each (empty where it came to no end), and where it is kept."""

    rows: list[dict[str, Any]]
    texts: list[str]
    place: Path


def with_teacher_texts(recipe: Recipe, teacher: Opened | None, source: Any, writing: Writing = PLAIN) -> Any:
    """The rows with the teacher's own answers in place of theirs.

    Rows whose answer came to no end within ``max_new_tokens`` are left out and said: a student that learnt from them
    would not learn to stop.

    Raises:
        UserError: the rows ask nothing, or no answer came to an end.
    """
    rows, texts, _ = keep_texts(recipe, teacher, source, writing)
    kept = [place for place, text in enumerate(texts) if text]
    if not kept:
        raise UserError("no answer of the teacher came to an end; raise teacher.max_new_tokens")
    if len(kept) < len(rows):
        log.warning("%d of %d answers came to no end and are left out", len(rows) - len(kept), len(rows))
    answered = [_answered(rows[place], texts[place]) for place in kept]
    column, told = answered[0][0], [value for _, value in answered]
    aside = f"{column} by the teacher"
    return source.select(kept).add_column(aside, told).remove_columns([column]).rename_column(aside, column)


def keep_texts(recipe: Recipe, teacher: Opened | None, source: Any, writing: Writing = PLAIN) -> Texts:
    """The teacher's own answers to these rows; only what is not kept yet is written.

    Args:
        recipe: says who the teacher is, how long answers may be and at which temperature they are drawn.
        teacher: opened; None for one behind an endpoint.
        source: rows.
        writing: how the method wants them to be written.

    Raises:
        UserError: the rows ask nothing, or the teacher is not one that writes, or not in this way.
    """
    assert recipe.teacher is not None
    columns = source.column_names
    rows = [
        dict(zip(columns, values, strict=True))
        for batch in source.iter(1000)
        for values in zip(*batch.values(), strict=True)
    ]
    if teacher is None:
        if writing != PLAIN:
            raise UserError("an endpoint does not search with beams; take a teacher that runs here, or `teacher_texts`")
        texts, place = _from_endpoint(recipe.teacher, [_conversation(row) for row in rows])
        return Texts(rows, texts, place)
    if not isinstance(teacher.view, CausalLM):
        raise UserError("answers are written by a language model; this teacher is none")
    texts, place = _from_model(recipe.teacher, teacher, rows, recipe.train.seed, writing)
    return Texts(rows, texts, place)


def _answered(row: dict[str, Any], text: str) -> tuple[str, Any]:
    """The column that holds a row's answer, and what it holds now."""
    if row.get("messages") is None:
        return "completion", text
    return "messages", [*_conversation(row), {"role": "assistant", "content": text}]


def _conversation(row: dict[str, Any]) -> list[Mapping[str, Any]]:
    """What a row asks, as turns: the prompt, or the conversation before the assistant's last turn."""
    if row.get("messages") is not None:
        turns = list(row["messages"])
        return turns[:-1] if turns[-1]["role"] == "assistant" else turns
    if row.get("prompt") is None:
        raise UserError("plain texts have no prompt to answer; give rows of prompt and completion, or of messages")
    return [{"role": "user", "content": row["prompt"]}]


# --- a teacher that runs here -----------------------------------------------------------------------------------------


def _from_model(
    settings: Teacher, teacher: Opened, rows: list[dict[str, Any]], seed: int, writing: Writing
) -> tuple[list[str], Path]:
    if writing != PLAIN:
        return _searched(settings, teacher, rows, writing)
    view, name = teacher.view, settings.model or "teacher"
    assert isinstance(view, CausalLM)
    rules = {"max_new_tokens": settings.max_new_tokens, "sampled_at": settings.temperature, "ends": True}
    header = header_of(name, teacher, {"text": Signal(codec="utf8", shape=(None,))}, **rules)
    room = _room(teacher.model, settings.max_new_tokens)
    prompts = [view.prompt(row)[-min(room, view.max_length) :] for row in rows]  # too long ones lose their left
    keys = [digest(prompt) for prompt in prompts]
    place = kept_at("signals", name, header.model_dump_json())

    def fill() -> None:
        with Store.resume(place, header) as writer:
            _write(writer, teacher, prompts, keys, settings, seed)

    by_the_first(fill)
    return Store.open(place).gather(keys)["text"], place


def _room(model: Any, new: int) -> int:
    """How many tokens a prompt may have for its answer to end within the model's positions."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
    if positions <= new:
        raise UserError(
            f"teacher.max_new_tokens ({new}) leaves no room for a prompt, since the teacher has {positions} positions"
        )
    return positions - new


def _write(
    writer: Any, teacher: Opened, prompts: list[list[int]], keys: list[str], settings: Teacher, seed: int
) -> None:
    """Let the teacher answer what the store lacks; an answer that came to no end is kept as the empty text."""
    view, model = teacher.view, teacher.model
    assert isinstance(view, CausalLM)
    stop = stop_ids(model, view.tokenizer)
    unique = {keys[place]: place for place in reversed(writer.missing(keys))}
    order = sorted(unique.values(), key=lambda place: (-len(prompts[place]), place))
    bar = tqdm(total=len(order), unit="answer", desc="teacher writes", disable=None, dynamic_ncols=True, leave=False)
    for start in range(0, len(order), 64):
        places = order[start : start + 64]
        seed_all(seed, places[0], 0)
        written = answers(
            model,
            [prompts[place] for place in places],
            stop=stop,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            vocabulary=len(view.tokenizer),
        )
        texts = [view.tokenizer.decode(ids, skip_special_tokens=True) if ids[-1] in stop else "" for ids in written]
        writer.append([keys[place] for place in places], {"text": texts})
        writer.flush()
        bar.update(len(places))
    bar.close()


def _searched(
    settings: Teacher, teacher: Opened, rows: list[dict[str, Any]], writing: Writing
) -> tuple[list[str], Path]:
    """What a beam search ends with: the likeliest answer that came to an end, or the one nearest to the data's."""
    view, name = teacher.view, settings.model or "teacher"
    assert isinstance(view, CausalLM)
    rules = {
        "max_new_tokens": settings.max_new_tokens,
        "ends": True,
        "beams": writing.beams,
        "nearest": writing.nearest,
    }
    header = header_of(name, teacher, {"text": Signal(codec="utf8", shape=(None,))}, **rules)
    room = min(_room(teacher.model, settings.max_new_tokens), view.max_length)
    prompts = [view.prompt(row) for row in rows]
    if long := sum(len(prompt) > room for prompt in prompts):
        log.warning("%d of %d prompts are longer than %d tokens, and their rows are left out", long, len(rows), room)
    wanted = [_wanted(row) if writing.nearest else None for row in rows]
    keys = [digest(prompt, *([] if gold is None else [gold])) for prompt, gold in zip(prompts, wanted, strict=True)]
    place = kept_at("signals", name, header.model_dump_json())

    def fill() -> None:
        with Store.resume(place, header) as writer:
            absent = {keys[number]: number for number in reversed(writer.missing(keys))}
            order = sorted(absent.values(), key=lambda number: (-len(prompts[number]), number))
            asked = [number for number in order if len(prompts[number]) <= room]
            left_out = [number for number in order if len(prompts[number]) > room]
            writer.append([keys[number] for number in left_out], {"text": [""] * len(left_out)})
            size = max(64 // writing.beams, 1)
            chunks = [asked[start : start + size] for start in range(0, len(asked), size)]
            for numbers in tqdm(chunks, desc="teacher searches", disable=None, dynamic_ncols=True, leave=False):
                found = _search(
                    teacher, [prompts[number] for number in numbers], settings.max_new_tokens, writing.beams
                )
                texts = [_chosen(texts, wanted[number]) for texts, number in zip(found, numbers, strict=True)]
                writer.append([keys[number] for number in numbers], {"text": texts})
                writer.flush()

    by_the_first(fill)
    return Store.open(place).gather(keys)["text"], place


def _search(teacher: Opened, prompts: list[list[int]], new: int, beams: int) -> list[list[str]]:
    """For each prompt the hypotheses that came to an end, likeliest first; how many did not is said."""
    view, model = teacher.view, teacher.model
    assert isinstance(view, CausalLM)
    stop = stop_ids(model, view.tokenizer)
    found = hypotheses(model, prompts, stop=stop, max_new_tokens=new, beams=beams, vocabulary=len(view.tokenizer))
    ended = [[ids for ids in among if ids[-1] in stop] for among in found]
    log.info("%d of %d hypotheses came to no end", beams * len(prompts) - sum(map(len, ended)), beams * len(prompts))
    return [view.tokenizer.batch_decode(among, skip_special_tokens=True) for among in ended]


def _chosen(texts: list[str], wanted: str | None) -> str:
    """The first text, or the one nearest to what is wanted (the first of equals); empty where there is none."""
    if wanted is None or not texts:
        return texts[0] if texts else ""
    return max(texts, key=lambda text: sentence_bleu(text, wanted))


def _wanted(row: dict[str, Any]) -> str:
    """The data's own answer."""
    if row.get("messages") is not None:
        last = row["messages"][-1]
        if last["role"] == "assistant":
            return last["content"]
    elif row.get("completion") is not None:
        return row["completion"]
    raise UserError("the data has no answer that the teacher's could be near to; give rows with one, or nearest=false")


# --- a teacher behind an endpoint -------------------------------------------------------------------------------------


def _from_endpoint(settings: Teacher, asked: Sequence[list[Mapping[str, Any]]]) -> tuple[list[str], Path]:
    """What the server answers; an answer that was cut off or never came is the empty text."""
    assert settings.endpoint is not None and settings.model is not None
    rules = (settings.endpoint, settings.model, str(settings.temperature), str(settings.max_new_tokens))
    place = kept_at("answers", settings.model, *rules).with_suffix(".jsonl")
    keys = [digest(json.dumps(turns, sort_keys=True)) for turns in asked]
    # A journal has one reader and writer; the other processes are told.
    told = [_ask(settings, dict(zip(keys, asked, strict=True)), place) if PartialState().is_main_process else {}]
    broadcast_object_list(told)
    return [told[0].get(key, "") for key in keys], place


def _ask(settings: Teacher, asked: Mapping[str, list[Mapping[str, Any]]], journal: Path) -> dict[str, str]:
    from stillroom.teachers.endpoint import Endpoint

    assert settings.endpoint is not None and settings.model is not None
    endpoint = Endpoint(
        settings.endpoint,
        settings.model,
        key_variable=settings.key_variable,
        temperature=settings.temperature,
        max_tokens=settings.max_new_tokens,
        journal=journal,
    )
    found = {}
    bar = tqdm(total=len(asked), unit="answer", desc="teacher writes", disable=None, dynamic_ncols=True, leave=False)
    try:
        for answer in endpoint.complete(asked.values(), asked):
            found[answer.id] = "" if answer.finish_reason == "length" else answer.text
            bar.update()
    finally:
        endpoint.close()
        bar.close()
    if endpoint.failures and not found:
        raise UserError(f"{settings.endpoint} answers nothing: {endpoint.failures[-1].reason}")
    if endpoint.failures:
        number, last = len(endpoint.failures), endpoint.failures[-1]
        log.warning("%d questions got no answer and are left out, the last because %s", number, last.reason)
    return found
