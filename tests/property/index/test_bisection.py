"""Orders by graph bisection: any number of threads gives the same one, and it brings topics together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.index import reorder
from thresher.index.reorder import Heavy, bisection_order, divide, exchange, middle_of, settle, weigh

TERMS, TOPICS, PER, WIDTH = 300, 60, 50, 8


def shuffled_topics(seed):
    """Rows about a topic each, shuffled: (indptr, terms, weights, topic of each row)."""
    rng = np.random.default_rng(seed)
    topics = rng.permutation(np.repeat(np.arange(TOPICS), PER))
    words = [rng.choice(TERMS - 1, 14, replace=False) + 1 for _ in range(TOPICS)]
    rows = [np.sort(np.append(rng.choice(words[topic], 9, replace=False), 0)) for topic in topics]
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    terms = np.concatenate(rows).astype(np.uint32)
    return indptr, terms, rng.random(len(terms)).astype(np.float32), topics


def blocks_of(topics):
    """Mean number of blocks of 64 that a topic lies in."""
    return np.mean([len(np.unique(np.flatnonzero(topics == topic) // 64)) for topic in range(TOPICS)])


def heavy_rows(indptr, terms):
    return Heavy(terms.reshape(-1, int(indptr[1])), np.full(len(indptr) - 1, indptr[1], np.uint8))


def test_the_order_is_the_same_for_any_number_of_threads_and_brings_topics_together(monkeypatch):
    monkeypatch.setattr(reorder, "PART", 500)
    indptr, terms, weights, topics = shuffled_topics(1)
    orders = [bisection_order(indptr, terms, weights, TERMS, threads) for threads in (1, 2, 3)]
    assert np.array_equal(np.sort(orders[0]), np.arange(len(topics)))
    assert all(np.array_equal(orders[0], other) for other in orders[1:])
    assert blocks_of(topics[orders[0]]) < blocks_of(topics) / 4


def test_halves_begin_from_what_a_sample_settles_on():
    indptr, terms, _, topics = shuffled_topics(2)
    n, divided = len(topics), []
    for sample in (n // 8, n):
        order = np.arange(n, dtype=np.uint32)
        middle = middle_of(0, n)
        divide(heavy_rows(indptr, terms), order, 0, middle, n, sample, reorder._scales(TERMS, n))
        assert np.array_equal(np.sort(order), np.arange(n))
        assert (np.diff(order[:middle].astype(int)) > 0).all()
        assert (np.diff(order[middle:].astype(int)) > 0).all()
        left = np.bincount(topics[order[:middle]], minlength=TOPICS)
        divided.append(int(((left > 5) & (left < PER - 5)).sum()))
    assert max(divided) < TOPICS / 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 6000)), min_size=1, max_size=20))
def test_gains_are_what_moving_a_posting_saves(degrees):
    scales, left, right = reorder._scales(len(degrees), 1), 9000, 7000
    scales.degrees[:] = degrees
    weigh(np.arange(len(degrees), dtype=np.uint32), left, right, scales)

    def cost(a, b):
        return a * np.log2(left / (a + 1)) + b * np.log2(right / (b + 1))

    for term, (a, b) in enumerate(degrees):
        to_right = cost(a, b) - cost(a - 1, b + 1) if a else 0
        staying = cost(a + 1, b - 1) - cost(a, b) if b else 0
        assert scales.gains[term] == pytest.approx([to_right, staying], abs=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 90), st.integers(0, 40))
def test_a_round_gives_the_right_half_the_documents_that_gain_most(seed, n, round_):
    rng = np.random.default_rng(seed)
    heavy = Heavy(rng.integers(0, 12, (n, WIDTH)).astype(np.uint16), rng.integers(0, WIDTH + 1, n).astype(np.uint8))
    docs, sides = np.arange(n, dtype=np.uint32), rng.integers(0, 2, n).astype(np.uint8)
    scales = reorder._scales(12, n)
    for doc in range(n):
        np.add.at(scales.degrees[:, sides[doc]], heavy.terms[doc, : heavy.sizes[doc]], 1)
    weigh(np.arange(12, dtype=np.uint32), n, n, scales)
    gains = np.array([scales.gains[heavy.terms[d, : heavy.sizes[d]], sides[d]].sum() for d in range(n)])
    before = sides.copy()
    moved = exchange(heavy, docs, sides, round_, scales)
    movers = np.array([reorder.drawn(d, round_) for d in docs])
    assert moved == (sides != before).sum()
    assert (sides == before)[~movers].all()
    assert sides.sum() == before.sum()
    if moved:
        assert gains[movers & (sides == 1)].min() >= gains[movers & (sides == 0)].max() - 1e-4
    again = np.zeros_like(scales.degrees)
    for doc in range(n):
        np.add.at(again[:, sides[doc]], heavy.terms[doc, : heavy.sizes[doc]], 1)
    assert np.array_equal(again, scales.degrees)


def test_settling_leaves_no_degrees_behind():
    indptr, terms, _, topics = shuffled_topics(3)
    n = len(topics)
    scales, sides = reorder._scales(TERMS, n), (np.arange(n) >= n // 2).astype(np.uint8)
    settle(heavy_rows(indptr, terms), np.arange(n, dtype=np.uint32), sides, 20, 500, scales)
    assert not scales.degrees.any()
    assert sides.sum() == n - n // 2


def test_ranges_are_divided_at_superblocks_and_leaves():
    for size in (33, 64, 100, 2048, 2049, 4096, 10_000, 8_841_823):
        middle = middle_of(2048, 2048 + size) - 2048
        assert 0 < middle < size
        assert middle % (2048 if size > 2048 else 32) == 0
