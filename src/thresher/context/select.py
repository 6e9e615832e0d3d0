"""Which sentences of scored passages are kept: by a threshold on their scores, or by what each adds for its cost.

What belongs together (`thresher.context.structure`) is kept together: scores are raised to those of what they are tied
to before anything is compared with a threshold.

`select_by_score` keeps what reaches the threshold; under a budget, the highest scores first.

`select_by_gain` lets the number of passages follow from the query, in the manner of the Dynamic Passage Selector (Meng
and others, arXiv 2508.09497), but by a greedy rule over calibrated scores rather than a trained language model:

    gain(s) = score(s) * p(passage of s) * (1 - repeated(s)),        value(s) = gain(s) / max(tokens(s), 8) ** `thrift`

where p(passage) is the logistic of its relevance less the best relevance, and repeated(s) is the largest share of the
sentence's distinct terms that one kept sentence already holds, where that is at least `REPEATED`, else 0: repetition
costs tokens and adds nothing. Code, a row or a list item that differs in one word says something else, so those repeat
only what is the same. Of two
sentences that repeat each other, the one in the passage that ranks higher is taken. It stops when the best remaining
gain is below `min_gain`, or when nothing that remains fits the budget. The greedy rule for a submodular gain under a
budget is that of Lin and Bilmes (NAACL 2010).

A budget holds for the text that is handed over, `join_passages`: titles, ellipses and the lines between passages.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.context.pruned import PrunedPassage, ScoredPassage, Scores, counted, join_passages
from thresher.context.spans import cut, kept_spans, largest_prefix
from thresher.context.structure import find_ties
from thresher.errors import InputError
from thresher.text.analyzer import analyzer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from thresher.records import Span

REPEATED = 0.75
"""A sentence of which a kept one holds a smaller share says something new."""
_TWINS = 0.8
"""Two sentences repeat each other where each holds this share of the other's terms."""
_RECOUNTS = 64
"""How often `select_by_gain` counts all that it has taken, where sums of the sentences' tokens exceed the budget."""


