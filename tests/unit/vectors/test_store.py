import sys

import numpy as np
import pytest

from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError, InputError
from thresher.ranking import Ranking
from thresher.vectors.retrieve import DenseIndex
from thresher.vectors.store import VectorStore
from thresher.vectors.writer import Spool, coalesce


def unit(rng, n, dimensions):
    vectors = rng.normal(size=(n, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors():
    return unit(np.random.default_rng(0), 300, 16)


def test_vectors_are_found_by_docno_whatever_the_order_they_came_in(tmp_path, vectors):
    names = [f"p{i}" for i in np.random.default_rng(1).permutation(300)]
    index = VectorStore.build(tmp_path / "f", [vectors[:100], vectors[100:]], docnos=names)
    query = vectors[7]
    scores = index.scores(query, index.find(names))
    assert np.allclose(scores, vectors.astype(np.float16).astype(np.float64) @ query, atol=1e-6)
    assert names[int(scores.argmax())] == names[7]


@pytest.mark.parametrize(("storage", "error", "size"), [("float16", 1e-3, 2 * 16), ("int8", 1e-2, 16 + 4)])
def test_storage_loses_little(tmp_path, vectors, storage, error, size):
    index = VectorStore.build(tmp_path / "f", [vectors], docnos=[str(i) for i in range(300)], storage=storage)
    rows, _ = index.rows_of(index.find([str(i) for i in range(300)]))
    assert np.abs(index.stored.decode(rows) - vectors).max() < error
    assert index.bytes < 300 * size + 300 * 16


def test_product_quantisation_is_decoded_without_faiss(tmp_path, vectors):
    pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    index = VectorStore.build(tmp_path / "f", [vectors], docnos=[str(i) for i in range(300)], storage="pq8", sketch=4)
    rows, _ = index.rows_of(index.find([str(i) for i in range(300)]))
    decoded = index.stored.decode(rows)
    assert index.stored.codes.shape == (300, 8)
    assert (decoded * vectors).sum(axis=1).mean() > 0.9
    assert (index.sketch.bounds(vectors[0], rows) >= index.scores(vectors[0], np.arange(300))[index.find(
        [str(i) for i in range(300)])]).all()  # fmt: skip


def test_a_document_counts_by_its_best_passage(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    index = VectorStore.build(
        tmp_path / "f", [vectors], docnos=["a#0", "b#0", "a#1", "b#1"], document_of=lambda name: name.split("#")[0]
    )
    assert list(index.docnos) == ["a", "b"]
    scores = index.scores(np.array([1, 2, 3, 4], np.float32), np.array([0, 1]))
    assert scores.tolist() == [3.0, 4.0]


def joined_at(folder, vectors, firsts, delta):
    with Spool(folder / "spool") as spool, Spool(folder / "joined") as joined:
        spool.append(np.stack(vectors))
        ends = coalesce(spool, np.array(firsts), delta, joined)
        return joined.rows(np.arange(len(joined))), ends


def test_coalescing_joins_near_neighbours_only(tmp_path):
    a, b = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    near = np.array([0.995, 0.0998749], np.float32)
    joined, firsts = joined_at(tmp_path, [a, near, b, a, b], [0, 3, 5], 0.1)
    assert firsts.tolist() == [0, 2, 4]
    assert np.allclose(np.linalg.norm(joined, axis=1), 1.0)
    assert np.allclose(joined[1:], [b, a, b])
    everything, ends = joined_at(tmp_path, [a, near, b, a, b], [0, 3, 5], 2.0)
    assert ends.tolist() == [0, 1, 2]
    assert len(everything) == 2
    unchanged, same = joined_at(tmp_path, [a, a], [0, 2], 0.0)
    assert len(unchanged) == 2
    assert same.tolist() == [0, 2]


def test_building_twice_writes_the_same_bytes(tmp_path, vectors):
    names = [str(i) for i in range(300)]
    for folder in ("a", "b"):
        VectorStore.build(tmp_path / folder, [vectors], docnos=names, storage="int8", sketch=4)
    for file in sorted(p.name for p in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_unknown_docno_is_named(tmp_path, vectors):
    index = VectorStore.build(tmp_path / "f", [vectors[:1]], docnos=["a"])
    with pytest.raises(InputError, match="'zzz' has no vector"):
        index.interpolate(Ranking.from_pairs([("zzz", 1.0)]), vectors[0], alpha=0.5)


@pytest.mark.parametrize(
    ("docnos", "batches", "message"),
    [
        (["a", "a"], [np.ones((2, 2))], "'a' comes twice"),
        (["a"], [np.ones((2, 2))], "1 docnos for 2 vectors"),
        (["a", "b"], [np.ones((1, 2)), np.ones((1, 3))], "shape"),
        (["a"], [np.ones(2)], "shape"),
        (["a", "b"], [np.ones((1, 2)), np.array([[np.nan, 1.0]])], "vector 1 holds a value that is not finite"),
        (["a"], [np.array([[1e6, 1.0]])], "exceeds float16"),
    ],
)
def test_bad_vectors_are_refused(tmp_path, docnos, batches, message):
    with pytest.raises(InputError, match=message):
        VectorStore.build(tmp_path / "f", batches, docnos=docnos)
    assert list(tmp_path.iterdir()) == []


class Numbered:
    """An index as a ranking sees it: passage i is called `names[i]`."""

    def __init__(self, names):
        self.names = names
        self.asked = 0

    def docnos_at(self, numbers):
        self.asked += len(numbers)
        return [self.names[i] for i in numbers.tolist()]


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_a_store_by_passage_number_gives_what_a_store_by_docno_gives(tmp_path, vectors, storage):
    names = [f"p{i}" for i in np.random.default_rng(1).permutation(300)]
    by_docno = VectorStore.build(tmp_path / "d", [vectors], docnos=names, storage=storage, sketch=4)
    by_number = VectorStore.build(tmp_path / "n", [vectors[:7], vectors[7:]], storage=storage, sketch=4)
    index = Numbered(names)
    numbers = np.random.default_rng(2).permutation(300)[:200]
    scores = np.random.default_rng(3).normal(size=200)
    ranking = Ranking.of_numbers(index, numbers, scores)
    for feedback in (0, 3):
        found = by_number.interpolate(ranking, vectors[5], alpha=0.2, k=20, feedback=feedback)
        assert index.asked == 0, "docnos are read only where scores tie"
        expected = by_docno.interpolate(
            Ranking([names[i] for i in numbers], scores), vectors[5], alpha=0.2, k=20, feedback=feedback
        )
        assert found.pairs() == expected.pairs()
        assert found.dense.tolist() == expected.dense.tolist()
        assert numbers[found.places].tolist() == found.numbers.tolist()
        index.asked = 0
    with pytest.raises(InputError, match="did not come from an index"):
        by_number.interpolate(Ranking(names[:3]), vectors[5])


def test_passages_behind_the_last_vector_are_missing(tmp_path, vectors):
    store = VectorStore.build(tmp_path / "n", [vectors[:2]])
    ranking = Ranking.of_numbers(Numbered(["a", "b", "c"]), np.array([2, 0, 1]), np.array([3.0, 2.0, 1.0]))
    assert store.interpolate(ranking, vectors[0], missing="mean").missing == 1
    with pytest.raises(InputError, match="'c' has no vector"):
        store.interpolate(ranking, vectors[0])


@pytest.mark.parametrize("docnos", [None, []])
def test_a_store_of_nothing_can_be_made_and_opened(tmp_path, docnos):
    store = VectorStore.build(tmp_path / "n", [], docnos=docnos, storage="int8", sketch=4)
    assert len(store) == 0
    assert len(store.interpolate(Ranking([]), np.ones(3, np.float32))) == 0
    assert repr(store).startswith("<VectorStore: 0 by")


def test_unknown_settings_are_refused(tmp_path, vectors):
    index = VectorStore.build(tmp_path / "f", [vectors[:1]], docnos=["a"])
    row = Ranking.from_pairs([("a", 1.0)])
    with pytest.raises(ConfigError, match="float16, int8"):
        VectorStore.build(tmp_path / "g", [vectors[:1]], docnos=["a"], storage="float8")
    with pytest.raises(ConfigError, match="unknown stopping"):
        index.interpolate(row, vectors[0], alpha=0.5, stopping="never")
    with pytest.raises(ConfigError, match="no sketch"):
        index.interpolate(row, vectors[0], alpha=0.5, stopping="sketch")
    with pytest.raises(ConfigError, match="unknown missing"):
        index.interpolate(row, vectors[0], alpha=0.5, missing="zero")
    with pytest.raises(InputError, match=r"feedback, .*; got -1"):
        index.interpolate(row, vectors[0], alpha=0.5, feedback=-1)
    with pytest.raises(InputError, match=r"alpha, .*; got 1\.5"):
        index.interpolate(row, vectors[0], alpha=1.5)
    with pytest.raises(InputError, match="shape"):
        index.interpolate(row, vectors[0][:3], alpha=0.5)
    with pytest.raises(ConfigError, match="unknown normalisation"):
        index.interpolate(row, vectors[0], alpha=0.5, normalise="softmax")


def test_damage_is_named(tmp_path, vectors):
    VectorStore.build(tmp_path / "f", [vectors], docnos=[str(i) for i in range(300)])
    codes = tmp_path / "f" / "codes.npy"
    codes.write_bytes(codes.read_bytes()[:-2])
    with pytest.raises(DamagedArtifactError, match=r"codes\.npy"):
        VectorStore.open(tmp_path / "f")
    with pytest.raises(ArtifactError):
        VectorStore.open(tmp_path / "nothing")


def without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)


@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "scan", "codes"])
def test_dense_retrieval_finds_what_comparing_everything_finds(tmp_path, vectors, kind, monkeypatch):
    if kind in ("scan", "codes"):
        without_faiss(monkeypatch)
    else:
        pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    names, storage = [f"p{i:03d}" for i in range(300)], "int8" if kind == "codes" else "float16"
    by_docno = VectorStore.build(tmp_path / "d", [vectors], docnos=names, storage=storage)
    by_number = VectorStore.build(tmp_path / "n", [vectors], storage=storage)
    named = kind if kind in ("ivf", "hnsw") else "flat"
    for store in (by_docno, by_number):
        dense = DenseIndex.over(store, kind=named, cells=4, nprobe=4, ef_search=300)
        found = dense.search(vectors[:5], 10, passages=Numbered(names))
        for query, ranking in zip(vectors[:5], found, strict=True):
            scores = store.scores(query, np.arange(300))
            assert ranking.docnos == [names[i] for i in np.argsort(-scores, kind="stable")[:10]]
            assert ranking.scores.tolist() == np.sort(scores)[::-1][:10].tolist()
            assert ranking.exact == (named == "flat")
    allowed = np.arange(300) % 7 == 3
    (found,) = dense.search(vectors[:1], 30, passages=Numbered(names), allowed=allowed)
    if named == "flat":
        best = np.argsort(-np.where(allowed, store.scores(vectors[0], np.arange(300)), -np.inf), kind="stable")
        assert found.numbers.tolist() == best[:30].tolist()


@pytest.mark.parametrize("kind", ["flat", "scan", "codes"])
def test_flat_retrieval_is_exact_where_many_scores_tie_within_float32(tmp_path, kind, monkeypatch):
    if kind in ("scan", "codes"):
        without_faiss(monkeypatch)
    else:
        pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    rng = np.random.default_rng(5)
    vectors = np.repeat(rng.normal(size=(1, 48)), 400, axis=0) + rng.normal(size=(400, 48)) * 1e-4
    names = [f"p{i}" for i in range(400)]
    storage = "int8" if kind == "codes" else "float16"
    store = VectorStore.build(tmp_path / "d", [vectors], docnos=names, storage=storage)
    (found,) = DenseIndex.over(store).search(vectors[:1].astype(np.float32), 5)
    scores = store.scores(vectors[0].astype(np.float32), np.arange(400))
    rows = sorted(zip(-scores, [n.encode() for n in store.docnos], strict=True))
    assert [(docno.encode(), -score) for docno, score in found.pairs()] == [(d, s) for s, d in rows[:5]]


def test_dense_retrieval_takes_the_best_passage_of_a_document(tmp_path):
    store = VectorStore.build(
        tmp_path / "f",
        [np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)],
        docnos=["a#0", "a#1", "b#0"],
        document_of=lambda name: name[0],
    )
    (ranking,) = DenseIndex.over(store).search(np.array([[1, 0]], np.float32), 5)
    assert ranking.docnos == ["a", "b"]
    with pytest.raises(ConfigError, match="unknown kind"):
        DenseIndex.over(store, kind="annoy")
    if sys.modules.get("faiss") is not None and not hasattr(sys.modules["faiss"], "StandardGpuResources"):
        with pytest.raises(ConfigError, match="faiss-gpu"):
            DenseIndex.over(store, device="cuda")
    with pytest.raises(InputError, match=r"k must be .*; got 0"):
        DenseIndex.over(store).search(np.ones((1, 2), np.float32), 0)
    with pytest.raises(InputError, match="shape"):
        DenseIndex.over(store).search(np.ones((1, 3), np.float32))
