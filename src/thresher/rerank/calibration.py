"""`ScoreCalibration`: from the scores of one judge and plan to probabilities that a passage is relevant.

A reranker's scores are an order: logits, ratings or strengths, on a scale of their own. A calibration, fitted on judged
topics (`thresher.rerank.calibration_fit`), says what share of the passages with such a score is relevant. The curve
never falls, so that it changes no order.

    calibration = ScoreCalibration.read("scores.json")
    reranker = Reranker(judge, plan, calibration=calibration, min_score=0.5)      # or precision=0.8
    reranker.rank(query, ranking).probabilities

It holds for the judge and the plan that it was fitted for, and is refused with others. Where scores do not compare
between queries, or a plan has none, it is of ranks: then the first passage of every query has the same probability.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher._version import __version__
from thresher.arguments import checked_call
from thresher.checks import floats, real, shown
from thresher.durable import write_atomic
from thresher.errors import ArtifactVersionError, ConfigError, DamagedArtifactError, InputError
from thresher.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

FORMAT = 1
KIND = "score-calibration"
Signal = Literal["score", "rank"]
Method = Literal["isotonic", "platt"]
Unjudged = Literal["left out", "not relevant"]
SHIPPED = Path(__file__).parent / "calibrations"
_AGAIN = "make it again with `thresher calibrate scores`"


def now() -> str:
    """The time in UTC, as files say when they were made."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well a calibration holds on topics that it was not fitted on, by folds of topics.

    Attributes:
        ece: expected calibration error over 15 bins of equal mass: the mean distance between the probabilities and the
            share of relevant passages.
        low, high: its 95 % interval, over topics drawn with replacement.
        log_loss: mean of -ln of the probability given to what was the case.
        folds: number of folds; a topic is in one.
        compared: log loss of each curve that was tried, as `signal method`.
    """

    ece: float
    low: float
    high: float
    log_loss: float
    folds: int
    compared: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """A curve from scores, or ranks, to the probability that a passage is relevant.

    Attributes:
        judge: name of the judge that it is for.
        plan: name of the plan, with its settings.
        signal: `score`, the plan's score of a passage; or `rank`, for which -ln(rank) is taken.
        method: `isotonic`, straight lines between `points`; or `platt`, a logistic curve.
        points: isotonic: signals, ascending, and probabilities; platt: the slope and the constant of the log-odds.
        relevant: the lowest grade that counts as relevant.
        unjudged: how passages without a judgment were counted.
        topics: topics of the fit.
        pairs: query and passage pairs of the fit.
        positives: how many of them were relevant.
        held_out: how it holds on other topics.
        model: checksum of the judge's model where it is known, else empty.
        source: what it was fitted on, in words.
        made: when, UTC.
        version: of thresher that made it.
    """

    judge: str
    plan: str
    signal: Signal
    method: Method
    points: tuple[tuple[float, float], ...]
    relevant: int
    unjudged: Unjudged
    topics: int
    pairs: int
    positives: int
    held_out: HeldOut
    model: str = ""
    source: str = ""
    made: str = field(default_factory=now)
    version: str = __version__

    def __post_init__(self) -> None:
        xs, ys = np.array(self.points, np.float64).reshape(-1, 2).T
        if not len(xs) or not np.isfinite([*xs, *ys]).all():
            raise InputError("the points of its curve are not finite numbers")
        if self.method == "platt":
            right = len(xs) == 1 and bool(xs[0] >= 0)
        else:
            right = bool((np.diff(xs) > 0).all() and (np.diff(ys) >= 0).all() and 0 < ys[0] and ys[-1] < 1)
        if not right:
            raise InputError("its curve falls, or reaches 0 or 1")

    @checked_call
    def probability(self, signals: ArrayLike) -> NDArray[np.float64]:
        """The probability that a passage is relevant, float64[n], in (0, 1).

        Args:
            signals: float[n]: scores; or ranks, from 1, where `signal` is `rank`.

        Raises:
            InputError: a signal is not finite, or a rank is below 1.
        """
        x = floats("signals", signals)
        if not np.isfinite(x).all():
            raise InputError(f"signals must be finite, got {shown(x[~np.isfinite(x)][0])}")
        if self.signal == "rank":
            if (x < 1).any():
                raise InputError(f"ranks begin with 1, got {shown(x.min())}")
            x = -np.log(x)
        return curve(self.method, self.points, x)

    @checked_call
    def of_ranking(self, scores: ArrayLike | None, count: int) -> NDArray[np.float64]:
        """The probabilities of the first `count` passages of a ranking, float64[count], never ascending.

        Args:
            scores: float[count], the plan's; None where it has none.
            count: passages.

        Raises:
            InputError: the calibration is of scores, and there are none.
        """
        if self.signal == "rank":
            return self.probability(np.arange(1, count + 1))
        if scores is None:
            raise InputError(
                f"the calibration is of the scores of the plan {self.plan!r}, which gave none for this ranking; "
                "calibrate its ranks (--signal rank)"
            )
        return self.probability(scores)

    @checked_call
    def check(self, judge: str, plan: str, model: str = "") -> None:
        """Check that it was fitted for this judge and plan.

        Raises:
            ConfigError: it was fitted for another; says which.
        """
        for what, own, other in (("judge", self.judge, judge), ("plan", self.plan, plan), ("model", self.model, model)):
            if own != other and (what != "model" or (own and other)):
                raise ConfigError(
                    f"the calibration was fitted for the {what} {own!r}, and this reranker has {other!r}, whose scores "
                    "mean something else; fit another with `thresher calibrate scores`"
                )

    @property
    def meaning(self) -> str:
        """What a probability says, in a sentence."""
        unjudged = "judged passages" if self.unjudged == "left out" else "passages, those without a judgment included,"
        of = "such a score" if self.signal == "score" else "such a rank"
        return (
            f"the expected share of relevant (grade {self.relevant} or higher) among {unjudged} with {of}; fitted on "
            f"{self.source or f'{self.topics} topics'}"
        )

    def as_json(self) -> dict[str, object]:
        """Plain JSON that `from_json` reads."""
        return {"format": FORMAT, "kind": KIND, **asdict(self), "points": [list(point) for point in self.points]}

    @classmethod
    def from_json(cls, document: Mapping[str, object], source: str = "the calibration") -> ScoreCalibration:
        """The calibration that `as_json` made.

        Args:
            document: plain JSON.
            source: the file it came from, for messages.

        Raises:
            DamagedArtifactError: it is not one.
            ArtifactVersionError: a later release wrote it.
        """
        from pydantic import TypeAdapter, ValidationError

        found = document.get("format")
        if type(found) is int and found > FORMAT and document.get("kind") == KIND:
            raise ArtifactVersionError(
                f"{source} has format {found}, and this release reads {FORMAT}; install a newer thresher, or {_AGAIN}"
            )
        if found != FORMAT or document.get("kind") != KIND:
            raise DamagedArtifactError(source, f"not a calibration of scores; {_AGAIN}")
        try:
            return TypeAdapter(cls).validate_python(document)
        except (ValidationError, ValueError) as err:
            first = err.errors()[0] if isinstance(err, ValidationError) else None
            reason = str(err) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise DamagedArtifactError(source, f"not a calibration of scores: {reason}; {_AGAIN}") from err

    @checked_call
    def save(self, file: str | Path) -> Path:
        """Write it into a file, in place of what is there."""
        write_atomic(file, json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return Path(file)

    @classmethod
    @checked_call
    def read(cls, file: str | Path) -> ScoreCalibration:
        """The calibration in a file.

        Raises:
            DataNotFoundError: there is no such file.
            DamagedArtifactError: it is not a calibration.
            ArtifactVersionError: a later release wrote it.
        """
        return cls.from_json(read_json(file), str(file))


def curve(method: Method, points: tuple[tuple[float, float], ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities of signals, float64[n] of float64[n], as `ScoreCalibration.points` says."""
    if method == "platt":
        ((slope, constant),) = points
        return np.asarray(1 / (1 + np.exp(-np.clip(slope * x + constant, -30, 30))))
    xs, ys = np.array(points, np.float64).T
    return np.asarray(np.interp(x, xs, ys))


