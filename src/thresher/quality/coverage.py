"""Query-log coverage: how near each passage comes to being retrieved by any logged question.

For every logged question all passages are ranked, once by a sparse encoder (BM25 or any other) and, where vectors are
given, once by dot product. Passage p at rank r (from 0) of a question earns 1 / (offset + r) in each ranking, the
reciprocal-rank discount (Cormack, Clarke and Büttcher, SIGIR 2009); its coverage sums what it earned over the
questions, or takes the largest. Ranks, not scores: questions of any length and both rankings then weigh alike.

Leave-one-out: a question's own contribution can be taken back, so that no question votes for the passages it is
measured on. That is also how a combination with other columns is learned (`learn`): the columns of a passage are its
coverage by the questions outside a fold, the target what the questions of the fold retrieve in their first ten, so the
weights say how well coverage by some questions foretells retrieval by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import InputError
from thresher.quality.head import LinearHead, normal_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.records import SparseBatch

__all__ = ["LogCoverage", "dense_ranks", "sparse_ranks"]

_TOP = 10


@dataclass(frozen=True, slots=True)
class LogCoverage:
    """Ranks of all passages for all logged questions, and what follows from them.

    Attributes:
        ranks: for each view (sparse, dense) int32[questions, passages], from 0; passages a question does not reach (no
            shared term) have the rank `passages`.
        offset: the discount's constant; small values look at the first ranks alone.
    """

    ranks: tuple[NDArray[np.int32], ...]
    offset: float = 10.0

    def __post_init__(self) -> None:
        if not self.ranks or any(r.shape != self.ranks[0].shape or r.ndim != 2 for r in self.ranks):
            raise InputError("coverage needs one or more rank tables of the same shape [questions, passages]")
        if not self.ranks[0].shape[0]:
            raise InputError("the query log has no questions: there is nothing passages could be covered by")

    @property
    def questions(self) -> int:
        """Questions in the log."""
        return int(self.ranks[0].shape[0])

    @property
    def passages(self) -> int:
        """Passages of the collection."""
        return int(self.ranks[0].shape[1])

    def earned(self, question: int) -> NDArray[np.float32]:
        """What one question gives each passage, float32[passages], summed over the views."""
        total = np.zeros(self.passages, np.float32)
        for ranks in self.ranks:
            total += self._discount(ranks[question])
        return total

    def coverage(self, questions: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """The sum of what `questions` (all by default) give, float32[passages]."""
        chosen = range(self.questions) if questions is None else questions
        total = np.zeros(self.passages, np.float64)
        for question in chosen:
            total += self.earned(int(question))
        return total.astype(np.float32)

    def without(self, question: int) -> NDArray[np.float32]:
        """Coverage by all questions but one: the leave-one-out score that question is measured with."""
        return (self.coverage().astype(np.float64) - self.earned(question)).astype(np.float32)

    def columns(self, questions: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Two columns a view, float64[passages, 2 * views]: sum and largest of the discounts, as normal scores."""
        chosen = np.arange(self.questions) if questions is None else np.asarray(questions, np.int64)
        out = []
        for ranks in self.ranks:
            total = np.zeros(self.passages, np.float64)
            best = np.zeros(self.passages, np.float64)
            for question in chosen:
                earned = self._discount(ranks[question])
                total += earned
                np.maximum(best, earned, out=best)
            out += [normal_scores(total), normal_scores(best + 1e-6 * total)]
        return np.stack(out, axis=1)

    def demand(self, questions: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """How much `questions` retrieve each passage in their first ten, float64[passages]: sum of 1 / log2(rank + 2)."""
        total = np.zeros(self.passages, np.float64)
        for ranks in self.ranks:
            rows = ranks[np.asarray(questions, np.int64)]
            total += np.where(rows < _TOP, 1 / np.log2(rows + 2.0), 0.0).sum(axis=0)
        return total

    def learn(
        self, other: NDArray[np.float64] | None = None, *, folds: int = 5, seed: int = 0, ridge: float = 0.05
    ) -> NDArray[np.float32]:
        """Scores that foretell retrieval by questions like the logged ones, float32[passages].

        Ridge regression of the square root of `demand` by held-out questions on the coverage by the rest and on `other`
        columns (lexical measures, say), pooled over folds of questions; the scores apply it to the coverage by all.

        Args:
            other: float64[passages, columns], anything known of a passage without the log.
            folds: parts the log is cut into; at most the number of questions.
            seed: of the cut.
            ridge: strength of the penalty, relative to the columns' unit variance.
        """
        own = np.zeros((self.passages, 0)) if other is None else np.stack([normal_scores(c) for c in other.T], axis=1)
        folds = min(folds, self.questions)
        if folds < 2:
            return self.coverage()
        order = np.random.default_rng(seed).permutation(self.questions)
        parts = [np.sort(part) for part in np.array_split(order, folds)]
        blocks, targets = [], []
        for part in parts:
            rest = np.setdiff1d(order, part)
            blocks.append(np.concatenate([self.columns(rest), own], axis=1))
            targets.append(np.sqrt(self.demand(part)))
        head = LinearHead.ridge(blocks, targets, ridge=ridge)
        return head.predict(np.concatenate([self.columns(), own], axis=1)).astype(np.float32)

    def retained(self, keep: NDArray[np.bool_], *, leave_one_out_scores: bool = False) -> float:
        """Mean share of the questions' first ten passages (over views) that `keep` keeps, by the discount of nDCG.

        Args:
            keep: bool[passages].
            leave_one_out_scores: `keep` is replaced, question by question, by the passages that would be kept (as many)
                if that question were not in the log: what a question the log has not seen can expect.
        """
        budget = int(keep.sum())
        everything = self.coverage().astype(np.float64)
        kept_share = []
        for question in range(self.questions):
            kept = keep
            if leave_one_out_scores:
                scores = everything - self.earned(question)
                kept = np.zeros(self.passages, bool)
                kept[np.argsort(-scores, kind="stable")[:budget]] = True
            wanted = self.demand([question])
            kept_share.append(float(wanted[kept].sum() / max(wanted.sum(), 1e-12)))
        return float(np.mean(kept_share))

    def _discount(self, ranks: NDArray[np.int32]) -> NDArray[np.float32]:
        gains: NDArray[np.float32] = np.where(ranks < self.passages, 1 / (self.offset + ranks), 0).astype(np.float32)
        return gains


def sparse_ranks(passages: SparseBatch, questions: SparseBatch) -> NDArray[np.int32]:
    """Rank of every passage for every question by the dot product of their terms, int32[questions, passages].

    Equal scores rank in corpus order; passages that share no term have the rank `passages`.
    """
    n = len(passages)
    order = np.argsort(passages.terms, kind="stable")
    terms = passages.terms[order]
    owners = np.repeat(np.arange(n), np.diff(passages.indptr))[order]
    weights = passages.weights[order].astype(np.float64)
    out = np.empty((len(questions), n), np.int32)
    for row in range(len(questions)):
        scores = np.zeros(n, np.float64)
        part = slice(questions.indptr[row], questions.indptr[row + 1])
        for term, weight in zip(questions.terms[part], questions.weights[part], strict=True):
            first, last = np.searchsorted(terms, [term, term + 1])
            scores[owners[first:last]] += weight * weights[first:last]
        out[row] = _ranks(scores, scores > 0)
    return out


def dense_ranks(passages: NDArray[np.float32], questions: NDArray[np.float32]) -> NDArray[np.int32]:
    """Rank of every passage for every question by dot product, int32[questions, passages]; ties in corpus order.

    Args:
        passages: float32[passages, dimensions].
        questions: float32[questions, dimensions].
    """
    if passages.ndim != 2 or questions.ndim != 2 or passages.shape[1] != questions.shape[1]:
        raise InputError(f"vectors of shapes {passages.shape} and {questions.shape} cannot be compared")
    out = np.empty((len(questions), len(passages)), np.int32)
    everything = np.ones(len(passages), bool)
    table = passages.astype(np.float32, copy=False)
    for row, question in enumerate(questions):
        out[row] = _ranks(table @ question, everything)
    return out


def _ranks(scores: NDArray[np.floating], reached: NDArray[np.bool_]) -> NDArray[np.int32]:
    n = len(scores)
    order = np.argsort(-scores, kind="stable")
    ranks = np.empty(n, np.int32)
    ranks[order] = np.arange(n, dtype=np.int32)
    ranks[~reached] = n
    return ranks
