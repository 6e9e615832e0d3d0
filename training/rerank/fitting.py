"""Fit a simulated judge to recorded answers of a real model.

The model of an answer: a passage of grade g has the utility m_g, plus what its query adds to all passages of this
grade (normal, any covariance between grades), plus an error that is the same in every answer about this query and
passage (normal, standard deviation s_g). In one answer it also gets a bonus for its place among the passages shown and
Gumbel noise of scale 1, and the passages are named in the order of the sum (Plackett-Luce). Passages without a judgment
are a grade of their own.

Fitted by maximum marginal likelihood, with Laplace's approximation: for each query the utilities take Newton steps with
their grades as prior (they are shared by all windows that show the passage), then means, deviations and bonuses take
their best values given these, and so on until nothing moves. Windows that several runs of one model asked alike count
once; how far their answers agree gives the share of the noise that a repetition of the same prompt repeats. Passages
that were not named are known to be below all that were, and no more.

What a lexical first stage finds (BM25, with or without feedback) and what a learned one finds is fitted apart: of the
same grade, passages that only match the words are easier to tell from the rest.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from thresher.files import read_json_lines
from thresher.rerank.parsing import get_parser, read_order
from training.rerank.fitted import LEVELS, Parameters, level_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PARSER = "digits-v1"
"""The recorded runs were made under this rule."""
WINDOW = 20
CHOICES = WINDOW // 2
"""The first choices of an answer, which a sliding window passes on: models err more in the rest."""
ROUNDS = 40
KINDS = {
    (): "",
    ("duplicate",): "duplicate",
    ("missing",): "missing",
    ("duplicate", "missing"): "duplicate+missing",
    ("unknown",): "unknown",
}


@dataclass(frozen=True, slots=True)
class Window:
    """One recorded answer.

    Attributes:
        run: the recording.
        qid: the query.
        docnos: the passages shown, in the order shown.
        order: places (0-based) of the passages shown, best first.
        named: how many of them the model named itself.
        kind: how the answer is malformed, without what is only another format; empty if it is not; `none` if it
            names no passage.
    """

    run: str
    qid: str
    docnos: tuple[str, ...]
    order: tuple[int, ...]
    named: int
    kind: str


def read_windows(folder: Path, model: str, first_stages: Collection[str]) -> list[Window]:
    """The recorded windows of one model behind some first stages.

    Args:
        folder: of the recordings; its `index.json` names them.
        model: as the index names it.
        first_stages: as the index names them.
    """
    parser = get_parser(PARSER)
    windows = []
    for entry in json.loads((folder / "index.json").read_text(encoding="utf-8")):
        if entry["model"] != model or entry["first_stage"] not in first_stages:
            continue
        for _, line in read_json_lines(folder / f"{entry['recording']}.windows.jsonl.gz"):
            docnos = tuple(line["docids"])
            shown = tuple(range(len(docnos)))
            answer = read_order(line["response"], shown, parser)
            if answer is None:
                windows.append(Window(entry["recording"], line["qid"], docnos, shown, 0, "none"))
                continue
            kinds = tuple(kind for kind in answer.repairs if kind != "format")
            kind = KINDS.get(kinds, "unknown")
            windows.append(Window(entry["recording"], line["qid"], docnos, answer.order, answer.named, kind))
    return windows


class _Answers:
    """The windows of one query as arrays: which passage stands where in each answer."""

    def __init__(self, windows: Sequence[Window], grades: Mapping[str, int]) -> None:
        docnos = sorted({docno for window in windows for docno in window.docnos})
        number = {docno: i for i, docno in enumerate(docnos)}
        self.levels = np.array([level_of(grades.get(docno)) for docno in docnos])
        self.items = np.array([[number[window.docnos[p]] for p in window.order] for window in windows])
        self.places = np.array([window.order for window in windows])
        self.named = np.minimum([window.named for window in windows], CHOICES)
        self.utilities = np.zeros(len(docnos))
        self.of_query = np.zeros(len(LEVELS))
        self.query_covariance = np.eye(len(LEVELS))
        self.squares = np.ones(len(docnos))

    def slopes(self, bonus: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First and second derivatives of the log-likelihood by the values in the answers.

        Args:
            bonus: float64[20], of each place.

        Returns:
            float64[windows, 20] and float64[windows, 20, 20], for the passages best first.
        """
        values = self.utilities[self.items] + bonus[self.places]
        weights = np.exp(values - values.max(axis=1, keepdims=True))
        remaining = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
        chosen = np.arange(values.shape[1]) < np.minimum(self.named, values.shape[1] - 1)[:, None]
        once = np.cumsum(chosen / remaining, axis=1)
        twice = np.cumsum(chosen / remaining**2, axis=1)
        first = chosen - weights * once
        earlier = np.minimum(*np.indices((values.shape[1],) * 2))
        second = -weights[:, :, None] * weights[:, None, :] * twice[:, earlier]
        diagonal = np.arange(values.shape[1])
        second[:, diagonal, diagonal] += weights * once
        return first, second

    def settle(self, bonus: NDArray[np.float64], believed: Believed) -> None:
        """Move the utilities to their most likely values, and split them into what a query and what a passage adds."""
        n, levels = len(self.utilities), len(LEVELS)
        of_level = np.eye(levels)[self.levels]
        shared = believed.covariance @ of_level.T
        prior = of_level @ shared + np.diag(believed.spread[self.levels] ** 2)
        precision, target = np.linalg.inv(prior), believed.means[self.levels]
        first, second = self.slopes(bonus)
        gradient = np.bincount(self.items.ravel(), first.ravel(), n) - precision @ (self.utilities - target)
        pairs = (self.items[:, :, None] * n + self.items[:, None, :]).ravel()
        information = np.bincount(pairs, second.ravel(), n * n).reshape(n, n) + precision
        uncertain = np.linalg.inv(information)
        self.utilities += np.clip(uncertain @ gradient, -2.0, 2.0)
        gain = shared @ precision
        self.of_query = gain @ (self.utilities - target)
        left = believed.covariance - gain @ shared.T
        self.query_covariance = left + gain @ uncertain @ gain.T
        rest = np.eye(n) - of_level @ gain
        error = self.utilities - target - of_level @ self.of_query
        self.squares = error**2 + np.einsum("ij,jk,ik->i", rest, uncertain, rest) + np.diag(left)[self.levels]


