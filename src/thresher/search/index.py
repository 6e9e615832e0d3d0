"""`Index`: one object over everything an index directory holds, however many tiers it has.

    with thresher.Index.open("my-index") as index:
        for hit in index.search("what separates grain from chaff?", k=10):
            print(hit.rank, hit.docno, hit.score, hit.text)

Query processing is in `thresher.search.kernels`, escalation to the second tier and merging in `thresher.search.tiers`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, TypeAlias

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import load_later
from thresher.checks import shown, sound
from thresher.errors import ArtifactVersionError, DamagedArtifactError, InputError
from thresher.index.collection import Collection, open_collection
from thresher.publish import MANIFEST
from thresher.ranking import Run
from thresher.records import Query, SparseBatch
from thresher.search.kernels.types import DROPPED
from thresher.search.queries import ALL_TERMS, check_arguments, check_tiers, listed, qids_of, to_batch, to_row
from thresher.search.results import SearchRanking, StoredPassages, reopened
from thresher.search.routing import RoutingModel
from thresher.search.searcher import TierSearcher, is_exact
from thresher.search.searcher import explain as explain_row
from thresher.search.statistics import Bm25Statistics
from thresher.search.tiers import Part, TierPair, TierTerms, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from thresher.build.recipe import Recipe
    from thresher.encode import QueryEncoder
    from thresher.index.layout import Layout
    from thresher.records import Passage
    from thresher.search.queries import AnyQuery, TermIds, Tiers
    from thresher.search.searcher import Found
    from thresher.vectors.retrieve import DenseIndex
    from thresher.vectors.store import VectorStore

By: TypeAlias = Literal["sparse", "dense", "both"]
BY = frozenset(("sparse", "dense", "both"))
AUTO, SPARSE = "auto", "sparse"
"""The defaults of `Index.search`, compared as objects first: the values of others need not be strings."""


class QueryVectors(Protocol):
    """The query side of a dense encoder."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of queries, float[n, dimensions]."""
        ...


