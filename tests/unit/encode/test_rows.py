import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.encode.encoder import concatenate, from_mappings, row_slice, take_rows


def as_lists(batch):
    return [
        list(zip(batch.terms[a:b].tolist(), batch.weights[a:b].tolist(), strict=True))
        for a, b in zip(batch.indptr[:-1], batch.indptr[1:], strict=True)
    ]


rows = st.lists(
    st.dictionaries(st.integers(0, 20), st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0]), max_size=6), max_size=8
)


@given(rows)
def test_rows_keep_what_is_positive_in_order_of_term(mappings):
    batch = from_mappings(mappings)
    assert as_lists(batch) == [sorted((t, w) for t, w in row.items() if w > 0) for row in mappings]


@given(rows, st.randoms(use_true_random=False))
def test_joining_undoes_splitting_and_shuffling(mappings, random):
    batch = from_mappings(mappings)
    order = list(range(len(mappings)))
    random.shuffle(order)
    shuffled = take_rows(batch, np.array(order, dtype=np.intp))
    cut = len(order) // 2
    parts = [row_slice(shuffled, 0, cut), row_slice(shuffled, cut, len(order))]
    assert as_lists(concatenate(parts, np.array(order, dtype=np.intp))) == as_lists(batch)
    assert as_lists(concatenate(parts)) == as_lists(shuffled)


def test_nothing_joins_to_nothing():
    assert len(concatenate([])) == 0


@given(st.integers(0, 1000), st.integers(1, 12))
def test_of_tied_weights_the_lower_terms_stay(seed, limit):
    torch = pytest.importorskip("torch", reason="the models extra is not installed")
    from thresher.encode.encoder import rows_of

    dense = np.random.default_rng(seed).integers(-1, 4, size=(5, 12)).astype(np.float32)
    found = as_lists(rows_of(torch.from_numpy(dense), limit))
    for row, kept in zip(dense.tolist(), found, strict=True):
        best = sorted(((-w, t) for t, w in enumerate(row) if w > 0))[:limit]
        assert kept == sorted((t, -w) for w, t in best)
