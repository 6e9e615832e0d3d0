"""Results in both of their forms, cut by passages, and within passages by sentences, until they fit a number of tokens.

Which part of a result a client shows its model is the client's choice, so both must fit: the structured content, and
the text in which quotations stand between tags. A result is made with more or less of the passages and measured, by
bisection, until the most that fits is found.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast

from thresher.context.spans import cut, largest_prefix
from thresher.records import Span
from thresher.serve.mcp.results import (
    NOTICE,
    AskResult,
    ExpandResult,
    Fence,
    IndexInfo,
    LeftOut,
    PassagesResult,
    Quoted,
    QuotedNames,
    Ranked,
    RerankResult,
    ShownPassage,
    neutral,
)
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thresher.serve.mcp.results import Metadata, Scalar

    AnyResult = PassagesResult | AskResult | RerankResult

GAP = "[…] "
"""Stands for text that is not shown."""
_LONGEST = 160
"""Characters of a piece; longer sentences are divided, at white space where there is some."""
_READ = 50_000
"""Characters of a passage that is cut: a result shows no more of it, so no more is divided into sentences."""
_LEAST = 20
"""Tokens that a passage takes at least, so that no more are tried than can fit."""

Spread = Literal["evenly", "from the first"]
Choice = list[tuple["Draft", tuple[Span, ...]]]
"""Passages with what is shown of each."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A passage that a result may show.

    Attributes:
        docno: its identifier.
        title: its title.
        text: the whole text.
        spans: what may be shown of it.
        handle: a handle of what is not shown, by what is.
        score: of the ranking.
        confidence: that one of its sentences helps.
        metadata: fields to show.
        reference: the text by which tokens that are not shown are counted; by default the whole text.
        trial: stands for the handle while results are measured, where each handle that is given costs something.
    """

    docno: str
    title: str
    text: str
    spans: tuple[Span, ...]
    handle: Callable[[tuple[Span, ...]], str]
    score: float | None = None
    confidence: float | None = None
    metadata: Metadata = field(default_factory=dict)
    reference: str | None = None
    trial: str = ""

    @property
    def measured(self) -> str:
        """The text by which tokens that are not shown are counted."""
        return self.text if self.reference is None else self.reference

    @cached_property
    def pieces(self) -> tuple[Span, ...]:
        """What may be shown in small pieces, which together are `spans`, or the first of them in a long text."""
        end = self.spans[0].start + _READ if self.spans else 0
        starts = [one.start for one in split_sentences(self.text[:end])]
        found: list[Span] = []
        for span in (Span(one.start, min(one.end, end)) for one in self.spans if one.start < end):
            edges = [span.start, *(start for start in starts if span.start < start < span.end), span.end]
            for start, end in pairwise(edges):
                found += _divided(self.text, start, end)
        return tuple(found)

    def first(self, count: int) -> tuple[Span, ...]:
        """The spans of the first pieces."""
        return joined(self.pieces[:count])


def _divided(text: str, start: int, end: int) -> list[Span]:
    """Pieces of a sentence."""
    found: list[Span] = []
    while end - start > _LONGEST:
        blank = [place.end() for place in re.compile(r"\s+").finditer(text, start + _LONGEST // 2, start + _LONGEST)]
        middle = blank[-1] if blank else start + _LONGEST
        found.append(Span(start, middle))
        start = middle
    return [*found, Span(start, end)]


def joined(pieces: Sequence[Span]) -> tuple[Span, ...]:
    """Ascending spans, those that touch made one."""
    found: list[Span] = []
    for piece in pieces:
        if found and found[-1].end == piece.start:
            found[-1] = Span(found[-1].start, piece.end)
        else:
            found.append(piece)
    return tuple(found)


def shown_text(draft: Draft, spans: Sequence[Span]) -> str:
    """What is shown of a passage."""
    return cut(draft.text, spans, GAP).strip() if spans else ""


def fit(drafts: Sequence[Draft], spread: Spread, fits: Callable[[Choice], bool]) -> Choice:
    """The most that fits of some passages; those that are not in the choice are left out.

    Args:
        drafts: best first.
        spread: `evenly`, every passage is cut to the same length, so that many are seen; `from the first`, the first
            keep all, and the last are left out.
        fits: whether a result that shows this is small enough; it must not be for more if it is not for less.
    """
    whole: Choice = [(draft, draft.spans) for draft in drafts]
    if fits(whole):
        return whole

    def most(count: int, choice: Callable[[int], Choice]) -> Choice:
        return choice(largest_prefix(count, lambda n: fits(choice(n))))

    if spread == "from the first":
        return most(sum(len(draft.pieces) for draft in drafts), lambda n: _from_the_first(drafts, n))
    heads = most(len(drafts), lambda n: [(draft, draft.first(1)) for draft in drafts[:n]])
    longest = max((len(draft.pieces) for draft, _ in heads), default=0)
    return most(longest, lambda n: [(draft, draft.first(max(1, n))) for draft, _ in heads])


def _from_the_first(drafts: Sequence[Draft], count: int) -> Choice:
    found: Choice = []
    for draft in drafts:
        if count <= 0:
            break
        found.append((draft, draft.first(count)))
        count -= len(draft.pieces)
    return found


_NAMED, _NAME = 10, 60
"""Passages that are left out and named, at most, and characters of such a name."""
_FIELDS, _VALUE, _LIST = 20, 200, 20
"""Metadata fields that are shown, characters of a value, and values of a list."""


@dataclass(frozen=True)
class Shown:
    """A result.

    Attributes:
        text: for a model.
        structured: for a program, or a model.
    """

    text: str
    structured: dict[str, object]


@dataclass(frozen=True)
class Budget:
    """What a result may cost.

    Attributes:
        tokens: at most, of each of the two forms.
        count: tokens of a text.
    """

    tokens: int
    count: Callable[[str], int]
    _counted: dict[str, int] = field(default_factory=dict)

    def size(self, text: str) -> int:
        """Tokens of a text that is counted again and again."""
        if text not in self._counted:
            self._counted[text] = self.count(text)
        return self._counted[text]

    def allows(self, result: Shown) -> bool:
        """Whether both forms fit."""
        written = json.dumps(result.structured, ensure_ascii=False)
        return max(self.count(written), self.count(result.text)) <= self.tokens


def passages(
    drafts: Sequence[Draft], spread: Spread, budget: Budget, heading: str, make: Callable[..., AnyResult]
) -> Shown:
    """A result with as much of the passages as fits.

    Args:
        drafts: the passages, best first.
        spread: how they are cut.
        budget: what the result may cost.
        heading: what the text says before them.
        make: the structured content, given `passages` and `left_out`.
    """
    fence = Fence()

    def render(choice: Choice, final: bool = False) -> Shown:
        shown = [_passage(rank, draft, spans, budget, final) for rank, (draft, spans) in enumerate(choice, 1)]
        left = _left_out(drafts[len(choice) :], budget)
        parts = [heading, *([fence.told] if drafts else []), *(_quoted(fence, one) for one in shown)]
        if left.passages:
            parts.append(
                f"{left.passages} more did not fit max_tokens={budget.tokens}. Read one by its docno with expand, or "
                "ask for more tokens."
            )
        if left.quoted.docnos:
            parts.append(fence.around("\n".join(left.quoted.docnos)))
        return Shown("\n\n".join(parts), asdict(make(passages=shown, left_out=left)))

    tried = drafts[: 1 + budget.tokens // _LEAST]
    return render(fit(tried, spread, lambda choice: budget.allows(render(choice))), True)


def expansion(draft: Draft, index: str | None, budget: Budget, handle: str) -> Shown:
    """A result with as much of one passage as fits; `handle` stands for all of it."""
    fence = Fence()

    def render(choice: Choice, final: bool = False) -> Shown:
        spans = choice[0][1] if choice else ()
        one = _passage(1, draft, spans, budget, final)
        following = one.handle if choice else handle
        told = "Nothing of it is left to show." if not (one.quoted.text or one.omitted_tokens) else fence.told
        parts = [told, _quoted(fence, replace(one, handle=following))]
        if one.omitted_tokens and following:
            parts.append("This is not all of it: give its handle to expand to go on.")
        result = ExpandResult(NOTICE, index, following, one.omitted_tokens, one.quoted)
        return Shown("\n\n".join(parts), asdict(result))

    return render(fit([draft], "from the first", lambda choice: budget.allows(render(choice))), True)


def order(ranked: Sequence[Ranked], budget: Budget, make: Callable[..., AnyResult]) -> Shown:
    """The order of texts that were sent along, which are not repeated; the last are left out where it is too long."""

    def render(count: int) -> Shown:
        left = LeftOut(len(ranked) - count, QuotedNames([]))
        lines = [f"{one.rank}. text {one.position}, score {one.score:g}" for one in ranked[:count]]
        rest = f" ({left.passages} more did not fit max_tokens={budget.tokens})" if left.passages else ""
        head = f"The texts in order of relevance, by their positions from 0{rest}:"
        return Shown("\n".join([head, *lines]), asdict(make(order=list(ranked[:count]), passages=[], left_out=left)))

    return render(largest_prefix(len(ranked), lambda count: budget.allows(render(count))))


def information(info: IndexInfo, budget: Budget) -> Shown:
    """What an index holds; of many fields as many as fit, of each its frequent values if they fit."""
    fence = Fence()

    def render(fields: int, values: int) -> Shown:
        quoted = [replace(one, values=one.values[:values]) for one in info.quoted[:fields]]
        lines = [f"{one.name} ({one.type}): {json.dumps(one.values, ensure_ascii=False)}" for one in quoted]
        off = "; ".join(f"without {name}: {reason}" for name, reason in info.stages_off.items())
        parts = [
            f"Index {info.index}, commit {info.commit}: {info.passages:,} passages. Stages: {' > '.join(info.stages)}. "
            f"{off}",
            f"It has {info.fields} metadata fields. where: {info.where}",
            *([f"Certificate. {info.certificate}"] if info.certificate else []),
        ]
        if quoted:
            parts += [f"Fields, with frequent values. {fence.told}", fence.around("\n".join(lines))]
        return Shown("\n\n".join(parts), asdict(replace(info, quoted=quoted)))

    most = max((len(one.values) for one in info.quoted), default=0)
    fields = largest_prefix(len(info.quoted), lambda count: budget.allows(render(count, 0)))
    return render(fields, largest_prefix(most, lambda count: budget.allows(render(fields, count))))


def as_metadata(given: Mapping[str, object]) -> Metadata:
    """Metadata as results show it: simple values and lists of them, shortened."""
    found: Metadata = {}
    for name, value in given.items():
        if len(found) == _FIELDS:
            break
        if isinstance(value, list | tuple | set | frozenset):
            found[_short(name)] = [_short(str(one)) for one in list(value)[:_LIST]]
        elif value is not None:
            found[_short(name)] = _simple(value)
    return found


def _simple(value: object) -> Scalar:
    plain = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return cast("Scalar", value) if plain else _short(str(value))


def _short(text: str) -> str:
    text = neutral(text)
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"


def _passage(rank: int, draft: Draft, spans: tuple[Span, ...], budget: Budget, final: bool) -> ShownPassage:
    text = shown_text(draft, spans)
    measured, bare = draft.measured.strip(), cut(draft.text, spans).strip()
    omitted = 0 if bare == measured else max(1, budget.size(measured) - budget.count(bare))
    handle = "" if not omitted else draft.handle(spans) if final or not draft.trial else draft.trial
    return ShownPassage(
        rank,
        None if draft.score is None else round(draft.score, 4),
        draft.confidence,
        handle,
        omitted,
        Quoted(neutral(draft.docno), neutral(draft.title), neutral(text), dict(draft.metadata)),
    )


def _quoted(fence: Fence, one: ShownPassage) -> str:
    quoted, more = one.quoted, {}
    if one.score is not None:
        more["score"] = one.score
    if one.confidence is not None:
        more["confidence"] = one.confidence
    return fence.around(
        f"{quoted.title}\n{quoted.text}" if quoted.title else quoted.text,
        rank=one.rank,
        docno=quoted.docno,
        **more,
        omitted_tokens=one.omitted_tokens or "",
        handle=one.handle,
        metadata=quoted.metadata or "",
    )


def _left_out(drafts: Sequence[Draft], budget: Budget) -> LeftOut:
    names, spent = [], 0
    for draft in drafts[:_NAMED]:
        name = neutral(draft.docno)
        spent += budget.count(name)
        if name != draft.docno or len(name) > _NAME or spent > budget.tokens // 16:
            break
        names.append(name)
    return LeftOut(len(drafts), QuotedNames(names))
