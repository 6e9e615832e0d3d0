"""Measures a `RecallCurve`: what efforts cost and what they miss, by kind of query, on queries without judgements.

1. A third of the queries **chooses**. Each effort of the grid is searched for them and compared with the exact answer.
   Of each kind the efforts on the convex hull of (recall missed, time) stay. Taking the steps of all hulls in the
   order of what they save for a share of recall gives the path of levels: the best trade for the mean over all queries
   (Lagrange multipliers, as in rate-distortion).
2. The others **estimate**: recall and time of each level on the path. They chose nothing, so the best of many efforts
   does not look better than it is. A promise takes the dearest level first and goes on to cheaper ones while their
   lower bound keeps it (fixed-sequence testing), so there is nothing to correct for the number of levels either.

The bound is one-sided, 95 %, of the mean recall, with half a query missed added to the sample: the fewer queries there
are, the more is left to exact search. Costs are processor time, not counted work: postings, lookups and blocks have no
common unit that holds on every machine. They decide what is chosen, not what is promised.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.checks import is_a, shown, whole
from thresher.errors import InputError
from thresher.records import SparseBatch
from thresher.search.effort import EXACT, Effort
from thresher.search.queries import listed
from thresher.search.recall import CHANGES, KS, Level, RecallCurve
from thresher.search.recall_queries import sampled_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from thresher.search.index import Index
    from thresher.search.queries import AnyQuery
    from thresher.search.queries import Terms as Asked

TERMS = (4, 6, 8, 10, 12, 15, 20, 25)
LEFT_OUT = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
CANDIDATES, LEAST_CANDIDATES, MOST_CANDIDATES = (2, 5, 10), 20, 4000
"""Candidates for each hit wanted, and in all: more make the first step slow."""
BLOCKS = (0.9, 0.8, 0.7)
SUPERBLOCKS = (50, 100, 250, 500, 1000)
KINDS, QUERIES_OF_KIND = 4, 60
"""Kinds of queries at most, and queries of each at least, of those that choose."""
CHOOSING = 3
"""One query of three chooses, the others estimate."""
ROUNDS = 3
Z = 1.645
"""Of a one-sided bound of 95 %."""
MISSED = 0.5
"""Recall of the query that is added to the sample before the bound is taken."""
SAVES, FURTHER = 0.1, 0.03
"""What leaving exact search, and each further step, must save of the time of exact search."""
PROBED = 30
"""Queries on which an effort must save time, and find at least the share `LEAST`, to be tried on more."""
LEAST = 0.5
"""Levels of a lower mean recall are not kept."""
SAMPLED = "sampled from the passages"


class Measured(NamedTuple):
    """What an effort did for some queries: recalls float64[queries], and milliseconds of processor time for each."""

    recalls: NDArray[np.float64]
    ms: float


class Step(NamedTuple):
    """From one effort of a kind to the next cheaper one, and the time that it saves for a unit of recall."""

    worth: float
    kind: int
    effort: Effort


def fit_recall(
    index: Index,
    queries: Iterable[AnyQuery] | None = None,
    *,
    ks: Sequence[int] = KS,
    sample: int = 1000,
    source: str = "",
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> RecallCurve:
    """Measure what recall costs in an index; arguments and errors as `Index.calibrate_recall`.

    Args:
        index: the index.
        queries: logged queries, or None.
        ks: lengths of answers.
        sample: queries to make, without a log.
        source: where the queries came from.
        seed: of the sample, and of what part of the queries chooses.
        say: is told what is being measured.
    """
    if not hasattr(index, "pinned") or index.scope is not None:
        raise InputError(f"recall is calibrated in an Index of all its passages; got {shown(index)}")
    if not is_a(ks, Sequence) or isinstance(ks, str | bytes) or not len(ks):
        raise InputError(f"ks must be a list of lengths of answers; got {shown(ks)}")
    wanted = sorted({whole("k", k, 1) for k in ks})
    index, live = index.pinned(), len(index)
    wanted = [k for k in wanted if k <= live] or [max(live, 1)]
    given = sampled_queries(index, whole("sample", sample, 1), seed) if queries is None else listed(queries)
    if isinstance(given, SparseBatch):
        raise InputError("recall is calibrated on a list of queries, not on a SparseBatch")
    asked = _with_hits(index, given)
    if len(asked) < CHOOSING:
        raise InputError(f"{len(asked)} of {len(given)} queries find anything; recall is calibrated on some hundreds")
    order = np.random.default_rng(seed).permutation(len(asked))
    choosing, estimating = ([asked[i] for i in part] for part in np.split(order, [max(len(asked) // CHOOSING, 1)]))
    longest = _kinds([len(terms) for terms, _ in asked], len(choosing))
    levels = {}
    for k in wanted:
        say(f"k = {k:,}: {len(choosing):,} queries choose, {len(estimating):,} estimate")
        levels[k] = _levels(index, _by_kind(choosing, longest), _by_kind(estimating, longest), k)
    committed = index.committed
    changes = {name: committed.changes.get(name, 0) for name in CHANGES}
    return RecallCurve(longest, levels, len(asked), source or (SAMPLED if queries is None else "given"), live, changes)


def grid(k: int, longest: int, superblocks: int) -> list[Effort]:
    """The efforts that are tried for k passages.

    Args:
        k: passages wanted.
        longest: the most terms of a query.
        superblocks: of the largest segment.
    """
    counts = sorted({max(k, min(max(c * k, LEAST_CANDIDATES), MOST_CANDIDATES)) for c in CANDIDATES})
    made = [Effort(terms=terms, candidates=count) for count in counts for terms in TERMS if terms < longest]
    made += [Effort(left_out=share, candidates=count) for count in counts for share in LEFT_OUT]
    made += [Effort(superblocks=count) for count in SUPERBLOCKS if count < superblocks]
    return made + [Effort(blocks=blocks) for blocks in BLOCKS if superblocks > 1]


def lower_bound(recalls: NDArray[np.floating]) -> float:
    """A lower bound of the mean recall of queries like these: one-sided, of 95 %."""
    sample = np.append(recalls, MISSED)
    return float(max(0.0, sample.mean() - Z * sample.std(ddof=1) / np.sqrt(len(sample))))


def path_of(times: Sequence[dict[Effort, tuple[float, float]]], shares: Sequence[float]) -> list[tuple[Effort, ...]]:
    """Efforts of each kind, level by level, from exact search to the cheapest: the best trades of time for recall.

    Args:
        times: of each kind, (mean recall, milliseconds) by effort; exact search among them.
        shares: of the queries, that are of each kind.
    """
    steps: list[Step] = []
    for kind, (by_effort, share) in enumerate(zip(times, shares, strict=True)):
        if share:
            steps += _hull(kind, by_effort)
    now = [EXACT] * len(times)
    levels = [tuple(now)]
    for step in sorted(steps, key=lambda one: -one.worth):
        now[step.kind] = step.effort
        levels.append(tuple(now))
    return levels


def _hull(kind: int, by_effort: dict[Effort, tuple[float, float]]) -> list[Step]:
    """The steps from exact search along the lower convex hull of (recall missed, time); their worth descends."""
    recall, cost = by_effort[EXACT]
    steps: list[Step] = []
    whole_cost, worth = cost, np.inf
    while True:
        least = SAVES if not steps else FURTHER
        found = [
            (min((cost - other) / max(recall - kept, 1e-9), worth), cost - other, effort)
            for effort, (kept, other) in by_effort.items()
            if cost - other >= least * whole_cost and kept <= recall
        ]
        if not found:
            return steps
        worth, _, effort = max(found, key=lambda one: one[:2])
        steps.append(Step(worth, kind, effort))
        recall, cost = by_effort[effort]


def _levels(
    index: Index, choosing: Sequence[list[Asked]], estimating: Sequence[list[Asked]], k: int
) -> tuple[Level, ...]:
    """The levels for k passages."""
    counts = [len(part) for part in estimating]
    shares = [count / max(sum(counts), 1) for count in counts]
    times = [_tried(index, part, k) for part in choosing]
    path = path_of(times, shares)
    found = [
        _measured(index, part, k, dict.fromkeys(level[kind] for level in path)) for kind, part in enumerate(estimating)
    ]
    return tuple(_kept([_level(efforts, found, shares) for efforts in path]))


def _level(efforts: tuple[Effort, ...], found: Sequence[dict[Effort, Measured]], shares: Sequence[float]) -> Level:
    """What these efforts of each kind come to."""
    own = [by_effort[one] for by_effort, one in zip(found, efforts, strict=True)]
    every = np.concatenate([one.recalls for one in own])
    exact = all(effort == EXACT for effort in efforts)
    ms = sum(share * one.ms for share, one in zip(shares, own, strict=True))
    bound, mean = (1.0, 1.0) if exact else (lower_bound(every), float(every.mean()))
    recalls = tuple(round(float(one.recalls.mean()), 5) if len(one.recalls) else 1.0 for one in own)
    return Level(round(bound, 5), round(mean, 5), round(ms, 5), efforts, recalls)


def _kept(levels: Sequence[Level]) -> list[Level]:
    """The levels in descending order of cost: one that turned out no cheaper than a level before it is left out."""
    kept = [levels[0]]
    for level in levels[1:]:
        if level.ms < kept[-1].ms and level.mean >= LEAST:
            kept.append(level)
    return kept


def _tried(index: Index, queries: list[Asked], k: int) -> dict[Effort, tuple[float, float]]:
    """(mean recall, milliseconds) of exact search and of the efforts of the grid that are worth it for some queries."""
    if not queries:
        return {EXACT: (1.0, 0.0)}
    superblocks = max(layout.counts.superblocks for layout in index.layouts)
    probed, longest = queries[:PROBED], max(len(terms) for terms, _ in queries)
    exact = _measured(index, probed, k, [EXACT])[EXACT].ms
    efforts = [EXACT]
    for effort in grid(k, longest, superblocks):
        found = _measured(index, probed, k, [effort], rounds=1)[effort]
        if found.ms < exact and found.recalls.mean() >= LEAST:
            efforts.append(effort)
    measured = _measured(index, queries, k, efforts)
    times = {e: ((float(one.recalls.sum()) + MISSED) / (len(queries) + 1), one.ms) for e, one in measured.items()}
    return times | {EXACT: (1.0, measured[EXACT].ms)}


def _measured(
    index: Index, queries: list[Asked], k: int, efforts: Iterable[Effort], rounds: int = ROUNDS
) -> dict[Effort, Measured]:
    """What each effort does for these queries.

    Rounds go over all efforts, and the least time of each query counts: work beside it slows some moments, and so a
    few queries of every effort in place of all queries of one.
    """
    exact = [index.search(query, k).numbers for query in queries]
    chosen = list(efforts)
    spent = {effort: np.full(len(queries), np.inf) for effort in chosen}
    recalls = {effort: np.ones(len(queries)) for effort in chosen}
    for _ in range(rounds):
        for effort in chosen:
            for i, query in enumerate(queries):
                clock = time.thread_time()
                found = index.search(query, k, effort=effort)
                spent[effort][i] = min(spent[effort][i], time.thread_time() - clock)
                recalls[effort][i] = _recall(found.numbers, exact[i])
    return {one: Measured(recalls[one], 1e3 * float(spent[one].sum()) / max(len(queries), 1)) for one in chosen}


def _recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return len(np.intersect1d(found, truth, assume_unique=True)) / len(truth)


def _with_hits(index: Index, queries: Sequence[AnyQuery]) -> list[Asked]:
    """The queries that find something, as term ids and weights."""
    return [terms for terms in map(index.terms, queries) if len(index.search(terms, 1))]


def _kinds(lengths: list[int], choosing: int) -> tuple[int, ...]:
    """The most terms of a query of each kind but the last: quantiles."""
    count = min(KINDS, max(choosing // QUERIES_OF_KIND, 1))
    cuts = np.quantile(lengths, np.arange(1, count) / count, method="lower") if count > 1 else np.empty(0)
    return tuple(int(cut) for cut in np.unique(cuts) if cut < max(lengths))


def _by_kind(queries: Iterable[Asked], longest: tuple[int, ...]) -> list[list[Asked]]:
    kinds: list[list[Asked]] = [[] for _ in range(len(longest) + 1)]
    for one in queries:
        kinds[int(np.searchsorted(longest, len(one[0])))].append(one)
    return kinds
