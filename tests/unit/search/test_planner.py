"""Which plan answers: by size, depth and order of the collection; and bounds give up where they rule out little."""

from types import SimpleNamespace

import numpy as np
import pytest

from thresher.index import IndexBuilder
from thresher.index.commit import writing_index
from thresher.records import Passage, SparseBatch
from thresher.search import Index
from thresher.search.kernels.types import PLANS
from thresher.search.searcher import TierSearcher

N, TERMS, PER = 40_000, 60, 12


def built(path, topics):
    """Rows of terms around a topic each; `topics` int[N] says which, so how well the order is."""
    rng = np.random.default_rng(4)
    terms = np.sort((topics[:, None] + rng.permuted(np.tile(np.arange(20), (N, 1)), axis=1)[:, :PER]) % TERMS, axis=1)
    weights = rng.integers(1, 256, terms.size).astype(np.float32)
    batch = SparseBatch(np.arange(0, terms.size + 1, PER), terms.astype(np.uint32).ravel(), weights)
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, [f"t{i}" for i in range(TERMS)])
        builder.add([Passage(str(i), "") for i in range(N)], batch)
        draft.fields.update(builder.finish())
    return Index.open(path)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    return built(tmp_path_factory.mktemp("ordered") / "x", np.arange(N) * TERMS // N)


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory):
    topics = np.random.default_rng(1).permutation(N) * TERMS // N
    return built(tmp_path_factory.mktemp("shuffled") / "x", topics)


def test_scatter_tells_a_good_order_from_a_random_one(ordered, shuffled):
    assert ordered.layouts[0].scatter < 0.6
    assert shuffled.layouts[0].scatter > 0.9


def test_an_index_without_common_lists_counts_as_scattered(tmp_path):
    with writing_index(tmp_path / "x") as draft:
        draft.fields.update(IndexBuilder(draft.segment.path, ["a"]).finish())
    assert Index.open(tmp_path / "x").layouts[0].scatter == 1.0


@pytest.mark.parametrize(
    ("passages", "k", "scatter", "plan"),
    [
        (2_000_000, 10, 0.5, "auto"),
        (2_000_000, 21, 0.5, "term-at-a-time"),
        (2_000_000, 10, 0.7, "term-at-a-time"),
        (999_999, 10, 0.5, "term-at-a-time"),
        (500_000, 50, 0.36, "auto"),
        (500_000, 51, 0.36, "term-at-a-time"),
        (499_999, 10, 0.36, "term-at-a-time"),
    ],
)
def test_bounds_are_tried_in_large_well_ordered_collections(ordered, passages, k, scatter, plan):
    searcher = TierSearcher(ordered.layouts[0])
    searcher.size, searcher.layout = passages, SimpleNamespace(scatter=scatter)
    assert searcher._plan(k) == PLANS[plan]


def test_bounds_give_up_where_they_rule_out_little(ordered, shuffled):
    rng = np.random.default_rng(2)
    told = {}
    for name, searcher in (("ordered", ordered), ("shuffled", shuffled)):
        tries = Index.open(searcher.path)
        tries._now.parts[0].searcher._plan = lambda k: PLANS["auto"]
        told[name] = []
        for _ in range(10):
            query = (rng.integers(0, 20) + np.arange(6), rng.random(6).astype(np.float32) + 0.1)
            result, whole = tries.search(query, 10, explain=True), searcher.search(query, 10, plan="term-at-a-time")
            assert (result.numbers == whole.numbers).all()
            assert (result.scores == whole.scores).all()
            assert (
                result.explanations[0].threshold
                <= result.scores[-1]
                <= result.scores[0]
                <= result.explanations[0].bound
            )
            told[name].append(result.explanations[0])
    assert {t.plan for t in told["ordered"]} == {"auto"}
    assert all(t.visited < t.blocks / 2 for t in told["ordered"])
    assert {t.plan for t in told["shuffled"]} == {"term-at-a-time"}
