"""Effectiveness and whether a difference is real: TREC files, measures, tests, unjudged documents, cost curves.

    from thresher.evaluate import evaluate, read_qrels, read_run

    evaluation = evaluate(read_run("bm25.run.gz"), read_qrels("qrels.txt"), "nDCG@10 AP(rel=2)")
    evaluation.mean["nDCG@10"]

Measures need numpy only; intervals and t tests need scipy, plots altair (the `eval` extra).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.evaluate.comparison import compare
    from thresher.evaluate.holes import find_holes
    from thresher.evaluate.measures import Evaluation, evaluate
    from thresher.evaluate.trec import read_qrels, read_queries, read_run, untied, write_qrels, write_run

_HOMES = {
    "Evaluation": "measures",
    "compare": "comparison",
    "evaluate": "measures",
    "find_holes": "holes",
    "read_qrels": "trec",
    "read_queries": "trec",
    "read_run": "trec",
    "untied": "trec",
    "write_qrels": "trec",
    "write_run": "trec",
}

__all__ = [
    "Evaluation",
    "compare",
    "evaluate",
    "find_holes",
    "read_qrels",
    "read_queries",
    "read_run",
    "untied",
    "write_qrels",
    "write_run",
]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
