"""How much a ranking differs from a reference, where there are no judgments: rank-biased overlap, expected loss.

Both compare one ranking with another, for example a pruned index's with the unpruned index's. They say how much
changed, not whether it became worse: passages that take the place of others may be as good. A small loss is therefore
evidence that little was lost, and a large one is not evidence of harm.

**Rank-biased overlap** (Webber, Moffat and Zobel, "A similarity measure for indefinite rankings", TOIS 2010) is the
mean agreement of the first d documents of both, |first d in common| / d, over all depths d, weighted by
(1 - p) p^(d-1): the reader looks at each next document with probability p. Rankings are taken as the beginnings of
longer ones that were not seen:

    minimum       if all that is unseen disagrees
    residual      how much higher it is if all that is unseen agrees as far as possible; minimum + residual <= 1
    extrapolated  if what is unseen agrees as what was seen: of two lists of the lengths s <= l, the agreement at
                  s < d <= l is (X_d + X_s (d - s) / s) / d, and beyond l it stays what it is at l (their equation 32)

**Expected loss** takes the reference's scores as graded truth, and is the share of the discounted gain in its first k
that the other ranking does not have:

    loss = 1 - sum g(ranking_i) / log2(i + 1) / sum g(reference_i) / log2(i + 1),  both over i = 1 .. k

g is a passage's score in the reference, minus the lowest one if that is below 0; 0 for passages it does not list, so
give a reference that is deeper than k. It is 1 - nDCG@k with these gains: a passage whose place is taken by one of
nearly the same score costs next to nothing.

Ties are in the order of the ranking, as it was shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.ranking import Run

PERSISTENCE = 0.9
"""The p that gives the first ten ranks 86 % of the weight."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The rank-biased overlap of two rankings, each value between 0 and 1.

    Attributes:
        extrapolated: the value if unseen documents agree as those seen: 1 for equal rankings, also empty ones.
        minimum: the value if they all disagree.
        residual: how much higher than the minimum it may be.
    """

    extrapolated: float
    minimum: float
    residual: float


@checked_call
def rank_biased_overlap(
    ranking: Ranking | Sequence[str], other: Ranking | Sequence[str], *, p: float = PERSISTENCE
) -> Overlap:
    """The rank-biased overlap of two rankings, or two lists of docnos, best first, of any lengths.

    Args:
        ranking: one of them.
        other: the other; which is which makes no difference.
        p: probability of looking at the next document, above 0 and below 1.

    Raises:
        InputError: a docno comes twice in a ranking, or p is out of range.
    """
    if not 0.0 < p < 1.0:
        raise InputError(f"p must be between 0 and 1, got {p}")
    short, long = sorted((_docnos(ranking), _docnos(other)), key=len)
    s, l = len(short), len(long)  # noqa: E741 (the names of the paper)
    if l == 0:
        return Overlap(1.0, 0.0, 1.0)
    common = _common(short, long)
    matched = common[-1] if s else 0  # X_l
    at_s = common[s - 1] if s else 0  # X_s
    depth = s + l - matched  # from where on all documents of both can agree
    minimum = extrapolated = most = 0.0
    weight = 1.0 - p
    agreement = 0.0
    harmonic = 0.0  # the sum of p^d / d up to l
    for d in range(1, max(depth, l) + 1):
        seen = common[d - 1] if d <= l else matched
        if d <= l:
            agreement = (seen + (at_s * (d - s) / s if d > s > 0 else 0.0)) / d
            extrapolated += weight * agreement
            minimum += weight * seen / d
            harmonic += weight / d
        most += weight * min(d, seen + max(0, d - s) + max(0, d - l)) / d
        weight *= p
    extrapolated += p**l * agreement
    # beyond l the minimum goes on with X_l / d: (1 - p) / p sum p^d / d = -(1 - p) / p log(1 - p) in all
    minimum += matched * max(0.0, -(1.0 - p) / p * math.log1p(-p) - harmonic)
    most += p ** max(depth, l)
    return Overlap(min(extrapolated, 1.0), min(minimum, 1.0), min(1.0, max(0.0, most - minimum)))


@checked_call(k=1)
def expected_loss(ranking: Ranking | Sequence[str], reference: Ranking, *, k: int = 10) -> float:
    """The share of the discounted gain of the reference's first k that a ranking's first k lack, between 0 and 1.

    Args:
        ranking: the ranking, or its docnos, best first.
        reference: the ranking whose scores are taken as graded truth, best first, deeper than k if it can be.
        k: cutoff.

    Returns:
        0 where the reference is empty, or the ranking as good as it; 1 where none of its passages has any gain. If the
        reference gives all passages the same score of 0 or less, each has the gain 1.

    Raises:
        InputError: a docno comes twice in a ranking, or a score of the reference is not finite.
    """
    docnos, names = _docnos(ranking)[:k], _docnos(reference)
    if not names:
        return 0.0
    scores = [float(score) for score in reference.scores]
    if not all(map(math.isfinite, scores)):
        raise InputError("a score of the reference is not finite, and cannot be a gain")
    floor = min(0.0, *scores)
    gains = [score - floor for score in scores]
    if max(gains) == 0.0:
        gains = [1.0] * len(names)
    largest = max(gains)
    truth = {docno: gain / largest for docno, gain in zip(names, gains, strict=True)}
    ideal = _discounted(sorted(truth.values(), reverse=True)[:k])
    return min(1.0, max(0.0, 1.0 - _discounted([truth.get(docno, 0.0) for docno in docnos]) / ideal))


@checked_call(k=1)
def reference_losses(
    run: Run,
    reference: Run,
    *,
    kind: Literal["overlap", "expected"] = "overlap",
    p: float = PERSISTENCE,
    k: int = 10,
) -> dict[str, float]:
    """The loss of each query of the reference, between 0 and 1; a query that the run lacks counts as an empty ranking.

    Args:
        run: what is compared.
        reference: what it is compared with.
        kind: `overlap` for 1 - extrapolated rank-biased overlap, `expected` for the expected loss.
        p: of the overlap.
        k: cutoff of the expected loss.

    Raises:
        InputError: as `rank_biased_overlap` and `expected_loss`, with the query.
    """
    losses: dict[str, float] = {}
    for qid, truth in reference.items():
        mine = run[qid] if qid in run else Ranking([])
        try:
            if kind == "overlap":
                losses[qid] = 1.0 - rank_biased_overlap(mine, truth, p=p).extrapolated
            else:
                losses[qid] = expected_loss(mine, truth, k=k)
        except InputError as err:
            raise InputError(f"query {qid!r}: {err}") from err
    return losses


def _docnos(ranking: Ranking | Sequence[str]) -> list[str]:
    docnos = list(ranking.docnos if isinstance(ranking, Ranking) else ranking)
    if len(set(docnos)) < len(docnos):
        twice = next(docno for at, docno in enumerate(docnos) if docno in docnos[:at])
        raise InputError(f"docno {twice!r} comes twice in one ranking")
    return docnos


def _common(short: Sequence[str], long: Sequence[str]) -> list[int]:
    """For each depth d = 1 .. len(long), how many of the first d of both are the same."""
    common: list[int] = []
    of_short: set[str] = set()
    of_long: set[str] = set()
    shared = 0
    for d, docno in enumerate(long):
        of_long.add(docno)
        if d < len(short):
            of_short.add(short[d])
            shared += short[d] in of_long and short[d] != docno
        shared += docno in of_short
        common.append(shared)
    return common


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
