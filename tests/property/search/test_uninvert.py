"""Rows come back from posting lists of every kind as they went in, and lists are counted."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sums import large

from thresher.errors import DamagedArtifactError, InputError
from thresher.index.layout import CHUNK, open_layout
from thresher.index.uninvert import count_deleted, count_postings, uninvert

LENGTHS = (0, 1, 3, 9, 10, 40, 700, 5000, 90_000)


def table(n, vocabulary, top, rng):
    """(owner, term, impact) of postings by owner and term: lists of any length, some over a stretch of passages."""
    columns = []
    for term in range(vocabulary):
        first, last = np.sort(rng.integers(0, n + 1, 2)) if term % 3 else (0, n)
        among = np.arange(first, max(last, min(first + 1, n)))
        size = min(int(rng.choice(LENGTHS)), len(among))
        columns.append(rng.choice(among, size, replace=False) if size else np.empty(0, int))
    owners = np.concatenate(columns)
    terms = np.repeat(np.arange(vocabulary), [len(c) for c in columns])
    order = np.lexsort((terms, owners))
    impacts = rng.integers(1, top + 1, len(owners))
    if len(impacts):
        impacts[0] = top
    return owners[order], terms[order], impacts


def check(path, n, vocabulary, rng, shares, **options):
    """Build, then compare everything with the table."""
    bits = options.get("bits", 8)
    owners, terms, impacts = table(n, vocabulary, 2**bits - 1, rng)
    indptr = np.searchsorted(owners, np.arange(n + 1))
    docnos = [f"{i:06d}" for i in rng.permutation(n)]
    index = large(path, docnos, indptr, terms, impacts, vocabulary, **options)
    (layout,) = index.layouts
    whole = uninvert(layout, None, 0, n)
    assert (whole.indptr.tolist(), whole.terms.tolist()) == (indptr.tolist(), terms.tolist())
    assert whole.impacts.tolist() == impacts.tolist()
    assert whole.batch(0.25).weights.tolist() == (impacts * 0.25).tolist()
    every = np.arange(vocabulary)
    assert count_postings(layout, every).tolist() == np.bincount(terms, minlength=vocabulary).tolist()
    for share in shares:
        live = rng.random(n) < share
        expected = np.bincount(terms[~live[owners]], minlength=vocabulary)
        assert count_deleted(layout, ~live).tolist() == expected.tolist()
        held = np.zeros(n, np.uint8)
        asked = rng.integers(-2, vocabulary + 2, 3)
        held[owners[np.isin(terms, asked) & live[owners]]] = 1
        assert (
            index._now.parts[0].searcher.matches(asked, index._now.parts[0].searcher.allow(live)).tolist()
            == held.tolist()
        )
        first, after = np.sort(rng.integers(0, n + 1, 2)).tolist()
        for threads in (1, 2):
            found = uninvert(layout, live, first, after, threads)
            kept = live[owners] & (owners >= first) & (owners < after)
            assert found.terms.tolist() == terms[kept].tolist()
            assert found.impacts.tolist() == impacts[kept].tolist()
            assert np.diff(found.indptr).tolist() == np.diff(indptr)[first:after][live[first:after]].tolist()
    return layout


@settings(max_examples=max(settings.default.max_examples // 4, 10))
@given(st.integers(0, 400), st.sampled_from([1, 12, 40]), st.sampled_from([8, 16]), st.integers(0, 2**32 - 1))
def test_rows_come_back_as_they_went_in(n, vocabulary, bits, seed):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        order = ("source", "similarity")[seed % 2]
        check(Path(folder) / "x", n, vocabulary, rng, (0.0, 0.6), bits=bits, order=order, block=16)


@pytest.mark.parametrize("order", ["source", "similarity"])
def test_lists_over_several_chunks_come_back(tmp_path, order):
    layout = check(tmp_path / "x", 140_000, 40, np.random.default_rng(8), (0.7,), order=order)
    n = layout.counts
    assert 0 < n.dense < n.common < n.numbered < n.terms
    assert n.entries + int(layout.superblocks[: n.dense, -1].sum()) > n.postings  # there are skip entries


def test_a_damaged_list_is_refused(tmp_path):
    layout = check(tmp_path / "x", 70_000, 40, np.random.default_rng(8), ())
    term = int(np.flatnonzero(layout.rows >= layout.counts.common)[0])
    begin = int(layout.starts[term])
    content = bytearray((layout.path / "ids").read_bytes())
    content[2 * begin : 2 * begin + 2] = (CHUNK - 1).to_bytes(2, "little")
    (layout.path / "ids").write_bytes(content)
    damaged = open_layout(layout.path)
    for call in (
        lambda: uninvert(damaged, None, 0, 70_000),
        lambda: count_deleted(damaged, np.ones(70_000, bool)),
    ):
        with pytest.raises(DamagedArtifactError, match=r"ids: the posting list of term"):
            call()
    with pytest.raises(InputError, match="terms must be below 40"):
        count_postings(layout, np.array([40]))
