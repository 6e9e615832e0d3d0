"""Pseudo-relevance feedback on vectors: a query's vector moved towards those of the passages found for it.

Rocchio's rule on dense vectors (Li et al., "Pseudo relevance feedback with deep language models and dense retrievers",
ACM TOIS 2023, arXiv 2108.11044, section 3.2): the new query is the sum of the old one and `weight` times the mean
vector of the first few passages. The paper retrieves with it afresh; `thresher.vectors.interpolate` interpolates the
same ranking again (`feedback=`). Both interpolations stop early, each provably with the top k of its own query, so
that the feedback costs a second handful of look-ups and no model.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.vectors.store import ForwardIndex


def rocchio(
    index: ForwardIndex,
    query: NDArray[Any],
    docnos: Sequence[str],
    *,
    weight: float = 1.0,
    vectors: Mapping[str, NDArray[Any]] | None = None,
) -> NDArray[np.float32]:
    """The query's vector after feedback from `docnos`, as long as it was before.

    Args:
        index: holds the vectors of `docnos`.
        query: the query's vector, float[dimensions].
        docnos: the feedback passages, usually the first three; a document of several vectors counts by the one
            nearest to the query. None of them leaves the query as it is.
        weight: of the mean feedback vector beside the query's own.
        vectors: of passages that the index does not hold, float[dimensions] each.

    Returns:
        float32[dimensions].

    Raises:
        InputError: a negative weight, a docno that is not in the index, or a query of another shape.
    """
    if not weight >= 0:
        raise InputError(f"the weight of the feedback is {weight}; give 0 or more")
    vector = index.checked_query(query)
    if not docnos or weight == 0:
        return vector
    beside = vectors or {}
    rows, starts = index.rows_of(index.positions([docno for docno in docnos if docno not in beside]))
    decoded = index.stored.decode(rows).astype(np.float64)
    dots = decoded @ vector.astype(np.float64)
    nearest = [low + int(np.argmax(dots[low:high])) for low, high in pairwise(starts.tolist())]
    read = [*decoded[nearest], *(np.asarray(beside[docno], np.float64) for docno in docnos if docno in beside)]
    moved = vector.astype(np.float64) + weight * np.mean(read, axis=0)
    length, before = np.linalg.norm(moved), np.linalg.norm(vector.astype(np.float64))
    if length == 0:
        return vector
    scaled: NDArray[np.float32] = (moved * (before / length)).astype(np.float32)
    return scaled
