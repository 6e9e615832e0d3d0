"""LangChain: a retriever, and document compressors that rerank and prune (langchain-core 1).

    from thresher.integrations.langchain import ThresherPruner, ThresherReranker, ThresherRetriever

    retriever = ThresherRetriever(source="my-index", k=3, where="lang = en")
    for document in retriever.invoke("who found radium"):
        print(document.id, document.page_content, document.metadata["thresher"]["spans"])

The async forms work in a thread. langchain-core has no interface for sparse embeddings. `ThresherSparseEmbeddings` is
what langchain-qdrant takes, which asks for methods and not for a base class.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from thresher.checks import shown
from thresher.errors import InputError, require

require("langchain_core", extra="langchain", purpose="the LangChain adapter")

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from langchain_core.structured_query import Comparison, FilterDirective, Operation
from pydantic import ConfigDict, Field, field_validator, model_validator

from thresher.context.pruner import ContextPruner
from thresher.encode import SparseEncoder
from thresher.index.filters import Filter, Where
from thresher.integrations import common
from thresher.pipeline.pipeline import Pipeline
from thresher.pipeline.text_ranker import TextRanker
from thresher.rerank.reranker import Reranker
from thresher.search.index import Index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.records import SparseBatch

_OPEN = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


def where_of(directive: FilterDirective) -> common.Tree:
    """A filter from the directive of a `langchain_core.structured_query.StructuredQuery`.

    Raises:
        InputError: it has a comparison that thresher lacks (`like`).
    """
    if isinstance(directive, Operation):
        return common.joined(directive.operator.value, [where_of(one) for one in directive.arguments])
    if isinstance(directive, Comparison):
        signs = ("eq", "ne", "gt", "gte", "lt", "lte", "contain", "in", "nin")
        return common.comparison(directive.attribute, directive.comparator.value, directive.value, signs)
    raise InputError(f"a structured query holds comparisons and operations; got {shown(directive)}")


def _filter(value: object) -> Where | None:
    if value is None:
        return None
    return Where.parse(where_of(value) if isinstance(value, FilterDirective) else value)  # type: ignore[arg-type]  # checks


class ThresherRetriever(BaseRetriever):
    """Retrieves passages as documents.

    `invoke(query, k=..., where=...)` takes both for one call; a filter given there narrows that of the retriever.

    Args:
        source: a `Pipeline`, an `Index`, or the path of an index, which is opened as a pipeline.
        k: documents returned at most.
        where: return only passages whose metadata match this filter: a mapping, a text, or the filter of a
            `StructuredQuery`.
        max_context_tokens: tokens that all documents may cost together; of a pipeline.

    A document's `id` is the docno, its `page_content` what a pipeline keeps of the passage, or, of an index, the whole;
    `metadata` are the passage's, with `metadata["thresher"]` (see `thresher.integrations`).

    Raises:
        InputError: a filter does not fit the index's fields.
        ArtifactError: there is no index.
    """

    model_config = _OPEN

    source: Pipeline | Index
    k: int = Field(default=5, ge=1)
    where: Where | None = None
    max_context_tokens: int | None = Field(default=None, ge=1)

    @field_validator("source", mode="before")
    @classmethod
    def _opened(cls, value: object) -> Pipeline | Index:
        return common.open_source(value)

    @field_validator("where", mode="before")
    @classmethod
    def _parsed(cls, value: object) -> Where | None:
        return _filter(value)

    @model_validator(mode="after")
    def _limited(self) -> ThresherRetriever:
        common.check_tokens(self.source, self.max_context_tokens)
        return self

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: Filter | FilterDirective | None = None,
    ) -> list[Document]:
        found = common.retrieve(
            self.source,
            query,
            self.k if k is None else k,
            common.narrowed(self.where, _filter(where)),
            self.max_context_tokens,
        )
        return [_document(one) for one in found]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **settings: object
    ) -> list[Document]:
        manager = run_manager.get_sync()
        found: list[Document] = await run_in_executor(
            None, self._get_relevant_documents, query, run_manager=manager, **settings
        )
        return found


class ThresherReranker(BaseDocumentCompressor):
    """Reorders documents by a reranker, and keeps the first.

    Args:
        reranker: a `TextRanker`, a `Reranker`, or the name of one (`TextRanker`, `Reranker.from_name`).
        top_n: documents kept; None for all.

    The score is in `metadata["relevance_score"]`, and with those before it in `metadata["thresher"]["scores"]`.
    """

    model_config = _OPEN

    reranker: Reranker | TextRanker = Field(default_factory=lambda: common.open_reranker(common.RANKER))
    top_n: int | None = Field(default=None, ge=1)

    @field_validator("reranker", mode="before")
    @classmethod
    def _opened(cls, value: object) -> common.Ranker:
        return common.open_reranker(value)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The documents in the reranker's order."""
        found = common.rerank(self.reranker, query, [_given(one) for one in documents], self.top_n)
        return [_updated(documents[place], one, relevance_score=one.score) for place, one in found]


