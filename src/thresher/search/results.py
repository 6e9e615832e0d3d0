"""What `Index.search` returns: a ranking whose docnos and texts are read from the index on first access."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.artifact import check_build, open_whole, replaced
from thresher.checks import places, strings
from thresher.errors import InputError
from thresher.index.layout import open_layout
from thresher.prune.decision import FOLDER
from thresher.prune.dropped import StoredDecision, StoredDecisions
from thresher.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from thresher.index.collection import Collection
    from thresher.index.layout import Layout
    from thresher.records import Passage


class StoredPassages:
    """The passages of an index, by docno and by number: what an `Index` and its rankings share.

    Rankings hold it, so that they stay readable when the index is closed. It is pickled by path, and opened again when
    it is first used.

    Args:
        tiers: path and build of each tier.
        layouts: the tiers, where they are open.
        collection: what they belong to; it keeps their files.
    """

    def __init__(
        self,
        tiers: Sequence[tuple[Path, str]],
        layouts: Sequence[Layout] | None = None,
        collection: Collection | None = None,
    ) -> None:
        self.tiers, self._collection = tuple(tiers), collection
        if layouts is not None:
            self.layouts = tuple(layouts)
            _ = self.decision  # mapped now, since the index may be replaced before it is asked

    @classmethod
    def of(cls, layouts: Sequence[Layout], collection: Collection | None = None) -> StoredPassages:
        """The passages of open tiers."""
        return cls([(layout.path, layout.manifest.sha256) for layout in layouts], layouts, collection)

    def __reduce__(self) -> tuple[type[StoredPassages], tuple[object, ...]]:
        return type(self), ([(path.absolute(), build) for path, build in self.tiers],)

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """What the tiers' files hold.

        Raises:
            ArtifactError: there is no such index any more, or it was replaced.
        """
        return tuple(reopened(path, build) for path, build in self.tiers)

    @cached_property
    def sizes(self) -> list[int]:
        """Passages of each tier."""
        return [layout.counts.passages for layout in self.layouts]

    @cached_property
    def decision(self) -> StoredDecisions | None:
        """What the pruning of the index decided, mapped and not read; None where nothing was pruned.

        Raises:
            ArtifactError: its files are missing or damaged.
        """
        layout = self.layouts[0]
        if f"{FOLDER}/reasons.u1" not in layout.manifest.files:
            return None
        return StoredDecisions([StoredDecision(layout.path / FOLDER, self.sizes)])

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """As `Index.passages`."""
        return self.passages_at(self._found(docnos))

    def aliases(self, docnos: Sequence[str]) -> list[tuple[str, ...]]:
        """As `Index.aliases`."""
        decision = self.decision
        names = strings("docnos", docnos)
        if decision is None or not decision.folds:
            return [() for _ in names]
        self._found(names)
        return [decision.aliases(docno) for docno in names]

    def representative(self, docno: str) -> str:
        """As `Index.representative`."""
        if self.find(docno) < 0 and self.decision is not None:
            other = self.decision.representative(docno)
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
            missing, path = names[int(np.argmin(numbers))], self.tiers[0][0]
            outcome = "" if self.decision is None else self.decision.outcome(missing)
            why = f"it {outcome}" if outcome else "was the run made on another index?"
            raise InputError(f"docno {missing!r} is not in the index {path}; {why}")
        return numbers

    def numbers(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """As `Index.numbers`."""
        names = strings("docnos", docnos)
        return np.fromiter(map(self.find, names), np.int64, len(names))

    def docnos_at(self, numbers: NDArray[np.int64]) -> list[str]:
        """As `Index.docnos_at`."""
        return [layout.docnos[number] for layout, number in self._located(numbers)]

    def passages_at(self, numbers: NDArray[np.int64]) -> list[Passage]:
        """As `Index.passages_at`."""
        return [layout.passage(number) for layout, number in self._located(numbers)]

    def find(self, docno: str) -> int:
        """The passage's number, -1 where there is none."""
        before = 0
        for layout, size in zip(self.layouts, self.sizes, strict=True):
            number = layout.find(docno)
            if number >= 0:
                return before + number
            before += size
        return -1

    def _located(self, numbers: NDArray[np.int64]) -> list[tuple[Layout, int]]:
        """The tier's layout and the number within it, of each passage."""
        at, total = places(numbers), sum(self.sizes)
        if len(at) and not (0 <= int(at.min()) and int(at.max()) < total):
            raise InputError(f"passage numbers run from 0 to {total - 1}; got {int(at.min())} to {int(at.max())}")
        border, layouts = self.sizes[0], self.layouts
        return [(layouts[0], n) if n < border else (layouts[1], n - border) for n in at.tolist()]


