r"""A static student: one vector a token, and a text's vector is the mean of its tokens' vectors.

No layer is left, so no token sees another; what is left is a table, hundreds of times as fast as an encoder. The first
table is made out of the encoder itself (model2vec, Tulkens and van Dongen, 2024): every token goes through it alone,
between its special tokens, and the vectors' first principal components are kept. A text's vector is

.. math:: s(x) = \frac{1}{n} \sum_{i=1}^{n} w_{x_i} e_{x_i},

with e the token's vector and w its weight, at first that of smooth inverse frequency (SIF; Arora, Liang and Ma, 2017,
equation 3), :math:`w = a / (a + p)` with p the token's share of running text. Frequent tokens say little, and without
weights they are most of the mean. Vectors and weights are then trained; at the end :math:`w e` becomes the vector and
the mean is a plain one.

Shapes: ``V`` tokens, ``D`` width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from stillroom.blocks.projectors import principal_components
from stillroom.blocks.weighted_bag import WeightedBag
from stillroom.errors import UserError, need
from stillroom.students.vocabulary import choose_ids, count_tokens, cut_tokenizer

Start = Literal["teacher", "random"]
Weights = Literal["corpus", "zipf", "none"]

SIF = 1e-4  # a of the weights: the share of running text at which a token counts half
AT_ONCE = 512  # tokens that an encoder is asked about in a batch


def static_student(
    model: Any,
    view: Any,
    *,
    dimensions: int = 256,
    start: Start = "teacher",
    weights: Weights = "corpus",
    vocabulary: int | None = None,
    corpus: Callable[[], Iterable[str]] = list,
) -> tuple[Any, Any]:
    """A static pipeline of sentence-transformers, ready to be trained, and its tokenizer; the encoder stays as it is.

    Where the encoder's vectors are of unit length, so are the student's.

    Args:
        model: the encoder, a `SentenceTransformer`.
        view: its `SentenceEncoder`.
        dimensions: D, at most the encoder's width where vectors start from it.
        start: ``teacher`` takes the principal components of its vectors of single tokens, ``random`` draws from a
            normal distribution of variance 1 / D.
        weights: the first ones: by what share of the ``corpus`` a token is; by Zipf's law from its place in the
            vocabulary, which many tokenizers sort by frequency (``zipf``); all 1 (``none``).
        vocabulary: how many tokens stay, the most frequent in the corpus; None keeps all. Text that used another one is
            spelled with shorter tokens.
        corpus: gives the texts that the student is for; read once, where weights or vocabulary ask for them.

    Raises:
        UserError: the width is too large, the tokenizer is not a fast one, or there are no texts to count in.
    """
    need("sentence_transformers", "embeddings")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    tokenizer = view.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("a static student needs a fast tokenizer, and the model to make it of has a slow one")
    counts = _counts(tokenizer, corpus) if weights == "corpus" or vocabulary is not None else None
    width = model.get_embedding_dimension()
    if start == "teacher" and dimensions > width:
        raise UserError(
            f"the model's vectors have {width} dimensions and can't be reduced to {dimensions}; lower "
            "student.static.dimensions, or set student.static.start to random"
        )
    keep = list(range(len(tokenizer)))
    if vocabulary is not None:
        assert counts is not None
        keep = choose_ids(tokenizer, counts, vocabulary)
        tokenizer = cut_tokenizer(tokenizer, keep)
    vectors = reduced(token_vectors(model, view, keep), dimensions) if start == "teacher" else None
    if vectors is None:
        vectors = torch.randn(len(keep), dimensions) / dimensions**0.5
    table: Any = StaticEmbedding(whole_texts(tokenizer), embedding_dim=dimensions)
    table.embedding = WeightedBag(vectors, first_weights(weights, counts, keep))
    unit = isinstance(model[-1], Normalize)
    return SentenceTransformer(modules=[table, *([Normalize()] if unit else [])], device="cpu"), tokenizer


def whole_texts(tokenizer: Any) -> Any:
    """A copy of a fast tokenizer's inner one that neither cuts nor pads: `StaticEmbedding` reads texts whole."""
    inner = copy.deepcopy(tokenizer.backend_tokenizer)
    inner.no_truncation()
    inner.no_padding()
    return inner


@torch.no_grad()
def token_vectors(model: Any, view: Any, ids: list[int]) -> Tensor:
    """[V, D] an encoder's vectors of single tokens, each alone between the special tokens of a text.

    Args:
        model: the encoder.
        view: its view, which tells what stands around a text.
        ids: the tokens.
    """
    around, alone = (view.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    begins = next((place for place in range(len(around)) if around[place : place + len(alone)] == alone), None)
    if begins is None:
        raise UserError("the tokenizer reads a text otherwise between special tokens than alone; start at random")
    before, after = around[:begins], around[begins + len(alone) :]
    found, device = [], next(model.parameters()).device
    was_training = model.training
    model.eval()
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        inputs = view.collate([{"ids": [str(number)], "texts": [[*before, number, *after]]} for number in some])
        arguments = {name: value.to(device) for name, value in inputs.arguments.items()}
        found.append(view.emit(model, arguments, ("embedding",)).embedding.float().cpu())
    model.train(was_training)
    return torch.cat(found)


def reduced(vectors: Tensor, dimensions: int) -> Tensor:
    """[V, dimensions]: the principal components of centred vectors [V, D]."""
    return (vectors - vectors.mean(0)) @ principal_components(vectors, dimensions).T


def first_weights(kind: Weights, counts: Tensor | None, keep: list[int]) -> Tensor:
    """[kept] SIF weights a / (a + p) of the tokens kept, in (0, 1].

    Args:
        kind: where p, a token's share of running text, comes from: ``corpus``, its counts; ``zipf``, 1 / (rank + 1)
            over the sum of these, rank from 1 by the ids; ``none``, 0 for all.
        counts: [V] how often each id occurs, for ``corpus``.
        keep: the ids kept.
    """
    if kind == "none":
        return torch.ones(len(keep))
    if kind == "corpus":
        assert counts is not None
        shares = counts[torch.tensor(keep)].double()
    else:
        shares = 1 / torch.arange(2, len(keep) + 2, dtype=torch.float64)
    return (SIF / (SIF + shares / shares.sum())).float()


def _counts(tokenizer: Any, corpus: Callable[[], Iterable[str]]) -> Tensor:
    """[V] occurrences; none of special tokens, which a static student does not read."""
    counts = count_tokens(tokenizer, corpus())
    counts[torch.tensor(tokenizer.all_special_ids, dtype=torch.long)] = 0
    if not counts.any():
        raise UserError(
            "a static student's weights and vocabulary are counted in the data's texts, and there are none; set "
            "student.static.weights to zipf and leave the vocabulary out"
        )
    return counts
