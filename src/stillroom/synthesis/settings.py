"""Steps of synthesis as a recipe has them: plain settings, checked before anything is asked.

A source of rows may carry ``steps``. Each is a mapping with one key, the step's name: ``generate``, ``parse``,
``judge``, ``filter``, ``deduplicate``, ``columns``. What the steps do is in the modules beside this one;
`stillroom.synthesis.recipe_steps` runs them.
"""

from __future__ import annotations

from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def names_in(template: str) -> tuple[str, ...]:
    """The columns that a template names in braces; ``{{`` and ``}}`` are braces.

    Raises:
        ValueError: a brace is left open, or something other than a plain name stands in one.
    """
    try:
        fields = [(name, form, change) for _, name, form, change in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"the template {template!r} can't be read: {error}; write {{{{ for a brace") from None
    for name, form, change in fields:
        if not name.isidentifier() or form or change:
            raise ValueError(
                f"the template {template!r} may name columns, such as {{text}}, and nothing else; found {{{name}}}"
            )
    return tuple(dict.fromkeys(name for name, _, _ in fields))


class Spend(_Strict):
    """The most that may be spent, over all runs that share the answers; None for any amount.

    Attributes:
        requests: sent.
        tokens: of prompts and answers.
        money: in the currency of the price.
    """

    requests: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    money: float | None = Field(None, gt=0)


class Cost(_Strict):
    """What a million tokens cost.

    Attributes:
        tokens_in: of prompts.
        tokens_out: of answers.
    """

    tokens_in: float = Field(ge=0)
    tokens_out: float = Field(ge=0)


class Asked(_Strict):
    """Who is asked, and how.

    Attributes:
        model: a folder or hub id; with ``endpoint`` its name there.
        endpoint: the address of an OpenAI-compatible server; without one the model runs here.
        key_variable: the environment variable that holds the server's key.
        temperature: 0 takes the likeliest token.
        top_p: the probability mass that is drawn from; 1 for all of it.
        max_new_tokens: of an answer.
        concurrency: questions that are open at once at an endpoint; rows a batch of a model that runs here.
        retries: how often a question is asked again that an endpoint was too busy for, or did not answer.
        requests_per_minute: at an endpoint; None for as fast as it goes.
        tokens_per_minute: of prompts and answers; likewise.
        budget: the most that may be spent.
        price: of the tokens, for the account and for a budget in money.
        partial: go on with the rows that have an answer where a server stopped or a budget is spent; otherwise the run
            ends there, and asks for the others when it is resumed.
    """

    model: str
    endpoint: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    concurrency: int = Field(8, ge=1)
    retries: int = Field(6, ge=0)
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    budget: Spend = Spend()
    price: Cost | None = None
    partial: bool = False

    @model_validator(mode="after")
    def _as_the_writer_can(self) -> Asked:
        if self.budget.money is not None and self.price is None:
            raise ValueError("a budget in money needs the price of the model's tokens")
        limits = (self.requests_per_minute, self.tokens_per_minute, *self.budget.model_dump().values())
        if self.endpoint is None and any(limit is not None for limit in limits):
            raise ValueError("a pace and a budget are for a model behind an endpoint; name one, or leave them out")
        return self


class Generate(Asked):
    """Ask about every row.

    Attributes:
        prompt: what is asked, columns in braces: ``Describe {code}``. A row that lacks one of them is not asked about.
        system: the turn before it.
        samples: answers a row; they differ only above temperature 0.
        column: for the answers.
    """

    prompt: str
    system: str | None = None
    samples: int = Field(1, ge=1)
    column: str = "reply"

    @field_validator("prompt", "system")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        names_in(value or "")
        return value


class Judge(Asked):
    """Have every row scored.

    Attributes:
        rubric: what is judged and by which standard, columns in braces; the form of the answer is added.
        lowest: score on the scale.
        highest: likewise.
        samples: opinions a row, whose mean counts.
        column: for the score.
        least: rows below are dropped; None keeps all that have a score.
    """

    rubric: str
    lowest: int = 1
    highest: int = 10
    samples: int = Field(1, ge=1)
    column: str = "score"
    least: float | None = None

    @field_validator("rubric")
    @classmethod
    def _template(cls, value: str) -> str:
        names_in(value)
        return value

    @model_validator(mode="after")
    def _a_scale(self) -> Judge:
        if not self.lowest < self.highest:
            raise ValueError("a scale has at least two scores: lowest must be below highest")
        return self


