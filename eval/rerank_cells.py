"""One cell of the study of reranking plans: a plan under a judge over the candidates of a collection, for one seed.

Candidates are the top 100 of a recorded run, the grade of a passage is NIST's. Every plan meets the same judge: its
lasting errors and the source of its other errors depend on the seed and the topic alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from eval.collections import data_file
from thresher.evaluate.trec import read_qrels, read_queries, read_run
from thresher.files import read_json_lines
from thresher.rerank.driver import query_seed
from thresher.rerank.plans import plan_from_name
from thresher.rerank.plans.plan import drive
from training.rerank.fitted import fitted
from training.rerank.simulated import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eval.bench import Bench
    from thresher.rerank.plans.plan import Answer, Comparison

DEPTH, K = 100, 10
TOKENS_A_WORD = 1.3
PROMPT_TOKENS, PASSAGE_TOKENS = 120, 6
"""What a prompt adds: instructions, once a question; a label and separators, once a passage."""
DECISIONS_A_CALL = 400
GRADE_WORTH = 1.5
"""Utility of a grade, in units of Plackett-Luce noise of scale 1."""

COLLECTIONS = {
    f"{year}-{first_stage}": (year, first_stage)
    for year in ("dl19", "dl21")
    for first_stage in ("bm25", "splade-pp-ed")
}
SIMULATIONS = {
    "perfect": Simulation(),
    "noise-0.5": Simulation(noise=0.5),
    "noise-1": Simulation(noise=1.0),
    "noise-2": Simulation(noise=2.0),
    "correlated": Simulation(noise=1.0, correlated=0.5),
    "position-bias": Simulation(noise=1.0, position_bias=2.0),
    "option-order": Simulation(noise=1.0, option_bias=2.0),
    "malformed": Simulation(noise=1.0, malformed=0.2),
}
FITTED = ("fitted-rank-vicuna-7b-aug", "fitted-vicuna-7b-ckpt800")
JUDGES = (*SIMULATIONS, *FITTED)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic's candidates.

    Attributes:
        qid: the query's identifier.
        docnos: in first-stage order.
        grades: docno to grade, of all judged passages.
        gains: float64[n], the gain of each candidate, 0 where unjudged.
        ideal: DCG@10 of the best order of all judged passages.
        tokens: of each candidate, with its label.
        overhead: tokens of a prompt without passages.
    """

    qid: str
    docnos: tuple[str, ...]
    grades: Mapping[str, int]
    gains: tuple[float, ...]
    ideal: float
    tokens: tuple[int, ...]
    overhead: int


def load_topics(bench: Bench, collection: str) -> list[Topic]:
    """The topics of `dl19-bm25` and its like."""
    year, first_stage = COLLECTIONS[collection]
    qrels = read_qrels(data_file("trec-dl", f"qrels.{year}.txt")).judgments
    run = read_run(data_file("runs", f"{first_stage}.{year}.run.gz"), as_listed=True)
    queries = {query.qid: query.text for query in read_queries(data_file("trec-dl", f"queries.{year}.tsv"))}
    shown = {docno for ranking in run.values() for docno in ranking.docnos[:DEPTH]}
    words = bench.kept(f"rerank-words-{collection}", lambda: _words(year, shown))
    topics = []
    for qid, ranking in run.items():
        docnos, grades = tuple(ranking.docnos[:DEPTH]), qrels.get(qid, {})
        best = sorted((max(grade, 0) for grade in grades.values()), reverse=True)
        topics.append(
            Topic(
                qid,
                docnos,
                grades,
                tuple(float(max(grades.get(docno, 0), 0)) for docno in docnos),
                dcg(best),
                tuple(round(words[docno] * TOKENS_A_WORD) + PASSAGE_TOKENS for docno in docnos),
                round(len(re.findall(r"\w+", queries[qid])) * TOKENS_A_WORD) + PROMPT_TOKENS,
            )
        )
    return topics


