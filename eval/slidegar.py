"""What neighbours add to reranking at the same number of calls: SlideGAR against a sliding window.

The candidates are BM25's and SPLADE++'s top 100 of TREC DL 2021 (where the plan's defaults were chosen) and 2019;
neighbours come from the passages of msmarco-v2-mini and -v1-mini, by the vectors of the embedded MiniLM or by BM25.
Judges: perfect; Plackett-Luce noise of scale 1 on 1.5 times the grade; and judges fitted to two recorded models. Every
figure is a mean over the queries and the seeds; intervals are t intervals over queries of the difference to the sliding
window. Writes eval/results/slidegar.json.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

from eval.bench import Bench, Row, options
from eval.collections import data_file, embeddings
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.evaluate.collections import load
from thresher.evaluate.measures import evaluate
from thresher.evaluate.significance import mean_interval
from thresher.evaluate.trec import read_qrels, read_run
from thresher.ranking import Ranking, Run
from thresher.rerank.driver import query_seed
from thresher.rerank.neighbours import ArrayNeighbours, JournalNeighbours, PostingNeighbours, frontier
from thresher.rerank.plans import plan_from_name
from thresher.rerank.plans.plan import Expand, drive
from thresher.search import Index
from training.rerank.fitted import fitted
from training.rerank.simulated import Simulation, perfect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.records import Qrels
    from thresher.rerank.neighbours import Near, Neighbours
    from thresher.rerank.plans.plan import Answer, Comparison

DEPTH = 100
COLLECTIONS = {"dl21": "trec-dl-2021", "dl19": "trec-dl-2019"}
FIRST_STAGES = {"bm25": "lexical", "splade-pp-ed": "learned"}
JUDGES = ("perfect", "noisy", "fitted-rank-vicuna-7b-aug", "fitted-vicuna-7b-ckpt800")
BASELINE = ("sliding", "none")
PLANS = (
    BASELINE,
    ("slidegar", "none"),
    ("slidegar", "vectors"),
    ("slidegar", "postings"),
    ("slidegar:explore=all,aggregation=last-window", "vectors"),
)
RECORDED = "rank-vicuna-7b-aug"
MEASURES = ("nDCG@10", "R@100")
Results = dict[str, list[dict[str, float]]]
"""Of each measure and seed: the value of each query."""


class Kept:
    """A source of neighbours that looks each passage up once."""

    def __init__(self, source: Neighbours) -> None:
        self._source = source
        self._found: dict[str, Near] = {}

    def near(self, docnos: Sequence[str]) -> list[Near]:
        """As the source."""
        missing = [docno for docno in docnos if docno not in self._found]
        self._found.update(zip(missing, self._source.near(missing), strict=True))
        return [self._found[docno] for docno in docnos]


Source = Callable[[str], Kept | None]
"""Gives the source of neighbours for a qid, None for none."""


class Candidates:
    """The candidates of one query and what a judge with errors believes them to be worth; both grow."""

    def __init__(
        self, judge: str, kind: str, docnos: Sequence[str], grades: Mapping[str, int], qid: str, seed: int
    ) -> None:
        self._judge, self._kind, self._grades, self._qid, self._seed = judge, kind, grades, qid, seed
        self.docnos: list[str] = []
        self._utilities: list[float] = []
        self._add(docnos)

    def _add(self, docnos: Sequence[str]) -> None:
        self.docnos += docnos
        if self._judge.startswith("fitted"):
            self._utilities += fitted(self._judge, self._kind).utilities(self._grades, self._qid, docnos, self._seed)
        else:
            self._utilities += [1.5 * max(self._grades.get(docno, 0), 0) for docno in docnos]

    def judging(self) -> Callable[[Comparison], Answer | None]:
        """The judge; the same errors whatever the plan."""
        if self._judge == "perfect":
            return perfect(self._utilities)
        simulation = fitted(self._judge, self._kind).simulation if self._judge != "noisy" else Simulation(noise=1.0)
        digest = sha256(f"{self._judge} {self._seed} {self._qid}".encode()).digest()
        return simulation.judging(self._utilities, Random(int.from_bytes(digest[:8], "big")))  # noqa: S311

    def expanding(self, source: Kept) -> Callable[[Expand, int], list[int]]:
        """The neighbours by a source, for `drive`."""

        def expand(wanted: Expand, n: int) -> list[int]:
            known = {self.docnos[item] for item in wanted.known.union(wanted.items)}
            found = frontier(source.near([self.docnos[item] for item in wanted.items]), known, wanted.count)
            place_of = {docno: place for place, docno in enumerate(self.docnos)}
            new = [docno for docno in found if docno not in place_of]
            self._add(new)
            place_of.update({docno: n + at for at, docno in enumerate(new)})
            return [place_of[docno] for docno in found]

        return expand


def measured(
    spec: str,
    source_of: Source,
    judge: str,
    kind: str,
    lists: Mapping[str, Sequence[str]],
    qrels: Qrels,
    seeds: int,
) -> tuple[Results, dict[str, float]]:
    """One plan: the value of each query and seed, and the means of what was spent."""
    plan = plan_from_name(spec)
    values: Results = {measure: [] for measure in MEASURES}
    spent: dict[str, list[int]] = defaultdict(list)
    for seed in range(seeds):
        rankings = {}
        for qid, docnos in lists.items():
            made = Candidates(judge, kind, docnos, qrels.judgments.get(qid, {}), qid, seed)
            source = source_of(qid)
            expand = None if source is None else made.expanding(source)
            placement, used = drive(
                plan, len(docnos), made.judging(), k=10, seed=query_seed(seed, qid) >> 1, neighbours=expand
            )
            rankings[qid] = Ranking([made.docnos[item] for item in placement.order])
            for name, count in (
                ("calls", used.calls), ("depth", used.depth), ("passages", used.passages),
                ("added", len(made.docnos) - len(docnos)),
            ):  # fmt: skip
                spent[name].append(count)
        found = evaluate(Run(rankings), qrels, MEASURES)
        for measure in MEASURES:
            values[measure].append(dict(found.per_query[measure]))
    return values, {name: statistics.fmean(counts) for name, counts in spent.items()}


def compared(values: Results, baseline: Results) -> Row:
    """Means, and the t interval over queries of the difference to the baseline, averaged over seeds first."""
    row: Row = {}
    for measure in MEASURES:
        queries = sorted(values[measure][0])
        own = [statistics.fmean(one[qid] for one in values[measure]) for qid in queries]
        other = [statistics.fmean(one[qid] for one in baseline[measure]) for qid in queries]
        gains = [a - b for a, b in zip(own, other, strict=True)]
        interval = mean_interval(gains) if any(gains) else None
        row[measure] = statistics.fmean(own)
        row[f"gain {measure}"] = statistics.fmean(gains)
        row[f"lo {measure}"], row[f"hi {measure}"] = (interval.low, interval.high) if interval else (0.0, 0.0)
    return row


def same(source: Kept | None) -> Source:
    """The same source for every query."""
    return lambda _: source


def sources(bench: Bench, collection: str) -> dict[str, Source]:
    """The sources of neighbours over a collection's passages."""
    opened = load(collection)
    docnos = [passage.docno for passage in opened.corpus]
    folder = bench.work / f"neighbours-{collection}"
    if not folder.is_dir():
        build_index(folder, opened.corpus, Recipe())
    return {
        "none": same(None),
        "vectors": same(Kept(ArrayNeighbours(docnos, embeddings(opened)))),
        "postings": same(Kept(PostingNeighbours(Index.open(folder)))),
    }


