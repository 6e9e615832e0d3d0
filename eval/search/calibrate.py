"""How alike the synthetic collection and the real one are: the statistics that decide what block-max pruning can do.

    python eval/search/calibrate.py --work /tmp/panel

Both at the same number of passages, each in the order it comes and after recursive graph bisection: postings touched a
query over passages, share of blocks whose bound reaches the 10th best score (what an oracle threshold would still
visit) at 8, 32 and 64 passages a block, and that score over the best block's bound.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import synthetic
from matrices import Matrix, load
from numba import njit
from panel import Truth


@njit(cache=True)
def bounds_of(indptr, docs, impacts, place, terms, weights, block, out):
    """Summed maxima of blocks under the order `place` (document -> position)."""
    best = np.zeros(len(out), np.int64)
    for i in range(len(terms)):
        best[:] = 0
        for p in range(indptr[terms[i]], indptr[terms[i] + 1]):
            j = place[docs[p]] // block
            best[j] = max(best[j], np.int64(impacts[p]))
        for j in range(len(out)):
            out[j] += np.int64(weights[i]) * best[j]


def statistics(matrix: Matrix, queries: str, order: np.ndarray, name: str, count: int = 60) -> dict:
    rows, asked = matrix.documents, matrix.queries[queries]
    truth, n = Truth(matrix), len(matrix.documents)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    asked = asked.take(np.arange(min(count, len(asked))))
    touched = np.diff(truth.indptr)[asked.terms].sum() / len(asked) / n
    row = {"collection": matrix.name, "order": name, "passages": n, "terms_per_passage": len(rows.terms) / n}
    row |= {"terms_per_query": len(asked.terms) / len(asked), "postings_touched_per_passage": float(touched)}
    for block in (8, 32, 64):
        shares, ratios = [], []
        for i in range(len(asked)):
            query = asked.row(i)
            least = np.partition(truth.scores(query), n - 10)[n - 10]
            bounds = np.zeros(-(-n // block), np.int64)
            bounds_of(truth.indptr, truth.docs, truth.impacts, place, *query, block, bounds)
            shares.append((bounds >= least).mean())
            ratios.append(least / bounds.max())
        row |= {f"share_b{block}": float(np.mean(shares)), f"threshold_over_bound_b{block}": float(np.median(ratios))}
    return row


def main() -> None:
    from thresher.evaluate.results import write_results
    from thresher.index.reorder import bisection_order

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "results" / "search-calibration.json"
    )
    args = parser.parse_args()
    real = load(args.work / "real-learned.npz")
    made = synthetic.matrix(len(real.documents), 100, name="synthetic at this size")
    rows = []
    for matrix, queries in ((real, "splade"), (made, "synthetic")):
        d = matrix.documents
        file = args.work / f"order-{matrix.name}.npy".replace(" ", "-")
        order = (
            np.load(file)
            if file.is_file()
            else bisection_order(d.indptr, d.terms, d.weights.astype(np.float32), matrix.terms)
        )
        np.save(file, order)
        for name, places in (("as it comes", np.arange(len(d))), ("bisection", order)):
            rows.append(statistics(matrix, queries, places, name))
            print(rows[-1], flush=True)
    write_results(args.out, rows, command="python eval/search/calibrate.py --work /tmp/panel", seed=synthetic.SEED)


if __name__ == "__main__":
    main()
