"""The pipeline built up one stage at a time, and each stage left out in turn.

    python -m eval cascade             # writes eval/results/cascade.json; resumes where it stopped
    python -m eval cascade --served    # under a deadline: eval/results/served.json

A row is a collection and the stages that ran, with nDCG@10 and its 95 % bootstrap interval over queries, R@100, bytes
on disk without texts, seconds of encoding the passages, milliseconds a query, forward passes of a model a query,
and characters of context returned. Where near-duplicates are folded, `credited` is nDCG@10 where a passage has the
best judgment of those that it stands for. Vectors of passages are read from THRESHER_DATA/embeddings (the embedded
MiniLM's), weighted terms are encoded once for each version of the weights; seconds of encoding are words encoded at
rates measured here. What the cross-encoder said of a query and a passage is kept in the work directory with the seconds
it took, and those seconds are counted wherever the row would have spent them. Without a deadline the cross-encoder
reads as many passages as `eval/cascade.toml` says; --served answers queries as users send them. All settings but those
of `cascade.toml` are the defaults.
"""

from __future__ import annotations

import itertools
import time
import tomllib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import altair as alt
import numpy as np

from eval.bench import Bench, by_hash, fingerprint_of, index_bytes, key_of, options
from eval.collections import dev_queries, given_hits, judged, only
from eval.known import KnownVectors, RememberingScorer
from thresher.build.recipe import AskStep, Recipe
from thresher.encode import SparseEncoder
from thresher.encode.dense import MiniLMEncoder
from thresher.encode.hybrid import learned_part
from thresher.errors import InputError
from thresher.evaluate.collections import Collection, load
from thresher.evaluate.measures import evaluate
from thresher.evaluate.resampling import bootstrap_interval
from thresher.index.commit import read_commit
from thresher.pipeline import Pipeline
from thresher.ranking import Ranking, Run
from thresher.records import Qrels
from thresher.search import Index
from thresher.vectors.retrieve import DenseIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.bench import Row
    from thresher.pipeline import Answer
    from thresher.records import Hit, Query

SPEC = Path(__file__).with_name("cascade.toml")
COLUMNS = {
    "collection": "", "stages": "", "nDCG@10": ".4f", "lo": ".4f", "hi": ".4f", "credited": ".4f", "R@100": ".4f",
    "bytes": "",
    "encode_s": ".1f", "ms_p50": ".1f", "ms_p99": ".1f", "forwards": ".1f", "context_characters": ".0f",
    "characters_dropped": ".3f", "tier_2": ".3f",
}  # fmt: skip
NOTE = (
    "Half of msmarco-v1-mini is judged: its figures compare systems here, not with 8.8 million passages. Times include "
    "reading, as measured when a passage was first read. `credited` gives a passage the best judgment of the "
    "near-duplicates that were folded into it. `dense` ranks by vectors alone; `relevance` orders the passages read by "
    "the cross-encoder alone; characters_dropped is the share of the handed passages' characters."
)


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("cascade", __doc__)
    parser.add_argument("--served", action="store_true", help="measure the served default under its deadline")
    parser.add_argument("--only", nargs="*", default=(), help="measure these collections, and write nothing")
    given = parser.parse_args(arguments)
    cascade = Cascade(Bench.of(given))
    if given.served:
        cascade.bench.write("served", cascade.served(), packages=["torch"], title="The served default")
        return
    wanted = [c for c in cascade.spec["collections"] if not given.only or c["name"] in given.only]
    rows = [row for c in wanted for row in cascade.measured(c["name"], c["read"], c.get("queries"))]
    if given.only:
        return
    rows += cascade.given()
    rows += means(rows)
    cascade.bench.write(
        "cascade",
        rows,
        seed=0,
        plot=plot(rows),
        columns=COLUMNS,
        packages=["torch"],
        title="The cascade, stage by stage",
        note=NOTE,
    )


