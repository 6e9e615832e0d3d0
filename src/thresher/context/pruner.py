"""`ContextPruner`: which sentences of retrieved passages to hand over, as spans of the original text.

Context pruning as sentence selection (Provence, arXiv 2501.16214): a scorer gives every sentence a score and every
passage a relevance in one pass; sentences below a threshold are dropped. Differences: the result is spans of the text
that was given, not a new text; thresholds are calibrated for a stated share of answers kept and have a preset's name;
a limit on tokens holds for all passages together and is never exceeded.

`score` runs the model, `select` applies threshold and budget to its scores, `prune` does both. A sentence is turned
into a span in `thresher.context.spans`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.context.pruned import ScoredPassage, Scores
from thresher.context.scorers import SentenceScorer, SplitPassage
from thresher.context.select import select_by_score
from thresher.context.spans import approximate_tokens
from thresher.errors import InputError
from thresher.records import Hit, Passage, Query
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.context.pruned import PrunedPassage
    from thresher.records import Span


_HALF = re.compile("[\ud800-\udfff]")


class ContextPruner:
    """Prunes passages to the sentences that help with a query.

    Args:
        scorer: a `SentenceScorer`, or the name of one (`SentenceScorer.from_name`): `thresher-context` (the
            model that ships), `lexical` (BM25 over the sentences of a passage, no model), or the path of a model.
        splitter: finds the sentences of a text: ascending, disjoint spans, none empty.
        count_tokens: how many tokens a text costs, by the tokenizer of the model that reads the result. An
            approximation by default.
    """

    def __init__(
        self,
        scorer: SentenceScorer | str = "thresher-context",
        *,
        splitter: Callable[[str], Sequence[Span]] = split_sentences,
        count_tokens: Callable[[str], int] = approximate_tokens,
    ) -> None:
        if isinstance(scorer, str):
            scorer = SentenceScorer.from_name(scorer)
        self.scorer = scorer
        self.splitter = splitter
        self.count_tokens = count_tokens

    @checked_call
    def score(self, query: str | Query, passages: Sequence[str | Passage | Hit]) -> Scores:
        """Score the sentences of passages for one query, in one call of the scorer.

        Args:
            query: the query.
            passages: texts, `Passage`s or `Hit`s; a `Ranking` with texts is a sequence of hits.

        Raises:
            InputError: the query or a passage is of another type.
        """
        return self.score_batch([(query, passages)])[0]

    @checked_call
    def score_batch(self, asked: Sequence[tuple[str | Query, Sequence[str | Passage | Hit]]]) -> list[Scores]:
        """As `score` for many queries with their passages, in one call of the scorer."""
        sources = [[self._split(passage, place) for place, passage in enumerate(_several(row))] for _, row in asked]
        texts = [_query_text(query) for query, _ in asked]
        pairs = [(text, _readable(piece)) for text, row in zip(texts, sources, strict=True) for _, piece in row]
        scored = iter(self.scorer.score(pairs))
        return [
            Scores(
                tuple(ScoredPassage.of(docno, piece, next(scored)) for docno, piece in row),
                self.scorer.name,
                self.scorer.presets,
            )
            for row in sources
        ]

    @checked_call
    def select(
        self,
        scores: Scores,
        *,
        threshold: float | str = "balanced",
        max_tokens: int | None = None,
        keep_title: bool = True,
        min_keep: int = 0,
        ellipsis: str = "",
    ) -> list[PrunedPassage]:
        """Keep the sentences that pass; runs no model. Arguments, result and errors as `prune`."""
        return select_by_score(
            scores, self.count_tokens,
            threshold=threshold, max_tokens=max_tokens, keep_title=keep_title, min_keep=min_keep, ellipsis=ellipsis,
        )  # fmt: skip

    @checked_call
    def prune(
        self,
        query: str | Query,
        passages: Sequence[str | Passage | Hit],
        *,
        threshold: float | str = "balanced",
        max_tokens: int | None = None,
        keep_title: bool = True,
        min_keep: int = 0,
        ellipsis: str = "",
    ) -> list[PrunedPassage]:
        """Prune passages for one query: `select` of `score`.

        Args:
            query: the query.
            passages: texts, `Passage`s or `Hit`s; the order is kept.
            threshold: keep sentences that score at least this; 0 keeps all. Or the name of a preset: `conservative`,
                `balanced`, `strong`.
            max_tokens: over all passages together, titles and ellipses included, by `count_tokens`. Never exceeded:
                the sentences with the highest scores are kept, before any other wish.
            keep_title: a passage of which something is kept keeps its title.
            min_keep: keep at least this many sentences of each passage (its best, headings not counted), if it has as
                many, whatever they score. With
                `max_tokens`, what a higher threshold drops may make room for these, so that others are kept.
            ellipsis: replaces what was dropped; by default nothing does.

        Returns:
            One `PrunedPassage` for each passage, in order.

        Raises:
            InputError: a passage is of another type, or an argument is out of range.
        """
        return self.select(
            self.score(query, passages),
            threshold=threshold, max_tokens=max_tokens, keep_title=keep_title, min_keep=min_keep, ellipsis=ellipsis,
        )  # fmt: skip

    @checked_call
    def prune_batch(
        self,
        asked: Sequence[tuple[str | Query, Sequence[str | Passage | Hit]]],
        *,
        threshold: float | str = "balanced",
        max_tokens: int | None = None,
        keep_title: bool = True,
        min_keep: int = 0,
        ellipsis: str = "",
    ) -> list[list[PrunedPassage]]:
        """As `prune` for many queries, in one call of the scorer; `max_tokens` is for each query."""
        return [
            self.select(
                scores,
                threshold=threshold, max_tokens=max_tokens, keep_title=keep_title, min_keep=min_keep, ellipsis=ellipsis,
            )
            for scores in self.score_batch(asked)
        ]  # fmt: skip

    def _split(self, passage: object, place: int) -> tuple[str, SplitPassage]:
        if isinstance(passage, str):
            return str(place), SplitPassage(passage, tuple(self.splitter(passage)))
        if isinstance(passage, (Passage, Hit)):
            return passage.docno, SplitPassage(passage.text, tuple(self.splitter(passage.text)), passage.title)
        raise InputError(f"passage {place} is a {type(passage).__name__}; give a string, a Passage or a Hit")


def _several(passages: object) -> Sequence[object]:
    if isinstance(passages, (str, Passage, Hit)):
        raise InputError(f"passages is one {type(passages).__name__}; give a list of them, [passage]")
    try:
        return list(passages)  # type: ignore[call-overload,no-any-return]
    except TypeError:
        raise InputError(f"passages is a {type(passages).__name__}; give a list of strings, Passages or Hits") from None


def _query_text(query: object) -> str:
    text = query.text if isinstance(query, Query) else query
    if not isinstance(text, str):
        raise InputError(f"the query is a {type(text).__name__}; give a string or a Query")
    return _HALF.sub("\ufffd", text)


def _readable(piece: SplitPassage) -> SplitPassage:
    """What the scorer reads: as long as the passage, without halves of surrogate pairs, which no tokenizer takes."""
    if piece.text.isascii():
        return piece
    return SplitPassage(_HALF.sub("\ufffd", piece.text), piece.sentences, _HALF.sub("\ufffd", piece.title))