def _words(year: str, docnos: set[str]) -> dict[str, int]:
    """Words of each passage."""
    name = "msmarco-v1-mini" if year == "dl19" else "msmarco-v2-mini"
    lines = (line for _, line in read_json_lines(data_file("trec-dl", f"{name}.jsonl.gz")))
    found = {line["docid"]: len(re.findall(r"\w+", line["text"])) for line in lines if line["docid"] in docnos}
    if missing := docnos - set(found):
        raise ValueError(f"{len(missing)} passages of {year} have no text, as {min(missing)}")
    return found


def dcg(gains: Sequence[float]) -> float:
    """DCG@10 of gains in ranked order."""
    first = gains[:K]
    return float(sum(gain / _discount(rank) for rank, gain in enumerate(first)))


@cache
def _discount(rank: int) -> float:
    return float(np.log2(rank + 2))


def judging(judge: str, collection: str, topic: Topic, seed: int, plan: str) -> Callable[[Comparison], Answer | None]:
    """The judge of one topic: each seed has other lasting errors."""
    simulation, utilities = _believed(judge, collection, topic.qid, topic.docnos, seed, topic)
    if plan.startswith("choice-pool"):
        simulation = replace(simulation, whole_choice=True)
    return simulation.judging(utilities, Random(f"{judge} {seed} {topic.qid}"))  # noqa: S311


def _believed(
    judge: str, collection: str, qid: str, docnos: Sequence[str], seed: int, topic: Topic
) -> tuple[Simulation, list[float]]:
    if judge in SIMULATIONS:
        simulation = SIMULATIONS[judge]
        return simulation, simulation.lasting([GRADE_WORTH * gain for gain in topic.gains], qid, docnos, seed)
    key = judge, collection, qid, seed
    if key not in _BELIEFS:
        lexical = COLLECTIONS[collection][1].startswith("bm25")
        parameters = fitted(judge, "lexical" if lexical else "learned")
        _BELIEFS[key] = parameters.simulation, parameters.utilities(topic.grades, qid, docnos, seed)
    return _BELIEFS[key]


_BELIEFS: dict[tuple[str, str, str, int], tuple[Simulation, list[float]]] = {}


@dataclass(frozen=True, slots=True)
class Measured:
    """One plan, judge, collection and seed.

    Attributes:
        values: nDCG@10 of each topic.
        calls: mean requests, one question each.
        decision_calls: mean requests where one takes 400 questions of a batch.
        tokens: mean prefill tokens.
        depth: mean sequential batches.
    """

    values: tuple[float, ...]
    calls: float
    decision_calls: float
    tokens: float
    depth: float


def measure(plan_name: str, judge: str, collection: str, seed: int, topics: Sequence[Topic]) -> Measured:
    """Run a plan on every topic."""
    plan = plan_from_name(plan_name)
    values, spent_all, tokens = [], [], 0
    for topic in topics:
        ask = judging(judge, collection, topic, seed, plan_name)
        weights, overhead = topic.tokens, topic.overhead
        total = 0

        def counted(comparison: Comparison) -> Answer | None:
            nonlocal total
            total += overhead + sum([weights[item] for item in comparison.items])  # noqa: B023
            return ask(comparison)  # noqa: B023

        n = len(topic.docnos)
        placement, spent = drive(
            plan, n, counted, k=K, seed=query_seed(seed, topic.qid) >> 1, per_call=DECISIONS_A_CALL
        )
        tokens += total
        values.append(dcg([topic.gains[item] for item in placement.order[:K]]) / topic.ideal if topic.ideal else 0.0)
        spent_all.append(spent)
    count = len(topics)
    return Measured(
        tuple(values),
        sum(spent.questions for spent in spent_all) / count,
        sum(spent.calls for spent in spent_all) / count,
        tokens / count,
        sum(spent.depth for spent in spent_all) / count,
    )
