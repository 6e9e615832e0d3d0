"""Claims that a system is not worse than its baseline, or equivalent to it, each with what it rests on.

A claim is one setting of one pipeline on one measure. Claims that are made together form one family: their p values are
adjusted by Holm's method, so that the chance of any false one stays alpha. Whoever tests ten fractions and shows the
one that passed pays for all ten.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.errors import InputError
from thresher.evaluate.comparison import averaged
from thresher.evaluate.holes import what_changed
from thresher.evaluate.measures import Evaluation, evaluate, parse_measures
from thresher.evaluate.overlap import reference_losses
from thresher.evaluate.power import smallest_margin, topics_needed
from thresher.evaluate.significance import effect_size, equivalence, holm, mean_interval, non_inferiority
from thresher.ranking import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thresher.evaluate.results import Row
    from thresher.records import Qrels

Kind = Literal["non-inferiority", "equivalence"]
"""What is claimed: not worse by the margin, or within the margin either way."""
REFERENCE = ("RBO", "kept@10")
"""Measures without judgments: rank-biased overlap with the baseline's ranking, and the share of its gain that is kept
(1 - expected loss, see `thresher.evaluate.overlap`). The baseline itself has 1 on both."""
MEASURE = "nDCG@10"
"""The measure that is tested where none is named."""
AS_IT_IS = "as it is"
"""The setting of an index that is asked as it is by default."""
FIRST_TIER = "first tier"
"""The setting of an index whose second tier is not searched."""
DEPTH = 10
"""Documents of a ranking whose judgments are looked at, where the measure has no cutoff."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What made a run.

    Attributes:
        pipeline: which stages ranked: `sparse`, `reranked`, ..., or the name of a run.
        setting: what was changed besides a fraction; empty for the index as it is.
        fraction: share of the passages that were left out; None where it is not about a share.
    """

    pipeline: str
    setting: str = ""
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, tested.

    Attributes:
        pipeline, setting, fraction: of the system's run, as in `Setting`.
        measure: canonical name.
        n: topics.
        system: the system's mean.
        baseline: the baseline's mean.
        difference: system minus baseline.
        sd: standard deviation of the per-topic differences.
        low, high: ends of the two-sided t interval of the difference, at level 1 - alpha.
        bound: one-sided lower end of the difference, at level 1 - alpha: its negative is the smallest margin of
            non-inferiority that these topics prove.
        p: p value of the claim alone.
        p_adjusted: p adjusted for all claims made together.
        proven: whether `p_adjusted` is below alpha.
        topics_needed: topics that would prove it with power .80 if nothing is lost in truth; None where it is proven.
        provable: smallest margin that these topics prove with power .80 if nothing is lost in truth.
        effect: mean difference in standard deviations, corrected for few topics; None where all differences are equal.
        better: topics on which the system is better.
        worse: topics on which it is worse.
        judged: share of the system's top documents that are judged; None without judgments.
        baseline_judged: the same of the baseline.
        changed_holes: share of unjudged documents among those of the system's top that the baseline's top lacks; None
            without judgments, or where nothing changed.
    """

    pipeline: str
    setting: str
    fraction: float | None
    measure: str
    n: int
    system: float
    baseline: float
    difference: float
    sd: float
    low: float
    high: float
    bound: float
    p: float
    p_adjusted: float
    proven: bool
    topics_needed: int | None
    provable: float
    effect: float | None
    better: int
    worse: int
    judged: float | None
    baseline_judged: float | None
    changed_holes: float | None

    def as_row(self) -> Row:
        """A flat mapping, for result files and JSON."""
        return asdict(self)


def prove(
    systems: Mapping[Setting, Run | Sequence[Run]],
    baseline: Run | Mapping[str, Run],
    qrels: Qrels | None,
    measures: str | Iterable[str],
    margin: float,
    *,
    claim: Kind = "non-inferiority",
    alpha: float = 0.05,
) -> list[Claim]:
    """Test every system against its baseline on every measure, as one family.

    Args:
        systems: the runs to be tested, by what made them; several runs of one system (seeds) are averaged by topic.
        baseline: the run they are compared with, or one for each pipeline.
        qrels: judgments; None to compare with the baseline's own rankings, which is weaker.
        measures: as in `thresher.evaluate.evaluate`; without judgments those of `REFERENCE`, by default all.
        margin: the smallest loss that would matter, chosen before looking.
        claim: what is to be proven.
        alpha: accepted chance of any false claim.

    Returns:
        by system in the order given, then by measure.

    Raises:
        InputError: there is no system, a pipeline has no baseline, or there are fewer than two topics.
        MissingExtraError: scipy is not installed.
    """
    if not systems:
        raise InputError("there is nothing to test; give at least one run")
    names = names_of(measures, judged=qrels is not None)
    against = _Baselines(baseline, qrels, names)
    found = [
        _tested(setting, run, against, name, margin, claim, alpha) for setting, run in systems.items() for name in names
    ]
    adjusted = holm([one.p for one in found])
    return [
        replace(one, p_adjusted=p, proven=p < alpha, topics_needed=_needed(one, margin, claim, alpha, p))
        for one, p in zip(found, adjusted, strict=True)
    ]


