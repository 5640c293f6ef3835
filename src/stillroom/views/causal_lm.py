"""Causal language models: text, prompts with completions, chats, and preferences between two answers.

Which tokens are trained follows from roles and lengths alone: all of a plain text, a prompt's completion, an
assistant's turns. Token ids are never looked at for it, since a pad token may equal the end-of-sequence token.

A preference is one row of the data and two of the batch, one after the other: the prompt with the chosen answer, and
with the rejected one. ``columns["pairs"]`` [P, 2] says where they are, chosen first.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from stillroom.blocks.alignment import UNKNOWN, byte_ends, ends_of
from stillroom.errors import UserError
from stillroom.head import Head, Unprojected
from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, TransformersView, digest, pad, row_key, run, tokenizer_hash

log = logging.getLogger(__name__)


class CausalLM(TransformersView):
    """Rows for a decoder-only language model.

    Args:
        tokenizer: a fast transformers tokenizer.
        max_length: the window in tokens, prompt and completion together.
        overflow: what happens to a row that is longer. ``shorten``: the prompt loses tokens on its left until the row
            fits; a completion (or text) that is longer than the window alone is cut on its right. ``drop``: it is left
            out. Either is counted and said.
        end: whether completions and texts close with the tokenizer's end-of-sequence token (chats close as their
            template does).

    Attributes:
        vocabulary: ids that mean something; logits are cut to these, since models pad their vocabularies, each to a
            number of its own. Where teacher and student share a tokenizer in part, the run sets it to the ids that
            they share.
        projects: whether logits are made; otherwise `Unprojected` stands for them, see `unprojected`.
        unit: in which rows tell how much of an answer was read before each of its tokens; see `counting`.
    """

    auto: ClassVar = "AutoModelForCausalLM"
    formats: ClassVar = ("text", "completion", "chat", "preference")
    primary: ClassVar = ("perplexity", False)

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int = 1024,
        overflow: Literal["shorten", "drop"] = "shorten",
        end: bool = True,
    ) -> None:
        if end and tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end-of-sequence token, so a student never learns to stop; set one")
        self.tokenizer, self.max_length, self.overflow, self.end = tokenizer, max_length, overflow, end
        self.vocabulary = len(tokenizer)
        self.unit: Literal["index", "bytes"] | None = None
        self.projects = True

    def counting(self, unit: Literal["index", "bytes"]) -> CausalLM:
        """The same view, whose rows tell how much of an answer was read before each of its tokens: ``read``.

        Two models whose tokens differ are set side by side by it (`stillroom.blocks.alignment`).

        Args:
            unit: tokens of the answer (``index``), or its bytes.
        """
        view = copy.copy(self)
        view.unit = unit
        return view

    def unprojected(self, model: nn.Module, arguments: dict[str, Tensor]) -> CausalLM:
        """The same view, which gives hidden states beside the head in place of logits; this one where that can't be.

        Whether it can is tried: the head that is read off the model, applied to the states before it, must give the
        logits that the model gives.

        Args:
            model: whose logits they are.
            arguments: of a forward pass; it is tried on the first tokens of its first row.
        """
        arguments = {name: value[:1, :8] for name, value in arguments.items()}
        view = copy.copy(self)
        view.projects = False
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad():
                whole = self.emit(model, arguments, ("logits",)).logits
                found: Any = view.emit(model, arguments, ("logits",)).logits
                assert whole is not None
                same = torch.allclose(found.dense().float(), whole.float(), rtol=1e-3, atol=1e-3)
        except (TypeError, ValueError, AttributeError):  # a forward pass without logits_to_keep, or no linear head
            same = False
        finally:
            for module, training in modes:
                module.training = training
        if same:
            return view
        log.info("%s makes logits in a way of its own, so they are made whole", type(model).__name__)
        return self

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer, template, window and overflow rule."""
        told = (self.unit,) if self.unit else ()
        return digest("language", tokenizer_hash(self.tokenizer), self.max_length, self.overflow, self.end, *told)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``input_ids`` and, for each token, whether it is ``trained``.

        Of a preference these are both answers', one after the other; ``sizes`` says how many tokens each has.
        """
        if row.get("chosen") is not None:
            return self._encode_pair(row)
        ids, trained, ends = self._tokens(row)
        encoded: dict[str, Any] = {"id": row_key(row), "dropped": "", "shortened": len(ids) > self.max_length}
        kept = self._kept(ids, trained) if encoded["shortened"] else slice(None)
        encoded |= self._within(kept, ids, trained, ends)
        if encoded["shortened"] and self.overflow == "drop":
            encoded["dropped"] = f"longer than {self.max_length} tokens"
        elif not any(encoded["trained"][1:]):
            encoded["dropped"] = "no token to train on"
        return encoded | {"length": len(encoded["input_ids"])}

    def _encode_pair(self, row: Row) -> dict[str, Any]:
        """Both answers after the same prompt: what it loses on its left, it loses for both."""
        key = row_key(row)
        told = [self._tokens({"prompt": row["prompt"], "completion": row[name]}) for name in ("chosen", "rejected")]
        shortened = max(len(ids) for ids, _, _ in told) > self.max_length
        cut = max(self._kept(ids, trained).start for ids, trained, _ in told)
        sides = [self._within(slice(cut, cut + self.max_length), *side) for side in told]
        dropped = ""
        if shortened and self.overflow == "drop":
            dropped = f"longer than {self.max_length} tokens"
        elif not all(any(side["trained"][1:]) for side in sides):
            dropped = "no token to train on"
        elif sides[0]["input_ids"] == sides[1]["input_ids"]:
            dropped = "chosen and rejected are the same tokens"
        joined = {name: [value for side in sides for value in side[name]] for name in sides[0]}
        sizes = [len(side["input_ids"]) for side in sides]
        about = {"id": key, "ids": [f"{key}/chosen", f"{key}/rejected"], "dropped": dropped, "shortened": shortened}
        return about | joined | {"sizes": sizes, "length": sum(sizes)}

    def _within(self, kept: slice, ids: list[int], trained: list[bool], ends: list[int]) -> dict[str, Any]:
        """The tokens that are kept, and what is said about each."""
        found: dict[str, Any] = {"input_ids": ids[kept], "trained": trained[kept]}
        if self.unit is not None:
            found["read"] = _read(trained, ends if self.unit == "bytes" else None)[kept]
        return found

    def prompt(self, row: Row) -> list[int]:
        """The tokens that an answer is to follow: the prompt, or the conversation before the assistant's last turn.

        Raises:
            UserError: the row is a plain text, which asks for nothing.
        """
        if row.get("messages") is not None:
            turns = list(row["messages"])
            asked = turns[:-1] if turns[-1]["role"] == "assistant" else turns
            text = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if row.get("prompt") is None:
            raise UserError("plain texts have no prompt to answer; give rows of prompt and completion, or of messages")
        return self.tokenizer(row["prompt"])["input_ids"]

    def _tokens(self, row: Row) -> tuple[list[int], list[bool], list[int]]:
        """Ids, which of them are trained, and after how many bytes of their answer they end (if that is asked)."""
        end = [self.tokenizer.eos_token_id] if self.end else []
        if row.get("messages") is not None:
            return self._chat(row["messages"])
        if row.get("prompt") is not None:
            prompt = self.tokenizer(row["prompt"])["input_ids"]
            answer, ends = self._cut(row["completion"], add_special_tokens=False)
            trained = [False] * len(prompt) + [True] * len(answer + end)
            return prompt + answer + end, trained, [0] * len(prompt) + ends + [0] * len(end)
        ids, ends = self._cut(row["text"], add_special_tokens=True)
        return ids + end, [True] * len(ids + end), ends + [0] * len(end)

    def _cut(self, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[int]]:
        if self.unit == "bytes":
            return byte_ends(self.tokenizer, text, add_special_tokens=add_special_tokens)
        ids = self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        return ids, [0] * len(ids)

    def _chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], list[bool], list[int]]:
        """Train on what the assistant says and on the mark that ends its turn.

        Turns are found in the rendered text, by characters: a turn lies between the conversation before it (with the
        generation prompt) and the conversation up to it. A template that rewrites earlier turns (as some do with
        thoughts) leaves only the last turn to be found so, and then only that is trained.
        """
        render = self.tokenizer.apply_chat_template
        whole = render(messages, tokenize=False)
        spans = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = render(messages[:number], tokenize=False, add_generation_prompt=True)
            upto = render(messages[: number + 1], tokenize=False)
            if whole.startswith(before) and whole.startswith(upto):
                # Templates set different things before and after what is said; bytes are counted from there.
                said = whole.find(message["content"].strip(), len(before), len(upto))
                spans.append((len(before), len(upto), said if said >= 0 else len(before)))
        if not spans:
            raise UserError(
                "the chat template's generation prompt is not a prefix of the rendered conversation, so the "
                "assistant's tokens can't be told from the prompt; use another template, or prompt/completion rows"
            )
        encoding = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        trained = [
            any(start >= first and stop <= last and stop > start for first, last, _ in spans)
            for start, stop in encoding["offset_mapping"]
        ]
        ends = self._chat_ends(whole, encoding, spans) if self.unit == "bytes" else []
        return encoding["input_ids"], trained, ends

    def _chat_ends(self, whole: str, encoding: Any, spans: Sequence[tuple[int, int, int]]) -> list[int]:
        """After how many bytes of what its turn says each token ends; 0 outside the assistant's turns."""
        ends = [0] * len(encoding["input_ids"])
        in_all = ends_of(self.tokenizer, encoding["input_ids"], encoding["offset_mapping"], whole)
        for first, last, said in spans:
            start = len(whole[:said].encode())
            for place, (left, right) in enumerate(encoding["offset_mapping"]):
                if first <= left < right <= last:
                    ends[place] = in_all[place] if in_all[place] == UNKNOWN else max(in_all[place] - start, 0)
        return ends

    def _kept(self, ids: list[int], trained: list[bool]) -> slice:
        """Which tokens of a row that is too long are kept."""
        first = trained.index(True) if True in trained else len(trained)
        cut = min(max(len(ids) - self.max_length, 0), max(first - 1, 0))
        return slice(cut, cut + self.max_length)

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """[B, T] tensors; labels and mask are moved so that place t speaks of the token that logits[t] predict."""
        answers = [answer for row in rows for answer in _answers(row)]
        pad_id = self.tokenizer.pad_token_id
        ids, real = pad([row["input_ids"] for row in answers], pad_id if pad_id is not None else 0)
        trained, _ = pad([row["trained"] for row in answers])
        labels = torch.roll(ids, -1, dims=1)
        mask = torch.roll(trained.bool(), -1, dims=1)
        mask[:, -1] = False
        told = [row["read"] for row in answers if row.get("read") is not None]
        read = torch.roll(pad(told)[0], -1, dims=1) if told else None
        compared = bool(rows) and bool(rows[0].get("sizes"))
        return Inputs(
            ids=[row["id"] for row in answers],
            arguments={"input_ids": ids, "attention_mask": real.long()},
            mask=mask,
            labels=labels,
            read=read,
            columns={"pairs": torch.arange(len(answers)).reshape(-1, 2)} if compared else {},
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, T, V], soft-cap and scale included, without the vocabulary's padding; hidden states; taps."""
        if "logits" in needs and not self.projects:
            return self._emit_unprojected(model, arguments, needs)
        output, signals = run(model, arguments, needs, use_cache=False)
        if "logits" in needs:
            signals.logits = output.logits[..., : self.vocabulary]
        signals.mask = arguments["attention_mask"].bool()
        return signals

    def _emit_unprojected(self, model: Any, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """The model is run whole, so that whatever wraps it takes part; it projects one place a row."""
        states: list[Tensor] = []
        handle = model.base_model.register_forward_hook(lambda _m, _i, output: states.append(output[0]))
        try:
            _, signals = run(model, arguments, needs, use_cache=False, logits_to_keep=1)
        finally:
            handle.remove()
        head = head_of(model)
        if head is None or len(states) != 1:
            raise ValueError("the model's logits are not made by one linear layer")
        signals.logits = cast(Tensor, Unprojected(states[0], head.first(min(self.vocabulary, head.ids))))
        signals.mask = arguments["attention_mask"].bool()
        return signals


def head_of(model: Any) -> Head | None:
    """The head of a transformers language model with its scale and soft cap; None where it is no plain one."""
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    return Head.of(model.get_output_embeddings(), scale=scale, softcap=getattr(config, "final_logit_softcapping", None))


def _answers(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """An encoded row as its answers: two of a preference, itself of any other."""
    if not row.get("sizes"):
        return [row]
    first = row["sizes"][0]
    parts = (slice(0, first), slice(first, None))
    lists = [name for name in ("input_ids", "trained", "read") if row.get(name) is not None]
    return [
        {"id": name} | {column: row[column][part] for column in lists}
        for name, part in zip(row["ids"], parts, strict=True)
    ]


def _read(trained: Sequence[bool], ends: Sequence[int] | None) -> list[int]:
    """How much of its answer was read before each trained token: bytes, or tokens where no ends are given.

    Answers (stretches of trained tokens) are told apart by their number from the last one, in the upper 32 bits: a
    template may hide earlier turns from training, and a number from the first one would then differ.
    """
    read, done, left = [0] * len(trained), 0, _stretches(trained)
    for place, counts in enumerate(trained):
        if not counts:
            done = 0
            continue
        if place == 0 or not trained[place - 1]:
            left -= 1
        read[place] = done if done == UNKNOWN else (left << 32) + done
        done = done + 1 if ends is None else ends[place]
    return read


def _stretches(trained: Sequence[bool]) -> int:
    return sum(now and not before for before, now in zip([False, *trained], trained, strict=False))
