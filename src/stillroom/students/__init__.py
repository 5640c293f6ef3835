"""Make a student out of a larger model: fewer layers, a smaller vocabulary, narrower embeddings.

`build` does what a recipe's ``student.cut`` says; `keep_layers`, `choose_ids` with `cut_model` and `cut_tokenizer`, and
`factorise` are the single cuts. All return new models, leave what came in as it is, and need nothing but transformers
to be loaded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stillroom.errors import UserError


def build(
    model: Any,
    tokenizer: Any,
    *,
    layers: Sequence[int] | None = None,
    embedding_size: int | None = None,
    vocabulary: int | None = None,
    corpus: Iterable[str] = (),
) -> tuple[Any, Any]:
    """A smaller copy of a model, and its tokenizer; what came in stays as it is.

    Args:
        model: a transformers model; of a sentence-transformers pipeline, the one in its first module.
        tokenizer: its fast tokenizer.
        layers: which layers stay, from 0 (negative ones count from the last); None keeps all.
        embedding_size: width of factorised token embeddings, for a `BertModel` only, which becomes an `ElectraModel`;
            None leaves them whole.
        vocabulary: how many tokens stay, the most frequent in the corpus; None keeps all.
        corpus: texts that the student is for, read once where a vocabulary is cut or embeddings are fitted.

    Raises:
        UserError: the model can't be cut so, or there are no texts to cut by; the message says why.
    """
    from stillroom.students.factorise import factorise
    from stillroom.students.truncate import keep_layers
    from stillroom.students.vocabulary import choose_ids, count_tokens, cut_model, cut_tokenizer

    by_corpus = vocabulary is not None or embedding_size is not None
    try:
        counts = count_tokens(tokenizer, corpus if by_corpus else ())
        if by_corpus and not counts.any():
            raise UserError(
                "a vocabulary and the width of embeddings are cut by what a corpus uses, and it has no texts"
            )
        if layers is not None:
            model = keep_layers(model, layers)
        if vocabulary is not None:
            keep = choose_ids(tokenizer, counts, vocabulary)
            model, tokenizer, counts = cut_model(model, keep), cut_tokenizer(tokenizer, keep), counts[keep]
        if embedding_size is not None:
            model = factorise(model, embedding_size, counts)
    except ValueError as error:
        raise UserError(f"the student can't be cut so: {error}") from error
    return model, tokenizer
