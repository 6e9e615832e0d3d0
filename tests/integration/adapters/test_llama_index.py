"""The LlamaIndex adapter against llama-index-core: retrievers, postprocessors, embeddings, and its own filters."""

import asyncio

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from tests.integration.adapters.conftest import PASSAGES, metadata
from thresher import SparseEncoder
from thresher.errors import InputError
from thresher.integrations.llama_index import (
    ThresherPruner,
    ThresherReranker,
    ThresherRetriever,
    ThresherSparseEmbedding,
    where_of,
)

TEXTS = {docno: text for docno, _, text, *_ in PASSAGES}
METADATA = {docno: metadata(*more) for docno, _, _, *more in PASSAGES}


def test_a_pipelines_nodes_have_what_is_kept_with_spans_scores_and_metadata(pipeline):
    retriever = ThresherRetriever(pipeline, 2)
    (first, *_) = retriever.retrieve("how is wheat separated")
    details = first.metadata["thresher"]
    assert (first.node_id, first.text) == ("wheat", "Threshing separates the grain of wheat.")
    assert (first.metadata["year"], first.metadata["title"]) == (2020, "Wheat")
    assert "".join(details["original"][start:end] for start, end in details["spans"]) == first.text
    assert first.score == details["score"]
    shown = first.node.get_content(metadata_mode=MetadataMode.LLM)
    assert "Wheat" in shown
    assert "spans" not in shown
    again = asyncio.run(retriever.aretrieve("how is wheat separated"))
    assert [one.node_id for one in again] == [one.node_id for one in retriever.retrieve("how is wheat separated")]


def test_an_indexs_nodes_are_whole_and_in_its_order(index):
    found = ThresherRetriever(index, 5).retrieve(QueryBundle("grain of wheat"))
    wanted = index.search("grain of wheat", 5)
    assert [(one.node_id, one.score) for one in found] == wanted.pairs()
    assert [one.text for one in found] == [TEXTS[docno] for docno in wanted.docnos]


def one(key, operator, value=None):
    return MetadataFilter(key=key, operator=FilterOperator(operator), value=value)


@pytest.mark.parametrize("condition", FilterCondition)
@pytest.mark.parametrize(
    "filters",
    [
        [one("place", "==", "farm")],
        [one("place", "!=", "farm")],
        [one("year", ">", 2020), one("place", "==", "farm")],
        [one("year", ">=", 2020), one("year", "<", 2024)],
        [one("year", "<=", 2020), one("place", "in", ["farm", "mill"])],
        [one("year", "nin", [2020, 2021])],
        [one("tags", "any", ["grain", "metal"])],
        [one("tags", "all", ["grain", "tool"])],
        [one("tags", "contains", "metal"), one("year", "is_empty")],
        [one("place", "is_empty")],
    ],
    ids=str,
)
def test_filters_match_what_llama_index_matches(index, filters, condition):
    given = MetadataFilters(filters=filters, condition=condition)
    matches = build_metadata_filter_fn(METADATA.__getitem__, given)
    found = ThresherRetriever(index, 10, filters=given).retrieve("grain")
    assert {one.node_id for one in found} == {docno for docno in METADATA if matches(docno)}


def test_what_could_not_be_run_is_refused_when_it_is_made(index, pipeline):
    with pytest.raises(InputError, match="max_context_tokens needs a Pipeline"):
        ThresherRetriever(index, max_context_tokens=100)
    with pytest.raises(InputError, match="max_context_tokens"):
        ThresherRetriever(pipeline, max_context_tokens=0)
    with pytest.raises(InputError, match="k must be"):
        ThresherRetriever(index, k=0)


def test_filters_nest_and_join_a_filter_of_thresher(index):
    inner = MetadataFilters(filters=[one("place", "==", "lab"), one("year", "==", 2020)], condition=FilterCondition.OR)
    given = MetadataFilters(filters=[inner, one("tags", "contains", "grain")])
    found = ThresherRetriever(index, 10, filters=given, where="place = farm").retrieve("grain")
    assert [one.node_id for one in found] == ["wheat"]
    assert where_of(MetadataFilters(filters=[])) is None
    with pytest.raises(InputError, match="text_match"):
        where_of(one("place", "text_match", "far"))
    with pytest.raises(InputError, match="give a list"):
        where_of(one("place", "in", "farm"))