def select_by_score(
    scores: Scores,
    count_tokens: Callable[[str], int],
    *,
    threshold: float | str = "balanced",
    max_tokens: int | None = None,
    keep_title: bool = True,
    min_keep: int = 0,
    ellipsis: str = "",
    favoured: Collection[int] = (),
) -> list[PrunedPassage]:
    """The sentences that reach the threshold; arguments, result and errors as `ContextPruner.prune`.

    Of the passages at the `favoured` positions the best sentence is kept whatever it scores.
    """
    limit = scores.threshold(threshold)
    if max_tokens is not None and not _is_count(max_tokens):
        raise InputError(f"max_tokens={max_tokens!r}: give a whole number, 0 or more, or None for no limit")
    if not _is_count(min_keep):
        raise InputError(f"min_keep={min_keep!r}: give the least number of sentences to keep, 0 or more")
    look = _Look(scores.passages, count_tokens, keep_title, ellipsis, limit)
    wanted = look.ranked([max(min_keep, int(place in favoured)) for place in range(len(scores.passages))])
    if max_tokens is not None:
        wanted = wanted[: largest_prefix(len(wanted), lambda n: look.cost(wanted[:n]) <= max_tokens)]
    return look.pruned(wanted)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class _Look:
    """How what is kept of passages is put together, and what it costs."""

    def __init__(
        self,
        rows: Sequence[ScoredPassage],
        count_tokens: Callable[[str], int],
        keep_title: bool,
        ellipsis: str,
        limit: float,
    ) -> None:
        self.rows, self.count_tokens, self.limit = rows, count_tokens, limit
        self.keep_title, self.ellipsis = keep_title, ellipsis
        self.ties = [find_ties(row.text, row.sentences) for row in rows]
        self.tied = [ties.tied(row.scores) for ties, row in zip(self.ties, rows, strict=True)]

    def ranked(self, min_keep: Sequence[int]) -> list[tuple[int, int]]:
        """(passage, sentence) of all that pass, best first; ties in document order. `min_keep` is by passage."""
        chosen = []
        for number, scores in enumerate(self.tied):
            ties = self.ties[number]
            able = sorted((-score, i) for i, score in enumerate(scores) if i not in ties.headings)
            best = ties.with_needed({i for _, i in able[: min_keep[number]]})
            chosen += [(number, i) for i, score in enumerate(scores) if score >= self.limit or i in best]
        return sorted(chosen, key=lambda at: (-self.tied[at[0]][at[1]], at))

    def cost(self, wanted: Sequence[tuple[int, int]]) -> int:
        """Tokens of all passages together, as they are handed over."""
        shown = [self._shown(number, keep)[0] for number, keep in enumerate(self._flags(wanted)) if any(keep)]
        return counted(self.count_tokens, "\n\n".join(shown))

    def pruned(self, wanted: Sequence[tuple[int, int]]) -> list[PrunedPassage]:
        """The passages with the `wanted` sentences."""
        return [self._pruned(number, keep) for number, keep in enumerate(self._flags(wanted))]

    def _flags(self, wanted: Sequence[tuple[int, int]]) -> list[tuple[bool, ...]]:
        chosen: list[set[int]] = [set() for _ in self.rows]
        for number, place in wanted:
            chosen[number].add(place)
        held = [
            mine if self.limit <= 0 and len(mine) == len(row.scores) else ties.without_lone_headings(mine)
            for ties, mine, row in zip(self.ties, chosen, self.rows, strict=True)
        ]
        return [
            tuple(place in mine for place in range(len(row.scores))) for row, mine in zip(self.rows, held, strict=True)
        ]

    def _shown(self, number: int, keep: tuple[bool, ...]) -> tuple[str, tuple[Span, ...]]:
        """What is kept of a passage with its title, and its spans; a passage without a sentence has nothing to keep."""
        row = self.rows[number]
        spans = kept_spans(len(row.text), row.sentences, keep) if keep else ()
        text = cut(row.text, spans, self.ellipsis) if any(keep) else ""
        return (f"{row.title}\n{text}" if self.keep_title and row.title and any(keep) else text), spans

    def _pruned(self, number: int, keep: tuple[bool, ...]) -> PrunedPassage:
        row = self.rows[number]
        shown, spans = self._shown(number, keep)
        return PrunedPassage(
            docno=row.docno,
            title=row.title if self.keep_title and any(keep) else "",
            original=row.text,
            spans=spans,
            sentences=row.sentences,
            scores=row.scores,
            keep=keep,
            relevance=row.relevance,
            threshold=self.limit,
            ellipsis=self.ellipsis if any(keep) else "",
            tokens=counted(self.count_tokens, shown),
            original_tokens=counted(self.count_tokens, f"{row.title}\n{row.text}" if row.title else row.text),
            ties=self.ties[number],
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """What `select_by_gain` took, and why no more.

    Attributes:
        passages: those of which something was taken, the most relevant first.
        pruned: all of them in the order they were given; nothing is kept of those of which nothing was taken.
        tokens: what `pruned` costs, as `join_passages` joins it.
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
    favoured: Collection[int] = (),
) -> Selection:
    """Take sentences one at a time by gain for their cost (see the module), each with those that it needs.

    Args:
        pruned: passages of one query, the best first, as `select_by_score` gives them without a limit on tokens; only
            sentences they keep compete.
        count_tokens: how many tokens a text costs.
        max_tokens: budget for all that is handed over, titles and the lines between passages included; never exceeded.
        min_gain: stop below this expected gain, 0 to 1.
        thrift: 0 ignores what a sentence costs, 1 counts gain per token.
        temperature: relevance is divided by this before the logistic: what difference in relevance matters.
        min_keep: take at least this many sentences of each passage (its best) as far as the budget goes, whatever their
            gain.
        whole: positions in `pruned` of passages to take all sentences of, as far as the budget goes.
        favoured: positions of passages to take the best sentence of, as far as the budget goes.

    Raises:
        InputError: an argument is out of range.
    """
    if not 0 <= min_gain <= 1 or not thrift >= 0 or not temperature > 0 or not _is_count(min_keep):
        raise InputError(
            f"min_gain={min_gain} (0 to 1), thrift={thrift} (0 or more), temperature={temperature} (above 0), "
            f"min_keep={min_keep} (0 or more)"
        )
    pool = _Pool(pruned, count_tokens, temperature, thrift, min_gain)
    pool.mark_needed(min_keep, whole, favoured)
    stopped = pool.take_all(max_tokens)
    taken = pool.taken
    if max_tokens is not None:
        taken = taken[: largest_prefix(len(taken), lambda n: pool.tokens(pool.with_taken(taken[:n])) <= max_tokens)]
    after = pool.with_taken(taken)
    order = sorted((n for n, one in enumerate(after) if one.spans), key=lambda n: (-after[n].relevance, n))
    return Selection(
        tuple(after[n] for n in order), tuple(after), pool.tokens(after), len(taken), pool.repeats(), stopped
    )


class _Pool:
    """The sentences that compete, as arrays in the order of passages and sentences."""

    def __init__(
        self,
        pruned: Sequence[PrunedPassage],
        count_tokens: Callable[[str], int],
        temperature: float,
        thrift: float,
        min_gain: float,
    ) -> None:
        self.pruned, self.count_tokens, self.min_gain = pruned, count_tokens, min_gain
        self.at = [(n, i) for n, one in enumerate(pruned) for i, kept in enumerate(one.keep) if kept]
        self.row_of = {at: row for row, at in enumerate(self.at)}
        top = max((one.relevance for one in pruned), default=0.0)
        # 2 x logistic: the most relevant passage's sentences are worth their scores
        weights = [2 / (1 + math.exp(min(50.0, (top - one.relevance) / temperature))) for one in pruned]
        tied = [one.ties.tied(one.scores) for one in pruned]
        self.worth = np.array([weights[n] * tied[n][i] for n, i in self.at], np.float64)
        self.cost = [counted(count_tokens, self._slice(n, i)) for n, i in self.at]
        self.weigh = np.maximum(np.array(self.cost, np.float64), 8.0) ** thrift
        terms = analyzer("english")
        exact = [set(one.ties.exact) for one in pruned]
        self.terms = [
            [" ".join(self._slice(n, i).split())] if i in exact[n] else sorted(set(terms(self._slice(n, i))))
            for n, i in self.at
        ]
        self.sizes = np.array([len(mine) for mine in self.terms], np.float64)
        holders = defaultdict(list)
        for row, mine in enumerate(self.terms):
            for term in mine:
                holders[term].append(row)
        self.holders = {term: np.array(rows, np.int64) for term, rows in holders.items()}
        self.repeated = np.zeros(len(self.at))
        self.open = np.ones(len(self.at), bool)
        self.needed = np.zeros(len(self.at), bool)
        self.whole: Collection[int] = ()
        self.taken: list[tuple[int, int]] = []
        self._number = np.array([n for n, _ in self.at], np.int64)
        self._begun: set[int] = set()
        self._is_taken = np.zeros(len(self.at), bool)
        self._gap = counted(count_tokens, "\n\n")

    def _slice(self, number: int, place: int) -> str:
        """A sentence with the white space after it, as it costs."""
        one = self.pruned[number]
        last = place + 1 == len(one.sentences)
        end = one.sentences[place].end if last else one.sentences[place + 1].start
        return one.original[one.sentences[place].start : end]

    def mark_needed(self, min_keep: int, whole: Collection[int], favoured: Collection[int]) -> None:
        """Mark what is taken whatever its gain: `min_keep` of each passage, one of the favoured, all of the whole."""
        self.whole = whole
        rows: dict[int, list[int]] = defaultdict(list)
        for row, (number, _) in enumerate(self.at):
            rows[number].append(row)
        for number, mine in rows.items():
            least = max(min_keep, int(number in favoured))
            able = (row for row in mine if self.at[row][1] not in self.pruned[number].ties.headings)
            best = mine if number in whole else sorted(able, key=lambda row: (-self.worth[row], row))[:least]
            self.needed[best] = True

    def take_all(self, max_tokens: int | None) -> str:
        """Fill `taken` in the order of value; returns why it stopped."""
        spent, recounts, stopped = 0, 0, "end"
        while self.open.any():
            gain = self.worth * (1 - self.repeated)
            able = self.open & (self.needed | ((gain >= self.min_gain) & (gain > 0)))
            if not able.any():
                return "gain"
            first = able & self.needed
            value = np.where(first if first.any() else able, gain / self.weigh, -1.0)
            row = self._better_twin(int(value.argmax()), able, gain)
            bundle = self._bundle(row)
            spent += self._cost(bundle)
            if max_tokens is not None and spent > max_tokens:
                fits = recounts < _RECOUNTS
                if fits:
                    recounts += 1
                    exact = self.tokens(self.with_taken([*self.taken, *(self.at[r] for r in bundle)]))
                    fits = exact <= max_tokens
                if not fits:
                    spent -= self._cost(bundle)
                    self.open[row] = False
                    stopped = "budget"
                    continue
                spent = exact
            self.taken += [self.at[r] for r in bundle]
            self._begun.add(self.at[row][0])
            for r in bundle:
                self.open[r], self._is_taken[r] = False, True
                self.repeated = np.maximum(self.repeated, self._share_of(r))
        return stopped

    def _share_of(self, row: int) -> NDArray[np.float64]:
        """The share of each sentence's terms that the sentence of `row` holds."""
        shared = np.zeros(len(self.at))
        for term in self.terms[row]:
            shared[self.holders[term]] += 1
        share = shared / np.maximum(self.sizes, 1)
        return np.where(share >= REPEATED, share, 0.0)

    def _better_twin(self, row: int, able: NDArray[np.bool_], gain: NDArray[np.float64]) -> int:
        """The sentence of a better passage that this one would displace by repeating it; else this one."""
        better = able & (self._number < self.at[row][0])
        if self.needed[row] or not better.any():
            return row
        share = self._share_of(row)
        alike = (share >= _TWINS) & (share * self.sizes >= _TWINS * self.sizes[row])
        twins = np.flatnonzero(better & alike & (self.worth * (1 - share) < self.min_gain))
        return int(twins[0]) if len(twins) else row

    def _bundle(self, row: int) -> list[int]:
        """The row and those that it needs and that are not taken yet, in document order."""
        number, first = self.at[row]
        places = sorted(self.pruned[number].ties.with_needed({first}))
        rows = [self.row_of[number, place] for place in places if (number, place) in self.row_of]
        return [other for other in rows if other == row or not self._is_taken[other]]

    def _cost(self, bundle: Sequence[int]) -> int:
        number = self.at[bundle[0]][0]
        tokens = sum(self.cost[row] for row in bundle)
        if number not in self._begun:
            title = self.pruned[number].title
            tokens += (counted(self.count_tokens, f"{title}\n") if title else 0) + (self._gap if self.taken else 0)
        return tokens

    def with_taken(self, taken: Sequence[tuple[int, int]]) -> list[PrunedPassage]:
        """The passages with those sentences kept."""
        chosen: list[set[int]] = [set() for _ in self.pruned]
        for number, place in taken:
            chosen[number].add(place)
        return [
            self._with(
                one,
                mine if number in self.whole and len(mine) == len(one.scores) else one.ties.without_lone_headings(mine),
            )
            for number, (one, mine) in enumerate(zip(self.pruned, chosen, strict=True))
        ]

    def _with(self, passage: PrunedPassage, chosen: set[int]) -> PrunedPassage:
        keep = tuple(place in chosen for place in range(len(passage.sentences)))
        spans = kept_spans(len(passage.original), passage.sentences, keep) if chosen else ()
        after = replace(
            passage,
            keep=keep,
            spans=spans,
            title=passage.title if chosen else "",
            ellipsis=passage.ellipsis if chosen else "",
        )
        return replace(after, tokens=counted(self.count_tokens, after.contents))

    def tokens(self, passages: Sequence[PrunedPassage]) -> int:
        """What passages cost as they are handed over."""
        return counted(self.count_tokens, join_passages(passages))

    def repeats(self) -> int:
        """Sentences that would be worth taking, but for what has been taken."""
        gain = self.worth * (1 - self.repeated)
        return int((self.open & (self.worth >= self.min_gain) & (gain < self.min_gain)).sum())
