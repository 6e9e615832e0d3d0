"""Kernels against brute force on small cases; `scripts/test-kernels` also runs them uncompiled and bounds-checked."""

import numpy as np
import pytest

from thresher.index import IndexBuilder
from thresher.index import lists as stored_lists
from thresher.index.commit import writing_index
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK, IDS_FAULT, SUPERBLOCKS_FAULT, VALID
from thresher.records import Passage, SparseBatch
from thresher.search import Index
from thresher.search.effort import EXACT_LIMITS
from thresher.search.kernels import bounds, postings, processor, taat, topk
from thresher.search.kernels.types import (
    BAD_WEIGHT,
    DONE,
    FAULTS,
    FOREVER,
    HITS,
    PLANS,
    STATISTICS,
    Allowed,
    Hits,
    Postings,
    QueryTerms,
    Request,
)

pytestmark = pytest.mark.kernels
U8, U16, U32, U64 = np.uint8, np.uint16, np.uint32, np.uint64


def everything(index):
    """An `Allowed` that leaves nothing out."""
    return Allowed(np.empty(0, U8), np.empty(0, U32), np.empty(0, U8), index.passages)


def normalised(terms, weights, known=100, most=100):
    out_terms, out_weights = np.zeros(len(terms), U32), np.zeros(len(terms))
    kept, dropped = processor.normalise_query(
        np.array(terms, np.int64), np.array(weights, np.float32), known, most, out_terms, out_weights
    )
    if kept < 0:
        return None
    return dict(zip(out_terms[:kept].tolist(), out_weights[:kept].tolist(), strict=True)), dropped


@pytest.mark.parametrize(
    ("terms", "weights", "expected"),
    [
        ([3, 1, 2], [1, 2, 3], {1: 2, 2: 3, 3: 1}),
        ([5, 5, 1, 5], [1, 2, 7, 4], {1: 7, 5: 7}),
        ([-1, 99, 100, 0], [1, 1, 1, 0], {99: 1}),
        ([], [], {}),
    ],
)
def test_a_query_is_sorted_summed_and_stripped_of_what_the_index_lacks(terms, weights, expected):
    assert normalised(terms, weights) == (expected, 0)


def test_the_heaviest_terms_are_kept_and_smaller_ids_among_equals():
    assert normalised([1, 2, 3, 4], [1, 5, 1, 2], most=3) == ({1: 1, 2: 5, 4: 2}, 1)
    assert normalised([1, 2, 3, 4], [1, 5, 1, 2], most=1) == ({2: 5}, 3)
    assert normalised([1, 2], [1, 5], most=2) == ({1: 1, 2: 5}, 0)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_bad_weight_is_refused(weight):
    assert normalised([1, 2], [1.0, weight]) is None


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # without the compiler
def test_repeated_weights_that_overflow_are_refused():
    assert normalised([1, 1], [3e38, 3e38]) is None


def test_the_initial_threshold_is_the_best_stored_kth_impact():
    query, rows = QueryTerms(np.array([0, 1, 2], U32), np.array([1.0, 3.0, 9.0])), np.array([1, 0, -1], np.int32)
    kth = np.array([[9, 5, 0, 0], [40, 20, 10, 4]], U8)
    expected = {0: 40, 1: 40, 2: 20, 10: 20, 11: 10, 100: 10, 101: 4, 1000: 4}
    for k, least in expected.items():
        assert processor.initial_threshold(query, k, rows, kth) == least * topk.SAFE
    assert processor.initial_threshold(query, 1001, rows, kth) == topk.SMALLEST
    heavier = QueryTerms(query.terms, np.array([1.0, 5.0, 9.0]))
    assert processor.initial_threshold(heavier, 2, rows, kth) == 25 * topk.SAFE


