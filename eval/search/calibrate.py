"""How alike the synthetic collection and the real one are: the statistics that decide what block-max pruning can do.

Takes the collections that `search-make` left in `--work`.

Both at the same number of passages, which are shuffled, in the order they come (which for the synthetic one is shuffled
too) and after recursive graph bisection. For each: lengths, weights and lists; postings a query touches; the share of
blocks whose bound reaches the k-th best score (what an oracle threshold would still visit) at 8, 32 and 64 passages a
block; that score over the best block's bound; and how far a block's bound lies above the best score in the block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from eval.bench import Bench, Row, options
from eval.search import synthetic
from eval.search.matrices import Matrix, Rows, load
from eval.search.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Order = NDArray[np.int64]

BLOCKS = (8, 32, 64)


@njit(cache=True)
def bounds_of(
    indptr: NDArray[np.int64],
    docs: NDArray[np.uint32],
    impacts: NDArray[np.uint8],
    place: NDArray[np.int64],
    terms: NDArray[np.uint32],
    weights: NDArray[Any],
    block: int,
    out: NDArray[np.float64],
) -> None:
    """Summed maxima of blocks under the order `place` (document -> position)."""
    best = np.zeros(len(out))
    for i in range(len(terms)):
        best[:] = 0
        for p in range(indptr[terms[i]], indptr[terms[i] + 1]):
            j = place[docs[p]] // block
            best[j] = max(best[j], np.float64(impacts[p]))
        for j in range(len(out)):
            out[j] += np.float64(weights[i]) * best[j]


def mass_in(rows: Rows, count: int) -> float:
    """Mean share of a row's weight that its `count` heaviest terms hold."""
    shares = []
    for i in range(0, len(rows), max(1, len(rows) // 2000)):
        weights = np.sort(rows.row(i)[1].astype(np.float64))[::-1]
        shares.append(weights[:count].sum() / max(weights.sum(), 1e-9))
    return float(np.mean(shares))


def shape(matrix: Matrix, truth: Truth) -> Row:
    """What passages, weights and lists look like."""
    rows = matrix.documents
    lengths, weights = np.diff(rows.indptr), rows.weights
    df = np.diff(truth.indptr)
    long = np.flatnonzero(df >= 30)
    spread = [float(part.max() / part.mean()) for t in long[:: max(1, len(long) // 2000)] for part in [of(truth, t)]]
    row: Row = {"terms_passage": float(lengths.mean()), "terms_passage_sd": float(lengths.std())}
    row |= {f"weight_p{p}": float(np.percentile(weights[::7], p)) for p in (5, 50, 95, 99)}
    row |= {f"mass_top_{n}": mass_in(rows, n) for n in (10, 20, 50)}
    most = np.sort(df)[::-1] / truth.n
    row |= {f"df_rank_{rank}": float(most[rank - 1]) for rank in (1, 10, 100, 1000, 3000)}
    return row | {"terms_used": int((df > 0).sum()), "largest_over_mean": float(np.median(spread))}


def of(truth: Truth, term: int) -> NDArray[np.uint8]:
    """Impacts of a term's list."""
    return truth.impacts[truth.indptr[term] : truth.indptr[term + 1]]


def tightness(truth: Truth, queries: Rows, order: Order, k: int) -> Row:
    """What bounds of blocks say about the k best, over `queries`."""
    place = np.empty(truth.n, np.int64)
    place[order] = np.arange(truth.n)
    row: Row = {"k": k}
    found: dict[int, tuple[list[float], list[float], list[float]]] = {b: ([], [], []) for b in BLOCKS}
    for i in range(len(queries)):
        query = queries.row(i)
        scores = truth.scores(query)
        least = np.partition(scores, truth.n - k)[truth.n - k]
        for block in BLOCKS:
            bounds = np.zeros(-(-truth.n // block))
            bounds_of(truth.indptr, truth.docs, truth.impacts, place, *query, block, bounds)
            padded = np.zeros(len(bounds) * block)
            padded[place] = scores
            best = padded.reshape(-1, block).max(1)
            shares, ratios, gaps = found[block]
            shares.append(float((bounds >= max(least, 1e-9)).mean()))
            ratios.append(float(least / bounds.max()))
            gaps.append(float(np.median(bounds[best > 0] / best[best > 0])))
    for block, (shares, ratios, gaps) in found.items():
        row |= {f"share_b{block}": float(np.mean(shares)), f"threshold_over_bound_b{block}": float(np.median(ratios))}
        row |= {f"bound_over_best_b{block}": float(np.median(gaps))}
    return row


def describe(matrix: Matrix, tracks: dict[str, int], orders: dict[str, Order]) -> list[Row]:
    """Rows of one collection, for each track (with the number of queries), order and k."""
    truth = Truth(matrix)
    about = {"collection": matrix.name, "passages": truth.n, "postings": int(truth.indptr[-1]), **shape(matrix, truth)}
    rows = []
    for track, count in tracks.items():
        asked = matrix.queries[track]
        asked = asked.take(np.arange(min(count, len(asked))))
        touched = float(np.diff(truth.indptr)[asked.terms].sum() / len(asked) / truth.n)
        own = {"track": track, "terms_query": len(asked.terms) / len(asked), "query_mass_top_10": mass_in(asked, 10)}
        for name, order in orders.items():
            for k in (10, 1000):
                found = tightness(truth, asked, order, k)
                rows.append({**about, **own, "postings_query": touched, "order": name, **found})
    return rows


def orders_of(matrix: Matrix, work: Path, seed: int) -> dict[str, Order]:
    """Orders to compare; the bisection, which takes a minute, is kept in `work`."""
    from thresher.index.reorder import bisection_order

    d, file = matrix.documents, work / f"order-{matrix.name}-{len(matrix.documents)}.npy"
    if not file.is_file():
        np.save(file, bisection_order(d.indptr, d.terms, d.weights.astype(np.float32), matrix.terms))
    shuffled = np.random.default_rng(seed).permutation(len(d))
    return {"shuffled": shuffled, "as it comes": np.arange(len(d)), "bisection": np.load(file)}


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("search-calibration", __doc__)
    parser.add_argument("--queries", type=int, default=60)
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    real = load(bench.work / "real-learned.npz")
    alike = synthetic.matrix(len(real.documents), 500, name="synthetic at this size")
    whole = load(bench.work / "synthetic-1m.npz")
    n = given.queries
    rows = describe(real, {"own": n, "splade": n, "unicoil": n}, orders_of(real, bench.work, synthetic.SEED))
    rows += describe(alike, {"synthetic": n}, orders_of(alike, bench.work, synthetic.SEED))
    rows += describe(whole, {"synthetic": n // 3}, {"as it comes": np.arange(len(whole.documents))})
    columns = {
        "collection": "", "track": "", "order": "", "k": "", "terms_query": ".1f", "postings_query": ".3f",
        "share_b8": ".3f", "share_b32": ".3f", "share_b64": ".3f", "threshold_over_bound_b64": ".2f",
        "bound_over_best_b8": ".2f", "bound_over_best_b32": ".2f", "bound_over_best_b64": ".2f",
    }  # fmt: skip
    bench.write("search-calibration", rows, seed=synthetic.SEED, columns=columns, note=note(rows))


def note(rows: Sequence[Row]) -> str:
    """What the columns are, and the shapes of the collections, which are the same in all of a collection's rows."""
    shapes = {row["collection"]: row for row in rows}
    lines = [
        "postings_query: postings in a query's lists over passages; share: blocks whose bound reaches the k-th best "
        "score; threshold_over_bound: that score over the largest bound; bound_over_best: a block's bound over its "
        "best score (medians). Shapes:",
        "",
    ]
    for name, row in shapes.items():
        lines.append(
            f"- {name}: {row['passages']:,} passages, {row['postings']:,} postings, {row['terms_used']:,} terms; "
            f"{row['terms_passage']:.1f} terms a passage (sd {row['terms_passage_sd']:.1f}); weights of 255 at p5 / 50 "
            f"/ 95 / 99: {row['weight_p5']:.0f} / {row['weight_p50']:.0f} / {row['weight_p95']:.0f} / "
            f"{row['weight_p99']:.0f}; weight in a passage's 10 / 20 / 50 heaviest terms: {row['mass_top_10']:.2f} / "
            f"{row['mass_top_20']:.2f} / {row['mass_top_50']:.2f}; share of passages with the term of rank 1 / 10 / "
            f"100 / 1000 / 3000: {row['df_rank_1']:.3f} / {row['df_rank_10']:.3f} / {row['df_rank_100']:.3f} / "
            f"{row['df_rank_1000']:.4f} / {row['df_rank_3000']:.4f}; largest over mean weight of a list: "
            f"{row['largest_over_mean']:.2f}"
        )
    return "\n".join(lines)
