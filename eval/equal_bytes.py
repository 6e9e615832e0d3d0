"""The same index bytes spent three ways: fewer passages, fewer postings, or some of both.

An index's size is taken as its number of postings. Passages go by the embedded estimator; postings by the heaviest of
each passage (`document`), of each list (`term`), or of all (`global`). A mix keeps a share of the passages and then as
many of their postings as the budget leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from eval.pruning import DISCOUNT, csr, interval
from thresher.prune.policy import preference
from thresher.prune.static import prune_lists, select_passages
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from eval.bench import Row
    from eval.pruning import Floats, Kept, RankedCollection

BUDGETS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
MIXES = (0.95, 0.9, 0.8, 0.7)


By = Literal["document", "term", "global"]
WAYS: tuple[By, ...] = ("document", "term", "global")


def batch_of(matrix: sparse.csr_matrix) -> SparseBatch:
    """The rows of a matrix, terms ascending."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return SparseBatch(matrix.indptr.astype(np.int64), matrix.indices.astype(np.uint32), matrix.data.astype(np.float32))


def ndcg(made: RankedCollection, queries: sparse.csr_matrix, passages: sparse.csr_matrix) -> Floats:
    """nDCG@10 by query of the rankings by dot product."""
    out = np.zeros(len(made.qids))
    scores = (queries @ passages.T.tocsr()).tocsr()
    for i, judged in enumerate(made.qrels):
        row = slice(scores.indptr[i], scores.indptr[i + 1])
        found, values = scores.indices[row], scores.data[row]
        if len(values) > 10:
            near = values >= np.partition(values, -10)[-10]
            found, values = found[near], values[near]
        top = found[np.lexsort((found, -values))[:10]]
        best = np.sort([g for g in judged.values() if g > 0])[::-1][:10]
        if len(best):
            gains = [max(judged.get(int(r), 0), 0) for r in top]
            out[i] = (np.array(gains) * DISCOUNT[: len(gains)]).sum() / (best * DISCOUNT[: len(best)]).sum()
    return out


def within(batch: SparseBatch, order: NDArray[np.int64], postings: float) -> Kept:
    """bool[n]: the most preferred passages whose postings fit."""
    lengths = np.diff(batch.indptr)
    kept = np.zeros(len(batch), bool)
    kept[order[np.cumsum(lengths[order]) <= postings]] = True
    return kept


def equal_bytes(
    made: RankedCollection, pipeline: str, queries: sparse.csr_matrix, passages: sparse.csr_matrix, scores: Floats
) -> list[Row]:
    """Rows for each budget and way of spending it."""
    batch, width = batch_of(passages), passages.shape[1]
    order = preference(scores, made.docnos)
    total = len(batch.terms)
    full = ndcg(made, queries, passages)
    found: list[Row] = []

    def add(way: str, budget: float, kept: float, pruned: SparseBatch) -> None:
        values = ndcg(made, queries, csr(pruned, width))
        mean, low, high = interval(values)
        found.append(
            {
                "collection": made.name, "pipeline": f"{pipeline}, equal bytes", "estimator": way, "kept": kept,
                "postings": len(pruned.terms) / total, "budget": budget, "nDCG@10": mean, "lo": low, "hi": high,
                "loss": float((full - values).mean()),
            }
        )  # fmt: skip

    for budget in BUDGETS:
        kept = within(batch, order, budget * total)
        add("passages", budget, float(kept.mean()), select_passages(batch, kept))
        for by in WAYS:
            add(f"postings by {by}", budget, 1.0, prune_lists(batch, budget, by=by))
        for share in MIXES:
            kept = within(batch, order, share * total)
            part = select_passages(batch, kept)
            left = budget * total / max(len(part.terms), 1)
            if left < 1:
                add(f"mix: {share:.0%} by passages", budget, float(kept.mean()), prune_lists(part, left, by="document"))
        mixes = [r for r in found if r["budget"] == budget]
        best = max(mixes, key=lambda r: r["nDCG@10"])
        found.append({**best, "estimator": "best of all", "way": best["estimator"]})
    return found
