"""The collections that the field compares on: their layouts, what they leave out, and what a run would need."""

import gzip
import json

import pytest

from thresher.errors import InputError
from thresher.evaluate import collections
from thresher.evaluate.locations import COLLECTIONS, Location
from thresher.experiment import load_experiment, run_experiment

BRIGHT = [name for name in COLLECTIONS if name.startswith("bright-")]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv(collections.DATA_VARIABLE, str(tmp_path))
    return tmp_path


def folder(data, name):
    made = data / "collections" / name
    made.mkdir(parents=True)
    return made


def test_every_collection_has_an_experiment():
    assert len(BRIGHT) == 12
    for name in (*BRIGHT, "dl-hard", "miracl-zh", "t2ranking", "trec-rag-2024", "trec-rag-2024/umbrela"):
        experiment, _ = load_experiment(f"{name.replace('/', '-')}-bm25")
        assert experiment.collection == name
        assert (name == "t2ranking") != bool(experiment.published)


def test_passages_that_bright_excludes_leave_the_ranking_and_the_next_take_their_places(data):
    at = folder(data, "bright-pony")
    with gzip.open(at / "corpus.jsonl.gz", "wt") as stream:
        for docno, text in (("own", "wheat wheat wheat"), ("good", "wheat bread"), ("other", "a wheat field of stone")):
            stream.write(json.dumps({"docno": docno, "text": text}) + "\n")
    (at / "queries.tsv").write_text("q\twheat\n")
    (at / "qrels.txt").write_text("q 0 good 1\n")
    before = run_experiment("bright-pony-bm25").per_query["nDCG@10"]["q"]
    (at / "excluded.tsv").write_text("q\town\n")
    assert before == pytest.approx(1 / 1.584962500721156)
    assert run_experiment("bright-pony-bm25").per_query["nDCG@10"]["q"] == 1.0
    assert collections.load("bright-pony").excluded == {"q": frozenset({"own"})}
    (at / "excluded.tsv").write_text("q own\nq 0 own 1\n")
    with pytest.raises(InputError, match=r"excluded\.tsv:2: .*4 columns"):
        collections.load("bright-pony")


def test_what_ir_datasets_marks_as_excluded_is_no_judgment(data, monkeypatch):
    ir_datasets = pytest.importorskip("ir_datasets", reason="the eval extra is not installed")
    (data / "docs.tsv").write_text("own\twheat\ngood\tbread\n")
    (data / "queries.tsv").write_text("q\twheat\n")
    (data / "qrels").write_text("q 0 good 1\nq 0 own -100\nr 0 own 0\n")
    made = ir_datasets.create_dataset(
        docs_tsv=str(data / "docs.tsv"), queries_tsv=str(data / "queries.tsv"), qrels_trec=str(data / "qrels")
    )
    ir_datasets.registry.register("thresher/tiny", made)
    monkeypatch.setitem(COLLECTIONS, "tiny", Location("", "", "", "thresher/tiny", excluded="excluded.tsv"))
    opened = collections.load("tiny")
    assert opened.qrels.judgments == {"q": {"good": 1}, "r": {"own": 0}}
    assert opened.excluded == {"q": frozenset({"own"})}


def test_trec_rag_reads_segments_and_counts_nuggets(data):
    at = folder(data, "trec-rag-2024")
    (at / "msmarco_v2.1_doc_segmented").mkdir()
    with gzip.open(at / "msmarco_v2.1_doc_segmented" / "msmarco_v2.1_doc_segmented_00.json.gz", "wt") as stream:
        for number, text in enumerate(("Wheat is a grass.", "Rye is another.")):
            row = {"docid": f"d#{number}", "url": "u", "title": "Grain", "headings": "", "segment": text}
            stream.write(json.dumps(row) + "\n")
    (at / "topics.rag24.test.txt").write_text("2024-1\twhat is wheat\n2024-2\tunjudged\n")
    (at / "qrels.rag24.test.txt").write_text("2024-1 0 d#0 3\n")
    report = run_experiment("trec-rag-2024-bm25")
    assert (report.measured["nDCG@20"], report.nuggets, "nuggets" in report.as_json()) == (1.0, {}, False)
    nuggets = [{"text": "a grass", "importance": "vital"}, {"text": "has ears", "importance": "okay"}]
    (at / "nuggets.jsonl").write_text(json.dumps({"qid": "2024-1", "query": "q", "nuggets": nuggets}) + "\n")
    found = run_experiment("trec-rag-2024-bm25").as_json()
    assert found["nuggets"] == {"topics": 1, "nuggets": 2, "vital": 1}
    (at / "nuggets.jsonl").write_text('{"qid": "2024-1"}\n')
    with pytest.raises(InputError, match=r"nuggets\.jsonl:1: no nuggets of a topic: KeyError"):
        collections.load("trec-rag-2024")


def test_chinese_is_searched_by_single_characters(data):
    at = folder(data, "t2ranking")
    (at / "collection.tsv").write_text("0\t小麦是一种草\n1\t黑麦是另一种\n2\t今天下雨\n", encoding="utf-8")
    (at / "queries.dev.tsv").write_text("7\t什么是小麦\n", encoding="utf-8")
    (at / "qrels.dev.tsv").write_text("7\t0\t0\t3\n7\t0\t1\t1\n")
    report = run_experiment("t2ranking-bm25")
    assert report.measured["RR(rel=2)@10"] == 1.0
    assert "each Han character" in report.plan.get("language", collections.needs("t2ranking")["language"])


def test_a_dry_run_says_what_is_needed(monkeypatch, data):
    found = collections.needs("bright-biology")
    assert (found["passages"], found["judged queries"], found["data"]) == (
        "57,359",
        "103",
        "ir_datasets:bright/biology",
    )
    assert found["here"].startswith("no, lacks collections/bright-biology/corpus.jsonl.gz")
    assert "about 11 MB" in found["download"] and "pyarrow" in found["extras"]
    assert "castorini" in collections.needs("trec-rag-2024/umbrela")["source"]
    at = folder(data, "miracl-zh")
    for name in ("corpus.jsonl.gz", "queries.tsv", "qrels.txt"):
        (at / name).write_text("")
    here = collections.needs("miracl-zh")
    assert (here["here"], here["data"], "download" in here) == ("yes", "collections/miracl-zh/corpus.jsonl.gz", False)
    monkeypatch.delenv(collections.DATA_VARIABLE)
    assert "is not set" in run_experiment("dl-hard-bm25", dry_run=True).plan["files"]
