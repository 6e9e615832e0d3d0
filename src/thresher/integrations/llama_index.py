"""LlamaIndex: a retriever, node postprocessors that rerank and prune, and a sparse embedding (llama-index-core .14).

    from thresher.integrations.llama_index import ThresherPruner, ThresherReranker, ThresherRetriever

    retriever = ThresherRetriever("my-index", k=3)
    for found in retriever.retrieve("who found radium"):
        print(found.node_id, found.score, found.text, found.metadata["thresher"]["spans"])

The async forms work in a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thresher.checks import shown, whole
from thresher.encode.encoder import SparseEncoder
from thresher.errors import InputError, require

require("llama_index.core", extra="llama-index", purpose="the LlamaIndex adapter")

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from thresher.context.pruner import ContextPruner
from thresher.integrations import common
from thresher.pipeline.text_ranker import TextRanker
from thresher.rerank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thresher.index.filters import Filter
    from thresher.pipeline.pipeline import Pipeline
    from thresher.search.index import Index

_SIGNS = ("==", "!=", ">", ">=", "<", "<=", "in", "nin", "any", "all", "contains", "is_empty")
_OPEN = ConfigDict(arbitrary_types_allowed=True)


def where_of(filters: MetadataFilters | MetadataFilter | None) -> common.Tree | None:
    """A filter from LlamaIndex's; None where there is none.

    `is_empty` matches passages without the field.

    Raises:
        InputError: a comparison has no counterpart (`text_match`).
    """
    if filters is None:
        return None
    if isinstance(filters, MetadataFilter):
        return common.comparison(filters.key, filters.operator.value, filters.value, _SIGNS)
    if not isinstance(filters, MetadataFilters):
        raise InputError(f"filters are MetadataFilters; got {shown(filters)}")
    if not filters.filters:
        return None
    parts = [where_of(one) for one in filters.filters]
    condition = "and" if filters.condition is None else filters.condition.value
    return common.joined(condition, [one for one in parts if one is not None], nots="or")


class ThresherRetriever(BaseRetriever):
    """Retrieves passages as nodes.

    A node's id is the docno, its text what a pipeline keeps of the passage, or, of an index, the whole; its metadata
    are the passage's, with `metadata["thresher"]` (see `thresher.integrations`), which neither models nor embeddings
    are shown. Scores are those of the final ranking.

    Args:
        source: a `Pipeline`, an `Index`, or the path of an index, which is opened as a pipeline.
        k: nodes returned at most.
        filters: return only passages whose metadata match.
        where: the same as a filter of thresher; both hold where both are given.
        max_context_tokens: tokens that all nodes may cost together; of a pipeline.
        callback_manager: LlamaIndex's.

    Raises:
        InputError: the source or a filter is not one.
        ArtifactError: there is no index.
    """

    def __init__(
        self,
        source: Pipeline | Index | str | Path,
        k: int = 5,
        *,
        filters: MetadataFilters | None = None,
        where: Filter | None = None,
        max_context_tokens: int | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self.source, self.k = common.open_source(source), whole("k", k, 1)
        common.check_tokens(self.source, max_context_tokens)
        self.max_context_tokens = max_context_tokens
        self.where = common.narrowed(where, where_of(filters))

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = common.retrieve(self.source, query_bundle.query_str, self.k, self.where, self.max_context_tokens)
        return [_node(one) for one in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class ThresherReranker(BaseNodePostprocessor):
    """Reorders nodes by a reranker, and keeps the first.

    Args:
        reranker: a `TextRanker`, a `Reranker`, or the name of one (`TextRanker`, `Reranker.from_name`).
        top_n: nodes kept; None for all.
    """

    model_config = _OPEN

    reranker: Reranker | TextRanker = Field(default_factory=lambda: common.open_reranker(common.RANKER), exclude=True)
    top_n: int | None = Field(default=None, ge=1)

    @field_validator("reranker", mode="before")
    @classmethod
    def _opened(cls, value: object) -> common.Ranker:
        return common.open_reranker(value)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name of it."""
        return "ThresherReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found = common.rerank(self.reranker, _query(query_bundle), [_given(one) for one in nodes], self.top_n)
        return [_updated(nodes[place], one) for place, one in found]


class ThresherPruner(BaseNodePostprocessor):
    """Cuts nodes to the sentences that help with the query, in their order.

    Args:
        pruner: a `ContextPruner`, or the name of its sentence scorer.
        threshold: as `ContextPruner.prune`.
        max_tokens: tokens that all nodes may cost together; None for no limit.
        keep_empty: return also nodes of which nothing is kept, with an empty text.
    """

    model_config = _OPEN

    pruner: ContextPruner = Field(default_factory=lambda: common.open_pruner(common.PRUNER), exclude=True)
    threshold: float | str = "balanced"
    max_tokens: int | None = Field(default=None, ge=1)
    keep_empty: bool = False

    @field_validator("pruner", mode="before")
    @classmethod
    def _opened(cls, value: object) -> ContextPruner:
        return common.open_pruner(value)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name of it."""
        return "ThresherPruner"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found = common.prune(
            self.pruner,
            _query(query_bundle),
            [_given(one) for one in nodes],
            threshold=self.threshold,
            max_tokens=self.max_tokens,
            keep_empty=self.keep_empty,
        )
        return [_updated(nodes[place], one) for place, one in found]


class ThresherSparseEmbedding(BaseSparseEmbedding):
    """Weighted terms of texts and queries, by term id. LlamaIndex compares them by cosine, an index by dot product.

    Args:
        encoder: a `SparseEncoder`, or the name of one (`SparseEncoder.from_name`).
    """

    _encoder: SparseEncoder = PrivateAttr()

    def __init__(self, encoder: SparseEncoder | str, **settings: object) -> None:
        made = encoder if isinstance(encoder, SparseEncoder) else SparseEncoder.from_name(encoder)
        super().__init__(**{"model_name": made.name, **settings})
        self._encoder = made

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name of it."""
        return "ThresherSparseEmbedding"

    def _get_query_embedding(self, query: str) -> dict[int, float]:
        return common.term_weights(self._encoder.encode_queries([query]))[0]

    async def _aget_query_embedding(self, query: str) -> dict[int, float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> dict[int, float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> dict[int, float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: Sequence[str]) -> list[dict[int, float]]:
        return common.term_weights(self._encoder.encode_passages(list(texts)))

    async def _aget_text_embeddings(self, texts: Sequence[str]) -> list[dict[int, float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def _query(bundle: QueryBundle | None) -> str:
    if bundle is None:
        raise InputError("nodes are reranked and pruned for a query; give query_str or query_bundle")
    return str(bundle.query_str)


def _node(found: common.Document) -> NodeWithScore:
    hidden = [common.KEY]
    node = TextNode(
        id_=found.docno,
        text=found.text,
        metadata=found.metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
    )
    return NodeWithScore(node=node, score=found.score)


def _given(found: NodeWithScore) -> common.Document:
    node = found.node
    return common.Document(node.node_id, node.get_content(), dict(node.metadata), found.score or 0.0)


def _updated(before: NodeWithScore, found: common.Document) -> NodeWithScore:
    """The node with another text and further metadata; the node given stays as it is."""
    node = before.node.model_copy(deep=True)
    if found.text != before.node.get_content():
        node.set_content(found.text)
    node.metadata = found.metadata
    for hidden in (node.excluded_llm_metadata_keys, node.excluded_embed_metadata_keys):
        if common.KEY not in hidden:
            hidden.append(common.KEY)
    return NodeWithScore(node=node, score=found.score)
