"""Two systems on the same topics: the difference, its interval, significance, equivalence, non-inferiority.

`compare` pairs the per-topic values of two evaluations (system minus baseline) and reports every figure a reader needs
to judge a claim: n, both means, the mean difference and its standard deviation, an interval, the paired t test and the
randomisation test, and, with a margin, equivalence and non-inferiority. `family` adjusts the p values of several
comparisons by Holm's method. Where a system ran several times, `averaged` makes one evaluation of its runs first.

`find_holes` lists unjudged documents in the top of a run. Measures count an unjudged document as not relevant, so a run
with more holes than the runs the judgments were pooled from is scored too low, and two runs with different holes are
scored unequally. Look at the holes before arguing about small differences: judge them, or compare on condensed lists
(`nDCG(judged_only=True)@10`).

`front` gives, of configurations measured in cost and effect, those that no other dominates: another dominates a point
if it costs no more and is no less effective, and is better in one of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import InputError, require
from thresher.evaluate.measures import Evaluation, ordered_docnos, parse_measure
from thresher.evaluate.significance import (
    Equivalence,
    Interval,
    NonInferiority,
    equivalence,
    holm,
    mean_interval,
    non_inferiority,
    paired_t,
    randomisation,
    smallest_margin,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.evaluate.measures import Measure
    from thresher.evaluate.results import Chart, Row
    from thresher.ranking import Run
    from thresher.records import Qrels


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system against its baseline, on one measure.

    Attributes:
        measure: canonical name.
        n: topics.
        system: the system's mean.
        baseline: the baseline's mean.
        difference: system minus baseline.
        sd: standard deviation of the per-topic differences.
        interval: t interval of the difference, at level 1 - alpha.
        t: statistic of the paired t test.
        p: its two-sided p value.
        p_randomisation: two-sided p value of the paired randomisation test.
        better: topics on which the system is better.
        worse: topics on which it is worse; the rest are ties.
        equivalence: within the margin either way; None without a margin.
        non_inferiority: not worse by the margin; None without a margin.
        provable: smallest margin of non-inferiority that this n and sd prove with power .80 if nothing is lost.
        p_adjusted: p adjusted for a family of comparisons; None where this one stands alone.
    """

    measure: str
    n: int
    system: float
    baseline: float
    difference: float
    sd: float
    interval: Interval
    t: float
    p: float
    p_randomisation: float
    better: int
    worse: int
    equivalence: Equivalence | None
    non_inferiority: NonInferiority | None
    provable: float
    p_adjusted: float | None = None

    def as_row(self) -> Row:
        """A flat mapping, for result files and JSON; None where nothing was tested."""
        row: Row = {
            "measure": self.measure,
            "n": self.n,
            "system": self.system,
            "baseline": self.baseline,
            "difference": self.difference,
            "sd": self.sd,
            "low": self.interval.low,
            "high": self.interval.high,
            "level": self.interval.level,
            "t": self.t if np.isfinite(self.t) else None,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "p_randomisation": self.p_randomisation,
            "better": self.better,
            "worse": self.worse,
            "provable_margin": self.provable,
        }
        for name, claim in (("equivalence", self.equivalence), ("non_inferiority", self.non_inferiority)):
            if claim is not None:
                row |= {
                    "margin": claim.margin,
                    f"{name}_p": claim.p,
                    f"{name}_p_adjusted": claim.p_adjusted,
                    f"{name}_proven": claim.proven,
                }
        if self.non_inferiority is not None:
            row["non_inferiority_low"] = self.non_inferiority.low
        return row


