"""The reports of an index and of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.certify.certificate import Certificate, staleness
from thresher.index.commit import read_commit
from thresher.report import sections
from thresher.report.charts import histogram
from thresher.report.markup import Markup, data, section, table, tag
from thresher.report.page import page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.experiment import ExperimentReport
    from thresher.index.commit import Commit
    from thresher.manifest import Fields

BINS = 20


@checked_call
def index_report(
    index: str | Path,
    facts: Sequence[tuple[str, str]] = (),
    *,
    scores: str | None = None,
    title: str = "",
    device: str = "auto",
) -> str:
    """A page about an index: what it holds, its certificate, what was pruned, and how good its passages are.

    Args:
        index: its directory.
        facts: names and values that are shown as they are, as `thresher info` prints them.
        scores: a score store, an estimator or its name, for a histogram of quality.
        title: heading; by default the name of the directory.
        device: for models of an estimator.

    Raises:
        ArtifactError: there is no index, or its certificate cannot be read.
        InputError: the scores are those of another corpus.
    """
    index = Path(index)
    commit, certificate = read_commit(index), Certificate.read(index)
    shown = [_passages(commit)]
    if certificate is not None:
        shown.append(sections.certificate(certificate, staleness(index, certificate)))
    if scores is not None:
        shown.append(_quality(index, scores, device))
    if usage := commit.fields.get("usage"):
        shown.append(_usage(usage))
    if facts:
        rows = [(data(name), data(value)) for name, value in facts]
        shown.append(
            section(
                "All facts of the index",
                table(("name", "value"), rows, caption="As in thresher info", words=(0, 1)),
            )
        )
    lead = f"Commit {commit.number:,}, {commit.live:,} passages"
    return page(title or index.resolve().name, lead, shown)


def _passages(commit: Commit) -> Markup:
    """Passages by what became of them, and the segments."""
    parts = {
        "in the first tier": sum(one.passages[0] for one in commit.segments),
        "in the second tier": sum(sum(one.passages[1:]) for one in commit.segments),
        "left out by pruning": sum(one.dropped for one in commit.segments),
        "deleted": sum(sum(one.deleted) for one in commit.segments),
    }
    rows = [
        (one.name, one.passages[0], sum(one.passages[1:]), one.dropped, sum(one.deleted), one.bytes)
        for one in commit.segments
    ]
    heads = ("segment", "passages", "second tier", "left out", "deleted", "bytes")
    return section(
        "Passages",
        table(("passages", "count"), list(parts.items()), caption="What became of the passages"),
        table(heads, rows, caption="Segments"),
    )


def _usage(usage: Sequence[Fields]) -> Markup:
    rows = []
    for one in usage:
        counts = ", ".join(f"{value:,} {name}" for name, value in (one.get("counts") or {}).items())
        rows.append((one.get("stage"), one.get("seconds"), counts))
    return section("Cost of the build", table(("stage", "seconds", "counts"), rows, caption="Stages", words=(0, 2)))


def _quality(index: Path, scores: str, device: str) -> Markup:
    """How the scores of the live passages are spread."""
    from thresher.certify.fractions import scores_of
    from thresher.search.index import Index

    with Index.open(index) as opened:
        values, name = scores_of(opened, scores, device=device)
    live = values[np.isfinite(values)]
    counts, edges = np.histogram(live, BINS)
    rows = [(f"{edges[at]:.4g} to {edges[at + 1]:.4g}", int(count)) for at, count in enumerate(counts)]
    label = f"Quality by {name}: {len(live):,} passages from {edges[0]:.4g} to {edges[-1]:.4g}, in {BINS} bins"
    return section(
        "Quality",
        histogram(counts.tolist(), label),
        tag("p", f"{label}. Low scores are on the left.", class_="note"),
        table(("score", "passages"), rows, caption="Passages by score"),
    )


@checked_call
def experiment_report(made: ExperimentReport, *, title: str = "") -> str:
    """A page about an experiment: measured and published figures, values by topic, and what it took."""
    plan = [(name, data(str(value))) for name, value in made.plan.items()]
    rows = [(row["measure"], row["measured"], row["published"], row["difference"]) for row in made.rows()]
    heads = ("measure", "measured", "published", "difference")
    shown = [section("Results", table(heads, rows, caption=f"{made.queries:,} queries"))]
    origin = made.experiment.published.get("source")
    if origin:
        shown.append(tag("p", f"Published: {origin}", class_="note"))
    names = list(made.per_query)
    if names:
        worst_first = sorted(made.per_query[names[0]], key=made.per_query[names[0]].__getitem__)
        topics = [(data(qid), *(made.per_query[name][qid] for name in names)) for qid in worst_first]
        shown.append(section("Topics, the worst first", table(("topic", *names), topics, caption="Values by topic")))
    if made.build is not None:
        shown.append(_usage([stage.as_json() for stage in made.build.usage.stages]))
        shown.append(tag("p", f"A query took {made.query_ms:.2f} ms on average.", class_="note"))
    shown.append(section("Plan", table(("name", "value"), plan, caption="What was done", words=(0, 1))))
    return page(title or made.experiment.description or made.experiment.collection, "An experiment", shown)