@pytest.mark.parametrize("dtype", [U8, U16])
def test_adding_postings_gives_the_products_sum_for_sum(dtype):
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(64, 23, replace=False)).astype(U16)
    impacts = rng.integers(1, np.iinfo(dtype).max, 23).astype(dtype)
    for first in range(6):
        for last in range(first, 24):
            sums, quantised = np.zeros(64), np.zeros(64, U16)
            postings.add(U64(first), U64(last), U16(63), ids, impacts, 0.3, sums)
            postings.add_quantised(U64(first), U64(last), U16(63), ids, impacts, U32(70_000 >> 4), quantised)
            expected, rounded = np.zeros(64), np.zeros(64, U16)
            for p in range(first, last):
                expected[ids[p]] += 0.3 * float(impacts[p])
                rounded[ids[p]] += -(-(70_000 >> 4) * int(impacts[p]) // 65_536)
            assert (sums == expected).all()
            assert (quantised == rounded).all()


def test_quantised_products_are_rounded_up():
    for weight, impact in ((1, 1), (65_536, 3), (65_537, 3), (2, 255), (100_000, 200)):
        assert postings.quantised_product(U32(weight), U8(impact)) == -(-weight * impact // 65_536)


def test_dense_rows_are_added_in_full():
    row = np.array([0, 3, 255, 1], U8)
    sums, quantised = np.ones(6), np.ones(6, U16)
    postings.add_row(row, 0.5, sums)
    postings.add_row_quantised(row, U32(65_536), quantised)
    assert sums.tolist() == [1, 2.5, 128.5, 1.5, 1, 1]
    assert quantised.tolist() == [1, 4, 256, 2, 1, 1]


def test_searches_in_lists_find_the_first_id_that_is_large_enough():
    ids = np.array([2, 3, 5, 8, 13, 21, 34], U16)
    for first in range(8):
        for last in range(first, 8):
            for low in range(36):
                expected = first + int(np.searchsorted(ids[first:last], low))
                assert postings.find(low, first, last, ids) == expected
                assert postings.find_in_superblock(low, first, last, ids) == expected
                assert taat.skip(low - 1, first, last, ids) == expected
    long = np.arange(0, 3000, 3).astype(U16)
    for final in (-1, 0, 95, 96, 97, 1500, 2996, 2997, 5000):
        assert taat.skip(final, 0, 1000, long) == np.searchsorted(long, final, side="right")


def test_a_chunk_begins_with_a_skip_entry_or_a_posting():
    ids, impacts = np.array([2, 7, 9, 4], U16), np.array([0, 1, 1, 1], U8)
    assert stored_lists.open_chunk(0, 4, ids, impacts) == (1, 3)
    assert stored_lists.open_chunk(1, 4, ids, impacts) == (1, 4)
    assert stored_lists.open_chunk(4, 4, ids, impacts) == (4, 4)


@pytest.mark.parametrize("k", [1, 3, 10, 64, 65, 100])
def test_the_kth_largest_is_found(k):
    values = np.random.default_rng(k).integers(0, 40, 100).astype(U16)
    assert topk.kth_of(k, values) == np.sort(values)[::-1][k - 1]


def test_lane_maxima_cover_every_value():
    values = np.random.default_rng(3).integers(0, 60_000, 16 * 8).astype(U16)
    tops = np.zeros(8, U16)
    taat.lane_maxima(values, tops)
    assert (tops == values.reshape(16, 8).max(axis=0)).all()
    for low in (0, int(tops[3]), int(tops[3]) + 1, 65_535):
        assert taat.count_reaching(tops, U16(low)) == (tops >= low).sum()


def streamed(sums, ranks, k, room, scale=1.0, window=16, least=topk.SMALLEST):
    """The k best of many sums by way of a `TopK`, window after window."""
    top = topk.open_top(k, scale, ranks, least, max(sums.max(), 1e-9), room)
    for origin in range(0, len(sums), window):
        part = sums[origin : origin + window]
        topk.make_room(window, top)
        topk.collect(part, 0, len(part), origin, top)
        topk.raise_threshold(top)
    docs, scores = np.zeros(k, U32), np.zeros(k)
    count = topk.finish(top, docs, scores)
    return docs[:count].tolist(), scores[:count].tolist()


@pytest.mark.parametrize("kind", ["float", "tied", "equal", "ascending", "sparse"])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_k_best_are_those_of_a_sort_however_they_came(kind, k):
    n, rng = 300, np.random.default_rng(k)
    sums = {
        "float": rng.random(n),
        "tied": rng.integers(1, 6, n).astype(float),
        "equal": np.ones(n),
        "ascending": np.arange(1.0, n + 1),
        "sparse": rng.random(n) * (rng.random(n) < 0.05),
    }[kind]
    ranks = rng.permutation(n).astype(U32)
    expected = [i for i in np.lexsort((ranks, -sums)).tolist() if sums[i] > 0][:k]
    for room in (2 * k + 32, 2 * n):
        docs, scores = streamed(sums, ranks, k, room, scale=0.25)
        assert docs == expected
        assert scores == (sums[expected] * 0.25).tolist()


def test_a_threshold_that_k_sums_reach_loses_none_of_them():
    sums = np.random.default_rng(2).random(200)
    ranks = np.arange(200, dtype=U32)
    kth = np.sort(sums)[::-1][9]
    assert streamed(sums, ranks, 10, 60, least=kth)[1] == np.sort(sums)[::-1][:10].tolist()


def test_the_threshold_follows_the_kth_best_sum_to_within_a_level():
    sums = np.random.default_rng(4).random(2000)
    top = topk.open_top(10, 1.0, np.arange(2000, dtype=U32), topk.SMALLEST, 1.0, 4000)
    for origin in range(0, 2000, 50):
        topk.collect(sums[origin : origin + 50], 0, 50, origin, top)
        topk.raise_threshold(top)
        if origin:
            kth = np.sort(sums[: origin + 50])[-10]
            assert kth - 1 / (topk.THRESHOLD_LEVELS - 1) <= top.limits[topk.LIMIT] <= kth


def test_sums_that_the_scale_makes_equal_are_ordered_by_rank():
    sums = np.nextafter(1.0, 2.0) * np.ones(40)
    sums[::2] = 1.0
    ranks = np.arange(40, dtype=U32)[::-1].copy()
    docs, scores = streamed(sums, ranks, 40, 120, scale=1e-323)
    assert len(set(scores)) == 1
    assert docs == list(range(39, -1, -1))


def test_superblocks_are_visited_by_bound_from_the_threshold_on():
    found = np.random.default_rng(5).random(90).astype(np.float32)
    order = np.zeros(90, U32)
    count = bounds.visit_order(found, 0.4, order)
    assert sorted(order[:count].tolist()) == np.flatnonzero(found >= 0.4).tolist()
    assert (np.diff(found[order[:count]]) < 0.6 / 255 + 1e-6).all()
    assert bounds.visit_order(found, 1.5, order) == 0
    assert bounds.share_reaching(found, 0.4) == count / 90


def test_runs_of_blocks_are_those_that_reach_the_threshold():
    runs = np.zeros((9, 2), np.int64)
    found = np.array([0, 2, 2, 0, 1, 3, 0, 2], np.float32)
    assert bounds.alive_runs(found, 2.0, runs) == (4, 3)
    assert runs[:3].tolist() == [[1, 3], [5, 6], [7, 8]]
    assert bounds.alive_runs(found, 4.0, runs) == (0, 0)
    assert bounds.alive_runs(found, 0.0, runs) == (8, 1)


def scanned(passages, lists, bits=8, block=64):
    """`Postings` of terms without directory rows: a dict from document to impact each, with skip entries as built."""
    ids, impacts, starts = [], [], [0]
    for own in lists:
        docs = sorted(own)
        last = docs[-1] // CHUNK if docs else 0
        for chunk in range(last + 1):
            here = [doc for doc in docs if doc // CHUNK == chunk]
            if chunk < last:
                ids.append(len(here))
                impacts.append(0)
            ids += [doc % CHUNK for doc in here]
            impacts += [own[doc] for doc in here]
        starts.append(len(ids))
    impact = U8 if bits == 8 else U16
    superblocks, blocks = -(-passages // SUPERBLOCK), -(-passages // block)
    return Postings(
        np.array(starts, U32), np.full(len(lists), -1, np.int32), np.zeros((0, 4), impact),
        np.zeros((0, passages), impact), np.array(impacts, impact), np.array(ids, U16),
        np.zeros((0, superblocks + 1), U32), np.zeros((0, blocks), U8), np.arange(passages, dtype=U32),
        np.zeros(len(lists), U8), 1.0, passages, block, bits,
    )  # fmt: skip


def best_of(index, lists, weights, k):
    sums = {}
    for term, own in enumerate(lists):
        for doc, impact in own.items():
            sums[doc] = sums.get(doc, 0.0) + weights[term] * impact
    return sorted(((doc, score) for doc, score in sums.items() if score > 0), key=lambda pair: (-pair[1], pair[0]))[:k]


def answered(index, weights, k, plan, allowed=None, least=0.0):
    width = min(k, index.passages)
    hits = (np.zeros(width, U32), np.zeros(width), np.zeros(STATISTICS))
    request = (k, plan, EXACT_LIMITS, least, FOREVER)
    status = processor.search_row(
        np.arange(len(weights), dtype=np.int64), np.array(weights, np.float32), request, index,
        everything(index) if allowed is None else allowed, hits,
    )  # fmt: skip
    assert status == DONE
    count = int(hits[2][HITS])
    return list(zip(hits[0][:count].tolist(), hits[1][:count].tolist(), strict=True))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_lists_over_several_chunks_are_answered_like_brute_force(plan):
    lists = [
        {0: 3, 5: 200, 65_535: 7, 65_536: 9, 131_072: 250, 139_999: 1},
        {139_998: 50, 139_999: 255},
        {5: 1, 70_000: 31},
        {},
    ]
    index = scanned(140_000, lists)
    weights = [1.0, 0.5, 2.25, 3.0]
    for term in range(4):
        assert stored_lists.validate(term, index) == VALID
    for k in (1, 3, 20):
        assert answered(index, weights, k, plan) == best_of(index, lists, weights, k)


def common_list(passages, own, block=64):
    """`Postings` of one term with the directory row 0: a dict from document to impact."""
    index, docs = scanned(passages, [{}], block=block), sorted(own)
    impacts = np.array([own[doc] for doc in docs], U8)
    begins = np.searchsorted(docs, np.arange(0, passages + SUPERBLOCK, SUPERBLOCK)).astype(U32)
    maxima = np.zeros((1, -(-passages // block)), U8)
    np.maximum.at(maxima[0], np.array(docs) // block, impacts)
    kth = [sorted(own.values(), reverse=True)[k - 1] if k <= len(own) else 0 for k in (1, 10, 100, 1000)]
    return index._replace(
        starts=np.array([0, len(docs)], U32), rows=np.zeros(1, np.int32), kth=np.array([kth], U8), impacts=impacts,
        ids=np.array([doc % CHUNK for doc in docs], U16), superblocks=begins[None], maxima=maxima,
    )  # fmt: skip


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_common_list_over_several_chunks_is_answered_like_brute_force(plan):
    rng = np.random.default_rng(9)
    own = {int(doc): int(rng.integers(1, 256)) for doc in rng.choice(100_000, 60, replace=False)}
    index = common_list(100_000, own)
    for k in (1, 10, 100):
        assert answered(index, [0.5], k, plan) == best_of(index, [own], [0.5], k)
    sums, docs = np.zeros(60), np.array(sorted(own), U32)
    postings.rescore(QueryTerms(np.zeros(1, U32), np.ones(1)), index, docs, 60, sums)
    assert sums.tolist() == [own[doc] for doc in docs.tolist()]
    index.superblocks[0, 3] = 61
    assert stored_lists.validate(0, index) == SUPERBLOCKS_FAULT


def test_damage_in_a_scanned_list_is_found():
    lists = [{1: 5, 9: 5, 65_536: 5, 65_540: 5}]
    good = scanned(66_000, lists)
    assert stored_lists.validate(0, good) == VALID
    for place, value in ((0, 9), (1, 9), (2, 1), (4, 0), (4, 2_000)):
        index = scanned(66_000, lists)
        index.ids[place] = value
        assert stored_lists.validate(0, index) == IDS_FAULT
    edge = scanned(66_000, [{65_999: 1}])
    assert stored_lists.validate(0, edge) == VALID
    edge.ids[-1] += 1
    assert stored_lists.validate(0, edge) == IDS_FAULT


@pytest.mark.parametrize(
    ("begins", "ids", "expected"),
    [
        ([0, 2, 3], [0, 2047, 2048], VALID),
        ([0, 2, 3], [0, 2047, 2999], VALID),
        ([0, 2, 3], [0, 2047, 3000], IDS_FAULT),
        ([0, 2, 3], [0, 2048, 2049], IDS_FAULT),
        ([0, 2, 3], [5, 5, 2048], IDS_FAULT),
        ([0, 2, 3], [0, 2047, 2047], IDS_FAULT),
        ([1, 2, 3], [0, 2047, 2048], SUPERBLOCKS_FAULT),
        ([0, 2, 4], [0, 2047, 2048], SUPERBLOCKS_FAULT),
        ([0, 4, 3], [0, 2047, 2048], SUPERBLOCKS_FAULT),
        ([0, 0, 3], [2048, 2049, 2050], VALID),
    ],
)
def test_damage_in_a_directory_row_is_found(begins, ids, expected):
    found = stored_lists.validate_common(0, 3, np.array(begins, U32), np.array(ids, U16), 3000)
    assert found == expected


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An index with dense, common and scanned lists, and its impacts by document and term."""
    n, vocabulary, rng = 2300, 12, np.random.default_rng(6)
    shares = [0.9, 0.5, 0.4, 0.2, 0.1, 0.05, 0.03, 0.01, 0.005, 0.003, 0.002, 0.0]
    table = np.where(rng.random((n, vocabulary)) < shares, rng.integers(1, 256, (n, vocabulary)), 0)
    table[2000, :11] = 255
    rows, terms = np.nonzero(table)
    batch = SparseBatch(
        np.searchsorted(rows, np.arange(n + 1)), terms.astype(U32), table[rows, terms].astype(np.float32)
    )
    path = tmp_path_factory.mktemp("kernels") / "x"
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, [f"t{i:02d}" for i in range(vocabulary)], block=16)
        builder.add([Passage(f"{i:05d}", "") for i in range(n)], batch)
        draft.fields.update(builder.finish())
    return Index.open(path), table


def test_the_builder_stores_every_impact(built):
    index, table = built
    n = index.layouts[0].counts
    assert 0 < n.dense < n.common < n.terms
    query = QueryTerms(np.arange(12, dtype=U32), np.ones(12))
    for term in range(12):
        sums, docs = np.zeros(len(table)), np.arange(len(table), dtype=U32)
        one = QueryTerms(query.terms[term : term + 1], query.weights[:1])
        postings.rescore(one, index._now.parts[0].searcher._postings, docs, len(docs), sums)
        assert (sums == table[:, term]).all()
        assert stored_lists.validate(term, index._now.parts[0].searcher._postings) == VALID


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("k", [1, 10, 500, 3000])
def test_every_plan_and_k_equals_brute_force(built, plan, k):
    index, table = built
    weights = np.array([0.1, 0.9, 0.3, 1.0, 0.2, 2.0, 0.7, 1.5, 1.0, 3.0, 0.4, 1.0], np.float32)
    scores = np.zeros(len(table))
    for term in range(12):
        scores += float(weights[term]) * table[:, term]
    order = np.lexsort((np.arange(len(table)), -scores))
    expected = [(i, scores[i]) for i in order.tolist() if scores[i] > 0][:k]
    assert answered(index._now.parts[0].searcher._postings, weights, k, plan) == expected


def test_quantised_accumulators_find_the_same_hits_or_decline(built):
    index, table = built
    postings_, weights = index._now.parts[0].searcher._postings, np.array([0.5, 1.25, 0.0625])
    terms = np.array([0, 3, 7], U32)
    query = QueryTerms(terms, weights)
    _, total = processor.measure_lists(query, postings_)
    scores = table[:, terms] @ weights
    least = processor.initial_threshold(query, 10, postings_.rows, postings_.kth)
    assert least <= np.sort(scores)[-10]
    assert total >= scores.max()
    hits = Hits(np.zeros(10, U32), np.zeros(10), np.zeros(STATISTICS))
    wanted = Request(10, 0, EXACT_LIMITS, 0.0, FOREVER, False)
    assert taat.score_quantised(query, total, least, wanted, postings_, everything(postings_), hits) == 10
    assert hits.docs.tolist() == np.lexsort((np.arange(len(table)), -scores))[:10].tolist()
    assert hits.scores.tolist() == np.sort(scores)[::-1][:10].tolist()


def test_an_explanation_counts_what_block_max_scored(built):
    index, table = built
    blocks = np.zeros((-(-len(table) // 16), 12), int)
    np.maximum.at(blocks, np.arange(len(table)) // 16, table)
    for terms, k in (([9, 10], 3000), ([0], 3000), ([3], 1)):
        weights = np.ones(len(terms), np.float32)
        found = index.search((np.array(terms), weights), k, plan="block-max", explain=True)
        (told,) = found.explanations
        bounds_of = blocks[:, terms].sum(axis=1)
        least = 1 if k > 1 else np.sort(table[:, terms].sum(axis=1))[-1]
        alive = bounds_of >= least
        by_superblock = np.split(alive, [SUPERBLOCK // 16])
        assert (told.plan, told.terms, told.blocks) == ("block-max", len(terms), len(blocks))
        assert told.postings == (table[:, terms] > 0).sum()
        assert told.visited == alive.sum()
        assert told.superblocks == sum(part.any() for part in by_superblock)
        assert told.whole_superblocks == (1 if by_superblock[0].all() else 0)
        in_visited = np.repeat([part.any() for part in by_superblock], SUPERBLOCK)[: len(table)]
        if k > 1:
            assert told.scored == (table[in_visited][:, terms] > 0).sum() == told.postings
        assert told.bound == table[:, terms].max(axis=0).sum()
        assert 0 <= told.threshold <= (found.scores[-1] if len(found) >= k else 1e-300)


def test_bounds_hold_the_score_of_every_document(built):
    index, table = built
    query = QueryTerms(np.array([1, 4, 9, 10], U32), np.array([0.5, 1.0, 2.0, 1e-3]))
    found = bounds.bound_blocks(query, index._now.parts[0].searcher._postings)
    scores = table[:, query.terms] @ query.weights
    padded = np.zeros(found.blocks.shape[0] * 16)
    padded[: len(scores)] = scores
    assert (found.blocks * 2.0 * (1 + 1e-5) >= padded.reshape(-1, 16).max(axis=1)).all()
    assert (found.superblocks == found.blocks.reshape(len(found.superblocks), -1).max(axis=1)).all()


def test_search_one_answers_nothing_where_nothing_is_asked(built):
    index, _ = built
    hits = Hits(np.zeros(1, U32), np.zeros(1), np.zeros(STATISTICS))
    nothing = QueryTerms(np.zeros(0, U32), np.zeros(0))
    own = index._now.parts[0].searcher._postings
    assert (
        processor.search_one(nothing, Request(1, 0, EXACT_LIMITS, 0.0, FOREVER, False), own, everything(own), hits) == 0
    )
    some = QueryTerms(np.array([1], U32), np.ones(1))
    assert processor.search_one(some, Request(0, 0, EXACT_LIMITS, 0.0, FOREVER, False), own, everything(own), hits) == 0


def test_a_batch_is_answered_to_its_end_or_to_the_first_fault():
    index = scanned(3000, [{1: 5, 9: 7}, {9: 2}])
    terms, weights = np.array([0, 0, 1], np.int64), np.array([1, 1, 2], np.float32)
    indptr = np.array([0, 1, 3, 3], np.int64)
    hits = (np.zeros((3, 2), U32), np.zeros((3, 2)), np.zeros((3, STATISTICS)))
    request, counter = (2, PLANS["term-at-a-time"], EXACT_LIMITS, np.zeros(3), FOREVER), np.zeros(1, np.int64)
    allowed = everything(index)
    assert processor.search_many(counter, indptr, terms, weights, request, index, allowed, hits) == DONE
    assert hits[0].tolist()[:2] == [[9, 1], [9, 1]]
    assert hits[1].tolist()[:2] == [[7, 5], [11, 5]]
    assert hits[2][:, HITS].tolist() == [2, 2, 0]
    weights[2] = -1
    counter[0] = 0
    assert processor.search_many(counter, indptr, terms, weights, request, index, allowed, hits) == BAD_WEIGHT - 1
    damaged = scanned(3000, [{1: 5, 9: 7}, {9: 2}])
    damaged.ids[-1] = 3000
    weights[2] = 2
    found = processor.search_many(np.zeros(1, np.int64), indptr, terms, weights, request, damaged, allowed, hits)
    assert found == 1 * FAULTS + IDS_FAULT
    assert damaged.validated.tolist() == [1, 0]
