"""Unjudged documents in the top of a run.

Measures count an unjudged document as not relevant, so a run
with more holes than the runs the judgments were pooled from is scored too low, and two runs with different holes are
scored unequally. Look at the holes before arguing about small differences: judge them, or compare on condensed lists
(`nDCG(judged_only=True)@10`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.evaluate.measures import ordered_docnos

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.ranking import Run
    from thresher.records import Qrels


@dataclass(frozen=True, slots=True)
class Hole:
    """An unjudged document in the top of a ranking; `rank` is 1-based, in trec_eval's order."""

    qid: str
    docno: str
    rank: int


@dataclass(frozen=True, slots=True)
class Holes:
    """The holes of a run.

    Attributes:
        cutoff: the k that was looked at.
        found: every hole, by topic in the order of the qrels, then by rank.
        per_query: qid to the number of holes; every topic of the qrels.
        retrieved: rows looked at: the topics' results down to the cutoff.
    """

    cutoff: int
    found: tuple[Hole, ...]
    per_query: Mapping[str, int]
    retrieved: int

    @property
    def rate(self) -> float:
        """Share of the rows looked at that are holes, 0 where there are none to look at."""
        return len(self.found) / self.retrieved if self.retrieved else 0.0


@checked_call
def find_holes(run: Run, qrels: Qrels, k: int = 10) -> Holes:
    """Find the documents in the top k that have no judgment, for the topics of the qrels.

    Raises:
        InputError: k is below 1, a score is not finite, or a docno comes twice in a ranking.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    found: list[Hole] = []
    per_query: dict[str, int] = {}
    retrieved = 0
    for qid, judged in qrels.judgments.items():
        top = ordered_docnos(qid, run[qid].pairs() if qid in run else ())[:k]
        mine = [Hole(qid, docno, rank) for rank, docno in enumerate(top, 1) if docno not in judged]
        found += mine
        per_query[qid] = len(mine)
        retrieved += len(top)
    return Holes(k, tuple(found), per_query, retrieved)
