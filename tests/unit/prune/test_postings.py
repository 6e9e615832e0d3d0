"""Pruning inside vectors and lists, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import ConfigError
from thresher.prune.static import VectorPruning, prune_lists, prune_vectors, select_passages
from thresher.records import SparseBatch

ROW = st.dictionaries(st.integers(0, 8), st.sampled_from([0.5, 1.0, 1.5, 2.0, 4.0]), max_size=6)
ROWS = st.lists(ROW, max_size=8)


def batch_of(rows):
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    items = [item for row in rows for item in sorted(row.items())]
    return SparseBatch(indptr, np.array([t for t, _ in items], np.uint32), np.array([w for _, w in items], np.float32))


def rows_of(batch):
    return [
        dict(zip(batch.terms[a:b].tolist(), batch.weights[a:b].tolist(), strict=True))
        for a, b in zip(batch.indptr[:-1], batch.indptr[1:], strict=True)
    ]


def ranked(row):
    return sorted(row.items(), key=lambda item: (-item[1], item[0]))


@given(
    ROWS,
    st.sampled_from([0.0, 1.0, 2.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 3),
    st.sampled_from([0.3, 0.7, 1.0]),
)
def test_vector_rules_are_what_plain_python_does(rows, absolute, share, top, mass):
    pruned = rows_of(prune_vectors(batch_of(rows), VectorPruning(absolute, share, top, mass)))
    for row, got in zip(rows, pruned, strict=True):
        order = ranked(row)
        total, before, expected = sum(row.values()), 0.0, {}
        for rank, (term, weight) in enumerate(order):
            good = weight >= absolute and weight >= share * order[0][1] and (not top or rank < top)
            good = good and (mass == 1 or before < mass * total * (1 - 1e-12))
            if good or rank == 0:
                expected[term] = weight
            before += weight
        assert got == expected


@given(ROWS, st.sampled_from([0.2, 0.5, 0.9, 1.0]), st.sampled_from(["document", "term", "global"]), st.integers(0, 2))
def test_list_pruning_keeps_a_subset_with_every_passages_heaviest(rows, keep, by, depth):
    pruned = rows_of(prune_lists(batch_of(rows), keep, by=by, depth=depth if by == "term" else 0))
    for row, got in zip(rows, pruned, strict=True):
        assert got.items() <= row.items()
        if row:
            assert ranked(row)[0][0] in got
        if keep == 1.0:
            assert got == row


def test_term_centric_pruning_cuts_each_list_alike():
    rows = [{0: 1.0, 1: 9.0}, {0: 2.0, 1: 9.0}, {0: 3.0, 1: 9.0}, {0: 4.0, 2: 0.1, 1: 9.0}]
    pruned = rows_of(prune_lists(batch_of(rows), 0.5, by="term"))
    assert [0 in r for r in pruned] == [False, False, True, True]
    assert 2 in pruned[3]  # a list of one keeps it


def test_document_centric_pruning_takes_the_same_share_of_every_passage():
    rows = [{t: float(t + 1) for t in range(8)}, {t: float(9 - t) for t in range(4)}]
    assert [set(r) for r in rows_of(prune_lists(batch_of(rows), 0.5, by="document"))] == [{4, 5, 6, 7}, {0, 1}]


def test_passages_that_go_leave_empty_vectors():
    rows = [{0: 1.0}, {1: 2.0, 2: 1.0}, {}]
    assert rows_of(select_passages(batch_of(rows), np.array([False, True, True]))) == [{}, {1: 2.0, 2: 1.0}, {}]


def test_settings_out_of_range_are_refused():
    for settings in ({"absolute": -1.0}, {"share": 2.0}, {"top": -1}, {"mass": 0.0}):
        with pytest.raises(ConfigError, match="must be at least 0"):
            VectorPruning(**settings)
    for keep, by, depth in ((0.0, "term", 0), (0.5, "column", 0), (0.5, "term", -1)):
        with pytest.raises(ConfigError):
            prune_lists(batch_of([{0: 1.0}]), keep, by=by, depth=depth)