@dataclass(frozen=True, slots=True)
class Believed:
    """What is believed about utilities: mean and spread of each level, and the covariance of a query's own levels."""

    means: NDArray[np.float64]
    spread: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def improved(self, queries: Sequence[_Answers]) -> Believed:
        """The most likely values, given what `settle` found."""
        levels = np.concatenate([answers.levels for answers in queries])
        squares = np.concatenate([answers.squares for answers in queries])
        counts = np.maximum(np.bincount(levels, minlength=len(LEVELS)), 1)
        spread = np.sqrt(np.bincount(levels, squares, len(LEVELS)) / counts)
        move = np.mean([answers.of_query for answers in queries], axis=0)
        outer = [np.outer(one.of_query - move, one.of_query - move) + one.query_covariance for one in queries]
        return Believed(self.means + move, spread, np.mean(outer, axis=0))


def fit(windows: Iterable[Window], grades: Mapping[str, Mapping[str, int]], model: str, first_stage: str) -> Parameters:
    """The parameters of a model's judge.

    Args:
        windows: its answers; only those that show 20 passages are used.
        grades: qid to docno to grade; a passage that is absent is unjudged.
        model: its name, for the record.
        first_stage: "lexical" or "learned", for the record.
    """
    windows = [window for window in windows if len(window.docnos) == WINDOW]
    distinct: dict[tuple[str, tuple[str, ...]], Window] = {}
    for window in windows:
        distinct.setdefault((window.qid, window.docnos), window)
    by_query: dict[str, list[Window]] = defaultdict(list)
    for window in distinct.values():
        if window.named:
            by_query[window.qid].append(window)
    queries = {qid: _Answers(found, grades.get(qid, {})) for qid, found in by_query.items()}
    bonus, believed = np.zeros(WINDOW), Believed(np.zeros(len(LEVELS)), np.ones(len(LEVELS)), np.eye(len(LEVELS)))
    for _ in range(ROUNDS):
        for answers in queries.values():
            answers.settle(bonus, believed)
        before = believed.means, bonus
        believed = believed.improved(list(queries.values()))
        bonus = _moved(bonus, list(queries.values()))
        if max(np.abs(believed.means - before[0]).max(), np.abs(bonus - before[1]).max()) < 1e-2:
            break
    means = believed.means
    kinds = Counter(window.kind for window in windows)
    malformed = sum(count for kind, count in kinds.items() if kind)
    return Parameters(
        model=model,
        first_stage=first_stage,
        means=tuple(float(value - means[LEVELS.index("0")]) for value in means),
        spread=tuple(map(float, believed.spread)),
        by_query=tuple(tuple(map(float, row)) for row in np.linalg.cholesky(believed.covariance)),
        places=tuple(float(value - bonus.mean()) for value in bonus),
        repeated=_repeated(windows, queries, bonus),
        malformed=malformed / max(len(windows), 1),
        kinds={kind: count / malformed for kind, count in sorted(kinds.items()) if kind},
    )


