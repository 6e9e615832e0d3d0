"""The pipelines that a certificate is about, as runs of one index.

lexical        BM25's terms alone, where the index has them
sparse         `Index.search`
interpolated   a `Pipeline` without reranking and sentence selection
reranked       a `Pipeline` without sentence selection, where a ranker is there
context        the passages that the whole `Pipeline` hands over
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.ranking import Run
    from thresher.records import Query
    from thresher.search.index import Index
    from thresher.search.queries import Tiers

PIPELINES = ("lexical", "sparse", "interpolated", "reranked", "context")


def runs_of(
    index: Index,
    queries: Sequence[Query],
    pipelines: Sequence[str] = PIPELINES,
    k: int = 1000,
    *,
    allow: NDArray[np.bool_] | None = None,
    tiers: Tiers = "auto",
) -> dict[str, Run]:
    """The runs of some pipelines over an index.

    Args:
        index: it is searched as it is; what a pipeline needs and it lacks is an error.
        queries: what is asked.
        pipelines: which, of `PIPELINES`.
        k: results a query.
        allow: bool[n] by passage number: which passages may be found; None for all.
        tiers: as in `Index.search`.
    """
    raise NotImplementedError
