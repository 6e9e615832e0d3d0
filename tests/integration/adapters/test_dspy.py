"""The DSPy adapter against dspy: as the configured retrieval model, and as a module's own."""

import asyncio

import pytest

pytest.importorskip("dspy")
import dspy

from tests.integration.adapters.conftest import PASSAGES
from thresher.errors import InputError
from thresher.integrations.dspy import ThresherRM

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TEXTS = {docno: text for docno, _, text, *_ in PASSAGES}


def test_the_configured_retrieval_model_answers(index):
    wanted = index.search("grain of wheat", 2)
    with dspy.context(rm=ThresherRM(index)):
        found = dspy.Retrieve(k=2)("grain of wheat")
    assert found.passages == [TEXTS[docno] for docno in wanted.docnos]


def test_passages_have_what_is_kept_with_spans_scores_and_metadata(pipeline):
    (first, *_) = ThresherRM(pipeline)("how is wheat separated")
    details = first.metadata["thresher"]
    assert (first.docno, first.long_text) == ("wheat", "Threshing separates the grain of wheat.")
    assert (first.metadata["year"], first.score) == (2020, details["score"])
    assert "".join(details["original"][start:end] for start, end in details["spans"]) == first.long_text


def test_k_filters_and_several_queries(index):
    model = ThresherRM(index, 5, where="place = farm")
    assert {one.docno for one in model("grain")} == {"wheat", "mill", "winnow"}
    assert {one.docno for one in model("grain", where="year >= 2021")} == {"mill", "winnow"}
    assert len(model("grain", k=1)) == 1
    assert [one.docno for one in model(["wheat", "", "flour"], k=1)] == ["wheat", "mill"]
    assert model.dump_state() == {"k": 5}
    with pytest.raises(InputError, match="a query is a string"):
        model([3])


def test_its_async_form_and_its_tool_give_the_same(index):
    model = ThresherRM(index, 2)
    found = [one.docno for one in model("grain of wheat")]
    assert [one.docno for one in asyncio.run(model.aforward("grain of wheat"))] == found
    tool = dspy.Tool(model.search)
    assert tool(query="grain of wheat") == [TEXTS[docno] for docno in found]
    assert tool.args == {"query": {"type": "string"}}
