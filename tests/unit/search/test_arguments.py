"""Whatever is passed to the search, rankings and vectors, only errors of thresher come out."""

from pathlib import Path

import numpy as np
import pytest

from tests.indexes import segment_of
from thresher.build.stream import build_index
from thresher.errors import InputError, ThresherError
from thresher.fusion import normalise_scores
from thresher.index import IndexBuilder, open_layout
from thresher.ranking import Ranking, Run, fuse, fuse_runs
from thresher.records import Passage, Query, Span, SparseBatch
from thresher.search import Effort, Index, calibrate_tiers
from thresher.vectors import DenseIndex, VectorStore

RANKING = Ranking(["a", "b"])
VECTOR = np.ones(4, np.float32)
ODD = [
    None, "", "2", b"x", 5, -1, 0, 1.5, float("nan"), float("inf"), -0.5, 2**63, 10**400, 10**5000, True, [], {},
    [1, 2], ["a"], {"a": 1.0}, {5: 1.0}, object(), np.array([1.5]), np.zeros((2, 2)), Path("/nope"), "\ud800", "a\0b",
    [None], [[1], [2, 3]], (1, 2), ({}, {}), 1 + 2j, Query("a", "w1"), RANKING,
]  # fmt: skip
FEW = [None, "2", -1, 1.5, float("nan"), 10**400, [], np.zeros((2, 2)), "\ud800", object()]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("arguments") / "x"
    build_index(path, [Passage(f"d{i}", f"w{i % 3} w{i % 5}") for i in range(30)], "bm25")
    VectorStore.build(segment_of(path) / "vectors", [np.random.default_rng(0).normal(size=(30, 4))], sketch=2)
    with Index.open(path) as opened:
        yield opened


SEARCH = {
    "query": lambda x, odd: x.search(odd),
    "k": lambda x, odd: x.search("w1", odd),
    "tiers": lambda x, odd: x.search("w1", tiers=odd),
    "effort": lambda x, odd: x.search("w1", effort=odd),
    "terms of the effort": lambda x, odd: x.search("w1", effort=Effort(terms=odd)),
    "candidates of the effort": lambda x, odd: x.search("w1", effort=Effort(candidates=odd)),
    "blocks of the effort": lambda x, odd: x.search("w1", effort=Effort(blocks=odd)),
    "an effort's text": lambda _, odd: Effort.parse(odd),
    "deadline_ms": lambda x, odd: x.search("w1", deadline_ms=odd),
    "plan": lambda x, odd: x.search("w1", plan=odd),
    "by": lambda x, odd: x.search("w1", by=odd),
    "vector": lambda x, odd: x.search("w1", by="dense", vector=[odd] if odd is None else odd),
    "k of both": lambda x, odd: x.search("w1", odd, by="both", vector=VECTOR),
    "queries": lambda x, odd: x.search_batch(odd),
    "a query of many": lambda x, odd: x.search_batch([odd]),
    "k of many": lambda x, odd: x.search_batch(["w1"], odd),
    "threads": lambda x, odd: x.search_batch(["w1"], threads=odd),
    "terms": lambda x, odd: x.terms(odd),
    "weight": lambda x, odd: x.search({"w1": odd}),
    "weight of an id": lambda x, odd: x.search(([1], [odd])),
    "id": lambda x, odd: x.search(([odd], [1.0])),
    "ids": lambda x, odd: x.search((odd, [1.0])),
    "weights": lambda x, odd: x.search(([1], odd)),
    "docno": lambda x, odd: x.passage(odd),
    "docnos": lambda x, odd: x.passages(odd),
    "docnos to number": lambda x, odd: x.numbers(odd),
    "numbers": lambda x, odd: x.docnos_at(odd),
    "numbers of passages": lambda x, odd: x.passages_at(odd),
    "contains": lambda x, odd: odd in x,
    "cut": lambda x, odd: x.search("w1").cut(odd),
    "take": lambda x, odd: x.search("w1").take(odd),
    "scores of take": lambda x, odd: x.search("w1").take([0], odd),
    "path": lambda x, odd: Index.open(odd),
    "path of a layout": lambda x, odd: open_layout(odd),
    "index to calibrate": lambda x, odd: calibrate_tiers(odd, ["w1"]),
}
VECTORS = {
    "path": lambda x, odd: VectorStore.open(odd),
    "find": lambda x, odd: x.vectors.find(odd),
    "ranking to find": lambda x, odd: x.vectors.find_ranking(odd),
    "positions": lambda x, odd: x.vectors.scores(VECTOR, odd),
    "query": lambda x, odd: x.vectors.scores(odd, np.array([1])),
    "rows": lambda x, odd: x.vectors.rows_of(odd),
    "ranking": lambda x, odd: x.vectors.interpolate(odd, VECTOR),
    "vectors": lambda x, odd: x.search("w1").interpolate(odd, VECTOR),
    "store": lambda x, odd: DenseIndex.over(odd),
    "queries": lambda x, odd: DenseIndex.over(x.vectors).search(odd, passages=x),
    "k": lambda x, odd: DenseIndex.over(x.vectors).search(VECTOR[None], odd, passages=x),
} | {
    name: lambda x, odd, name=name: x.vectors.interpolate(x.search("w1"), VECTOR, **{name: odd})
    for name in ("alpha", "k", "normalise", "stopping", "missing", "feedback", "feedback_weight", "positions")
}
RANKINGS = {
    "docnos": lambda _, odd: Ranking(odd),
    "scores": lambda _, odd: Ranking(["a"], odd),
    "score": lambda _, odd: Ranking(["a"], [odd]),
    "pairs": lambda _, odd: Ranking.from_pairs(odd),
    "hits": lambda _, odd: Ranking.from_hits(odd),
    "cut": lambda _, odd: RANKING.cut(odd),
    "take": lambda _, odd: RANKING.take(odd),
    "texts": lambda _, odd: RANKING.with_passages(odd),
    "fuse": lambda _, odd: fuse(odd),
    "fuse with": lambda _, odd: RANKING.fuse(odd),
    "weights": lambda _, odd: fuse([RANKING, RANKING], weights=odd),
    "weight": lambda _, odd: fuse([RANKING, RANKING], weights=[1, odd]),
    "constant": lambda _, odd: fuse([RANKING], k=odd),
    "depth": lambda _, odd: fuse([RANKING], depth=odd),
    "how": lambda _, odd: fuse([RANKING], how=odd),
    "qid": lambda _, odd: RANKING.to_run(odd),
    "tag": lambda _, odd: RANKING.to_run("q", odd),
    "run": lambda _, odd: Run(odd),
    "ranking of a run": lambda _, odd: Run({"q": odd}),
    "runs": lambda _, odd: fuse_runs(odd),
    "normalise": lambda _, odd: normalise_scores(odd, "min-max"),
    "docno of a passage": lambda _, odd: Passage(odd, "x"),
    "text": lambda _, odd: Passage("d", odd),
    "metadata": lambda _, odd: Passage("d", "x", "", odd),
    "text of a query": lambda _, odd: Query("q", odd),
    "batch": lambda _, odd: SparseBatch(odd, odd, odd),
    "span": lambda _, odd: Span(odd, 3),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "call", [pytest.param(call, id=f"{of} {name}") for of, calls in
             (("search", SEARCH), ("vectors", VECTORS), ("ranking", RANKINGS)) for name, call in calls.items()]
)  # fmt: skip
def test_an_odd_argument_gives_an_answer_or_a_plain_error(index, call):
    for odd in ODD:
        try:
            call(index, odd)
        except ThresherError as err:
            assert str(err)


