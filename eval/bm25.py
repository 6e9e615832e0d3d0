"""BM25 on three collections beside Anserini's figures on the same passages.

    THRESHER_DATA=... python eval/bm25.py

Writes eval/results/bm25.json and its table: one row a collection and measure.
"""

from pathlib import Path

from thresher.evaluate import write_results
from thresher.experiment import run_experiment

NAMES = ("trec-dl-2019-bm25", "scifact-bm25", "nfcorpus-bm25")
HERE = Path(__file__).parent


def main() -> None:
    rows = []
    for name in NAMES:
        report = run_experiment(HERE / f"{name}.toml", progress=True)
        build = {stage.stage: round(stage.seconds, 2) for stage in report.build.usage.stages}
        shared = {
            "passages": report.build.counts["passages"],
            "postings": report.build.counts["postings"],
            "build_s": round(sum(build.values()), 2),
            "query_ms": round(report.query_ms, 3),
        }
        rows += [row | shared for row in report.rows()]
    write_results(
        HERE / "results" / "bm25.json",
        rows,
        command="python eval/bm25.py",
        title="BM25 beside Anserini",
        note="`published`: Anserini 1.7.1, BM25 k1 .9, b .4, on the same passages. Impacts are stored in 8 bits.",
    )


if __name__ == "__main__":
    main()
