"""Sources of neighbours over a real index, and a reranker that compares what they find."""

import random

import numpy as np
import pytest

from thresher.build.recipe import Recipe, VectorsStep
from thresher.build.stream import build_index
from thresher.errors import ConfigError, InputError
from thresher.pipeline.rerank import RerankerStage
from thresher.ranking import Ranking
from thresher.records import Passage, Query
from thresher.rerank.neighbours import (
    ArrayNeighbours,
    JournalNeighbours,
    PostingNeighbours,
    VectorNeighbours,
    frontier,
    neighbours_from_name,
)
from thresher.rerank.reranker import Reranker
from thresher.search import Index
from training.rerank.simulated import SimulatedJudge

WORDS = [f"w{i}" for i in range(24)]
PASSAGES = [
    Passage(f"d{i:02}", " ".join(random.Random(i).choices(WORDS[i % 4 :: 4], k=8)), f"title {i}") for i in range(60)
]


class Counting:
    """A dense encoder: a vector counts words."""

    name, dimensions, fingerprint = "counting", len(WORDS), "count"

    def accepts(self, fingerprint):
        return fingerprint == self.fingerprint

    def encode_passages(self, texts):
        return np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32)

    encode_queries = encode_passages


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("neighbours") / "index"
    build_index(path, PASSAGES, Recipe(vectors=VectorsStep(storage="float16", sketch=0)), dense=Counting())
    with Index.open(path) as opened:
        yield opened


def test_the_neighbours_by_vectors_are_the_largest_products(index):
    vectors = Counting().encode_passages([passage.contents for passage in PASSAGES])
    (near,) = VectorNeighbours(index, degree=5).near(["d07"])
    products = np.delete(vectors @ vectors[7], 7)
    assert [similarity for _, similarity in near] == sorted(products.tolist(), reverse=True)[:5]
    by_array = ArrayNeighbours([passage.docno for passage in PASSAGES], vectors, degree=5)
    assert [similarity for _, similarity in by_array.near(["d07"])[0]] == [similarity for _, similarity in near]
    assert by_array.near(["none"]) == [[]]


def test_the_neighbours_by_postings_are_what_the_text_finds(index):
    (near,) = PostingNeighbours(index, degree=4).near(["d12"])
    found = index.search(f"{PASSAGES[12].title} {PASSAGES[12].text}", 60)
    assert near == [pair for pair in found.pairs() if pair[0] != "d12"][:4]


def test_a_passage_that_the_index_lacks_has_none_and_another_index_is_refused(index):
    source = PostingNeighbours(index)
    assert source.near(["d01", "elsewhere"])[1] == []
    with pytest.raises(InputError, match=r"has none of the passages .*'elsewhere'"):
        source.near(["elsewhere"])


def test_the_neighbours_by_journal_are_products_of_rank_weights(index, tmp_path):
    rankings = {"q1": ["d01", "d02", "d03", "d04"], "q2": ["d03", "elsewhere", "d01"], "q3": ["d05", "d06"]}
    lines = [f"{qid} Q0 {one} {at} {-at} x" for qid, ranked in rankings.items() for at, one in enumerate(ranked, 1)]
    (tmp_path / "reranked.run").write_text("\n".join(lines) + "\n")
    weights = np.zeros((3, 7))
    for row, ranked in enumerate(rankings.values()):
        for place, docno in enumerate(ranked):
            if docno != "elsewhere":
                weights[row, int(docno[1:])] = (len(ranked) - place) / len(ranked)
    graph = weights.T @ weights
    for source in (JournalNeighbours.of_run(tmp_path / "reranked.run", index),
                   neighbours_from_name(f"journal:{tmp_path / 'reranked.run'}", index)):  # fmt: skip
        for number, near in enumerate(source.near([f"d{i:02}" for i in range(7)])):
            wanted = {f"d{i:02}": graph[number, i] for i in range(7) if i != number and graph[number, i]}
            assert dict(near) == pytest.approx(wanted)
            assert [value for _, value in near] == sorted((value for _, value in near), reverse=True)
    assert [one.docno for one in source.passages(["d05"])] == ["d05"]
    assert JournalNeighbours(rankings.values(), degree=1).near(["d01", "d07"]) == [[("d03", pytest.approx(5 / 6))], []]
    with pytest.raises(InputError, match="have no texts"):
        JournalNeighbours(rankings.values()).passages(["d01"])
    (tmp_path / "empty.run").write_text("")
    with pytest.raises(InputError, match="ranks nothing"):
        neighbours_from_name(f"journal:{tmp_path / 'empty.run'}", index)


