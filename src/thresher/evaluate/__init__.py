"""What a run is worth and whether a difference is real: TREC files, measures, tests, holes, curves, result files.

    from thresher.evaluate import evaluate, read_qrels, read_run

    evaluation = evaluate(read_run("bm25.run.gz"), read_qrels("qrels.txt"), "nDCG@10 AP(rel=2)")
    evaluation.mean["nDCG@10"]

Knows `thresher.records` alone; needs numpy alone, but for the plots of `write_results`.
"""

from __future__ import annotations

from thresher.evaluate.measures import Evaluation, evaluate
from thresher.evaluate.parse import Measure, parse_measure, parse_measures
from thresher.evaluate.results import read_results, write_results
from thresher.evaluate.trec import read_qrels, read_queries, read_run, untied, write_qrels, write_run

__all__ = [
    "Evaluation",
    "Measure",
    "evaluate",
    "parse_measure",
    "parse_measures",
    "read_qrels",
    "read_queries",
    "read_results",
    "read_run",
    "untied",
    "write_qrels",
    "write_results",
    "write_run",
]