class Cascade:
    """Pipelines over indexes of a bench, as `cascade.toml` names their stages."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.spec: dict[str, Any] = tomllib.loads(SPEC.read_text(encoding="utf-8"))
        self.light = MiniLMEncoder(storage="float32")
        self.ask = AskStep.model_validate(
            {"k": self.spec["k"], "threshold": self.spec["threshold"], "on_error": "raise"} | self.spec["ask"]
        )
        self._vectors: dict[str, KnownVectors] = {}

    @cached_property
    def scorer(self) -> RememberingScorer:
        """The cross-encoder."""
        return RememberingScorer(self.bench.work)

    @property
    def best(self) -> str:
        """The first stage of the served cascade."""
        return str(self.spec["first"])

    def vectors(self, collection: Collection) -> KnownVectors:
        """The vectors of a collection's passages."""
        if collection.name not in self._vectors:
            self._vectors[collection.name] = KnownVectors(self.bench, collection, self.light, self.rate)
        return self._vectors[collection.name]

    def index(self, collection: Collection, stages: Sequence[str]) -> Path:
        """The index of a collection for `stages`, with vectors in it."""
        keys: dict[str, Any] = {"encode": {"encoder": first_of(stages)}, "vectors": {}}
        if "quality" in stages:
            keys["prune"] = self.spec["prune"] | {"fold": "folded" in stages}
        return self.bench.index(collection, Recipe.model_validate(keys), self.vectors(collection))

    def pipeline(self, collection: Collection, stages: Sequence[str], read: int) -> Pipeline:
        """The pipeline of these stages; the cross-encoder reads `read` passages."""
        settings = self.ask.model_copy(update={"read": read})
        if "relevance" in stages:
            settings = settings.model_copy(update={"weights": (0.0, 0.0, 1.0)})
        return Pipeline.open(
            self.index(collection, stages),
            vectors="auto" if "interpolate" in stages else None,
            rerank=self.scorer if {"rank", "relevance"} & set(stages) else None,
            context=self.scorer if "context" in stages else None,
            settings=settings,
            query_encoder=self.vectors(collection),
        )

    def seconds(self, collection: Collection) -> float:
        """What the models would have taken so far, had nothing been computed before."""
        return self.scorer.seconds + self.vectors(collection).seconds

    def measured(self, name: str, read: int, count: int | None) -> list[Row]:
        """Every system on a collection, on all of its judged queries or the first `count` by a hash."""
        collection = load(name)
        queries = by_hash(judged(collection), lambda query: query.qid)[:count]
        collection = only(collection, queries)
        rows = []
        for stages in (tuple(stages) for stages in self.spec["systems"]):
            if stages == ("dense",):
                rows.append(self.dense_alone(collection, queries))
            else:
                rows.append(self.row(collection, queries, stages, read))
            print(rows[-1], flush=True)
        return rows

    def row(
        self,
        collection: Collection,
        queries: Sequence[Query],
        stages: Sequence[str],
        read: int,
        given: Mapping[str, list[Hit]] | None = None,
    ) -> Row:
        """The row of one system, over the first stage's own candidates or the `given` ones."""
        reads = bool({"rank", "relevance"} & set(stages))
        pipeline = self.pipeline(collection, stages, read if reads else 100)
        if given is None:
            pipeline.ask(queries[0].text)  # compiles
        answers, milliseconds = {}, []
        for query in queries:
            before = self.seconds(collection)
            hits = None if given is None else given.get(query.qid, [])
            if hits is None or len(stages) > 1:  # the index's own scores of the given passages
                answer = pipeline.ask(query, allow=None if hits is None else [hit.docno for hit in hits])
            else:
                answer = pipeline.ask(query, candidates=hits)
            answers[query.qid] = answer
            milliseconds.append(answer.milliseconds + 1000 * (self.seconds(collection) - before))
        rankings = {qid: answer.ranking for qid, answer in answers.items()}
        row = self.effectiveness(collection, rankings, stages)
        if "folded" in stages:
            qrels = credited(collection.qrels, Index.open(self.index(collection, stages)))
            row["credited"] = evaluate(Run(rankings), qrels, "nDCG@10").mean["nDCG@10"]
        return row | self.costs(collection, stages, list(answers.values()), milliseconds)

    def effectiveness(self, collection: Collection, rankings: dict[str, Ranking], stages: Sequence[str]) -> Row:
        """nDCG@10 with its interval, and R@100."""
        level = f"(rel={collection.relevant})" if collection.relevant > 1 else ""
        found = evaluate(Run(rankings), collection.qrels, f"nDCG@10 R{level}@100")
        interval = bootstrap_interval(found.values("nDCG@10"))
        return {
            "collection": collection.name,
            "stages": list(stages),
            "nDCG@10": found.mean["nDCG@10"],
            "lo": interval.low,
            "hi": interval.high,
            "R@100": found.mean[f"R{level}@100"],
        }

    def costs(
        self, collection: Collection, stages: Sequence[str], answers: Sequence[Answer], milliseconds: Sequence[float]
    ) -> Row:
        """Bytes, seconds, forward passes and characters."""
        directory = self.index(collection, stages)
        counts = [{s.stage: dict(s.counts) for s in answer.usage.stages} for answer in answers]
        handed = [sum(len(p.original) for p in a.passages) for a in answers]
        kept = [sum(span.end - span.start for p in a.passages for span in p.spans) for a in answers]
        learned = learned_part(first_of(stages))
        words, seconds = self.words(collection, directory), _stage_seconds(directory, "encode")
        if learned:
            seconds = words / self.learned_rate(learned)
        if "interpolate" in stages:
            seconds += words / self.rate
        second = [c.get("search", {}).get("escalated", 0) for c in counts]
        return {
            "bytes": index_bytes(directory, vectors="interpolate" in stages),
            "encode_s": seconds,
            "ms_p50": float(np.percentile(milliseconds, 50)),
            "ms_p99": float(np.percentile(milliseconds, 99)),
            "forwards": float(np.mean([sum(s.get("forwards", 0) for s in c.values()) for c in counts])),
            "context_characters": float(np.mean(kept)),
            "characters_dropped": 1 - sum(kept) / max(sum(handed), 1),
            "tier_2": _second_tier(directory) / sum(1 for _ in collection.corpus),
            "escalated": float(np.mean(second)) if "quality" in stages else None,
        }

    @staticmethod
    def words(collection: Collection, directory: Path) -> int:
        """Words of the passages of an index."""
        stores = [layout.docnos for layout in Index.open(directory).layouts]
        kept = {store[number] for store in stores for number in range(len(store))}
        return sum(len(p.contents.split()) for p in collection.corpus if p.docno in kept)

    def learned_rate(self, encoder: str) -> float:
        """Words a second that a learned sparse encoder encodes, on passages of DL19's corpus."""
        name = f"rate-{key_of(encoder)}-{fingerprint_of(encoder)[:12]}"
        return self.bench.kept(name, lambda: _rate(SparseEncoder.from_name(encoder, device="cpu")))

    @cached_property
    def rate(self) -> float:
        """Words a second that MiniLM encodes, on passages of DL19's corpus."""
        return self.bench.kept("rate", lambda: _rate(self.light))

    def dense_alone(self, collection: Collection, queries: Sequence[Query]) -> Row:
        """The row of ranking all passages by their vectors."""
        store = self.bench.vectors(collection, self.light)
        flat = DenseIndex.over(store)
        rankings, milliseconds = {}, []
        for query in queries:
            started = time.perf_counter()
            rankings[query.qid] = flat.search(self.light.encode_queries([query.text]), 1000)[0]
            milliseconds.append(1000 * (time.perf_counter() - started))
        words = sum(len(passage.contents.split()) for passage in collection.corpus)
        return self.effectiveness(collection, rankings, ("dense",)) | {
            "bytes": store.bytes,
            "encode_s": words / self.rate,
            "ms_p50": float(np.percentile(milliseconds, 50)),
            "ms_p99": float(np.percentile(milliseconds, 99)),
            "forwards": 1.0,
            "tier_2": 0.0,
        }

    def given(self) -> list[Row]:
        """The given BM25 top 100 of DL19: the candidates of the published tables."""
        spec = self.spec["given"]
        collection = load(spec["name"])
        hits = given_hits(collection, spec["run"], 100)
        queries = judged(collection)
        rows = []
        for stages in ((), ("interpolate",), ("relevance",), ("interpolate", "rank")):
            row = self.row(collection, queries, (self.best, *stages), spec["read"], hits)
            rows.append(
                {k: v for k, v in row.items() if k not in ("bytes", "encode_s", "tier_2", "escalated")}
                | {"collection": f"{spec['name']}, given BM25 top 100", "stages": ["given bm25", *stages]}
            )
            print(rows[-1], flush=True)
        return rows

    # -- the served default

    def served(self) -> list[Row]:
        """The defaults and the ranker under the deadline and without one, on queries with and without judgments."""
        collection = load("trec-dl-2019")
        target = self.index(collection, (self.best,))
        deadline = self.spec["served_deadline_ms"]
        asked = _dev_sample(self.spec["served_queries"])
        rows = []
        for rerank in ("auto", "thresher-context"):
            pipeline = Pipeline.open(target, settings=AskStep(deadline_ms=deadline), rerank=rerank)
            pipeline.warm_up()
            answers = {query.qid: pipeline.ask(query.text) for query in judged(collection)}
            row = self.effectiveness(collection, {q: a.ranking for q, a in answers.items()}, _names(pipeline))
            rows.append(row | _under_deadline(list(answers.values()), deadline))
            name = {"collection": "msmarco-v1-mini, MS MARCO dev queries", "stages": _names(pipeline)}
            rows.append(name | _under_deadline([pipeline.ask(text) for text in asked], deadline))
            free = Pipeline.open(target, rerank=rerank)
            free.warm_up()
            rows.append(name | _under_deadline([free.ask(text) for text in asked[:100]], None))
            if "rerank" in _names(pipeline):
                break
        return rows


