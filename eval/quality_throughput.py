"""Passages scored per second by quality estimators, with the learned sparse encoder and duplicate folding.

Writes eval/results/quality-throughput.json.

One process, one thread (set OMP_NUM_THREADS=1), passages of MS MARCO; the encoder's figure is of 256 passages.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from eval.bench import Bench, Row, options
from thresher.errors import ThresherError
from thresher.evaluate.collections import load
from thresher.quality import QualityEstimator, fold_duplicates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def timed(what: str, count: int, work: Callable[[], object]) -> Row:
    """The row of one call of `work`, which handles `count` passages."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "what": what,
        "passages": count,
        "seconds": wall,
        "cpu_seconds": cpu,
        "passages_per_cpu_second": count / cpu,
    }


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("quality-throughput", __doc__)
    parser.add_argument("--encoder", default="thresher-mini")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    texts = [p.contents for name in ("trec-dl-2019", "trec-dl-2021") for p in load(name).corpus]
    some = texts[:10000]
    rows: list[Row] = []
    for name in ("embedded", "kl"):
        estimator = QualityEstimator.from_name(name, texts=some)
        estimator.score(some[:100])
        rows.append(timed(f"score: {name}", len(some), partial(estimator.score, some)))
    rows.append(timed("fold near-duplicates", len(texts), lambda: fold_duplicates(texts)))
    try:
        from thresher.encode import SparseEncoder

        encoder = SparseEncoder.from_name(given.encoder)
        encoder.encode_passages(texts[:32])
        rows.append(timed(f"encode: {given.encoder}", 256, lambda: encoder.encode_passages(texts[:256])))
    except ThresherError as err:
        print(f"no learned encoder: {err}")
    encode = next((r for r in rows if r["what"].startswith("encode")), None)
    for row in rows:
        row["passages_per_cpu_minute"] = 60 * row["passages_per_cpu_second"]
        if encode is not None:
            row["times_the_encoder"] = row["passages_per_cpu_second"] / encode["passages_per_cpu_second"]
    bench.write(
        "quality-throughput", rows, seed=0,
        packages=["rensa"], title="Speed of quality estimators",
        note="Rates are per second of processor time, since the machine was shared; seconds is the wall clock.",
    )  # fmt: skip