def rows_of(bench: Bench, year: str, first: str, seeds: int) -> list[Row]:
    """The rows of one list of candidates."""
    known = sources(bench, COLLECTIONS[year])
    qrels = read_qrels(data_file("trec-dl", f"qrels.{year}.txt"))
    run = read_run(data_file("runs", f"{first}.{year}.run.gz"), as_listed=True)
    lists = {qid: ranking.docnos[:DEPTH] for qid, ranking in run.items() if qid in qrels.judgments}
    rows: list[Row] = []
    for judge in JUDGES:
        baseline: Results = {}
        times = 1 if judge == "perfect" else seeds
        for spec, source in PLANS:
            values, spent = measured(spec, known[source], judge, FIRST_STAGES[first], lists, qrels, times)
            baseline = baseline or values
            rows.append({
                "collection": year, "first stage": first, "judge": judge, "plan": spec, "neighbours": source,
                "queries": len(lists), "seeds": times, **spent, **compared(values, baseline),
            })  # fmt: skip
    return rows


def journals() -> dict[str, Source]:
    """Neighbours mined from recorded rerankings of other first stages: of all topics, and without a query's own."""
    index = json.loads(data_file("recordings", "index.json").read_text(encoding="utf-8"))
    chosen = {
        one["first_stage"]: one["recording"]
        for one in reversed(index)
        if one["model"] == RECORDED and one["depth"] == DEPTH and not one["first_stage"].startswith("bm25")
    }
    runs = [read_run(data_file("recordings", "runs", f"{name}.run.gz"), as_listed=True) for name in chosen.values()]
    rankings = [(qid, ranking.docnos[:DEPTH]) for run in runs for qid, ranking in run.items()]
    whole = Kept(JournalNeighbours(docnos for _, docnos in rankings))

    @cache
    def without(qid: str) -> Kept:
        return Kept(JournalNeighbours(docnos for other, docnos in rankings if other != qid))

    return {"none": same(None), "journal": same(whole), "journal, other topics": without}


