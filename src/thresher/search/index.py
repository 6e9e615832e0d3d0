"""`Index`: one object over everything an index directory holds, however many segments and tiers it has.

    with thresher.Index.open("my-index") as index:
        for hit in index.search("what separates grain from chaff?", k=10):
            print(hit.rank, hit.docno, hit.score, hit.text)

It answers from one commit until `refresh` takes up a later one; that, its views, and what the index holds are in
`thresher.search.opened`. Query processing is in `thresher.search.kernels`, escalation to the second tier in
`thresher.search.tiers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.checks import shown, sound, whole
from thresher.errors import InputError
from thresher.records import Query
from thresher.search.effort import EXACT_LIMITS
from thresher.search.kernels.types import COMPLETE, EXACT, FOREVER
from thresher.search.opened import OpenIndex
from thresher.search.promises import answer_batch_promised, answer_promised
from thresher.search.queries import check_arguments, check_tiers, to_row
from thresher.search.recall import FIELD, KS
from thresher.search.results import SearchRanking
from thresher.search.searcher import explain as explain_row
from thresher.search.tiers import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from thresher.build.writer import IndexWriter
    from thresher.encode.shards import PassageEncoder
    from thresher.index.fields import Value
    from thresher.index.filters import Filter
    from thresher.ranking import Ranking, Run
    from thresher.records import Passage, SparseBatch
    from thresher.search.any_index import Allow, By
    from thresher.search.effort import Effort
    from thresher.search.parts import Masks
    from thresher.search.queries import AnyQuery, Tiers
    from thresher.search.recall import RecallCurve
    from thresher.search.snapshot import Snapshot
    from thresher.vectors.states import PassageStates

BY = frozenset(("sparse", "dense", "both"))
AUTO, SPARSE = "auto", "sparse"
"""The defaults of `Index.search`, compared as objects first: the values of others need not be strings."""


def _by_vectors(by: object) -> bool:
    """Whether a search compares vectors.

    Raises:
        InputError: `by` is none of the three.
    """
    if not isinstance(by, str) or by not in BY:
        raise InputError(f"by must be 'sparse', 'dense' or 'both'; got {shown(by)}")
    return by != SPARSE


class Index(OpenIndex):
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

    def writer(
        self,
        *,
        device: str = "auto",
        progress: bool = False,
        dense: PassageEncoder | None = None,
        merge: bool = True,
        memory_gb: float | None = None,
    ) -> IndexWriter:
        """A writer that changes the index; what it commits is seen after `refresh`. Arguments as `IndexWriter.open`.

        Raises:
            InputError: this is a restricted view.
            ArtifactError: another writer is at work.
        """
        if self.scope is not None:
            raise InputError("a restricted view is not written to; open the index with Index.open")
        from thresher.build.writer import IndexWriter

        return IndexWriter.open(
            self.path, device=device, progress=progress, dense=dense, merge=merge, memory_gb=memory_gb
        )

    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        effort: Effort | None = None,
        recall: float | None = None,
        deadline_ms: float | None = None,
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
            effort: limits to what is done, None for none; the result's `exact` says whether it is exact all the same.
            recall: the share of the exact answer to expect, on average over queries, above 0 and below 1: effort is
                chosen by what `calibrate_recall` measured; exact where nothing was. See `expected_recall`.
            deadline_ms: milliseconds from now; what was found by then is returned, `complete` says whether it is all.
            plan: `auto`, or a plan to force: `term-at-a-time`, `block-max`.
            explain: say in the result's `explanations` how it was found.
            by: `sparse`, by weighted terms; `dense`, by vectors, all compared; `both`, fused by reciprocal ranks.
            vector: float[dimensions], the query's, for `dense` and `both`; by default encoded from its text.
            where: return only passages whose metadata match this filter: a mapping, or a text.
            allow: return only these passages: docnos (those the index lacks are ignored), or bool[n] by passage number.

        Raises:
            InputError: an argument is out of range, a weight negative or not finite, or vectors or a field are missing.
            DamagedArtifactError: the index's files are damaged where the query reads them.
        """
        limits, deadline = EXACT_LIMITS, FOREVER
        plain = effort is None and recall is None and deadline_ms is None and plan is AUTO and explain is False
        if type(k) is not int or k < 0 or not plain:
            k, limits, deadline, _ = check_arguments(k, effort, plan, 1, recall, deadline_ms, explain=explain)
        now = self._current() if self.follow else self._now
        if tiers is not AUTO:
            check_tiers(tiers)
        only, space = now.only, now.first.space
        if only is None or by is not SPARSE or where is not None or allow is not None or recall is not None:
            wanted, masks = Wanted(k, limits, plan, explain, deadline), now.masked(where, allow)
            if by is not SPARSE and _by_vectors(by):
                return self._compared(now, query, wanted, tiers, masks, vector, by)
            if recall is not None:
                return answer_promised(now, query, wanted, recall, tiers, masks)
            return now.answer(query, wanted, tiers, masks)
        terms, weights = to_row(query, space.vocabulary, space.load_encoder)  # in place: a function call counts here
        if space.statistics is not None:
            weights = space.statistics.weigh(terms, weights)
        docs, scores, row = only.top(terms, weights, k, limits, plan, now.allowed, 0.0, deadline)
        told = (explain_row(row),) if explain else ()
        return SearchRanking(now.stored, docs, None, scores, row[EXACT] == 1, None, False, told, row[COMPLETE] == 1)

    def search_batch(
        self,
        queries: Sequence[AnyQuery] | SparseBatch,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        effort: Effort | None = None,
        recall: float | None = None,
        deadline_ms: float | None = None,
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
        k, limits, deadline, threads = check_arguments(k, effort, plan, threads, recall, deadline_ms, explain=explain)
        check_tiers(tiers)
        now = self._current()
        wanted, masks = Wanted(k, limits, plan, explain, deadline), now.masked(where, allow)
        if recall is not None:
            return answer_batch_promised(now, queries, wanted, recall, tiers, masks, threads)
        return now.answer_batch(queries, wanted, tiers, masks, threads)

    def calibrate_recall(
        self,
        queries: Iterable[AnyQuery] | None = None,
        *,
        ks: Sequence[int] = KS,
        sample: int = 1000,
        source: str = "",
        seed: int = 0,
    ) -> RecallCurve:
        """Measure what a search for less than the exact answer saves, and write it into the index for `recall=`.

        Args:
            queries: logged queries, without judgements; by default `sample` queries made of words of the passages.
            ks: lengths of answers; those of more than there are passages are left out.
            sample: how many queries to make, if none are given.
            source: where the queries came from, in words.
            seed: of the sample, and of what part of the queries chooses.

        Returns:
            what was measured, which `refresh` takes up.

        Raises:
            InputError: this is a restricted view, there are too few queries with hits, or a text is given to an index
                without encoder.
            ArtifactError: another writer is at work.
        """
        from thresher.index.transaction import Transaction
        from thresher.search.recall_fit import fit_recall

        curve = fit_recall(self, queries, ks=ks, sample=sample, source=source, seed=seed)
        with Transaction(self.path) as transaction:
            transaction.commit(**{FIELD: curve.as_json()})
        return curve

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
