"""Systems that `python -m eval certificate` tests: an index of a collection with less of something, as runs of ten.

A series is one kind of change in several levels, the mildest first, each with the runs of the pipelines that it can
change, what they are compared with, and, where there is one, random removal of as much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from eval.bench import key_of
from eval.equal_bytes import batch_of
from eval.known import KnownVectors, RememberingScorer
from eval.pruning import csr, features, rank_collection
from eval.quality_curves import coverage, embedded
from thresher.build.recipe import AskStep, Recipe
from thresher.certify.fractions import kept
from thresher.certify.pipelines import Asked, Changed, Models
from thresher.certify.plan import Plan, System
from thresher.encode import SparseEncoder
from thresher.encode.dense import MiniLMEncoder
from thresher.encode.encoded import EncodedPassages
from thresher.prune.policy import preference
from thresher.prune.static import prune_lists
from thresher.quality.duplicates import fold_duplicates
from thresher.ranking import Ranking, Run
from thresher.records import Qrels, Query, SparseBatch
from thresher.search import Effort, Index

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from eval.bench import Bench
    from eval.pruning import Kept, RankedCollection
    from thresher.evaluate.collections import Collection
    from thresher.search.queries import Tiers

FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SEEDS = 5
"""Random prunings, averaged by topic."""
SEARCHED = ("lexical", "sparse", "interpolated")
"""Pipelines in which no model reads a passage."""
PIPELINES = (*SEARCHED, "reranked", "context")
BLOCKS = (0.9, 0.8, 0.7, 0.6, 0.5)
TERMS = (12, 8, 6, 4, 3)
BUDGET, BUDGETS = 50, (30, 20, 10, 5)
PRESETS = ("conservative", "balanced", "strong")
HANDED = 5
ENCODER, LEARNED = "bm25+thresher-mini", "thresher-mini"
RANKER = "thresher-context"
TOKENS = (5.0, 0.4)
"""Elasticsearch's `tokens_freq_ratio_threshold` and `tokens_weight_threshold` for queries of a `sparse_vector`."""
READ_BY_BUDGET = ("trec-dl-2019",)
"""Collections on which fifty passages a query are read."""
READ = {"trec-dl-2019": ("embedded", "coverage"), "nfcorpus": ()}
"""Series that are tested with a model that reads passages, by collection: reading takes long."""
DEPTH = 10


@dataclass(slots=True)
class Level:
    """One level of a change.

    Attributes:
        setting: what it is called.
        fraction: share of the passages, or of the postings, that is left out; None where it is not about a share.
        runs: by pipeline; several where seeds are averaged.
        random: random removal of as much, by pipeline.
    """

    setting: str
    fraction: float | None
    runs: Mapping[str, Sequence[Run]]
    random: Mapping[str, Sequence[Run]] = field(default_factory=dict)


@dataclass(slots=True)
class Series:
    """A change in several levels, the mildest first: one family of claims.

    Attributes:
        against: what its runs are compared with, by pipeline.
        levels: the levels.
    """

    against: Mapping[str, Run]
    levels: Sequence[Level]


class RememberingAsked(Asked):
    """Queries asked with this release's defaults and the embedded ranker, which keeps on disk what it has read."""

    def __init__(self, index: Index, queries: Sequence[Query], scorer: RememberingScorer) -> None:
        super().__init__(index, queries, DEPTH, models=Models({RANKER: scorer}), device="cpu")

    def _settings(self, changed: Changed, tiers: Tiers | None) -> AskStep:
        return AskStep.model_validate({"rerank": RANKER, **changed.ask})


