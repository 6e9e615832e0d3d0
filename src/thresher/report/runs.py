"""The report of runs: a table of runs, differences by topic, what changed, and what the judgments can support."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.certify.claims import depth_of
from thresher.evaluate.holes import find_holes, support
from thresher.evaluate.measures import evaluate
from thresher.evaluate.run_table import compare_runs
from thresher.report import sections
from thresher.report.changes import changed_most, sorted_differences
from thresher.report.markup import Markup, data, section
from thresher.report.page import page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thresher.certify.certificate import Certificate
    from thresher.evaluate.front import Point
    from thresher.evaluate.run_table import RunTable
    from thresher.ranking import Run
    from thresher.records import Qrels
    from thresher.report.sections import Texts


def no_text(_: str) -> None:
    """Texts where none were given."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured configurations, and what their axes are called."""

    points: Sequence[Point]
    cost: str
    effect: str


@dataclass(frozen=True, slots=True)
class Beside:
    """What a report of runs shows beside them, where it is given.

    Attributes:
        texts: title and text of a passage by docno.
        queries: text of a query by qid.
        costs: effectiveness against cost.
        certificate: of the system.
    """

    texts: Texts = no_text
    queries: Mapping[str, str] = field(default_factory=dict)
    costs: Costs | None = None
    certificate: Certificate | None = None


@checked_call
def runs_report(
    runs: Mapping[str, Run],
    qrels: Qrels,
    measures: str | Iterable[str] = "nDCG@10 AP",
    *,
    baseline: str | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    topics: int = 10,
    title: str = "Runs compared",
    beside: Beside | None = None,
) -> str:
    """A page that compares runs.

    Args:
        runs: by name, at least two.
        qrels: judgments.
        measures: as in `evaluate`; topics are looked at by the first.
        baseline: name of the run to compare with; by default the first.
        margin: the smallest loss that would matter, chosen before looking.
        alpha: chance of any false claim.
        seed: seed of the randomisation test.
        topics: how many topics to show for each run, of those that changed most.
        title: heading.
        beside: texts, queries, costs and a certificate.

    Returns:
        one HTML document without scripts that loads nothing.

    Raises:
        InputError: as `evaluate` and `compare_runs`.
        MissingExtraError: scipy is not installed.
    """
    given = Beside() if beside is None else beside
    evaluations = {name: evaluate(run, qrels, measures) for name, run in runs.items()}
    made = compare_runs(evaluations, baseline, margin=margin, alpha=alpha, seed=seed)
    shown = [sections.compared(made)]
    if given.costs is not None:
        shown.append(sections.costs(given.costs.points, cost=given.costs.cost, effect=given.costs.effect))
    if given.certificate is not None:
        shown.append(sections.certificate(given.certificate))
    shown += [*_topics(made, runs, qrels, topics, given), _holes(made, runs, qrels)]
    lead = data(f"{len(runs):,} runs, {len(made.topics):,} topics, compared with {made.baseline}")
    return page(title, lead, shown)


def _topics(made: RunTable, runs: Mapping[str, Run], qrels: Qrels, count: int, given: Beside) -> list[Markup]:
    first, measure = made.baseline, made.measures[0]
    depth = depth_of(measure)
    drawn, changed = [], []
    for name in made.comparisons:
        rows = sorted_differences(made.evaluations[name], made.evaluations[first], measure)
        drawn.append(sections.by_topic(name, first, measure, rows, given.queries))
        found = changed_most(rows, runs[name], runs[first], qrels, count=count, depth=depth)
        if found:
            changed.append(sections.topics(name, first, found, given.texts, given.queries, depth))
    return [
        section("Differences by topic", *drawn),
        *([section("Topics that changed most", *changed)] if changed else []),
    ]


def _holes(made: RunTable, runs: Mapping[str, Run], qrels: Qrels) -> Markup:
    measure = made.measures[0]
    depth = depth_of(measure)
    found = {name: find_holes(run, qrels, depth) for name, run in runs.items()}
    rows = [(data(name), len(one.found), one.retrieved, f"{one.rate:.1%}") for name, one in found.items()]
    said = {
        f"{name} against {made.baseline}": support(runs[name], runs[made.baseline], qrels, measure, k=depth).sentences()
        for name in made.comparisons
    }
    return sections.holes(rows, said)
