"""Long documents read in part: a cheap scorer picks windows of each, the costly judge reads those alone.

    judge = WindowedJudge(judge_from_name("thresher-context"), windows=4)
    reranker = Reranker(judge)                                   # or Reranker.from_name(NAME, windows=4)

A model reads so much of a passage and cuts the rest off, wherever the answer is. Here a document is cut at sentences
into windows, BM25 over the windows of all candidates of the query ranks them, and the best are read. A judge that rates
several passages a call rates each window by itself, and the document gets the largest of its ratings, or a weighted
mean of the largest. A judge that compares passages, or takes one a call, reads the windows joined in document order: it
takes as many calls as without. Documents of no more windows than are read are read to their end.

Sources: the cascade of Hofstaetter et al. (IDCM, SIGIR 2021), whose cheap scorer is distilled from the costly one.
BM25 needs no training; give `scorer` for another.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import floats, whole
from thresher.corpus.split import windows as cut
from thresher.encode.bm25 import Bm25Encoder
from thresher.errors import ConfigError, InputError
from thresher.rerank.plans.plan import Answer, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from thresher.llm.client import Client
    from thresher.records import Hit, Query, Span
    from thresher.rerank.judges import Judge
    from thresher.rerank.plans.plan import Comparison

    Scorer: TypeAlias = Callable[[str, Sequence[str]], ArrayLike]

GAP = " ... "
"""Between windows that are read joined and do not follow each other."""
_KEPT = 16
"""Queries whose windows are kept, for the next batch of their comparisons."""


class WindowedJudge:
    """Reads only the best windows of every passage.

    Args:
        judge: reads them.
        windows: how many of a passage are read, at least 1.
        tokens: tokens of a window, as `thresher.corpus.split` counts them; at least 1.
        scorer: takes a query and the windows of all candidates, and returns a score for each; by default BM25, with the
            statistics of these windows.
        weights: of the largest ratings of a document in descending order; the document's rating is their weighted mean.
            By default the largest alone counts.

    Raises:
        ConfigError: the judge reads no texts.
        InputError: a number is out of range, or the weights are negative or all 0.
    """

    @checked_call
    def __init__(
        self,
        judge: Judge,
        *,
        windows: int = 4,
        tokens: int = 64,
        scorer: Scorer | None = None,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        self.windows, self.tokens = whole("windows", windows, 1), whole("tokens", tokens, 1)
        self.weights = floats("weights", weights)
        if not len(self.weights) or float(self.weights.min()) < 0 or self.weights[0] <= 0:
            raise InputError(f"weights must be at least 0, and the first above 0; got {list(weights)}")
        if not getattr(judge, "reads_text", True):
            raise ConfigError(f"{judge.name} reads no texts, so there are no windows to choose; leave windows out")
        self.judge = judge
        self.rates_only = bool(getattr(judge, "rates_only", False))
        own = max(judge.comparisons_per_call, 1)
        self._apart = own >= self.windows
        self.comparisons_per_call = own // self.windows if self._apart else own
        self._scorer = scorer or bm25_of_windows
        self._known: OrderedDict[tuple[str, ...], _Chosen] = OrderedDict()

    @property
    def name(self) -> str:
        """The judge and the number of windows."""
        return f"{self.judge.name}, {self.windows} windows of {self.tokens} tokens"

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """As the judge answers them, from the best windows."""
        chosen = self._chosen(query, candidates)
        for one in comparisons:
            for item in one.items:
                client.counts.windows += chosen.counts[item]
                client.counts.windows_read += len(chosen.texts[item])
        ratings = [one for one in comparisons if isinstance(one, Rate)]
        if self._apart and len(ratings) == len(comparisons):
            return await self._rated(query, candidates, ratings, chosen, client)
        read = list(candidates)
        for item in {item for one in comparisons for item in one.items}:
            read[item] = dataclasses.replace(candidates[item], text=chosen.joined[item])
        return await self.judge.answer(query, read, comparisons, client)

    def close(self) -> None:
        """Close the judge."""
        close = getattr(self.judge, "close", None)
        if close is not None:
            close()

    async def _rated(
        self, query: Query, candidates: Sequence[Hit], ratings: Sequence[Rate], chosen: _Chosen, client: Client
    ) -> list[Answer | None]:
        """Each window rated by itself, in one call."""
        parts: list[Hit] = []
        places: list[range] = []
        for one in ratings:
            hit, texts = candidates[one.items[0]], chosen.texts[one.items[0]]
            places.append(range(len(parts), len(parts) + len(texts)))
            parts += [dataclasses.replace(hit, text=text) for text in texts]
        given = await self.judge.answer(query, parts, [Rate((place,)) for place in range(len(parts))], client)
        answers: list[Answer | None] = []
        for one, mine in zip(ratings, places, strict=True):
            scores = [
                answer.score for place in mine if (answer := given[place]) is not None and answer.score is not None
            ]
            answers.append(Answer((one.items,), score=self._combined(scores)) if scores else None)
        return answers

    def _combined(self, scores: Sequence[float]) -> float:
        best = np.sort(np.array(scores, np.float64))[::-1][: len(self.weights)]
        weights = self.weights[: len(best)]
        return float(best @ weights / weights.sum())

    def _chosen(self, query: Query, candidates: Sequence[Hit]) -> _Chosen:
        """The best windows of the candidates; the same for every batch of comparisons."""
        key = (query.text, *(hit.docno for hit in candidates))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._choose(query, candidates)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found

    def _choose(self, query: Query, candidates: Sequence[Hit]) -> _Chosen:
        spans = [_cut(hit.text, self.tokens) for hit in candidates]
        texts = [[hit.text[span.start : span.end] for span in its] for hit, its in zip(candidates, spans, strict=True)]
        long = [place for place, its in enumerate(texts) if len(its) > self.windows]
        every = [text for its in texts for text in its]
        scores = floats("the scores of windows", self._scorer(query.text, every)) if long else np.zeros(len(every))
        if len(scores) != len(every):
            raise InputError(
                f"the scorer gave {len(scores)} scores for {len(every)} windows; it must give one for each"
            )
        made = _Chosen(
            [max(len(its), 1) for its in texts], [[hit.text] for hit in candidates], [h.text for h in candidates]
        )
        starts = np.cumsum([0, *map(len, texts)])
        for place, its in enumerate(texts):
            if len(its) < 2:
                continue
            own = scores[starts[place] : starts[place + 1]]
            best = sorted(np.argsort(-own, kind="stable")[: self.windows].tolist())
            made.texts[place] = [its[number] for number in best]
            if len(best) < len(its):
                made.joined[place] = GAP.join(its[number] for number in best)
        return made


@lru_cache(maxsize=1024)
def _cut(text: str, tokens: int) -> tuple[Span, ...]:
    """The windows of a document, which is often a candidate of several queries."""
    return tuple(cut(text, tokens, 0))


@dataclasses.dataclass(frozen=True, slots=True)
class _Chosen:
    """What is read of each candidate.

    Attributes:
        counts: its windows.
        texts: the windows that are read, in document order.
        joined: the same as one text.
    """

    counts: list[int]
    texts: list[list[str]]
    joined: list[str]


def bm25_of_windows(query: str, windows: Sequence[str]) -> NDArray[np.float64]:
    """float64[n]: BM25 of each window, with the statistics of these windows."""
    encoder = Bm25Encoder.fit(windows)
    asked, rows = encoder.encode_queries([query]), encoder.encode_passages(windows)
    weight = np.zeros(len(encoder.vocabulary) + 1)
    weight[asked.terms] = asked.weights
    owner = np.repeat(np.arange(len(windows)), np.diff(rows.indptr))
    scores = np.bincount(owner, weights=weight[rows.terms] * rows.weights, minlength=len(windows))
    return scores.astype(np.float64)
