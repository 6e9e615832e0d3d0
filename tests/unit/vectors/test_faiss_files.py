"""Index files of faiss: written, read without faiss, searched as guests; damaged ones are errors."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher import Index, build_index
from thresher.build.recipe import Recipe
from thresher.errors import ConfigError, DataNotFoundError, InputError, ThresherError
from thresher.files import read_names
from thresher.index.exchange import export_index
from thresher.integrations.faiss import FaissIndex
from thresher.pipeline import Pipeline
from thresher.pipeline.search import SearchStage
from thresher.records import Passage, Query
from thresher.texts import HeldPassages
from thresher.vectors import VectorStore
from thresher.vectors.codecs import Stored
from thresher.vectors.faiss_files import FaissFile, write_faiss

faiss = pytest.importorskip("faiss", reason="the extra `faiss-cpu` is not installed")
N, D = 300, 8
DOCNOS = [f"d{i:03}" for i in range(N)]


def vectors(seed=0, n=N, d=D):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float16)


@pytest.fixture(scope="module", params=["flat", "ivf", "hnsw"])
def written(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("faiss") / f"{request.param}.faiss"
    write_faiss(Stored(vectors()), file, kind=request.param, links=8, nprobe=4, ef_construction=40)
    return request.param, file


def content(file):
    return np.concatenate(list(FaissFile.open(file).batches()))


def test_what_is_written_is_read_back_to_the_last_bit(written):
    kind, file = written
    opened = FaissFile.open(file)
    assert (opened.kind, opened.metric, opened.dimensions, len(opened)) == (kind, "inner-product", D, N)
    assert opened.ids.tolist() == list(range(N))
    assert np.array_equal(content(file), vectors().astype(np.float32))


def test_a_store_is_made_of_it_that_scores_as_faiss_does(written, tmp_path):
    _, file = written
    opened = FaissFile.open(file)
    store = opened.store(tmp_path / "store", docnos=DOCNOS, storage="float16")
    assert isinstance(store, VectorStore) and store.docnos == DOCNOS
    query = np.ones(D, np.float32)
    np.testing.assert_allclose(store.scores(query, np.arange(N)), vectors().astype(np.float64) @ query, atol=1e-5)
    with pytest.raises(InputError, match="the id 299, and there are 5 docnos"):
        opened.docnos(DOCNOS[:5])


def test_faiss_reads_what_is_written_and_a_guest_finds_what_it_finds(written):
    kind, file = written
    index = faiss.read_index(str(file))
    queries = vectors(3, 6).astype(np.float32)
    scores, ids = index.search(queries, 10)
    guest = FaissIndex.open(file, docnos=DOCNOS)
    run = guest.search_batch(list(queries), 10)
    for i, ranking in enumerate(run.values()):
        assert ranking.docnos == [DOCNOS[number] for number in ids[i]]
        np.testing.assert_array_equal(ranking.scores, scores[i].astype(np.float64))
        assert ranking.exact == (kind == "flat")
    assert len(guest.search(queries[0], 0)) == 0 and len(guest.search(queries[0], 10_000)) <= N


def test_a_guest_takes_texts_in_a_pipeline_and_a_file_of_docnos(written, tmp_path):
    class Encoder:
        def encode_queries(self, texts):
            return np.array([np.full(D, len(text)) for text in texts], np.float32)

    _, file = written
    (tmp_path / "docnos.txt").write_text("\n".join(DOCNOS) + "\n")
    texts = HeldPassages(Passage(docno, f"text of {docno}") for docno in DOCNOS)
    guest = FaissIndex.open(file, docnos=tmp_path / "docnos.txt", encoder=Encoder(), texts=texts)
    assert list(guest.search_batch([Query("q7", "abc")], 3)) == ["q7"]
    found = guest.search(np.full(D, 3.0), 2)
    answer = Pipeline([SearchStage(guest, depth=5)], k=2).ask("abc")
    assert [(one.docno, one.text) for one in answer.passages] == [(d, f"text of {d}") for d in found.docnos]
    with pytest.raises(InputError, match="encoder="):
        FaissIndex.open(file, docnos=DOCNOS).search("a text")
    with pytest.raises(InputError, match="8 finite numbers"):
        guest.search(np.zeros(3))


def test_ids_are_mapped_and_lists_are_put_in_order(tmp_path):
    x = vectors().astype(np.float32)
    ids = np.random.default_rng(1).permutation(N).astype(np.int64)
    flat, cells = faiss.IndexIDMap2(faiss.IndexFlatIP(D)), faiss.IndexIVFFlat(faiss.IndexFlatIP(D), D, 5, 0)
    cells.cp.min_points_per_centroid = 1
    cells.train(x)
    for index, name in ((flat, "map"), (cells, "ivf")):
        index.add_with_ids(x, ids)
        faiss.write_index(index, str(tmp_path / name))
        assert np.array_equal(content(tmp_path / name), x[np.argsort(ids)])
        assert FaissFile.open(tmp_path / name).docnos(DOCNOS) == DOCNOS


@pytest.mark.parametrize("factory", ["SQ8", "IVF4,SQ8", "HNSW4,SQ8"])
def test_other_types_are_refused(factory, tmp_path):
    index = faiss.index_factory(D, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors().astype(np.float32))
    faiss.write_index(index, str(tmp_path / "other"))
    with pytest.raises(InputError, match="of a type not read here"):
        FaissFile.open(tmp_path / "other")


def test_distances_are_no_inner_products(tmp_path):
    index = faiss.IndexFlatL2(D)
    index.add(vectors().astype(np.float32))
    faiss.write_index(index, str(tmp_path / "l2"))
    query = vectors(4, 1)[0].astype(np.float32)
    found = FaissIndex.open(tmp_path / "l2", docnos=DOCNOS).search(query, 3)
    wanted = -((vectors().astype(np.float64) - query) ** 2).sum(axis=1)
    assert found.docnos == [DOCNOS[i] for i in np.argsort(-wanted)[:3]]
    with pytest.raises(InputError, match="Euclidean"):
        FaissFile.open(tmp_path / "l2").store(tmp_path / "store", docnos=DOCNOS)


def test_arguments_are_checked(tmp_path):
    stored = Stored(vectors())
    with pytest.raises(ConfigError, match="unknown kind"):
        write_faiss(stored, tmp_path / "x", kind="pq")
    with pytest.raises(InputError, match="cells is 301"):
        write_faiss(stored, tmp_path / "x", kind="ivf", cells=301)
    with pytest.raises(InputError, match="no vectors"):
        write_faiss(Stored(np.zeros((0, D), np.float16)), tmp_path / "x")
    with pytest.raises(DataNotFoundError):
        FaissFile.open(tmp_path / "x")
    (tmp_path / "bad").write_bytes(b"\xff" * 4 + b"\0" * 60)
    with pytest.raises(InputError, match="byte"):
        FaissFile.open(tmp_path / "bad")


def test_values_that_are_not_finite_are_errors(tmp_path):
    x = vectors().astype(np.float32)
    x[7, 2] = np.inf
    index = faiss.IndexFlatIP(D)
    index.add(x)
    faiss.write_index(index, str(tmp_path / "inf"))
    with pytest.raises(InputError, match="the id 7 "):
        content(tmp_path / "inf")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file cut short, or with some bytes changed, most of them among its first."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), 400) if rng.random() < 0.6 else len(data))
        changed[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return bytes(changed) + bytes(rng.choice([0, 0, 0, 8]))


@given(st.randoms(use_true_random=False))
def test_damaged_files_are_errors_or_are_searched(written, tmp_path_factory, rng):
    _, file = written
    broken = tmp_path_factory.getbasetemp() / "broken.faiss"
    broken.write_bytes(damaged(file.read_bytes(), rng))
    try:
        found = FaissIndex.open(broken, docnos=DOCNOS).search(np.ones(D, np.float32), 5)
        assert len(found) <= 5 and set(found.docnos) <= set(DOCNOS)
    except ThresherError as err:
        assert "broken.faiss" in str(err)


@pytest.mark.parametrize("kind", ["faiss", "faiss:hnsw"])
def test_an_index_exports_its_vectors(kind, tmp_path):
    passages = [Passage(docno, f"word{i % 5} text") for i, docno in enumerate(DOCNOS[:40])]
    VectorStore.build(tmp_path / "store", [vectors(n=40)], docnos=DOCNOS[:40], storage="float16")
    recipe = Recipe(encode={"encoder": "bm25"}, vectors={"source": str(tmp_path / "store")})
    build_index(tmp_path / "index", passages, recipe)
    store = Index.open(tmp_path / "index").vectors
    made = export_index(
        tmp_path / "index", tmp_path / "out", format=kind, vectors=lambda n: store.stored.decode(store.find_numbers(n))
    )
    names = read_names(tmp_path / "out" / "documents.docnos.txt")
    assert sorted(names) == DOCNOS[:40] and made.files == ("documents.faiss",)
    held = dict(zip(names, content(tmp_path / "out" / "documents.faiss"), strict=True))
    assert all(np.array_equal(held[docno], vectors(n=40)[i].astype(np.float32)) for i, docno in enumerate(DOCNOS[:40]))
    with pytest.raises(InputError, match="no vectors"):
        export_index(tmp_path / "index", tmp_path / "none", format=kind)
    with pytest.raises(InputError, match="no vector; export the first tier"):
        lacking = export_index(
            tmp_path / "index",
            tmp_path / "nan",
            format=kind,
            vectors=lambda n: np.full((len(n), D), np.nan, np.float32),
        )
        assert lacking
