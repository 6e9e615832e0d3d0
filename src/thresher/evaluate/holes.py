"""Unjudged documents (holes) in the top of a run, and which comparisons the judgments can support.

Measures count an unjudged document as not relevant, so a run with more holes than the runs the judgments were pooled
from is scored too low, and two runs with different holes are scored unequally. Look at the holes before arguing about
small differences: `what_changed` counts them among the documents that differ between two runs, and `support` says how
far they could move the difference. Then judge them, or compare on condensed lists (`nDCG(judged_only=True)@10`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.evaluate.measures import KNOWN, Measure, evaluate, ordered_docnos, parse_measures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.evaluate.results import Row
    from thresher.ranking import Run
    from thresher.records import Qrels

_STEPS = 20
"""Numbers of relevant holes that are tried for each topic and direction."""
_ROUNDING = 1e-12
"""Differences that are no difference."""
_SPARSE = 2
"""Relevant documents of a topic up to which judgments are called sparse."""


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
        top = _top(run, qid, k)
        mine = [Hole(qid, docno, rank) for rank, docno in enumerate(top, 1) if docno not in judged]
        found += mine
        per_query[qid] = len(mine)
        retrieved += len(top)
    return Holes(k, tuple(found), per_query, retrieved)


@dataclass(frozen=True, slots=True)
class Changed:
    """What differs between the tops of two runs, and how much of it is unjudged.

    Attributes:
        cutoff: the k that was looked at.
        topics: topics of the qrels whose tops hold other documents.
        new: documents of the system's tops that the baseline's tops lack.
        new_holes: unjudged ones among these.
        gone: documents of the baseline's tops that the system's tops lack.
        gone_holes: unjudged ones among these.
    """

    cutoff: int
    topics: int
    new: int
    new_holes: int
    gone: int
    gone_holes: int

    @property
    def total(self) -> int:
        """Documents that are in one of the two tops only."""
        return self.new + self.gone

    @property
    def holes(self) -> int:
        """Unjudged documents among them."""
        return self.new_holes + self.gone_holes

    @property
    def share(self) -> float | None:
        """Share of holes among what differs; None where nothing does."""
        return self.holes / self.total if self.total else None

    @property
    def new_share(self) -> float | None:
        """Share of holes among the documents that only the system's tops have; None where there are none."""
        return self.new_holes / self.new if self.new else None


@dataclass(frozen=True, slots=True)
class Support:
    """What the judgments can say about a difference between two runs.

    Attributes:
        measure: canonical name.
        n: topics.
        judged: mean share of the system's top that is judged.
        baseline_judged: the same of the baseline's.
        changed: what differs between the tops.
        difference: system minus baseline, unjudged documents taken as not relevant.
        condensed: the same on condensed lists, without unjudged documents; None where the measure has no such form.
        bpref: the difference in Bpref, which does not look at unjudged documents.
        low: the difference if the holes were as bad for the system as can be: those that the baseline ranks higher
            relevant, at the highest grade of the qrels, and the others not.
        high: the same in favour of the system.
        relevant: median number of relevant documents of a topic.
    """

    measure: str
    n: int
    judged: float
    baseline_judged: float
    changed: Changed
    difference: float
    condensed: float | None
    bpref: float
    low: float
    high: float
    relevant: float

    @property
    def open(self) -> bool:
        """Whether the unjudged documents can move the difference at all."""
        return self.high - self.low > _ROUNDING

    @property
    def decided(self) -> bool:
        """Whether the sign of the difference is the same whatever the unjudged documents are."""
        return self.low > 0 or self.high < 0 or not self.open

    def as_row(self) -> Row:
        """A flat mapping, for result files and JSON."""
        counts = asdict(self.changed)
        row = {name: value for name, value in asdict(self).items() if name != "changed"}
        share = {"changed_unjudged": self.changed.share, "changed": self.changed.total}
        return row | share | {f"changed_{name}": value for name, value in counts.items()} | {"decided": self.decided}

    def sentences(self) -> list[str]:
        """What these judgments can support, in words."""
        return [_of_what_changed(self), *_of_other_views(self), *_of_sparse_judgments(self)]


