"""Parquet files and `ir_datasets`: the same passages as from plain files."""

import sys
from collections import namedtuple
from decimal import Decimal

import pytest

from thresher.corpus import open_corpus
from thresher.errors import DataNotFoundError, InputError, MissingExtraError
from thresher.records import Passage

ROWS = [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}", "year": 1900 + n} for n in range(5000)]


def write(path, rows):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_parquet_rows_become_passages(tmp_path):
    corpus = open_corpus(write(tmp_path / "c.parquet", ROWS))
    passages = list(corpus)
    assert passages[4999] == Passage("d4999", "text 4999", "T4999", {"year": 6899})
    assert len(passages) == 5000
    assert corpus.skipped == {}


def test_a_bad_parquet_row_is_named_by_its_number(tmp_path):
    path = write(tmp_path / "c.parquet", [*ROWS[:3], {**ROWS[3], "text": None, "title": None}, ROWS[4]])
    with pytest.raises(InputError, match=r"c\.parquet:4: "):
        list(open_corpus(path))
    corpus = open_corpus(path, on_error="skip")
    assert len(list(corpus)) == 4
    assert corpus.skipped == {"missing-field": 1}


def test_values_keep_their_types_and_those_that_json_has_no_form_for_become_text(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    nanoseconds = pa.array([1_500_000_000_000_000_001], pa.timestamp("ns"))
    columns = {
        "docno": pa.array(["d"]),
        "text": pa.array(["x"]),
        "made": nanoseconds,
        "nested": pa.StructArray.from_arrays([nanoseconds, pa.array([[1, 2]])], ["at", "list"]),
        "day": pa.array([19_000], pa.date32()),
        "price": pa.array([Decimal("12.50")]),
        "exact": pa.array([Decimal("0.12345678901234567890")]),
        "raw": pa.array([b"\xff\x00"]),
        "n": pa.array([3]),
        "f": pa.array([0.5]),
        "b": pa.array([True]),
        "nan": pa.array([float("nan")]),
        "tags": pa.array([["a", "b"]]),
        "emb": pa.array([[0.5] * 768], pa.list_(pa.float32())),
    }
    parquet.write_table(pa.table(columns), tmp_path / "c.parquet")
    (passage,) = open_corpus(tmp_path / "c.parquet")
    assert passage.metadata == {
        "made": "2017-07-14 02:40:00.000000001",
        "nested": {"at": "2017-07-14 02:40:00.000000001", "list": [1, 2]},
        "day": "2022-01-08",
        "price": 12.5,
        "exact": "0.12345678901234567890",
        "raw": "/wA=",
        "n": 3,
        "f": 0.5,
        "b": True,
        "tags": ["a", "b"],
    }


def test_two_columns_of_one_name_are_an_error_in_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    table = pa.table([pa.array(["d"]), pa.array(["x"]), pa.array(["y"])], names=["docno", "text", "text"])
    parquet.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(InputError, match="two columns are named 'text'"):
        list(open_corpus(tmp_path / "c.parquet"))


def test_a_file_that_is_no_parquet_is_an_error(tmp_path):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="parquet"):
        list(open_corpus(tmp_path / "c.parquet"))


def test_parquet_without_its_extra_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "c.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"thresher\[parquet\]"):
        list(open_corpus(tmp_path / "c.parquet"))


def test_an_ir_dataset_is_read_by_its_documents(monkeypatch):
    ir_datasets = pytest.importorskip("ir_datasets", reason="the extra `eval` is not installed")
    document = namedtuple("Doc", ["doc_id", "title", "text", "url"])
    structured = namedtuple("Web", ["doc_id", "title", "body"])
    structured.default_text = lambda self: f"{self.title} {self.body}"

    class Dataset:
        def has_docs(self):
            return True

        def docs_iter(self):
            return iter([document("d1", "T", "x", "u"), structured("d2", "Title", "the body")])

    monkeypatch.setitem(ir_datasets.registry._registered, "made-here", Dataset())
    passages = list(open_corpus("ir_datasets:made-here"))
    assert passages == [Passage("d1", "x", "T", {"url": "u"}), Passage("d2", "the body", "Title")]


def test_an_unknown_ir_dataset_is_refused():
    pytest.importorskip("ir_datasets", reason="the extra `eval` is not installed")
    with pytest.raises(DataNotFoundError, match="knows no dataset"):
        list(open_corpus("ir_datasets:no-such-thing"))
