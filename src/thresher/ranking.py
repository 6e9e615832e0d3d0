"""`Ranking`: one query's passages, best first: the one value that stages take and return.

    ranking = index.search("what separates grain from chaff?", k=100)
    for hit in ranking.cut(10):
        print(hit.rank, hit.docno, hit.score, hit.text)
    ranking.fuse(other).to_run("q1")

A ranking holds docnos and scores; texts are fetched from its source on first access. `Run` maps query ids
to rankings, as TREC run files do. How they are fused is in `thresher.fusion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import floats, is_a, one_of, places, real, shown, strings, whole
from thresher.errors import InputError
from thresher.fusion import RRF_K, Fusion, sum_of_reciprocals, sum_of_scores
from thresher.records import Hit, Passage
from thresher.texts import HeldPassages, aliases_in, with_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from thresher.texts import NumberedSource, PassageSource


class Interpolator(Protocol):
    """What `Ranking.interpolate` hands itself to: a store of vectors (`thresher.vectors.VectorStore`)."""

    def interpolate(self, ranking: Ranking, query: NDArray[np.float32], **settings: object) -> Ranking:
        """The ranking with dense scores mixed in."""


R = TypeVar("R", bound="Ranking")
T = TypeVar("T")


class Ranking(Sequence[Hit]):
    """One query's passages with scores, best first; immutable.

    Indexing and iteration give `Hit`s, which are made when they are looked at; `docnos` and `scores` are cheaper where
    texts are not needed.

    Args:
        docnos: the passages' identifiers, best first; distinct.
        scores: float[n], as the system gave them; by default n, n - 1, ..., 1.
        exact: whether this is what the stage would return without approximation and with all the time there is.
        source: the stage that made it: `search`, `interpolate`, `rerank`, ...
        passages: where texts are found; without it hits carry none.

    Attributes:
        scores: float64[n].

    Raises:
        InputError: docnos and scores differ in number.
    """

    __slots__ = ("_docnos", "_numbers", "_passages", "exact", "scores", "source")

    def __init__(
        self,
        docnos: Sequence[str],
        scores: ArrayLike | None = None,
        *,
        exact: bool = True,
        source: str = "",
        passages: PassageSource | None = None,
    ) -> None:
        self._docnos: list[str] | None = strings("the docnos of a ranking", docnos)
        n = len(self._docnos)
        self.scores: NDArray[np.float64] = (
            np.arange(n, 0, -1, dtype=np.float64) if scores is None else floats("scores", scores)
        )
        if len(self.scores) != n:
            raise InputError(f"a ranking of {n} docnos has {len(self.scores)} scores; give one a docno")
        self._numbers: NDArray[np.int64] | None = None
        self._passages: PassageSource | None = passages
        self.exact = exact
        self.source = source

    @classmethod
    def of_numbers(
        cls,
        source: NumberedSource,
        numbers: NDArray[np.int64],
        scores: NDArray[np.float64],
        *,
        exact: bool = True,
        stage: str = "search",
    ) -> Ranking:
        """A ranking of the passages of `source` with these numbers (int64[n]); docnos are looked up when needed."""
        self = cls.__new__(cls)
        self._docnos, self._numbers, self._passages = None, numbers, source
        self.scores, self.exact, self.source = scores, exact, stage
        return self

    @staticmethod
    def from_pairs(pairs: Iterable[tuple[str, float]], *, source: str = "") -> Ranking:
        """A ranking from (docno, score) pairs, best first."""
        if getattr(pairs, "shape", None) == ():
            raise InputError(f"a ranking is made of (docno, score) pairs; got {shown(pairs)}")
        rows = list(pairs) if isinstance(pairs, Iterable) else [pairs]
        for row in rows:
            if not isinstance(row, tuple | list) or len(row) != 2:
                raise InputError(f"a ranking is made of (docno, score) pairs; got {shown(row)}")
        return Ranking([docno for docno, _ in rows], [score for _, score in rows], source=source)

    @staticmethod
    def from_hits(hits: Iterable[Hit], *, source: str = "") -> Ranking:
        """A ranking from hits that carry their texts, best first."""
        if getattr(hits, "shape", None) == ():
            raise InputError(f"a ranking is made of Hits; got {shown(hits)}")
        given = list(hits) if isinstance(hits, Iterable) else [hits]
        for hit in given:
            if not isinstance(hit, Hit):
                raise InputError(f"a ranking is made of Hits; got {shown(hit)}")
        held = HeldPassages(
            (Passage(hit.docno, hit.text, hit.title, hit.metadata) for hit in given),
            {hit.docno: hit.aliases for hit in given if hit.aliases},
        )
        return Ranking([hit.docno for hit in given], [hit.score for hit in given], source=source, passages=held)

    @property
    def docnos(self) -> list[str]:
        """The passages' docnos, best first."""
        if self._docnos is None:
            self._docnos = with_numbers(self._passages).docnos_at(self.numbers)
        return self._docnos

    @property
    def numbers(self) -> NDArray[np.int64]:
        """int64[n]: the passages' numbers in the index that was searched.

        Raises:
            InputError: the ranking is of docnos alone.
        """
        if self._numbers is None:
            raise InputError("this ranking did not come from an index, so its passages have no numbers")
        return self._numbers

    @property
    def numbered(self) -> bool:
        """Whether `numbers` are known."""
        return self._numbers is not None

    @property
    def has_passages(self) -> bool:
        """Whether it knows where its texts are."""
        return self._passages is not None

    def passages(self) -> list[Passage]:
        """The passages with their texts, best first.

        Raises:
            InputError: the ranking does not know where its texts are; see `with_passages`.
        """
        if self._passages is None:
            raise InputError("this ranking holds docnos only; give it texts with ranking.with_passages(index)")
        if self.numbered:
            return list(with_numbers(self._passages).passages_at(self.numbers))
        return list(self._passages.passages(self.docnos))

    def aliases(self) -> list[tuple[str, ...]]:
        """Of each passage, the docnos of the duplicates that were folded into it; none where its source keeps none."""
        return aliases_in(self._passages, self.docnos)

    def stored_states(self) -> list[Any]:
        """Of each passage what a model computed of it when the index was built, None where there is nothing."""
        found: Callable[[Sequence[str]], list[Any]] | None = getattr(self._passages, "states_of", None)
        return [None for _ in self.docnos] if found is None else found(self.docnos)

    def with_passages(self, passages: PassageSource) -> Ranking:
        """The same ranking, with texts from `passages`: an `Index`, or anything with a method `passages(docnos)`.

        Raises:
            InputError: it has no such method.
        """
        if not callable(getattr(passages, "passages", None)):
            raise InputError(f"texts come from an Index or something with passages(docnos); got {shown(passages)}")
        return Ranking(self.docnos, self.scores, exact=self.exact, source=self.source, passages=passages)

    def pairs(self) -> list[tuple[str, float]]:
        """(docno, score) of each passage, best first."""
        return list(zip(self.docnos, self.scores.tolist(), strict=True))

    def __len__(self) -> int:
        return int(self.scores.shape[0])

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Ranking: ...
    def __getitem__(self, index: int | slice) -> Hit | Ranking:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        at = range(len(self))[index]
        score = float(self.scores[at])
        if self._passages is None:
            return Hit(self.docnos[at], score, at + 1)
        if self.numbered:
            (one,) = with_numbers(self._passages).passages_at(self.numbers[at : at + 1])
        else:
            (one,) = self._passages.passages([self.docnos[at]])
        (aliases,) = aliases_in(self._passages, [one.docno])
        return Hit(one.docno, score, at + 1, one.text, one.title, one.metadata, aliases)

    def __iter__(self) -> Iterator[Hit]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranking):
            return NotImplemented
        return self.docnos == other.docnos and bool(np.array_equal(self.scores, other.scores))

    __hash__ = None  # type: ignore[assignment]  # arrays are not hashable

    def __repr__(self) -> str:
        how = "" if self.exact else ", approximate"
        first = ", ".join(self.docnos[:3]) + (", ..." if len(self) > 3 else "")
        return f"<{type(self).__name__}: {len(self)} passages{how}: {first}>" if len(self) else "<Ranking: empty>"

    def cut(self, k: int) -> Ranking:
        """The first k passages.

        Raises:
            InputError: k is not a whole number of at least 0.
        """
        k = whole("k", k)
        return self if k >= len(self) else self.take(np.arange(k))

    def take(
        self, places: ArrayLike, scores: ArrayLike | None = None, *, exact: bool | None = None, source: str = ""
    ) -> Ranking:
        """The passages at `places` (int[m], 0-based) in that order, with `scores` in place of their own where given.

        Raises:
            InputError: a place is beyond the ranking, or there are not as many scores.
        """
        at, kept = self._taken(places, scores, source)
        exact, source = self.exact if exact is None else exact, source or self.source
        if self.numbered:
            made = Ranking.of_numbers(with_numbers(self._passages), self.numbers[at], kept, exact=exact, stage=source)
            if self._docnos is not None:
                made._docnos = [self._docnos[i] for i in at.tolist()]
            return made
        docnos = self.docnos
        return Ranking([docnos[i] for i in at.tolist()], kept, exact=exact, source=source, passages=self._passages)

    def _taken(
        self, at: ArrayLike, scores: ArrayLike | None, source: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Places and the scores that go with them, checked, as is the name of what took them."""
        if not is_a(source, str):
            raise InputError(f"source names a stage; got {shown(source)}")
        taken = places(at)
        if len(taken) and not (-len(self) <= int(taken.min()) and int(taken.max()) < len(self)):
            raise InputError(f"a ranking of {len(self)} passages has no place {int(taken[np.abs(taken).argmax()])}")
        kept = self.scores[taken] if scores is None else floats("scores", scores)
        if kept.shape != taken.shape:
            raise InputError(f"{len(taken)} places have scores of the shape {kept.shape}; give one a place")
        return taken, kept

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        """What is pickled: everything, and the docnos, so that they can be read where the index is not."""
        slots = [name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())]
        return None, {name: getattr(self, name) for name in slots if hasattr(self, name)} | {"_docnos": self.docnos}

    @checked_call
    def as_type(self, kind: type[R]) -> R:
        """The same ranking as an instance of the subclass `kind`; its maker sets the attributes that `kind` adds."""
        if not issubclass(kind, Ranking):
            raise InputError(f"a ranking cannot become a {kind.__name__}, which is not a Ranking")
        made = kind.__new__(kind)
        for name in Ranking.__slots__:
            setattr(made, name, getattr(self, name))
        made._numbers = self.numbers if self.numbered else None
        return made

    def fuse(
        self,
        *others: Ranking,
        how: Fusion = "rrf",
        weights: Sequence[float] | None = None,
        k: float = RRF_K,
        depth: int = 1000,
    ) -> Ranking:
        """This ranking fused with others; arguments as `fuse`."""
        return fuse((self, *others), how=how, weights=weights, k=k, depth=depth)

    def interpolate(self, vectors: Interpolator, query: NDArray[np.float32], **settings: object) -> Ranking:
        """This ranking with dense scores mixed in; see `thresher.vectors.VectorStore.interpolate` for the settings.

        Raises:
            InputError: `vectors` holds none; or as there.
        """
        if not callable(getattr(vectors, "interpolate", None)) or is_a(vectors, Ranking):
            raise InputError(f"dense scores come from a VectorStore; got {shown(vectors)}")
        return vectors.interpolate(self, query, **settings)

    def to_run(self, qid: str, tag: str = "thresher") -> Run:
        """A run of this one query.

        Raises:
            InputError: the qid or the tag is not a string.
        """
        if not is_a(qid, str):
            raise InputError(f"a qid is a string; got {shown(qid)}")
        return Run({qid: self}, tag)


@dataclass(frozen=True, slots=True, repr=False)
class Run(Mapping[str, Ranking]):
    """Rankings by query id.

    Attributes:
        rankings: qid to its ranking, in the order the queries came.
        tag: the system's name in TREC files.

    Raises:
        InputError: they are not rankings by qid, or the tag is not a string.
    """

    rankings: Mapping[str, Ranking]
    tag: str = "thresher"

    def __post_init__(self) -> None:
        if not isinstance(self.rankings, Mapping) or not isinstance(self.tag, str):
            raise InputError(
                f"a run maps qids to rankings and has a tag; got {shown(self.rankings)}, {shown(self.tag)}"
            )
        for qid, ranking in self.rankings.items():
            if not isinstance(qid, str) or not isinstance(ranking, Ranking):
                raise InputError(f"a run maps qids to rankings; got {shown(qid)}: {shown(ranking)}")

    def __getitem__(self, qid: str) -> Ranking:
        return self.rankings[qid]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rankings)

    def __len__(self) -> int:
        return len(self.rankings)

    def __repr__(self) -> str:
        return f"<Run {self.tag!r}: {len(self)} {'query' if len(self) == 1 else 'queries'}>"


def fuse(
    rankings: Sequence[Ranking],
    *,
    how: Fusion = "rrf",
    weights: Sequence[float] | None = None,
    k: float = RRF_K,
    depth: int = 1000,
) -> Ranking:
    """One ranking of several of the same query; ties by docno.

    Args:
        rankings: what to fuse.
        how: `rrf`, the sum of weight / (k + rank); or the weighted sum of scores normalised per ranking by `min-max`,
            `z-score` or `none`, where a passage that a ranking lacks gets that ranking's smallest normalised score.
        weights: one a ranking; by default all 1.
        k: the constant of `rrf`.
        depth: passages kept.

    Raises:
        InputError: these are not rankings, there is not one finite weight for each, k is not above 0, or the depth is
            not a whole number.
        ConfigError: `how` is unknown.
    """
    rankings = _all_of(Ranking, rankings)
    made = np.ones(len(rankings)) if weights is None else floats("weights", weights)
    if made.shape != (len(rankings),) or not np.isfinite(made).all():
        raise InputError(f"{len(rankings)} rankings need as many finite weights, found {shown(weights)}")
    one_of("way to fuse", how, ("rrf", "min-max", "z-score", "none"))
    weights, depth = made.tolist(), whole("depth", depth)
    if how == "rrf" and real("k, the constant of reciprocal rank fusion,", k, 0) == 0:
        raise InputError(f"k is {k}; the constant of reciprocal rank fusion must be above 0")
    total = sum_of_reciprocals(rankings, weights, k) if how == "rrf" else sum_of_scores(rankings, weights, how)
    best = sorted(total.items(), key=lambda item: (-item[1], item[0].encode()))[:depth]
    passages = next((one._passages for one in rankings if one._passages is not None), None)
    exact = all(one.exact for one in rankings)
    return Ranking([docno for docno, _ in best], [score for _, score in best], exact=exact, source="fuse",
                   passages=passages)  # fmt: skip


def fuse_runs(
    runs: Sequence[Run],
    *,
    how: Fusion = "rrf",
    weights: Sequence[float] | None = None,
    k: float = RRF_K,
    depth: int = 1000,
    tag: str = "fused",
) -> Run:
    """Fuse runs query by query, arguments as `fuse`; a run that lacks a query counts as empty there."""
    runs = _all_of(Run, runs)
    qids = dict.fromkeys(qid for run in runs for qid in run)
    nothing = Ranking([])
    return Run(
        {
            qid: fuse([run.rankings.get(qid, nothing) for run in runs], how=how, weights=weights, k=k, depth=depth)
            for qid in qids
        },
        tag,
    )


def _all_of(kind: type[T], values: Iterable[T]) -> list[T]:
    """`values` as a list of `kind`."""
    if not is_a(values, Iterable) or is_a(values, Ranking, Run):
        raise InputError(f"expected a list of {kind.__name__} objects; got {shown(values)}")
    made = list(values)
    for value in made:
        if not is_a(value, kind):
            raise InputError(f"expected a list of {kind.__name__} objects; got {shown(value)}")
    return made
