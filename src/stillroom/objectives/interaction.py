"""Late interaction: a query and a document, each many vectors, compared vector by vector (ColBERT).

Shapes: ``...`` any leading sizes that broadcast, ``Q`` vectors of a query, ``T`` of a document, ``D`` width.
"""

from __future__ import annotations

from torch import Tensor

from stillroom.objectives.rows import in_float32, products

OUTSIDE = -9999.0  # the likeness of a document's vector that does not count


def maxsim(queries: Tensor, documents: Tensor, query_mask: Tensor, document_mask: Tensor) -> Tensor:
    """Each query vector's largest inner product with any of the document's, summed over the query's vectors.

    Args:
        queries: [..., Q, D].
        documents: [..., T, D].
        query_mask: [..., Q], the vectors that are summed over.
        document_mask: [..., T], the vectors that are looked at.

    Returns:
        [...], in at least float32.
    """
    asked = in_float32(queries).masked_fill(~query_mask.bool().unsqueeze(-1), 0.0)
    given = in_float32(documents).masked_fill(~document_mask.bool().unsqueeze(-1), 0.0)
    alike = products(asked, given).masked_fill(~document_mask.bool().unsqueeze(-2), OUTSIDE)
    return alike.amax(-1).masked_fill(~query_mask.bool(), 0.0).sum(-1)
