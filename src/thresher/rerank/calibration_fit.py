"""Fit a `ScoreCalibration` on judged topics.

Two curves are tried:

    isotonic    the nondecreasing curve with the least squared error: pool adjacent violators (Ayer et al., 1955). A
                relevant pair at the lowest signal and one that is not at the highest are added, so that no probability
                is 0 or 1 (Laplace's rule for the first and the last block). Between the means of the blocks it is a
                straight line, beyond them flat.
    platt       a logistic curve, fitted to the targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2) in place of 1 and 0 (Platt,
                1999; Newton's method with backtracking, Lin, Lin and Weng, Machine Learning 68, 2007). It never falls.

The one with the smaller log loss on held-out topics is kept, fitted on all of them. Pairs of one topic depend on each
other, so folds are of topics, and so is the bootstrap behind the interval of the expected calibration error.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import floats, strings, whole
from thresher.errors import InputError
from thresher.rerank.calibration import HeldOut, Method, ScoreCalibration, Signal, Unjudged, curve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from thresher.ranking import Ranking
    from thresher.records import Qrels

    Curve = tuple[tuple[float, float], ...]

FOLDS = 5
EQUAL_MASS, EQUAL_WIDTH = 15, 10
"""Bins of the expected calibration error: those of equal mass are the headline."""
METHODS: tuple[Method, ...] = ("platt", "isotonic")
_ROUNDS, _LEVEL = 2000, 0.95


class Bins(NamedTuple):
    """Probabilities and outcomes in bins of the probability.

    Attributes:
        counts, predicted, relevant: float64[bins]: pairs, the mean probability and the share that was relevant.
    """

    counts: NDArray[np.float64]
    predicted: NDArray[np.float64]
    relevant: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """The expected calibration error."""
        return float((self.counts * np.abs(self.predicted - self.relevant)).sum() / self.counts.sum())


@dataclass(frozen=True, slots=True)
class Judged:
    """Judged pairs of query and passage.

    Attributes:
        scores: float64[n]; None where the plan has none.
        ranks: float64[n], from 1.
        relevant: bool[n].
        topics: qid of each.
        unjudged: how passages without a judgment were counted.
    """

    scores: NDArray[np.float64] | None
    ranks: NDArray[np.float64]
    relevant: NDArray[np.bool_]
    topics: tuple[str, ...]
    unjudged: Unjudged = "not relevant"

    def signals(self, signal: Signal) -> NDArray[np.float64]:
        """What a curve is fitted to.

        Raises:
            InputError: there are no scores.
        """
        if signal == "rank":
            return -np.log(self.ranks)
        if self.scores is None:
            raise InputError("the plan has no scores to calibrate, only an order; calibrate ranks (--signal rank)")
        return self.scores


@checked_call
def judged_pairs(
    run: Mapping[str, Ranking],
    qrels: Qrels,
    *,
    relevant: int = 1,
    depth: int | None = None,
    scored: bool = True,
    unjudged: Unjudged = "not relevant",
) -> Judged:
    """The passages of a run that count for a calibration.

    Args:
        run: rankings, best first.
        qrels: judgments; queries without any are left out.
        relevant: the lowest grade that counts as relevant.
        depth: passages of each ranking that were reranked, None for all.
        scored: whether the run's scores are the plan's.
        unjudged: passages without a judgment are `not relevant`, as in trec_eval's measures, or `left out`.

    Raises:
        InputError: no query of the run is judged.
    """
    grades = {qid: qrels.judgments[qid] for qid in run if qid in qrels.judgments}
    if not grades:
        raise InputError(f"none of the run's {len(run)} queries has judgments; give the run's own judgments")
    rows = [
        (float(score), rank, known.get(docno, 0) >= relevant, qid)
        for qid, known in grades.items()
        for rank, (docno, score) in enumerate(run[qid].pairs()[:depth], 1)
        if docno in known or unjudged == "not relevant"
    ]
    if not rows:
        raise InputError("no passage of the run is judged; give the run's own judgments")
    scores, ranks, hit, topics = zip(*rows, strict=True)
    return Judged(
        np.array(scores) if scored else None, np.array(ranks, np.float64), np.array(hit, bool), topics, unjudged
    )


@checked_call
def fit_calibration(
    pairs: Judged,
    *,
    judge: str,
    plan: str,
    relevant: int = 1,
    signal: Signal | Literal["auto"] = "auto",
    method: Method | Literal["auto"] = "auto",
    folds: int = FOLDS,
    model: str = "",
    source: str = "",
) -> ScoreCalibration:
    """Fit a calibration, and measure it on held-out topics.

    Args:
        pairs: judged pairs.
        judge: name of the judge.
        plan: name of the plan.
        relevant: the lowest grade that counted as relevant.
        signal: `score`, `rank`, or `auto`: the better one on held-out topics; only scores where the plan is
            `pointwise`, since a rating means the same for every query, and a rank does not.
        method: `isotonic`, `platt`, or `auto`: the better one on held-out topics.
        folds: folds of topics; at most as many as there are topics.
        model: checksum of the judge's model, where it is known.
        source: what it is fitted on, in words.

    Raises:
        InputError: fewer than two topics, or all pairs are relevant or none is.
    """
    names, positives = set(pairs.topics), int(pairs.relevant.sum())
    if len(names) < 2:
        raise InputError(f"{len(names)} judged topic is too few to calibrate on; give at least 2, better 50")
    if positives in (0, len(pairs.relevant)):
        what = "no pair is" if not positives else "all pairs are"
        raise InputError(
            f"{what} relevant at grade {relevant} or higher; a calibration needs both (--relevant, --unjudged)"
        )
    fold = folds_of(pairs.topics, min(whole("folds", folds, 2), len(names)))
    found = _tried(pairs, plan, signal, method, fold)
    losses = {key: log_loss(p, pairs.relevant) for key, p in found.items()}
    best = min(losses, key=losses.__getitem__)
    low, high = ece_interval(found[best], pairs.relevant, pairs.topics)
    return ScoreCalibration(
        judge=judge,
        plan=plan,
        signal=best[0],
        method=best[1],
        points=fit_curve(pairs.signals(best[0]), pairs.relevant, best[1]),
        relevant=relevant,
        unjudged=pairs.unjudged,
        topics=len(names),
        pairs=len(pairs.relevant),
        positives=positives,
        held_out=HeldOut(
            equal_mass(found[best], pairs.relevant).ece, low, high, losses[best], int(fold.max()) + 1,
            {" ".join(key): loss for key, loss in losses.items()},
        ),
        model=model,
        source=source,
    )  # fmt: skip


def _tried(
    pairs: Judged,
    plan: str,
    signal: Signal | Literal["auto"],
    method: Method | Literal["auto"],
    fold: NDArray[np.int64],
) -> dict[tuple[Signal, Method], NDArray[np.float64]]:
    """The probabilities of held-out pairs, by signal and curve."""
    signals: tuple[Signal, ...] = ("score", "rank")
    if signal != "auto":
        signals = (signal,)
    elif pairs.scores is None:
        signals = ("rank",)
    elif plan.partition(":")[0] == "pointwise":
        signals = ("score",)
    methods = METHODS if method == "auto" else (method,)
    return {
        (one, way): held_out(pairs.signals(one), pairs.relevant, fold, way) for one, way in product(signals, methods)
    }


def folds_of(topics: Sequence[str], folds: int) -> NDArray[np.int64]:
    """The fold of each pair, int64[n]: topics in the order of a hash are dealt out, so that folds are of equal size."""
    names = sorted(set(topics), key=lambda qid: hashlib.sha256(qid.encode("utf-8", "surrogatepass")).digest())
    of = {qid: place % folds for place, qid in enumerate(names)}
    return np.array([of[qid] for qid in topics], np.int64)


def held_out(
    x: NDArray[np.float64], relevant: NDArray[np.bool_], fold: NDArray[np.int64], method: Method
) -> NDArray[np.float64]:
    """The probabilities of pairs by the curve that was fitted without their fold, float64[n]."""
    made = np.full(len(x), np.nan)
    for one in range(int(fold.max()) + 1):
        out = fold == one
        made[out] = curve(method, fit_curve(x[~out], relevant[~out], method), x[out])
    return made


def fit_curve(x: NDArray[np.float64], relevant: NDArray[np.bool_], method: Method) -> Curve:
    """The points of a curve, see `ScoreCalibration.points`."""
    return isotonic(x, relevant) if method == "isotonic" else (platt(x, relevant),)


@checked_call
def isotonic(x: ArrayLike, relevant: ArrayLike) -> tuple[tuple[float, float], ...]:
    """The blocks of the smoothed isotonic regression: mean signal, ascending, and probability.

    Args:
        x: float[n], at least one.
        relevant: bool[n].
    """
    x, y = floats("x", x), np.asarray(relevant, bool)
    values, place = np.unique(x, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    hits = np.bincount(place, y)
    mass = counts * values  # before the added pairs, which count for the probability alone
    weights, sums = counts.copy(), hits.copy()
    weights[0], sums[0] = weights[0] + 1, sums[0] + 1
    weights[-1] += 1
    blocks: list[list[float]] = []  # pairs with the added ones, relevant ones, pairs, sum of signals
    for weight, hit, count, total in zip(weights, sums, counts, mass, strict=True):
        blocks.append([weight, hit, count, total])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][0] >= blocks[-1][1] * blocks[-2][0]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    points: list[tuple[float, float]] = []
    for weight, hit, count, total in blocks:
        center, share = float(total / count), float(hit / weight)
        if points and center <= points[-1][0]:  # means of tiny blocks, equal after rounding
            points[-1] = (points[-1][0], share)
        else:
            points.append((center, share))
    return tuple(points)


@checked_call
def platt(x: ArrayLike, relevant: ArrayLike) -> tuple[float, float]:
    """Slope, at least 0, and constant of the log-odds.

    Args:
        x: float[n].
        relevant: bool[n].
    """
    x, y = floats("x", x), np.asarray(relevant, bool)
    positives, negatives = float(y.sum()), float((~y).sum())
    targets = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    mean, scale = float(x.mean()), float(x.std()) or 1.0
    table = np.stack([(x - mean) / scale, np.ones(len(x))], axis=1)

    def loss(line: NDArray[np.float64]) -> float:
        odds = table @ line
        return float((np.logaddexp(0, odds) - targets * odds).sum())

    line = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    now = loss(line)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(table @ line, -500, 500)))
        slope = table.T @ (p - targets)
        hessian = (table * (p * (1 - p))[:, None]).T @ table + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(hessian, slope), 1.0
        while size > 1e-10 and loss(line - size * step) > now - 1e-4 * size * float(slope @ step):
            size /= 2
        line = line - size * step if size > 1e-10 else line
        before, now = now, loss(line)
        if size <= 1e-10 or before - now < 1e-12 * max(1.0, before):
            break
    if line[0] <= 0:  # higher scores are not better: all that is known is the share
        return 0.0, float(np.log((positives + 1) / (negatives + 1)))
    a = float(line[0] / scale)
    return a, float(line[1] - a * mean)


def log_loss(p: NDArray[np.float64], relevant: NDArray[np.bool_]) -> float:
    """Mean of -ln of the probability given to what was the case."""
    return float(-np.log(np.clip(np.where(relevant, p, 1 - p), 1e-12, 1)).mean())


def equal_mass(p: NDArray[np.float64], relevant: NDArray[np.bool_], bins: int = EQUAL_MASS) -> Bins:
    """Bins with about as many pairs each; equal probabilities are in one bin."""
    return _binned(p, relevant, _mass_bins(p, bins))


def equal_width(p: NDArray[np.float64], relevant: NDArray[np.bool_], bins: int = EQUAL_WIDTH) -> Bins:
    """Bins of the same width, without those that are empty."""
    return _binned(p, relevant, np.minimum((p * bins).astype(np.int64), bins - 1))


def ece_interval(
    p: NDArray[np.float64], relevant: NDArray[np.bool_], topics: Sequence[str], rounds: int = _ROUNDS
) -> tuple[float, float]:
    """The 95 % interval of the expected calibration error over bins of equal mass.

    Percentiles over topics drawn with replacement, with a fixed seed; the bins are those of all pairs. A resample is
    less smooth than the sample, so that the interval lies a little high.
    """
    places = {qid: number for number, qid in enumerate(dict.fromkeys(topics))}
    topic = np.array([places[qid] for qid in strings("topics", topics)], np.int64)
    where = _mass_bins(p, EQUAL_MASS)
    bins, count = int(where.max()) + 1, len(places)
    gap = np.bincount(topic * bins + where, p - relevant, count * bins).reshape(count, bins)
    size = np.bincount(topic, minlength=count).astype(np.float64)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), rounds)
    errors = np.abs(drawn @ gap).sum(axis=1) / (drawn @ size)
    low, high = np.quantile(errors, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _mass_bins(p: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins))
    return np.searchsorted(edges, p, side="right").astype(np.int64)


def _binned(p: NDArray[np.float64], relevant: NDArray[np.bool_], where: NDArray[np.int64]) -> Bins:
    counts = np.bincount(where).astype(np.float64)
    some = counts > 0
    means = [np.bincount(where, weights)[some] / counts[some] for weights in (p, relevant.astype(np.float64))]
    return Bins(counts[some], *means)