def test_reranked_and_pruned_nodes_keep_their_metadata_and_leave_those_given_alone(index, reranker, pruner):
    found = ThresherRetriever(index, 5).retrieve("grain")
    best = ThresherReranker(reranker=reranker, top_n=2).postprocess_nodes(found, query_str="why is the sky blue")
    assert (len(best), best[0].node_id) == (2, "sky")
    assert best[0].score > best[1].score
    assert set(best[0].metadata["thresher"]["scores"]) == {"search", "rerank"}
    kept = ThresherPruner(pruner=pruner).postprocess_nodes(best, query_bundle=QueryBundle("why is the sky blue"))
    assert (kept[0].text, kept[0].score) == ("The sky is blue.", best[0].score)
    assert kept[0].metadata["thresher"]["original"] == TEXTS["sky"]
    assert kept[0].metadata["source"] == "book"
    assert [one.text for one in found] == [TEXTS[one.node_id] for one in found]
    assert "rerank" not in found[0].metadata["thresher"]["scores"]


def test_nodes_of_other_retrievers_are_reranked_and_pruned(reranker, pruner):
    texts = ["Cats sleep.", "Rain falls. Dogs bark."]
    nodes = [NodeWithScore(node=TextNode(text=text, metadata={"page": n})) for n, text in enumerate(texts)]
    chain = [ThresherReranker(reranker=reranker), ThresherPruner(pruner=pruner)]

    async def run(nodes):
        for part in chain:
            nodes = await part.apostprocess_nodes(nodes, query_str="why does rain fall")
        return nodes

    (kept,) = asyncio.run(run(nodes))
    assert (kept.text, kept.metadata["page"]) == ("Rain falls.", 1)
    assert kept.metadata["thresher"]["spans"] == [[0, 11]]
    assert "spans" not in kept.node.get_content(metadata_mode=MetadataMode.EMBED)
    with pytest.raises(InputError, match="query_str"):
        chain[0].postprocess_nodes(nodes)


def test_postprocessors_work_in_a_query_engine(index, reranker, pruner):
    from llama_index.core import get_response_synthesizer
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine

    engine = RetrieverQueryEngine(
        ThresherRetriever(index, 5),
        response_synthesizer=get_response_synthesizer(llm=MockLLM(), response_mode="compact"),
        node_postprocessors=[ThresherReranker(reranker=reranker, top_n=1), ThresherPruner(pruner=pruner)],
    )
    answer = engine.query("why is the sky blue")
    assert [one.text for one in answer.source_nodes] == ["The sky is blue."]
    assert "The sky is blue." in str(answer)
    assert "grain of dust" not in str(answer)


def test_sparse_embeddings_are_the_encoders():
    encoder = SparseEncoder.from_name("bm25", texts=list(TEXTS.values()))
    embedding = ThresherSparseEmbedding(encoder)
    texts = list(TEXTS.values())
    batch = encoder.encode_passages(texts)
    rows = [
        dict(zip(batch.terms[a:b].tolist(), batch.weights[a:b].tolist(), strict=True))
        for a, b in zip(batch.indptr, batch.indptr[1:], strict=False)
    ]
    assert embedding.get_text_embedding_batch(texts) == rows
    assert asyncio.run(embedding.aget_text_embedding_batch(texts)) == rows
    assert embedding.get_text_embedding(texts[0]) == rows[0]
    asked = encoder.encode_queries(["grain"])
    assert embedding.get_query_embedding("grain") == {int(asked.terms[0]): float(asked.weights[0])}
    assert asyncio.run(embedding.aget_query_embedding("grain")) == embedding.get_query_embedding("grain")
    assert embedding.model_name == encoder.name