@pytest.mark.parametrize("name", ["docnos", "storage", "sketch", "delta", "encoder", "encoder_name", "seed", "batches"])
def test_an_odd_setting_of_vectors_to_build_is_refused_plainly(tmp_path, name):
    for i, odd in enumerate(FEW):
        settings = {"batches": [np.ones((2, 4))], name: odd}
        try:
            VectorStore.build(tmp_path / str(i), **settings)
        except ThresherError as err:
            assert str(err)


@pytest.mark.parametrize("name", ["bits", "block", "order", "directory", "vocabulary"])
def test_an_odd_setting_of_an_index_to_build_is_refused_plainly(tmp_path, name):
    for odd in FEW:
        if name != "vocabulary" or not isinstance(odd, list):
            with pytest.raises(ThresherError):
                IndexBuilder(**{"directory": tmp_path, "vocabulary": ["a"], name: odd})


@pytest.mark.parametrize(
    "options", [{"terms": 1.5}, {"terms": True}, {"blocks": "0.5"}, {"postings": 0}, {"superblocks": 0}]
)
def test_a_number_of_another_type_is_not_taken_for_one(index, options):
    with pytest.raises(InputError, match=next(iter(options))):
        index.search("w1", effort=Effort(**options))
    with pytest.raises(InputError, match="k must"):
        index.search("w1", k=1.5)


def test_any_whole_number_of_passages_may_be_asked_for(index):
    everything = index.search("w1 w2 w3 w4", len(index))
    for k in (2**31, 2**63, 10**20):
        assert index.search("w1 w2 w3 w4", k) == everything
        assert index.search_batch(["w1 w2 w3 w4"], k, effort=Effort(terms=k))["0"] == everything


def test_one_query_is_not_a_list_of_queries(index):
    for query in ("goldfish", {"w1": 1.0}, Query("q", "w1")):
        with pytest.raises(InputError, match="one query is for search"):
            index.search_batch(query)
    with pytest.raises(InputError, match="docnos must be a list"):
        index.passages("d1")


def test_half_of_a_surrogate_pair_in_a_query_is_passed_over(index):
    assert index.search("w1 \ud83d w2") == index.search("w1 w2")
    assert index.search_batch(["w1 \ud83d w2"])["0"] == index.search("w1 w2")


def test_unknown_terms_take_no_memory(index):
    index.search("w1")
    before = list(index._now.parts[0].searcher.vocabulary._known)
    for i in range(100):
        index.search({f"unknown{i}": 1.0, "w1": 1.0})
    assert list(index._now.parts[0].searcher.vocabulary._known) == before != []
