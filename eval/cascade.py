"""The cascade built up one stage at a time, and each stage left out in turn: cascade.json.

    THRESHER_DATA=... python -P eval/cascade.py eval/cascade.toml --work work            # resumes where it stopped
    THRESHER_DATA=... python -P eval/cascade.py eval/cascade.toml --work work --choose   # what [ask] should say
    THRESHER_DATA=... python -P eval/cascade.py eval/cascade.toml --work work --served   # under a deadline: served.json

A row is a collection and the stages that ran, with nDCG@10 and its 95 % bootstrap interval over queries, R@100, bytes
on disk without texts, seconds of encoding the passages, milliseconds a query, forward passes of a model a query,
and characters of context handed over. Vectors of passages are read from THRESHER_DATA/embeddings (the embedded
MiniLM's); seconds of encoding are words encoded at a rate measured here. What the cross-encoder said of a query and
a passage is kept in --work with the seconds it took, and those seconds are counted wherever the row would have spent
them. Without a deadline the cross-encoder reads as many passages as the experiment says; --served asks as users do.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import sys
import time
import tomllib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from cascade_models import KnownVectors, RememberingScorer

from thresher.build.recipe import AskStep, Recipe
from thresher.build.stream import build_index
from thresher.encode.dense import MiniLMEncoder
from thresher.evaluate.collections import Collection, data_dir, load
from thresher.evaluate.measures import evaluate
from thresher.evaluate.results import write_results
from thresher.evaluate.significance import bootstrap_interval
from thresher.evaluate.trec import read_run
from thresher.index.layout import open_layout
from thresher.pipeline import Pipeline
from thresher.ranking import Ranking, Run
from thresher.records import Hit, Qrels
from thresher.search import Index
from thresher.vectors.retrieve import DenseIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.pipeline import Answer
    from thresher.records import Query

RESULTS = Path(__file__).parent / "results"
FIRST = ("bm25", "thresher-mini")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("experiment", type=Path, help="eval/cascade.toml")
    parser.add_argument("--work", type=Path, required=True, help="directory for indexes and what was read")
    parser.add_argument(
        "--choose", action="store_true", help="print settings by their figures on DL21 and train splits"
    )
    parser.add_argument("--served", action="store_true", help="measure the served default under its deadline")
    parser.add_argument("--only", nargs="*", default=(), help="measure these collections, and write nothing")
    options = parser.parse_args()
    bench = Bench(tomllib.loads(options.experiment.read_text()), options.work)
    command = f"python -P eval/cascade.py eval/cascade.toml --work work{' --served' * options.served}"
    if options.choose:
        from cascade_choice import choose

        choose(bench)
        return
    if options.served:
        write_results(
            RESULTS / "served.json", bench.served(), command=command, packages=["torch"], title="The served default"
        )
        return
    wanted = [c for c in bench.spec["collections"] if not options.only or c["name"] in options.only]
    rows = [row for c in wanted for row in bench.measured(c["name"], c["read"], c.get("questions"))]
    if options.only:
        for row in rows:
            print(row)
        return
    if "given" in bench.spec:
        rows += bench.given()
    rows += means(rows)
    columns = {
        "collection": "", "stages": "", "nDCG@10": ".4f", "lo": ".4f", "hi": ".4f", "R@100": ".4f", "bytes": "",
        "encode_s": ".1f", "ms_p50": ".1f", "ms_p99": ".1f", "forwards": ".1f", "context_characters": ".0f",
        "characters_dropped": ".3f", "tier_2": ".3f",
    }  # fmt: skip
    write_results(
        RESULTS / "cascade.json",
        rows,
        command=command,
        seed=0,
        plot=plot(rows),
        columns=columns,
        packages=["torch"],
        title="The cascade, stage by stage",
        note=NOTE,
    )


NOTE = (
    "Half of msmarco-v1-mini is judged: its figures compare systems here, not with 8.8 million passages. SciFact and "
    "NFCorpus are in-domain for thresher-mini. Times include reading, as measured when a passage was "
    "first read. `dense` ranks by vectors alone; `relevance` orders the passages read by the "
    "cross-encoder alone; characters_dropped is the share of the handed passages' characters."
)


class Docnos:
    """Docnos of an index by passage number."""

    def __init__(self, directory: Path) -> None:
        tiers = (directory, directory / "tier-2")
        self.docnos = [docno for tier in tiers if tier.is_dir() for docno in open_layout(tier).docnos]

    def docnos_at(self, numbers: np.ndarray) -> list[str]:
        return [self.docnos[number] for number in numbers.tolist()]


class Bench:
    """Indexes under a work directory, and what is measured on them."""

    def __init__(self, spec: dict[str, Any], work: Path) -> None:
        self.spec, self.work = spec, work
        work.mkdir(parents=True, exist_ok=True)
        self.light = MiniLMEncoder(storage="float32")
        self.ask = AskStep.model_validate(
            {"k": spec["k"], "threshold": spec["threshold"], "on_error": "raise"} | spec["ask"]
        )
        self._vectors: dict[str, KnownVectors] = {}

    @cached_property
    def scorer(self) -> RememberingScorer:
        return RememberingScorer(self.work)

    @property
    def best(self) -> str:
        """The first stage of the served cascade."""
        return str(self.spec["first"])

    def vectors(self, collection: Collection) -> KnownVectors:
        if collection.name not in self._vectors:
            self._vectors[collection.name] = KnownVectors(collection, self.light, self.rate)
        return self._vectors[collection.name]

    def index(self, collection: Collection, stages: Sequence[str]) -> Path:
        """The index of a collection for `stages`, with vectors in it, built if it is not there."""
        first = "thresher-mini" if "thresher-mini" in stages else "bm25"
        keys: dict[str, Any] = {"encode": {"encoder": first}, "vectors": {}}
        if "quality" in stages:
            keys["prune"] = self.spec["prune"]
        recipe = Recipe.model_validate(keys)
        mark = hashlib.sha256(f"{recipe.model_dump_json(exclude={'ask'})}{_weights_mark(first)}".encode()).hexdigest()[
            :10
        ]
        target = self.work / f"index-{collection.name.replace('/', '-')}-{mark}"
        if not target.is_dir():
            build_index(target, collection.corpus, recipe, dense=self.vectors(collection))
        return target

    def pipeline(self, collection: Collection, stages: Sequence[str], read: int) -> Pipeline:
        settings = self.ask.model_copy(update={"read": read})
        if "relevance" in stages:
            settings = settings.model_copy(update={"weights": (0.0, 0.0, 1.0)})
        return Pipeline(
            self.index(collection, stages),
            vectors="auto" if "interpolate" in stages else None,
            rerank=self.scorer if {"rank", "relevance"} & set(stages) else None,
            context=self.scorer if "context" in stages else None,
            settings=settings,
            query_encoder=self.vectors(collection),
            warm=False,
        )

    def seconds(self, collection: Collection) -> float:
        """What the models would have taken so far, where what they say was known already."""
        return self.scorer.seconds + self.vectors(collection).seconds

    # -- measuring

    def systems(self) -> list[tuple[str, ...]]:
        """The rows that the experiment names."""
        return [tuple(stages) for stages in self.spec["systems"]]

    def measured(self, name: str, read: int, count: int | None) -> list[Row]:
        """Every system on a collection, on all of its judged queries or the first `count` by a hash."""
        collection = load(name)
        queries = by_hash([query for query in collection.queries if query.qid in collection.qrels.judgments])[:count]
        asked = {query.qid for query in queries}
        qrels = Qrels({q: judged for q, judged in collection.qrels.judgments.items() if q in asked})
        collection = dataclasses.replace(collection, qrels=qrels)
        rows = []
        for stages in self.systems():
            row = self.dense_alone(collection, queries) if stages == ("dense",) else None
            rows.append(row or self.row(collection, queries, stages, read))
            print(rows[-1], flush=True)
        return rows

    def row(
        self,
        collection: Collection,
        queries: Sequence[Query],
        stages: Sequence[str],
        read: int,
        given: dict[str, list[Hit]] | None = None,
    ) -> Row:
        reads = bool({"rank", "relevance"} & set(stages))
        pipeline = self.pipeline(collection, stages, read if reads else 100)
        if given is None:
            pipeline.ask(queries[0].text)  # compiles
        answers, milliseconds = {}, []
        for query in queries:
            before = self.seconds(collection)
            answer = pipeline.ask(query.text, hits=None if given is None else given.get(query.qid, []))
            answers[query.qid] = answer
            milliseconds.append(answer.milliseconds + 1000 * (self.seconds(collection) - before))
        row = self.effectiveness(collection, {q: a.rows() for q, a in answers.items()}, stages)
        return row | self.costs(collection, stages, list(answers.values()), milliseconds)

    def effectiveness(self, collection: Collection, rankings: dict[str, Ranking], stages: Sequence[str]) -> Row:
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
        directory = self.index(collection, stages)
        counts = [{s.stage: dict(s.counts) for s in answer.usage.stages} for answer in answers]
        handed = [sum(len(p.original) for p in a.passages) for a in answers]
        kept = [sum(span.end - span.start for p in a.passages for span in p.spans) for a in answers]
        learned = "thresher-mini" in stages or "interpolate" in stages
        words = self.encoded(collection, directory)
        second = [c.get("search", {}).get("escalated", 0) for c in counts]
        return {
            "bytes": _bytes(directory, vectors="interpolate" in stages),
            "encode_s": words / self.rate if learned else _stage_seconds(directory, "encode"),
            "ms_p50": float(np.percentile(milliseconds, 50)),
            "ms_p99": float(np.percentile(milliseconds, 99)),
            "forwards": float(np.mean([sum(s.get("forwards", 0) for s in c.values()) for c in counts])),
            "context_characters": float(np.mean(kept)),
            "characters_dropped": 1 - sum(kept) / max(sum(handed), 1),
            "tier_2": _second_tier(directory) / sum(1 for _ in collection.corpus),
            "fell_through": float(np.mean(second)) if "quality" in stages else None,
        }

    def encoded(self, collection: Collection, directory: Path) -> int:
        """Words of the passages that an index has vectors of."""
        from thresher.vectors.store import VectorStore

        store = VectorStore.open(directory / "vectors")
        kept = set(Docnos(directory).docnos_at(np.arange(len(store))))
        return sum(len(p.contents.split()) for p in collection.corpus if p.docno in kept)

    @cached_property
    def rate(self) -> float:
        """Words a second that MiniLM encodes, on passages of DL19's corpus."""
        file = self.work / "rate.json"
        if not file.is_file():
            texts = [p.contents for p in itertools.islice(load("trec-dl-2019").corpus, 0, 43_000, 430)]
            self.light.encode_passages(texts[:4])
            started = time.perf_counter()
            self.light.encode_passages(texts)
            file.write_text(json.dumps(sum(len(t.split()) for t in texts) / (time.perf_counter() - started)))
        return float(json.loads(file.read_text()))

    def dense_alone(self, collection: Collection, queries: Sequence[Query]) -> Row:
        from thresher.vectors.store import VectorStore

        directory = self.index(collection, (self.best,))
        store = VectorStore.open(directory / "vectors")
        flat, docnos, rankings, milliseconds = DenseIndex.over(store), Docnos(directory), {}, []
        for query in queries:
            started = time.perf_counter()
            rankings[query.qid] = flat.search(self.light.encode_queries([query.text]), 1000, passages=docnos)[0]
            milliseconds.append(1000 * (time.perf_counter() - started))
        words = self.encoded(collection, directory)
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
        queries = [query for query in collection.queries if query.qid in collection.qrels.judgments]
        rows = []
        for stages in (
            (),
            ("interpolate",),
            ("relevance",),
            ("interpolate", "rank"),
            ("interpolate", "rank", "context"),
        ):
            row = self.row(collection, queries, ("bm25", *stages), spec["read"], hits)
            rows.append(
                {k: v for k, v in row.items() if k not in ("bytes", "encode_s", "tier_2", "fell_through")}
                | {"collection": f"{spec['name']}, given BM25 top 100", "stages": ["given bm25", *stages]}
            )
            print(rows[-1], flush=True)
        return rows

    # -- the served default

    def served(self) -> list[Row]:
        """Under the deadline, on DL19's queries and on MS MARCO queries without judgments."""
        collection = load("trec-dl-2019")
        target = self.index(collection, ("quality", self.best))
        deadline = self.spec["served_deadline_ms"]
        settings = AskStep(deadline_ms=deadline)
        pipeline = Pipeline(target, settings=settings)
        judged = [query for query in collection.queries if query.qid in collection.qrels.judgments]
        answers = {query.qid: pipeline.ask(query.text) for query in judged}
        row = self.effectiveness(collection, {q: a.rows() for q, a in answers.items()}, pipeline.stages)
        rows = [row | _under_deadline(list(answers.values()), deadline)]
        asked = _dev_queries(self.spec["served_questions"])
        rows.append(
            {"collection": "msmarco-v1-mini, MS MARCO dev questions", "stages": list(pipeline.stages)}
            | _under_deadline([pipeline.ask(text) for text in asked], deadline)
        )
        free = Pipeline(target)
        rows.append(
            {"collection": "msmarco-v1-mini, MS MARCO dev questions", "stages": list(free.stages)}
            | _under_deadline([free.ask(text) for text in asked[:100]], None)
        )
        return rows


