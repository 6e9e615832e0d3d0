"""A collection is named once; where it is not, the error says both ways to it."""

import gzip
import json

import pytest

from thresher.errors import ConfigError, DataNotFoundError
from thresher.evaluate import collections as collection


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    folder = tmp_path / "collections" / "scifact"
    folder.mkdir(parents=True)
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"docid": "7", "title": "Wheat", "text": "Grain is kept."}) + "\n")
    (folder / "queries.tsv").write_text("1\twhat is kept\n2\tunjudged\n")
    (folder / "qrels.txt").write_text("1 0 7 1\n")
    monkeypatch.setenv(collection.DATA_VARIABLE, str(tmp_path))
    return tmp_path


def test_files_are_found_under_the_data_folder(small_data):
    opened = collection.load("scifact")
    assert [passage.docno for passage in opened.corpus] == ["7"]
    assert [query.qid for query in opened.queries] == ["1", "2"]
    assert opened.qrels.judgments == {"1": {"7": 1}}
    assert opened.relevant == 1


def test_trec_passages_are_relevant_from_grade_two():
    assert collection.locate("trec-dl-2019").relevant == 2
    assert collection.locate("nfcorpus").relevant == 1


def test_a_missing_collection_says_both_ways(monkeypatch):
    monkeypatch.delenv(collection.DATA_VARIABLE, raising=False)
    with pytest.raises(DataNotFoundError, match=r"set THRESHER_DATA .*not set.*'trec-dl-2019-full'.*ir_datasets"):
        collection.load("trec-dl-2019")
    with pytest.raises(DataNotFoundError, match="no ir_datasets identifier"):
        collection.load("npl")


def test_a_data_folder_that_is_none_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv(collection.DATA_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError, match="not a directory"):
        collection.load("scifact")


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown collection 'nope'; known are: trec-dl-2019"):
        collection.load("nope")