class Systems:
    """The series of one collection.

    Args:
        bench: keeps the index, and finished runs.
        name: of the collection.
    """

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.name = bench, name
        self._random: dict[float, dict[str, list[Run]]] = {}

    @cached_property
    def made(self) -> RankedCollection:
        """The collection, ranked by BM25."""
        return rank_collection(self.name)

    @property
    def collection(self) -> Collection:
        """Its passages and judgments."""
        return self.made.collection

    @cached_property
    def qrels(self) -> Qrels:
        """The judgments of its judged queries."""
        return Qrels({qid: self.collection.qrels.judgments[qid] for qid in self.made.qids})

    @property
    def series(self) -> dict[str, Callable[[], Series]]:
        """How each series is made, by name."""
        found: dict[str, Callable[[], Series]] = {
            "random": self.at_random,
            "embedded": lambda: self.by_scores("embedded", self.embedded),
            "coverage": lambda: self.by_scores("coverage", self.coverage),
            "postings by passage": lambda: self.postings("document"),
            "postings by list": lambda: self.postings("term"),
            "postings by weight": lambda: self.postings("global"),
            "heaviest query terms": lambda: self.searched(
                {f"terms={most}": {"effort": Effort(terms=most)} for most in TERMS}
            ),
            "query tokens, Elasticsearch's default": self.tokens,
            "approximate search by blocks": lambda: self.searched(
                {f"blocks={level}": {"effort": Effort(blocks=level), "plan": "block-max"} for level in BLOCKS}
            ),
            "duplicates folded": self.folded,
            "duplicates folded, credited": lambda: self.folded(credit=True),
        }
        if self.name in READ_BY_BUDGET:
            found["reranker's budget"] = self.budget
        return {**found, "context presets": self.presets}

    # -- an index

    @cached_property
    def plan(self) -> Plan:
        """Asks the index of the collection, unpruned."""
        light = MiniLMEncoder(storage="float32")
        recipe = Recipe.model_validate({"encode": {"encoder": ENCODER}, "vectors": {}})
        path = self.bench.index(self.collection, recipe, KnownVectors(self.bench, self.collection, light, 1.0))
        queries = [Query(qid, text) for qid, text in zip(self.made.qids, self.made.topics, strict=True)]
        asked = RememberingAsked(Index.open(path), queries, RememberingScorer(self.bench.work))
        folder = f"certificate-runs-{key_of(AskStep().model_dump(mode='json', exclude={'recall'}))}"
        return Plan(asked, asked, self.bench.work / folder)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """int64[n]: the corpus row of each passage of the index."""
        index = self.plan.other.index
        row = {docno: i for i, docno in enumerate(self.made.docnos)}
        return np.array([row[docno] for docno in index.docnos_at(np.arange(len(index.live)))])

    def runs(self, systems: Sequence[System], pipelines: Sequence[str]) -> tuple[dict[tuple[str, str], Run], Any]:
        """Runs by pipeline and setting, and the baseline's by pipeline."""
        found, against = self.plan.runs(systems, pipelines, progress=False)
        return {(one.pipeline, one.setting): run for one, run in found.items()}, against

    def system(self, setting: str, fraction: float | None, mask: Kept | None = None) -> System:
        """The index without the passages that the mask leaves out."""
        return System(self.plan.other, setting, fraction, allow=mask)

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """Lexical columns of the passages."""
        return features(self.bench, self.name, self.made.texts)

    @cached_property
    def embedded(self) -> NDArray[np.float64]:
        """Scores of the embedded estimator."""
        return embedded(self.name, self.made.texts, self.features)

    @cached_property
    def coverage(self) -> NDArray[np.float64]:
        """Scores learned from a query log."""
        found = coverage(self.bench, self.made, self.features)
        assert found is not None, f"{self.name} has no query log"
        return found

    def mask(self, scores: NDArray[np.float64], fraction: float) -> Kept:
        """What `certify` keeps of the index by these scores, which are by corpus row."""
        return kept(self.plan.other.index, scores[self.rows].astype(np.float32), fraction)

    def random(self, fraction: float) -> dict[str, list[Run]]:
        """Random pruning of a share, by pipeline, a run for each seed."""
        if fraction not in self._random:
            draws = [np.random.default_rng(seed).random(self.made.n) for seed in range(SEEDS)]
            systems = [
                self.system(f"random {seed}", fraction, self.mask(draw, fraction)) for seed, draw in enumerate(draws)
            ]
            found, _ = self.runs(systems, SEARCHED)
            self._random[fraction] = {
                name: [found[name, f"random {seed}"] for seed in range(SEEDS)] for name in SEARCHED
            }
        return self._random[fraction]

    def baseline(self, pipelines: Sequence[str]) -> dict[str, Run]:
        """The whole index's runs."""
        against: dict[str, Run] = self.runs([], pipelines)[1]
        return against

    def at_random(self) -> Series:
        """Passages at random."""
        levels = [Level(f"{share:.0%}", share, self.random(share)) for share in FRACTIONS]
        return Series(self.baseline(SEARCHED), levels)

    def by_scores(self, name: str, scores: NDArray[np.float64]) -> Series:
        """The passages with the lowest scores."""
        pipelines = PIPELINES if name in READ[self.name] else SEARCHED
        levels = []
        for share in FRACTIONS:
            found, against = self.runs([self.system(name, share, self.mask(scores, share))], pipelines)
            runs = {pipeline: [found[pipeline, name]] for pipeline in pipelines}
            levels.append(Level(f"{share:.0%}", share, runs, self.random(share)))
            print(self.name, name, share, flush=True)
        return Series(against, levels)

    def folded(self, *, credit: bool = False) -> Series:
        """Duplicates folded into the best one by the embedded estimator: exact ones, and near-duplicates too.

        With `credit` a judged passage counts as found where the one that stands for it is found.
        """
        order = preference(self.embedded, self.made.docnos)
        levels = []
        for name, similarity in (("exact", None), ("near, .8", 0.8)):
            folding = fold_duplicates(self.made.texts, order, similarity=similarity)
            share = float(folding.folded.mean())
            mask = ~folding.folded[self.rows]
            found, against = self.runs([self.system(name, share, mask)], SEARCHED)
            runs = {pipeline: found[pipeline, name] for pipeline in SEARCHED}
            if credit:
                groups: dict[str, list[str]] = {}
                for row in np.flatnonzero(folding.folded):
                    stands = self.made.docnos[folding.canonical[row]]
                    groups.setdefault(stands, []).append(self.made.docnos[row])
                runs = {pipeline: credited(run, groups, self.qrels) for pipeline, run in runs.items()}
            levels.append(Level(name, share, {key: [run] for key, run in runs.items()}, self.random(share)))
        return Series(against, levels)

    def searched(self, settings: Mapping[str, Mapping[str, Any]]) -> Series:
        """Arguments of a search."""
        asked = self.plan.other
        systems = [System(asked, name, changed=Changed(search=given)) for name, given in settings.items()]
        names = ("lexical", "sparse")
        found, against = self.runs(systems, names)
        return Series(against, [Level(one, None, {name: [found[name, one]] for name in names}) for one in settings])

    def presets(self) -> Series:
        """Passages of which a sentence is kept, against all that are handed over."""
        systems = [System(self.plan.other, one, changed=Changed(ask={"threshold": one})) for one in PRESETS]
        found, _ = self.runs(systems, ("context",))
        reranked = self.baseline(("reranked",))["reranked"]
        handed = Run({qid: ranking.cut(HANDED) for qid, ranking in reranked.items()})
        return Series({"context": handed}, [Level(one, None, {"context": [found["context", one]]}) for one in PRESETS])

    def budget(self) -> Series:
        """Fewer passages read, against fifty."""
        names = [f"read={count}" for count in (BUDGET, *BUDGETS)]
        systems = [System(self.plan.other, one, changed=Changed.parse(one)) for one in names]
        found, _ = self.runs(systems, ("reranked",))
        levels = [Level(one, None, {"reranked": [found["reranked", one]]}) for one in names[1:]]
        return Series({"reranked": found["reranked", names[0]]}, levels)

    # -- vectors of terms

    @cached_property
    def vectors(self) -> dict[str, tuple[SparseBatch, SparseBatch, int]]:
        """Passages, queries and width by pipeline: BM25's weights, and those of the learned encoder alone."""
        made = self.made
        encoder = SparseEncoder.from_name(LEARNED, device="cpu")
        row = {docno: i for i, docno in enumerate(made.docnos)}
        rows, parts, width = [], [], len(encoder.vocabulary)
        for passages, batch in EncodedPassages(self.bench.encoded(self.collection, LEARNED)):
            rows += [row[passage.docno] for passage in passages]
            parts.append(csr(batch, width))
        learned = sparse.vstack(parts).tocsr()[np.argsort(rows)]
        return {
            "lexical": (batch_of(made.passages), batch_of(made.queries), made.passages.shape[1]),
            "learned": (batch_of(learned), encoder.encode_queries(made.topics), width),
        }

    def ranked(self, queries: SparseBatch, passages: SparseBatch, width: int) -> Run:
        """The ten best by dot product."""
        scores = (csr(queries, width) @ csr(passages, width).T.tocsr()).tocsr()
        docnos, rankings = np.array(self.made.docnos, dtype=object), {}
        for i, qid in enumerate(self.made.qids):
            here = slice(scores.indptr[i], scores.indptr[i + 1])
            found, values = scores.indices[here], scores.data[here]
            if len(values) > DEPTH:
                near = values >= np.partition(values, -DEPTH)[-DEPTH]
                found, values = found[near], values[near]
            top = np.lexsort((found, -values))[:DEPTH]
            rankings[qid] = Ranking(list(docnos[found[top]]), np.arange(len(top), 0, -1.0))
        return Run(rankings)

    def whole(self) -> dict[str, Run]:
        """Runs with all postings and all terms."""
        return {name: self.ranked(asked, terms, width) for name, (terms, asked, width) in self.vectors.items()}

    def postings(self, by: str) -> Series:
        """The lightest postings; beside it, as many at random."""
        levels = []
        for share in FRACTIONS:
            runs, random = {}, {}
            for name, (passages, queries, width) in self.vectors.items():
                cut = prune_lists(passages, 1.0 - share, by=by)
                runs[name] = [self.ranked(queries, cut, width)]
                drawn = [without(passages, len(cut.terms), seed) for seed in range(SEEDS)]
                random[name] = [self.ranked(queries, one, width) for one in drawn]
            levels.append(Level(f"{share:.0%}", share, runs, random))
        return Series(self.whole(), levels)

    def tokens(self) -> Series:
        """Frequent and light terms of the learned encoder's queries left out; and of BM25's, for comparison."""
        runs = {}
        for name, (passages, queries, width) in self.vectors.items():
            counts = np.bincount(passages.terms, minlength=width)
            pruned = without_light_tokens(queries, counts, len(passages))
            print(self.name, name, f"{len(pruned.terms)} of {len(queries.terms)} query terms kept", flush=True)
            runs[name] = [self.ranked(pruned, passages, width)]
        return Series(self.whole(), [Level("frequency 5, weight .4", None, runs)])


