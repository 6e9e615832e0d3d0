"""A damaged index gives an error or a well-formed result, never a crash; threads and approximation keep their word."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from searching import PLANS, Reference, build, clustered
from small_indexes import make

from tests.indexes import segment_of
from thresher.artifact import writing
from thresher.errors import ArtifactVersionError, DamagedArtifactError, InputError, ThresherError
from thresher.records import SparseBatch
from thresher.search import Effort, Index

CASES = {"text": 0.8, "learned": 0.8, "wide": 0.3}
"""Damages tried of each index, for each example that the Hypothesis profile asks for: 95, nightly 5,700 (3 x)."""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    n, terms = 3000, 500
    rows = clustered(n, terms, 3)
    docnos = [f"p{i}" for i in np.random.default_rng(4).permutation(n)]
    path = tmp_path_factory.mktemp("damage") / "x"
    searcher = build(path, docnos, rows, terms, block=64, order="similarity")
    return path, searcher, docnos, rows


@pytest.mark.kernels
@pytest.mark.parametrize("name", sorted(CASES))
def test_whatever_its_files_hold_an_index_answers_or_is_refused(tmp_path, name):
    """In a process of its own; under NUMBA_BOUNDSCHECK a place outside an array is an error there."""
    make(tmp_path / "x", name)
    cases = int(CASES[name] * settings.default.max_examples * (3 if settings.default.max_examples > 500 else 1))
    seed = 1 if settings.default.derandomize else int.from_bytes(os.urandom(4))
    command = [sys.executable, str(Path(__file__).with_name("damage.py")), str(tmp_path / "x"), str(seed), str(cases)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    assert not found["raw"], "\n".join(found["raw"][:3])
    assert sum(found["errors"].values()) > cases / 10


def test_a_truncated_file_is_refused(index):
    path, *_ = index
    for name in ("impacts", "ids", "layout.json"):
        whole = (segment_of(path) / name).read_bytes()
        (segment_of(path) / name).write_bytes(whole[:-1])
        with pytest.raises(ThresherError, match=name):
            Index.open(path)
        (segment_of(path) / name).write_bytes(whole)


@pytest.mark.parametrize("name", ["lengths", "long", "kinds", "ids", "tiles"])
def test_a_list_that_leads_astray_is_refused_by_the_name_of_its_file(index, name):
    path, *_ = index
    layout = Index.open(path).layouts[0]
    n = layout.counts
    term = int(np.flatnonzero((layout.rows >= n.dense) & (layout.rows < n.common))[0])
    whole = (segment_of(path) / name).read_bytes()
    hurt = np.frombuffer(whole, getattr(layout, "superblocks" if name == "tiles" else name).dtype).copy()
    begin, row = int(layout.starts[term]), int(layout.rows[term])
    at, value = {
        "lengths": (term, layout.lengths[term] - 1),
        "long": (0, 2**31),
        "kinds": (0, layout.kinds[0] ^ 1),
        "ids": (begin, 65_535),
        "tiles": (row * layout.superblocks.shape[1] + 1, 2**31),
    }[name]
    hurt[at] = value
    (segment_of(path) / name).write_bytes(hurt.tobytes())
    named = "lengths" if name == "long" else name
    try:
        with pytest.raises(DamagedArtifactError, match=f"{named}: "):
            Index.open(path).search(([term], [1.0]), 10)
    finally:
        (segment_of(path) / name).write_bytes(whole)


@pytest.mark.parametrize("older", [1, 2, 3])
def test_an_index_of_an_older_format_is_refused(tmp_path, older):
    with writing(tmp_path / "x", kind="index", format=older) as draft:
        (draft.path / "impacts").write_bytes(b"")
    with pytest.raises(ArtifactVersionError, match=rf"has format {older}.*Build the index again"):
        Index.open(tmp_path / "x")


def test_threads_do_not_change_results(index):
    _, searcher, _, _ = index
    rng = np.random.default_rng(0)
    queries = [(np.sort(rng.choice(500, 12, replace=False)), rng.random(12).astype(np.float32)) for _ in range(70)]
    one, two = searcher.search_batch(queries, 50), searcher.search_batch(queries, 50, threads=2)
    assert [(r.numbers.tolist(), r.scores.tolist()) for r in one.values()] == [
        (r.numbers.tolist(), r.scores.tolist()) for r in two.values()
    ]


def test_rows_need_not_lie_side_by_side_in_memory(index):
    _, searcher, _, _ = index
    every = np.array([0, 9, 2, 9, 3], np.int64)
    wide = np.array([1.0, 9.0, 2.0, 9.0, 0.5, 9.0], np.float32)
    batch = SparseBatch(every[::2], np.array([5, 8, 40], np.uint32), wide[::2])
    rows = [([5, 8], [1.0, 2.0]), ([40], [0.5])]
    for found, (terms, weights) in zip(searcher.search_batch(batch, 10, threads=2).values(), rows, strict=True):
        assert found.numbers.tolist() == searcher.search((terms, weights), 10).numbers.tolist()
    strided = (np.array([5, 8, 40]), wide[::2])
    assert (
        searcher.search(strided, 5).scores.tolist() == searcher.search(([5, 8, 40], [1.0, 2.0, 0.5]), 5).scores.tolist()
    )


def test_lists_that_deny_their_largest_impacts_are_survived(tmp_path):
    """What `kth` holds is not checked: results may then be wrong, but must be well-formed."""
    rows = [{t: 1.0 for t in range(8) if (i + t) % 3} for i in range(300)]
    build(tmp_path / "x", [f"d{i}" for i in range(300)], rows, 8)
    file = segment_of(tmp_path / "x") / "kth"
    file.write_bytes(bytes(file.stat().st_size))
    searcher = Index.open(tmp_path / "x")
    for weight in (1e-38, 1.0, 1e38):
        for k in (1, 10, 250, 2000):
            for plan in PLANS:
                for query in (([3], [weight]), ([3, 4], [weight, 1.0])):
                    result = searcher.search(query, k, plan=plan)
                    assert len(result) <= min(k, 300)
                    assert (result.numbers < 300).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_bad_weight_of_a_batch_is_named(index, threads):
    _, searcher, _, _ = index
    good, bad = ([1, 2], [1.0, 2.0]), ([1, 2], [1.0, -2.0])
    queries = [bad if i in (37, 61) else good for i in range(70)]
    with pytest.raises(InputError, match=r"query 37 gives a term the weight -2\.0"):
        searcher.search_batch(queries, 10, threads=threads)
    assert len(searcher.search_batch([], 10, threads=threads)) == 0


@pytest.mark.parametrize("order", ["source", "bp", "similarity"])
def test_the_order_of_documents_changes_nothing(tmp_path, order):
    rows = clustered(1500, 300, 9)
    docnos = [f"d{i}" for i in range(1500)]
    searcher = build(tmp_path / "x", docnos, rows, 300, order=order)
    reference = Reference(docnos, rows, 8)
    for i in range(5):
        query = {t: 0.3 + w for t, w in rows[i * 300].items()}
        for plan in PLANS:
            result = searcher.search((list(query), list(query.values())), 20, plan=plan)
            assert list(zip(result.docnos, result.scores.tolist(), strict=True)) == reference.best(query, 20)
            assert [hit.text for hit in result] == [f"text of {docno}" for docno in result.docnos]


def test_approximate_results_are_marked_and_hold_true_scores(index):
    _, searcher, docnos, rows = index
    reference = Reference(docnos, rows, 8)
    query = {t: w + 0.1 for t, w in rows[100].items()}
    truth = dict(reference.best(query, len(docnos)))
    result = searcher.search((list(query), list(query.values())), 10, effort=Effort(blocks=0.6), plan="block-max")
    assert not result.exact
    assert all(truth[docno] == score for docno, score in zip(result.docnos, result.scores.tolist(), strict=True))
    cut = searcher.search((list(query), list(query.values())), 10, effort=Effort(terms=3))
    heaviest = dict(sorted(query.items(), key=lambda pair: (-np.float32(pair[1]), pair[0]))[:3])
    assert list(zip(cut.docnos, cut.scores.tolist(), strict=True)) == reference.best(heaviest, 10)
    assert not cut.exact


def test_hostile_queries_are_answered_or_refused(index):
    _, searcher, _, _ = index
    assert len(searcher.search({}, 10)) == 0
    assert len(searcher.search({"unknown": 1.0}, 10)) == 0
    assert len(searcher.search(([10**9, -5], [1.0, 1.0]), 10)) == 0
    assert len(searcher.search({"t1": 0.0}, 10)) == 0
    assert len(searcher.search({"t1": 1.0}, 0)) == 0
    twice = searcher.search(([7, 7], [0.25, 0.5]), 10)
    assert twice.scores.tolist() == searcher.search(([7], [0.75]), 10).scores.tolist()
    for wrong in ({"t1": -1.0}, {"t1": float("nan")}, {"t1": 1e39}, ([1], [1.0, 2.0]), 7, {"t1": "x"}, {"t1": [0.5]}):
        with pytest.raises(InputError):
            searcher.search(wrong, 10)
        with pytest.raises(InputError):
            searcher.search_batch([wrong], 10)
    with pytest.raises(InputError, match="query 1 repeats a term whose weights add up to more"):
        searcher.search_batch([([7], [1.0]), ([7, 7], [3e38, 3e38])], 10)
    assert (
        searcher.search(([7], [1.0]), np.uint8(10)).numbers.tolist()
        == searcher.search(([7], [1.0]), 10).numbers.tolist()
    )
    for options in ({"k": -1}, {"effort": 0.5}, {"plan": "best"}):
        with pytest.raises(InputError):
            searcher.search({"t1": 1.0}, **options)
