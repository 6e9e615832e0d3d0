"""Haystack: components that retrieve, rank and prune (haystack-ai 3).

    from thresher.integrations.haystack import ThresherRetriever

    retriever = ThresherRetriever("my-index", top_k=3)
    filters = {"field": "meta.year", "operator": ">=", "value": 2020}
    for document in retriever.run("who found radium", filters=filters)["documents"]:
        print(document.id, document.score, document.content, document.meta["thresher"]["spans"])

Components open what they need in `warm_up`, or at the first query. Given names and paths they are saved with the
pipeline they are in; `run_async` works in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.checks import shown, whole
from thresher.errors import InputError, require

require("haystack", extra="haystack", purpose="the Haystack adapter")

from haystack import Document, component, default_to_dict

from thresher.integrations import common
from thresher.pipeline.pipeline import Pipeline
from thresher.search.index import Index

if TYPE_CHECKING:
    from thresher.context.pruner import ContextPruner
    from thresher.index.filters import Filter


@component
class ThresherRetriever:
    """Retrieves passages as documents.

    A document's id is the docno, its content what a pipeline keeps of the passage, or, of an index, the whole; `meta`
    are the passage's metadata, with `meta["thresher"]` (see `thresher.integrations`).

    Args:
        source: the path of an index, which is opened as a pipeline; or a `Pipeline` or an `Index`.
        top_k: documents returned at most.
        filters: Haystack's; those of `run` replace them.
        where: a filter of thresher, which holds whatever `filters` say.
        max_context_tokens: tokens that all documents may cost together; of a pipeline.
        passages: `pruned`, as the pipeline hands them over; or `whole`, as an `Index` has them.

    Raises:
        InputError: an argument is not what it should be.
        ArtifactError: there is no index, once it is opened.
    """

    def __init__(
        self,
        source: Pipeline | Index | str | Path,
        top_k: int = 5,
        filters: dict[str, Any] | None = None,
        *,
        where: Filter | None = None,
        max_context_tokens: int | None = None,
        passages: str = "pruned",
    ) -> None:
        where_of(filters)
        if passages not in ("pruned", "whole"):
            raise InputError(f"passages are 'pruned' or 'whole'; got {shown(passages)}")
        if passages == "whole" and isinstance(source, Pipeline):
            raise InputError("an open Pipeline hands over pruned passages; for whole ones give an Index, or its path")
        common.check_tokens(source, max_context_tokens, of_whole=passages == "whole")
        self.source = source
        self.top_k, self.filters, self.where = whole("top_k", top_k, 1), filters, common.narrowed(where)
        self.max_context_tokens, self.passages = max_context_tokens, passages
        self._opened: Pipeline | Index | None = None

    def warm_up(self) -> None:
        """Open the index."""
        self._open()

    def _open(self) -> Pipeline | Index:
        if self._opened is None:
            source = self.source
            if self.passages == "whole" and isinstance(source, str | Path):
                source = Index.open(source)
            self._opened = common.open_source(source)
        return self._opened

    def to_dict(self) -> dict[str, Any]:
        """The component as plain JSON.

        Raises:
            InputError: it was made of an open pipeline.
        """
        is_index = isinstance(self.source, Index)
        source = self.source.path if isinstance(self.source, Index) else self.source
        if not isinstance(source, str | Path):
            raise InputError("a retriever made of an open Pipeline cannot be saved; make it of the index's path")
        return _saved(
            self,
            source=str(source),
            top_k=self.top_k,
            filters=self.filters,
            where=None if self.where is None else str(self.where),
            max_context_tokens=self.max_context_tokens,
            passages="whole" if is_index else self.passages,
        )

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The best passages.

        Args:
            query: the query.
            filters: in place of those of the component.
            top_k: in place of that of the component.

        Raises:
            InputError: a filter is not one, or does not fit the index's fields.
        """
        found = common.retrieve(
            self._open(),
            query,
            self.top_k if top_k is None else top_k,
            common.narrowed(self.where, where_of(self.filters if filters is None else filters)),
            self.max_context_tokens,
        )
        return {"documents": [_document(one) for one in found]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As `run`, in a thread."""
        return await asyncio.to_thread(self.run, query, filters, top_k)


@component
class ThresherRanker:
    """Reorders documents by a reranker, and keeps the first.

    Args:
        reranker: the name of a reranker (`TextRanker`, `Reranker.from_name`), or one of these.
        top_k: documents kept; None for all.
    """

    def __init__(self, reranker: common.Ranker | str = common.RANKER, top_k: int | None = None) -> None:
        self.reranker = reranker
        self.top_k = top_k if top_k is None else whole("top_k", top_k, 1)
        self._opened: common.Ranker | None = None

    def warm_up(self) -> None:
        """Open the reranker."""
        self._open()

    def _open(self) -> common.Ranker:
        if self._opened is None:
            self._opened = common.open_reranker(self.reranker)
        return self._opened

    def to_dict(self) -> dict[str, Any]:
        """The component as plain JSON.

        Raises:
            InputError: it was made of an open reranker.
        """
        if not isinstance(self.reranker, str):
            raise InputError("a ranker made of an open reranker cannot be saved; give the name of one")
        return _saved(self, reranker=self.reranker, top_k=self.top_k)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """The documents in the reranker's order, with its scores.

        Args:
            query: the query.
            documents: what is reordered.
            top_k: in place of that of the component.

        Raises:
            ModelError: the model fails.
        """
        found = common.rerank(
            self._open(), query, [_given(one) for one in documents], self.top_k if top_k is None else top_k
        )
        return {"documents": [_updated(documents[place], one) for place, one in found]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As `run`, in a thread."""
        return await asyncio.to_thread(self.run, query, documents, top_k)


@component
class ThresherPruner:
    """Cuts documents to the sentences that help with the query, in their order.

    Args:
        pruner: the name of a sentence scorer (`SentenceScorer.from_name`), or a `ContextPruner`.
        threshold: as `ContextPruner.prune`.
        max_tokens: tokens that all documents may cost together; None for no limit.
        keep_empty: return also documents of which nothing is kept, with an empty content.
    """

    def __init__(
        self,
        pruner: ContextPruner | str = common.PRUNER,
        *,
        threshold: float | str = "balanced",
        max_tokens: int | None = None,
        keep_empty: bool = False,
    ) -> None:
        if max_tokens is not None:
            whole("max_tokens", max_tokens, 1)
        self.pruner, self.threshold, self.max_tokens, self.keep_empty = pruner, threshold, max_tokens, keep_empty
        self._opened: ContextPruner | None = None

    def warm_up(self) -> None:
        """Open the scorer."""
        self._open()

    def _open(self) -> ContextPruner:
        if self._opened is None:
            self._opened = common.open_pruner(self.pruner)
        return self._opened

    def to_dict(self) -> dict[str, Any]:
        """The component as plain JSON.

        Raises:
            InputError: it was made of a `ContextPruner`.
        """
        if not isinstance(self.pruner, str):
            raise InputError("a pruner made of a ContextPruner cannot be saved; give the name of a scorer")
        return _saved(
            self,
            pruner=self.pruner,
            threshold=self.threshold,
            max_tokens=self.max_tokens,
            keep_empty=self.keep_empty,
        )

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document]) -> dict[str, list[Document]]:
        """What is kept of the documents.

        Raises:
            InputError: the threshold or the limit is out of range.
        """
        found = common.prune(
            self._open(),
            query,
            [_given(one) for one in documents],
            threshold=self.threshold,
            max_tokens=self.max_tokens,
            keep_empty=self.keep_empty,
        )
        return {"documents": [_updated(documents[place], one) for place, one in found]}

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, documents: list[Document]) -> dict[str, list[Document]]:
        """As `run`, in a thread."""
        return await asyncio.to_thread(self.run, query, documents)


