import numpy as np
import pytest

from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError, InputError
from thresher.ranking import Ranking
from thresher.vectors.coalesce import coalesce
from thresher.vectors.interpolate import interpolate
from thresher.vectors.store import ForwardIndex


def unit(rng, n, dimensions):
    vectors = rng.normal(size=(n, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors():
    return unit(np.random.default_rng(0), 300, 16)


def test_vectors_are_found_by_docno_whatever_the_order_they_came_in(tmp_path, vectors):
    names = [f"p{i}" for i in np.random.default_rng(1).permutation(300)]
    index = ForwardIndex.build(tmp_path / "f", [(names[:100], vectors[:100]), (names[100:], vectors[100:])])
    query = vectors[7]
    scores = index.scores(query, index.positions(names))
    assert np.allclose(scores, vectors.astype(np.float16).astype(np.float64) @ query, atol=1e-6)
    assert names[int(scores.argmax())] == names[7]


@pytest.mark.parametrize(("storage", "error", "size"), [("float16", 1e-3, 2 * 16), ("int8", 1e-2, 16 + 4)])
def test_storage_loses_little(tmp_path, vectors, storage, error, size):
    index = ForwardIndex.build(tmp_path / "f", [([str(i) for i in range(300)], vectors)], storage=storage)
    rows, _ = index.rows_of(index.positions([str(i) for i in range(300)]))
    assert np.abs(index.stored.decode(rows) - vectors).max() < error
    assert index.bytes < 300 * size + 300 * 16


def test_product_quantisation_is_decoded_without_faiss(tmp_path, vectors):
    pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    index = ForwardIndex.build(tmp_path / "f", [([str(i) for i in range(300)], vectors)], storage="pq8", sketch=4)
    rows, _ = index.rows_of(index.positions([str(i) for i in range(300)]))
    decoded = index.stored.decode(rows)
    assert index.stored.codes.shape == (300, 8)
    assert (decoded * vectors).sum(axis=1).mean() > 0.9
    assert (index.sketch.bounds(vectors[0], rows) >= index.scores(vectors[0], np.arange(300))[index.positions(
        [str(i) for i in range(300)])]).all()  # fmt: skip


def test_a_document_counts_by_its_best_passage(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    index = ForwardIndex.build(
        tmp_path / "f", [(["a#0", "b#0", "a#1", "b#1"], vectors)], document_of=lambda name: name.split("#")[0]
    )
    assert list(index.docnos) == ["a", "b"]
    scores = index.scores(np.array([1, 2, 3, 4], np.float32), np.array([0, 1]))
    assert scores.tolist() == [3.0, 4.0]


def test_coalescing_joins_near_neighbours_only():
    a, b = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    near = np.array([0.995, 0.0998749], np.float32)
    joined, firsts = coalesce(np.stack([a, near, b, a, b]), np.array([0, 3, 5]), 0.1)
    assert firsts.tolist() == [0, 2, 4]
    assert np.allclose(np.linalg.norm(joined, axis=1), 1.0)
    assert np.allclose(joined[1:], [b, a, b])
    everything, ends = coalesce(np.stack([a, near, b, a, b]), np.array([0, 3, 5]), 2.0)
    assert ends.tolist() == [0, 1, 2]
    assert len(everything) == 2
    unchanged, same = coalesce(np.stack([a, a]), np.array([0, 2]), 0.0)
    assert len(unchanged) == 2
    assert same.tolist() == [0, 2]


def test_building_twice_writes_the_same_bytes(tmp_path, vectors):
    names = [str(i) for i in range(300)]
    for folder in ("a", "b"):
        ForwardIndex.build(tmp_path / folder, [(names, vectors)], storage="int8", sketch=4)
    for file in sorted(p.name for p in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_unknown_docno_is_named(tmp_path, vectors):
    index = ForwardIndex.build(tmp_path / "f", [(["a"], vectors[:1])])
    with pytest.raises(InputError, match="'zzz' is not in the forward index"):
        interpolate(index, Ranking.from_pairs([("zzz", 1.0)]), vectors[0], alpha=0.5)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(["a", "a"], np.ones((2, 2)))], "'a' comes twice"),
        ([(["a"], np.ones((2, 2)))], "1 docnos"),
        ([(["a"], np.ones((1, 2))), (["b"], np.ones((1, 3)))], "shape"),
        ([(["a"], np.array([[np.nan, 1.0]]))], "not finite"),
        ([], "empty"),
    ],
)
def test_bad_vectors_are_refused(tmp_path, batches, message):
    with pytest.raises(InputError, match=message):
        ForwardIndex.build(tmp_path / "f", batches)
    assert not (tmp_path / "f").exists()


