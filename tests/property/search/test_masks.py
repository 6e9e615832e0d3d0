"""With a mask, the hits are those of scoring every allowed passage: in every plan, whatever else is left out."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import PLANS, TRY_BOUNDS, Reference, build, clustered
from test_exact import collections

from thresher.search.effort import EXACT_LIMITS
from thresher.search.kernels.types import PLAN_NAMES


def answers(searcher, query, k, mask, least=0.0):
    """(what was done, hits) by each plan, with and without the list of the allowed documents."""
    terms, weights = np.array(sorted(query), np.int64), np.array([query[t] for t in sorted(query)], np.float32)
    allowed = searcher.allow(mask)
    docnos = searcher.layout.docnos
    for own in (allowed, allowed._replace(docs=allowed.docs[:0])):
        for plan in (*PLANS, None):
            if plan is None:
                searcher._plan = lambda k: TRY_BOUNDS
            docs, scores, row = searcher.top(terms, weights, k, EXACT_LIMITS, plan or "auto", own, least)
            searcher.__dict__.pop("_plan", None)
            numbers = searcher.layout.numbers_of(docs)
            hits = list(zip([docnos[i] for i in numbers.tolist()], scores.tolist(), strict=True))
            yield (plan, PLAN_NAMES[int(row[0])], len(own.docs)), hits
        rows = (np.array([0, len(terms), len(terms)]), terms, weights)
        one, nothing = searcher.top_batch(rows, k, EXACT_LIMITS, "auto", 1, own, np.array([least, 1.0]))
        numbers = searcher.layout.numbers_of(one[0])
        yield "batch", list(zip([docnos[i] for i in numbers.tolist()], one[1].tolist(), strict=True))
        assert len(nothing[0]) == 0


@settings(max_examples=max(settings.default.max_examples // 3, 10))
@given(collections(), st.data())
def test_every_plan_equals_brute_force_over_the_allowed_passages(collection, data):
    docnos, rows, terms, block, bits, query = collection
    n = len(rows)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    share = data.draw(st.sampled_from([0.0, 0.01, 0.05, 0.5, 0.9, 1.0]))
    mask = rng.random(n) < share
    if data.draw(st.booleans()):
        mask = np.roll(np.arange(n) < share * n, rng.integers(n + 1))
    with tempfile.TemporaryDirectory() as folder:
        order = data.draw(st.sampled_from(["source", "similarity"]))
        searcher = (
            build(Path(folder) / "x", docnos, rows, terms, block=block, bits=bits, order=order)._now.parts[0].searcher
        )
        kept = {docnos[i] for i in np.flatnonzero(mask)}
        every = [hit for hit in Reference(docnos, rows, bits).best(query, n) if hit[0] in kept]
        for k in {1, n + 5, data.draw(st.integers(1, n + 5))}:
            least = data.draw(st.sampled_from([0.0, *(score for _, score in every[:20])]))
            expected = [hit for hit in every[:k] if hit[1] >= least]
            for way, hits in answers(searcher, query, k, mask, least):
                assert hits == expected, (way, k, least)


@pytest.mark.parametrize("bits", [8, 16])
def test_windows_and_blocks_without_allowed_passages_are_left_out(tmp_path, bits):
    n, terms = 20_000, 500
    rows, rng = clustered(n, terms, 7), np.random.default_rng(1)
    docnos = [f"p{i:05d}" for i in range(n)]
    searcher = build(tmp_path / "x", docnos, rows, terms, block=8, bits=bits)._now.parts[0].searcher
    reference = Reference(docnos, rows, bits)
    near = (np.arange(n) > 17_000) & (np.arange(n) < 17_900)
    masks = [near, near & (rng.random(n) < 0.1), rng.random(n) < 0.01, rng.random(n) < 0.5, np.arange(n) == 19_999]
    for mask in masks:
        query = {t: float(np.float32(w)) for t, w in list(rows[int(np.flatnonzero(mask)[0])].items())[:12]}
        every = [hit for hit in reference.best(query, n) if mask[int(hit[0][1:])]]
        for k in (1, 10, 1000, 1001):
            for least in (0.0, every[min(4, len(every) - 1)][1]):
                expected = [hit for hit in every[:k] if hit[1] >= least]
                for way, hits in answers(searcher, query, k, mask, least):
                    assert hits == expected, (way, k, least, mask.sum())


def test_a_least_score_that_nothing_reaches_leaves_nothing_to_do(tmp_path):
    rows = clustered(500, 60, 3)
    searcher = build(tmp_path / "x", [f"d{i}" for i in range(500)], rows, 60)._now.parts[0].searcher
    terms, weights = np.arange(60), np.ones(60, np.float32)
    _, (best, *_), row = searcher.top(terms, weights, 10, EXACT_LIMITS, "auto")
    docs, _, above = searcher.top(terms, weights, 10, EXACT_LIMITS, "auto", None, np.nextafter(best, np.inf))
    assert len(docs) == 0
    assert row[3] > 0
    docs, _, far = searcher.top(terms, weights, 10, EXACT_LIMITS, "auto", None, best * 1e6)
    assert len(docs) == 0
    assert (above[3] > 0, far[3]) == (True, 0)
