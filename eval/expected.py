"""Expected nDCG@10 of the shipped BM25 experiments, which a test compares with what they give now.

Values are those of `python -m eval bm25`; a change that moves one must be meant, and says why where it changes this
table.
"""

from __future__ import annotations

NDCG10 = {
    "trec-dl-2019-bm25": 0.4643,
    "scifact-bm25": 0.6789,
    "nfcorpus-bm25": 0.3218,
}
"""By experiment (`eval/NAME.toml`), to four decimals."""
