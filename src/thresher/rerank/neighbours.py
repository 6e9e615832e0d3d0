"""Where a plan finds more candidates: passages near those that ranked high.

A reranker sees only what the first stage found. A plan that can `Expand` (`slidegar`) asks for the neighbours of the
best candidates so far and compares them with the rest, at the same number of calls (adaptive retrieval: GAR, MacAvaney
et al., CIKM 2022, arXiv 2208.08942; SlideGAR, Rathee et al., ECIR 2025, arXiv 2501.09186).

    index's vectors     `vectors`: the passages whose vectors have the largest inner products with a passage's own
    index's postings    `postings`: what the index finds with a passage's text as the query
    earlier reranking   `journal:FILE`: what ranked high together in a run that reranking wrote
    an array            `ArrayNeighbours`, for studies without an index

A source knows the neighbours of one passage. `frontier` joins those of several: a neighbour gets from each passage its
similarity, divided by that of the passage's nearest, times 1/sqrt(rank of the passage), and the sum orders them. The
published rule takes all neighbours of the best passage before any of the second; the sum prefers what is near several
good passages, and one misjudged passage cannot fill the frontier.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.checks import shown, whole
from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.ranking import Ranking
    from thresher.records import Passage
    from thresher.rerank.candidates import PassageIndex
    from thresher.rerank.plans.plan import Plan
    from thresher.search import Index

DEGREE = 16
"""Neighbours of one passage, as in the papers."""

Near = list[tuple[str, float]]
"""Docnos and similarities, the nearest first."""


class Neighbours(Protocol):
    """Knows the neighbours of passages. Called from several threads at once."""

    @property
    def name(self) -> str:
        """The source and its settings."""

    def near(self, docnos: Sequence[str]) -> list[Near]:
        """The neighbours of each passage, in the order of `docnos`; none for a passage it does not know."""

    def passages(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The passages with these docnos, with texts, in their order."""


def frontier(near: Sequence[Near], known: Collection[str], count: int) -> list[str]:
    """The `count` passages nearest to several, without those in `known`.

    Args:
        near: the neighbours of each, the best passage's first.
        known: docnos that are candidates already.
        count: how many at most.

    Returns:
        docnos, the nearest first; ties by the order in which they were met.
    """
    sums: dict[str, float] = {}
    for place, listed in enumerate(near):
        largest = max((similarity for _, similarity in listed), default=0.0)
        for docno, similarity in listed:
            if docno not in known:
                share = similarity / largest if largest > 0 else 0.0
                sums[docno] = sums.get(docno, 0.0) + share / math.sqrt(place + 1)
    return sorted(sums, key=lambda docno: -sums[docno])[:count]