class ThresherPruner(BaseDocumentCompressor):
    """Cuts documents to the sentences that help with the query, in their order.

    Args:
        pruner: a `ContextPruner`, or the name of its sentence scorer.
        threshold: as `ContextPruner.prune`.
        max_tokens: tokens that all documents may cost together; None for no limit.
        keep_empty: return also documents of which nothing is kept, with an empty text.

    `metadata["thresher"]` has the original text and the spans of it that are kept, in code points.
    """

    model_config = _OPEN

    pruner: ContextPruner = Field(default_factory=lambda: common.open_pruner(common.PRUNER))
    threshold: float | str = "balanced"
    max_tokens: int | None = Field(default=None, ge=1)
    keep_empty: bool = False

    @field_validator("pruner", mode="before")
    @classmethod
    def _opened(cls, value: object) -> ContextPruner:
        return common.open_pruner(value)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """What is kept of the documents."""
        found = common.prune(
            self.pruner,
            query,
            [_given(one) for one in documents],
            threshold=self.threshold,
            max_tokens=self.max_tokens,
            keep_empty=self.keep_empty,
        )
        return [_updated(documents[place], one) for place, one in found]


class SparseVector(NamedTuple):
    """Weighted terms of a text.

    Attributes:
        indices: term ids, ascending.
        values: their weights.
    """

    indices: list[int]
    values: list[float]


class ThresherSparseEmbeddings:
    """Weighted terms of texts and queries, compared by dot product: the `sparse_embedding` of a `QdrantVectorStore`.

    Args:
        encoder: a `SparseEncoder`, or the name of one (`SparseEncoder.from_name`).
    """

    def __init__(self, encoder: SparseEncoder | str) -> None:
        self.encoder = encoder if isinstance(encoder, SparseEncoder) else SparseEncoder.from_name(encoder)

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """The terms of each text."""
        return _vectors(self.encoder.encode_passages(texts))

    def embed_query(self, text: str) -> SparseVector:
        """The terms of a query."""
        return _vectors(self.encoder.encode_queries([text]))[0]

    async def aembed_documents(self, texts: list[str]) -> list[SparseVector]:
        """As `embed_documents`, in a thread."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> SparseVector:
        """As `embed_query`, in a thread."""
        return await asyncio.to_thread(self.embed_query, text)


def _vectors(batch: SparseBatch) -> list[SparseVector]:
    return [SparseVector([*row], [*row.values()]) for row in common.term_weights(batch)]


def _document(found: common.Document) -> Document:
    return Document(id=found.docno, page_content=found.text, metadata=found.metadata)


def _given(document: Document) -> common.Document:
    return common.Document(document.id or "", document.page_content, dict(document.metadata))


def _updated(document: Document, found: common.Document, **metadata: object) -> Document:
    return document.model_copy(update={"page_content": found.text, "metadata": {**found.metadata, **metadata}})
