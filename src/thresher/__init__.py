"""thresher: a first-stage search engine and RAG context builder that costs less at every stage.

    import thresher

    passages = [thresher.Passage("d1", "Grain is kept."), thresher.Passage("d2", "Chaff is dropped.")]
    thresher.build_index("my-index", passages)
    index = thresher.Index.open("my-index")
    for hit in index.search("what happens to grain?", k=10):
        print(hit.rank, hit.docno, hit.score, hit.text)

`import thresher` loads the standard library only; other modules load on first use.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from thresher._lazy import load
from thresher._version import __version__

if TYPE_CHECKING:
    from thresher.build.stream import build_index
    from thresher.context import ContextPruner
    from thresher.corpus import open_corpus
    from thresher.encode import DenseEncoder, SparseEncoder
    from thresher.pipeline import Pipeline
    from thresher.quality import QualityEstimator
    from thresher.ranking import Ranking, Run
    from thresher.records import Hit, Passage, Qrels, Query
    from thresher.rerank import Reranker
    from thresher.search import Effort, Index
    from thresher.vectors import VectorStore

_HOMES = {
    "ContextPruner": "context",
    "DenseEncoder": "encode",
    "Effort": "search",
    "Hit": "records",
    "Index": "search",
    "Passage": "records",
    "Pipeline": "pipeline",
    "Qrels": "records",
    "QualityEstimator": "quality",
    "Query": "records",
    "Ranking": "ranking",
    "Reranker": "rerank",
    "Run": "ranking",
    "SparseEncoder": "encode",
    "VectorStore": "vectors",
    "build_index": "build",
    "open_corpus": "corpus",
}

__all__ = [
    "ContextPruner",
    "DenseEncoder",
    "Effort",
    "Hit",
    "Index",
    "Passage",
    "Pipeline",
    "Qrels",
    "QualityEstimator",
    "Query",
    "Ranking",
    "Reranker",
    "Run",
    "SparseEncoder",
    "VectorStore",
    "__version__",
    "build_index",
    "open_corpus",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