@checked_call
def worth_reading(
    probabilities: ArrayLike, min_score: float | None = None, precision: float | None = None
) -> NDArray[np.int64]:
    """Places of the passages worth reading, int64[m], ascending.

    These are the passages that reach `min_score`, and of them the longest prefix whose expected precision, the mean of
    their probabilities, reaches `precision`. A passage without a probability (nan) is none of them.

    Args:
        probabilities: float[n], in the order of the ranking.
        min_score: least probability; None for no limit.
        precision: least mean of the probabilities; None for no limit.

    Raises:
        InputError: a limit is not in [0, 1].
    """
    p = floats("probabilities", probabilities)
    if min_score is None and precision is None:
        return np.arange(len(p))
    least = real("min_score", 0.0 if min_score is None else min_score, 0, 1)
    found = np.flatnonzero(p >= least)
    if precision is None:
        return found
    means = np.cumsum(p[found]) / np.arange(1, len(found) + 1)
    reached = np.flatnonzero(means >= real("precision", precision, 0, 1) - 1e-12)
    return found[: int(reached[-1]) + 1 if len(reached) else 0]


@checked_call
def calibration_of(given: ScoreCalibration | str | Path | None) -> ScoreCalibration | None:
    """The calibration that is given, or the one in the file of that name; errors as `ScoreCalibration.read`."""
    return ScoreCalibration.read(given) if isinstance(given, str | Path) else given


@cache
def shipped_for(judge: str, plan: str) -> ScoreCalibration | None:
    """The calibration that ships for a judge and plan, None where there is none.

    Files are named by the model, without the checksum that a judge's name ends with.
    """
    stem = judge.partition("@")[0]
    if stem not in {file.stem for file in SHIPPED.glob("*.json")}:
        return None
    found = ScoreCalibration.read(SHIPPED / f"{stem}.json")
    return found if (found.judge, found.plan) == (judge, plan) else None
