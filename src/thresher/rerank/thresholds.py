"""What a reranker says of its scores: probabilities by its calibration, and how many passages they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.checks import real
from thresher.errors import ConfigError
from thresher.rerank.calibration import calibration_of, shipped_for, worth_reading

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.rerank.calibration import ScoreCalibration
    from thresher.rerank.judges import Judge
    from thresher.rerank.plans.plan import Placement, Plan


class Thresholds(NamedTuple):
    """A calibration, and what a passage must reach by it.

    Attributes:
        calibration: of the reranker's judge and plan; None where there is none.
        min_score: least probability, None for no limit.
        precision: least expected precision of the passages that are kept, None for no limit.
    """

    calibration: ScoreCalibration | None = None
    min_score: float | None = None
    precision: float | None = None

    @classmethod
    def of(
        cls,
        judge: Judge,
        plan: Plan,
        calibration: ScoreCalibration | str | Path | None,
        min_score: float | None,
        precision: float | None,
    ) -> Thresholds:
        """The thresholds of a reranker. Without a calibration that of a shipped model is used, if this is one.

        Raises:
            ConfigError: the calibration is for another judge or plan, or a limit has none.
            InputError: a limit is not in [0, 1].
        """
        given, name = calibration_of(calibration), judge.name
        if given is None:
            given = shipped_for(name, plan.name)
        else:
            given.check(name, plan.name, str(getattr(judge, "fingerprint", "")))
        for limit, value in (("min_score", min_score), ("precision", precision)):
            if value is not None:
                real(limit, value, 0, 1)
                if given is None:
                    raise ConfigError(
                        f"{limit} needs to know what the scores of {name} with the plan {plan.name} mean; fit a "
                        "calibration with `thresher calibrate scores`, and give it"
                    )
        return cls(given, min_score, precision)

    @property
    def limited(self) -> bool:
        """Whether passages can be left out."""
        return (self.min_score, self.precision) != (None, None)

    def probabilities(self, placement: Placement) -> NDArray[np.float64] | None:
        """Of the passages that were placed, in their order; nan where the plan gave no scores and they are needed.

        None without a calibration.
        """
        if self.calibration is None:
            return None
        count = len(placement.order)
        if placement.scores is None and self.calibration.signal == "score":
            return np.full(count, np.nan)  # stopped before every passage had a score
        return self.calibration.of_ranking(placement.scores, count)

    def kept(self, probabilities: NDArray[np.float64] | None, total: int) -> int:
        """How many of `total` passages are kept: a prefix, since probabilities never ascend."""
        if probabilities is None or not self.limited:
            return total
        return len(worth_reading(probabilities, self.min_score, self.precision))
