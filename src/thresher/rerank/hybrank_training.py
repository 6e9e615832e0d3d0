"""Training of `HybRank`: small networks over the similarities of judged candidates, with numpy alone.

The loss is the cross-entropy between the softmax of a list's ratings and its grades over their sum, as in ListNet (Cao
et al., ICML 2007); lists without a relevant candidate teach nothing. A fifth of the queries, by a hash of their qids,
is held out: how long to train is chosen there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import whole
from thresher.errors import InputError
from thresher.evaluate.measures import evaluate
from thresher.ranking import Ranking, Run
from thresher.records import Qrels
from thresher.rerank.candidates import of_run
from thresher.rerank.hybrank import HybRank, feature_names, features
from thresher.rerank.similarities import IndexSimilarities

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.records import Query
    from thresher.search.index import Index

    Array = NDArray[np.float32]

EPOCHS = (5, 10, 20, 30)
"""How long to train, to choose from."""
NETWORKS, HIDDEN = 3, 64
RATE, DECAY, DROPPED, BATCH = 3e-3, 1e-2, 0.1, 64
MEASURE = "nDCG@10"


@dataclass(frozen=True, slots=True)
class JudgedList:
    """The candidates of one query.

    Attributes:
        qid: the query.
        docnos: of the candidates, in first-stage order.
        rows: float32[n, features].
        grades: float32[n], negative ones as 0.
        weights: float32[n], above 0: how much each counts against the relevant ones; below 1 for a candidate without a
            grade that may be relevant. None for 1 throughout.
    """

    qid: str
    docnos: list[str]
    rows: Array
    grades: Array
    weights: Array | None = None


def judged_lists(
    run: Mapping[str, Ranking],
    queries: Iterable[Query],
    qrels: Qrels,
    similarities: IndexSimilarities,
    *,
    depth: int = 100,
) -> list[JudgedList]:
    """The lists of the run's judged queries; those with fewer than two candidates are left out.

    Args:
        run: rankings of the first stage.
        queries: their texts.
        qrels: grades.
        similarities: of the index the run was made on.
        depth: first candidates of each.

    Raises:
        InputError: no query of the run is known or judged, or a candidate is not in the index.
    """
    lists = []
    for query, ranking in of_run(run, queries):
        grades = qrels.judgments.get(query.qid)
        head = ranking.cut(depth)
        if grades is None or len(head) < 2:
            continue
        rows = features(head.scores, similarities.of(query, head.docnos, similarities.retrievers))
        given = np.array([max(grades.get(docno, 0), 0) for docno in head.docnos], np.float32)
        lists.append(JudgedList(query.qid, list(head.docnos), rows, given))
    if not any(one.grades.any() for one in lists):
        raise InputError("no query of the run has a relevant passage among its candidates; check the qids of the qrels")
    return lists


@checked_call
def train_hybrank(
    run: Mapping[str, Ranking],
    queries: Iterable[Query],
    qrels: Qrels,
    index: Index | str | Path,
    *,
    depth: int = 100,
    seed: int = 0,
) -> HybRank:
    """Train a `HybRank` on judged queries; some hundreds are needed. The same input gives the same model.

    Args:
        run: rankings of the first stage that the model will rerank, with its scores.
        queries: their texts.
        qrels: grades.
        index: the index the run was made on, or its directory.
        depth: first candidates of each ranking; at least 2.
        seed: of the first weights, the order of lists and what is dropped.

    Returns:
        the model; its `about` has nDCG@10 of the held-out fifth before and after, which is a little optimistic since
        the number of epochs was chosen there.

    Raises:
        InputError: no query of the run is known or judged, or a candidate is not in the index.
    """
    similarities = IndexSimilarities(index)
    lists = judged_lists(run, queries, qrels, similarities, depth=whole("depth", depth, 2))
    return train_on(lists, qrels, similarities.retrievers, seed=seed)


def train_on(lists: Sequence[JudgedList], qrels: Qrels, retrievers: tuple[str, ...], *, seed: int = 0) -> HybRank:
    """As `train_hybrank`, from lists made before."""
    held = [one for one in lists if _is_held_out(one.qid)]
    taught = [one for one in lists if not _is_held_out(one.qid) and one.grades.any()]
    if not held or not taught:
        raise InputError(
            f"{len(lists)} judged queries are too few to train on: a fifth of them is held out to choose by"
        )
    networks = [_Network(len(feature_names(retrievers)), seed + number) for number in range(NETWORKS)]
    before = _quality(held, qrels, None)
    best, trained = (-1.0, 0, HybRank(retrievers, (), {})), 0
    for epochs in EPOCHS:
        for network in networks:
            for _ in range(epochs - trained):
                network.epoch(taught)
        trained = epochs
        layers = tuple((n.first.copy(), n.bias.copy(), n.second.copy()) for n in networks)
        made = HybRank(retrievers, layers, {})
        quality = _quality(held, qrels, made)
        if quality > best[0]:
            best = quality, epochs, made
    about: dict[str, object] = {
        "queries": len(taught),
        "held_out": len(held),
        "epochs": best[1],
        "ndcg_cut_10_before": round(before, 4),
        "ndcg_cut_10": round(best[0], 4),
        "seed": seed,
    }
    return HybRank(retrievers, best[2].layers, about)


def _is_held_out(qid: str) -> bool:
    return hashlib.sha256(f"hybrank\0{qid}".encode("utf-8", "surrogatepass")).digest()[0] < 256 // 5


def _quality(lists: Sequence[JudgedList], qrels: Qrels, model: HybRank | None) -> float:
    """nDCG@10 of the lists, reranked by the model if there is one."""
    rankings = {}
    for one in lists:
        order = range(len(one.docnos)) if model is None else np.argsort(-model.scores(one.rows), kind="stable").tolist()
        rankings[one.qid] = Ranking([one.docnos[place] for place in order])
    own = Qrels({one.qid: qrels.judgments[one.qid] for one in lists})
    return evaluate(Run(rankings), own, MEASURE).mean[MEASURE]


class _Network:
    """One hidden layer, trained with Adam and decoupled weight decay (arXiv 1711.05101).

    Args:
        width: features.
        seed: of the first weights, the order of lists and what is dropped.
    """

    def __init__(self, width: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.first = self._random.uniform(-1, 1, (width, HIDDEN)).astype(np.float32) / np.float32(np.sqrt(width))
        self.bias = self._random.uniform(-1, 1, HIDDEN).astype(np.float32) / np.float32(np.sqrt(width))
        self.second = self._random.uniform(-1, 1, HIDDEN).astype(np.float32) / np.float32(np.sqrt(HIDDEN))
        self._means = [np.zeros_like(w) for w in (self.first, self.bias, self.second)]
        self._squares = [np.zeros_like(w) for w in (self.first, self.bias, self.second)]
        self._steps = 0

    def epoch(self, lists: Sequence[JudgedList]) -> None:
        """One pass over the lists."""
        order = self._random.permutation(len(lists))
        for start in range(0, len(order), BATCH):
            self._step([lists[place] for place in order[start : start + BATCH]])

    def _step(self, lists: Sequence[JudgedList]) -> None:
        rows = np.concatenate([one.rows for one in lists])
        hidden = np.maximum(rows @ self.first + self.bias, 0)
        kept = (self._random.random(hidden.shape) >= DROPPED).astype(np.float32) / np.float32(1 - DROPPED)
        rated = (hidden * kept) @ self.second
        error = np.empty_like(rated)  # of the loss by the ratings: softmax minus the grades over their sum
        start = 0
        for one in lists:
            part = slice(start, start + len(one.grades))
            likely = np.exp(rated[part] - rated[part].max())
            likely = likely if one.weights is None else likely * one.weights
            error[part] = likely / likely.sum() - one.grades / one.grades.sum()
            start = part.stop
        error /= len(lists)
        back = np.outer(error, self.second) * kept * (hidden > 0)
        self._move([rows.T @ back, back.sum(0), (hidden * kept).T @ error])

    def _move(self, slopes: Sequence[Array]) -> None:
        self._steps += 1
        parts = (self.first, self.bias, self.second)
        for number, (weights, slope) in enumerate(zip(parts, slopes, strict=True)):
            mean, square = self._means[number], self._squares[number]
            mean += np.float32(0.1) * (slope - mean)
            square += np.float32(0.001) * (slope * slope - square)
            step = mean / (1 - 0.9**self._steps) / (np.sqrt(square / (1 - 0.999**self._steps)) + 1e-8)
            np.subtract(
                weights, np.float32(RATE) * (step + np.float32(DECAY) * weights), out=weights, casting="same_kind"
            )
