"""Making ranking models smaller: layers, neurons, heads and weights removed, and what that costs, measured on ranking.

    from thresher.compress import compress, read_task

    task = read_task("queries.tsv", "bm25.run.gz", "corpus.jsonl", "qrels.txt")
    compress("sentence-transformers/all-MiniLM-L6-v2", Path("small"), task=task, method="block-influence")

Works on dense encoders, learned sparse encoders, cross-encoders and causal rerankers that sentence-transformers loads;
what is written loads wherever the input did. The command is `thresher compress`. Needs torch and sentence-transformers
(extra `models`), scipy for intervals (`eval`) and peft for healing (`train`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.compress.compressor import compress
    from thresher.compress.data import read_task
    from thresher.compress.methods import METHODS

_HOMES = {"METHODS": "methods", "compress": "compressor", "read_task": "data"}

__all__ = ["METHODS", "compress", "read_task"]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