def names_of(measures: str | Iterable[str], *, judged: bool) -> tuple[str, ...]:
    """The canonical names of the measures; without judgments `MEASURE` stands for those of `REFERENCE`.

    Raises:
        InputError: there is no such measure, or it needs judgments and there are none.
    """
    if judged:
        return tuple(str(one) for one in parse_measures(measures))
    given = measures.split() if isinstance(measures, str) else [str(one) for one in measures]
    if given == [MEASURE]:
        return REFERENCE
    if others := [name for name in given if name not in REFERENCE]:
        raise InputError(f"{', '.join(others)}: without judgments only {' and '.join(REFERENCE)} can be tested")
    return tuple(name for name in REFERENCE if name in given) or REFERENCE


def _needed(one: Claim, margin: float, claim: Kind, alpha: float, p: float) -> int | None:
    """Topics that would prove the claim if nothing is lost in truth; None where it is proven."""
    return None if p < alpha else topics_needed(one.sd, margin, claim=claim, alpha=alpha)


def decisive_of(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """The claims that decide whether a system is certified.

    Those about the system as it is asked by default; else those that are not about a fraction of the baseline; else
    all.
    """
    as_it_is = tuple(one for one in claims if one.setting == AS_IT_IS)
    return as_it_is or tuple(one for one in claims if one.fraction is None) or tuple(claims)


class _Baselines:
    """The baselines' runs by pipeline, measured once."""

    def __init__(self, runs: Run | Mapping[str, Run], qrels: Qrels | None, measures: tuple[str, ...]) -> None:
        self.runs, self.qrels, self.measures = runs, qrels, measures
        self._measured: dict[tuple[int, int], Evaluation] = {}

    def run(self, pipeline: str) -> Run:
        """The run that a pipeline is compared with."""
        if isinstance(self.runs, Run):
            return self.runs
        if pipeline not in self.runs:
            raise InputError(f"there is no baseline for {pipeline!r}; there are: {', '.join(self.runs)}")
        return self.runs[pipeline]

    def evaluation(self, run: Run, baseline: Run) -> Evaluation:
        """The run's values, with its judged share at every cutoff; without judgments, what it keeps of the baseline."""
        key = (id(run), 0 if self.qrels is not None else id(baseline))
        if key not in self._measured:
            if self.qrels is None:
                self._measured[key] = kept_of_reference(run, baseline)
            else:
                judged = {f"Judged@{depth_of(name)}": None for name in self.measures}
                self._measured[key] = evaluate(run, self.qrels, [*self.measures, *judged])
        return self._measured[key]


def kept_of_reference(run: Run, reference: Run) -> Evaluation:
    """What a run keeps of a reference's rankings, on the measures of `REFERENCE`; 1 where nothing differs."""
    losses = reference_losses(run, reference, kind="overlap"), reference_losses(run, reference, kind="expected")
    per_query = {
        name: {qid: 1.0 - loss for qid, loss in found.items()} for name, found in zip(REFERENCE, losses, strict=True)
    }
    means = {name: sum(values.values()) / len(values) for name, values in per_query.items()}
    return Evaluation(means, per_query)


def depth_of(measure: str) -> int:
    """The cutoff of a measure, `DEPTH` where it has none or one beyond it."""
    (parsed,) = parse_measures(measure)
    return min(parsed.cutoff or DEPTH, DEPTH)


def _tested(
    setting: Setting,
    system: Run | Sequence[Run],
    against: _Baselines,
    measure: str,
    margin: float,
    claim: Kind,
    alpha: float,
) -> Claim:
    """One claim, not yet adjusted."""
    other, qrels = against.run(setting.pipeline), against.qrels
    runs = (system,) if isinstance(system, Run) else tuple(system)
    theirs = against.evaluation(other, other)
    mine = averaged([against.evaluation(run, other) for run in runs])
    pairs = zip(mine.per_query[measure].values(), theirs.per_query[measure].values(), strict=True)
    d = np.array([value - baseline for value, baseline in pairs])
    # Student's t proves too much of rankings that hardly differ: see docs/evaluation.md
    kept, interval = non_inferiority(d, margin, alpha=alpha, method="skew"), mean_interval(d, level=1.0 - alpha)
    p = kept.p if claim == "non-inferiority" else equivalence(d, margin, alpha=alpha, method="skew").p
    sd, effect = 0.0 if (d == d[0]).all() else float(d.std(ddof=1)), effect_size(d)
    judged: dict[str, float | None] = {"judged": None, "baseline_judged": None, "changed_holes": None}
    if qrels is not None:
        depth = depth_of(measure)
        shares = (one.mean[f"Judged@{depth}"] for one in (mine, theirs))
        new = [one for run in runs if (one := what_changed(run, other, qrels, depth).new_share) is not None]
        judged = dict(zip(judged, (*shares, sum(new) / len(new) if new else None), strict=True))
    return Claim(
        pipeline=setting.pipeline,
        setting=setting.setting,
        fraction=setting.fraction,
        measure=measure,
        n=len(d),
        system=mine.mean[measure],
        baseline=theirs.mean[measure],
        difference=float(d.mean()),
        sd=sd,
        low=interval.low,
        high=interval.high,
        bound=kept.low,
        p=p,
        p_adjusted=p,
        proven=p < alpha,
        topics_needed=None,
        provable=smallest_margin(sd, len(d), claim=claim, alpha=alpha),
        effect=None if effect is None else effect.value,
        better=int(np.count_nonzero(d > 0)),
        worse=int(np.count_nonzero(d < 0)),
        **judged,
    )
