"""The student of a recipe: a saved model, one made from nothing, one cut out of another, or a static one."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from stillroom.errors import UserError, nearest, need
from stillroom.recipe import Cut, Model, Scratch, Static
from stillroom.views.base import LibraryView, TransformersView
from stillroom.views.image import ImageClassifier
from stillroom.views.load import Opened, open_model, view_class
from stillroom.views.locate import locate
from stillroom.views.sentence import SentenceEncoder
from stillroom.views.static import StaticEncoder

Texts = Callable[[], Iterable[str]]

NO_TEACHER = "{key} is 'teacher', and the recipe has no single teacher that runs here; name a model"

# A plain chat format, so that a model made from nothing can be talked to: each turn is a line of its own, closed by
# <|end|>.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CHAT_TOKENS = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
ENCODER_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
CAPTION_TOKENS = ["<|pad|>", "<|endoftext|>", "<|startoftext|>"]  # CLIP does not look for an end of number 2


def open_student(student: Model, task: str, teacher: Opened | None, texts: Texts, seed: int) -> Opened:
    """The student, ready to be trained.

    Args:
        student: the recipe's.
        task: the recipe's; the kind of model where ``student.kind`` says nothing.
        teacher: opened, for a student that is cut out of it.
        texts: gives the texts of the training rows, for vocabularies.
        seed: of new weights.
    """
    kind = student.kind or task
    options = student.options | ({"max_length": student.max_length} if student.max_length else {})
    dtype = getattr(torch, student.dtype)
    if student.model is not None:
        return open_model(
            student.model, kind, revision=student.revision, dtype=dtype, attention=student.attention, **options
        )
    torch.manual_seed(seed)
    if student.new is not None:
        with tempfile.TemporaryDirectory() as folder:
            new_model(student.new, kind, texts, Path(folder))
            return open_model(folder, kind, dtype=dtype, attention=student.attention, **options)._replace(source="new")
    if student.static is not None:
        return static_model(student.static, kind, teacher, texts, options, dtype)
    assert student.cut is not None
    return cut_model(student.cut, kind, teacher, texts, options)


def new_model(scratch: Scratch, kind: str, texts: Texts, folder: Path) -> None:
    """Write an untrained model and its tokenizer into a folder, as its library reads them.

    Raises:
        UserError: an unknown architecture, or a setting it does not know.
    """
    view = view_class(kind)
    if issubclass(view, LibraryView):
        return view.new(scratch.architecture, scratch.config, folder)
    tokenizer = None if issubclass(view, ImageClassifier) else _new_tokenizer(scratch, kind, texts)
    from_config(new_config(scratch, tokenizer), kind).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if kind == "late-interaction":
        _as_late_interaction(folder)
    elif issubclass(view, SentenceEncoder):
        _as_pipeline(folder, normalise=view is SentenceEncoder)


def from_config(config: Any, kind: str) -> Any:
    """An untrained model of this configuration.

    Raises:
        UserError: its sizes do not fit together.
    """
    import transformers

    view = view_class(kind)
    auto = view.auto if issubclass(view, TransformersView) else "AutoModel"
    try:
        return getattr(transformers, auto).from_config(config)
    except (ValueError, TypeError) as error:
        raise UserError(f"there can be no {config.model_type} with these settings: {error}") from error


def new_config(scratch: Scratch, tokenizer: Any) -> Any:
    """The configuration of a model to be made from nothing.

    Raises:
        UserError: an unknown architecture, or a setting it does not know.
    """
    import transformers

    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if scratch.architecture not in known:
        raise UserError(
            f"transformers has no architecture {scratch.architecture!r}{nearest(scratch.architecture, known)}"
        )
    plain = transformers.AutoConfig.for_model(scratch.architecture)
    if unknown := [name for name in scratch.config if not hasattr(plain, name)]:
        names = [name for name in vars(plain) if not name.startswith("_")]
        raise UserError(f"{scratch.architecture} has no setting {unknown[0]!r}{nearest(unknown[0], names)}")
    fixed: dict[str, Any] = {}
    if tokenizer is not None:
        fixed = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if tokenizer is not None and tokenizer.eos_token_id is not None:
        fixed["eos_token_id"] = tokenizer.eos_token_id
    if hasattr(plain, "text_config") and not hasattr(plain, "vocab_size"):  # one of several towers
        fixed = {"text_config": fixed | {"bos_token_id": tokenizer.bos_token_id} if tokenizer is not None else {}}
        fixed["text_config"] |= scratch.config.get("text_config", {})
        scratch = scratch.model_copy(update={"config": scratch.config | fixed})
    try:
        return transformers.AutoConfig.for_model(scratch.architecture, **(fixed | scratch.config))
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = str(error.__cause__ or error)
        raise UserError(f"there can be no {scratch.architecture} with these settings: {reason}") from error


def _new_tokenizer(scratch: Scratch, kind: str, texts: Texts) -> Any:
    if scratch.tokenizer is None:
        return train_tokenizer(texts(), scratch.vocabulary, kind)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(locate(scratch.tokenizer, weights=False))


def _as_pipeline(folder: Path, *, normalise: bool) -> None:
    """Make the transformer in this folder a sentence-transformers pipeline: mean pooling, and unit length if asked."""
    library = need("sentence_transformers", "embeddings")
    parts = import_module("sentence_transformers.sentence_transformer.modules")
    body = parts.Transformer(str(folder))
    pooling = parts.Pooling(body.get_embedding_dimension(), "mean")
    modules = [body, pooling, *([parts.Normalize()] if normalise else [])]
    library.SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)


def _as_late_interaction(folder: Path) -> None:
    """Make the transformer in this folder a multi-vector pipeline of sentence-transformers, as ColBERT's are."""
    from stillroom.views.late import as_pipeline

    need("sentence_transformers", "embeddings")
    as_pipeline(folder).save_pretrained(str(folder), create_model_card=False)


