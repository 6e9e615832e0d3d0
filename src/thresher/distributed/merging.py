"""What several shards found, merged: the best of all of them, by score, then docno."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.errors import InputError
from thresher.search.results import Explanation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.distributed.messages import Found
    from thresher.distributed.shared_terms import Query


class Collected:
    """The best passages of one query, of one tier, so far."""

    def __init__(self, k: int, least: float) -> None:
        self.k, self.least = k, least
        self.found: list[tuple[int, Found]] = []
        self._scores: list[float] = []

    def add(self, shard: int, found: Found) -> None:
        """Add a shard's answer."""
        self.found.append((shard, found))
        if found.docnos:
            self._scores = sorted(self._scores + list(found.scores))[-self.k :]
            if len(self._scores) == self.k:
                self.least = max(self.least, self._scores[0])


class TierAnswer(NamedTuple):
    """What one tier found for one query, over all shards.

    Attributes:
        docnos, scores, shards: of the passages, best first; float64[n] and int64[n].
        exact: whether it is the tier's exact top-k.
        complete: whether every shard answered in full.
        explanations: how it was found; one at most.
    """

    docnos: list[str]
    scores: NDArray[np.float64]
    shards: NDArray[np.int64]
    exact: bool
    complete: bool
    explanations: tuple[Explanation, ...]


def merged_parts(found: Sequence[tuple[int, Found]], k: int, query: Query, *, whole: bool, explain: bool) -> TierAnswer:
    """The k best of what shards found for one query.

    Args:
        found: shards and their answers.
        k: passages wanted.
        query: as the shards scored it.
        whole: no shard is missing.
        explain: say how it was found.

    Raises:
        InputError: a passage is in two shards.
    """
    docnos = [docno for _, one in found for docno in one.docnos]
    scores = np.array([score for _, one in found for score in one.scores])
    shards = np.repeat(np.array([shard for shard, _ in found], np.int64), [len(one.docnos) for _, one in found])
    order = best_places(docnos, scores, k)
    chosen = [docnos[i] for i in order]
    if len(set(chosen)) < len(chosen):
        twice = Counter(chosen).most_common(1)[0][0]
        raise InputError(f"docno {twice!r} is in two shards; the shards of an index share no passage")
    told = _joined([Explanation(**row) for _, one in found for row in one.told], len(query.terms))  # type: ignore[arg-type]
    exact = whole and all(one.exact for _, one in found) and not query.dropped
    complete = whole and all(one.complete for _, one in found)
    return TierAnswer(chosen, scores[order], shards[order], exact, complete, told if explain else ())


def best_places(docnos: Sequence[str], scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Places of the k best: by score, then by docno, whose code points order as their UTF-8 does."""
    places = np.arange(len(scores))
    if 0 < k < len(scores):
        places = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
    order = sorted(places.tolist(), key=lambda i: (-scores[i], docnos[i]))[:k]
    return np.array(order, np.int64)


def _joined(told: Sequence[Explanation], terms: int) -> tuple[Explanation, ...]:
    """How the shards of a tier answered, added up."""
    values: dict[str, object] = {}
    for name in (field.name for field in fields(Explanation)):
        own = [getattr(one, name) for one in told]
        if name == "plan":
            values[name] = ", ".join(dict.fromkeys(own))
        else:
            values[name] = max(own, default=0.0) if name in ("threshold", "bound", "first_terms") else sum(own)
    return (Explanation(**{**values, "terms": terms}),)  # type: ignore[arg-type]  # by the names of its fields
