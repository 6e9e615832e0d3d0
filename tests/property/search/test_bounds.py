"""No bound lies below a score it bounds; superblocks are visited best bound first."""

import numpy as np
import pytest
from searching import Reference, build, clustered

from thresher.index.counts import SUPERBLOCK
from thresher.search.effort import Effort
from thresher.search.kernels.bounds import bound_blocks, visit_order
from thresher.search.kernels.types import QueryTerms


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("block", [1, 64, 256])
def test_no_bound_lies_below_a_score(tmp_path, block, bits):
    n, terms = 5000, 400
    rows = clustered(n, terms, 3)
    docnos = [f"p{i}" for i in range(n)]
    searcher = build(tmp_path / "x", docnos, rows, terms, block=block, bits=bits)
    counts, reference = searcher.layouts[0].counts, Reference(docnos, rows, bits)
    rng, tight = np.random.default_rng(block), 0
    for _ in range(8):
        asked = np.sort(rng.choice(terms, 15, replace=False)).astype(np.uint32)
        weights = rng.choice([1e-33, 0.1, 1 / 3, 1.0, 7.0, 1e30], 15).astype(np.float32).astype(np.float64)
        found = bound_blocks(QueryTerms(asked, weights), searcher._now.parts[0].searcher._postings)
        blocks, superblocks = found.blocks, found.superblocks
        factor = weights.max() * (1 + 19 * 2.0**-23)
        scores = np.zeros(counts.superblocks * SUPERBLOCK)
        for term, weight in zip(asked.tolist(), weights.tolist(), strict=True):
            scores[:n] += weight * reference.columns[term]
        by_block = scores.reshape(-1, block).max(axis=1)
        assert (blocks * factor >= by_block).all()
        assert (superblocks == blocks.reshape(counts.superblocks, -1).max(axis=1)).all()
        tight += int((blocks * factor <= by_block * 1.0001 + 1e-20).sum())
    assert tight > 0  # bounds that no score comes near would pass, too


def test_superblocks_are_visited_best_bound_first_and_only_where_it_reaches():
    rng = np.random.default_rng(5)
    bounds = rng.random(700).astype(np.float32)
    order = np.empty(700, np.uint32)
    count = visit_order(bounds, 0.4, order)
    assert sorted(order[:count].tolist()) == np.flatnonzero(bounds >= 0.4).tolist()
    assert (np.diff(bounds[order[:count]]) < 0.6 / 255 + 1e-6).all()
    assert visit_order(bounds, 2.0, order) == 0


def test_a_cap_visits_the_best_superblocks_and_says_whether_the_answer_is_exact(tmp_path):
    n, terms = 6 * SUPERBLOCK, 400
    rows = clustered(n, terms, 8)
    docnos = [f"p{i}" for i in range(n)]
    index, reference = build(tmp_path / "x", docnos, rows, terms), Reference(docnos, rows, 8)
    rng, told = np.random.default_rng(1), set()
    for _ in range(12):
        asked = {
            int(t): float(w) for t, w in zip(rng.choice(terms, 6, replace=False), rng.random(6) + 0.1, strict=True)
        }
        query = np.array(list(asked)), np.array(list(asked.values()), np.float32)
        for k in (1, 10, 400):
            expected = reference.best(asked, k)
            scores = dict(reference.best(asked, n))
            whole = index.search(query, k, plan="block-max", explain=True).explanations[0].superblocks
            for cap in (1, 2, 4, 6, 100):
                found = index.search(query, k, plan="block-max", effort=Effort(superblocks=cap), explain=True)
                pairs = list(zip(found.docnos, found.scores.tolist(), strict=True))
                assert found.explanations[0].superblocks == min(cap, whole)
                assert found.exact == (cap >= whole)
                assert pairs == expected if found.exact else all(scores[docno] == score for docno, score in pairs)
                told.add((found.exact, pairs == expected))
            capped = index.search(query, k, effort=Effort(superblocks=1), explain=True).explanations[0]
            assert (capped.plan, capped.superblocks) == ("auto", min(1, whole))
    assert told >= {(True, True), (False, False)}
