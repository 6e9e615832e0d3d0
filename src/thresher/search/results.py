"""What `Index.search` returns: a ranking whose docnos and texts are read from the index on first access."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from thresher.artifact import load_later
from thresher.checks import places, strings
from thresher.errors import InputError
from thresher.index.collection import open_collection
from thresher.index.commit import SEGMENTS
from thresher.prune.decision import TIER_ONE
from thresher.prune.dropped import decisions_of
from thresher.search.any_index import IndexRanking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from thresher.index.collection import Collection, Part
    from thresher.index.filters import Where
    from thresher.prune.dropped import StoredDecisions
    from thresher.records import Passage
    from thresher.vectors.segments import SegmentVectors, Span
    from thresher.vectors.states import PassageStates, StateStore

T = TypeVar("T")


class StoredPassages:
    """The passages of one commit, by docno and by number: what an `Index` and its rankings share.

    Rankings hold it, so that they stay readable when the index is closed or takes up another commit. It is pickled by
    path and commit, and opened again when it is first used. Deleted passages, and those outside a view's scope, are not
    there.

    Args:
        path: the index's directory.
        number: the commit's.
        sha256: the commit's checksum.
        scope: what passages must match to be there; None for all.
    """

    _vectors_before: SegmentVectors | None = None
    _states_before: Mapping[str, StateStore] = MappingProxyType({})

    def __init__(self, path: Path, number: int, sha256: str, scope: Where | None = None) -> None:
        self.path, self.number, self.sha256, self.scope = path, number, sha256, scope

    @classmethod
    def of(
        cls, collection: Collection, scope: Where | None = None, earlier: StoredPassages | None = None
    ) -> StoredPassages:
        """The passages of an open commit, which takes over the open vectors of an `earlier` one."""
        commit = collection.commit
        made = cls(collection.path, commit.number, commit.sha256, scope)
        made.collection = collection
        if earlier is not None:
            made._states_before = earlier.__dict__.get("states") or earlier._states_before
            made._vectors_before = earlier.__dict__.get("vectors") or earlier._vectors_before
        return made

    def __reduce__(self) -> tuple[type[StoredPassages], tuple[object, ...]]:
        return type(self), (self.path.absolute(), self.number, self.sha256, self.scope)

    @cached_property
    def collection(self) -> Collection:
        """The commit.

        Raises:
            ArtifactError: there is no such index any more, or it was replaced.
        """
        return open_collection(self.path, self.number, self.sha256)

    def without_scope(self) -> StoredPassages:
        """All passages of the commit."""
        return StoredPassages(self.path, self.number, self.sha256)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The tiers of its segments, in the order of the passages' numbers."""
        return self.collection.parts

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """int64[parts + 1]: the number of the first passage of each part, and what follows the last one's."""
        return np.array([0, *np.cumsum([part.size for part in self.parts])], np.int64)

    @cached_property
    def visible(self) -> tuple[NDArray[np.bool_] | None, ...]:
        """Of each part, the passages that are there, bool[passages of the part]; None where all are."""
        return tuple(_visible(part, self.scope) for part in self.parts)

    @cached_property
    def live(self) -> list[int]:
        """The passages of each part that are there."""
        return [
            part.size if mask is None else int(np.count_nonzero(mask))
            for part, mask in zip(self.parts, self.visible, strict=True)
        ]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The segments as passage numbers see them."""
        from thresher.vectors.segments import Span

        sizes: dict[str, tuple[int, int]] = {}
        for part in self.parts:
            start, size = sizes.get(part.segment.name, (part.start, 0))
            sizes[part.segment.name] = (start, size + part.size)
        return tuple(Span(name, start, size) for name, (start, size) in sizes.items())

    @cached_property
    def vectors(self) -> SegmentVectors | None:
        """The dense vectors, opened on first use; None where the index was built without."""
        from thresher.vectors.segments import MARK, SegmentVectors

        having = {part.segment.name for part in self.parts if MARK in part.layout.manifest.files}
        folder, before = self.path / SEGMENTS, self._vectors_before
        return self._later(lambda: SegmentVectors.open_segments(folder, self.spans, before, having))

    @cached_property
    def states(self) -> dict[str, StateStore]:
        """The stored states of each segment, by its name, opened on first use; none where it was built without."""
        from thresher.vectors.states import FOLDER, MARK, StateStore

        having = dict.fromkeys(part.segment.name for part in self.parts if MARK in part.layout.manifest.files)
        known = {name: store for name, store in self._states_before.items() if name in having}
        folder = self.path / SEGMENTS
        return known | self._later(
            lambda: {name: StateStore.open(folder / name / FOLDER) for name in having if name not in known}
        )

    def states_of(self, docnos: Sequence[str]) -> list[PassageStates | None]:
        """The stored states of passages; None for those without, which are those of a second tier."""
        numbers = self._found(docnos)
        if not self.states:
            return [None] * len(numbers)
        found: list[PassageStates | None] = []
        for part, number in self._located(numbers):
            store = self.states.get(part.segment.name)
            found.append(store.of(number) if store is not None and part.tier == TIER_ONE else None)
        return found

    @cached_property
    def decisions(self) -> StoredDecisions | None:
        """What pruning decided on passages that the index lacks; None where nothing was pruned.

        Raises:
            ArtifactError: its files are missing or damaged.
        """
        return self._later(lambda: decisions_of(self.collection))

    def _later(self, load: Callable[[], T]) -> T:
        """What `load` makes of further files of the segments.

        Raises:
            ArtifactError: the index was replaced since it was opened.
        """
        first = self.parts[0]
        return load_later(first.folder, first.layout.manifest, load)

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """As `Index.passages`."""
        return self.passages_at(self._found(docnos))

    def aliases(self, docnos: Sequence[str]) -> list[tuple[str, ...]]:
        """As `Index.aliases`; none in a view, which cannot tell whether they are in its scope."""
        names = strings("docnos", docnos)
        self._found(names)
        decisions = None if self.scope is not None else self.decisions
        if decisions is None or not decisions.folds:
            return [() for _ in names]
        return [decisions.aliases(name) for name in names]

    def representative(self, docno: str) -> str:
        """As `Index.representative`."""
        if self.scope is None and self.find(docno) < 0 and self.decisions is not None:
            other = self.decisions.representative(docno)
            if other and self.find(other) >= 0:
                return other
        self._found([docno])
        return docno

    def _found(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """The numbers of these passages.

        Raises:
            InputError: the index lacks one; says what became of it, where the pruning has left it out.
        """
        names = strings("docnos", docnos)
        numbers = self.numbers(names)
        if len(numbers) and int(numbers.min()) < 0:
            missing = names[int(np.argmin(numbers))]
            if self.scope is not None:
                raise InputError(f"docno {missing!r} is not in this view of the index {self.path}")
            outcome = "" if self.decisions is None else self.decisions.outcome(missing)
            why = f"it {outcome}" if outcome else "was it deleted, or was the run made on another index?"
            raise InputError(f"docno {missing!r} is not in the index {self.path}; {why}")
        return numbers

    def numbers(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """As `Index.numbers`."""
        names = strings("docnos", docnos)
        return np.fromiter(map(self.find, names), np.int64, len(names))

    def docnos_at(self, numbers: ArrayLike) -> list[str]:
        """As `Index.docnos_at`."""
        return [part.layout.docnos[number] for part, number in self._located(numbers)]

    def passages_at(self, numbers: ArrayLike) -> list[Passage]:
        """As `Index.passages_at`."""
        return [part.layout.passage(number) for part, number in self._located(numbers)]

    def find(self, docno: str) -> int:
        """The passage's number, -1 where there is none."""
        for part, visible in zip(self.parts, self.visible, strict=True):
            number = part.layout.find(docno)
            if number >= 0 and (visible is None or visible[number]):
                return part.start + number
        return -1

    def docno(self, number: int) -> bytes:
        """The UTF-8 of the docno of a passage that is there."""
        part = self.parts[self._part_of(number)]
        return part.layout.docnos.raw(number - part.start)

    def tiers_of(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8[n]: the tier of each passage, 1 or 2."""
        tiers = np.array([part.tier for part in self.parts], np.uint8)
        return tiers[np.searchsorted(self.starts, numbers, side="right") - 1]

    def first(self) -> int:
        """The number of the first passage that is there, -1 where there is none."""
        for part, visible, live in zip(self.parts, self.visible, self.live, strict=True):
            if live:
                return part.start + (0 if visible is None else int(np.argmax(visible)))
        return -1

    def _part_of(self, number: int) -> int:
        return int(np.searchsorted(self.starts, number, side="right")) - 1

    def _located(self, numbers: ArrayLike) -> list[tuple[Part, int]]:
        """The part and the number within it, of each passage."""
        at, total = places(numbers), int(self.starts[-1])
        if len(at) and not (0 <= int(at.min()) and int(at.max()) < total):
            if self.scope is not None:
                raise _absent(int(at.min() if at.min() < 0 else at.max()))
            raise InputError(f"passage numbers run from 0 to {total - 1}; got {int(at.min())} to {int(at.max())}")
        found = []
        for number in at.tolist():
            place = self._part_of(number) if len(self.parts) > 1 else 0
            part, visible = self.parts[place], self.visible[place]
            if visible is not None and not visible[number - part.start]:
                raise _absent(number)
            found.append((part, number - part.start))
        return found


def _absent(number: int) -> InputError:
    return InputError(f"no passage has the number {number}; numbers of deleted passages are not used again")


def _visible(part: Part, scope: Where | None) -> NDArray[np.bool_] | None:
    """The passages of a part that are live and match the scope, bool[passages]; None where all are."""
    live = None if part.deleted is None else ~part.deleted
    if scope is None:
        return live
    found = part.columns.mask(scope)
    return found if live is None else found & live


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one tier answered a query.

    Attributes:
        plan: `term-at-a-time` if everything was scored, `block-max` if only blocks that could matter were, `auto` if
            these or their whole superblocks were; several, with commas, where segments were searched by different ones.
        terms: query terms known to the index.
        postings: postings in their lists.
        scored: postings that were scored; of dense terms, all in the superblocks that were visited.
        blocks: blocks of the collection.
        visited: blocks that had to be scored: all, or those whose bounds reached the threshold.
        superblocks: superblocks in which blocks were scored.
        whole_superblocks: superblocks that were scored whole.
        threshold: a score that k passages were known to reach before any was scored; next to 0 where none was known.
        bound: a score that no passage can exceed: the sum of the terms' largest parts.
        first_terms: query terms that passages were found by; all, unless an `Effort` left some for the second step.
        rescored: passages that were scored again, by all terms, in the second step.
    """

    plan: str
    terms: int
    postings: int
    scored: int
    blocks: int
    visited: int
    superblocks: int
    whole_superblocks: int
    threshold: float
    bound: float
    first_terms: int
    rescored: int


class SearchRanking(IndexRanking):
    """The passages an index found: score descending, then docno in bytewise ascending order.

    Attributes:
        exact: whether this is provably what scoring every passage of the index by its stored impacts would give.
        expected_recall: share of the exact answer to expect here, on average: 1 where it is exact; None where an
            effort was given and nothing is known.
        complete: False where a deadline, or a part of the index that did not answer, cut the search short.
        escalated: whether the second tier was searched.
        explanations: how each tier that was searched answered, if `explain` was given.
    """

    __slots__ = ("_docs", "_tiers", "expected_recall")

    def __init__(  # sets the fields of a Ranking itself: this runs once a query
        self,
        passages: StoredPassages,
        docs: NDArray[np.uint32] | None,
        numbers: NDArray[np.int64] | None,
        scores: NDArray[np.float64],
        exact: bool,
        tiers: NDArray[np.uint8] | None = None,
        escalated: bool = False,
        explanations: tuple[Explanation, ...] = (),
        complete: bool = True,
    ) -> None:
        """Internal ids of the only part, or passage numbers in the collection, with their scores."""
        self._docnos = None
        self._numbers = numbers
        self._passages = passages
        self.scores = scores
        self.exact = exact
        self.source = "search"
        self._docs = docs
        self._tiers = tiers
        self.escalated = escalated
        self.explanations = explanations
        self.complete = complete
        self.expected_recall: float | None = 1.0 if exact else None

    @property
    def stored(self) -> StoredPassages:
        """The passages of the commit that was searched."""
        return self._passages  # type: ignore[return-value]  # made by an Index

    @property
    def numbers(self) -> NDArray[np.int64]:
        """int64[n]: the passages' numbers in the commit that was searched.

        Raises:
            DamagedArtifactError: the index maps an id to a passage it does not have.
        """
        if self._numbers is None:
            self._numbers = self.stored.parts[0].layout.numbers_of(self._docs)  # type: ignore[arg-type]
        return self._numbers

    @property
    def numbered(self) -> bool:
        """Always: it comes from an index."""
        return True

    @property
    def tiers(self) -> NDArray[np.uint8]:
        """uint8[n]: the tier of each passage, 1 or 2."""
        if self._tiers is None:
            self._tiers = self.stored.tiers_of(self.numbers)
        return self._tiers

    def __reduce__(self) -> tuple[Callable[..., SearchRanking], tuple[object, ...]]:
        """A ranking is pickled with its docnos; its texts are read from the index's path when they are looked at."""
        made = (self.stored, None, self.numbers, self.scores, self.exact, self.tiers, self.escalated)
        return _unpickled, ((*made, self.explanations, self.complete), self.docnos, self.source, self.expected_recall)

    def take(
        self, places: ArrayLike, scores: ArrayLike | None = None, *, exact: bool | None = None, source: str = ""
    ) -> SearchRanking:
        """As `Ranking.take`, keeping the tiers."""
        at, kept = self._taken(places, scores, source)
        made = SearchRanking(
            self.stored,
            None,
            self.numbers[at],
            kept,
            self.exact if exact is None else exact,
            None if self._tiers is None else self._tiers[at],
            self.escalated,
            self.explanations,
            self.complete,
        )
        made.source, made.expected_recall = source or self.source, self.expected_recall
        if self._docnos is not None:
            docnos: Sequence[str] = self._docnos
            made._docnos = [docnos[i] for i in at.tolist()]
        return made

    def joined(self, numbers: NDArray[np.int64], scores: NDArray[np.float64], *, exact: bool) -> SearchRanking:
        """A ranking of these passages of the same snapshot, found as this one was."""
        made = SearchRanking(
            self.stored, None, numbers, scores, exact, None, self.escalated, self.explanations, self.complete
        )
        made.source, made.expected_recall = self.source, self.expected_recall
        return made

    def fused(self, other: SearchRanking, k: int) -> SearchRanking:
        """The k best of this ranking and another of the same snapshot, by reciprocal ranks."""
        found = self.fuse(other, depth=k)
        stored = self.stored
        made = SearchRanking(
            stored,
            None,
            stored.numbers(found.docnos),
            found.scores,
            found.exact,
            None,
            self.escalated,
            self.explanations,
            self.complete,
        )
        made.source, made.expected_recall = "fuse", self.expected_recall
        return made


def _unpickled(made: tuple[Any, ...], docnos: list[str], source: str, recall: float | None) -> SearchRanking:
    """What a pickled ranking becomes."""
    ranking = SearchRanking(*made)
    ranking._docnos, ranking.source, ranking.expected_recall = docnos, source, recall
    return ranking
