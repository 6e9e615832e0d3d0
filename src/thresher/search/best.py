"""The best passages of several answers: of the parts of a tier, of two tiers, of a ranking and its neighbours.

Answers are ordered by score, then by docno, and so is what is made of them; docnos are read only where scores tie.
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from thresher.search.parts import SearchedPart


Scored: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float64]]"
"""Passage numbers and their scores, best first."""


class Best:
    """The best passages of the parts that were searched so far.

    Attributes:
        k: how many are wanted.
        least: the k-th best score, which passages of further parts must reach; what it was at first where there are not
            as many, by default 0.
    """

    __slots__ = ("_found", "_scores", "k", "least")

    def __init__(self, k: int, least: float = 0.0) -> None:
        self.k, self.least = k, least
        self._found: list[tuple[SearchedPart, NDArray[np.uint32], NDArray[np.float64]]] = []
        self._scores: list[float] = []

    def add(self, part: SearchedPart, docs: NDArray[np.uint32], scores: NDArray[np.float64]) -> None:
        """Add a part's answer: internal ids uint32[n] and scores float64[n], best first."""
        if not len(docs):
            return
        self._found.append((part, docs, scores))
        self._scores = sorted(self._scores + scores.tolist())[-self.k :]  # two runs: merged in linear time
        if len(self._scores) == self.k:
            self.least = max(self.least, self._scores[0])

    def merged(self, docno: Callable[[int], bytes]) -> Scored:
        """The k best of all parts; `docno` as in `merged`."""
        found = self._found
        if len(found) == 1:
            ((part, docs, scores),) = found
            return part.numbers_of(docs), scores
        if not found:
            return np.empty(0, np.int64), np.empty(0)
        owners = np.repeat(np.arange(len(found)), [len(docs) for _, docs, _ in found])
        sums = np.concatenate([scores for _, _, scores in found])
        own = np.concatenate(
            [docs if part.layout.sources is None else part.layout.sources[docs] for part, docs, _ in found]
        )
        starts, sizes = np.array([(part.start, part.size) for part, _, _ in found]).T
        if (own >= sizes[owners]).any():
            for part, docs, _ in found:
                part.numbers_of(docs)  # raises for the damaged one
        return _merge(own + starts[owners], sums, owners, self.k, docno)


def merged(answers: Sequence[Scored], k: int, docno: Callable[[int], bytes]) -> Scored:
    """The k best of several answers, each ordered by score, then docno, and so is the result.

    Args:
        answers: passage numbers int64[n] and scores float64[n] of each; no number is in two.
        k: how many.
        docno: the UTF-8 of a passage's docno, by its number.
    """
    if len(answers) == 1:
        numbers, scores = answers[0]
        return numbers[:k], scores[:k]
    if not answers or not k:
        return np.empty(0, np.int64), np.empty(0)
    numbers, scores = (np.concatenate(each) for each in zip(*answers, strict=True))
    owners = np.repeat(np.arange(len(answers)), [len(own) for own, _ in answers])
    return _merge(numbers, scores, owners, k, docno)


def _merge(
    numbers: NDArray[np.int64],
    scores: NDArray[np.float64],
    owners: NDArray[np.int64],
    k: int,
    docno: Callable[[int], bytes],
) -> Scored:
    """As `merged`, of answers one after another; `owners` int64[n] says which answer each passage is of."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return numbers[order[:k]], ordered[:k]
    owner = owners[order]
    mixed = np.flatnonzero(same & (owner[1:] != owner[:-1]))
    mixed, after = mixed[ordered[mixed] >= ordered[min(k, len(ordered)) - 1]], 0
    for place in mixed.tolist():
        if place < after:
            continue
        before = int(np.searchsorted(-ordered, -ordered[place], side="left"))
        after = int(np.searchsorted(-ordered, -ordered[place], side="right"))
        tied = order[before:after]
        runs = [tied[owners[tied] == one].tolist() for one in np.unique(owners[tied]).tolist()]
        best = merge(*runs, key=lambda at: docno(int(numbers[at])))
        room = min(after, k) - before
        order[before : before + room] = list(islice(best, room))
    order = order[:k]
    return numbers[order], scores[order]
