"""The first passages reordered: by a cross-encoder together with the scores so far, or by a `Reranker`."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import shown
from thresher.errors import ConfigError
from thresher.fusion import normalise_scores
from thresher.pipeline.reading import PassageReader
from thresher.pipeline.stage import StageReport
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.context.scorers import SentenceScorer
    from thresher.pipeline.stage import Counts, State
    from thresher.ranking import Ranking
    from thresher.records import Span
    from thresher.rerank.calibration import ScoreCalibration
    from thresher.rerank.reranker import Reranker

_MIXED = ("search", "dense", "relevance")


class RerankStage:
    """Reads the first passages with the query, and sorts them by a weighted sum of what is known.

    Sparse score, dense score and the model's relevance are each standardised over the passages read. Under a
    deadline it reads as many as fit.

    Args:
        scorer: the model.
        splitter: finds the sentences of a text.
        read: passages read at most.
        read_tokens: tokens read at most; 0 for no such limit. The first passage is read whatever its length.
        weights: of sparse score, dense score and relevance.
        calibration: what the relevance means, as a probability; None if that is not known.
    """

    name = "rerank"

    @checked_call
    def __init__(
        self,
        scorer: SentenceScorer,
        *,
        splitter: Callable[[str], Sequence[Span]] = split_sentences,
        read: int = 10,
        read_tokens: int = 0,
        weights: tuple[float, float, float] = (0.2, 0.6, 0.2),
        calibration: ScoreCalibration | None = None,
    ) -> None:
        self.reader = PassageReader(scorer, splitter)
        self.calibration = calibration
        self.work = self.reader.work
        self.read, self.read_tokens, self.weights = read, read_tokens, weights

    def predict(self, state: State) -> float:
        """Milliseconds that reading the first two passages takes: fewer put nothing in order."""
        return self.reader.predict(state, 2)

    def run(self, state: State) -> StageReport:
        """Read and sort the first passages."""
        head = state.ranking.cut(self.read)
        passages = state.passages(head)
        tokens = self.reader.tokens(passages)
        if self.read_tokens and len(tokens):
            count = max(1, int(np.searchsorted(np.cumsum(tokens), self.read_tokens, side="right")))
            head, passages, tokens = head.cut(count), passages[:count], tokens[:count]
        done = self.reader.read(state, passages)
        if done:
            self._sort(state, head.cut(done))
        counts: Counts = {
            "passages": done,
            "forwards": self.reader.forwards(state, passages[:done]),
            "tokens": sum(tokens[:done]),
            **self.reader.stored(state, passages[:done]),
        }
        reason = ""
        if done and (left_out := state.keep_worth_reading(done)):
            counts["left_out"] = left_out
            reason = f"{left_out} of {done} passages do not reach the threshold"
        if done < len(passages):
            reason = f"deadline reached: {done} of {len(passages)} passages were read"
            return StageReport(self.name, "cut", False, reason, counts, self.reader.engine)
        return StageReport(self.name, reason=reason, counts=counts, engine=self.reader.engine)

    def _sort(self, state: State, head: Ranking) -> None:
        scores_of = [self.reader.scores(state, docno) for docno in head.docnos]
        relevance = [one.relevance for one in scores_of if one is not None]
        state.note("relevance", np.arange(len(head)), relevance)
        if self.calibration is not None:
            known = self.calibration.probability(relevance).tolist()
            state.probabilities |= zip(head.docnos, known, strict=True)
        total = np.zeros(len(head))
        for weight, signal in zip(self.weights, _MIXED, strict=True):
            scores = state.signal(signal, head)
            if not np.isnan(scores).any():
                total += weight * normalise_scores(scores, "z-score")
        keys = [docno.encode() for docno in head.docnos]
        order = sorted(range(len(head)), key=lambda i: (-total[i], keys[i]))
        state.promote(order, total[order], self.name)


class RerankerStage:
    """Puts the first passages in a `Reranker`'s order; under a deadline, in its best order when the time is over.

    Args:
        reranker: a plan, a judge and a budget.

    Raises:
        ConfigError: it is not a reranker, or one that adds neighbours: a stage reorders what it is given.
    """

    name = "rerank"
    warms_up = False  # calls may cost money

    def __init__(self, reranker: Reranker) -> None:
        if not callable(getattr(reranker, "rank", None)):
            raise ConfigError(f"a stage that reranks takes a `Reranker`, got {shown(reranker)}")
        if reranker.neighbours is not None:
            raise ConfigError(
                f"{reranker!r} adds neighbours to the candidates, and a pipeline's reranker only reorders them; use "
                "it by itself, or another plan"
            )
        self.reranker = reranker

    @property
    def calibration(self) -> ScoreCalibration | None:
        """What the reranker's scores mean, None if that is not known."""
        return self.reranker.thresholds.calibration

    def predict(self, state: State) -> float:
        """0: it stops by itself when the time is over."""
        return 0.0

    def run(self, state: State) -> StageReport:
        """Rerank within the time left."""
        head = state.ranking.cut(len(state.ranking) if self.reranker.depth is None else self.reranker.depth)
        ranking = head if head.has_passages or state.texts is None else head.with_passages(state.texts)
        result = self._limited(state, state.deadline.left()).rank(
            state.query if state.query.qid else state.query.text, ranking
        )
        place_of = {docno: place for place, docno in enumerate(head.docnos)}
        places = [place_of[docno] for docno in result.docnos]
        sure = [(place, p) for place, p in zip(places, result.confidence or (), strict=False) if p is not None]
        if sure:
            state.note(f"first_{self.reranker.k}", [place for place, _ in sure], [p for _, p in sure])
        state.promote(places, result.scores, self.name)
        if result.probabilities is not None:
            known = zip(result.docnos, result.probabilities, strict=True)
            state.probabilities |= {docno: one for docno, one in known if one is not None}
        if self.reranker.thresholds.limited or (state.min_score, state.precision) != (None, None):
            state.ranking = state.ranking.cut(len(places))
        usage = result.usage
        counts: Counts = {
            "passages": len(head),
            "calls": usage.calls,
            "tokens": usage.prompt_tokens + usage.answer_tokens,
        }
        if usage.cost is not None:
            counts["cost"] = usage.cost
        reason = ""
        if len(places) < len(head):
            counts["left_out"] = len(head) - len(places)
            reason = f"{counts['left_out']} of {len(head)} passages do not reach the threshold"
        if result.complete:
            return StageReport(self.name, reason=reason, counts=counts)
        reason = f"the budget of {result.stopped} was spent" if result.stopped else "some comparisons got no answer"
        return StageReport(self.name, "cut" if result.stopped == "seconds" else "done", False, reason, counts)

    def _limited(self, state: State, left: float) -> Reranker:
        """The reranker with the milliseconds left as a limit, and with the query's thresholds."""
        limited, asked = copy.copy(self.reranker), (state.min_score, state.precision)
        if asked != (None, None):
            limited.thresholds = limited.thresholds._replace(min_score=state.min_score, precision=state.precision)
        if math.isinf(left):
            return limited
        limits, seconds = self.reranker.budget_per_query, max(0.0, left / 1000)
        limited.budget_per_query = dataclasses.replace(
            limits, seconds=seconds if limits.seconds is None else min(seconds, limits.seconds)
        )
        return limited
