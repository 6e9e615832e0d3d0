"""`RecallCurve`: from a promise ("99 % of the exact top k") to the `Effort` that a query needs.

    index.search("what is wifi", 10, recall=.99)

A curve is measured on queries (`thresher.search.recall_fit`) and kept in the index's commit. It has kinds of queries,
by their number of terms: short ones are often searched exactly, long ones are cut. A `Level` has an effort for each
kind, so that the mean over all queries keeps the promise at the least cost. Levels are in descending order of cost, the
first exact. What is promised of a level is a lower confidence bound of its mean recall; a promise takes the cheapest
level whose bound, and that of every dearer level, reaches it, and for as many queries as it allows the next cheaper
level: a mixture of two levels keeps the mixture of their bounds. Which queries these are is a hash of their terms, so
that a query is answered the same way every time.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from thresher.checks import is_a, shown
from thresher.errors import DamagedArtifactError, InputError
from thresher.publish import MANIFEST
from thresher.search.effort import EXACT, Effort

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from thresher.index.commit import Commit

FIELD = "recall"
"""The field of a commit that holds the curve."""
FORMAT = 1
STALE = 0.1
"""Share of the passages; where more were changed since the calibration, a promise is kept by searching exactly."""
KS = (10, 100, 1000)
"""Lengths of answers that are measured by default."""
CHANGES = ("added", "replaced", "deleted")
_AGAIN = "run `thresher calibrate recall` again"


@dataclass(frozen=True, slots=True)
class Level:
    """An effort for each kind of query, and what comes of them.

    Attributes:
        bound: lower confidence bound of the mean recall over all kinds.
        mean: the mean recall.
        ms: processor time of a query in milliseconds, mean over all kinds.
        efforts: of each kind.
        recalls: mean recall of each kind.
    """

    bound: float
    mean: float
    ms: float
    efforts: tuple[Effort, ...]
    recalls: tuple[float, ...]

    @property
    def exact(self) -> bool:
        """Whether nothing is cut for any kind."""
        return all(effort == EXACT for effort in self.efforts)


@dataclass(frozen=True, slots=True)
class Promise:
    """What was chosen for a promise: says the effort of each query.

    Attributes:
        longest: as of the curve.
        level: the cheapest level that keeps the promise.
        cheaper: the next level, which does not; None where there is none.
        share: of the queries that are searched by `cheaper`, in [0, 1].
    """

    longest: tuple[int, ...]
    level: Level
    cheaper: Level | None = None
    share: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether nothing is cut for any query."""
        return self.level.exact and not self.share

    @property
    def mean(self) -> float:
        """The mean recall of all queries that was measured."""
        return self._mixed(self.level.mean, 0.0 if self.cheaper is None else self.cheaper.mean)

    @property
    def ms(self) -> float:
        """Processor time of a query in milliseconds, mean over all queries."""
        return self._mixed(self.level.ms, 0.0 if self.cheaper is None else self.cheaper.ms)

    def effort(self, terms: NDArray[np.int64]) -> tuple[Effort, float]:
        """The effort for a query of these terms, and the mean recall of queries of its kind with this effort."""
        level = self.level
        if self.cheaper is not None and self.share and crc32(terms.tobytes()) < self.share * 2**32:
            level = self.cheaper
        kind = bisect_left(self.longest, len(terms))
        return level.efforts[kind], level.recalls[kind]

    def _mixed(self, dearer: float, cheaper: float) -> float:
        return dearer + self.share * (cheaper - dearer)


