"""How an open index keeps a promised recall: which promise its curve supports for a search, and the search itself.

Where the curve says nothing, a search is exact: without a curve, after more changes than `STALE` allows, for more
passages than were measured, for one tier of two, or where so few passages may be returned that the k best of them
reach deeper than was measured.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, cast

from thresher.ranking import Run
from thresher.search.effort import EXACT as NO_LIMIT
from thresher.search.kernels.types import COMPLETE, EXACT
from thresher.search.queries import listed, qids_of
from thresher.search.recall import curve_of
from thresher.search.results import SearchRanking
from thresher.search.searcher import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.index.collection import Collection
    from thresher.records import SparseBatch
    from thresher.search.effort import Effort
    from thresher.search.parts import Masks
    from thresher.search.queries import AnyQuery
    from thresher.search.recall import Promise, RecallCurve
    from thresher.search.snapshot import Snapshot
    from thresher.search.tiers import Wanted

_log = logging.getLogger(__name__)
_HELD = 256
"""Promises that are kept, with the efforts made for them."""
_CALIBRATE = "run `thresher calibrate recall`"


class Promises:
    """What can be promised of one commit. Safe to share between threads.

    Args:
        collection: the commit.
        earlier: those of a commit before, which may have told already why it searches exactly.
    """

    def __init__(self, collection: Collection, earlier: Promises | None = None) -> None:
        self._collection = collection
        self._told: set[str] = set() if earlier is None else earlier._told
        self._known: dict[tuple[int, float, float], Promise | None] = {}

    @cached_property
    def curve(self) -> RecallCurve | None:
        """The curve, None where there is none that still holds; a log line says so once.

        Raises:
            DamagedArtifactError: it cannot be read.
        """
        found = curve_of(self._collection.commit, self._collection.path)
        if found is None:
            self._tell("none", "%s has no recall curve, so searches with recall= are exact; %s")
            return None
        why = found.stale(self._collection.commit)
        if why:
            self._tell("stale", f"%s: {why}, so searches with recall= are exact; %s")
            return None
        return found

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.warning(message, self._collection.path, _CALIBRATE)

    def choose(self, k: int, recall: float, share: float) -> Promise | None:
        """How to search for k passages where a share of all may be returned; None for exactly."""
        key = k, recall, share
        if key not in self._known:
            if len(self._known) >= _HELD:
                self._known = {}
            curve = self.curve
            self._known[key] = None if curve is None else curve.promise(k, recall, share)
            return self._known[key]
        return self._known.get(key)


def promise_for(now: Snapshot, wanted: Wanted, recall: float, tiers: str, masks: Masks) -> Promise | None:
    """How a snapshot keeps a promise in a search; None for exactly."""
    if now.pair is not None and (tiers != "auto" or now.given_model is not None):
        return None
    return now.promises.choose(wanted.k, recall, _allowed_share(now, masks))


def answer_promised(
    now: Snapshot, query: AnyQuery, wanted: Wanted, recall: float, tiers: str, masks: Masks
) -> SearchRanking:
    """The best passages for one query, by the effort that a promise takes for it."""
    promise, space = promise_for(now, wanted, recall, tiers, masks), now.first.space
    terms, given = space.row(query)
    effort, expected = (NO_LIMIT, 1.0) if promise is None else promise.effort(terms)
    if now.only is None or masks is not now.masks:
        asked = query if now.pair is not None and not now.pair.comparable else (terms, given)
        return _expecting(now.answer(asked, wanted._replace(limits=effort.limits), tiers, masks), expected)
    weights = space.weigh(terms, given)
    how = (wanted.plan, now.allowed, 0.0, wanted.deadline)
    docs, scores, row = now.only.top(terms, weights, wanted.k, effort.limits, *how)
    made = SearchRanking(now.stored, docs, None, scores, row[EXACT] == 1)
    made.complete = row[COMPLETE] == 1
    if wanted.explain:
        made.explanations = (explain(row),)
    return _expecting(made, expected)


def answer_batch_promised(
    now: Snapshot,
    queries: Sequence[AnyQuery] | SparseBatch,
    wanted: Wanted,
    recall: float,
    tiers: str,
    masks: Masks,
    threads: int,
) -> Run:
    """The best passages for each query; those that take the same effort are searched together."""
    promise = promise_for(now, wanted, recall, tiers, masks)
    if promise is None:
        return now.answer_batch(queries, wanted, tiers, masks, threads)
    space, asked = now.first.space, listed(queries)
    qids = qids_of(asked)
    indptr, terms, given = space.batch(asked)
    bounds = list(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True))
    rows: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = [(terms[a:b], given[a:b]) for a, b in bounds]
    texts = now.pair is not None and not now.pair.comparable and isinstance(asked, list)
    by_effort: dict[tuple[Effort, float], list[int]] = {}
    for i, row in enumerate(rows):
        by_effort.setdefault(promise.effort(row[0]), []).append(i)
    made: dict[int, SearchRanking] = {}
    for (effort, expected), places in by_effort.items():
        some: Sequence[AnyQuery] = [asked[i] if texts else rows[i] for i in places]  # type: ignore[index]
        found = now.answer_batch(list(some), wanted._replace(limits=effort.limits), tiers, masks, threads)
        made |= {
            i: _expecting(cast("SearchRanking", one), expected) for i, one in zip(places, found.values(), strict=True)
        }
    return Run({qid: made[i] for i, qid in enumerate(qids)})


def _expecting(ranking: SearchRanking, recall: float) -> SearchRanking:
    if not ranking.exact and ranking.complete:
        ranking.expected_recall = recall
    return ranking


def _allowed_share(now: Snapshot, masks: Masks) -> float:
    """The share of the live passages that may be returned."""
    if masks is None:
        return 1.0
    allowed = sum(
        0 if mask.empty else part.part.live if mask.allowed is None else int(mask.allowed.size)
        for part, mask in zip(now.parts, masks, strict=True)
    )
    return min(allowed / max(now.collection.commit.live, 1), 1.0)