FIRST = ("bm25", "thresher-mini", "bm25+thresher-mini")
"""What a search may go by, as recipes name it."""


def first_of(stages: Sequence[str]) -> str:
    """The encoder of the stages' first stage."""
    return next(stage for stage in stages if stage in FIRST)


def credited(qrels: Qrels, index: Index) -> Qrels:
    """Judgments where a passage has the best grade of those that were folded into it, and these have none."""
    judgments = {}
    for qid, grades in qrels.judgments.items():
        found: dict[str, int] = {}
        for docno, grade in grades.items():
            with suppress(InputError):  # it was dropped as junk
                name = index.representative(docno)
                found[name] = max(found.get(name, grade), grade)
        judgments[qid] = found
    return Qrels(judgments)


class _Encodes(Protocol):
    def encode_passages(self, texts: Sequence[str]) -> object: ...


def _rate(encoder: _Encodes) -> float:
    """Words a second that an encoder encodes, on passages of DL19's corpus."""
    texts = [p.contents for p in itertools.islice(load("trec-dl-2019").corpus, 0, 43_000, 430)]
    encoder.encode_passages(texts[:4])
    started = time.perf_counter()
    encoder.encode_passages(texts)
    return sum(len(t.split()) for t in texts) / (time.perf_counter() - started)


