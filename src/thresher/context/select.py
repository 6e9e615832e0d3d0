"""Which sentences of scored passages are kept: by a threshold on their scores, or by what each adds for its cost.

`select_by_score` keeps what reaches the threshold; under a budget, the highest scores first.

`select_by_gain` lets the number of passages follow from the query, in the manner of the Dynamic Passage Selector (Meng
and others, arXiv 2508.09497), but by a greedy rule over calibrated scores rather than a trained language model:

    gain(s) = score(s) * p(passage of s) * (1 - repeated(s)),        value(s) = gain(s) / max(tokens(s), 8) ** `thrift`

where p(passage) is the logistic of its relevance less the best relevance, and repeated(s) is the largest share of the
sentence's distinct terms that one kept sentence already holds: repetition costs tokens and adds nothing. It
stops when the best remaining gain is below `min_gain`, or when nothing that remains fits the budget. The greedy rule
for a submodular gain under a budget is that of Lin and Bilmes (NAACL 2010).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from thresher.context.spans import cut, kept_spans, largest_prefix
from thresher.errors import InputError
from thresher.text.analyzer import analyzer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from thresher.context.scorers import PassageScores, SplitPassage
    from thresher.records import Span


@dataclass(frozen=True)
class PrunedPassage:
    """A passage and the part of it that is kept.

    Attributes:
        docno: the passage's identifier; its position (`0`, `1`, ...) where it was given as a string.
        title: its title where titles are kept and some of the passage is, else empty.
        original: the text that was given.
        spans: what is kept: half-open ranges of Unicode code points of `original`, ascending, disjoint, not touching.
        sentences: every sentence as a span of `original`.
        scores: a score of 0 to 1 for each sentence.
        keep: whether each sentence is kept.
        relevance: the passage's relevance to the query, from the same forward pass; the scale is the scorer's.
        threshold: the threshold that was applied.
        ellipsis: replaces what was dropped.
        tokens: tokens of what is kept (title and ellipses included), by the given count.
        original_tokens: tokens of title and text before pruning.
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
        """What is kept: the slices of `original`, with the ellipsis between them where one was given."""
        return cut(self.original, self.spans, self.ellipsis)

    @cached_property
    def contents(self) -> str:
        """The title's line, where it is kept, and the text."""
        return f"{self.title}\n{self.text}" if self.title else self.text

    @property
    def saved_characters(self) -> float:
        """Share of the text's code points that were dropped."""
        kept = sum(span.end - span.start for span in self.spans)
        return 1 - kept / len(self.original) if self.original else 0.0

    @property
    def saved_tokens(self) -> float:
        """Share of the tokens of title and text that were dropped; negative where ellipses cost more than was saved."""
        return 1 - self.tokens / self.original_tokens if self.original_tokens else 0.0


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A passage with its sentences and their scores.

    Attributes:
        docno: the passage's identifier.
        text: its text.
        sentences: spans of `text`: ascending, disjoint, none empty.
        scores: a score of 0 to 1 for each sentence.
        relevance: higher is more relevant; comparable between passages of one query.
        title: its title, empty where there is none.
    """

    docno: str
    text: str
    sentences: tuple[Span, ...]
    scores: tuple[float, ...]
    relevance: float = 0.0
    title: str = ""

    @classmethod
    def of(cls, docno: str, passage: SplitPassage, scores: PassageScores) -> ScoredPassage:
        """A split passage with its scores."""
        return cls(docno, passage.text, passage.sentences, scores.sentences, scores.relevance, passage.title)


@dataclass(frozen=True, slots=True)
class Scores:
    """A scorer's output for the passages of one query.

    Attributes:
        passages: in the order they were given.
        scorer: the scorer's name and version.
        presets: its calibrated thresholds by name; empty where it was never calibrated.
    """

    passages: tuple[ScoredPassage, ...]
    scorer: str = ""
    presets: Mapping[str, float] = field(default_factory=dict)

    def threshold(self, wanted: float | str) -> float:
        """The threshold as a number: itself, or the preset of that name.

        Raises:
            InputError: it is out of range, or the scorer has no such preset.
        """
        if isinstance(wanted, str):
            if wanted not in self.presets:
                known = f"has the presets {', '.join(self.presets)}" if self.presets else "was never calibrated"
                raise InputError(
                    f"no threshold {wanted!r}: the scorer {self.scorer} {known}; give a number from 0 to 1, or "
                    "calibrate one with `thresher calibrate context`"
                )
            return self.presets[wanted]
        if not 0 <= wanted <= 1:
            raise InputError(f"threshold={wanted}: give a score of 0 to 1, or the name of a preset")
        return float(wanted)


def select_by_score(
    scores: Scores,
    count_tokens: Callable[[str], int],
    *,
    threshold: float | str = "balanced",
    max_tokens: int | None = None,
    keep_title: bool = True,
    min_keep: int = 0,
    ellipsis: str = "",
) -> list[PrunedPassage]:
    """The sentences that reach the threshold; arguments, result and errors as `ContextPruner.prune`."""
    limit = scores.threshold(threshold)
    if max_tokens is not None and max_tokens < 0:
        raise InputError(f"max_tokens={max_tokens}: give 0 or more, or None for no limit")
    if min_keep < 0:
        raise InputError(f"min_keep={min_keep}: give the least number of sentences to keep, 0 or more")
    rows, look = scores.passages, _Look(count_tokens, keep_title, ellipsis)
    wanted = _ranked(rows, limit, min_keep)
    if max_tokens is not None:
        fits = lambda n: look.cost(rows, _flags(rows, wanted[:n])) <= max_tokens  # noqa: E731
        wanted = wanted[: largest_prefix(len(wanted), fits)]
    return [look.pruned(row, keep, limit) for row, keep in zip(rows, _flags(rows, wanted), strict=True)]


@dataclass(frozen=True, slots=True)
class _Look:
    """How what is kept is put together, and what it costs."""

    count_tokens: Callable[[str], int]
    keep_title: bool
    ellipsis: str

    def cost(self, rows: Sequence[ScoredPassage], keep: Sequence[tuple[bool, ...]]) -> int:
        """Tokens of all passages."""
        return sum(self.cost_of(row, flags) for row, flags in zip(rows, keep, strict=True))

    def cost_of(self, row: ScoredPassage, keep: tuple[bool, ...]) -> int:
        """Tokens of one passage."""
        if not any(keep):
            return 0
        text = cut(row.text, _spans(row, keep), self.ellipsis)
        text = f"{row.title}\n{text}" if self.keep_title and row.title else text
        return self.count_tokens(text) if text else 0

    def pruned(self, row: ScoredPassage, keep: tuple[bool, ...], limit: float) -> PrunedPassage:
        """The passage with the sentences flagged in `keep`."""
        whole = f"{row.title}\n{row.text}" if row.title else row.text
        return PrunedPassage(
            docno=row.docno,
            title=row.title if self.keep_title and any(keep) else "",
            original=row.text,
            spans=_spans(row, keep),
            sentences=row.sentences,
            scores=row.scores,
            keep=keep,
            relevance=row.relevance,
            threshold=limit,
            ellipsis=self.ellipsis if any(keep) else "",
            tokens=self.cost_of(row, keep),
            original_tokens=self.count_tokens(whole) if whole else 0,
        )


def _ranked(rows: Sequence[ScoredPassage], limit: float, min_keep: int) -> list[tuple[int, int]]:
    """(passage, sentence) of all that pass, best first; ties in document order."""
    chosen = []
    for number, row in enumerate(rows):
        best = {i for _, i in sorted((-score, i) for i, score in enumerate(row.scores))[:min_keep]}
        chosen += [(number, i) for i, score in enumerate(row.scores) if score >= limit or i in best]
    return sorted(chosen, key=lambda at: (-rows[at[0]].scores[at[1]], at))


def _flags(rows: Sequence[ScoredPassage], wanted: Sequence[tuple[int, int]]) -> list[tuple[bool, ...]]:
    chosen = set(wanted)
    return [tuple((number, i) in chosen for i in range(len(row.scores))) for number, row in enumerate(rows)]


def _spans(row: ScoredPassage, keep: tuple[bool, ...]) -> tuple[Span, ...]:
    """What is kept of a passage; a passage without a sentence has nothing to keep."""
    return kept_spans(len(row.text), row.sentences, keep) if keep else ()


@dataclass(frozen=True, slots=True)
class Selection:
    """What `select_by_gain` took, and why no more.

    Attributes:
        passages: those of which something was taken, the most relevant first.
        pruned: all of them in the order they were given; nothing is kept of those of which nothing was taken.
        tokens: what they cost together.
        taken: sentences taken.
        repeated: relevant sentences dropped because their content had been taken already.
        stopped: `gain` (the next sentence would add too little), `budget`, or `end` (everything was taken).
    """

    passages: tuple[PrunedPassage, ...]
    pruned: tuple[PrunedPassage, ...]
    tokens: int
    taken: int
    repeated: int
    stopped: str


@dataclass(slots=True)
class _Candidate:
    passage: int
    sentence: int
    worth: float
    tokens: int
    terms: frozenset[str]
    needed: bool = False
    repeated: float = 0.0

    @property
    def gain(self) -> float:
        return self.worth * (1 - self.repeated)


def select_by_gain(
    pruned: Sequence[PrunedPassage],
    count_tokens: Callable[[str], int],
    *,
    max_tokens: int | None = None,
    min_gain: float = 0.05,
    thrift: float = 0.3,
    temperature: float = 4.0,
    min_keep: int = 0,
    whole: Collection[int] = (),
) -> Selection:
    """Take sentences one at a time by gain for their cost (see the module).

    Args:
        pruned: passages of one query, as `select_by_score` gives them without a limit on tokens; only sentences they
            keep compete.
        count_tokens: how many tokens a text costs.
        max_tokens: budget for all that is handed over, titles included; never exceeded.
        min_gain: stop below this expected gain, 0 to 1.
        thrift: 0 ignores what a sentence costs, 1 counts gain per token.
        temperature: relevance is divided by this before the logistic: what difference in relevance matters.
        min_keep: take at least this many sentences of each passage (its best) as far as the budget goes, whatever their
            gain.
        whole: positions in `pruned` of passages to take all sentences of, as far as the budget goes.

    Raises:
        InputError: an argument is out of range.
    """
    if not 0 <= min_gain <= 1 or thrift < 0 or temperature <= 0 or min_keep < 0:
        raise InputError(
            f"min_gain={min_gain} (0 to 1), thrift={thrift} (0 or more), temperature={temperature} (above 0), "
            f"min_keep={min_keep} (0 or more)"
        )
    candidates = _candidates(pruned, count_tokens, temperature)
    _mark_needed(candidates, min_keep, whole)
    kept: list[set[int]] = [set() for _ in pruned]
    costs = [0] * len(pruned)
    taken = 0
    stopped = "end"
    while candidates:
        able = [c for c in candidates if c.needed or (c.gain >= min_gain and c.gain > 0)]
        if not able:
            stopped = "gain"
            break
        best = max(able, key=lambda c: (c.needed, c.gain / max(c.tokens, 8) ** thrift, -c.passage, -c.sentence))
        candidates.remove(best)
        cost = count_tokens(_with(pruned[best.passage], kept[best.passage] | {best.sentence}).contents)
        if max_tokens is not None and sum(costs) - costs[best.passage] + cost > max_tokens:
            stopped = "budget"
            continue
        kept[best.passage].add(best.sentence)
        costs[best.passage] = cost
        taken += 1
        for other in candidates:
            if other.terms:
                other.repeated = max(other.repeated, len(other.terms & best.terms) / len(other.terms))
    repeated = sum(c.worth >= min_gain > c.gain for c in candidates)
    after = tuple(replace(_with(one, kept[n]), tokens=costs[n]) for n, one in enumerate(pruned))
    order = sorted((n for n in range(len(pruned)) if kept[n]), key=lambda n: (-pruned[n].relevance, n))
    return Selection(tuple(after[n] for n in order), after, sum(costs), taken, repeated, stopped)


def _mark_needed(candidates: Sequence[_Candidate], min_keep: int, whole: Collection[int]) -> None:
    """Mark the candidates that are taken whatever their gain: `min_keep` of each passage, all of those in `whole`."""
    for number in {candidate.passage for candidate in candidates}:
        own = [candidate for candidate in candidates if candidate.passage == number]
        best = own if number in whole else sorted(own, key=lambda c: (-c.worth, c.sentence))[:min_keep]
        for candidate in best:
            candidate.needed = True


def _candidates(
    pruned: Sequence[PrunedPassage], count_tokens: Callable[[str], int], temperature: float
) -> list[_Candidate]:
    terms = analyzer("english")
    top = max((p.relevance for p in pruned), default=0.0)
    out = []
    for number, passage in enumerate(pruned):
        # 2 x logistic: the most relevant passage's sentences are worth their scores
        weight = 2 / (1 + math.exp(min(50.0, (top - passage.relevance) / temperature)))
        for place, (span, score) in enumerate(zip(passage.sentences, passage.scores, strict=True)):
            if passage.keep[place]:
                text = passage.original[span.start : span.end]
                out.append(_Candidate(number, place, weight * score, count_tokens(text), frozenset(terms(text))))
    return out


def _with(passage: PrunedPassage, chosen: set[int]) -> PrunedPassage:
    """The passage with those sentences kept."""
    keep = tuple(place in chosen for place in range(len(passage.sentences)))
    spans = kept_spans(len(passage.original), passage.sentences, keep)
    text = cut(passage.original, spans, passage.ellipsis)
    return replace(
        passage,
        keep=keep,
        spans=spans,
        title=passage.title if chosen else "",
        ellipsis=passage.ellipsis if chosen else "",
        tokens=len(text),
    )