class _IndexNeighbours:
    """What the sources over an index share."""

    def __init__(self, index: Index, degree: int) -> None:
        self.index, self.degree = index, whole("degree", degree, 1)

    def passages(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The index's passages."""
        return self.index.passages(docnos)

    def near(self, docnos: Sequence[str]) -> list[Near]:
        """See `Neighbours`.

        Raises:
            InputError: the index has none of the passages.
        """
        numbers = self.index.numbers(docnos)
        if len(numbers) and not (numbers >= 0).any():
            raise InputError(
                f"{self.index.path} has none of the passages {shown(list(docnos))} whose neighbours are wanted; give "
                "the index that the run was made on"
            )
        return [
            self._without(docno, self._nearest(docno, number)) if number >= 0 else []
            for docno, number in zip(docnos, numbers.tolist(), strict=True)
        ]

    def _without(self, docno: str, found: Ranking | None) -> Near:
        pairs = [] if found is None else found.pairs()
        return [pair for pair in pairs if pair[0] != docno][: self.degree]

    def _nearest(self, docno: str, number: int) -> Ranking | None:
        raise NotImplementedError


class VectorNeighbours(_IndexNeighbours):
    """Neighbours by the vectors of an index. A passage without a vector has none; of several its first is used.

    Args:
        index: an open index with vectors.
        degree: neighbours of one passage.

    Raises:
        ConfigError: the index has no vectors.
    """

    def __init__(self, index: Index, degree: int = DEGREE) -> None:
        super().__init__(index, degree)
        if index.vectors is None:
            raise ConfigError(
                f"{index.path} has no vectors to find neighbours by; build it with --dense, or use neighbours by "
                "postings"
            )

    @property
    def name(self) -> str:
        """`vectors`."""
        return "vectors"

    def _nearest(self, docno: str, number: int) -> Ranking | None:
        store = self.index.vectors
        (position,) = (-1,) if store is None else store.find_numbers([number])
        if store is None or position < 0:
            return None
        rows, _ = store.rows_of(np.array([position], np.int64))
        (vector,) = store.stored.decode(rows[:1])
        return self.index.search("", self.degree + 1, by="dense", vector=vector)


class PostingNeighbours(_IndexNeighbours):
    """Neighbours by the postings of an index: what it finds with the passage's own text as the query.

    Args:
        index: an open index.
        degree: neighbours of one passage.
    """

    def __init__(self, index: Index, degree: int = DEGREE) -> None:
        super().__init__(index, degree)

    @property
    def name(self) -> str:
        """`postings`."""
        return "postings"

    def _nearest(self, docno: str, number: int) -> Ranking | None:
        passage = self.index.passage(docno)
        return self.index.search(" ".join(filter(None, (passage.title, passage.text))), self.degree + 1)


class ArrayNeighbours:
    """Neighbours by the inner products of the rows of an array.

    Args:
        docnos: of the rows.
        vectors: float[n, dimensions].
        degree: neighbours of one passage.
        texts: gives passages their texts; without it only plans that are simulated can use it.
    """

    def __init__(
        self,
        docnos: Sequence[str],
        vectors: NDArray[np.floating],
        degree: int = DEGREE,
        texts: Callable[[Sequence[str]], Sequence[Passage]] | None = None,
    ) -> None:
        if vectors.ndim != 2 or len(vectors) != len(docnos):
            raise InputError(f"{len(docnos)} docnos need as many vectors; got an array of shape {vectors.shape}")
        self._docnos, self._vectors, self._texts = list(docnos), vectors.astype(np.float32), texts
        self._rows = {docno: row for row, docno in enumerate(self._docnos)}
        self._found: dict[str, Near] = {}
        self.degree = whole("degree", degree, 1)

    @property
    def name(self) -> str:
        """`array`."""
        return "array"

    def passages(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The passages, if texts were given."""
        if self._texts is None:
            raise InputError("these neighbours have no texts; give ArrayNeighbours a function that looks them up")
        return self._texts(docnos)

    def near(self, docnos: Sequence[str]) -> list[Near]:
        """See `Neighbours`; what was found once is kept."""
        missing = list({docno: None for docno in docnos if docno in self._rows and docno not in self._found})
        rows = np.array([self._rows[docno] for docno in missing], np.int64)
        for docno, row, products in zip(missing, rows, self._vectors[rows] @ self._vectors.T, strict=True):
            products[row] = -np.inf
            self._found[docno] = self._nearest(products)
        return [self._found.get(docno, []) for docno in docnos]

    def _nearest(self, products: NDArray[np.float32]) -> Near:
        """The largest products, ties by row."""
        count = min(self.degree, len(products) - 1)
        least = np.partition(products, len(products) - count)[len(products) - count] if count else np.inf
        rows = np.flatnonzero(products >= least)
        rows = rows[np.argsort(-products[rows], kind="stable")][:count]
        return [(self._docnos[row], float(products[row])) for row in rows.tolist()]


class JournalNeighbours:
    """Neighbours mined from earlier reranking: passages that ranked high together for the same query.

    This is L2G's first-order graph (Yoon et al., 2025, arXiv 2510.00887): a passage at rank r of m has the weight
    (m - r + 1)/m for that query, and the similarity of two passages is the sum of the products of their weights over
    the queries that rank both. It needs no vectors and no calls, and knows only passages that were reranked before.

    Args:
        rankings: reranked docnos of each query, best first.
        source: gives passages their texts, an `Index` for instance; it may lack passages, which are then left out.
            Without it only plans that are simulated can use the neighbours.
        degree: neighbours of one passage.
    """

    def __init__(
        self, rankings: Iterable[Sequence[str]], source: PassageIndex | None = None, degree: int = DEGREE
    ) -> None:
        self._rankings = [list(one) for one in rankings]
        self._source, self.degree = source, whole("degree", degree, 1)
        self._places: dict[str, list[tuple[int, int]]] = {}
        for number, docnos in enumerate(self._rankings):
            for place, docno in enumerate(docnos):
                self._places.setdefault(docno, []).append((number, place))

    @classmethod
    def of_run(cls, path: str | Path, source: PassageIndex | None = None, depth: int = 100) -> JournalNeighbours:
        """Neighbours from the first `depth` passages of each query of a TREC run, in the order listed.

        Raises:
            DataNotFoundError: there is no such file.
            InputError: it is not a run, or ranks nothing.
        """
        from thresher.evaluate.trec import read_run

        run = read_run(path, as_listed=True)
        if not run:
            raise InputError(f"{path} ranks nothing, so it knows no neighbours; give a run that reranking wrote")
        return cls((ranking.docnos[:depth] for ranking in run.values()), source)

    @property
    def name(self) -> str:
        """`journal`."""
        return "journal"

    def passages(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The passages, if there is a source."""
        if self._source is None:
            raise InputError("these neighbours have no texts; give JournalNeighbours an index")
        return self._source.passages(docnos)

    def near(self, docnos: Sequence[str]) -> list[Near]:
        """See `Neighbours`."""
        return [self._near(docno) for docno in docnos]

    def _near(self, docno: str) -> Near:
        sums: dict[str, float] = {}
        for number, place in self._places.get(docno, ()):
            ranked = self._rankings[number]
            own = (len(ranked) - place) / len(ranked) ** 2
            for at, other in enumerate(ranked):
                sums[other] = sums.get(other, 0.0) + own * (len(ranked) - at)
        sums.pop(docno, None)
        if self._source is not None:
            sums = {other: value for other, value in sums.items() if other in self._source}
        return sorted(sums.items(), key=lambda pair: -pair[1])[: self.degree]


KINDS = ("vectors", "postings", "journal:FILE")


def neighbours_from_name(name: str, index: Index | None) -> Neighbours:
    """A source of neighbours from its name: `vectors` or `postings` of an index, or `journal:FILE`.

    Args:
        name: of the source. FILE is a run that reranking wrote.
        index: that the candidates are in.

    Raises:
        ConfigError: there is no such source, or there is no index.
        DataNotFoundError: there is no such file.
        InputError: the file is not a run.
    """
    kind, _, file = name.partition(":")
    if kind not in ("vectors", "postings", "journal") or bool(file) != (kind == "journal"):
        raise ConfigError(f"neighbours must be one of {', '.join(KINDS)}; got {shown(name)}")
    if index is None:
        raise ConfigError(f"neighbours={name!r} needs an index; give the index that the candidates are in")
    if kind == "journal":
        return JournalNeighbours.of_run(file, index)
    return VectorNeighbours(index) if kind == "vectors" else PostingNeighbours(index)


def check_neighbours(plan: Plan, neighbours: Neighbours | None) -> None:
    """Check that a plan has a use for neighbours, where there are any.

    Raises:
        ConfigError: it adds no candidates.
    """
    if neighbours is not None and not getattr(plan, "expands", False):
        raise ConfigError(
            f"plan {plan.name!r} adds no candidates, so it has no use for neighbours; leave them out, or use the plan "
            "slidegar"
        )
