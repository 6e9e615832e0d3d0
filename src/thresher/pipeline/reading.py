"""Passages read by a model with the query: sentences found and scored, as many passages as the deadline allows.

Scores are kept in the state, so that a passage is read once where reranking and sentence selection use the same
scorer. Queries in several threads share the model (`thresher.pipeline.shared`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thresher.context.scorers import SplitPassage
from thresher.pipeline.deadline import fitting, is_abandoned, part_that_fits
from thresher.pipeline.shared import Reading, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.context.scorers import PassageScores, SentenceScorer
    from thresher.pipeline.stage import Counts, State
    from thresher.records import Passage, Span

PASSAGE_UNITS, CALL_UNITS = 4, 60
"""The overhead of a passage and of a model call, expressed in tokens (of int8 on two cores)."""


class PassageReader:
    """Scores passages and their sentences for one stage, within the deadline.

    Args:
        scorer: the model.
        splitter: finds the sentences of a text.

    Attributes:
        engine: what the model runs on.
    """

    def __init__(self, scorer: SentenceScorer, splitter: Callable[[str], Sequence[Span]]) -> None:
        self.scorer, self.splitter = scorer, splitter
        self.work = f"read {scorer.name}"
        self.engine = engine_name(scorer)

    def predict(self, state: State, passages: int) -> float:
        """Milliseconds that reading the first passages of the ranking is predicted to take."""
        if not state.costs.known(self.work):
            return 0.0
        return state.costs.predict(self.work, units(self.tokens(state.passages(state.ranking.cut(passages)))))

    def read(self, state: State, passages: Sequence[Passage]) -> int:
        """Read passages from the front while the deadline allows; returns how many of them have been read by now."""
        unread = [passage for passage in passages if self.scores(state, passage.docno) is None]
        tokens, asked = self.tokens(unread), is_abandoned()
        pairs = [
            (state.query.text, SplitPassage(p.text, self.split(state, p.text), p.title, state.states.get(p.docno)))
            for p in unread
        ]
        done = 0

        def fits(sharing: int, limit: float) -> int:
            def predict(count: int) -> float:
                return sharing * state.costs.predict(self.work, units(tokens[done : done + count]))

            if asked():
                return 0
            own = part_that_fits(len(unread) - done, predict, state.deadline)
            return own if math.isinf(limit) else min(own, max(1, fitting(own, predict, limit)))

        def observe(milliseconds: float, read_tokens: Sequence[int]) -> None:
            state.costs.observe(self.work, milliseconds, units(read_tokens))

        while done < len(unread):
            scores = read(
                Reading(self.scorer, pairs[done:], tokens[done:], fits, observe, state.deadline), state.deadline
            )
            for passage, one in zip(unread[done : done + len(scores)], scores, strict=True):
                state.read[id(self.scorer), passage.docno] = one
            done += len(scores)
            if not scores:
                break
        return len(passages) - len(unread) + done

    def scores(self, state: State, docno: str) -> PassageScores | None:
        """The scores of a passage, None where it was not read."""
        return state.read.get((id(self.scorer), docno))

    def forwards(self, state: State, passages: Sequence[Passage]) -> int:
        """Forward passes of the model that reading these passages took: one each, or what the scorer reports."""
        found = [self.scores(state, passage.docno) for passage in passages]
        return sum(int(getattr(one, "forwards", 1)) for one in found if one is not None)

    def stored(self, state: State, passages: Sequence[Passage]) -> Counts:
        """How many of these passages were read from stored states, as a count of a stage; none where none was."""
        found = [self.scores(state, passage.docno) for passage in passages]
        count = sum(one is not None and one.stored for one in found)
        return {"stored": count} if count else {}

    def split(self, state: State, text: str) -> tuple[Span, ...]:
        """The sentences of a text, found once a query."""
        if text not in state.sentences:
            state.sentences[text] = tuple(self.splitter(text))
        return state.sentences[text]

    def tokens(self, passages: Sequence[Passage]) -> list[int]:
        """Tokens of each passage and its title."""
        return [self.scorer.count_tokens(passage.contents) for passage in passages]


def engine_name(model: object) -> str:
    """The engine that a model says it runs on, empty where it says none."""
    return str(getattr(getattr(model, "backend", None), "name", ""))


def units(tokens: Sequence[int], calls: int = 1) -> int:
    """The cost of reading passages of `tokens` tokens in `calls` calls of the model, in tokens."""
    return sum(tokens) + PASSAGE_UNITS * len(tokens) + CALL_UNITS * calls