def _names(pipeline: Pipeline) -> list[str]:
    return [stage.name for stage in pipeline.stages]


def _under_deadline(answers: Sequence[Answer], deadline: float | None) -> Row:
    taken = np.array([answer.milliseconds for answer in answers])
    read = [dict(s.counts).get("passages", 0) for a in answers for s in a.usage.stages if s.stage == "rerank"]
    read += [0] * (len(answers) - len(read))  # those that had no time to read
    row: Row = {
        "queries": len(answers),
        "deadline_ms": deadline,
        "ms_p50": float(np.percentile(taken, 50)),
        "ms_p95": float(np.percentile(taken, 95)),
        "ms_p99": float(np.percentile(taken, 99)),
        "ms_max": float(taken.max()),
        "passages_read": float(np.sum(read) / len(answers)),
        "passages_read_p50": float(np.median(read)),
        "shortened": float(np.mean([bool(answer.skipped) for answer in answers])),
    }
    if deadline is not None:
        row["p99_beyond_deadline_ms"] = row["ms_p99"] - deadline
    return row


def _dev_sample(count: int) -> list[str]:
    queries = dev_queries()
    rng = np.random.default_rng(0)
    return [queries[i].text for i in rng.choice(len(queries), count, replace=False)]


def _stage_seconds(directory: Path, stage: str) -> float:
    usage = read_commit(directory).fields["usage"]
    return float(sum(one["seconds"] for one in usage if one["stage"] == stage))


def _second_tier(directory: Path) -> int:
    """Passages of an index's second tier."""
    return sum(layout.counts.passages for layout in Index.open(directory).layouts[1:])


def means(rows: Sequence[Row]) -> list[Row]:
    """Each system's nDCG@10, R@100 and median milliseconds, averaged over the collections that were searched."""
    searched = [row for row in rows if "given" not in row["collection"]]
    collections = {row["collection"] for row in searched}
    out = []
    for stages in dict.fromkeys(tuple(row["stages"]) for row in searched):
        found = [row for row in searched if tuple(row["stages"]) == stages]
        if len(found) == len(collections):
            keys = [key for key in ("nDCG@10", "credited", "R@100", "ms_p50") if all(key in row for row in found)]
            means = {key: float(np.mean([row[key] for row in found])) for key in keys}
            out.append({"collection": "mean", "stages": list(stages)} | means)
    return out


def plot(rows: Sequence[Row]) -> Any:
    """Effectiveness against milliseconds."""
    points = [
        {"collection": r["collection"], "stages": " + ".join(r["stages"]), "nDCG@10": r["nDCG@10"], "ms": r["ms_p50"]}
        for r in rows
        if "ms_p50" in r
    ]
    return (
        alt.Chart(alt.Data(values=points))
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("ms:Q", scale=alt.Scale(type="log"), title="milliseconds a query, median"),
            y=alt.Y("nDCG@10:Q", scale=alt.Scale(zero=False)),
            color="stages:N",
            facet=alt.Facet("collection:N", columns=2),
        )
        .properties(width=320, height=220)
        .resolve_scale(y="independent")
    )
