"""`Effort`: how much of a search is done, where less than the exact answer is wanted.

    index.search("what is wifi", 10, effort=Effort(terms=10, candidates=100))

Every field's default asks for the exact answer. Two-step search (`terms`, `candidates`) is after Two-Step SPLADE (arXiv
2404.13357): the best passages by the heaviest query terms are scored again, exactly, by the whole query. `blocks` and
`superblocks` (the cap of arXiv 2602.02883) limit which blocks are scored by bounds, so they change nothing where a plan
scores everything. `postings` is the budget of score-at-a-time search (JASS: Lin and Trotman, ICTIR 2015), spent on
whole lists.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from functools import cached_property

from thresher.checks import is_a, real, shown, whole
from thresher.errors import InputError
from thresher.search.kernels.types import FOREVER, Limits

UNLIMITED = 2**40
"""A number of terms or superblocks that cuts nothing."""
LONGEST = 1e12
"""Milliseconds of the longest deadline: thirty years."""


@dataclass(frozen=True)
class Effort:
    """Limits to what a search does; without any the answer is exact.

    Attributes:
        terms: query terms that are scored, the heaviest; None for all.
        candidates: this number of the best passages by these terms, and at least as many as hits are wanted, are scored
            again by the whole query, so that their scores are true ones. 0: scores are those of the terms alone.
        blocks: what bounds of blocks are multiplied by before they are compared with the threshold, in (0, 1]; below 1,
            blocks that are unlikely to matter are skipped.
        superblocks: superblocks that are visited at most, those with the best bounds; None for all that may matter.
        postings: share of the postings in the query's lists that is scored at most, in (0, 1], heaviest terms first and
            at least one list; None for all.
        left_out: terms are left out while all of them together add at most this share of the bound of a score (the sum
            of weight x largest impact), in [0, 1); 0 for no term.

    Raises:
        InputError: a field is out of range.
    """

    terms: int | None = None
    candidates: int = 0
    blocks: float = 1.0
    superblocks: int | None = None
    postings: float | None = None
    left_out: float = 0.0

    def __post_init__(self) -> None:
        for name in ("terms", "superblocks"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole(f"the effort's {name}", getattr(self, name), 1))
        object.__setattr__(self, "candidates", whole("the effort's candidates", self.candidates))
        object.__setattr__(self, "blocks", _share("blocks", self.blocks))
        if self.postings is not None:
            object.__setattr__(self, "postings", _share("postings", self.postings))
        object.__setattr__(self, "left_out", real("the effort's left_out", self.left_out, 0, 1))
        if self.left_out == 1:
            raise InputError("the effort's left_out must be below 1, since some term has to be scored; got 1.0")

    @classmethod
    def parse(cls, text: str) -> Effort:
        """The effort that `NAME=VALUE` says, several with commas between them: `terms=10,candidates=100`.

        Raises:
            InputError: there is no such field, a field is named twice, or a value is out of range.
        """
        found: dict[str, int | float] = {}
        if not is_a(text, str):
            raise InputError(f"an effort is read from a text NAME=VALUE,…; got {shown(text)}")
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if name not in NAMES or not equals or name in found:
                raise InputError(
                    f"{shown(part)} in the effort {shown(text)} is not NAME=VALUE with one of the names "
                    f"{', '.join(NAMES)}, each once"
                )
            try:
                found[name] = float(value) if name in ("blocks", "postings", "left_out") else int(value)
            except ValueError as err:
                raise InputError(f"the effort's {name} must be a number; got {shown(value)}") from err
        return cls(**found)  # type: ignore[arg-type]  # by the names, whole numbers or shares

    def __str__(self) -> str:
        """What `parse` reads; empty for the exact answer."""
        set_ = {name: getattr(self, name) for name in NAMES}
        return ",".join(f"{name}={value}" for name, value in set_.items() if value != getattr(EXACT, name))

    @cached_property
    def limits(self) -> Limits:
        """The same for the query processor."""
        return Limits(
            UNLIMITED if self.terms is None else min(self.terms, UNLIMITED),
            min(self.candidates, UNLIMITED),
            self.blocks,
            UNLIMITED if self.superblocks is None else min(self.superblocks, UNLIMITED),
            1.0 if self.postings is None else self.postings,
            self.left_out,
        )


def _share(name: str, value: object) -> float:
    found = real(f"the effort's {name}", value, 0, 1)
    if found == 0:
        raise InputError(f"the effort's {name} must be above 0 and at most 1; got {value!r}")
    return found


NAMES = tuple(field.name for field in fields(Effort))
EXACT = Effort()
"""No limit."""
EXACT_LIMITS = EXACT.limits


def deadline_after(milliseconds: object) -> int:
    """The argument `deadline_ms` of a search, that many milliseconds from now, as the query processor takes it.

    Raises:
        InputError: it is not a number, or below 0.
    """
    if milliseconds is None or (isinstance(milliseconds, float) and milliseconds == float("inf")):
        return FOREVER
    wait = real("deadline_ms, where it is not None for no deadline,", milliseconds, 0, LONGEST)
    return now() + int(wait * 1e6)


def now() -> int:
    """Nanoseconds by the clock that the query processor reads."""
    clock = getattr(time, "CLOCK_MONOTONIC", None)
    return time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)


def checked_effort(value: object) -> Effort:
    """The argument `effort` of a search; exact for None.

    Raises:
        InputError: it is no `Effort`.
    """
    if value is None:
        return EXACT
    if not isinstance(value, Effort):
        raise InputError(f"effort must be an Effort, or None for the exact answer; got {shown(value)}")
    return value
