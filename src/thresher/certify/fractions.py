"""Which passages are left when a share of an index is pruned: a mask by passage number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thresher.quality.store import ScoreStore
    from thresher.search.index import Index


def kept(index: Index, scores: ScoreStore | str | NDArray[np.float32], fraction: float) -> NDArray[np.bool_]:
    """bool[n] by passage number: the passages that stay when the lowest-scored share `fraction` is pruned.

    Args:
        index: its passages.
        scores: a score store, the name of an estimator, or float32[n] by passage number.
        fraction: share of the live passages that goes, at least 0 and below 1.
    """
    raise NotImplementedError