def journal_rows(seeds: int) -> list[Row]:
    """Neighbours by journal among BM25's candidates of DL 2019."""
    known = journals()
    qrels = read_qrels(data_file("trec-dl", "qrels.dl19.txt"))
    run = read_run(data_file("runs", "bm25.dl19.run.gz"), as_listed=True)
    lists = {qid: ranking.docnos[:DEPTH] for qid, ranking in run.items() if qid in qrels.judgments}
    rows: list[Row] = []
    for judge in JUDGES[1:]:
        baseline: Results = {}
        for spec, source in (BASELINE, ("slidegar", "journal"), ("slidegar", "journal, other topics")):
            values, spent = measured(spec, known[source], judge, "lexical", lists, qrels, seeds)
            baseline = baseline or values
            rows.append({
                "collection": "dl19", "first stage": "bm25", "judge": judge, "plan": spec, "neighbours": source,
                "queries": len(lists), "seeds": seeds, **spent, **compared(values, baseline),
            })  # fmt: skip
    return [row for row in rows if row["neighbours"] != "none"]


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("slidegar", __doc__)
    parser.add_argument("--seeds", type=int, default=20, help="seeds of judges and plans")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows: list[Row] = []
    for year in COLLECTIONS:
        for first in FIRST_STAGES:
            name = f"slidegar-{year}-{first}-{given.seeds}"
            rows += bench.kept(name, partial(rows_of, bench, year, first, given.seeds))
    rows += bench.kept(f"slidegar-journal-{given.seeds}", lambda: journal_rows(given.seeds))
    shown = {
        "collection": "",
        "first stage": "",
        "judge": "",
        "plan": "",
        "neighbours": "",
        "calls": ".1f",
        "added": ".0f",
    }
    for measure in MEASURES:
        shown |= {measure: ".4f", f"gain {measure}": "+.4f", f"lo {measure}": "+.4f", f"hi {measure}": "+.4f"}
    bench.write(
        "slidegar",
        rows,
        seed=0,
        columns=shown,
        title="Neighbours among the candidates, at the calls of a sliding window",
        note="Gains are over `sliding` with the same judge and candidates, with 95 % t intervals over queries. "
        "Half of msmarco-v1-mini is judged, so a neighbour is relevant more often than in the full collection, and "
        "gains there are smaller. The defaults of `slidegar` were chosen on DL 2021.",
    )