def test_unknown_settings_are_refused(tmp_path, vectors):
    index = ForwardIndex.build(tmp_path / "f", [(["a"], vectors[:1])])
    row = Ranking.from_pairs([("a", 1.0)])
    with pytest.raises(ConfigError, match="float16, int8"):
        ForwardIndex.build(tmp_path / "g", [(["a"], vectors[:1])], storage="float8")
    with pytest.raises(ConfigError, match="unknown stopping"):
        interpolate(index, row, vectors[0], alpha=0.5, stopping="never")
    with pytest.raises(ConfigError, match="no sketch"):
        interpolate(index, row, vectors[0], alpha=0.5, stopping="sketch")
    with pytest.raises(ConfigError, match="unknown missing"):
        interpolate(index, row, vectors[0], alpha=0.5, missing="zero")
    with pytest.raises(InputError, match="feedback is -1"):
        interpolate(index, row, vectors[0], alpha=0.5, feedback=-1)
    with pytest.raises(InputError, match=r"alpha is 1\.5"):
        interpolate(index, row, vectors[0], alpha=1.5)
    with pytest.raises(InputError, match="shape"):
        interpolate(index, row, vectors[0][:3], alpha=0.5)
    with pytest.raises(ConfigError, match="unknown normalisation"):
        interpolate(index, row, vectors[0], alpha=0.5, normalise="softmax")


def test_damage_is_named(tmp_path, vectors):
    ForwardIndex.build(tmp_path / "f", [([str(i) for i in range(300)], vectors)])
    codes = tmp_path / "f" / "codes.npy"
    codes.write_bytes(codes.read_bytes()[:-2])
    with pytest.raises(DamagedArtifactError, match=r"codes\.npy"):
        ForwardIndex.open(tmp_path / "f")
    with pytest.raises(ArtifactError):
        ForwardIndex.open(tmp_path / "nothing")


@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_dense_retrieval_finds_what_comparing_everything_finds(tmp_path, vectors, kind):
    pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    from thresher.vectors.retrieve import DenseIndex

    names = [f"p{i:03d}" for i in range(300)]
    forward = ForwardIndex.build(tmp_path / "f", [(names, vectors)])
    dense = DenseIndex.over(forward, kind=kind, cells=4, nprobe=4, ef_search=300)
    dense.save(tmp_path / "d")
    for index in (dense, DenseIndex.open(tmp_path / "d")):
        found = index.search(vectors[:5], 10)
        for query, rows in zip(vectors[:5], found, strict=True):
            scores = forward.scores(query, np.arange(300))
            assert [row.docno for row in rows] == [names[i] for i in np.argsort(-scores, kind="stable")[:10]]
            assert np.allclose([row.score for row in rows], np.sort(scores)[::-1][:10], atol=1e-5)


def test_dense_retrieval_takes_the_best_passage_of_a_document(tmp_path):
    pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    from thresher.vectors.retrieve import DenseIndex

    forward = ForwardIndex.build(
        tmp_path / "f",
        [(["a#0", "a#1", "b#0"], np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32))],
        document_of=lambda name: name[0],
    )
    (rows,) = DenseIndex.over(forward).search(np.array([[1, 0]], np.float32), 5)
    assert [row.docno for row in rows] == ["a", "b"]
    with pytest.raises(ConfigError, match="unknown kind"):
        DenseIndex.over(forward, kind="annoy")