def _moved(bonus: NDArray[np.float64], queries: Sequence[_Answers]) -> NDArray[np.float64]:
    """The bonuses after one Newton step."""
    gradient, information = np.zeros(WINDOW), np.eye(WINDOW) * 1e-3
    for answers in queries:
        first, second = answers.slopes(bonus)
        gradient += np.bincount(answers.places.ravel(), first.ravel(), WINDOW)
        pairs = (answers.places[:, :, None] * WINDOW + answers.places[:, None, :]).ravel()
        information += np.bincount(pairs, second.ravel(), WINDOW**2).reshape(WINDOW, WINDOW)
    moved: NDArray[np.float64] = bonus + np.clip(np.linalg.solve(information, gradient), -1.0, 1.0)
    moved -= moved.mean()
    return moved


def agreement(windows: Iterable[Window]) -> float:
    """Share of the pairs of a window that two runs order alike when both ask exactly this window; NaN without any."""
    alike: dict[tuple[str, tuple[str, ...]], list[Window]] = defaultdict(list)
    for window in windows:
        alike[window.qid, window.docnos].append(window)
    shares = [
        same_pairs(a.order, b.order)
        for found in alike.values()
        for a, b in combinations(found, 2)
        if a.run != b.run and len(a.order) > 1
    ]
    return float(np.mean(shares)) if shares else float("nan")


def same_pairs(first: Sequence[int], second: Sequence[int]) -> float:
    """Share of the pairs of items that two orders of the same items place alike."""
    a, b = np.argsort(first), np.argsort(second)
    upper, lower = np.triu_indices(len(a), 1)
    return float(((a[upper] < a[lower]) == (b[upper] < b[lower])).mean())


def _repeated(windows: Sequence[Window], queries: Mapping[str, _Answers], bonus: NDArray[np.float64]) -> float:
    """The share of the noise that must be repeated for answers to one prompt to agree as far as they did; 1 if unknown.

    Simulated on the windows themselves, at the utilities found.
    """
    observed = agreement(windows)
    if np.isnan(observed):
        return 1.0
    rng = np.random.default_rng(0)
    values = np.concatenate([answers.utilities[answers.items] + bonus[answers.places] for answers in queries.values()])
    upper, lower = np.triu_indices(WINDOW, 1)
    noise, again, kept = rng.gumbel(size=values.shape), rng.gumbel(size=values.shape), rng.random(values.shape)
    first = values + noise
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        second = values + np.where(kept < share, noise, again)
        agree = ((first[:, upper] > first[:, lower]) == (second[:, upper] > second[:, lower])).mean()
        low, high = (share, high) if agree < observed else (low, share)
    return high
