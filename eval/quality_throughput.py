"""Passages a second: the estimators, the learned sparse encoder beside them, and folding.

    python eval/quality_throughput.py [--encoder thresher-mini]     # writes eval/results/quality-throughput.json

One process, one thread (set OMP_NUM_THREADS=1), passages of MS MARCO; the encoder's figure is of 256 passages.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from thresher.errors import ThresherError
from thresher.evaluate.collections import load
from thresher.evaluate.results import write_results
from thresher.quality import QualityEstimator, fold_duplicates

RESULTS = Path(__file__).parent / "results"


def timed(what: str, count: int, work) -> dict:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="thresher-mini")
    options = parser.parse_args()
    texts = [p.contents for name in ("trec-dl-2019", "trec-dl-2021") for p in load(name).corpus]
    some = texts[:10000]
    rows = []
    for name in ("embedded", "kl"):
        estimator = QualityEstimator.from_name(name, texts=some)
        estimator.score(some[:100])
        rows.append(timed(f"score: {name}", len(some), lambda e=estimator: e.score(some)))
    rows.append(timed("fold near-duplicates", len(texts), lambda: fold_duplicates(texts)))
    try:
        from thresher.encode import SparseEncoder

        encoder = SparseEncoder.from_name(options.encoder)
        encoder.encode_passages(texts[:32])
        rows.append(timed(f"encode: {options.encoder}", 256, lambda: encoder.encode_passages(texts[:256])))
    except ThresherError as err:
        print(f"no learned encoder: {err}")
    encode = next((r for r in rows if r["what"].startswith("encode")), None)
    for row in rows:
        row["passages_per_cpu_minute"] = 60 * row["passages_per_cpu_second"]
        if encode is not None:
            row["times_the_encoder"] = row["passages_per_cpu_second"] / encode["passages_per_cpu_second"]
    write_results(
        RESULTS / "quality-throughput.json", rows, command="python eval/quality_throughput.py", seed=0,
        packages=["rensa"], title="How fast passages are judged",
        note="Rates are per second of processor time, since the machine was shared; seconds is the wall clock.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