def credited(run: Run, groups: Mapping[str, Sequence[str]], qrels: Qrels) -> Run:
    """The run where a passage goes by the name of the one with the best grade among those that it stands for."""
    rankings = {}
    for qid, ranking in run.items():
        grades = qrels.judgments.get(qid, {})
        docnos = [max([one, *groups.get(one, ())], key=lambda d: grades.get(d, -1)) for one in ranking.docnos]
        rankings[qid] = Ranking(docnos, np.arange(len(docnos), 0, -1.0))
    return Run(rankings)


def without(batch: SparseBatch, count: int, seed: int) -> SparseBatch:
    """`count` postings at random."""
    chosen = np.zeros(len(batch.terms), bool)
    chosen[np.random.default_rng(seed).permutation(len(batch.terms))[:count]] = True
    return selected(batch, chosen)


def without_light_tokens(queries: SparseBatch, counts: NDArray[np.integer[Any]], passages: int) -> SparseBatch:
    """Queries without the terms that Elasticsearch leaves out of a `sparse_vector` query by default.

    A term stays that is in less than five times the average share of the passages, or that weighs more than .4 of the
    query's heaviest; one that is in no passage goes.
    """
    ratio, weight = TOKENS
    used = int(np.count_nonzero(counts))
    share = counts[queries.terms] / passages
    average = counts.sum() / passages / max(used, 1)
    rows = np.repeat(np.arange(len(queries)), np.diff(queries.indptr))
    heaviest = np.zeros(len(queries))
    np.maximum.at(heaviest, rows, queries.weights)
    keep = (share < ratio * average) | (queries.weights > weight * heaviest[rows])
    return selected(queries, keep & (counts[queries.terms] > 0))


def selected(batch: SparseBatch, keep: NDArray[np.bool_]) -> SparseBatch:
    """The postings that are kept."""
    before = np.concatenate([[0], np.cumsum(keep)])
    return SparseBatch(before[batch.indptr].astype(np.int64), batch.terms[keep], batch.weights[keep])
