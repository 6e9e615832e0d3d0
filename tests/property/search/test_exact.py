"""Whatever the plan, the hits are those of scoring every passage."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searching import PLANS, TRY_BOUNDS, Reference, build, clustered

hostile = st.one_of(
    st.integers(1, 32).map(float),
    st.floats(2.0**-20, 2.0**20, width=32),
    st.sampled_from([float(np.float32(1 / 3)), float(np.float32(0.1)), 1.0, 2.0**-24, 1 + 2.0**-23, 1e-40, 1e30]),
)


@st.composite
def collections(draw):
    """Docnos, rows, vocabulary size, block size, bits; sizes around the block size among them."""
    block = draw(st.sampled_from([1, 2, 8, 16, 64, 128, 256]))
    n = draw(st.one_of(st.sampled_from([0, 1, block - 1, block, block + 1]), st.integers(0, 400)))
    terms = draw(st.sampled_from([1, 3, 30, 70_000]))
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["whole", "float", "tied", "long"]))
    rng = np.random.default_rng(seed)
    span = min(terms, 12)
    ids = np.sort(rng.choice(terms, span, replace=False))
    rows = []
    for _ in range(n):
        chosen = rng.choice(ids, rng.integers(0, span + 1), replace=False)
        weights = {"whole": rng.integers(1, 256, span), "tied": np.ones(span)}.get(
            kind, rng.gamma(1.0, 2.0, span) + 1e-3
        )
        rows.append({int(t): float(w) for t, w in zip(chosen, weights, strict=False)})
    docnos = [f"d{i}" for i in rng.permutation(n)]
    bits = draw(st.sampled_from([8, 16]))
    query = {int(t): draw(hostile) for t in ids if draw(st.booleans())}
    return docnos, rows, terms, block, bits, query


@given(collections(), st.data())
def test_every_plan_equals_brute_force(collection, data):
    docnos, rows, terms, block, bits, query = collection
    ks = {1, len(rows) + 5, data.draw(st.integers(1, len(rows) + 5))}
    with tempfile.TemporaryDirectory() as folder:
        searcher = build(Path(folder) / "x", docnos, rows, terms, block=block, bits=bits)
        pair = (np.array(list(query), np.uint32), np.array(list(query.values()), np.float32))
        reference = Reference(docnos, rows, bits)
        for k in ks:
            expected = reference.best(query, k)
            for plan in PLANS:
                result = searcher.search(pair, k, plan=plan)
                assert list(zip(result.docnos, result.scores.tolist(), strict=True)) == expected, (plan, k)
                assert result.exact
            searcher._now.parts[0].searcher._plan = lambda k: TRY_BOUNDS
            result = searcher.search(pair, k)
            assert list(zip(result.docnos, result.scores.tolist(), strict=True)) == expected, k
            del searcher._now.parts[0].searcher._plan


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("block", [8, 64, 256])
def test_blocks_are_skipped_and_results_stay_exact(tmp_path, bits, block):
    n, terms = 6000, 500
    rows = clustered(n, terms, 7)
    rng = np.random.default_rng(1)
    docnos = [f"p{i}" for i in rng.permutation(n)]
    searcher = build(tmp_path / "x", docnos, rows, terms, block=block, bits=bits)
    reference = Reference(docnos, rows, bits)
    skipped = 0
    for _ in range(6):
        row = rows[rng.integers(n)]
        query = {t: float(np.float32(w * rng.random() + 0.1)) for t, w in list(row.items())[:12]}
        pair = (np.array(list(query), np.uint32), np.array(list(query.values()), np.float32))
        for k in (1, 10, 100, 1000, 1001):
            expected = reference.best(query, k)
            for plan in PLANS:
                result = searcher.search(pair, k, plan=plan, explain=True)
                assert list(zip(result.docnos, result.scores.tolist(), strict=True)) == expected, (plan, k)
                if plan == "block-max":
                    skipped += result.explanations[0].blocks - result.explanations[0].visited
    assert skipped > 0
