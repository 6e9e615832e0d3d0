"""How many passages, and which sentences of them, under one budget: selection instead of a fixed top k.

In the manner of the Dynamic Passage Selector (Meng and others, arXiv 2508.09497), which lets the number of passages
follow from the query; but by a stated greedy rule over calibrated scores rather than a trained language model.
Sentences are taken one at a time by marginal value for their cost,

    gain(s) = score(s) * p(passage of s) * (1 - repeated(s)),        value(s) = gain(s) / max(tokens(s), 8) ** `thrift`

where p(passage) is the logistic of its relevance less the best relevance, and repeated(s) is the largest share of the
sentence's distinct terms that one kept sentence already holds: what repeats costs tokens and brings nothing. Taking
stops when the best remaining gain is under `min_gain`, or when nothing that remains fits the budget; of a passage of
which nothing was taken, nothing is handed over. The greedy rule for a submodular gain under a budget is that of
Lin and Bilmes (NAACL 2010).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thresher.context.spans import cut, kept_spans
from thresher.errors import InputError
from thresher.text.analyzer import analyzer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from thresher.context.pruner import PrunedPassage


@dataclass(frozen=True, slots=True)
class Selection:
    """Passages to hand to the reader, and why no more.

    Attributes:
        passages: those of which something was taken, the most relevant first.
        pruned: all of them in the order they were given, nothing being kept of those that were left out.
        tokens: what they cost together, by the reader's count.
        taken: sentences taken.
        repeated: sentences left out that would have been taken, had their content not been there already.
        stopped: `gain` (the next sentence would bring too little), `budget`, or `end` (everything was taken).
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


def select(
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
    """Choose what to hand over of passages that a `ContextPruner` has scored (with threshold 0, so that all compete).

    Args:
        pruned: scored passages of one query; only sentences they keep compete.
        count_tokens: the reader's tokenizer.
        max_tokens: budget for all that is handed over, titles included; never exceeded.
        min_gain: stop under this expected gain, 0 to 1.
        thrift: 0 ignores what a sentence costs, 1 counts gain per token.
        temperature: relevance is divided by this before the logistic: what difference in relevance matters.
        min_keep: take at least so many sentences of each passage (its best) as far as the budget goes, whatever they
            bring.
        whole: places in `pruned` of passages to take all sentences of, as far as the budget goes.

    Raises:
        InputError: an argument is out of its range.
    """
    if not 0 <= min_gain <= 1 or thrift < 0 or temperature <= 0 or min_keep < 0:
        raise InputError(
            f"min_gain={min_gain} (0 to 1), thrift={thrift} (0 or more), temperature={temperature} (above 0), "
            f"min_keep={min_keep} (0 or more)"
        )
    candidates = _candidates(pruned, count_tokens, temperature)
    for candidate in candidates:
        candidate.needed = candidate.passage in whole
    for number in range(len(pruned)) if min_keep else ():
        own = [c for c in candidates if c.passage == number]
        for candidate in sorted(own, key=lambda c: (-c.worth, c.sentence))[:min_keep]:
            candidate.needed = True
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
