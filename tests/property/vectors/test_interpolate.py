"""Interpolation with early stopping against looking every document up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.fusion import normalise_scores
from thresher.ranking import Ranking
from thresher.vectors.interpolate import rocchio
from thresher.vectors.store import VectorStore


def build(target, rng, n, dimensions, storage="float16", sketch=4, per_document=1, ties=False):
    vectors = rng.normal(size=(n, dimensions)).astype(np.float32)
    if ties:
        vectors[:] = vectors[:1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    docnos = [f"d{i}" for i in rng.permutation(n)]
    return VectorStore.build(
        target,
        [vectors],
        docnos=docnos,
        storage=storage,
        sketch=sketch,
        document_of=(lambda docno: str(int(docno[1:]) // per_document)) if per_document > 1 else None,
        overwrite=True,
    )


def vectors_of(index, docno):
    place = index.docnos.index(docno)
    if index.firsts is None:
        return index.stored.decode(np.array([place]))
    return index.stored.decode(np.arange(index.firsts[place], index.firsts[place + 1]))


def by_definition(index, ranking, query, alpha, k, normalise):
    """Every document scored one at a time, in plain Python."""
    sparse = normalise_scores(np.array([row.score for row in ranking]), normalise)
    rows = []
    for row, score in zip(ranking, sparse, strict=True):
        vectors = vectors_of(index, row.docno).tolist()
        dense = max(sum(a * b for a, b in zip(vector, query.tolist(), strict=True)) for vector in vectors)
        rows.append((row.docno, alpha * float(score) + (1 - alpha) * dense))
    rows.sort(key=lambda item: (-item[1], item[0].encode()))
    return rows[:k]


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 60),
    k=st.integers(1, 70),
    alpha=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    storage=st.sampled_from(["float16", "int8"]),
    stopping=st.sampled_from(["sketch", "length", "none"]),
    normalise=st.sampled_from(["min-max", "z-score", "none"]),
    per_document=st.sampled_from([1, 3]),
    ties=st.booleans(),
)
def test_early_stopping_returns_what_full_interpolation_returns(
    tmp_path, seed, n, k, alpha, storage, stopping, normalise, per_document, ties
):
    rng = np.random.default_rng(seed)
    index = build(tmp_path / "vectors", rng, n, 12, storage, 4, per_document, ties)
    scores = rng.integers(0, 5, len(index)) if ties else rng.normal(size=len(index))
    ranking = Ranking.from_pairs([(docno, float(s)) for docno, s in zip(index.docnos, scores, strict=True)])
    query = rng.normal(size=12).astype(np.float32)
    found = index.interpolate(ranking, query, alpha=alpha, k=k, normalise=normalise, stopping=stopping)
    assert [(row.docno, row.score) for row in found] == by_definition(index, ranking, query, alpha, k, normalise)
    assert found.exact
    assert min(k, len(index)) <= found.lookups <= found.candidates == len(index)


def dense_by_definition(index, docnos, query):
    """float64 dense scores by docno, of those that have vectors."""
    found = {}
    for docno in docnos:
        if docno in index.docnos:
            vectors = vectors_of(index, docno)
            found[docno] = float((vectors.astype(np.float64) @ query.astype(np.float64)).max())
    return found


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 30),
    strangers=st.integers(0, 12),
    k=st.integers(1, 45),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    stopping=st.sampled_from(["sketch", "length", "none"]),
    feedback=st.integers(0, 4),
    weight=st.sampled_from([0.0, 0.6, 2.0]),
)
def test_gaps_count_with_the_mean_and_feedback_moves_the_query(
    tmp_path, seed, n, strangers, k, alpha, stopping, feedback, weight
):
    rng = np.random.default_rng(seed)
    index = build(tmp_path / "vectors", rng, n, 8)
    docnos = [*index.docnos, *(f"x{i}" for i in range(strangers))]
    ranking = Ranking.from_pairs([(d, float(s)) for d, s in zip(docnos, rng.normal(size=len(docnos)), strict=True)])
    query = rng.normal(size=8).astype(np.float32)

    def expected(vector):
        dense = dense_by_definition(index, docnos, vector)
        mean = float(np.mean(list(dense.values())))
        sparse = normalise_scores(np.array([row.score for row in ranking]), "min-max")
        totals = {d: alpha * s + (1 - alpha) * dense.get(d, mean) for d, s in zip(docnos, sparse, strict=True)}
        return sorted(docnos, key=lambda d: (-totals[d], d.encode())), totals, dense, mean

    vector = query
    if feedback and weight:
        near = [d for d in expected(query)[0][:feedback] if d in index.docnos]
        vector = rocchio(index, query, index.find(near), weight=weight)
    order, totals, dense, mean = expected(vector)
    how = {"missing": "mean", "feedback": feedback, "feedback_weight": weight, "stopping": stopping}
    found = index.interpolate(ranking, query, alpha=alpha, k=k, **how)
    assert np.allclose([row.score for row in found], [totals[d] for d in order[:k]], atol=1e-9)
    assert np.allclose([totals[row.docno] for row in found], [totals[d] for d in order[:k]], atol=1e-9)
    assert np.allclose(found.dense, [dense.get(row.docno, mean) for row in found], atol=1e-9)
    assert (found.missing, found.candidates) == (strangers, len(docnos))
    assert found.lookups <= n * (2 if feedback and weight else 1)


def test_without_any_vector_the_sparse_order_stays(tmp_path):
    index = build(tmp_path / "f", np.random.default_rng(2), 3, 6)
    ranking = Ranking.from_pairs([("x", 1.0), ("y", 2.0), ("z", 1.5)])
    found = index.interpolate(ranking, np.ones(6, np.float32), alpha=0.3, missing="mean", feedback=2)
    assert [row.docno for row in found] == ["y", "z", "x"]
    assert (found.lookups, found.missing, found.dense.tolist()) == (0, 3, [0.0, 0.0, 0.0])


@given(seed=st.integers(0, 10_000), width=st.integers(1, 12), storage=st.sampled_from(["float16", "int8"]))
def test_no_sketch_bound_is_below_the_score_it_bounds(tmp_path, seed, width, storage):
    rng = np.random.default_rng(seed)
    index = build(tmp_path / "vectors", rng, 40, 12, storage, width)
    query = rng.normal(size=12).astype(np.float32) * 10.0 ** rng.integers(-3, 4)
    everyone = np.arange(40)
    assert (index.sketch.bounds(query, everyone) >= index.scores(query, everyone)).all()


def test_a_sketch_saves_look_ups_where_vectors_have_structure(tmp_path):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 32)) + rng.normal(size=(500, 32)) * 0.05
    index = VectorStore.build(tmp_path / "f", [vectors], docnos=[f"d{i}" for i in range(500)], sketch=8)
    ranking = Ranking.from_pairs(
        [(docno, float(s)) for docno, s in zip(index.docnos, rng.normal(size=500), strict=True)]
    )
    query = vectors[3].astype(np.float32)
    found = index.interpolate(ranking, query, alpha=0.3, k=10, stopping="sketch")
    assert found == index.interpolate(ranking, query, alpha=0.3, k=10, stopping="none")
    assert found.lookups < 250


def test_the_approximate_version_says_that_it_is(tmp_path):
    index = build(tmp_path / "f", np.random.default_rng(2), 30, 6)
    ranking = Ranking.from_pairs([(docno, 30.0 - i) for i, docno in enumerate(index.docnos)])
    found = index.interpolate(ranking, np.ones(6, np.float32), alpha=0.9, k=3, stopping="seen")
    assert not found.exact
    assert len(found) == 3
    assert found.lookups < 30


@pytest.mark.parametrize("stopping", ["sketch", "length", "seen", "none"])
def test_an_empty_ranking_gives_an_empty_one(tmp_path, stopping):
    index = build(tmp_path / "f", np.random.default_rng(2), 3, 6)
    assert len(index.interpolate(Ranking([]), np.ones(6, np.float32), alpha=0.5, stopping=stopping)) == 0
