"""Parquet files and `ir_datasets`: the same passages as from plain files."""

import sys
from collections import namedtuple

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
    assert passages[4999] == Passage("d4999", "text 4999", "T4999", {"year": "6899"})
    assert len(passages) == 5000
    assert corpus.skipped == {}


def test_a_bad_parquet_row_is_named_by_its_number(tmp_path):
    path = write(tmp_path / "c.parquet", [*ROWS[:3], {**ROWS[3], "text": None}, ROWS[4]])
    with pytest.raises(InputError, match=r"c\.parquet:4: "):
        list(open_corpus(path))
    corpus = open_corpus(path, on_error="skip")
    assert len(list(corpus)) == 4
    assert corpus.skipped == {"missing-field": 1}


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
