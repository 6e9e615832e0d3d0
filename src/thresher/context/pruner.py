"""Which sentences of retrieved passages to hand to a reader, as spans of the original text.

Context pruning as sentence selection (Provence, arXiv 2501.16214): a scorer gives every sentence a score and every
passage a relevance in one pass; sentences under a threshold go. Differences: what is returned are spans of the text
that was given, not a new text; thresholds are calibrated for a stated share of answers kept and carry a preset's name;
a limit on tokens holds for all passages together and is never exceeded, whatever else was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from thresher.context.scoring import SplitPassage, preset_threshold
from thresher.context.spans import cut, kept_spans, largest_prefix
from thresher.context.tokens import approximate_tokens
from thresher.errors import InputError
from thresher.records import Hit, Passage, Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.context.scoring import SentenceScorer


@dataclass(frozen=True)
class PrunedPassage:
    """A passage, and what is left of it.

    Attributes:
        docno: the passage's identifier; its place (`0`, `1`, ...) where it was given as a string.
        title: its title where it was asked to be kept and something of the passage is, else empty.
        original: the text that was given.
        spans: what is kept: half-open ranges of Unicode code points of `original`, ascending, disjoint, not touching.
        sentences: every sentence as a span of `original`.
        scores: a score of 0 to 1 for each sentence.
        keep: whether each sentence is kept.
        relevance: of the passage to the query, from the same forward pass; the scale is the scorer's.
        threshold: what was applied.
        ellipsis: what stands for what is left out.
        tokens: of what is left (title and ellipses included), by the reader's count.
        original_tokens: of title and text as they came.
    """

    docno: str
    title: str
    original: str
    spans: tuple[Span, ...]
    sentences: tuple[Span, ...]
    scores: tuple[float, ...]
    keep: tuple[bool, ...]
    relevance: float
    threshold: float
    ellipsis: str
    tokens: int
    original_tokens: int

    @cached_property
    def text(self) -> str:
        """What is left: the slices of `original`, with the ellipsis between them where one was asked for."""
        return cut(self.original, self.spans, self.ellipsis)

    @cached_property
    def contents(self) -> str:
        """The title's line, where it is kept, and the text."""
        return f"{self.title}\n{self.text}" if self.title else self.text

    @property
    def saved_characters(self) -> float:
        """Share of the text's code points that are gone."""
        kept = sum(span.end - span.start for span in self.spans)
        return 1 - kept / len(self.original) if self.original else 0.0

    @property
    def saved_tokens(self) -> float:
        """Share of the tokens of title and text that are gone; below zero where ellipses cost more than was saved."""
        return 1 - self.tokens / self.original_tokens if self.original_tokens else 0.0


@dataclass(frozen=True, slots=True)
class _Source:
    docno: str
    title: str
    text: str


