"""Fit the calibration that ships for the rank head of `thresher-context`.

    python -m training.rerank.calibrate [--work FOLDER]     # needs THRESHER_DATA; some minutes

Fits on topics of TREC Deep Learning 2021 that the model was not trained on (`training/held-out.json`): the first 100
passages of BM25 and of SPLADE++ ED, relevant at grade 2, without a judgment not relevant. Writes
`src/thresher/rerank/calibrations/thresher-context-3.json`; `python -m eval score-calibration` says how it holds
elsewhere.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from eval.bench import Bench
from eval.score_readings import judged, read
from thresher.rerank.calibration import SHIPPED
from thresher.rerank.calibration_fit import fit_calibration
from thresher.rerank.cross_encoder import context_judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.rerank.calibration import ScoreCalibration

COLLECTION, RELEVANT = "trec-dl-2021", 2
PLAN = "pointwise"


def fitted(bench: Bench) -> ScoreCalibration:
    """The calibration."""
    pairs = judged(read(bench, COLLECTION), RELEVANT)
    return fit_calibration(
        pairs,
        judge=context_judge().name,
        plan=PLAN,
        relevant=RELEVANT,
        source=f"{len(set(pairs.topics))} topics of TREC Deep Learning 2021 (web passages)",
    )


def main(arguments: Sequence[str]) -> int:
    """Fit and write."""
    parser = argparse.ArgumentParser(prog="python -m training.rerank.calibrate", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "thresher-eval")
    work: Path = parser.parse_args(arguments).work
    work.mkdir(parents=True, exist_ok=True)
    made = fitted(Bench(work))
    SHIPPED.mkdir(exist_ok=True)
    file = made.save(SHIPPED / f"{made.judge.partition('@')[0]}.json")
    print(f"{file}: {made.method}, error on held-out topics {made.held_out.ece:.4f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
