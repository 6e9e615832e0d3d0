"""What full-size collections take, worked out from measured rates, and tail latency at 1 to 1,000 shards, simulated.

    python -m eval scaling --index INDEX --queries QUERIES.npz

Writes eval/results/scaling.json. Nothing here was run at these sizes: rates for one core come from other result files
(`rates`), sizes and prices are arithmetic. The latency of one shard is measured: every query of QUERIES (a file of
`search-scale`) on an index of one shard's size, `ROUNDS` times, by the clock, as a shard would see it. A query over n
shards waits for the slowest of n draws from that query's own times, plus what HTTP added to a search in `serve.json`.
That keeps what is common to a query's shards, how hard it is, and takes what differs, the noise of machines, as
measured on this one; shards that are slower for their data are not in it.

A hedged query sends a second request to a replica after the 95th percentile of all times, and takes the first answer. A
deadline of `DEADLINE` times that percentile ends a query without the shards that are late: `complete` is the share of
queries that miss none.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, Row, options
from eval.figures import matching
from eval.search.matrices import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eval.search.matrices import Rows

SEED = 13
ROUNDS = 20
DRAWS = 40_000
SHARDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DEADLINE = 3.0
COLLECTIONS = {"MS MARCO v1": 8_841_823, "MS MARCO v2.1, segmented": 113_520_750, "10 billion passages": 10**10}
A_SHARD = 8_800_000
POSTINGS, TEXT_BYTES = 112.0, 340.0
"""A passage's postings, as in the synthetic collection, and the mean bytes of an MS MARCO passage, compressed not."""
VECTOR_BYTES = 384 + 4
"""An int8 vector of MiniLM and its scale."""
CORES, MEMORY = 16, 64e9
PER_CORE_HOUR, PER_GB_MONTH = 0.04, 0.08
"""US dollars: assumed, as a cloud's list price of the middle of 2026 for a machine on demand, and for its disk."""
SPARE_MEMORY = 0.8
DAY = 24.0


def rates() -> dict[str, float]:
    """Passages a second of one core at each step of a build, and bytes a posting, from result files."""
    memory = matching("build-memory", {})[-1]
    default = matching("model-speed", {"model": "default recipe, terms and vectors", "backend": "torch-int8"})[0]
    quality = {row["what"]: float(row["passages_per_cpu_second"]) for row in matching("quality-throughput", {})}
    built = max(
        (row for row in matching("search-scale", {"engine": "thresher", "order": "source"}) if row.get("build_s")),
        key=lambda row: float(row["passages"]),
    )
    return {
        "read": float(memory["passages"]) / float(memory["read_seconds"]),
        "score": quality["score: embedded"],
        "fold": quality["fold near-duplicates"],
        "encode": float(default["batch"]) / (float(default["cpu_ms"]) / 1000),
        "index": float(built["passages"]) / float(built["build_s"]),
        "bytes_per_posting": float(built["bytes_per_posting"]),
    }


def builds(rate: dict[str, float]) -> list[Row]:
    """Core hours, machines, bytes and dollars of building each collection, whole and with a fifth pruned first."""
    rows: list[Row] = []
    for name, passages in COLLECTIONS.items():
        for kept in (1.0, 0.8):
            hours = {step: passages / rate[step] / 3600 for step in ("read", "score", "fold")}
            hours |= {step: kept * passages / rate[step] / 3600 for step in ("encode", "index")}
            if kept == 1.0:
                hours["score"] = 0.0
            total = sum(hours.values())
            postings = kept * passages * POSTINGS * rate["bytes_per_posting"]
            texts, vectors = passages * TEXT_BYTES, kept * passages * VECTOR_BYTES
            resident = (postings + vectors) / (MEMORY * SPARE_MEMORY)
            rows.append({
                "part": "build",
                "collection": name,
                "passages": passages,
                "kept": kept,
                **{f"{step}_core_hours": value for step, value in hours.items()},
                "core_hours": total,
                "machines_for_a_day": max(1, int(np.ceil(total / CORES / DAY))),
                "build_dollars": total * PER_CORE_HOUR,
                "posting_bytes": postings,
                "text_bytes": texts,
                "vector_bytes": vectors,
                "shards": max(1, int(np.ceil(kept * passages / A_SHARD))),
                "search_machines": max(1, int(np.ceil(resident))),
                "search_dollars_a_month": max(1, int(np.ceil(resident))) * CORES * 730 * PER_CORE_HOUR
                + (postings + texts + vectors) / 1e9 * PER_GB_MONTH,
            })  # fmt: skip
    return rows