@dataclass(frozen=True, slots=True)
class RecallCurve:
    """What recall costs in one index.

    Attributes:
        longest: the most terms of a query of each kind but the last, ascending.
        levels: by k, in descending order of cost, the first exact; ks ascend.
        queries: that it was measured on.
        source: where they came from.
        passages: live passages then.
        changes: passages `added`, `replaced` and `deleted` before, since the build.
    """

    longest: tuple[int, ...]
    levels: Mapping[int, tuple[Level, ...]]
    queries: int
    source: str
    passages: int
    changes: Mapping[str, int] = field(default_factory=dict)

    @property
    def kinds(self) -> int:
        """How many kinds of queries there are."""
        return len(self.longest) + 1

    def at(self, k: int, recall: float) -> Promise | None:
        """The cheapest way to keep a promise for k passages: by the levels of the next larger k that was measured.

        None where k is larger than all of them: nothing is known there.
        """
        measured = next((one for one in self.levels if one >= k), None)
        return None if measured is None else Promise(self.longest, *cheapest(self.levels[measured], recall))

    def promise(self, k: int, recall: float, share: float = 1.0) -> Promise | None:
        """How to search for k passages with this recall; None for exactly.

        Args:
            k: passages wanted.
            recall: the share of the exact answer that is promised, on average.
            share: of the passages that may be returned, in (0, 1]. The k best of a share of them are about the
                k / share best of all, so that curve is taken.
        """
        found = self.at(math.ceil(k / share) if k else 0, recall) if share > 0 else None
        return None if found is None or found.exact else found

    def changed(self, commit: Commit) -> int:
        """Passages added, replaced and deleted in a commit since the calibration."""
        return sum(max(0, commit.changes.get(name, 0) - self.changes.get(name, 0)) for name in CHANGES)

    def stale(self, commit: Commit) -> str:
        """Why nothing can be promised of a commit any more; empty where it can."""
        changed = self.changed(commit)
        if changed <= STALE * self.passages:
            return ""
        return f"{changed:,} passages were changed since its recall was calibrated on {self.passages:,}"

    def as_json(self) -> dict[str, object]:
        """Plain JSON that `from_json` reads; efforts are named by their places in a list."""
        efforts = list(dict.fromkeys(e for levels in self.levels.values() for one in levels for e in one.efforts))
        place = {effort: number for number, effort in enumerate(efforts)}
        return {
            "format": FORMAT,
            "queries": self.queries,
            "source": self.source,
            "passages": self.passages,
            "changes": dict(self.changes),
            "longest": list(self.longest),
            "efforts": list(map(str, efforts)),
            "levels": {
                str(k): [
                    [one.bound, one.mean, one.ms, [place[e] for e in one.efforts], list(one.recalls)] for one in levels
                ]
                for k, levels in self.levels.items()
            },
        }

    @classmethod
    def from_json(cls, document: object) -> RecallCurve:
        """Read what `as_json` wrote.

        Raises:
            InputError, ValueError, LookupError, TypeError: it is something else, or of a later release.
        """
        if not isinstance(document, Mapping) or document.get("format") != FORMAT:
            raise ValueError(f"it is not a curve of format {FORMAT}")
        longest = tuple(map(_count, document["longest"]))
        if list(longest) != sorted(set(longest)):
            raise ValueError(f"the kinds end at {shown(longest)}")
        efforts = [Effort.parse(one) if one else EXACT for one in document["efforts"]]
        levels = {int(k): _levels(rows, efforts, len(longest) + 1) for k, rows in document["levels"].items()}
        if list(levels) != sorted(levels) or not levels or min(levels) < 1:
            raise ValueError(f"its ks are {shown(list(levels))}")
        source = document["source"]
        if not isinstance(source, str):
            raise TypeError(f"its queries are from {shown(source)}")
        counts = {name: _count(n) for name, n in document["changes"].items()}
        return cls(longest, levels, _count(document["queries"]), source, _count(document["passages"]), counts)


def cheapest(levels: Sequence[Level], recall: float) -> tuple[Level, Level | None, float]:
    """The last level before the first whose bound does not reach `recall`, that next one, and its share of the queries.

    With this share the mixture of the two bounds is `recall`. The first level is exact.
    """
    chosen = levels[0]
    for level in levels:
        if level.bound < recall:
            return chosen, level, (chosen.bound - recall) / (chosen.bound - level.bound)
        chosen = level
    return chosen, None, 0.0


def curve_of(commit: Commit, path: Path) -> RecallCurve | None:
    """The curve that a commit of the index at `path` holds; None where there is none.

    Raises:
        DamagedArtifactError: it cannot be read.
    """
    document = commit.fields.get(FIELD)
    if document is None:
        return None
    try:
        return RecallCurve.from_json(document)
    except (InputError, ValueError, LookupError, TypeError, OverflowError, AttributeError) as err:
        problem = f"its recall curve cannot be read ({err}); {_AGAIN}"
        raise DamagedArtifactError(str(path / MANIFEST), problem) from err


def _levels(rows: Sequence[Sequence[object]], efforts: Sequence[Effort], kinds: int) -> tuple[Level, ...]:
    made = []
    for bound, mean, ms, places, recalls in rows:
        chosen = tuple(efforts[_count(place)] for place in places)  # type: ignore[attr-defined]
        level = Level(_share(bound), _share(mean), _finite(ms), chosen, tuple(map(_share, recalls)))  # type: ignore[call-overload]
        if len(chosen) != kinds or len(level.recalls) != kinds:
            raise ValueError(f"a level has {len(chosen)} efforts for {kinds} kinds of queries")
        made.append(level)
    if not made or not made[0].exact or made[0].bound != 1:
        raise ValueError("its first level is not exact")
    return tuple(made)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ValueError(f"{shown(value)} is not a count")
    return value


def _share(value: object) -> float:
    found = _finite(value)
    if found > 1:
        raise ValueError(f"{shown(value)} is not from 0 to 1")
    return found


def _finite(value: object) -> float:
    if not is_a(value, int, float) or isinstance(value, bool) or not 0 <= float(value) < math.inf:  # type: ignore[arg-type]
        raise ValueError(f"{shown(value)} is not a number of at least 0")
    return float(value)  # type: ignore[arg-type]  # checked
