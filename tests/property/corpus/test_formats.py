"""What is written in a format is read back, for any Unicode text."""

import csv
import gzip
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from hypothesis import assume, example, given
from hypothesis import strategies as st

from thresher.corpus import fingerprint_of, open_corpus
from thresher.errors import InputError, ThresherError
from thresher.records import Passage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DOCNO = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=8).filter(
    lambda docno: docno.split() == [docno]
)
PASSAGES = st.lists(
    st.builds(Passage, DOCNO, TEXT.filter(str.strip), TEXT), max_size=12, unique_by=lambda passage: passage.docno
)


def read_back(name, data):
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        corpus = open_corpus(path)
        return list(corpus), corpus.fingerprint()


@given(PASSAGES, st.sampled_from(["", ".gz", ".zst"]), st.booleans())
def test_json_lines(passages, packing, escaped):
    rows = [{"docid": p.docno, "title": p.title, "text": p.text} for p in passages]
    data = "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows).encode()
    data = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packing](data)
    assert read_back(f"c.jsonl{packing}", data) == (passages, fingerprint_of(passages))


@given(PASSAGES)
def test_csv(passages):
    clean = [
        Passage(p.docno, *(value.replace("\0", "").replace("\r", "\n") for value in (p.text + "x", p.title)))
        for p in passages
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerow(["id", "text", "title"])
    writer.writerows([p.docno, p.text, p.title] for p in clean)
    assert read_back("c.csv", stream.getvalue().encode())[0] == clean


@given(st.binary(max_size=300), st.sampled_from(["c.jsonl", "c.tsv", "c.csv", "c.trec"]))
@example(b"\xfe\xff", "c.jsonl")
@example(b"\xff\xfe", "c.csv")
@example(b"\xff\xfe", "c.trec")
@example(b"\xff\xfe", "c.tsv")
def test_any_bytes_are_passages_or_counted(data, name):
    compressed = (b"\x1f", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"PK", b"7z", b"\x04\x22")
    assume(not data.startswith(compressed))  # read as gzip and Zstandard or refused, whatever the name
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        corpus = open_corpus(path, on_error="skip")
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            with pytest.raises(InputError, match="UTF-16"):
                list(corpus)
            return
        for passage in corpus:
            passage.contents.encode()


ROWS = [{"id": f"d{n}", "title": "T", "text": f"text {n}", "made": [{"x": None}, {"x": n}]} for n in range(4)]
JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TREC = b"".join(b"<DOC><DOCNO>d%d</DOCNO><TEXT>a <b>c</b> x<y</TEXT></DOC>\n" % n for n in range(4))
FILES = {
    "c.jsonl": JSON_LINES,
    "c.jsonl.gz": gzip.compress(JSON_LINES),
    "c.jsonl.zst": zstandard.compress(JSON_LINES),
    "c.tsv": b'id\ttext\ttitle\n1\t"a ""b"""\tT\n2\tc\tU\n',
    "c.csv": b'id,text,title\n1,"a ""b""\nc",T\n2,c,U\n',
    "c.trec": TREC,
    "c.trec.zst": zstandard.compress(TREC),
    "c.parquet": b"",
}


def parquet_bytes():
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


@given(st.data())
def test_a_damaged_file_is_read_counted_or_refused_and_nothing_else(data):
    name = data.draw(st.sampled_from(sorted(FILES)))
    raw = bytearray(FILES[name] or parquet_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [b"\xff", b"\0", b'"', b"<", b">", b"{", b"[" * 5000, b"\\ud800", b"\n", b"\t", b"&#55296;"]
            )
        )
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(raw)
        corpus = open_corpus(path, on_error=data.draw(st.sampled_from(["skip", "raise"])))
        try:
            for passage in corpus:
                passage.contents.encode()
                assert passage.docno.split() == [passage.docno]
        except ThresherError as err:
            assert name in str(err)