def measured(index: Path, queries: Rows, k: int) -> NDArray[np.float64]:
    """float64[queries, ROUNDS]: milliseconds by the clock of each query on one index, one thread, order shuffled."""
    from thresher.search import Index

    rng = np.random.default_rng(SEED)
    times = np.zeros((len(queries), ROUNDS))
    with Index.open(index) as opened:
        asked = []
        for i in range(len(queries)):
            terms, weights = queries.row(i)
            asked.append((terms.astype(np.int64), weights.astype(np.float32)))
        for query in asked:
            opened.search(query, k)
        for turn in range(ROUNDS):
            for i in rng.permutation(len(asked)).tolist():
                started = time.perf_counter()
                opened.search(asked[i], k)
                times[i, turn] = (time.perf_counter() - started) * 1000
    return times


def waits(times: NDArray[np.float64], shards: int, hop: float, rng: np.random.Generator) -> list[Row]:
    """Tail latency over `shards` shards, plain and hedged; times float64[queries, rounds], hop in milliseconds."""
    late = float(np.quantile(times, 0.95))
    chosen = rng.integers(len(times), size=DRAWS)
    plain, hedged, complete = np.zeros(DRAWS), np.zeros(DRAWS), np.zeros(DRAWS, bool)
    second = 0
    for first in range(0, DRAWS, 1000):
        own = chosen[first : first + 1000]
        draws = times[own[:, None], rng.integers(times.shape[1], size=(len(own), shards))]
        again = late + times[own[:, None], rng.integers(times.shape[1], size=(len(own), shards))]
        plain[first : first + 1000] = draws.max(axis=1)
        hedged[first : first + 1000] = np.where(draws > late, np.minimum(draws, again), draws).max(axis=1)
        complete[first : first + 1000] = (draws <= DEADLINE * late).all(axis=1)
        second += int((draws > late).sum())
    found: list[Row] = []
    for name, values in (("plain", plain), ("hedged", hedged)):
        found.append({
            "part": "latency",
            "shards": shards,
            "passages": shards * A_SHARD,
            "requests": name,
            **{f"p{q:g}_ms": float(np.quantile(values, q / 100)) + hop for q in (50, 99, 99.9)},
            "more_requests": second / (DRAWS * shards) if name == "hedged" else 0.0,
            "complete": float(complete.mean()),
        })  # fmt: skip
    return found


def main(arguments: Sequence[str]) -> None:
    """Work out, simulate and write."""
    parser = options("scaling", __doc__)
    parser.add_argument("--index", type=Path, required=True, help="an index of one shard's size")
    parser.add_argument("--queries", type=Path, required=True, help="the queries of `search-scale` for it")
    parser.add_argument("--track", default="measured", help="which of them")
    parser.add_argument("-k", type=int, default=10)
    given = parser.parse_args(arguments)
    bench, rng = Bench.of(given), np.random.default_rng(SEED)
    queries = load(given.queries).queries[given.track]
    times = bench.kept_array(f"scaling-{given.index.name}-{given.k}", lambda: measured(given.index, queries, given.k))
    overhead = matching("serve", {"part": "overhead", "route": "/search"})[0]
    hop = float(overhead["overhead_ms"])
    rate = rates()
    rows = [{"part": "rate", **rate}, *builds(rate)]
    for shards in SHARDS:
        rows += waits(times, shards, hop, rng)
        print(rows[-1], flush=True)
    details = [
        {"query": query, "round": turn, "ms": round(ms, 4)}
        for query, row in enumerate(times.tolist())
        for turn, ms in enumerate(row)
    ]
    bench.write("scaling", rows, seed=SEED, details=details, title="Full size, on paper", note=NOTE)


NOTE = (
    "Worked out and simulated, not run at these sizes; see the docstring of eval/scaling.py. part: `rate`, passages a "
    "second of one core, measured; `build`, core hours, bytes and dollars at an assumed price of "
    f"${PER_CORE_HOUR} a core hour and ${PER_GB_MONTH} a GB and month, machines of {CORES} cores and "
    f"{MEMORY / 1e9:.0f} GB; `latency`, milliseconds at the coordinator over shards of {A_SHARD:,} passages, "
    f"HTTP included; complete: share of queries without a shard that takes over {DEADLINE:g} times the 95th percentile."
)