@checked_call(rounds=1, seed=0)
def compare(
    system: Evaluation,
    baseline: Evaluation,
    measure: str | Measure,
    *,
    margin: float | None = None,
    alpha: float = 0.05,
    rounds: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations on one measure, topic by topic.

    Args:
        system: the evaluation of the system that changed.
        baseline: the evaluation of the system it is compared with.
        measure: one that both evaluated.
        margin: the smallest loss that would matter, in the unit of the measure, chosen before looking; without one
            neither equivalence nor non-inferiority is tested.
        alpha: significance level.
        rounds: random sign patterns of the randomisation test.
        seed: seed of the randomisation test.

    Raises:
        InputError: the evaluations have other topics or lack the measure, or there are fewer than two topics.
    """
    d = differences(system, baseline, measure)
    statistic, p = paired_t(d)
    sd = 0.0 if (d == d[0]).all() else float(d.std(ddof=1))
    name = _name(measure)
    return Comparison(
        measure=name,
        n=int(d.size),
        system=system.mean[name],
        baseline=baseline.mean[name],
        difference=float(d.mean()),
        sd=sd,
        interval=mean_interval(d, level=1.0 - alpha),
        t=statistic,
        p=p,
        p_randomisation=randomisation(d, rounds=rounds, seed=seed),
        better=int(np.count_nonzero(d > 0)),
        worse=int(np.count_nonzero(d < 0)),
        equivalence=None if margin is None else equivalence(d, margin, alpha=alpha),
        non_inferiority=None if margin is None else non_inferiority(d, margin, alpha=alpha),
        provable=smallest_margin(sd, int(d.size), alpha=alpha),
    )


@checked_call
def family(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with p values adjusted by Holm's method: of the differences, and of each kind of claim.

    A family is everything that is claimed together; decide it before measuring.
    """
    adjusted = [replace(c, p_adjusted=p) for c, p in zip(comparisons, holm([c.p for c in comparisons]), strict=True)]
    for kind in ("equivalence", "non_inferiority"):
        claims = [(at, claim) for at, c in enumerate(adjusted) if (claim := getattr(c, kind)) is not None]
        for (at, claim), p in zip(claims, holm([claim.p for _, claim in claims]), strict=True):
            adjusted[at] = replace(adjusted[at], **{kind: replace(claim, p_adjusted=p)})
    return adjusted


@checked_call
def differences(system: Evaluation, baseline: Evaluation, measure: str | Measure) -> NDArray[np.float64]:
    """float64[n]: system minus baseline by topic, in the order of the system's topics.

    Raises:
        InputError: the evaluations have other topics, or one lacks the measure.
    """
    ours = system.values(measure)
    baseline.values(measure)  # raises where it lacks the measure
    theirs, topics = baseline.per_query[_name(measure)], system.per_query[_name(measure)]
    if topics.keys() != theirs.keys():
        odd = sorted(topics.keys() ^ theirs.keys())[0]
        raise InputError(f"topic {odd!r} is in one evaluation only; compare runs measured with the same qrels")
    return ours - np.array([theirs[qid] for qid in topics], dtype=np.float64)


@checked_call
def averaged(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Several runs of one system as one evaluation: each topic's values averaged, so that topics stay the sample.

    Raises:
        InputError: there is none, or they differ in measures or topics.
    """
    if not evaluations:
        raise InputError("there is no evaluation to average")
    first = evaluations[0]
    per_query: dict[str, dict[str, float]] = {}
    for name in first.per_query:
        total = sum(
            (differences(other, first, name) for other in evaluations[1:]), np.zeros(len(first.per_query[name]))
        )
        values = first.values(name) + total / len(evaluations)
        per_query[name] = dict(zip(first.per_query[name], values.tolist(), strict=True))
    return Evaluation({name: float(np.mean(list(values.values()))) for name, values in per_query.items()}, per_query)


def _name(measure: str | Measure) -> str:
    return str(parse_measure(measure) if isinstance(measure, str) else measure)


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


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration, measured.

    Attributes:
        name: what was measured.
        cost: less is better: milliseconds, calls, tokens, bytes, share of passages kept.
        effect: more is better: the mean of a measure.
        series: which curve it belongs to, where several are compared.
        details: anything else worth keeping in a result row.
    """

    name: str
    cost: float
    effect: float
    series: str = ""
    details: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and math.isfinite(self.effect)):
            raise InputError(f"point {self.name!r} has cost {self.cost} and effect {self.effect}; both must be finite")


@checked_call
def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other point dominates, cheapest first; of equal points the first given."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.effect)):
        if not kept or point.effect > kept[-1].effect:
            kept.append(point)
    return tuple(kept)


@checked_call
def cheapest(points: Iterable[Point], *, at_least: float) -> Point | None:
    """The cheapest point whose effect is `at_least` or more, the better of two at one price; None where none is."""
    enough = [point for point in points if point.effect >= at_least]
    return min(enough, key=lambda point: (point.cost, -point.effect), default=None)


@checked_call
def plot(points: Sequence[Point], *, cost: str, effect: str, log_cost: bool = False, title: str = "") -> Chart:
    """An altair chart of the points, one colour a series, with the front as a line.

    Args:
        points: what to draw.
        cost: label of the cost axis, with its unit.
        effect: label of the effect axis.
        log_cost: draw cost on a logarithmic axis.
        title: heading.

    Raises:
        MissingExtraError: altair is not installed.
    """
    alt = require("altair", extra="eval", purpose="plotting a curve")
    best = set(map(id, front(points)))
    values = [
        {"name": p.name, "cost": p.cost, "effect": p.effect, "series": p.series, "front": id(p) in best} for p in points
    ]
    x = alt.X("cost:Q", title=cost, scale=alt.Scale(type="log" if log_cost else "linear", zero=False))
    y = alt.Y("effect:Q", title=effect, scale=alt.Scale(zero=False))
    base = alt.Chart(alt.Data(values=values), title=title).encode(x=x, y=y)
    line = base.transform_filter("datum.front").mark_line(color="grey", strokeDash=[4, 3])
    colour = {"color": alt.Color("series:N", title=None)} if any(p.series for p in points) else {}
    marks = base.mark_point(filled=True, size=60).encode(tooltip=["name:N", "cost:Q", "effect:Q"], **colour)
    labels = base.mark_text(align="left", dx=6, dy=-6, fontSize=9).encode(text="name:N")
    made: Chart = (line + marks + labels).properties(width=480, height=320)
    return made
