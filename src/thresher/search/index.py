"""`Index`: one object over everything an index directory holds, however many segments and tiers it has.

    with thresher.Index.open("my-index") as index:
        for hit in index.search("what separates grain from chaff?", k=10):
            print(hit.rank, hit.docno, hit.score, hit.text)

An index answers from one commit (`thresher.search.snapshot`) until `refresh` takes up a later one. Query processing is
in `thresher.search.kernels`, escalation to the second tier in `thresher.search.tiers`.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, TypeAlias

from thresher.arguments import checked_call
from thresher.checks import is_a, path_of, shown, sound, whole
from thresher.errors import ArtifactVersionError, InputError
from thresher.index.collection import Collection, open_collection
from thresher.index.fields import typed
from thresher.index.filters import Where
from thresher.records import Query
from thresher.search.kernels.types import DROPPED
from thresher.search.queries import ALL_TERMS, check_arguments, check_tiers, to_row
from thresher.search.results import SearchRanking
from thresher.search.routing import RoutingModel
from thresher.search.searcher import explain as explain_row
from thresher.search.searcher import is_exact
from thresher.search.snapshot import Snapshot
from thresher.search.tiers import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from thresher.build.recipe import Recipe
    from thresher.build.writer import IndexWriter
    from thresher.encode import QueryEncoder
    from thresher.encode.shards import PassageEncoder
    from thresher.index.fields import Value
    from thresher.index.filters import Filter
    from thresher.index.layout import Layout
    from thresher.ranking import Ranking, Run
    from thresher.records import Passage, SparseBatch
    from thresher.search.parts import Masks
    from thresher.search.queries import AnyQuery, Tiers
    from thresher.search.results import StoredPassages
    from thresher.vectors.states import PassageStates
    from thresher.vectors.store import VectorStore

By: TypeAlias = Literal["sparse", "dense", "both"]
BY = frozenset(("sparse", "dense", "both"))
AUTO, SPARSE = "auto", "sparse"
"""The defaults of `Index.search`, compared as objects first: the values of others need not be strings."""

Allow: TypeAlias = "Sequence[str] | NDArray[np.bool_]"
"""Docnos, or a mask by passage number."""


class QueryVectors(Protocol):
    """The query side of a dense encoder."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of queries, float[n, dimensions]."""
        ...


def _by_vectors(by: object) -> bool:
    """Whether a search compares vectors.

    Raises:
        InputError: `by` is none of the three.
    """
    if not isinstance(by, str) or by not in BY:
        raise InputError(f"by must be 'sparse', 'dense' or 'both'; got {shown(by)}")
    return by != SPARSE