@checked_call
def what_changed(run: Run, baseline: Run, qrels: Qrels, k: int = 10) -> Changed:
    """Compare the tops of two runs, for the topics of the qrels.

    Raises:
        InputError: k is below 1, a score is not finite, or a docno comes twice in a ranking.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    topics = new = new_holes = gone = gone_holes = 0
    for qid, judged in qrels.judgments.items():
        mine, theirs = (set(_top(one, qid, k)) for one in (run, baseline))
        only_mine, only_theirs = mine - theirs, theirs - mine
        topics += bool(only_mine or only_theirs)
        new, gone = new + len(only_mine), gone + len(only_theirs)
        new_holes += sum(docno not in judged for docno in only_mine)
        gone_holes += sum(docno not in judged for docno in only_theirs)
    return Changed(k, topics, new, new_holes, gone, gone_holes)


@checked_call
def support(run: Run, baseline: Run, qrels: Qrels, measure: str | Measure, *, k: int = 10) -> Support:
    """Say what the judgments can support about the difference between two runs.

    Args:
        run: the system's.
        baseline: what it is compared with.
        qrels: judgments.
        measure: of the difference.
        k: documents of a ranking that are looked at, where the measure has no cutoff.

    Raises:
        InputError: the measure is unknown, or as `evaluate`.
    """
    (wanted,) = parse_measures(measure)
    depth = wanted.cutoff or k
    condensed = None
    if "judged_only" in KNOWN[wanted.name].parameters:
        condensed = replace(wanted, judged_only=True)
    bpref, judged = Measure("Bpref", rel=wanted.rel), Measure("Judged", depth)
    names = [wanted, bpref, judged, *([condensed] if condensed else [])]
    mine, theirs = (evaluate(one, qrels, names).mean for one in (run, baseline))
    low, high = _extremes(run, baseline, qrels, wanted, depth)
    relevant = [sum(grade >= wanted.rel for grade in topic.values()) for topic in qrels.judgments.values()]
    return Support(
        measure=str(wanted),
        n=len(qrels.judgments),
        judged=mine[str(judged)],
        baseline_judged=theirs[str(judged)],
        changed=what_changed(run, baseline, qrels, depth),
        difference=mine[str(wanted)] - theirs[str(wanted)],
        condensed=None if condensed is None else mine[str(condensed)] - theirs[str(condensed)],
        bpref=mine[str(bpref)] - theirs[str(bpref)],
        low=low,
        high=high,
        relevant=float(median(relevant)),
    )


def _top(run: Run, qid: str, k: int | None) -> list[str]:
    return ordered_docnos(qid, run[qid].pairs() if qid in run else ())[:k]


def _extremes(run: Run, baseline: Run, qrels: Qrels, measure: Measure, depth: int) -> tuple[float, float]:
    """The least and the largest mean difference that judging the holes in the tops could lead to."""
    best = max((grade for topic in qrels.judgments.values() for grade in topic.values()), default=1)
    best = max(best, measure.rel)
    lows, highs = [], []
    for qid, judged in qrels.judgments.items():
        # with a cutoff nothing below it counts, except that condensed lists move up
        tops = [_top(one, qid, None if measure.judged_only else measure.cutoff) for one in (run, baseline)]
        runs = [{qid: {docno: float(-rank) for rank, docno in enumerate(top)}} for top in tops]
        places = [{docno: rank for rank, docno in enumerate(top[:depth], 1)} for top in tops]
        gain = {
            docno: _discount(places[0].get(docno)) - _discount(places[1].get(docno))
            for docno in [*places[0], *places[1]]
            if docno not in judged
        }
        ends = []
        for sign in (-1.0, 1.0):
            ahead = sorted((docno for docno in gain if sign * gain[docno] > 0), key=lambda one: -sign * gain[one])
            # more relevant documents also mean a better ideal ranking, so the most is reached with some of them
            counts = sorted({round(part * len(ahead) / _STEPS) for part in range(_STEPS + 1)})
            found = []
            for count in counts:
                grades = {qid: {**dict.fromkeys(gain, 0), **dict.fromkeys(ahead[:count], best), **judged}}
                mine, theirs = (evaluate(one, grades, measure).mean[str(measure)] for one in runs)
                found.append(mine - theirs)
            ends.append(max(found, key=lambda value: sign * value))
        lows.append(ends[0])
        highs.append(ends[1])
    return math.fsum(lows) / len(lows), math.fsum(highs) / len(highs)


def _discount(rank: int | None) -> float:
    return 0.0 if rank is None else 1.0 / math.log2(rank + 1)


def _of_what_changed(one: Support) -> str:
    """How much of what differs is judged, and whether that decides the comparison."""
    changed = one.changed
    tops = f"the top {changed.cutoff:,}"
    if not one.open:
        if not changed.total:
            return f"The same documents are in {tops} of both runs."
        return f"All {changed.total:,} documents that differ in {tops} are judged: the judgments can support this."
    if changed.holes:
        share = (
            f"{changed.holes / changed.total:.0%} of the documents that differ in {tops} are unjudged "
            f"({changed.holes:,} of {changed.total:,})."
        )
    else:
        share = f"Unjudged documents are in {tops} of both runs, at other ranks."
    share += (
        f" {one.measure} differs by {one.difference:+.4f}; it would be between {one.low:+.4f} and {one.high:+.4f} if "
        "they were judged, from the worst case for the system to the best."
    )
    if one.decided:
        return f"{share} Whatever they are, the sign stays: the judgments can support who is ahead on these topics."
    return f"{share} A difference of this size could be theirs alone: judge them before drawing a conclusion."


def _of_other_views(one: Support) -> list[str]:
    """What measures say that do not count unjudged documents as not relevant."""
    if not one.open:
        return []
    said = [f"Judged: {one.judged:.0%} of the system's documents and {one.baseline_judged:.0%} of the baseline's."]
    views = [("condensed lists", one.condensed), ("Bpref", one.bpref)]
    other = [(name, value) for name, value in views if value is not None]
    told = ", ".join(f"{value:+.4f} on {name}" for name, value in other)
    against = [name for name, value in other if value * one.difference < 0]
    end = f"; the sign is the other one on {' and '.join(against)}" if against else ""
    said.append(f"Without unjudged documents the difference is {told}{end}.")
    return said


def _of_sparse_judgments(one: Support) -> list[str]:
    if one.relevant > _SPARSE or not one.changed.total:
        return []
    many = "relevant document" if one.relevant == 1 else "relevant documents"
    return [
        f"Half of the topics have at most {one.relevant:g} {many}. With one that a system had chosen, "
        "19% of the pairs of systems were ordered wrongly, and 17% of those that differed at p < .01 (D-MERIT, arXiv "
        "2406.16048): such judgments alone support no conclusion about a small difference."
    ]
