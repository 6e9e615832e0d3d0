"""A small index with metadata, a pipeline over it, and a reranker and a pruner that need no model."""

import pytest

from thresher import ContextPruner, Index, Passage, Pipeline, Reranker, build_index
from thresher.build.recipe import AskStep, Recipe
from thresher.context import SentenceScorer, SplitPassage
from thresher.records import Span
from thresher.rerank import Answer

PASSAGES = [
    ("wheat", "Wheat", "Threshing separates the grain of wheat. Bells ring at noon.", "farm", 2020, ["grain", "tool"]),
    ("mill", "Mill", "A mill grinds grain into flour. The miller keeps a cat.", "farm", 2021, ["grain"]),
    ("winnow", "", "Wind carries chaff away while the grain falls. It is loud.", "farm", 2024, None),
    ("radium", "Radium", "The Curies found radium. A grain of it glows.", "lab", 1898, ["metal"]),
    ("sky", "Sky", "The sky is blue. Not one grain of dust is in it.", None, None, None),
]


class WordsJudge:
    """Rates a passage by the share of the query's words that it has."""

    name, comparisons_per_call, rates_only = "words", 32, True

    def __init__(self, _=""):
        self.scorer = SentenceScorer.from_name("lexical")

    async def answer(self, query, candidates, comparisons, client):
        texts = [candidates[one.items[0]].text for one in comparisons]
        scores = self.scorer.score([(query.text, SplitPassage(text, (Span(0, len(text)),))) for text in texts])
        return [Answer((one.items,), score=s.sentences[0]) for one, s in zip(comparisons, scores, strict=True)]


def metadata(place, year, tags):
    return {
        name: value
        for name, value in (("place", place), ("year", year), ("tags", tags), ("source", "book"))
        if value is not None
    }


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters") / "my-index"
    passages = [Passage(docno, text, title, metadata(*more)) for docno, title, text, *more in PASSAGES]
    recipe = Recipe(encode={"encoder": "bm25"}, ask=AskStep(context="lexical"))
    build_index(folder, passages, recipe)
    return folder


@pytest.fixture(scope="session")
def index(path):
    return Index.open(path)


@pytest.fixture(scope="session")
def pipeline(index):
    return Pipeline.open(index, vectors=None, rerank=None, context="lexical")


@pytest.fixture(scope="session")
def reranker():
    return Reranker(WordsJudge())


@pytest.fixture(scope="session")
def pruner():
    return ContextPruner("lexical")


@pytest.fixture
def anyio_backend():
    return "asyncio"
