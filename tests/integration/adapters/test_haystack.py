"""The Haystack adapter against haystack-ai: pipelines, their serialisation, async, and its own filters."""

import asyncio
import os

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.core.errors import DeserializationError
from haystack.utils.filters import document_matches_filter

from tests.integration.adapters.conftest import PASSAGES, metadata
from thresher.errors import InputError
from thresher.integrations.haystack import ThresherPruner, ThresherRanker, ThresherRetriever

TEXTS = {docno: text for docno, _, text, *_ in PASSAGES}
DOCUMENTS = [Document(id=docno, content=text, meta=metadata(*more)) for docno, _, text, *more in PASSAGES]


def test_a_pipelines_documents_have_what_is_kept_with_spans_scores_and_metadata(pipeline):
    (first, *_) = ThresherRetriever(pipeline, top_k=2).run("how is wheat separated")["documents"]
    details = first.meta["thresher"]
    assert (first.id, first.content) == ("wheat", "Threshing separates the grain of wheat.")
    assert (first.meta["year"], first.meta["title"], first.score) == (2020, "Wheat", details["score"])
    assert "".join(details["original"][start:end] for start, end in details["spans"]) == first.content


def test_an_indexs_documents_are_whole_and_in_its_order(index):
    found = ThresherRetriever(index).run("grain of wheat", top_k=4)["documents"]
    wanted = index.search("grain of wheat", 4)
    assert [(one.id, one.score) for one in found] == wanted.pairs()
    assert [one.content for one in found] == [TEXTS[docno] for docno in wanted.docnos]


def one(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


FARM, LATE = one("meta.place", "==", "farm"), one("meta.year", ">=", 2021)


@pytest.mark.parametrize(
    "filters",
    [
        FARM,
        one("place", "!=", "farm"),
        one("meta.place", "==", None),
        one("meta.place", "!=", None),
        one("meta.year", "<", 2021),
        one("meta.year", "<=", 2020),
        one("meta.year", ">", 2020),
        one("meta.year", "in", [2020, 1898]),
        one("meta.place", "not in", ["lab"]),
        {"operator": "AND", "conditions": [FARM, LATE]},
        {"operator": "OR", "conditions": [one("meta.place", "==", "lab"), LATE]},
        {"operator": "NOT", "conditions": [FARM, LATE]},
        {"operator": "AND", "conditions": [FARM, {"operator": "NOT", "conditions": [LATE]}]},
    ],
    ids=str,
)
def test_filters_match_what_haystack_matches(index, filters):
    found = ThresherRetriever(index, top_k=10).run("grain", filters=filters)["documents"]
    assert {one.id for one in found} == {one.id for one in DOCUMENTS if document_matches_filter(filters, one)}


def test_filters_of_a_run_replace_those_of_the_component_and_never_its_scope(index):
    retriever = ThresherRetriever(index, top_k=10, filters=LATE, where="place = farm")
    assert {one.id for one in retriever.run("grain")["documents"]} == {"mill", "winnow"}
    early = one("meta.year", "<", 2021)
    assert {one.id for one in retriever.run("grain", filters=early)["documents"]} == {"wheat"}


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"field": "meta.year", "value": 3}, "'operator' is missing"),
        ({"field": "meta.year", "operator": "=="}, "'value' is missing"),
        ({"operator": "AND"}, "'conditions' is missing"),
        ({"operator": "XOR", "conditions": [FARM]}, "and, or or not"),
        (one("meta.year", "~", 3), "use one of ==, !="),
        (one("meta.year", "in", 3), "give a list"),
        ([FARM], "is a dictionary"),
    ],
)
def test_a_filter_that_is_none_is_refused(index, filters, message):
    with pytest.raises(InputError, match=message):
        ThresherRetriever(index, filters=filters)
    with pytest.raises(InputError, match=message):
        ThresherRetriever(index).run("grain", filters=filters)


def test_ranked_and_pruned_documents_keep_their_metadata(reranker, pruner):
    best = ThresherRanker(reranker).run("why is the sky blue", DOCUMENTS, top_k=2)["documents"]
    assert (len(best), best[0].id, best[0].meta["source"]) == (2, "sky", "book")
    assert best[0].score > best[1].score
    (kept, *_) = ThresherPruner(pruner).run("why is the sky blue", best)["documents"]
    assert (kept.id, kept.content, kept.score) == ("sky", "The sky is blue.", best[0].score)
    assert kept.meta["thresher"]["original"] == TEXTS["sky"]
    assert kept.meta["thresher"]["spans"] == [[0, 16]]
    assert DOCUMENTS[-1].content == TEXTS["sky"]
    everything = ThresherPruner(pruner, keep_empty=True).run("rain", DOCUMENTS)["documents"]
    assert len(everything) == len(DOCUMENTS)
    assert ThresherRanker(reranker).run("rain", [])["documents"] == []


def whole(path):
    made = Pipeline()
    made.add_component("retriever", ThresherRetriever(str(path), top_k=4, where="year >= 1000", passages="whole"))
    made.add_component("ranker", ThresherRanker("tests-words", top_k=2))
    made.add_component("pruner", ThresherPruner("lexical", threshold=0.1))
    made.connect("retriever.documents", "ranker.documents")
    made.connect("ranker.documents", "pruner.documents")
    return made


@pytest.fixture
def named(monkeypatch):
    """A reranker by name, as a package would register one."""
    from tests.integration.adapters.conftest import WordsJudge
    from thresher.rerank.judges import JUDGES

    target = "tests.integration.adapters.conftest:WordsJudge"
    monkeypatch.setitem(JUDGES._targets, "tests-words", target)
    assert WordsJudge("").name == "words"


@pytest.mark.usefixtures("named")
def test_a_pipeline_is_saved_loaded_and_run_and_its_async_form_agrees(path):
    query = "how is grain ground into flour"
    asked = {name: {"query": query} for name in ("retriever", "ranker", "pruner")}
    made = whole(path)
    with pytest.raises(DeserializationError, match="allowlist"):
        Pipeline.loads(made.dumps())
    again = Pipeline.loads(made.dumps(), allowed_modules=["thresher.integrations.haystack"])
    found = again.run(asked)["pruner"]["documents"]
    assert (found[0].id, found[0].content.strip()) == ("mill", "A mill grinds grain into flour.")
    assert made.run(asked)["pruner"]["documents"] == found
    assert again.to_dict()["components"] == made.to_dict()["components"]

    async def ask():
        return await made.run_async(asked)

    assert asyncio.run(ask())["pruner"]["documents"] == found


def test_what_cannot_be_saved_says_so(index, pipeline, reranker, pruner):
    assert ThresherRetriever(index).to_dict()["init_parameters"]["source"] == str(index.path)
    for part in (ThresherRetriever(pipeline), ThresherRanker(reranker), ThresherPruner(pruner)):
        with pytest.raises(InputError, match="cannot be saved"):
            part.to_dict()


def test_what_could_not_be_run_is_refused_when_it_is_made(index, pipeline):
    for source, more in ((index, {}), (index.path, {"passages": "whole"})):
        with pytest.raises(InputError, match="max_context_tokens needs a Pipeline"):
            ThresherRetriever(source, max_context_tokens=100, **more)
    with pytest.raises(InputError, match="for whole ones give an Index"):
        ThresherRetriever(pipeline, passages="whole")
    with pytest.raises(InputError, match="max_context_tokens"):
        ThresherRetriever(pipeline, max_context_tokens=0)
    with pytest.raises(InputError, match="max_tokens"):
        ThresherPruner("lexical", max_tokens=0)