class ContextPruner:
    """Prunes passages to the sentences that help with a query.

    Args:
        scorer: what judges sentences: a `SentenceScorer`, or one of the names `thresher-context` (the model that
            ships), `lexical` (BM25 over the sentences of the call, no model), or the path of a trained model.
        splitter: finds the sentences of a text: ascending, disjoint spans, none empty.
        count_tokens: the reader's tokenizer: how many tokens a text costs. An approximation by default.
    """

    def __init__(
        self,
        scorer: SentenceScorer | str = "thresher-context",
        *,
        splitter: Callable[[str], Sequence[Span]] = split_sentences,
        count_tokens: Callable[[str], int] = approximate_tokens,
    ) -> None:
        if isinstance(scorer, str):
            from thresher.context.scorers import open_scorer

            scorer = open_scorer(scorer)
        self.scorer: SentenceScorer = scorer
        self.splitter = splitter
        self.count_tokens = count_tokens

    def prune(
        self,
        query: str,
        passages: Sequence[str | Passage | Hit],
        *,
        threshold: float | str = "balanced",
        max_tokens: int | None = None,
        keep_title: bool = True,
        min_keep: int = 0,
        ellipsis: str = "",
    ) -> list[PrunedPassage]:
        """Prune passages for one query.

        Args:
            query: the query.
            passages: texts, `Passage`s or `Hit`s; the order is kept.
            threshold: keep sentences that score at least this; 0 keeps all. Or the name of a preset: `conservative`,
                `balanced`, `strong`.
            max_tokens: over all passages together, titles and ellipses included, by the reader's count. Never exceeded:
                the sentences of the highest scores are kept, before any other wish.
            keep_title: a passage of which something is kept keeps its title.
            min_keep: keep at least so many sentences of each passage (its best), whatever they score.
            ellipsis: stands where something was left out; by default nothing does.

        Returns:
            One `PrunedPassage` for each passage, in order.

        Raises:
            InputError: a passage is of another type, or an argument out of its range.
        """
        return self.prune_batch(
            [(query, passages)],
            threshold=threshold, max_tokens=max_tokens, keep_title=keep_title, min_keep=min_keep, ellipsis=ellipsis,
        )[0]  # fmt: skip

    def prune_batch(
        self,
        asked: Sequence[tuple[str, Sequence[str | Passage | Hit]]],
        *,
        threshold: float | str = "balanced",
        max_tokens: int | None = None,
        keep_title: bool = True,
        min_keep: int = 0,
        ellipsis: str = "",
    ) -> list[list[PrunedPassage]]:
        """Prune the passages of many queries; the same as `prune` for each, with one call of the scorer.

        Args:
            asked: queries with their passages; `max_tokens` is for each query.
            threshold: as in `prune`.
            max_tokens: as in `prune`.
            keep_title: as in `prune`.
            min_keep: as in `prune`.
            ellipsis: as in `prune`.

        Returns:
            One list for each query, one `PrunedPassage` for each of its passages, in order.

        Raises:
            InputError: as in `prune`.
        """
        limit = self._threshold(threshold)
        if max_tokens is not None and max_tokens < 0:
            raise InputError(f"max_tokens={max_tokens}: give 0 or more, or None for no limit")
        if min_keep < 0:
            raise InputError(f"min_keep={min_keep}: give the number of sentences to keep at least, 0 or more")
        sources = [[_source(passage, place) for place, passage in enumerate(passages)] for _, passages in asked]
        split = [[self._split(source) for source in row] for row in sources]
        pairs = [(query, piece) for (query, _), row in zip(asked, split, strict=True) for piece in row]
        scored = iter(self.scorer.score(pairs))
        out = []
        for row, pieces in zip(sources, split, strict=True):
            draft = [
                _Draft(source, piece, (scores := next(scored)).sentences, scores.relevance)
                for source, piece in zip(row, pieces, strict=True)
            ]
            wanted = _ranked(draft, limit, min_keep)
            if max_tokens is not None:
                wanted = self._within(draft, wanted, max_tokens, keep_title, ellipsis)
            keep = _flags(draft, wanted)
            out.append([self._finish(d, k, limit, keep_title, ellipsis) for d, k in zip(draft, keep, strict=True)])
        return out

    def _threshold(self, threshold: float | str) -> float:
        if isinstance(threshold, str):
            return preset_threshold(self.scorer, threshold)
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold={threshold}: give a score of 0 to 1, or the name of a preset")
        return float(threshold)

    def _split(self, source: _Source) -> SplitPassage:
        return SplitPassage(source.text, tuple(self.splitter(source.text)), source.title)

    def _within(
        self, draft: list[_Draft], wanted: list[tuple[int, int]], budget: int, keep_title: bool, ellipsis: str
    ) -> list[tuple[int, int]]:
        """The longest run of `wanted` from its start that costs at most `budget`."""

        def cost(count: int) -> int:
            total = 0
            for one, keep in zip(draft, _flags(draft, wanted[:count]), strict=True):
                total += self._cost(one, keep, keep_title, ellipsis)
            return total

        return wanted[: largest_prefix(len(wanted), lambda count: cost(count) <= budget)]

    def _cost(self, draft: _Draft, keep: tuple[bool, ...], keep_title: bool, ellipsis: str) -> int:
        text = _contents(draft, keep, keep_title, ellipsis)
        return self.count_tokens(text) if text else 0

    def _finish(
        self, draft: _Draft, keep: tuple[bool, ...], limit: float, keep_title: bool, ellipsis: str
    ) -> PrunedPassage:
        source = draft.source
        whole = f"{source.title}\n{source.text}" if source.title else source.text
        return PrunedPassage(
            docno=source.docno,
            title=source.title if keep_title and any(keep) else "",
            original=source.text,
            spans=_spans(draft, keep),
            sentences=draft.piece.sentences,
            scores=draft.scores,
            keep=keep,
            relevance=draft.relevance,
            threshold=limit,
            ellipsis=ellipsis if any(keep) else "",
            tokens=self._cost(draft, keep, keep_title, ellipsis),
            original_tokens=self.count_tokens(whole) if whole else 0,
        )


@dataclass(frozen=True, slots=True)
class _Draft:
    source: _Source
    piece: SplitPassage
    scores: tuple[float, ...]
    relevance: float


def _source(passage: object, place: int) -> _Source:
    if isinstance(passage, str):
        return _Source(str(place), "", passage)
    if isinstance(passage, (Passage, Hit)):
        return _Source(passage.docno, passage.title, passage.text)
    raise InputError(f"passage {place} is a {type(passage).__name__}; give a string, a Passage or a Hit")


def _ranked(draft: list[_Draft], limit: float, min_keep: int) -> list[tuple[int, int]]:
    """(passage, sentence) of all that pass, best first; ties in document order."""
    chosen = []
    for number, one in enumerate(draft):
        best = {i for _, i in sorted((-score, i) for i, score in enumerate(one.scores))[:min_keep]}
        chosen += [(number, i) for i, score in enumerate(one.scores) if score >= limit or i in best]
    return sorted(chosen, key=lambda at: (-draft[at[0]].scores[at[1]], at))


def _flags(draft: list[_Draft], wanted: Sequence[tuple[int, int]]) -> list[tuple[bool, ...]]:
    chosen = set(wanted)
    return [tuple((number, i) in chosen for i in range(len(one.scores))) for number, one in enumerate(draft)]


def _spans(draft: _Draft, keep: tuple[bool, ...]) -> tuple[Span, ...]:
    """What is kept of a passage; a passage without a sentence has nothing to keep."""
    return kept_spans(len(draft.source.text), draft.piece.sentences, keep) if keep else ()


def _contents(draft: _Draft, keep: tuple[bool, ...], keep_title: bool, ellipsis: str) -> str:
    if not any(keep):
        return ""
    text = cut(draft.source.text, _spans(draft, keep), ellipsis)
    return f"{draft.source.title}\n{text}" if keep_title and draft.source.title else text