_OPEN = ("layouts", "_stored", "_first", "_pair", "_collection", "_statistics", "_vocabulary")
"""Attributes that a closed index lacks."""


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

    Open one with `Index.open`: files are mapped into memory, and next to nothing is read.

    Args:
        layouts: the first tier, and the second where there is one.
        model: when `tiers="auto"` searches the second tier; without it, always.
        collection: what the layouts belong to.

    Attributes:
        layouts: what the tiers' files hold.
        path: the index's directory.
        tiered: whether it has a second tier with passages.
        calibrated: whether `tiers="auto"` decides per query if the second tier is searched; see `thresher calibrate
            tiers`.
    """

    layouts: tuple[Layout, ...]
    _stored: StoredPassages
    _first: TierSearcher
    _pair: TierPair | None
    _statistics: Bm25Statistics | None
    _vocabulary: TermIds

    @checked_call
    def __init__(
        self, layouts: Sequence[Layout], model: RoutingModel | None = None, collection: Collection | None = None
    ) -> None:
        if not layouts:
            raise InputError("an index has one layout or two, and none was given; open one with Index.open")
        self.layouts = tuple(layouts)
        self._collection = collection
        self.path = self.layouts[0].path if collection is None else collection.path
        self._stored = StoredPassages.of(self.layouts, collection)
        self._sizes = self._stored.sizes
        self._model = model
        self._first = TierSearcher(self.layouts[0])
        self._pair = None
        self.tiered = len(self.layouts) > 1 and self._sizes[1] > 0
        self._vocabulary = self._first.vocabulary
        self._statistics = None
        self.calibrated = self.tiered and model is not None
        if self.tiered:
            self._pair = TierPair(self._first, TierSearcher(self.layouts[1]), model)
        joint = self._pair is not None and self._pair.comparable
        if self._pair is not None and joint:
            self._vocabulary = self._pair.vocabulary
        if self.layouts[0].counts.idf:
            numbers = self._pair.vocabulary if self._pair is not None and joint else TierTerms([self._first.vocabulary])
            parts = [Whole(layout) for layout in (self.layouts if joint else self.layouts[:1])]
            self._statistics = Bm25Statistics(parts, numbers)

    @classmethod
    def open(cls, path: str | Path) -> Index:
        """Open the index in directory `path`, with its second tier if it has one.

        Raises:
            ArtifactError: there is no index, or a newer thresher wrote it.
            DamagedArtifactError: a file is missing, has the wrong size or cannot be read.
        """
        return cls._over(open_collection(path))

    @classmethod
    def _over(cls, collection: Collection) -> Index:
        """The index that answers from an open collection."""
        routing, model = collection.commit.routing, None
        if routing is not None:
            try:
                model = RoutingModel.from_json(routing)
            except (ValueError, KeyError, TypeError, OverflowError) as err:
                problem = f"its routing cannot be read ({err}); run `thresher calibrate tiers` again"
                raise DamagedArtifactError(str(collection.path / MANIFEST), problem) from err
        return cls([part.layout for part in collection.parts], model, collection)

    def close(self) -> None:
        """Release the files. Searching afterwards is an InputError; rankings that were returned stay readable.

        What a ranking still reads is released with it.
        """
        for name in (*_OPEN, "encoder", "vectors", "dense_encoder", "_neighbours"):
            self.__dict__.pop(name, None)

    def __reduce__(self) -> tuple[Callable[..., Index], tuple[object, ...]]:
        """An index is pickled, and copied, by its path: it is opened again, and refused where it was replaced."""
        if self._collection is not None:
            return Index._over, (self._collection,)
        _, (tiers,) = self._stored.__reduce__()
        return _reopened, (tiers, self._model)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> NoReturn:  # called for attributes that `close` removed
        if name in _OPEN:
            raise InputError(f"the index {self.path} is closed; open it again with Index.open")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __len__(self) -> int:
        """Passages in all tiers."""
        return sum(self._sizes)

    def __repr__(self) -> str:
        tiers = f", {self._sizes[0]:,} of them in the first tier" if len(self._sizes) > 1 else ""
        return f"<Index {str(self.path)!r}: {len(self):,} passages{tiers}>"

    def __contains__(self, docno: object) -> bool:
        """Whether the passage itself is there; one that was folded into another is not, see `representative`."""
        return isinstance(docno, str) and self._stored.find(docno) >= 0

    @cached_property
    def encoder(self) -> QueryEncoder:
        """What turns query texts into weighted terms of the first tier, loaded on first use.

        Raises:
            ArtifactError: the index was built without one; search with weighted terms instead.
        """
        loaded = self._first.encoder
        bound = getattr(loaded, "with_vocabulary", None)
        return loaded if bound is None else bound(self._vocabulary.find)

    def _load_encoder(self) -> QueryEncoder:
        return self.encoder

    def weighed(self, terms: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weights that passages are scored with: those of the query, for BM25 times the IDF of each term."""
        return weights if self._statistics is None else self._statistics.weigh(terms, weights)

    def _row(self, query: AnyQuery) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        terms, weights = to_row(query, self._vocabulary, self._load_encoder)
        return terms, weights if self._statistics is None else self._statistics.weigh(terms, weights)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe the index was built with; the default recipe where the builder recorded none.

        Raises:
            ArtifactVersionError: it has keys that this release does not know.
        """
        from pydantic import ValidationError

        from thresher.build.recipe import Recipe

        fields = {} if self._collection is None else self._collection.commit.fields
        try:
            return Recipe.model_validate(fields.get("recipe") or {})
        except ValidationError as err:
            version = self.layouts[0].manifest.version
            raise ArtifactVersionError(
                f"{self.path} was built by thresher {version} with a recipe that this release does not read "
                f"({err.errors()[0]['loc']}); build the index again, or pass a recipe"
            ) from err

    @cached_property
    def vectors(self) -> VectorStore | None:
        """The index's dense vectors, opened on first use; None where it was built without."""
        from thresher.vectors.store import FOLDER, VectorStore

        directory = self.layouts[0].path / FOLDER
        return load_later(
            self.layouts[0].path,
            self.layouts[0].manifest,
            lambda: VectorStore.open(directory) if directory.is_dir() else None,
        )

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

        Raises:
            InputError: an argument is out of range, a weight is negative or not finite, or the index has no vectors.
            DamagedArtifactError: the index's files are damaged where the query reads them.
        """
        alpha, most = 1.0, ALL_TERMS
        if type(k) is not int or k < 0 or not (approx is max_terms is None and plan is AUTO and explain is False):
            k, alpha, most, _ = check_arguments(k, approx, max_terms, plan, explain=explain)
        if by is not SPARSE and _by_vectors(by):
            dense = self._dense(query, k, vector)
            if by == "dense":
                return dense
            sparse = self.search(query, k, tiers=tiers, approx=approx, max_terms=max_terms, plan=plan, explain=explain)
            return self._fused(sparse, dense, k)
        if tiers is not AUTO:
            check_tiers(tiers)
        first, pair = self._first, self._pair
        terms, weights = self._row(query)
        if pair is None:  # in place: a function call counts here
            docs, scores, row = first.top(terms, weights, k, alpha, most, plan)
            exact = (alpha == 1 and not row[DROPPED]) or is_exact(row, alpha)
            made = SearchRanking(self._stored, docs, None, scores, exact)
            if explain:
                made.explanations = (explain_row(row),)
            return made
        kept = Part.of(first, first.top(terms, weights, pair.first_depth(k, tiers), alpha, most, plan), alpha, explain)
        if not pair.escalates(terms, weights, kept, k, tiers):
            return self._first_only(pair, terms, weights, kept, k)
        other = pair.second_row(query, terms, weights)
        pruned = Part.of(pair.second, pair.second.top(*other, k, alpha, most, plan), alpha, explain)
        return self._merged(pair, kept, pruned, k)

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
    ) -> Run:
        """The k best passages for each of `queries`, over `threads` threads; other arguments as `search`.

        Returns:
            rankings by the qid of a `Query`, and by the position (`"0"`, `"1"`, ...) of other queries.

        Raises:
            InputError: as `search`; or two queries have the same qid.
        """
        k, alpha, most, threads = check_arguments(k, approx, max_terms, plan, threads, explain=explain)
        check_tiers(tiers)
        first, pair = self._first, self._pair
        asked = listed(queries)
        qids = qids_of(asked)
        rows = to_batch(asked, self._vocabulary, self._load_encoder)
        if self._statistics is not None:
            rows = (*rows[:2], self._statistics.weigh(rows[1], rows[2], rows[0]))
        wide = k if pair is None else pair.first_depth(k, tiers)
        found = first.top_batch(rows, wide, alpha, most, plan, threads)
        if pair is None:
            rankings = [self._untiered(one, alpha, explain) for one in found]
            return Run(dict(zip(qids, rankings, strict=True)))
        indptr, terms, weights = rows
        bounds = list(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True))
        each = [(terms[low:high], weights[low:high]) for low, high in bounds]
        parts = [Part.of(first, one, alpha, explain) for one in found]
        through = [i for i, part in enumerate(parts) if pair.escalates(*each[i], part, k, tiers)]
        given = [None] * len(each) if isinstance(asked, SparseBatch) else asked
        others = to_batch(
            [pair.second_query(given[i], *each[i]) for i in through], pair.second.vocabulary, pair.load_encoder
        )
        others = (*others[:2], pair.weighed(others[1], others[2]))
        second = dict(zip(through, pair.second.top_batch(others, k, alpha, most, plan, threads), strict=True))
        made = {}
        for i, (qid, part) in enumerate(zip(qids, parts, strict=True)):
            if i in second:
                made[qid] = self._merged(pair, part, Part.of(pair.second, second[i], alpha, explain), k)
            else:
                made[qid] = self._first_only(pair, *each[i], part, k)
        return Run(made)

    def terms(self, query: AnyQuery) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The query's term ids in the first tier (-1 for unknown ones) and their weights, which `search` also takes."""
        return to_row(query, self._vocabulary, self._load_encoder)

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
        return self._stored.aliases(docnos)

    def representative(self, docno: str) -> str:
        """The docno under which the index holds this passage: its own, or that of the one it was folded into.

        Raises:
            InputError: neither is in the index.
        """
        return self._stored.representative(docno)

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos, in their order.

        Raises:
            InputError: the index lacks one.
        """
        return self._stored.passages(docnos)

    def numbers(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """int64[n]: the numbers of the passages with these docnos, -1 for those the index lacks."""
        return self._stored.numbers(docnos)

    def docnos_at(self, numbers: NDArray[np.int64]) -> list[str]:
        """The docnos of the passages with these numbers: the order they were indexed, the second tier after the first.

        Raises:
            InputError: a number is out of range.
        """
        return self._stored.docnos_at(numbers)

    def passages_at(self, numbers: NDArray[np.int64]) -> list[Passage]:
        """The passages with these numbers.

        Raises:
            InputError: a number is out of range.
        """
        return self._stored.passages_at(numbers)

    @cached_property
    def dense_encoder(self) -> QueryVectors:
        """What turns query texts into vectors like the index's, loaded on first use; it may be set.

        Raises:
            InputError: the index has no vectors.
        """
        return self._vectors().open_encoder()

    @cached_property
    def _neighbours(self) -> DenseIndex:
        from thresher.vectors.retrieve import DenseIndex

        return DenseIndex.over(self._vectors())

    def _vectors(self) -> VectorStore:
        if self.vectors is None:
            raise InputError(f"the index {self.path} has no vectors; build it with a [vectors] table in its recipe")
        return self.vectors

    def _dense(self, query: AnyQuery, k: int, vector: NDArray[np.floating] | None) -> SearchRanking:
        if vector is None:
            if not isinstance(query, str | Query):
                raise InputError("dense retrieval needs the query's text or its vector, not weighted terms")
            text = query.text if isinstance(query, Query) else query
            vector = self.dense_encoder.encode_queries([sound(text)])[0]
        if not k or not len(self._vectors()):
            numbers, scores = np.zeros(0, np.int64), np.zeros(0)
        else:
            asked = self._vectors().checked_query(vector)
            (found,) = self._neighbours.search(asked[None], k, passages=self._stored)
            numbers, scores = found.numbers, found.scores
        exact = len(self._vectors()) == len(self)
        made = SearchRanking(
            self._stored, None, numbers, scores, exact, self._tiers_of(numbers), self._pair is not None
        )
        made.source = "dense"
        return made

    def _fused(self, sparse: SearchRanking, dense: SearchRanking, k: int) -> SearchRanking:
        fused = sparse.fuse(dense, depth=k)
        numbers, exact = self.numbers(fused.docnos), fused.exact
        tiers = self._tiers_of(numbers)
        made = SearchRanking(
            self._stored, None, numbers, fused.scores, exact, tiers, sparse.escalated, sparse.explanations
        )
        made.source = "fuse"
        return made

    def _tiers_of(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.where(numbers < self._sizes[0], 1, 2).astype(np.uint8)

    def _untiered(self, found: Found, alpha: float, explain: bool) -> SearchRanking:
        docs, scores, row = found
        told = (explain_row(row),) if explain else ()
        return SearchRanking(self._stored, docs, None, scores, is_exact(row, alpha), None, False, told)

    def _first_only(
        self, pair: TierPair, terms: NDArray[np.int64], weights: NDArray[np.float32], kept: Part, k: int
    ) -> SearchRanking:
        exact = kept.exact and pair.settled(terms, weights, kept, k)
        docs, scores = kept.docs[:k], kept.scores[:k]
        return SearchRanking(self._stored, docs, None, scores, exact, None, False, kept.explanations)

    def _merged(self, pair: TierPair, kept: Part, pruned: Part, k: int) -> SearchRanking:
        places, scores = pair.merge(kept, pruned, k)
        border = len(kept.docs)
        tiers = np.where(places < border, 1, 2).astype(np.uint8)
        numbers = np.concatenate(
            [self.layouts[0].numbers_of(kept.docs), self.layouts[1].numbers_of(pruned.docs) + self._sizes[0]]
        )[places]
        one_scale = pair.comparable or not border or not len(pruned.docs)
        exact = kept.exact and pruned.exact and one_scale
        told = kept.explanations + pruned.explanations
        return SearchRanking(self._stored, None, numbers, scores, exact, tiers, True, told)


def _reopened(tiers: Sequence[tuple[Path, str]], model: RoutingModel | None) -> Index:
    """What a pickled index becomes."""
    return Index([reopened(path, build) for path, build in tiers], model)