class Index:
    """An open index that answers queries. Safe to share between threads.

    Open one with `Index.open`: files are mapped into memory, and next to nothing is read. It answers from one commit,
    whatever writers do meanwhile, until `refresh` takes up the last one; rankings stay those of the commit they came
    from. `restricted` gives a view of some passages only.

    Args:
        collection: an open commit.
        follow: take up new commits before each search.
        model: decides when `tiers="auto"` searches the second tier, in place of what `calibrate tiers` stored.

    Attributes:
        path: the index's directory.
        scope: what the passages of a restricted view match; None for all passages.
    """

    _now: Snapshot

    def __init__(self, collection: Collection, *, follow: bool = False, model: RoutingModel | None = None) -> None:
        if not is_a(collection, Collection):
            raise InputError(f"an Index is made of an open commit; got {shown(collection)}; open one with Index.open")
        if not is_a(follow, bool) or not (model is None or is_a(model, RoutingModel)):
            raise InputError(f"follow must be True or False, and model a RoutingModel; got {follow!r}, {shown(model)}")
        self._take(Snapshot(collection, model=model), follow)

    def _take(self, snapshot: Snapshot, follow: bool) -> None:
        self.path, self.scope, self.follow = snapshot.collection.path, snapshot.scope, follow
        self._lock = threading.Lock()
        self._now = snapshot

    @classmethod
    def _of(cls, snapshot: Snapshot, follow: bool) -> Index:
        made = cls.__new__(cls)
        made._take(snapshot, follow)
        return made

    @classmethod
    @checked_call
    def open(cls, path: str | Path, follow: bool = False) -> Index:
        """Open the index in directory `path` at its last commit.

        Args:
            path: the index.
            follow: take up new commits before each search, which costs a look at one file.

        Raises:
            ArtifactError: there is no index, or a newer thresher wrote it.
            DamagedArtifactError: a file is missing, has the wrong size or cannot be read.
        """
        return cls._of(Snapshot(open_collection(path_of(path))), follow)

    def refresh(self) -> bool:
        """Take up the last commit. Returns whether it is another than before; what is open of both is kept.

        Raises:
            ArtifactError: the index is gone.
            DamagedArtifactError: a file is missing, has the wrong size or cannot be read.
        """
        with self._lock:
            now = self._now
            if now.collection.is_current():
                return False
            collection = open_collection(self.path, earlier=now.collection)
            changed = collection.commit.sha256 != now.collection.commit.sha256
            scope = None if now.scope is None else Where.parse(now.scope)
            self._now = Snapshot(collection, scope=scope, model=now.given_model, earlier=now)
            self.__dict__.pop("recipe", None)
            return changed

    def _current(self) -> Snapshot:
        """What a public call answers from."""
        if self.follow and not self._now.collection.is_current():
            self.refresh()
        return self._now

    def restricted(self, where: Filter) -> Index:
        """A view of the passages that match `where`, now and after `refresh`; no argument of a later call widens it.

        Deleted passages and those that do not match are not found, counted or named, by docno, number, search or
        vectors. Scores are those of the whole index. Duplicates that were folded are not named in a view.

        Args:
            where: a filter, as in `search`; a view of a view must match both.

        Raises:
            InputError: a field does not exist or has another type.
        """
        now = self._current()
        return self._of(
            Snapshot(now.collection, scope=now.narrowed(where), model=now.given_model, earlier=now), self.follow
        )

    def pinned(self) -> Index:
        """A view of this commit, which neither `follow` nor a later `refresh` of this index changes.

        It costs next to nothing: what is open is shared, so that each request of a server can have its own.
        """
        made = self._of(self._current(), follow=False)
        made.__dict__ |= {name: self.__dict__[name] for name in ("dense_encoder", "recipe") if name in self.__dict__}
        return made

    @checked_call
    def with_routing(self, model: RoutingModel | None) -> Index:
        """The same index with another decision on when the second tier is searched; None for the one stored."""
        now = self._current()
        return self._of(Snapshot(now.collection, scope=now.scope, model=model, earlier=now), self.follow)

    def writer(
        self, *, device: str = "auto", progress: bool = False, dense: PassageEncoder | None = None, merge: bool = True
    ) -> IndexWriter:
        """A writer that changes the index; what it commits is seen after `refresh`. Arguments as `IndexWriter.open`.

        Raises:
            InputError: this is a restricted view.
            ArtifactError: another writer is at work.
        """
        if self.scope is not None:
            raise InputError("a restricted view is not written to; open the index with Index.open")
        from thresher.build.writer import IndexWriter

        return IndexWriter.open(self.path, device=device, progress=progress, dense=dense, merge=merge)

    def close(self) -> None:
        """Release the files. Searching afterwards is an InputError; rankings that were returned stay readable."""
        for name in ("_now", "dense_encoder", "recipe"):
            self.__dict__.pop(name, None)

    def __reduce__(self) -> tuple[Callable[..., Index], tuple[object, ...]]:
        """An index is pickled, and copied, by path and commit: that is opened again, and refused where it is gone."""
        now, where = self._now, None if self.scope is None else str(self.scope)
        return _reopened, (now.stored.without_scope(), where, now.given_model, self.follow)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> NoReturn:  # called for attributes that `close` removed
        if name == "_now" and "path" in self.__dict__:
            raise InputError(f"the index {self.path} is closed; open it again with Index.open")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __len__(self) -> int:
        """Passages in all tiers, without those that are deleted."""
        return sum(self._current().stored.live)

    def __repr__(self) -> str:
        now = self._current()
        first = sum(live for live, part in zip(now.stored.live, now.parts, strict=True) if part.tier == 1)
        tiers = f", {first:,} of them in the first tier" if any(part.tier == 2 for part in now.parts) else ""
        view = "" if self.scope is None else f" where {self.scope}"
        return f"<Index {str(self.path)!r}: {sum(now.stored.live):,} passages{tiers}{view}>"

    def __contains__(self, docno: object) -> bool:
        """Whether the passage itself is there; one that was folded into another is not, see `representative`."""
        return isinstance(docno, str) and self._current().stored.find(docno) >= 0

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """What the files of each tier of each segment hold.

        Raises:
            InputError: this is a restricted view.
        """
        if self.scope is not None:
            raise InputError("a restricted view does not give the files of the index; open it with Index.open")
        return tuple(part.layout for part in self._current().parts)

    @property
    def commit(self) -> int:
        """The number of the commit it answers from."""
        return self._current().collection.commit.number

    @property
    def schema(self) -> dict[str, str]:
        """The metadata fields that filters and facets may name, with their types."""
        return typed(self._current().collection.schema)

    @property
    def tiered(self) -> bool:
        """Whether it has a second tier with passages."""
        return self._current().pair is not None

    @property
    def calibrated(self) -> bool:
        """Whether `tiers="auto"` decides per query if the second tier is searched; see `thresher calibrate tiers`."""
        pair = self._current().pair
        return pair is not None and pair.model is not None

    @property
    def encoder(self) -> QueryEncoder:
        """What turns query texts into weighted terms of the first tier, loaded on first use.

        Raises:
            ArtifactError: the index was built without one; search with weighted terms instead.
        """
        return self._current().first.space.encoder

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe the index was built with; the default recipe where the builder recorded none.

        Raises:
            ArtifactVersionError: it has keys that this release does not know.
        """
        from pydantic import ValidationError

        from thresher.build.recipe import Recipe

        commit = self._current().collection.commit
        try:
            return Recipe.model_validate(commit.fields.get("recipe") or {})
        except ValidationError as err:
            raise ArtifactVersionError(
                f"{self.path} was built by thresher {commit.version} with a recipe that this release does not read "
                f"({err.errors()[0]['loc']}); build the index again, or pass a recipe"
            ) from err

    @property
    def vectors(self) -> VectorStore | None:
        """The index's dense vectors, opened on first use; None where it was built without."""
        return self._current().stored.vectors

    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        approx: float | None = None,
        max_terms: int | None = None,
        plan: str = "auto",
        explain: bool = False,
        by: By = "sparse",
        vector: NDArray[np.floating] | None = None,
        where: Filter | None = None,
        allow: Allow | None = None,
    ) -> SearchRanking:
        """The k best passages for `query`; fewer only where fewer share a term with it.

        Args:
            query: a text, a `Query`, a mapping from term strings to weights, or a pair of term ids and weights.
                Repeated terms add up; terms the index does not know, and weights of 0, are ignored.
            k: how many, at least 0.
            tiers: of an index with two tiers, `both`, only the `first`, or `auto`: both, unless the tiers are
                calibrated and the first tier's answer has k passages and looks settled.
            approx: None for exact results. A number in (0, 1) scales the bounds of blocks before they are compared with
                the threshold: blocks that are unlikely to matter are skipped, and the result may miss passages.
            max_terms: keep only the heaviest query terms; the result is approximate if some are dropped.
            plan: `auto`, or a plan to force: `term-at-a-time`, `block-max`.
            explain: say in the result's `explanations` how it was found.
            by: `sparse`, by weighted terms; `dense`, by vectors, all of them compared; `both`, the two fused by
                reciprocal ranks.
            vector: float[dimensions], the query's, for `dense` and `both`; by default encoded from its text.
            where: return only passages whose metadata match this filter: a mapping, or a text.
            allow: return only these passages: docnos (those the index lacks are ignored), or bool[n] by passage number.

        Raises:
            InputError: an argument is out of range, a weight is negative or not finite, the index has no vectors, or a
                field of the filter does not exist or has another type.
            DamagedArtifactError: the index's files are damaged where the query reads them.
        """
        alpha, most = 1.0, ALL_TERMS
        if type(k) is not int or k < 0 or not (approx is max_terms is None and plan is AUTO and explain is False):
            k, alpha, most, _ = check_arguments(k, approx, max_terms, plan, explain=explain)
        now = self._current() if self.follow else self._now
        if tiers is not AUTO:
            check_tiers(tiers)
        only, space = now.only, now.first.space
        if only is None or by is not SPARSE or where is not None or allow is not None:
            wanted, masks = Wanted(k, alpha, most, plan, explain), now.masked(where, allow)
            if by is not SPARSE and _by_vectors(by):
                return self._compared(now, query, wanted, tiers, masks, vector, by)
            return now.answer(query, wanted, tiers, masks)
        terms, weights = to_row(query, space.vocabulary, space.load_encoder)  # in place: a function call counts here
        if space.statistics is not None:
            weights = space.statistics.weigh(terms, weights)
        docs, scores, row = only.top(terms, weights, k, alpha, most, plan, now.allowed)
        made = SearchRanking(now.stored, docs, None, scores, (alpha == 1 and not row[DROPPED]) or is_exact(row, alpha))
        if explain:
            made.explanations = (explain_row(row),)
        return made

    def search_batch(
        self,
        queries: Sequence[AnyQuery] | SparseBatch,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        approx: float | None = None,
        max_terms: int | None = None,
        plan: str = "auto",
        explain: bool = False,
        threads: int = 1,
        where: Filter | None = None,
        allow: Allow | None = None,
    ) -> Run:
        """The k best passages for each of `queries`, over `threads` threads; other arguments as `search`.

        Returns:
            rankings by the qid of a `Query`, and by the position (`"0"`, `"1"`, ...) of other queries.

        Raises:
            InputError: as `search`; or two queries have the same qid.
        """
        k, alpha, most, threads = check_arguments(k, approx, max_terms, plan, threads, explain=explain)
        check_tiers(tiers)
        now = self._current()
        wanted, masks = Wanted(k, alpha, most, plan, explain), now.masked(where, allow)
        return now.answer_batch(queries, wanted, tiers, masks, threads)

    def facets(
        self, field: str, query: AnyQuery | None = None, *, where: Filter | None = None, allow: Allow | None = None
    ) -> dict[Value, int]:
        """How many passages have each value of a metadata field, most first, then by value.

        Args:
            field: a field of the schema. Of a list of strings each is counted; dates are counted by day.
            query: count the passages that share a term with it, however many they are; by default all passages.
            where: as in `search`.
            allow: as in `search`.

        Raises:
            InputError: there is no such field; names those there are. Or as `search`.
        """
        now = self._current()
        if not isinstance(field, str):
            raise InputError(f"a field is named by a string; got {shown(field)}")
        counts = now.facets(field, query, now.masked(where, allow))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def with_neighbours(
        self,
        ranking: Ranking,
        query: AnyQuery,
        vector: NDArray[np.floating],
        count: int,
        *,
        tiers: Tiers = "auto",
        where: Filter | None = None,
        allow: Allow | None = None,
    ) -> Ranking:
        """A sparse ranking, with the passages nearest by vector that it lacks in the places of their sparse scores.

        Args:
            ranking: what `search` found. One of another commit is returned as it is.
            query: as it was searched.
            vector: float[dimensions], the query's.
            count: passages that are nearest; those in the ranking are among them.
            tiers: as in the search.
            where: as in the search.
            allow: as in the search.

        Returns:
            all passages of both, by sparse score, then docno; 0 where a passage shares no term with the query.

        Raises:
            InputError: the index has no vectors, or an argument is out of range.
        """
        now, count = self._now, whole("count", count, 1)
        if not isinstance(ranking, SearchRanking) or not now.found(ranking):
            return ranking
        check_tiers(tiers)
        return now.with_neighbours(ranking, query, vector, count, tiers, now.masked(where, allow))

    def terms(self, query: AnyQuery) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The query's term ids in the first tier (-1 for unknown ones) and their weights, which `search` also takes.

        Ids are those of this commit: after `refresh` they may be others.
        """
        return self._current().first.space.row(query)

    def passage(self, docno: str) -> Passage:
        """The passage with this docno.

        Raises:
            InputError: the index has none; says which passage it was folded into, or that it was pruned.
        """
        return self.passages([docno])[0]

    def aliases(self, docnos: Sequence[str]) -> list[tuple[str, ...]]:
        """Of each of these passages, the docnos of the duplicates that were folded into it; they are not in the index.

        Raises:
            InputError: the index lacks one.
        """
        return self._current().stored.aliases(docnos)

    def states_of(self, docnos: Sequence[str]) -> list[PassageStates | None]:
        """The stored states of these passages, for the model that reads them; None for those without.

        Raises:
            InputError: the index lacks one.
        """
        return self._current().stored.states_of(docnos)

    def representative(self, docno: str) -> str:
        """The docno under which the index holds this passage: its own, or that of the one it was folded into.

        Raises:
            InputError: neither is in the index.
        """
        return self._current().stored.representative(docno)

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos, in their order.

        Raises:
            InputError: the index lacks one.
        """
        return self._current().stored.passages(docnos)

    def numbers(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """int64[n]: the numbers of the passages with these docnos, -1 for those the index lacks."""
        return self._current().stored.numbers(docnos)

    def docnos_at(self, numbers: ArrayLike) -> list[str]:
        """The docnos of the passages with these numbers.

        Passages are numbered segment by segment, the first tier of a segment before its second, in the order they were
        indexed. Deleted ones keep their numbers until segments are merged.

        Raises:
            InputError: no passage has the number.
        """
        return self._current().stored.docnos_at(numbers)

    def passages_at(self, numbers: ArrayLike) -> list[Passage]:
        """The passages with these numbers.

        Raises:
            InputError: no passage has the number.
        """
        return self._current().stored.passages_at(numbers)

    def any_passage(self) -> Passage | None:
        """The first passage; None where there is none."""
        stored = self._current().stored
        number = stored.first()
        return None if number < 0 else stored.passages_at([number])[0]

    @cached_property
    def dense_encoder(self) -> QueryVectors:
        """What turns query texts into vectors like the index's, loaded on first use; it may be set.

        Raises:
            InputError: the index has no vectors.
        """
        return self._current().checked_vectors().open_encoder()

    def _compared(
        self,
        now: Snapshot,
        query: AnyQuery,
        wanted: Wanted,
        tiers: Tiers,
        masks: Masks,
        vector: NDArray[np.floating] | None,
        by: By,
    ) -> SearchRanking:
        """The best passages by vectors, or by both."""
        if vector is None:
            if not isinstance(query, str | Query):
                raise InputError("dense retrieval needs the query's text or its vector, not weighted terms")
            text = query.text if isinstance(query, Query) else query
            vector = self.dense_encoder.encode_queries([sound(text)])[0]
        dense = now.dense(vector, wanted.k, masks)
        return dense if by == "dense" else now.answer(query, wanted, tiers, masks).fused(dense, wanted.k)


def _reopened(stored: StoredPassages, where: str | None, model: RoutingModel | None, follow: bool) -> Index:
    """What a pickled index becomes."""
    made = Index(stored.collection, follow=follow, model=model)
    return made if where is None else made.restricted(where)