def reopened(path: Path, build: str) -> Layout:
    """The tier at `path`, which was open before.

    Raises:
        ArtifactError: there is none any more, or it was replaced.
    """
    if not path.is_dir():
        raise replaced(path)
    layout = open_whole(path, lambda: open_layout(path))
    check_build(path, layout.manifest, build)
    return layout


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one tier answered a query.

    Attributes:
        plan: `term-at-a-time` if everything was scored, `block-max` if only blocks that could matter were, `auto` if
            these or their whole superblocks were.
        terms: query terms known to the index.
        postings: postings in their lists.
        scored: postings that were scored; of dense terms, all in the superblocks that were visited.
        blocks: blocks of the collection.
        visited: blocks that had to be scored: all, or those whose bounds reached the threshold.
        superblocks: superblocks in which blocks were scored.
        whole_superblocks: superblocks that were scored whole.
        threshold: a score that k passages were known to reach before any was scored; next to 0 where none was known.
        bound: a score that no passage can exceed: the sum of the terms' largest parts.
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


class SearchRanking(Ranking):
    """The passages an index found: score descending, then docno in bytewise ascending order.

    Attributes:
        exact: whether this is provably what scoring every passage of the index by its stored impacts would give.
        escalated: whether the second tier was searched.
        explanations: how each tier that was searched answered, if `explain` was given.
    """

    __slots__ = ("_docs", "_tiers", "escalated", "explanations")

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
    ) -> None:
        """Internal ids of the first tier, or passage numbers over all tiers, with their scores."""
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

    @property
    def numbers(self) -> NDArray[np.int64]:
        """int64[n]: numbers of the passages in the order they were indexed; the second tier's follow the first's.

        Raises:
            DamagedArtifactError: the index maps an id to a passage it does not have.
        """
        if self._numbers is None:
            stored, docs = self._passages, self._docs
            self._numbers = stored.layouts[0].numbers_of(docs)  # type: ignore[union-attr]  # made by an Index
        return self._numbers

    @property
    def numbered(self) -> bool:
        """Always: it comes from an index."""
        return True

    @property
    def tiers(self) -> NDArray[np.uint8]:
        """uint8[n]: the tier of each passage, 1 or 2."""
        if self._tiers is None:
            self._tiers = np.ones(len(self), np.uint8)
        return self._tiers

    def __reduce__(self) -> tuple[Callable[..., SearchRanking], tuple[object, ...]]:
        """A ranking is pickled with its docnos; its texts are read from the index's path when they are looked at."""
        made = (self._passages, None, self.numbers, self.scores, self.exact, self._tiers, self.escalated)
        return _unpickled, ((*made, self.explanations), self.docnos, self.source)

    def take(
        self, places: ArrayLike, scores: ArrayLike | None = None, *, exact: bool | None = None, source: str = ""
    ) -> SearchRanking:
        """As `Ranking.take`, keeping the tiers."""
        at, kept = self._taken(places, scores)
        made = SearchRanking(
            self._passages,  # type: ignore[arg-type]  # made by an Index
            None,
            self.numbers[at],
            kept,
            self.exact if exact is None else exact,
            None if self._tiers is None else self._tiers[at],
            self.escalated,
            self.explanations,
        )
        made.source = source or self.source
        if self._docnos is not None:
            docnos: Sequence[str] = self._docnos
            made._docnos = [docnos[i] for i in at.tolist()]
        return made


def _unpickled(made: tuple[Any, ...], docnos: list[str], source: str) -> SearchRanking:
    """What a pickled ranking becomes."""
    ranking = SearchRanking(*made)
    ranking._docnos, ranking.source = docnos, source
    return ranking
