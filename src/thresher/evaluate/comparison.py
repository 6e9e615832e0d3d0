"""Two systems on the same topics: the difference, its interval, significance, equivalence, non-inferiority.

`compare` pairs the per-topic values of two evaluations (system minus baseline) and reports every figure a reader needs
to judge a claim: n, both means, the mean difference and its standard deviation, an interval, the paired t test and the
randomisation test, and, with a margin, equivalence and non-inferiority. `family` adjusts the p values of several
comparisons by Holm's method. Where a system ran several times, `averaged` makes one evaluation of its runs first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.evaluate.measures import Evaluation, parse_measure
from thresher.evaluate.power import smallest_margin
from thresher.evaluate.resampling import randomisation
from thresher.evaluate.significance import (
    Effect,
    Equivalence,
    Interval,
    NonInferiority,
    effect_size,
    equivalence,
    holm,
    mean_interval,
    non_inferiority,
    paired_t,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.evaluate.measures import Measure
    from thresher.evaluate.results import Row
    from thresher.evaluate.significance import Method


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
        effect: the difference in standard deviations; None where all differences are equal.
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
    effect: Effect | None = None

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
            "effect": None if self.effect is None else self.effect.value,
            "effect_low": None if self.effect is None else self.effect.interval.low,
            "effect_high": None if self.effect is None else self.effect.interval.high,
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
    method: Method = "skew",
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
        method: how equivalence and non-inferiority are tested; by default corrected for skewness, because systems that
            differ in few topics claim too much by Student's t.

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
        equivalence=None if margin is None else equivalence(d, margin, alpha=alpha, method=method),
        non_inferiority=None if margin is None else non_inferiority(d, margin, alpha=alpha, method=method),
        provable=smallest_margin(sd, int(d.size), alpha=alpha),
        effect=effect_size(d, level=1.0 - alpha),
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
    theirs, topics = (one.per_query[one.name_of(measure)] for one in (baseline, system))
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