def by_hash(queries: Sequence[Query]) -> list[Query]:
    """Queries in an order that has nothing to do with them."""
    return sorted(queries, key=lambda query: hashlib.sha256(query.qid.encode()).hexdigest())


def given_hits(collection: Collection, run_name: str, depth: int) -> dict[str, list[Hit]]:
    """The first `depth` of a given run, with texts; queries that the run lacks have none."""
    root = data_dir()
    assert root is not None, "set THRESHER_DATA"
    run = read_run(root / "runs" / f"{run_name}.run.gz")
    wanted = {row.docno for rows in run.rankings.values() for row in rows[:depth]}
    texts = {p.docno: p for p in collection.corpus if p.docno in wanted}
    return {
        qid: [
            Hit(row.docno, row.score, rank, texts[row.docno].text, texts[row.docno].title)
            for rank, row in enumerate((r for r in rows[:depth] if r.docno in texts), 1)
        ]
        for qid, rows in run.rankings.items()
    } | {qid: [] for qid in collection.qrels.judgments if qid not in run.rankings}


def _under_deadline(answers: Sequence[Answer], deadline: float | None) -> Row:
    taken = np.array([answer.milliseconds for answer in answers])
    read = [dict(s.counts).get("passages", 0) for a in answers for s in a.usage.stages if s.stage == "rank"]
    row = {
        "questions": len(answers),
        "deadline_ms": deadline,
        "ms_p50": float(np.percentile(taken, 50)),
        "ms_p95": float(np.percentile(taken, 95)),
        "ms_p99": float(np.percentile(taken, 99)),
        "ms_max": float(taken.max()),
        "passages_read": float(np.sum(read) / len(answers)),
        "shortened": float(np.mean([bool(answer.skipped) for answer in answers])),
    }
    if deadline is not None:
        row["p99_beyond_deadline_ms"] = row["ms_p99"] - deadline
    return row


