"""The sentences of k passages that are handed over, each fact once (`thresher.context.select`).

A passage of which nothing is kept gives its place to the next that was read.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from thresher.arguments import checked_call
from thresher.context.pruned import ScoredPassage, Scores
from thresher.context.pruner import ContextPruner
from thresher.context.select import select_by_gain, select_by_score
from thresher.context.spans import approximate_tokens
from thresher.pipeline.reading import PassageReader
from thresher.pipeline.stage import StageReport
from thresher.records import Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.context.pruned import PrunedPassage
    from thresher.context.scorers import SentenceScorer
    from thresher.pipeline.stage import Counts, State
    from thresher.records import Passage


class SelectStage:
    """Keeps the sentences that help, within the budget of tokens.

    A passage that the reranker has read with the same scorer is not read again; one that there is no time to read
    stays whole.

    Args:
        scorer: scores sentences.
        splitter: finds the sentences of a text.
        count_tokens: tokens of a text.
        threshold: a sentence is kept from this score on: a number, or the name of a preset.
        repeats: `drop` to count a sentence by what it adds to those kept already, `keep` to count it by itself.
        min_keep: sentences that every passage keeps at least.
        min_confidence: hand nothing over where no sentence scores at least this.
    """

    name = "select"

    @checked_call
    def __init__(
        self,
        scorer: SentenceScorer,
        *,
        splitter: Callable[[str], Sequence[Span]] = split_sentences,
        count_tokens: Callable[[str], int] = approximate_tokens,
        threshold: float | str = "balanced",
        repeats: Literal["drop", "keep"] = "drop",
        min_keep: int = 0,
        min_confidence: float = 0.0,
    ) -> None:
        self.reader = PassageReader(scorer, splitter)
        self.count_tokens = count_tokens
        self.threshold, self.repeats, self.min_keep = threshold, repeats, min_keep
        self.min_confidence = min_confidence

    @property
    def pruner(self) -> ContextPruner:
        """What prunes passages that no search found, with the same scorer, sentences and tokens."""
        return ContextPruner(self.reader.scorer, splitter=self.reader.splitter, count_tokens=self.count_tokens)

    def predict(self, state: State) -> float:
        """Milliseconds of a selection that need not read anything."""
        return state.costs.predict(self.name)

    def run(self, state: State) -> StageReport:
        """Select the sentences of the first k passages."""
        started = state.deadline.now()
        passages = state.passages(state.ranking.cut(state.k))
        unread = [passage for passage in passages if self.reader.scores(state, passage.docno) is None]
        done = self.reader.read(state, unread) if unread else 0
        pruned, repeated, passages, more = self._fill(state, passages)
        if not unread and not more:
            state.costs.observe(self.name, (state.deadline.now() - started) * 1000)
        counts: Counts = {"passages": len(passages), "forwards": self.reader.forwards(state, [*unread[:done], *more])}
        counts |= self.reader.stored(state, [*unread[:done], *more])
        counts |= ({"repeated": repeated} if self.repeats == "drop" else {}) | _kept(pruned)
        reason = self._withhold(state, passages)
        if done < len(unread):
            reason = f"deadline reached: {len(unread) - done} passages were not pruned"
            return StageReport(self.name, "cut", False, reason, counts, self.reader.engine)
        return StageReport(self.name, reason=reason, counts=counts, engine=self.reader.engine)

    def _fill(
        self, state: State, passages: list[Passage]
    ) -> tuple[list[PrunedPassage], int, list[Passage], list[Passage]]:
        """Select from the first k passages, and from as many of the next, up to 2 k, as there are empty ones.

        Returns:
            What is kept of k passages, how many sentences were dropped as repeats, those passages, and those that were
            read for this. An empty one is among the k only where there are not k others that the deadline lets it read.
        """
        newly: list[Passage] = []
        pruned, repeated = self._select(state, passages)
        while (missing := min(state.k - sum(bool(one.spans) for one in pruned), 2 * state.k - len(passages))) > 0:
            following = state.passages(state.ranking.cut(len(passages) + missing))[len(passages) :]
            unread = [passage for passage in following if self.reader.scores(state, passage.docno) is None]
            if state.max_tokens is None:  # else they may be empty because the tokens are spent
                newly += unread[: self.reader.read(state, unread)]
            known = list(takewhile(lambda one: self.reader.scores(state, one.docno) is not None, following))
            if not known:
                break
            passages = [*passages, *known]
            pruned, repeated = self._select(state, passages)
        order = sorted(range(len(passages)), key=lambda place: (not pruned[place].spans, place))
        places = sorted(order[: state.k])
        state.selected = {place: pruned[place] for place in places}
        return list(state.selected.values()), repeated, [passages[place] for place in places], newly

    def _select(self, state: State, passages: Sequence[Passage]) -> tuple[list[PrunedPassage], int]:
        """What is kept of each passage, and how many sentences were dropped as repeats."""
        by_gain = self.repeats == "drop"
        scores = self._scores(state, passages)
        favoured = self._answering(scores)
        pruned = select_by_score(
            scores,
            self.count_tokens,
            threshold=self.threshold,
            max_tokens=None if by_gain else state.max_tokens,
            min_keep=self.min_keep,
            favoured=favoured,
        )
        if not by_gain:
            return pruned, 0
        limit = scores.threshold(self.threshold)
        unread = [place for place, one in enumerate(passages) if self.reader.scores(state, one.docno) is None]
        chosen = select_by_gain(
            pruned,
            self.count_tokens,
            max_tokens=state.max_tokens,
            min_gain=limit,
            min_keep=self.min_keep,
            whole=unread if limit else range(len(pruned)),  # a threshold of 0 keeps all
            favoured=favoured,
        )
        return list(chosen.pruned), chosen.repeated

    def _answering(self, scores: Scores) -> tuple[int, ...]:
        """The first passage's position, where it seems to answer although none of its sentences passes.

        It seems to where its best sentence reaches the preset that keeps nearly all answers (`conservative`).
        """
        least = scores.presets.get("conservative")
        if not scores.passages or least is None or not isinstance(self.threshold, str):
            return ()
        best = max(scores.passages[0].scores, default=0.0)
        return (0,) if best > 0 and best >= max(least, self.min_confidence) else ()

    def _scores(self, state: State, passages: Sequence[Passage]) -> Scores:
        """The scores of the passages; every sentence of a passage that was not read scores 1."""
        rows = []
        for passage in passages:
            sentences = self.reader.split(state, passage.text)
            found = self.reader.scores(state, passage.docno)
            given, relevance = ((1.0,) * len(sentences), 0.0) if found is None else (found.sentences, found.relevance)
            rows.append(ScoredPassage(passage.docno, passage.text, sentences, given, relevance, passage.title))
        return Scores(tuple(rows), self.reader.scorer.name, self.reader.scorer.presets)

    def _withhold(self, state: State, passages: Sequence[Passage]) -> str:
        """Note the passages' confidences; why nothing is handed over, empty where something is."""
        for passage in passages:
            found = self.reader.scores(state, passage.docno)
            if found is not None:
                state.confidences[passage.docno] = max(found.sentences, default=0.0)
        best = max(state.confidences.values(), default=1.0)
        state.withheld = best < self.min_confidence and len(state.confidences) == len(passages)
        if not state.withheld:
            return ""
        return f"the best sentence scores {best:.3f}, below min_confidence {self.min_confidence:g}"


def whole_passages(state: State, count_tokens: Callable[[str], int]) -> list[PrunedPassage]:
    """The first k passages whole, or as many of their sentences from the front as the budget of tokens allows."""
    passages = state.passages(state.ranking.cut(state.k))
    rows = []
    for passage in passages:
        text = passage.text
        sentences = tuple(split_sentences(text)) if state.max_tokens is not None else (Span(0, len(text)),) * bool(text)
        rows.append(ScoredPassage(passage.docno, text, sentences, (1.0,) * len(sentences), title=passage.title))
    return select_by_score(Scores(tuple(rows)), count_tokens, threshold=0.0, max_tokens=state.max_tokens)


def _kept(pruned: Sequence[PrunedPassage]) -> Counts:
    characters = sum(len(one.original) for one in pruned)
    left = sum(span.end - span.start for one in pruned for span in one.spans)
    return {
        "sentences": sum(len(one.sentences) for one in pruned),
        "sentences_kept": sum(map(sum, (one.keep for one in pruned))),
        "characters": characters,
        "characters_dropped": characters - left,
        "tokens": sum(one.tokens for one in pruned),
        "tokens_dropped": sum(one.original_tokens - one.tokens for one in pruned),
    }
