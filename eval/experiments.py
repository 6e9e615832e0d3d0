"""The registry of experiments: name, module, one line on what it measures.

A module has `main(arguments)`, which parses its own options, and writes the result files that its entry names.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """One experiment.

    Attributes:
        module: the module under `eval` whose `main` runs it.
        summary: what it measures, in one line.
        results: names of the result files that it writes.
    """

    module: str
    summary: str
    results: tuple[str, ...] = ()


EXPERIMENTS = {
    "bm25": Entry("bm25", "BM25 on six collections, with Anserini's figures", ("bm25",)),
    "recall-promise": Entry(
        "recall_promise", "the recall that is promised, expected and realised, and what it costs", ("recall-promise",)
    ),
    "drift": Entry("drift", "BM25 with an average length fitted on half of the passages", ("drift",)),
    "quantisation": Entry("quantisation", "effectiveness of BM25 weights stored in 8 and 16 bits", ("quantisation",)),
    "first-stage": Entry("first_stage", "BM25, thresher-mini, dense MiniLM, and interpolation", ("first-stage",)),
    "model-speed": Entry("model_speed", "speed and accuracy of the engines of every model", ("model-speed",)),
    "cascade": Entry("cascade", "the pipeline, one stage added or left out at a time", ("cascade", "served")),
    "mixture-choice": Entry("mixture_choice", "choose how signals are mixed, on held-out topics", ("mixture-choice",)),
    "ranker-choice": Entry("ranker_choice", "whether the ranker pays, on held-out topics", ("ranker-choice",)),
    "text-rankers": Entry("text_rankers", "scores of posted texts, on held-out topics", ("text-rankers",)),
    "cascade-choice": Entry("cascade_choice", "share of characters that each preset of the pruner drops, on DL21"),
    "quality-curves": Entry(
        "quality_curves", "effectiveness against share of passages pruned", ("quality-curves", "quality-auc")
    ),
    "quality-throughput": Entry(
        "quality_throughput", "passages scored per second by quality estimators", ("quality-throughput",)
    ),
    "model-scores": Entry("model_scores", "scores of estimators that run a model, which quality-curves reads"),
    "coverage": Entry("log_coverage", "pruning by query-log coverage, against random pruning", ("coverage",)),
    "tiering": Entry("tiering", "half of the passages in a second tier, searched on demand", ("tiering",)),
    "training-pairs": Entry("training_pairs", "choosing training pairs for a quality head", ("training-pairs",)),
    "rerank-study": Entry("rerank_study", "reranking plans under simulated and fitted judges", ("rerank-study",)),
    "rerank-fitted": Entry("rerank_fitted", "judges fitted to recorded models, cross-validated", ("rerank-fitted",)),
    "answer-grammar": Entry("answer_grammar", "generated answers with a known order, read", ("answer-grammar",)),
    "rerank-confidence": Entry(
        "rerank_confidence", "whether what is said to be among the first ten is there", ("rerank-confidence",)
    ),
    "slidegar": Entry("slidegar", "neighbours among the candidates against a sliding window", ("slidegar",)),
    "rerank-replay": Entry("rerank_replay", "recorded LLM rerankings, replayed", ("rerank-replay",)),
    "distributed-build": Entry(
        "distributed_build", "builds in shards: kills, and throughput of two workers", ("distributed-build",)
    ),
    "score-calibration": Entry(
        "score_calibration", "what calibrated scores say, and how far it is true", ("score-calibration",)
    ),
    "hybrank": Entry("hybrank", "HybRank, trained on NFCorpus, over two first stages", ("hybrank",)),
    "false-negatives": Entry(
        "false_negatives", "an adapter that finds false negatives, and what it does for training", ("false-negatives",)
    ),
    "idcm": Entry("idcm", "windows of long documents that a cheap scorer picks, against all", ("idcm",)),
    "context-pruning": Entry("context_pruning", "answers kept against characters pruned", ("context-pruning",)),
    "context-technical": Entry(
        "context_technical", "the same on technical documentation, and headings kept alone", ("context-technical",)
    ),
    "context-rank": Entry("context_rank", "the rank head of thresher-context as a reranker", ("context-rank",)),
    "context-cost": Entry("context_cost", "cost of context pruning against a cross-encoder", ("context-cost",)),
    "answers": Entry("answers", "answers over documentation, for a judge to read", ("answers",)),
    "compression": Entry("compression", "models made smaller, against random removal of as much", ("compression",)),
    "build-memory": Entry("build_memory", "memory and speed of a build with every pruning policy", ("build-memory",)),
    "search-panel": Entry("search.panel", "search latency against other engines", ("search-panel", "search-goals")),
    "scaling": Entry("scaling", "full-size collections worked out, and tail latency over shards", ("scaling",)),
    "search-make": Entry("search.make", "make the collections that search-panel measures on"),
    "search-costs": Entry("search.costs", "building, opening, first query and threads", ("search-costs",)),
    "search-growth": Entry("search.growth", "latency of the plans up to four million passages", ("search-growth",)),
    "search-scale": Entry("search.scale", "up to 8.8 million passages, beside other engines", ("search-scale",)),
    "search-maxima": Entry("search.maxima", "block maxima of other units and widths", ("search-maxima",)),
    "search-parts": Entry("search.parts", "where the time of a query goes", ("search-parts",)),
    "search-size": Entry("search.size", "where the bytes of an index go", ("search-size",)),
    "search-calibration": Entry(
        "search.calibrate", "statistics of the synthetic and the real collection", ("search-calibration",)
    ),
    "living": Entry("living", "segments, deletes, filters, commits and merges; other engines", ("living",)),
    "exchange-fuzz": Entry("exchange_fuzz", "damaged files of every format that is imported", ("exchange-fuzz",)),
    "living-kills": Entry("living_kills", "writes that are killed at random moments", ("living-kills",)),
    "living-readers": Entry("living_readers", "readers at full speed while a writer commits", ("living-readers",)),
    "sharded-search": Entry("sharded_search", "shards against one index, to the last bit", ("sharded-search",)),
    "serve": Entry("serve", "the server against the library: overhead, load, batches, hostile requests", ("serve",)),
    "significance": Entry("significance", "how often tests and claims are wrong, simulated", ("significance",)),
    "certificate": Entry(
        "certificate",
        "what can be left out and shown not to be worse, on two collections",
        ("certificate-msmarco-v1-mini", "certificate-nfcorpus"),
    ),
    "folder": Entry("folder", "a folder of a thousand files: building, serving, and syncing it", ("folder",)),
    "tables": Entry("tables", "write figures of the result files into README and docs"),
}


def run(name: str, arguments: Sequence[str]) -> None:
    """Run the experiment `name` with its command-line arguments."""
    import_module(f"eval.{EXPERIMENTS[name].module}").main(arguments)
