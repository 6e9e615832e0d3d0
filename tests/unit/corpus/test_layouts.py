"""The layouts that public collections are distributed in, as few lines each: read without naming a field."""

import gzip
import json

import pytest

from thresher.corpus import open_corpus
from thresher.errors import InputError
from thresher.records import Passage

LAYOUTS = {
    "MS MARCO passages": ("collection.tsv", "0\tfirst text\n", Passage("0", "first text")),
    "MS MARCO documents": (
        "msmarco-docs.tsv",
        "D1\thttp://x\tTitle\tbody\n",
        Passage("D1", "body", "Title", {"url": "http://x"}),
    ),
    "MS MARCO v2 passages": (
        "msmarco_passage_00.jsonl",
        {"pid": "msmarco_passage_00_0", "passage": "text", "spans": "(0,4)", "docid": "msmarco_doc_00_0"},
        Passage("msmarco_passage_00_0", "text", "", {"spans": "(0,4)", "docid": "msmarco_doc_00_0"}),
    ),
    "MS MARCO v2 documents": (
        "msmarco_doc_00.jsonl",
        {"url": "u", "title": "T", "headings": "h", "body": "text", "docid": "msmarco_doc_00_0"},
        Passage("msmarco_doc_00_0", "text", "T", {"url": "u", "headings": "h"}),
    ),
    "MS MARCO v2.1 segments": (
        "segments.jsonl",
        {"docid": "d#0_0", "url": "u", "title": "T", "headings": "", "segment": "text", "start_char": 0, "end_char": 4},
        Passage("d#0_0", "text", "T", {"url": "u", "start_char": 0, "end_char": 4}),
    ),
    "BEIR": (
        "corpus.jsonl",
        {"_id": "1", "title": "T", "text": "text", "metadata": {}},
        Passage("1", "text", "T"),
    ),
    "CQADupStack": ("corpus.jsonl", {"_id": "1", "title": "T", "text": None}, Passage("1", "", "T")),
    "LoTTE": ("collection.tsv", "0\ttext\n", Passage("0", "text")),
    "DPR": (
        "psgs_w100.tsv",
        'id\ttext\ttitle\n1\t"Aaron ( or ; ""Ahärôn"") is"\tAaron\n',
        Passage("1", 'Aaron ( or ; "Ahärôn") is', "Aaron"),
    ),
    "Anserini JsonCollection": ("docs.jsonl", {"id": "1", "contents": "text"}, Passage("1", "text")),
    "Anserini JsonVectorCollection": (
        "docs.jsonl",
        {"id": "1", "contents": "text", "vector": {"a": 3}},
        Passage("1", "text", "", {"vector": {"a": 3}}),
    ),
    "Pyserini segments": ("docs.jsonl", {"id": "D1#0", "title": "T", "segment": "x"}, Passage("D1#0", "x", "T")),
    "Tevatron": ("corpus.jsonl", {"docid": "1", "title": "T", "text": "x"}, Passage("1", "x", "T")),
    "MIRACL": ("docs-0.jsonl", {"docid": "12#0", "title": "T", "text": "x"}, Passage("12#0", "x", "T")),
    "ir_datasets": ("docs.jsonl", {"doc_id": "1", "text": "x"}, Passage("1", "x")),
    "TREC-COVID": (
        "metadata.csv",
        "cord_uid,title,abstract,text\nug7,T,A,x\n",
        Passage("ug7", "x", "T", {"abstract": "A"}),
    ),
    "Cohere embeddings": (
        "wikipedia.jsonl",
        {"_id": "1_0", "url": "u", "title": "T", "text": "x", "emb": [0.25] * 1024},
        Passage("1_0", "x", "T", {"url": "u"}),
    ),
    "capitals": ("c.csv", "ID,Title,Text\n1,T,x\n", Passage("1", "x", "T")),
}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_public_layout_is_read_without_naming_a_field(tmp_path, layout, packed):
    name, content, passage = LAYOUTS[layout]
    data = (content if isinstance(content, str) else json.dumps(content) + "\n").encode()
    (tmp_path / f"{name}{packed}").write_bytes(gzip.compress(data) if packed else data)
    assert list(open_corpus(tmp_path / f"{name}{packed}")) == [passage]


def test_a_repeated_docno_says_which_other_field_may_be_the_id(tmp_path):
    rows = [{"docid": "d", "id": f"d#{n}", "text": "x"} for n in range(2)]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"'d' came before.*id_field \(id\)"):
        list(open_corpus(tmp_path / "c.jsonl"))
    assert [p.docno for p in open_corpus(tmp_path / "c.jsonl", id_field="id")] == ["d#0", "d#1"]
