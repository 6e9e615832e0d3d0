"""Runs side by side: means, differences to a baseline, and which run is significantly better than which.

    table = compare_runs({"bm25": bm25, "new": new}, margin=0.02)
    table.comparisons["new"]["nDCG@10"].interval
    table.better_than["new"]["nDCG@10"]             # "a": significantly better than the run with the letter a
    table.as_rows()

Two families are tested, each with a chance of `alpha` of any false claim (Holm): every run against the baseline on
every measure, and, for the letters, every pair of runs on every measure.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.evaluate.comparison import compare, differences, family
from thresher.evaluate.power import topics_needed
from thresher.evaluate.significance import check_level, holm, paired_t

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.evaluate.comparison import Comparison
    from thresher.evaluate.measures import Evaluation
    from thresher.evaluate.results import Row

LETTERS = string.ascii_letters
"""What runs are called in superscripts; beyond them, a number follows: `a2`."""


@dataclass(frozen=True, slots=True)
class RunTable:
    """Runs side by side.

    Attributes:
        evaluations: by run, in the order given.
        baseline: the run that the others are compared with.
        letters: the letter of each run.
        better_than: run to measure to the letters of the runs that it is significantly better than (paired t, Holm
            over all pairs and measures).
        comparisons: run to measure to its comparison with the baseline, which has none itself.
        alpha: chance of any false claim in each of the two families.
        margin: the smallest loss that would matter; None where none was given.
    """

    evaluations: Mapping[str, Evaluation]
    baseline: str
    letters: Mapping[str, str]
    better_than: Mapping[str, Mapping[str, str]]
    comparisons: Mapping[str, Mapping[str, Comparison]]
    alpha: float
    margin: float | None

    @property
    def measures(self) -> tuple[str, ...]:
        """Canonical names."""
        return tuple(next(iter(self.evaluations.values())).mean)

    @property
    def topics(self) -> tuple[str, ...]:
        """The qids of the judgments."""
        return tuple(self.evaluations[self.baseline].per_query[self.measures[0]])

    @property
    def proven(self) -> bool:
        """Whether every run is shown to be not worse than the baseline by the margin, on every measure.

        Raises:
            InputError: no margin was given.
        """
        if self.margin is None:
            raise InputError("no margin was given, so nothing was to be proven")
        claims = [c.non_inferiority for measured in self.comparisons.values() for c in measured.values()]
        return all(claim is not None and claim.proven for claim in claims)

    def topics_needed(self, run: str, measure: str) -> int | None:
        """Topics that would show that `run` is not worse by the margin, with power .80 and if nothing is lost in truth.

        None where it is proven, where no margin was given, and where the run is worse by the margin or more (the whole
        interval is beyond it), which no number of topics mends.
        """
        compared = self.comparisons[run][measure]
        if self.margin is None or compared.non_inferiority is None or compared.non_inferiority.proven:
            return None
        if compared.interval.high <= -self.margin:
            return None
        return topics_needed(compared.sd, self.margin, alpha=self.alpha)

    def as_rows(self) -> list[Row]:
        """A flat row for each run and measure, for result files, CSV and JSON; all rows have the same keys."""
        rows: list[Row] = []
        some = next(iter(next(iter(self.comparisons.values())).values()))
        nothing: Row = dict.fromkeys(some.as_row())
        for run, evaluation in self.evaluations.items():
            for measure, mean in evaluation.mean.items():
                row: Row = {"run": run, "letter": self.letters[run], "measure": measure, "mean": mean}
                row["better_than"] = self.better_than[run][measure]
                compared = self.comparisons.get(run, {}).get(measure)
                row |= {"with": self.baseline} | (nothing if compared is None else compared.as_row())
                row |= {"measure": measure, "ties": None if compared is None else ties(compared)}
                if self.margin is not None:
                    row["topics_needed"] = None if compared is None else self.topics_needed(run, measure)
                rows.append(row)
        return rows


def ties(compared: Comparison) -> int:
    """Topics on which neither is better."""
    return compared.n - compared.better - compared.worse


@checked_call(rounds=1, seed=0)
def compare_runs(
    evaluations: Mapping[str, Evaluation],
    baseline: str | None = None,
    *,
    margin: float | None = None,
    alpha: float = 0.05,
    rounds: int = 10_000,
    seed: int = 0,
) -> RunTable:
    """Compare runs with a baseline and with each other.

    Args:
        evaluations: by name of the run, all measured on the same topics and measures; the order is kept.
        baseline: name of the run to compare with; by default the first.
        margin: the smallest loss that would matter, chosen before looking; without one neither equivalence nor
            non-inferiority is tested.
        alpha: chance of any false claim.
        rounds: random sign patterns of the randomisation test.
        seed: seed of the randomisation test.

    Raises:
        InputError: fewer than two runs or topics, an unknown baseline, or evaluations of other topics or measures.
        MissingExtraError: scipy is not installed.
    """
    check_level(1.0 - alpha)
    names = list(evaluations)
    if len(names) < 2:
        raise InputError(f"a comparison needs at least two runs, got {len(names)}")
    first = names[0] if baseline is None else baseline
    if first not in evaluations:
        raise InputError(f"there is no run {first!r}; there are: {', '.join(names)}")
    topics = _checked_topics(evaluations)
    if len(topics) < 2:
        raise InputError(
            f"the judgments have one topic, {topics[0]!r}, and differences are tested over at least two; `thresher "
            "eval` measures runs on one topic"
        )
    letters = {name: _letter(at) for at, name in enumerate(names)}
    measures = list(evaluations[first].mean)
    pairs = [(name, measure) for name in names if name != first for measure in measures]
    compared = family(
        [
            compare(
                evaluations[name], evaluations[first], measure, margin=margin, alpha=alpha, rounds=rounds, seed=seed
            )
            for name, measure in pairs
        ]
    )
    comparisons: dict[str, dict[str, Comparison]] = {}
    for (name, measure), one in zip(pairs, compared, strict=True):
        comparisons.setdefault(name, {})[measure] = one
    better = _better(evaluations, measures, letters, alpha)
    return RunTable(dict(evaluations), first, letters, better, comparisons, alpha, margin)


def _checked_topics(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """The topics that all were measured on."""
    name, first = next(iter(evaluations.items()))
    for other, evaluation in evaluations.items():
        if evaluation.per_query.keys() != first.per_query.keys():
            raise InputError(f"the runs {name!r} and {other!r} were evaluated on other measures")
    return list(next(iter(first.per_query.values()), {}))


def _letter(at: int) -> str:
    again, letter = divmod(at, len(LETTERS))
    return LETTERS[letter] + (str(again + 1) if again else "")


def _better(
    evaluations: Mapping[str, Evaluation], measures: list[str], letters: Mapping[str, str], alpha: float
) -> dict[str, dict[str, str]]:
    """By run and measure, the letters of the runs it is significantly better than, in the order of the runs."""
    tested = []
    for measure in measures:
        for one, other in combinations(evaluations, 2):
            statistic, p = paired_t(differences(evaluations[one], evaluations[other], measure))
            tested.append((measure, *((one, other) if statistic > 0 else (other, one)), p))
    found: dict[str, dict[str, set[str]]] = {name: {measure: set() for measure in measures} for name in evaluations}
    for (measure, winner, loser, _), p in zip(tested, holm([row[-1] for row in tested]), strict=True):
        if p < alpha:
            found[winner][measure].add(loser)
    return {
        name: {m: "".join(letters[other] for other in evaluations if other in lost) for m, lost in by_measure.items()}
        for name, by_measure in found.items()
    }
