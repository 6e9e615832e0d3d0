"""The topics that two runs differ on most, and which passages went missing and which took their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.evaluate.measures import ordered_docnos

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.evaluate.measures import Evaluation
    from thresher.ranking import Run
    from thresher.records import Qrels


@dataclass(frozen=True, slots=True)
class Moved:
    """A passage that only one of two rankings has in its top.

    Attributes:
        docno: which.
        rank: 1-based, in the ranking that has it.
        other: its rank in the other ranking; None where that lacks it.
        grade: its judgment; None where it is unjudged.
    """

    docno: str
    rank: int
    other: int | None
    grade: int | None


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, and what changed in its top.

    Attributes:
        qid: which.
        system: value of the run that changed.
        baseline: value of the baseline.
        gone: passages of the baseline's top that the run's top lacks, best first.
        new: passages of the run's top that the baseline's top lacks, best first.
    """

    qid: str
    system: float
    baseline: float
    gone: tuple[Moved, ...]
    new: tuple[Moved, ...]

    @property
    def difference(self) -> float:
        """System minus baseline."""
        return self.system - self.baseline


def sorted_differences(system: Evaluation, baseline: Evaluation, measure: str) -> list[tuple[str, float, float]]:
    """(qid, value of the system, value of the baseline) of every topic, the largest loss first."""
    theirs = baseline.per_query[measure]
    rows = [(qid, value, theirs[qid]) for qid, value in system.per_query[measure].items()]
    return sorted(rows, key=lambda row: row[1] - row[2])


def changed_most(
    rows: list[tuple[str, float, float]], system: Run, baseline: Run, qrels: Qrels, *, count: int, depth: int
) -> list[Topic]:
    """The topics with the largest differences either way, of those that differ at all.

    Args:
        rows: from `sorted_differences`.
        system: the run that changed.
        baseline: what it is compared with.
        qrels: judgments.
        count: how many topics.
        depth: passages of a ranking that are looked at.
    """
    differ = [row for row in rows if row[1] != row[2]]
    found = []
    for qid, value, other in sorted(differ, key=lambda row: -abs(row[1] - row[2]))[:count]:
        mine, theirs = (ordered_docnos(qid, run[qid].pairs() if qid in run else ()) for run in (system, baseline))
        grades = qrels.judgments[qid]
        found.append(
            Topic(
                qid, value, other, _only(theirs, mine, depth, grades), _only(mine, theirs, depth, grades)
            )
        )  # fmt: skip
    return found


def _only(one: list[str], other: list[str], depth: int, grades: Mapping[str, int]) -> tuple[Moved, ...]:
    """Passages in the top of `one` that are not in the top of `other`."""
    ranks = {docno: rank for rank, docno in enumerate(other, 1)}
    return tuple(
        Moved(docno, rank, ranks.get(docno), grades.get(docno))
        for rank, docno in enumerate(one[:depth], 1)
        if ranks.get(docno, depth + 1) > depth
    )
