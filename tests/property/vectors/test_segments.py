"""The vectors of several segments as one store, against one store of the same vectors and against plain Python."""

import pickle
import shutil
import sys
from dataclasses import is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import ArtifactError, ConfigError, InputError
from thresher.ranking import Ranking
from thresher.vectors.codecs import Stored
from thresher.vectors.retrieve import DenseIndex
from thresher.vectors.segments import SegmentVectors, Span, build_like, copy_rows
from thresher.vectors.store import VectorStore

WIDTH = 8
STORAGES = ["float16", "int8", "pq4"]


def has_faiss():
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return sys.modules.get("faiss") is not None


class Numbered:
    """An index as a ranking sees it: passage i is called `names[i]`, and its segments are known."""

    def __init__(self, names, spans):
        self.names, self.spans = names, spans

    def docnos_at(self, numbers):
        return [self.names[i] for i in numbers.tolist()]


class Collection:
    """Segments of random passages, of which the last ones of each have no vector (a second tier)."""

    def __init__(self, folder, rng, sizes, storage, *, sketch=4, ties=False):
        self.folder, self.rng = folder, rng
        self.spans, self.vectors, start, like = [], [], 0, None
        for i, (size, without) in enumerate(sizes):
            vectors = rng.normal(size=(size, WIDTH))
            if ties:
                vectors = np.round(vectors * 2) / 2
            target = folder / f"{i}-abcd" / "vectors"
            target.parent.mkdir(parents=True)
            if like is None:
                store = VectorStore.build(target, [vectors], storage=storage, sketch=sketch, encoder="e" * 64)
                like = store if size else None
            else:
                store = build_like(target, [vectors[: size // 2], vectors[size // 2 :]], like)
            self.spans.append(Span(target.parent.name, start, size + without))
            self.vectors.append(vectors)
            start += size + without
        self.size = start
        self.spans = tuple(self.spans)
        names = [f"p{i:04d}" for i in rng.permutation(start)]
        self.source = Numbered(names, self.spans)
        self.store = SegmentVectors.open_segments(folder, self.spans)
        self.numbers = np.concatenate(
            [span.start + np.arange(len(v)) for span, v in zip(self.spans, self.vectors, strict=True)]
        )
        """The numbers of the passages that have vectors."""

    def one_store(self, target):
        """All vectors in one store by docno, stored as those of the first segment."""
        rows = [(self.store.store_of(s.name), np.arange(len(v))) for s, v in zip(self.spans, self.vectors, strict=True)]
        return copy_rows(target, rows)


SHAPES = {
    "one": [(30, 2)],
    "three": [(40, 0), (0, 3), (25, 1)],
    "empty first": [(0, 2), (33, 0), (5, 0), (12, 4)],
    "long": [(300, 5), (150, 0), (40, 0)],
}


def collection(folder, seed, sizes, storage, **more):
    if storage.startswith("pq"):
        sizes = [(size and size + 256, without) for size, without in sizes]
    return Collection(folder, np.random.default_rng(seed), sizes, storage, **more)


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """Collections by name, with one store of the same vectors: made once, since each file is synced to the disk."""
    made = {}
    for storage in STORAGES if has_faiss() else STORAGES[:2]:
        for shape, sizes in SHAPES.items():
            if storage == "int8" or shape == "three" or (storage, shape) == ("float16", "long"):
                folder = tmp_path_factory.mktemp("vectors")
                ties, sketch = shape == "three", 0 if shape == "long" and storage == "int8" else 4
                one = collection(folder / "segments", len(made), sizes, storage, ties=ties, sketch=sketch)
                made[f"{storage}, {shape}"] = one, one.one_store(folder / "one")
    return made


which = st.integers(0, 100)


def chosen(collections, which):
    return list(collections.values())[which % len(collections)]


@given(
    which=which,
    seed=st.integers(0, 10_000),
    stopping=st.sampled_from(["exact", "length", "seen", "none"]),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    k=st.integers(1, 20),
    feedback=st.sampled_from([0, 2]),
    ties=st.booleans(),
)
def test_interpolating_over_segments_gives_what_one_store_gives(
    collections, which, seed, stopping, alpha, k, feedback, ties
):
    made, one = chosen(collections, which)
    assert len(made.store) == len(one) == len(made.numbers)
    assert made.store.largest_length == one.largest_length
    rng = np.random.default_rng(seed)
    places = rng.permutation(len(one))[: rng.integers(1, len(one) + 1)]
    scores = rng.integers(0, 4, len(places)).astype(float) if ties else rng.normal(size=len(places))
    query = rng.normal(size=WIDTH).astype(np.float32)
    numbers = made.numbers[places]
    ranking = Ranking.of_numbers(made.source, numbers, scores)
    settings = {"alpha": alpha, "k": k, "feedback": feedback, "stopping": stopping}
    found = made.store.interpolate(ranking, query, **settings)
    expected = one.interpolate(Ranking(made.source.docnos_at(numbers), scores), query, positions=places, **settings)
    assert found.pairs() == expected.pairs()
    assert (found.dense.tolist(), found.exact) == (expected.dense.tolist(), expected.exact)
    if stopping != "seen":
        whole = made.store.interpolate(ranking, query, **settings | {"stopping": "none"})
        assert found.pairs() == whole.pairs()


@given(which=which, seed=st.integers(0, 10_000))
def test_a_number_finds_its_vector_and_no_other(collections, which, seed):
    made, rng = chosen(collections, which)[0], np.random.default_rng(seed)
    store, every = made.store, np.arange(-1, made.size)
    positions = store.find_numbers(every)
    assert every[positions >= 0].tolist() == made.numbers.tolist()
    assert positions[positions >= 0].tolist() == list(range(len(store)))
    assert store.numbers_at(np.arange(len(store))).tolist() == made.numbers.tolist()
    allowed = rng.random(made.size) < 0.5
    assert store.positions_in(allowed).tolist() == allowed[made.numbers].tolist()
    assert store.lacking(allowed) == int(allowed.sum()) - int(allowed[made.numbers].sum())
    query = rng.normal(size=WIDTH).astype(np.float32)
    for span in made.spans:
        own = store.store_of(span.name)
        at = store.find_numbers(span.start + np.arange(len(own)))
        assert store.scores(query, at).tolist() == own.scores(query, np.arange(len(own))).tolist()
        if len(own) and store.sketch is not None:
            assert (store.sketch.bounds(query, at) >= store.scores(query, at)).all()


@given(
    which=which,
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["scan", "flat", "ivf", "hnsw", "no selector"] if has_faiss() else ["scan"]),
    share=st.sampled_from([0.0, 0.02, 0.2, 0.8, 1.0]),
    k=st.integers(1, 30),
)
def test_dense_retrieval_with_a_mask_gives_the_best_of_what_is_allowed(collections, which, seed, kind, share, k):
    made, rng = chosen(collections, which)[0], np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        if kind == "scan":
            patch.setitem(sys.modules, "faiss", None)
        exact = kind in ("scan", "flat", "no selector")
        dense = DenseIndex.over(made.store, kind="flat" if exact else kind, nprobe=1, ef_search=4, links=4)
    if kind == "no selector":  # as on CUDA
        for part in dense._parts:
            if is_dataclass(part.finder):  # int8 vectors are scanned, and need no faiss
                part.finder = replace(part.finder, selecting=None, most=100)
    allowed = None if share == 1.0 else rng.random(made.size) < share
    query = rng.normal(size=WIDTH).astype(np.float32)
    (found,) = dense.search(query[None], k, passages=made.source, allowed=allowed)
    numbers = made.numbers if allowed is None else made.numbers[allowed[made.numbers]]
    scores = made.store.scores(query, made.store.find_numbers(numbers))
    names = made.source.docnos_at(numbers)
    best = sorted(zip(names, scores.tolist(), strict=True), key=lambda row: (-row[1], row[0].encode()))[:k]
    assert len(found) == len(best), "never fewer than there are"
    assert set(found.docnos) <= set(names), "nothing outside the mask"
    if exact:
        assert found.exact
    if found.exact:
        assert found.pairs() == best


@pytest.mark.parametrize("name", ["int8, empty first", "float16, three", "pq4, three"])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_merge_copies_the_stored_rows_of_living_passages(collections, tmp_path, name, share):
    if name not in collections:
        pytest.skip("the faiss-cpu extra is not installed")
    made, rng = collections[name][0], np.random.default_rng(5)
    live = [rng.random(len(v)) < share for v in made.vectors]
    first = next(span for span, v in zip(made.spans, made.vectors, strict=True) if len(v))
    chunks = [(made.store.store_of(s.name), np.flatnonzero(one)) for s, one in zip(made.spans, live, strict=True)]
    merged = copy_rows(tmp_path / "merged", chunks)
    survivors = np.concatenate([v[one] for v, one in zip(made.vectors, live, strict=True)])
    fresh = build_like(tmp_path / "fresh", [survivors], made.store.store_of(first.name))
    assert len(merged) == len(survivors)
    assert merged.manifest.files == fresh.manifest.files, "the bytes of a fresh build with the same codebook and axes"
    assert merged.manifest.fields == fresh.manifest.fields


def test_a_ranking_of_another_commit_is_matched_by_its_segments(tmp_path):
    made = collection(tmp_path / "segments", 1, [(5, 1), (4, 0), (6, 2)], "float16")
    query = made.rng.normal(size=WIDTH).astype(np.float32)
    later = (made.spans[0], made.spans[2]._replace(start=made.spans[0].passages))  # the second segment is gone
    store = SegmentVectors.open_segments(tmp_path / "segments", later, made.store)
    assert store.store_of("2-abcd") is made.store.store_of("2-abcd"), "what both have is not opened again"
    ranking = Ranking.of_numbers(made.source, np.arange(made.size), np.arange(made.size, 0, -1.0))
    positions = store.find_ranking(ranking)
    assert (positions[6:10] == -1).all()
    known = positions >= 0
    expected = made.store.find_ranking(ranking)
    assert store.scores(query, positions[known]).tolist() == made.store.scores(query, expected[known]).tolist()
    assert known.sum() == 11
    made.source.vectors = made.store
    settings = {"alpha": 0.3, "k": 20, "missing": "mean"}
    assert store.interpolate(ranking, query, **settings) == made.store.interpolate(ranking, query, **settings)
    assert store.interpolate(ranking, query, **settings).missing == 3, "scored by the vectors of its own commit"
    with pytest.raises(InputError, match=r"several; use index\.vectors"):
        made.store.store_of("0-abcd").find_ranking(ranking)


def test_dense_indexes_of_segments_that_stay_are_used_again(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason="the faiss-cpu extra is not installed")
    made = collection(tmp_path / "segments", 1, [(50, 0), (60, 0)], "float16")
    first = SegmentVectors.open_segments(tmp_path / "segments", made.spans[:1])
    earlier = DenseIndex.over(first)
    store = SegmentVectors.open_segments(tmp_path / "segments", made.spans, first)
    decoded, own = [], Stored.decode
    monkeypatch.setattr(Stored, "decode", lambda self, rows: decoded.append(len(rows)) or own(self, rows))
    dense = DenseIndex.over(store, earlier=earlier)
    assert decoded == [60]
    with pytest.raises(InputError, match="earlier must be a DenseIndex of the kind 'ivf'"):
        DenseIndex.over(store, kind="ivf", earlier=earlier)
    query = made.rng.normal(size=(1, WIDTH)).astype(np.float32)
    assert dense.search(query, 9, passages=made.source) == DenseIndex.over(store).search(query, 9, passages=made.source)


def test_vectors_of_an_index_are_pickled_by_path_and_refused_once_a_segment_is_gone(tmp_path):
    made = collection(tmp_path / "segments", 1, [(5, 1), (4, 0)], "int8")
    data = pickle.dumps(made.store)
    copy = pickle.loads(data)  # noqa: S301
    query = made.rng.normal(size=WIDTH).astype(np.float32)
    assert copy.scores(query, np.arange(9)).tolist() == made.store.scores(query, np.arange(9)).tolist()
    assert (copy.spans, copy.encoder_fingerprint, copy.bytes) == (made.spans, "e" * 64, made.store.bytes)
    shutil.rmtree(tmp_path / "segments" / "1-abcd")
    with pytest.raises(ArtifactError, match="was replaced since it was opened"):
        pickle.loads(data)  # noqa: S301
    assert len(made.store.scores(query, np.arange(9))) == 9, "what is open stays readable"
    with pytest.raises(ArtifactError, match="was replaced since it was opened"):
        SegmentVectors.open_segments(tmp_path / "segments", made.spans, having={span.name for span in made.spans})


def test_an_index_without_vectors_has_none(tmp_path):
    assert SegmentVectors.open_segments(tmp_path, [Span("1-ab", 0, 4)]) is None


def test_open_vectors_hold_no_descriptor(tmp_path):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    made = collection(tmp_path / "segments", 1, [(50, 1), (40, 0)], "int8")
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = [SegmentVectors.open_segments(tmp_path / "segments", made.spans) for _ in range(5)]
    for store in opened:
        store.scores(np.ones(WIDTH, np.float32), np.arange(90))
        if has_faiss():
            DenseIndex.over(store)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_vectors_that_do_not_fit_the_collection_are_refused(tmp_path):
    made = collection(tmp_path / "segments", 1, [(5, 0)], "int8")
    like = made.store.store_of("0-abcd")
    with pytest.raises(InputError, match="have 3 dimensions, and those of the index 8"):
        build_like(tmp_path / "x", [np.ones((2, 3))], like)
    other = VectorStore.build(tmp_path / "y", [np.ones((4, WIDTH))], storage="float16", sketch=4)
    with pytest.raises(ConfigError, match="not stored alike"):
        copy_rows(tmp_path / "x", [(like, np.arange(2)), (other, np.arange(2))])
    with pytest.raises(ConfigError, match="not of a whole index"):
        more = collection(tmp_path / "more", 1, [(5, 0), (3, 0)], "int8")
        build_like(tmp_path / "x", [np.ones((2, WIDTH))], more.store)
    with pytest.raises(InputError, match="a mask of 4 passages, but there are 5"):
        made.store.positions_in(np.ones(4, bool))
    with pytest.raises(InputError, match="a mask of 6 passages for an index that numbers 5"):
        made.store.positions_in(np.ones(6, bool))
    assert not (tmp_path / "x").exists()
