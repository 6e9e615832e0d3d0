"""Every format gives the same passages, and says where a bad record stands."""

import gzip
import json
import tracemalloc

import pytest
import zstandard

from thresher.corpus import open_corpus
from thresher.errors import ConfigError, DataNotFoundError, InputError
from thresher.records import Passage

TWO = [Passage("d1", "first text", "One"), Passage("d2", "zweiter Text, süß", "Two")]
JSONL = "".join(
    json.dumps({"docid": p.docno, "title": p.title, "text": p.text}, ensure_ascii=False) + "\n" for p in TWO
)
TREC = """<DOC>
<DOCNO> d1 </DOCNO>
<TITLE>One</TITLE>
<TEXT>
first <b>text</b>
</TEXT>
</DOC>

<DOC>
<DOCNO>d2</DOCNO><HEADLINE>Two</HEADLINE>
zweiter Text, s&uuml;&szlig;
</DOC>
"""
FILES = {
    "c.jsonl": JSONL.encode(),
    "c.jsonl.gz": gzip.compress(JSONL.encode()),
    "c.jsonl.zst": zstandard.compress(JSONL.encode()),
    "two-frames.jsonl.zst": zstandard.compress(JSONL[:30].encode()) + zstandard.compress(JSONL[30:].encode()),
    "bom.jsonl": b"\xef\xbb\xbf" + JSONL.encode(),
    "crlf.jsonl": JSONL.replace("\n", "\r\n\r\n").encode(),
    "positional.tsv": "d1\tOne\tfirst text\nd2\tTwo\tzweiter Text, süß\n".encode(),
    "header.tsv": "title\tid\ttext\nOne\td1\tfirst text\nTwo\td2\tzweiter Text, süß".encode(),
    "c.csv": 'id,title,text\nd1,One,first text\n"d2",Two,"zweiter Text, süß"\n'.encode(),
    "c.trec": TREC.encode(),
    "c.trec.gz": gzip.compress(TREC.encode()),
}


@pytest.mark.parametrize("name", FILES)
def test_formats_agree(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    corpus = open_corpus(tmp_path / name)
    found = list(corpus)
    assert [(p.docno, p.title, " ".join(p.text.split())) for p in found] == [(p.docno, p.title, p.text) for p in TWO]
    assert list(corpus) == found
    assert corpus.skipped == {}


def test_a_beir_folder_is_read_by_its_corpus(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "", "text": "x", "metadata": {}}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "y"}\n')
    assert list(open_corpus(tmp_path)) == [Passage("d1", "x")]


def test_a_folder_of_files_is_read_in_order_of_name(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "notes.md"):
        (tmp_path / name).write_text(json.dumps({"id": name, "text": "x"}))
    assert [p.docno for p in open_corpus(tmp_path)] == ["a.jsonl", "b.jsonl"]


def test_other_fields_become_metadata_with_their_types_and_numbers_may_be_docnos(tmp_path):
    fields = {"url": "u", "n": 1.5, "year": 2020, "open": False, "zero": 0, "tags": ["a"], "inner": {"a": [1]}}
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": 7, "text": "x", **fields, "none": None, "empty": []}))
    assert list(open_corpus(tmp_path / "c.jsonl")) == [Passage("7", "x", "", fields)]


def test_any_field_can_be_named(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"key": "d", "id": "e", "abstract": "x", "head": "h"}')
    corpus = open_corpus(tmp_path / "c.jsonl", id_field="key", text_field="abstract", title_field="head")
    assert list(corpus) == [Passage("d", "x", "h", {"id": "e"})]


@pytest.mark.parametrize(
    ("name", "data"),
    [("u.tsv", "1\tone\n".encode("utf-16-be")), ("c.jsonl", rb'{"id": "a\u001b[31m", "text": "x"}')],
)
def test_control_characters_are_not_part_of_a_docno(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match="control characters"):
        list(open_corpus(tmp_path / name))


def test_a_title_field_that_no_record_has_is_an_error(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "d", "text": "x"}')
    with pytest.raises(InputError, match="titel"):
        list(open_corpus(tmp_path / "c.jsonl", title_field="titel"))