FieldKind = Literal["text", "integer", "number", "boolean"]


class Parse(_Strict):
    """Read JSON replies.

    Attributes:
        fields: name -> text, integer, number, boolean, or a list of the texts that it may be. All must be there.
        items: the reply is a list, and each of its items becomes a row.
        column: that holds the replies.
    """

    fields: dict[str, FieldKind | list[str]] = Field(min_length=1)
    items: bool = False
    column: str = "reply"


class Length(_Strict):
    """How long a text may be; see `stillroom.synthesis.filters.length`.

    Attributes:
        column: that holds it.
        least: of its words or characters.
        most: likewise; None for any number.
        unit: words or characters.
    """

    column: str
    least: int = Field(0, ge=0)
    most: int | None = Field(None, ge=1)
    unit: Literal["words", "characters"] = "words"


class Words(_Strict):
    """Words of a column.

    Attributes:
        column: that holds the text.
        words: that it may not hold, or the columns whose texts it must hold.
    """

    column: str
    words: list[str] = Field(min_length=1)


class Above(_Strict):
    """What a number must be above.

    Attributes:
        column: of numbers.
        threshold: that they must be above.
    """

    column: str
    threshold: float


class Rule(_Strict):
    """One reason to drop a row: exactly one of these, each named as in `stillroom.synthesis.filters`.

    Attributes:
        finished: the column's answer was not cut off.
        sentence: the column ends like a sentence.
        length: a column is neither too short nor too long.
        lacks: a column holds none of these words.
        mentions: a column holds the texts of these columns.
        above: a column is above a number.
        equal: two columns agree.
        different: the first of two columns does not repeat the second.
    """

    finished: str | None = None
    sentence: str | None = None
    length: Length | None = None
    lacks: Words | None = None
    mentions: Words | None = None
    above: Above | None = None
    equal: tuple[str, str] | None = None
    different: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _one(self) -> Rule:
        _exactly_one(self, "rule")
        return self


class Deduplicate(_Strict):
    """Keep one of the rows that say the same.

    Attributes:
        column: that is compared.
        near: rows whose shingles have at least this Jaccard index are the same too, in (0, 1]; None takes only those
            that are equal but for case, punctuation and spaces.
        n: words or characters a shingle.
        unit: of shingles.
    """

    column: str
    near: float | None = Field(None, gt=0, le=1)
    n: int = Field(3, ge=1)
    unit: Literal["words", "characters"] = "words"


class Turn(_Strict):
    """A turn of a conversation.

    Attributes:
        role: system, user or assistant.
        content: its text, columns in braces.
    """

    role: Literal["system", "user", "assistant"]
    content: str

    @field_validator("content")
    @classmethod
    def _template(cls, value: str) -> str:
        names_in(value)
        return value


class Step(_Strict):
    """Exactly one step.

    Attributes:
        generate: ask about every row.
        parse: read JSON replies.
        judge: score rows.
        filter: drop rows by rules; the first that has a reason counts.
        deduplicate: keep one of those that say the same.
        columns: the row that goes on: name -> template of a text, or ``messages`` -> turns. Columns that are not named
            here are gone, but for ``id``.
    """

    generate: Generate | None = None
    parse: Parse | None = None
    judge: Judge | None = None
    filter: list[Rule] | None = None
    deduplicate: Deduplicate | None = None
    columns: dict[str, str | list[Turn]] | None = None

    @field_validator("filter", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("columns")
    @classmethod
    def _templates(cls, value: Any) -> Any:
        for template in (value or {}).values():
            if isinstance(template, str):
                names_in(template)
        return value

    @model_validator(mode="after")
    def _one(self) -> Step:
        _exactly_one(self, "step")
        return self

    @property
    def name(self) -> str:
        """Which step it is."""
        return next(iter(self.model_fields_set))

    @property
    def asks(self) -> Asked | None:
        """Who is asked in this step, if anybody is."""
        return self.generate or self.judge


def _exactly_one(model: BaseModel, what: str) -> None:
    given = sorted(name for name in model.model_fields_set if getattr(model, name) is not None)
    if len(given) != 1:
        raise ValueError(
            f"a {what} is one of {', '.join(type(model).model_fields)}; found {', '.join(given) or 'none of them'}"
        )
