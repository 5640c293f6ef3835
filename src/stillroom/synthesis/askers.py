"""Who a step of a recipe asks: a server, or a language model that runs here; with a journal in the cache folder.

A journal belongs to a model and a way of asking, not to a run: what one run paid for serves every other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from stillroom.synthesis.costs import Price
from stillroom.synthesis.settings import Asked

if TYPE_CHECKING:
    from stillroom.synthesis.writers import FunctionWriter, Writer, Written
    from stillroom.views.load import Opened


def price_of_step(asked: Asked) -> Price | None:
    """What the tokens of a step cost; None where the recipe does not say."""
    return None if asked.price is None else Price(asked.price.tokens_in, asked.price.tokens_out)


@contextmanager
def writer_of(asked: Asked, ask: bool) -> Iterator[Writer]:
    """Who answers; with ``ask`` false only what was answered before."""
    from stillroom.labelling import kept_at
    from stillroom.synthesis.limits import Budget, Limits, Pace
    from stillroom.teachers.endpoint import Endpoint

    ways = (str(asked.temperature), str(asked.top_p), str(asked.max_new_tokens))
    if asked.endpoint is None:
        writer = _local(asked, ways) if ask else _silent(asked.model)
        try:
            yield writer
        finally:
            writer.close()
        return
    most = Budget(**asked.budget.model_dump()) if ask else Budget(requests=0)
    gate = Limits(
        pace=Pace(asked.requests_per_minute, asked.tokens_per_minute), budget=most, price=price_of_step(asked)
    )
    endpoint = Endpoint(
        asked.endpoint,
        asked.model,
        key_variable=asked.key_variable,
        concurrency=asked.concurrency,
        retries=asked.retries,
        temperature=asked.temperature,
        top_p=asked.top_p,
        max_tokens=asked.max_new_tokens,
        journal=kept_at("answers", asked.model, asked.endpoint, asked.model, *ways).with_suffix(".jsonl"),
        gate=gate,
    )
    try:
        yield endpoint
    finally:
        endpoint.close()


def _silent(model: str) -> FunctionWriter:
    from stillroom.synthesis.writers import FunctionWriter

    return FunctionWriter(lambda conversations: [None] * len(conversations), name=model)


def _local(asked: Asked, ways: tuple[str, ...]) -> FunctionWriter:
    """A language model that runs here, or on workers, as a writer."""
    from stillroom.labelling import kept_at, weights_hash
    from stillroom.scale import on_ray, workers_asked_for
    from stillroom.synthesis.writers import FunctionWriter
    from stillroom.views.load import open_model

    opened, workers = open_model(asked.model, "language"), workers_asked_for()
    who = weights_hash(opened.model)
    many = None if workers is None else partial(on_ray, partial(_function, asked), workers=workers or None)
    journal = kept_at("answers", asked.model, who, *ways).with_suffix(".jsonl")
    settings = {"weights": who, "asked": list(ways)}
    return FunctionWriter(
        _function(asked, opened),
        name=asked.model,
        batch=asked.concurrency,
        journal=journal,
        settings=settings,
        many=many,
    )


def _function(asked: Asked, opened: Opened | None = None) -> Callable[[list[Any]], list[Written]]:
    """What answers a batch of conversations; its draws follow from its questions, wherever it is asked."""
    from stillroom.blocks.sampler import answers, stop_ids
    from stillroom.engine.loop import seed_all
    from stillroom.synthesis.writers import Written
    from stillroom.views.base import digest
    from stillroom.views.causal_lm import CausalLM
    from stillroom.views.load import open_model

    opened = opened or open_model(asked.model, "language")
    view, model = opened.view, opened.model.eval()
    assert isinstance(view, CausalLM)
    stop = stop_ids(model, view.tokenizer)

    def write(conversations: list[Any]) -> list[Written]:
        prompts = [view.prompt({"messages": turns}) for turns in conversations]
        seed_all(int(digest(*prompts), 16) % 2**31, 0, 0)
        written = answers(
            model,
            prompts,
            stop=stop,
            max_new_tokens=asked.max_new_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            vocabulary=len(view.tokenizer),
        )
        return [
            Written(
                view.tokenizer.decode(ids, skip_special_tokens=True),
                "stop" if ids and ids[-1] in stop else "length",
                len(prompt),
                len(ids),
            )
            for prompt, ids in zip(prompts, written, strict=True)
        ]

    return write
