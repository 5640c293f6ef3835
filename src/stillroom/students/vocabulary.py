"""Cut a vocabulary to what a corpus uses, in the tokenizer and in the model.

Most rows of an embedding table serve languages and symbols that a given user never meets. The tokenizer is rebuilt with
the pieces kept; text that used a dropped piece is spelled with shorter ones, never with an unknown token that the full
tokenizer did not need, because every single character (or byte) stays.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stillroom.errors import UserError

Json = dict[str, Any]


def count_tokens(tokenizer: PreTrainedTokenizerFast, corpus: Iterable[str], chunk: int = 1000) -> Tensor:
    """[V] how often each id occurs in the corpus, special tokens included; V is the tokenizer's size."""
    counts = torch.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=torch.long)
    texts = iter(corpus)
    while some := list(islice(texts, chunk)):
        ids = tokenizer(some, verbose=False)["input_ids"]
        counts += torch.bincount(torch.tensor(list(chain.from_iterable(ids)), dtype=torch.long), minlength=len(counts))
    return counts


def choose_ids(tokenizer: PreTrainedTokenizerFast, counts: Tensor, size: int) -> list[int]:
    """The ids to keep, ascending: all that can't be spared, then the most frequent ones that occur at all.

    What can't be spared are special and added tokens, single characters and bytes, and (BPE) the pieces that a kept
    piece is merged from. Where the corpus uses fewer than ``size`` ids, the result holds fewer.

    Raises:
        UserError: ``size`` is too small for the ids that can't be spared, or the tokenizer is of another kind.
    """
    described = _describe(tokenizer)
    vocabulary: dict[str, int] = described["model"]["vocab"]
    parts = _merge_parts(described["model"])
    prefix = described["model"].get("continuing_subword_prefix") or ""
    kept = {added["id"] for added in described["added_tokens"]}
    kept |= {number for piece, number in vocabulary.items() if _is_atom(piece, prefix)}
    kept |= {vocabulary[piece] for piece in [described["model"].get("unk_token")] if piece in vocabulary}
    if len(kept) > size:
        raise UserError(
            f"a vocabulary of {size} is too small: special tokens and single characters alone are {len(kept)}"
        )
    pieces = {number: piece for piece, number in vocabulary.items()}
    pieces |= {added["id"]: added["content"] for added in described["added_tokens"]}
    often, order = counts.sort(descending=True, stable=True)
    for number in order[often > 0].tolist():
        wanted = {vocabulary[piece] for piece in _family(pieces[number], parts) if piece in vocabulary} - kept
        if len(kept) + len(wanted) <= size:
            kept |= wanted
    return sorted(kept)


def cut_tokenizer(tokenizer: PreTrainedTokenizerFast, keep: list[int]) -> PreTrainedTokenizerFast:
    """A tokenizer of the same kind with only the ids kept, numbered anew from 0 in the order of ``keep``."""
    described = _describe(tokenizer)
    model = described["model"]
    number = {old: new for new, old in enumerate(keep)}
    model["vocab"] = {piece: number[old] for piece, old in model["vocab"].items() if old in number}
    if model["type"] == "BPE":
        whole = model["vocab"]
        model["merges"] = [[a, b] for a, b in model["merges"] if a in whole and b in whole and a + b in whole]
    for added in described["added_tokens"]:
        added["id"] = number[added["id"]]
    if described["padding"]:
        described["padding"]["pad_id"] = number[described["padding"]["pad_id"]]
    _renumber_template(described["post_processor"], number)
    smaller = copy.deepcopy(tokenizer)
    smaller._tokenizer = Tokenizer.from_str(json.dumps(described))
    return smaller


def cut_model(model: PreTrainedModel, keep: list[int]) -> PreTrainedModel:
    """A copy of the model whose embeddings and head have only the rows ``keep``, in that order.

    Which tensors have a vocabulary axis is read off a fresh model of the new size: the ones whose shape differs. So
    heads, tied or not, and their biases follow without being named.
    """
    config = copy.deepcopy(model.config)
    config.get_text_config().vocab_size = len(keep)
    number = {old: new for new, old in enumerate(keep)}
    _renumber_special(config, number)
    with torch.device(model.device):
        smaller: Any = type(model)(config)
    smaller.to(model.dtype)
    for name, _ in list(smaller.named_children()):
        if getattr(model, name) is None:
            setattr(smaller, name, None)  # a part that was left out on purpose, such as a BERT's pooler
    rows, fresh = torch.tensor(keep, device=model.device), smaller.state_dict()
    weights = model.state_dict()
    weights |= {name: value[rows] for name, value in weights.items() if value.shape != fresh[name].shape}
    smaller.load_state_dict(weights)
    if model.can_generate():
        smaller.generation_config = copy.deepcopy(model.generation_config)
        _renumber_special(smaller.generation_config, number)
    return smaller.train(model.training)


def _describe(tokenizer: PreTrainedTokenizerFast) -> Json:
    described: Json = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = described["model"]["type"]
    if kind not in ("WordPiece", "BPE"):
        raise UserError(f"the vocabulary of a {kind} tokenizer can't be cut yet; WordPiece and BPE can")
    return described


def _is_atom(piece: str, prefix: str) -> bool:
    """A single character, also as the continuation of a word, or a byte such as <0x0A>."""
    bare = piece.removeprefix(prefix) if prefix else piece
    return len(bare) == 1 or (len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"))


def _merge_parts(model: Json) -> dict[str, tuple[str, str]]:
    """BPE: the two pieces that each piece is merged from (the first merge that makes it); WordPiece: none."""
    parts: dict[str, tuple[str, str]] = {}
    for left, right in model.get("merges", ()):
        parts.setdefault(left + right, (left, right))
    return parts


def _family(piece: str, parts: Mapping[str, tuple[str, str]]) -> set[str]:
    """The piece and all that it is merged from."""
    family, open_ = set(), [piece]
    while open_:
        family.add(current := open_.pop())
        open_ += parts.get(current, ())
    return family


def _renumber_template(processor: Json | None, number: Mapping[int, int]) -> None:
    """Give the special tokens that a post-processor adds their new ids."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber_template(inner, number)
    for special in processor.get("special_tokens", {}).values():
        special["ids"] = [number[old] for old in special["ids"]]
    for role in ("cls", "sep"):
        if role in processor:
            token, old = processor[role]
            processor[role] = [token, number[old]]


def _renumber_special(config: Any, number: Mapping[int, int]) -> None:
    """``pad_token_id``, ``eos_token_id`` (one or several) and their like; an id that was not kept becomes None."""
    for holder in {id(config): config, id(_text(config)): _text(config)}.values():
        for key, value in list(vars(holder).items()):
            if not key.endswith("_token_id") or value is None:
                continue
            several = isinstance(value, list)
            new = [number[old] for old in (value if several else [value]) if old in number]
            setattr(holder, key, new if several else (new[0] if new else None))


def _text(config: Any) -> Any:
    return config.get_text_config() if hasattr(config, "get_text_config") else config
