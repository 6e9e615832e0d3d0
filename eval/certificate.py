"""What can be left out of an index, or of a query, and be shown not to be worse: the certificate on two collections.

Writes eval/results/certificate-msmarco-v1-mini.json (TREC DL 2019, 43 topics) and certificate-nfcorpus.json (the test
split, 323 topics); resumes where it was interrupted. Nothing is chosen on either.

An index of BM25 + thresher-mini with vectors is asked by the pipelines of `thresher certify`: lexical (BM25's terms
alone), sparse, interpolated (with vectors and feedback), reranked (ten passages read by the embedded ranker), and
context (the five passages handed over, without those of which no sentence is kept). Changes are series of levels:

    embedded, coverage   the passages that score lowest; heads that saw a passage do not score it, and coverage is
                         learned from other queries than those measured, without a judgment
    duplicates folded    exact ones, and near-duplicates too; `credited` counts a judged passage as found where the one
                         that stands for it is found
    random               the mean of five seeds, topic by topic
    postings             by `prune_lists`, of BM25's and the learned encoder's vectors alone (`learned`)
    query terms          `Effort(terms=)`; and the terms that Elasticsearch leaves out of a `sparse_vector` query
    approximate search   `Effort(blocks=)`, where blocks are skipped at all (small collections are searched exactly
                         without them)
    context presets      of the sentence selection, against all that is handed over
    reranker's budget    passages read, against fifty; DL 2019 alone, as reading takes long, for which reason estimators
                         on NFCorpus, and folding and random, are tested without the pipelines that read

Declared before looking: the measure is nDCG@10, the claim non-inferiority, alpha .05, the margins .01, .02 and .05.
A family, over which Holm's method adjusts, is what one call of `thresher certify` would test: all levels and pipelines
of one series on one collection at one margin. The margins are three questions: choose one before looking. `largest_all`
says what is left where all claims of the file at one margin are one family. A level counts as certified if it and
every milder one of its pipeline are proven. `better_than_random` is a family of its own for each series: that the
level loses less than random removal of as much, by the same test; passing at a low rate proves little without it.

    python -m eval certificate [--collections trec-dl-2019]
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import altair as alt

from eval.bench import Bench, options
from eval.certified_systems import SEEDS, Systems
from eval.collections import passages_name
from thresher.certify.claims import Setting, prove
from thresher.evaluate.comparison import averaged, differences
from thresher.evaluate.measures import evaluate
from thresher.evaluate.significance import holm, mean_interval, non_inferiority

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.bench import Row
    from eval.certified_systems import Series
    from thresher.records import Qrels

COLLECTIONS = ("trec-dl-2019", "nfcorpus")
MARGINS = (0.01, 0.02, 0.05)
MEASURE, ALPHA = "nDCG@10", 0.05
NOTHING = 1e-9
"""How much better than random counts as better: anything."""
COLUMNS = {
    "change": "", "pipeline": "", "margin": "", "largest": "", "difference": "+.4f", "low": "+.4f", "high": "+.4f",
    "bound": "+.4f", "p_adjusted": ".4f", "over_random": "+.4f", "better_than_random": "", "largest_all": "",
    "next": "", "next_difference": "+.4f", "topics_needed": "",
}  # fmt: skip
NOTE = (
    "largest: the largest certified level (a share is of the passages or postings left out), empty where none is, with "
    "its difference of nDCG@10, two-sided 95 % interval, one-sided bound, and p value adjusted over the series. next: "
    "the first level that is not proven; topics_needed: topics that would prove it with power .80 if nothing were lost "
    "in truth. over_random: how much more nDCG@10 than random removal of as much. Claims are tested by the `skew` "
    "method; where few topics lose much, its p value falls slowly as the margin widens, so a mild level may not be "
    "proven where a stronger one is. No compressed model is here: its results are of other topics, and have no values "
    "by query. Neither is "
    "exact recall of approximate search (`recall=`), which does not exist."
)


def tested(series: Series, qrels: Qrels) -> list[Row]:
    """A row for each margin, level and pipeline; p values adjusted over the series."""
    beside = beside_random(series, qrels)
    rows: list[Row] = []
    for margin in MARGINS:
        systems = {
            Setting(pipeline, level.setting, level.fraction): runs
            for level in series.levels
            for pipeline, runs in level.runs.items()
        }
        for claim in prove(systems, series.against, qrels, MEASURE, margin, alpha=ALPHA):
            against = beside.get((claim.setting, claim.pipeline), {})
            rows.append({"margin": margin, **claim.as_row(), **against})
    return rows


def beside_random(series: Series, qrels: Qrels) -> dict[tuple[str, str], Row]:
    """By level and pipeline, how much less is lost than by random removal; seeds are averaged by topic."""
    found: dict[tuple[str, str], Row] = {}
    p_values: list[float] = []
    for level in series.levels:
        for pipeline, runs in level.runs.items():
            others = level.random.get(pipeline)
            if not others or others is runs:
                continue
            mine, random = (averaged([evaluate(run, qrels, MEASURE) for run in some]) for some in (runs, others))
            more = differences(mine, random, MEASURE)
            interval = mean_interval(more)
            p_values.append(non_inferiority(more - 2 * NOTHING, NOTHING, alpha=ALPHA, method="skew").p)
            found[level.setting, pipeline] = {
                "random": random.mean[MEASURE], "over_random": float(more.mean()),
                "over_random_low": interval.low, "over_random_high": interval.high,
            }  # fmt: skip
    for row, p in zip(found.values(), holm(p_values) if p_values else (), strict=True):
        row["p_over_random"], row["better_than_random"] = p, p < ALPHA
    return found


def case(systems: Systems, name: str) -> list[Row]:
    """All rows of one series."""
    rows = tested(systems.series[name](), systems.qrels)
    return [{"collection": systems.name, "change": name, **row} for row in rows]


def with_all(rows: Sequence[Row]) -> list[Row]:
    """The rows with p values adjusted over all of the file at a margin."""
    found: list[Row] = []
    for margin in MARGINS:
        part = [row for row in rows if row["margin"] == margin]
        adjusted = holm([row["p"] for row in part])
        found += [{**row, "p_all": p, "proven_all": p < ALPHA} for row, p in zip(part, adjusted, strict=True)]
    return found


def summary(rows: Sequence[Row]) -> list[Row]:
    """A row for each series, pipeline and margin: the largest level that is certified, and the first that is not."""
    found: list[Row] = []
    for change, pipeline, margin in dict.fromkeys((r["change"], r["pipeline"], r["margin"]) for r in rows):
        levels = [r for r in rows if (r["change"], r["pipeline"], r["margin"]) == (change, pipeline, margin)]
        best, following = largest(levels, "proven")
        shown = best or {}
        found.append(
            {
                "collection": levels[0]["collection"], "change": change, "pipeline": pipeline, "margin": margin,
                "measure": MEASURE, "n": levels[0]["n"], "baseline": levels[0]["baseline"],
                "largest": shown.get("setting"), "fraction": shown.get("fraction"),
                **{key: shown.get(key) for key in ("difference", "low", "high", "bound", "p", "p_adjusted")},
                **{key: shown.get(key) for key in ("over_random", "over_random_low", "over_random_high")},
                "better_than_random": shown.get("better_than_random"),
                "largest_all": (largest(levels, "proven_all")[0] or {}).get("setting"),
                "next": (following or {}).get("setting"),
                "next_difference": (following or {}).get("difference"),
                "topics_needed": (following or {}).get("topics_needed"),
                "levels": [row["setting"] for row in levels],
            }
        )  # fmt: skip
    return found


def largest(levels: Sequence[Row], key: str) -> tuple[Row | None, Row | None]:
    """The last level that is proven with all before it, and the first that is not."""
    best = None
    for row in levels:
        if not row[key]:
            return best, row
        best = row
    return best, None


def plot(rows: Sequence[Row]) -> Any:
    """Differences by share left out, filled where proven at the margin .02."""
    changes = ("random", "embedded", "coverage", "postings by passage", "postings by list", "postings by weight")
    values = [
        {key: row[key] for key in ("change", "pipeline", "fraction", "difference", "low", "high", "proven")}
        for row in rows
        if row["margin"] == MARGINS[1] and row["change"] in changes
    ]
    base = alt.Chart(width=200, height=150).encode(
        x=alt.X("fraction:Q", title="share left out", scale=alt.Scale(zero=True)),
        y=alt.Y("difference:Q", title="nDCG@10, difference"),
        color=alt.Color("change:N", sort=list(changes)),
    )
    marks = base.mark_point(filled=True, size=45).encode(
        shape=alt.Shape("proven:N", title=f"proven at {MARGINS[1]:g}", scale=alt.Scale(range=["cross", "circle"]))
    )
    lines = base.mark_line(strokeWidth=1) + base.mark_rule(opacity=0.4).encode(y="low:Q", y2="high:Q")
    margins = (alt.Chart().mark_rule(strokeDash=[3, 3], opacity=0.5).encode(y=alt.datum(-one)) for one in MARGINS)
    return alt.layer(lines, marks, *margins, data=alt.Data(values=values)).facet("pipeline:N", columns=3)


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("certificate", __doc__)
    parser.add_argument("--collections", nargs="*", default=list(COLLECTIONS))
    parser.add_argument("--leave-out", nargs="*", default=(), help="series to leave out")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    for name in given.collections:
        systems = Systems(bench, name)
        wanted = [one for one in systems.series if one not in given.leave_out]
        rows: list[Row] = []
        for one in wanted:
            rows += bench.kept(f"certificate-{name}-{one.replace(' ', '-')}", partial(case, systems, one))
        rows = with_all(rows)
        bench.write(
            f"certificate-{passages_name(name)}",
            summary(rows),
            seed=SEEDS,
            plot=plot(rows),
            columns=COLUMNS,
            packages=["scipy", "torch", "rensa"],
            details=rows,
            title=f"What can be left out, {name}",
            note=NOTE,
        )