BAD = [
    (b'{"id": "d3"', "malformed"),
    (b'["d3"]', "malformed"),
    (b'{"id": "d3", "text": "\xff"}', "invalid-utf8"),
    (b'{"id": "d3", "title": "only"}', "missing-field"),
    (b'{"text": "no id"}', "missing-field"),
    (b'{"id": "d3", "text": null}', "missing-field"),
    (b'{"id": null, "text": "x"}', "missing-field"),
    (b'{"id": "d3", "text": "x", "title": 0}', "wrong-type"),
    (b'{"id": "d3", "text": "x", "title": false}', "wrong-type"),
    (b'{"id": "d3", "text": "x", "title": []}', "wrong-type"),
    (b'{"id": true, "text": "x"}', "wrong-type"),
    (b'{"id": "d3", "text": "x", "text": "y"}', "malformed"),
    (b'{"id": "d3", "text": "\\ud800 and more"}', "invalid-utf8"),
    (b'{"id": "d3", "text": "x", "other": "\\udc00"}', "invalid-utf8"),
    (b'{"id": "d3", "text": "x", "m": ' + b"[" * 5000 + b"]" * 5000 + b"}", "malformed"),
    (b'{"id": "d3", "text": 5}', "wrong-type"),
    (b'{"id": 1.5, "text": "x"}', "wrong-type"),
    (b'{"id": "d 3", "text": "x"}', "invalid-docno"),
    (b'{"id": "", "text": "x"}', "invalid-docno"),
    (b'{"id": "d1", "text": "again"}', "duplicate-docno"),
    (b'{"id": "d3", "text": " \\n"}', "empty-text"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_record_is_an_error_with_file_and_line_or_is_counted(tmp_path, line, reason):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"id": "d1", "text": "x"}\n\n' + line + b'\n{"id": "d2", "text": "y"}\n')
    with pytest.raises(InputError) as caught:
        list(open_corpus(path))
    assert str(caught.value).startswith(f"{path}:3: ")
    corpus = open_corpus(path, on_error="skip")
    assert [p.docno for p in corpus] == ["d1", "d2"]
    assert corpus.skipped == {reason: 1}
    assert len(list(corpus)) == 2
    assert corpus.skipped == {reason: 1}


@pytest.mark.parametrize(
    ("name", "data", "line", "reason"),
    [
        ("c.tsv", b"d1\tx\nd2\n", 2, "malformed"),
        ("c.tsv", b"d1\tx\nd2\t\xe9\n", 2, "invalid-utf8"),
        ("c.csv", b'id,text\nd1,"a\nb"\nd2\n', 4, "malformed"),
        ("c.csv", b'id,text\nd1,x\nd2,"\xe9\n\nz"\n', 3, "invalid-utf8"),
        ("c.csv", b'id,text\nd1,x\nd2,"open\n', 3, "malformed"),
        ("c.trec", b"<DOC>\n<DOCNO>d1</DOCNO>x\n</DOC>\n<DOC>\n<TEXT>y</TEXT>\n</DOC>\n", 4, "missing-field"),
        ("c.trec", b"<DOC>\n<DOCNO>d1</DOCNO>x\n</DOC>\n<DOC>\n<DOCNO>d2</DOCNO>\n\xe9\n</DOC>\n", 6, "invalid-utf8"),
        ("c.trec", b"<DOC>\n<DOCNO>d1</DOCNO>x\n</DOC>\n<DOC>\n<DOCNO>d2</DOCNO>\n", 4, "malformed"),
        ("c.trec", b"<DOC>\n<DOCNO>d1</DOCNO>x\n</DOC>\nstray\n", 4, "malformed"),
        ("c.trec", b"<DOC><DOCNO>d1</DOCNO>x</DOC>\n</DOC>\n", 2, "malformed"),
        ("c.trec", b"<DOC><DOCNO>d0</DOCNO>x<DOC><DOCNO>d1</DOCNO>y</DOC>\n", 1, "malformed"),
        ("c.trec", b"<DOC><DOCNO>d1</DOCNO>x</DOC>\n<DOC>\n<DOCNO>a</DOCNO>x\n<DOCNO>b</DOCNO>y</DOC>", 2, "malformed"),
    ],
)
def test_every_format_says_the_line(tmp_path, name, data, line, reason):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        list(open_corpus(path))
    assert caught.value.line == line
    corpus = open_corpus(path, on_error="skip")
    assert [p.docno for p in corpus] == ["d1"]
    assert corpus.skipped == {reason: 1}


@pytest.mark.parametrize(("name", "data"), [("c.tsv", "id\ttext\ttext\n1\ta\tb\n"), ("c.csv", "id,text,text\n1,a,b\n")])
def test_two_columns_of_one_name_are_an_error(tmp_path, name, data):
    (tmp_path / name).write_text(data)
    with pytest.raises(InputError, match=r":1: two columns are named 'text'"):
        list(open_corpus(tmp_path / name, on_error="skip"))


def test_tables_with_a_header_are_unquoted_and_others_are_not(tmp_path):
    rows = [
        ("id\ttext\ttitle", '1\t"He said ""hi"" there"\tT', 'He said "hi" there'),
        ("id\ttext\ttitle", '1\t"all of it"\tT', '"all of it"'),
        ("id\ttext\ttitle", '1\t"Begins" and ends "so"\tT', '"Begins" and ends "so"'),
        ("id\ttext\ttitle", '1\t"a tab\t and ""quotes"""\tT', 'a tab\t and "quotes"'),
        ('"id"\t"text"', '"1"\t"all of it"', "all of it"),
        ("0\tx", '1\t"He said ""hi"" there"', '"He said ""hi"" there"'),
    ]
    for header, line, text in rows:
        (tmp_path / "c.tsv").write_text(f"{header}\n{line}\n")
        assert [p.text for p in open_corpus(tmp_path / "c.tsv")][-1] == text


def test_a_null_text_with_a_title_is_an_empty_text(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"_id": "1", "title": "Only a title", "text": null}')
    assert list(open_corpus(tmp_path / "c.jsonl")) == [Passage("1", "", "Only a title")]


def test_vectors_are_left_out_of_the_metadata_and_said_once(tmp_path, caplog):
    record = {"id": "1", "text": "x", "emb": [0.5] * 65, "many": [[1] * 40] * 2, "few": [1, 2], "words": ["a"] * 65}
    (tmp_path / "c.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({**record, "id": "2"}))
    assert [set(p.metadata) for p in open_corpus(tmp_path / "c.jsonl")] == [{"few", "words"}] * 2
    assert [message.split(" holds")[0].split(": ")[1] for message in caplog.messages] == ["field 'emb'", "field 'many'"]


def test_weighted_terms_in_a_corpus_are_said_not_to_be_searched(tmp_path, caplog):
    lines = [{"id": str(n), "contents": "x", "vector": {"a": 3}} for n in range(3)]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [p.metadata for p in open_corpus(tmp_path / "c.jsonl")] == [{"vector": {"a": 3}}] * 3
    assert len(caplog.messages) == 1
    assert "--encoded" in caplog.text


def test_a_folder_is_read_without_companions_queries_and_judgments(tmp_path, caplog):
    for name in ("A.JSONL.GZ", "b.Jsonl"):
        data = json.dumps({"id": name, "text": "x"}).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("GZ") else data)
    for name in ("._A.jsonl", ".b.jsonl.swp", ".b.jsonl", "b.jsonl:Zone.Identifier", "b.jsonl~", "#b.jsonl#"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07\x00\x02")
    for name in ("queries.jsonl", "qrels.dev.tsv", "topics-test.jsonl.gz"):
        (tmp_path / name).write_text('{"id": "q", "text": "a query"}\n')
    assert [p.docno for p in open_corpus(tmp_path)] == ["A.JSONL.GZ", "b.Jsonl"]
    assert "queries.jsonl" in caplog.text
    assert [p.docno for p in open_corpus(tmp_path / "queries.jsonl")] == ["q"]
    (tmp_path / "Corpus.JSONL.gz").write_bytes(gzip.compress(b'{"id": "beir", "text": "x"}'))
    assert [p.docno for p in open_corpus(tmp_path)] == ["beir"]


def test_a_folder_of_queries_alone_is_not_a_corpus(tmp_path):
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "y"}\n')
    with pytest.raises(InputError, match=r"queries\.jsonl"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("name", ["c.jsonl", "c.tsv", "c.csv", "c.trec"])
def test_a_huge_line_is_refused_with_its_place_and_the_limit(tmp_path, monkeypatch, name):
    monkeypatch.setenv("THRESHER_MAX_LINE", "1")
    start = {"c.csv": b"id,text\nd1,x\nd2,", "c.trec": b"<DOC><DOCNO>d1</DOCNO>x</DOC>\n<DOC><DOCNO>d2</DOCNO>"}
    (tmp_path / name).write_bytes(start.get(name, b"") + b"x" * (1 << 20) + b"y")
    with pytest.raises(InputError, match=r"longer than 1 megabytes.*THRESHER_MAX_LINE") as caught:
        list(open_corpus(tmp_path / name, on_error="skip"))
    assert caught.value.line == {"c.csv": 3, "c.trec": 2}.get(name, 1)
    many = {"c.csv": b'id,text\nd,"' + (b"x" * 999 + b"\n") * 1100, "c.trec": b"<DOC>\n" + (b"x" * 999 + b"\n") * 1100}
    if name in many:
        (tmp_path / name).write_bytes(many[name])
        with pytest.raises(InputError, match="longer than 1 megabytes"):
            list(open_corpus(tmp_path / name, on_error="skip"))
    monkeypatch.setenv("THRESHER_MAX_LINE", "-3")
    with pytest.raises(ConfigError, match="THRESHER_MAX_LINE"):
        list(open_corpus(tmp_path / name))


def test_a_bomb_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "c.jsonl.zst"
    packed = zstandard.compress((b" " * 1999 + b"\n") * 80_000 + b'{"id": "d", "text": "x"}')
    assert len(packed) < 100_000
    path.write_bytes(packed)
    tracemalloc.start()
    assert [p.docno for p in open_corpus(path)] == ["d"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150_000_000  # of 160 million bytes, and hardly ever at once


def test_a_long_window_is_read(tmp_path):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "c.jsonl.zst").write_bytes(packer.compress(JSONL.encode()) + packer.flush())
    assert len(list(open_corpus(tmp_path / "c.jsonl.zst"))) == 2


@pytest.mark.parametrize("start", [b"BZh91AY&SY", b"\xfd7zXZ\x00", b"PK\x03\x04", b"\x1f\x9d\x90"])
def test_another_compression_is_named(tmp_path, start):
    (tmp_path / "c.jsonl").write_bytes(start + b"rest")
    with pytest.raises(InputError, match=r"compressed with .* unpack it"):
        list(open_corpus(tmp_path / "c.jsonl", on_error="skip"))


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_compressed_file_cut_short_is_never_a_short_corpus(tmp_path, packed, on_error):
    lines = b"".join(b'{"id": "d%d", "text": "%d"}\n' % (n, n * n) for n in range(3000))
    path = tmp_path / f"c.jsonl.{'gz' if packed is gzip.compress else 'zst'}"
    path.write_bytes(packed(lines)[:-20])
    with pytest.raises(InputError, match="cut short"):
        list(open_corpus(path, on_error=on_error))
    path.write_bytes(b"not compressed")
    with pytest.raises(InputError, match="decompressed"):
        list(open_corpus(path, on_error=on_error))


def test_a_source_that_is_not_there_or_of_no_known_format_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such file"):
        open_corpus(tmp_path / "none.jsonl")
    (tmp_path / "c.xyz").write_text("{}")
    with pytest.raises(ConfigError, match="jsonl"):
        open_corpus(tmp_path / "c.xyz")
    with pytest.raises(ConfigError, match="unknown corpus format 'xml'"):
        open_corpus(tmp_path / "c.xyz", format="xml")
    with pytest.raises(InputError, match=r"corpus\.jsonl"):
        open_corpus(tmp_path)
    with pytest.raises(ConfigError, match="on_error"):
        open_corpus(tmp_path / "c.xyz", format="jsonl", on_error="ignore")


def test_the_format_can_be_named(tmp_path):
    (tmp_path / "c.txt").write_text('{"id": "d", "text": "x"}')
    assert len(list(open_corpus(tmp_path / "c.txt", format="jsonl"))) == 1


def test_tsv_columns_that_were_named_must_be_there(tmp_path):
    (tmp_path / "c.tsv").write_text("a\tb\n1\tx\n")
    assert list(open_corpus(tmp_path / "c.tsv", id_field="a", text_field="b")) == [Passage("1", "x")]
    with pytest.raises(InputError, match="'c'"):
        list(open_corpus(tmp_path / "c.tsv", id_field="a", text_field="c"))