def where_of(filters: object) -> common.Tree | None:
    """A filter from Haystack's dictionaries; None where there is none. `meta.` before a field's name is left out.

    Raises:
        InputError: it is not a filter.
    """
    if filters is None or filters == {}:
        return None
    if not isinstance(filters, Mapping):
        raise InputError(f"a filter of Haystack is a dictionary; got {shown(filters)}")
    missing = [name for name in ("operator",) if name not in filters]
    missing += [] if "field" not in filters or "value" in filters else ["value"]
    missing += [] if "field" in filters or "conditions" in filters else ["conditions"]
    if missing:
        raise InputError(f"{missing[0]!r} is missing in the filter {shown(filters)}")
    if "field" in filters:
        field = filters["field"]
        name = field.removeprefix("meta.") if isinstance(field, str) else field
        signs = ("==", "!=", ">", ">=", "<", "<=", "in", "not in")
        return common.comparison(name, filters["operator"], filters["value"], signs)
    conditions = filters["conditions"]
    if not isinstance(conditions, list | tuple):
        raise InputError(f"'conditions' in a filter is a list; got {shown(conditions)}")
    parts = [where_of(one) for one in conditions]
    return common.joined(filters["operator"], [one for one in parts if one is not None])


def _saved(of: object, **arguments: object) -> dict[str, Any]:
    made: dict[str, Any] = default_to_dict(of, **arguments)
    return made


def _document(found: common.Document) -> Document:
    return Document(id=found.docno, content=found.text, meta=found.metadata, score=found.score)


def _given(document: Document) -> common.Document:
    return common.Document(document.id, document.content or "", dict(document.meta), document.score or 0.0)


def _updated(document: Document, found: common.Document) -> Document:
    return replace(document, content=found.text, meta=found.metadata, score=found.score)