def test_a_frontier_sums_shares_over_ranks():
    near = [[("a", 4.0), ("b", 2.0)], [("c", 9.0), ("b", 9.0), ("known", 9.0)]]
    # a: 1; b: 1/2 + 1/sqrt(2); c: 1/sqrt(2)
    assert frontier(near, {"known"}, 5) == ["b", "a", "c"]
    assert frontier(near, {"known"}, 1) == ["b"]
    assert frontier([[], [("x", 0.0), ("y", -1.0)]], (), 3) == ["x", "y"]


def test_a_reranker_finds_passages_that_the_first_stage_missed(index):
    """Only d00 of the 15 good passages is among the 30 candidates; the others are made of the same words as it."""
    utilities = {passage.docno: float(i % 4 == 0) * (100 - i) for i, passage in enumerate(PASSAGES)}
    docnos = ["d00", *(passage.docno for i, passage in enumerate(PASSAGES) if i % 4)][:30]
    candidates = Ranking(docnos).with_passages(index)
    judge = SimulatedJudge({"q": utilities})
    judge.reads_text = True
    plain = Reranker(judge, "slidegar:window=10,stride=5", depth=20).rank(Query("q", "q"), candidates)
    assert sorted(plain.docnos) == sorted(docnos)
    assert (plain.usage.calls, plain.usage.added) == (3, 0)
    for neighbours in (VectorNeighbours(index), PostingNeighbours(index)):
        reranker = Reranker(judge, "slidegar:window=10,stride=5", depth=20, neighbours=neighbours)
        result = reranker.rank(Query("q", "q"), candidates)
        assert len(set(result.docnos)) == len(result)
        assert set(docnos) <= set(result.docnos)
        assert len(docnos) < len(result) <= len(docnos) + result.usage.added
        assert [hit.text for hit in result] == [PASSAGES[int(hit.docno[1:])].text for hit in result]
        assert result.usage.calls == 3
        assert all(a > b for a, b in zip(result.scores, result.scores[1:], strict=False))
        assert result[0].docno == "d00"
        assert sum(utilities[docno] > 0 for docno in result.docnos[:10]) > 2


def test_what_does_not_go_together_is_refused(index):
    judge = SimulatedJudge({})
    with pytest.raises(ConfigError, match="adds no candidates"):
        Reranker(judge, "sliding", neighbours=PostingNeighbours(index))
    with pytest.raises(InputError, match="must be a Neighbours"):
        Reranker(judge, "slidegar", neighbours="vectors")
    with pytest.raises(ConfigError, match="only reorders"):
        RerankerStage(Reranker(judge, "slidegar", neighbours=PostingNeighbours(index)))
    with pytest.raises(ConfigError, match="needs an index"):
        neighbours_from_name("vectors", None)
    with pytest.raises(ConfigError, match="vectors, postings"):
        neighbours_from_name("friends", index)
    with pytest.raises(ConfigError, match="journal:FILE"):
        neighbours_from_name("journal", index)
    with pytest.raises(InputError, match="3 docnos"):
        ArrayNeighbours(["a", "b", "c"], np.zeros((2, 4)))


def test_vectors_are_needed(tmp_path):
    build_index(tmp_path / "bare", PASSAGES[:3], Recipe())
    with Index.open(tmp_path / "bare") as bare, pytest.raises(ConfigError, match="has no vectors"):
        neighbours_from_name("vectors", bare)