def _dev_queries(count: int) -> list[str]:
    root = data_dir()
    assert root is not None, "set THRESHER_DATA"
    lines = (root / "trec-dl" / "queries.msmarco-dev.tsv").read_text(encoding="utf-8").splitlines()
    rng = np.random.default_rng(0)
    return [lines[i].split("\t", 1)[1] for i in rng.choice(len(lines), count, replace=False)]


def _weights_mark(first: str) -> str:
    if first != "thresher-mini":
        return ""
    from thresher.encode.expansion import ExpansionEncoder

    return ExpansionEncoder(device="cpu").fingerprint


def _stage_seconds(directory: Path, stage: str) -> float:
    usage = json.loads((directory / "manifest.json").read_text())["usage"]
    return float(sum(one["seconds"] for one in usage if one["stage"] == stage))


def _second_tier(directory: Path) -> int:
    """Passages of an index's second tier."""
    return sum(layout.counts.passages for layout in Index.open(directory).layouts[1:])


def _bytes(directory: Path, *, vectors: bool) -> int:
    """Files of an index without passages' texts, and with vectors where they are used."""
    total = 0
    for file in directory.rglob("*"):
        place = file.relative_to(directory)
        if file.is_file() and not place.name.startswith("passages.") and (vectors or place.parts[0] != "vectors"):
            total += file.stat().st_size
    return total


def means(rows: Sequence[Row]) -> list[Row]:
    """Each system's nDCG@10 over the collections that were searched."""
    searched = [row for row in rows if "given" not in row["collection"]]
    collections = {row["collection"] for row in searched}
    out = []
    for stages in dict.fromkeys(tuple(row["stages"]) for row in searched):
        figures = [row["nDCG@10"] for row in searched if tuple(row["stages"]) == stages]
        if len(figures) == len(collections):
            out.append({"collection": "mean", "stages": list(stages), "nDCG@10": float(np.mean(figures))})
    return out


def plot(rows: Sequence[Row]) -> alt.Chart:
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
            x=alt.X("ms:Q", scale=alt.Scale(type="log"), title="milliseconds a question, median"),
            y=alt.Y("nDCG@10:Q", scale=alt.Scale(zero=False)),
            color="stages:N",
            facet=alt.Facet("collection:N", columns=2),
        )
        .properties(width=320, height=220)
        .resolve_scale(y="independent")
    )


if __name__ == "__main__":
    main()
