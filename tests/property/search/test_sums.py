"""Quantised and float accumulators, each forced, against the definition: margins, ties, chunks, awkward weights."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searching import PLANS, TRY_BOUNDS, Reference, build

from thresher.index import IndexBuilder
from thresher.index.commit import writing_index
from thresher.records import Passage, SparseBatch
from thresher.search import Effort, Index
from thresher.search.effort import EXACT_LIMITS
from thresher.search.kernels.bounds import bound_blocks, rare_entries
from thresher.search.kernels.postings import largest_impact
from thresher.search.kernels.processor import initial_threshold
from thresher.search.kernels.taat import (
    FLOAT_WINDOW,
    QUANTISED_WINDOW,
    ROOM,
    add_window_quantised,
    open_cursors,
    open_window,
    score_float,
    score_quantised,
)
from thresher.search.kernels.topk import open_top
from thresher.search.kernels.types import FOREVER, STATISTICS, Hits, Postings, QueryTerms, Request

weight = st.one_of(
    st.integers(1, 32).map(float),
    st.floats(2.0**-20, 2.0**20, width=32),
    st.sampled_from(
        [float(np.float32(0.1)), float(np.float32(1 / 3)), 2.0**-24, 1 + 2.0**-23, 1e-40, 1e-30, 1e30, 3e38]
    ),
)


def forced(searcher, query, k, quantised):
    """Hits by one kind of accumulators, None where quantised ones come too close."""
    x, n = searcher.layouts[0], searcher.layouts[0].counts
    index = searcher._now.parts[0].searcher._postings
    terms = np.array(sorted(query), np.uint32)
    weights = np.array([np.float32(query[t]) for t in sorted(query)], np.float64)
    given = QueryTerms(terms, weights)
    total = 0.0
    for term, own in zip(terms, weights, strict=True):
        total += own * largest_impact(term, x.starts, x.rows, x.kth, x.impacts)
    least = initial_threshold(given, k, x.rows, x.kth)
    width, allowed = min(k, n.passages), searcher._now.parts[0].searcher._all
    hits = Hits(np.empty(width, np.uint32), np.empty(width, np.float64), np.empty(STATISTICS))
    wanted = Request(width, 0, EXACT_LIMITS, 0.0, FOREVER, False)
    if quantised:
        count = score_quantised(given, total, least, wanted, index, allowed, hits)
    else:
        top = open_top(width, n.scale, x.ranks, least, total, 2 * width + 2 * FLOAT_WINDOW)
        count = score_float(given, wanted, index, allowed, top, hits)
    if count < 0:
        return None
    numbers = x.numbers_of(hits.docs[:count])
    return list(zip([x.docnos[i] for i in numbers.tolist()], hits.scores[:count].tolist(), strict=True))


@st.composite
def small(draw):
    n, terms = draw(st.integers(1, 300)), draw(st.sampled_from([1, 2, 12]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["whole", "tied", "float", "nearly tied"]))
    values = {
        "whole": lambda: rng.integers(1, 256, terms).astype(float),
        "tied": lambda: np.ones(terms),
        "float": lambda: rng.gamma(1.0, 2.0, terms) + 1e-3,
        "nearly tied": lambda: 250.0 + rng.integers(0, 3, terms),
    }[kind]
    rows = []
    for _ in range(n):
        chosen = np.flatnonzero(rng.random(terms) < 0.7)
        row = values()
        rows.append({int(t): float(row[t]) for t in chosen})
    query = {t: draw(weight) for t in range(terms) if draw(st.booleans())}
    return [f"d{i}" for i in rng.permutation(n)], rows, terms, draw(st.sampled_from([8, 16])), query


@given(small(), st.integers(1, 320))
def test_both_kinds_of_accumulators_equal_brute_force(case, k):
    docnos, rows, terms, bits, query = case
    reference = Reference(docnos, rows, bits)
    query = {t: w for t, w in query.items() if t in reference.columns}
    if not query:
        return
    with tempfile.TemporaryDirectory() as folder:
        searcher = build(Path(folder) / "x", docnos, rows, terms, bits=bits)
        expected = reference.best(query, k)
        assert forced(searcher, query, k, quantised=False) == expected
        assert forced(searcher, query, k, quantised=True) in (expected, None)


@given(st.lists(weight, min_size=1, max_size=40), st.sampled_from([8, 16]), st.integers(0, 2**32 - 1))
def test_a_quantised_sum_is_at_most_a_margin_above_the_true_one(weights, bits, state):
    rng = np.random.default_rng(state)
    count, top, n = len(weights), 2**bits - 1, 50
    weights = np.array(weights, np.float32).astype(np.float64)
    impacts = np.maximum(1, rng.integers(0, top + 1, (count, n)) // rng.integers(1, 2**bits, (count, 1)))
    total = 0.0
    for i in range(count):
        total += weights[i] * int(impacts[i].max())
    unit = total / (65535 - 3 * count - 8)
    fixed = np.array([int(min(w / unit * 65536, 4294967290.0)) + 2 for w in weights], np.uint32)
    sums, true = np.zeros(QUANTISED_WINDOW, np.uint16), np.zeros(n)
    flat = impacts.astype(np.uint8 if bits == 8 else np.uint16).ravel()
    terms, starts = np.arange(count, dtype=np.uint32), np.arange(0, count * n + 1, n, dtype=np.uint32)
    index = Postings(
        starts, np.full(count, -1, np.int32), flat[:0].reshape(0, 4), flat[:0].reshape(0, n), flat,
        np.tile(np.arange(n, dtype=np.uint16), count), np.empty((0, 2), np.uint32), np.empty((0, 1), np.uint8),
        np.arange(n, dtype=np.uint32), np.zeros(count, np.uint8), 1.0, n, 64, bits,
    )  # fmt: skip
    cursors = open_cursors(terms, index)
    open_window(0, QUANTISED_WINDOW, terms, index, cursors)
    add_window_quantised(terms, fixed, index, cursors, sums)
    for i in range(count):
        true += weights[i] * impacts[i]
    margin = count + (2 * count * top >> 16) + 3
    assert int(sums[n:].max()) == 0
    assert (sums[:n] >= true / unit).all()
    assert (sums[:n] - float(margin) < true / unit).all()


def test_more_ties_than_quantised_sums_can_hold_are_decided_by_docno(tmp_path):
    n = ROOM + QUANTISED_WINDOW
    docnos = [f"{i:06d}" for i in np.random.default_rng(2).permutation(n)]
    searcher = large(tmp_path / "x", docnos, np.arange(n + 1), np.zeros(n, np.uint32), np.ones(n), 1)
    assert forced(searcher, {0: 0.7}, 10, quantised=True) is None
    for plan in PLANS:
        assert searcher.search(([0], [0.7]), 10, plan=plan).docnos == sorted(docnos)[:10]


def large(path, docnos, indptr, terms, weights, vocabulary, **options):
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, [f"t{i}" for i in range(vocabulary)], **options)
        batch = SparseBatch(indptr.astype(np.int64), terms.astype(np.uint32), weights.astype(np.float32))
        builder.add([Passage(docno, "") for docno in docnos], batch)
        draft.fields.update(builder.finish())
    return Index.open(path)


def bounds_tried(searcher):
    """The same index, where `auto` tries bounds first as it does in a large, well-ordered collection."""
    tries = Index.open(searcher.path)
    tries._now.parts[0].searcher._plan = lambda k: TRY_BOUNDS
    return tries


@pytest.fixture(scope="module", params=["source", "similarity"])
def chunked(request, tmp_path_factory):
    """140,000 passages, three chunks: lists that skip chunks, that begin late, of any length."""
    n, vocabulary = 140_000, 40
    rng = np.random.default_rng(8)
    columns = []
    for term in range(vocabulary):
        size = int(rng.choice([1, 3, 9, 10, 40, 700, 5000, 90_000]))
        first, last = np.sort(rng.integers(0, n + 1, 2)) if term % 3 else (0, n)
        among = np.arange(first, max(last, first + 1) if first < n else n)
        if term % 4 == 1:
            among = among[(among // 65_536) % 2 == 0]
        columns.append(rng.choice(among, min(size, len(among)), replace=False) if len(among) else np.empty(0, int))
    owners = np.concatenate(columns)
    terms = np.repeat(np.arange(vocabulary), [len(c) for c in columns])
    impacts = rng.integers(1, 256, len(owners))
    order = np.lexsort((terms, owners))
    owners, terms, impacts = owners[order], terms[order], impacts[order]
    docnos = [f"{i:06d}" for i in rng.permutation(n)]
    path = tmp_path_factory.mktemp("chunks") / "x"
    indptr = np.searchsorted(owners, np.arange(n + 1))
    searcher = large(path, docnos, indptr, terms, impacts, vocabulary, order=request.param)
    return searcher, np.array(docnos), owners, terms, impacts


def test_lists_may_skip_chunks(chunked):
    searcher, docnos, owners, terms, impacts = chunked
    x, n = searcher.layouts[0], searcher.layouts[0].counts
    assert n.dense == 2
    assert n.entries + int(x.superblocks[: n.dense, -1].sum()) > n.postings
    rng, gave_up = np.random.default_rng(1), set()
    for size in (1, 2, 5, 40):
        chosen = np.sort(rng.choice(40, size, replace=False))
        weights = rng.random(size).astype(np.float32) + np.float32(0.01)
        sums, matched = np.zeros(len(docnos)), np.zeros(len(docnos), bool)
        for term, own in zip(chosen, weights.astype(float), strict=True):
            here = terms == term
            sums[owners[here]] += own * impacts[here]
            matched[owners[here]] = True
        found = np.flatnonzero(matched)
        found = found[np.lexsort((docnos[found], -sums[found]))]
        query = dict(zip(chosen.tolist(), weights.tolist(), strict=True))
        for k in (1, 10, 300, 2000):
            expected = [(docnos[i], sums[i]) for i in found[:k]]
            for plan in PLANS:
                result = searcher.search((chosen, weights), k, plan=plan)
                assert list(zip(result.docnos, result.scores.tolist(), strict=True)) == expected, (plan, size, k)
            for effort in (None, Effort(blocks=0.5)) if size == 40 else (None,):
                tried = bounds_tried(searcher).search((chosen, weights), k, effort=effort, explain=True)
                gave_up.add(tried.explanations[0].plan == "term-at-a-time")
                if tried.exact:
                    assert list(zip(tried.docnos, tried.scores.tolist(), strict=True)) == expected, (size, k)
                else:
                    assert effort is not None
            assert forced(searcher, query, k, quantised=False) == expected
            assert forced(searcher, query, k, quantised=True) in (expected, None)
    assert gave_up == {True, False}


def test_scanned_lists_bound_blocks_and_give_where_superblocks_begin(chunked):
    searcher, _, owners, terms, impacts = chunked
    x, n = searcher.layouts[0], searcher.layouts[0].counts
    if x.sources is not None:
        owners = np.argsort(x.sources)[owners]  # internal ids
    asked = np.arange(40, dtype=np.uint32)
    for weights in (np.where(x.rows < n.common, 1.0, 0.25), np.where((x.rows >= 0) & (x.rows < n.common), 1e-9, 1.0)):
        bounds = bound_blocks(QueryTerms(asked, weights.astype(np.float64)), searcher._now.parts[0].searcher._postings)
        assert len(bounds.begins) > 10
        largest = np.zeros((40, n.superblocks * n.step))
        np.maximum.at(largest, (terms, owners // n.block), impacts)
        expected = (weights[:, None] * largest).sum(axis=0)
        assert np.allclose(bounds.blocks, expected, rtol=1e-5, atol=1e-3)
        assert (bounds.superblocks == bounds.blocks.reshape(n.superblocks, -1).max(axis=1)).all()
    rare = bounds.rows < 0
    for term, place in zip(asked[rare].tolist(), bounds.places[rare].tolist(), strict=True):
        documents = np.sort(owners[terms == term])
        start, end = int(x.starts[term]), int(x.starts[term + 1])
        assert int(bounds.begins[place, -1, 1]) == end - start
        for superblock in range(n.superblocks):
            own = slice(*map(int, rare_entries(start, superblock, bounds.begins[place], x.ids)))
            assert (x.impacts[own] > 0).all()  # no skip entries
            real = x.ids[own].astype(np.int64)
            inside = documents[(documents >= superblock * 2048) & (documents < (superblock + 1) * 2048)]
            assert real.tolist() == (inside % 65_536).tolist()


def test_one_query_and_a_batch_agree(chunked):
    searcher, *_ = chunked
    rng = np.random.default_rng(5)
    queries = [(np.sort(rng.choice(40, 6, replace=False)), rng.random(6).astype(np.float32)) for _ in range(40)]
    for k in (10, 500):
        alone = [searcher.search(query, k) for query in queries]
        for threads in (1, 2):
            batch = searcher.search_batch(queries, k, threads=threads)
            for a, b in zip(alone, batch.values(), strict=True):
                assert a.numbers.tolist() == b.numbers.tolist()
                assert a.scores.tolist() == b.scores.tolist()


@pytest.mark.parametrize("bits", [8, 16])
def test_dense_terms_are_added_whole_or_for_some_documents_alone(tmp_path, bits):
    """Heavy rare terms leave few documents to complete; without them whole rows are added."""
    n, rng = 40_000, np.random.default_rng(bits)
    shares = [0.9, 0.5, 0.35, 0.02, 0.001, 0.0005]
    columns = [np.flatnonzero(rng.random(n) < share) for share in shares]
    owners, terms = np.concatenate(columns), np.repeat(np.arange(6), [len(c) for c in columns])
    impacts = rng.integers(1, 256, len(owners))
    order = np.lexsort((terms, owners))
    owners, terms, impacts = owners[order], terms[order], impacts[order]
    docnos = [f"{i:05d}" for i in rng.permutation(n)]
    searcher = large(tmp_path / "x", docnos, np.searchsorted(owners, np.arange(n + 1)), terms, impacts, 6, bits=bits)
    assert searcher.layouts[0].counts.dense == 3
    assert searcher.layouts[0].postings_of(np.arange(6)).tolist() == [len(c) for c in columns]
    names = np.array(docnos)
    for weights in (
        {0: 0.1, 1: 0.2, 3: 3.0, 4: 9.0, 5: 7.0},
        {0: 1.0, 2: 0.7, 4: 0.1},
        {1: 1.0},
        {0: 0.3, 2: 0.1, 3: 0.9},
    ):
        sums = np.zeros(n)
        for term, weight in weights.items():
            sums[owners[terms == term]] += float(np.float32(weight)) * impacts[terms == term]
        found = np.flatnonzero(sums)
        found = found[np.lexsort((names[found], -sums[found]))]
        for k in (1, 10, 200):
            expected = [(docnos[i], sums[i]) for i in found[:k].tolist()]
            for plan in PLANS:
                result = searcher.search((list(weights), list(weights.values())), k, plan=plan)
                assert list(zip(result.docnos, result.scores.tolist(), strict=True)) == expected, (plan, weights, k)
            assert forced(searcher, weights, k, quantised=True) in (expected, None)