def train_tokenizer(texts: Iterable[str], size: int, kind: str = "language") -> Any:
    """A byte-level BPE tokenizer trained on texts.

    Language models get a plain chat template and an end-of-sequence token; encoders get [CLS] and [SEP] around a text,
    the text towers of image-text models its start and end, as CLIP has them.

    Args:
        texts: read once.
        size: of the vocabulary, special tokens included.
        kind: of the model that will read its ids.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = {"language": CHAT_TOKENS, "image-text": CAPTION_TOKENS}.get(kind, ENCODER_TOKENS)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "language":
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token="<|end|>",
            pad_token="<|pad|>",
            extra_special_tokens=CHAT_TOKENS[2:],
            model_input_names=["input_ids", "attention_mask"],
        )
        wrapped.chat_template = CHAT_TEMPLATE
        return wrapped
    if kind == "image-text":
        pad, end, start = CAPTION_TOKENS
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A {end}",
            special_tokens=[(start, CAPTION_TOKENS.index(start)), (end, CAPTION_TOKENS.index(end))],
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=start,
            eos_token=end,
            pad_token=pad,
            model_input_names=["input_ids", "attention_mask"],
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ENCODER_TOKENS.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names
    )


def cut_model(cut: Cut, kind: str, teacher: Opened | None, texts: Texts, options: dict[str, Any]) -> Opened:
    """A smaller copy of a model: fewer layers, factorised embeddings, a smaller vocabulary.

    Raises:
        UserError: it is a model of two towers, or there is nothing to cut it out of.
    """
    from stillroom.students import build

    if kind == "image-text":
        raise UserError("student.cut is for models of one tower; name a student of two, or make one with student.new")

    source = _source(cut.of, "student.cut.of", kind, teacher)
    if kind == "embeddings":
        return _cut_pipeline(cut, source, texts, options)
    like: Any = source.view
    model, tokenizer = build(
        copy.deepcopy(source.model),
        like.tokenizer,
        layers=cut.layers,
        embedding_size=cut.embedding_size,
        vocabulary=cut.vocabulary,
        corpus=texts(),
    )
    view = type(like)(tokenizer, **({"max_length": like.max_length} | options))
    return Opened(model.requires_grad_(True), view, f"cut of {source.source}")


def _source(of: str, key: str, kind: str, teacher: Opened | None) -> Opened:
    """The model that a student is made of: the recipe's teacher, or another."""
    if of != "teacher":
        return open_model(of, kind)
    if teacher is None:
        raise UserError(NO_TEACHER.format(key=key))
    return teacher


def static_model(
    static: Static, kind: str, teacher: Opened | None, texts: Texts, options: dict[str, Any], dtype: torch.dtype
) -> Opened:
    """A bag of token vectors, made of a sentence encoder.

    Raises:
        UserError: the model is of another kind, or there is nothing to make it of, or not in this way.
    """
    from stillroom.students.static import static_student

    if kind != "embeddings":
        raise UserError(f"student.static is for models of the kind 'embeddings'; this one is {kind!r}")
    source = _source(static.of, "student.static.of", kind, teacher)
    if isinstance(source.view, StaticEncoder):
        raise UserError(f"{source.source} is static already; name it as student.model to train it on")
    model, tokenizer = static_student(
        source.model,
        source.view,
        dimensions=static.dimensions,
        start=static.start,
        weights=static.weights,
        vocabulary=static.vocabulary,
        corpus=texts,
    )
    return Opened(model.to(dtype), StaticEncoder(tokenizer, **options), f"static, of {source.source}")


def _cut_pipeline(cut: Cut, source: Opened, texts: Texts, options: dict[str, Any]) -> Opened:
    """Cut the transformer inside a sentence-transformers pipeline; pooling and what follows stay."""
    from stillroom.students import build

    if isinstance(source.view, StaticEncoder):
        raise UserError(f"{source.source} is a static model, and there is nothing to cut in it; name an encoder")
    library = need("sentence_transformers", "embeddings")
    whole: Any = source.model
    like: Any = source.view
    first, *rest = [copy.deepcopy(module) for module in whole]
    model, tokenizer = build(
        first.auto_model,
        whole.tokenizer,
        layers=cut.layers,
        embedding_size=cut.embedding_size,
        vocabulary=cut.vocabulary,
        corpus=texts(),
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        opened = open_model(folder, "embeddings", **({"max_length": like.max_length} | options))
    body: Any = opened.model
    pipeline = library.SentenceTransformer(modules=[body[0], *rest], device="cpu")
    pipeline.max_seq_length = whole.max_seq_length
    return Opened(pipeline.requires_grad_(True), opened.view, f"cut of {source.source}")


TEXT_COLUMNS = ("text", "prompt", "completion", "chosen", "rejected", "anchor", "positive")


def texts_of(rows: Any) -> Iterator[str]:
    """Every text in every row, whatever its format."""
    known = [name for name in (*TEXT_COLUMNS, "messages", "negative") if name in rows.column_names]
    for batch in rows.select_columns(known).iter(1000):
        for column in TEXT_COLUMNS:
            yield from (text for text in batch.get(column, []) if text)
        yield from (" ".join(words) for words in batch.get("tokens", []))
        for conversation in batch.get("messages", []):
            yield from (turn["content"] for turn in conversation)
        for negatives in batch.get("negative", []):
            yield from [negatives] if isinstance(negatives, str) else negatives
