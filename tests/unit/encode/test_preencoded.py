import gzip
import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from thresher.cli.build import build
from thresher.cli.search import search
from thresher.encode.preencoded import read_encoded_queries, read_queries_for
from thresher.errors import DataNotFoundError, InputError
from thresher.index.exchange import open_encoded
from thresher.index.exchange.anserini import JsonVectors
from thresher.index.exchange.given import Names
from thresher.index.exchange.npz import NpzVectors
from thresher.index.exchange.parquet import ParquetVectors

ROWS = [
    ("d1", "one text", {"b": 2.0, "a": 0.5}),
    ("d2", "", {}),
    ("d3", "third", {"c": 7.0}),
]


def as_rows(encoded):
    """docno to term to weight, as an index would see it."""
    out = {}
    for passages, batch in encoded:
        for i, passage in enumerate(passages):
            row = slice(batch.indptr[i], batch.indptr[i + 1])
            words = [encoded.vocabulary[t] for t in batch.terms[row]]
            out[passage.docno] = dict(zip(words, batch.weights[row].tolist(), strict=True))
    return out


WANTED = {docno: vector for docno, _, vector in ROWS}


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.json"])
def test_json_vectors(tmp_path, name):
    lines = "\n".join(json.dumps({"id": d, "contents": t, "vector": v}) for d, t, v in ROWS) + "\n\n"
    if name.endswith(".gz"):
        with gzip.open(tmp_path / name, "wt") as stream:
            stream.write(lines)
    else:
        (tmp_path / name).write_text(lines)
    for encoded in (open_encoded(tmp_path / name), open_encoded(tmp_path)):
        assert isinstance(encoded, JsonVectors)
        assert encoded.vocabulary == ("a", "b", "c")
        assert as_rows(encoded) == WANTED == as_rows(encoded)
        assert next(iter(encoded))[0][0].text == "one text"


def test_parquet_vectors(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    import pyarrow.parquet as parquet

    table = pyarrow.table(
        {
            "docno": [d for d, *_ in ROWS],
            "indices": pyarrow.array([[1, 0], [], [2]], pyarrow.list_(pyarrow.uint32())),
            "values": pyarrow.array([[2.0, 0.5], [], [7.0]], pyarrow.list_(pyarrow.float32())),
        }
    )
    parquet.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "words.txt").write_text("a\nb\nc\n")
    encoded = open_encoded(tmp_path / "x.parquet", vocabulary=tmp_path / "words.txt")
    assert isinstance(encoded, ParquetVectors)
    assert as_rows(encoded) == WANTED
    assert as_rows(open_encoded(tmp_path / "x.parquet"))["d3"] == {"2": 7.0}
    with pytest.raises(InputError, match="outside the vocabulary of 2"):
        as_rows(ParquetVectors(tmp_path / "x.parquet", Names(vocabulary=["a", "b"])))


def test_scipy_rows(tmp_path):
    scipy = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    matrix = scipy.csr_matrix(np.array([[0.5, 2.0, 0], [0, 0, 0], [0, 0, 7.0]]))
    matrix.indices[:2] = matrix.indices[:2][::-1].copy()  # unsorted rows are scipy's right
    matrix.data[:2] = matrix.data[:2][::-1].copy()
    matrix.has_sorted_indices = False
    scipy.save_npz(tmp_path / "x.npz", matrix)
    (tmp_path / "docnos.txt").write_text("d1\nd2\nd3\n")
    (tmp_path / "words.txt").write_text("a\nb\nc\n")
    encoded = open_encoded(tmp_path / "x.npz", docnos=tmp_path / "docnos.txt", vocabulary=tmp_path / "words.txt")
    assert isinstance(encoded, NpzVectors)
    assert as_rows(encoded) == WANTED
    assert as_rows(open_encoded(tmp_path / "x.npz"))["2"] == {"2": 7.0}
    with pytest.raises(InputError, match="1 docnos"):
        NpzVectors(tmp_path / "x.npz", Names(docnos=["d1"]))
    scipy.save_npz(tmp_path / "y.npz", matrix.tocsc())
    with pytest.raises(InputError, match="tocsr"):
        open_encoded(tmp_path / "y.npz")
    scipy.save_npz(tmp_path / "z.npz", scipy.csr_matrix(np.array([[-1.0]])))
    with pytest.raises(InputError, match="not negative"):
        list(open_encoded(tmp_path / "z.npz"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a JSON object"),
        ('["id"]', "expected"),
        ('{"id": "d", "vector": [1.0]}', "expected"),
        ('{"vector": {"a": 1}}', "expected"),
        ('{"id": "d", "vector": {"a": -1}}', "weight -1"),
        ('{"id": "d", "vector": {"a": 1e39}}', "weight 1e"),
        ('{"id": null, "vector": {"a": 1}}', "docno is None"),
        ('{"id": "d", "contents": 5, "vector": {"a": 1}}', "text is 5"),
        ('{"id": "d", "vector": {"a": NaN}}', "weight nan"),
        ('{"id": "d", "vector": {"a": "2"}}', "weight '2'"),
        ('{"id": "d", "vector": {"a": true}}', "weight True"),
        ('{"id": "a b", "vector": {}}', "white space"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text('{"id": "ok", "vector": {}}\n' + line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        open_encoded(tmp_path / "x.jsonl")
    assert (caught.value.source, caught.value.line) == (str(tmp_path / "x.jsonl"), 2)


def test_encoded_queries_weigh_a_term_by_its_repetitions(tmp_path):
    (tmp_path / "q.tsv").write_text("7\tfish fish ##ing\r\n\n8\t\n")
    assert read_encoded_queries(tmp_path / "q.tsv") == {"7": {"fish": 2.0, "##ing": 1.0}, "8": {}}
    (tmp_path / "q.tsv").write_text("7 fish\n")
    with pytest.raises(InputError, match=r"q\.tsv:1: expected"):
        read_encoded_queries(tmp_path / "q.tsv")
    (tmp_path / "q.tsv").write_text("7\ta\n7\tb\n")
    with pytest.raises(InputError, match="occurs twice"):
        read_encoded_queries(tmp_path / "q.tsv")
    with pytest.raises(DataNotFoundError):
        read_encoded_queries(tmp_path / "nothing.tsv")


def test_weighted_queries_are_read_from_json_lines(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('\n{"id": 7, "vector": {"fish": 2.5, "##ing": 0}}\n{"qid": "8", "vector": {}}\n')
    assert read_encoded_queries(file) == {"7": {"fish": 2.5, "##ing": 0.0}, "8": {}}
    assert read_queries_for(file, texts=True) == read_encoded_queries(file)
    for odd in ('{"id": "9"}', '{"vector": {"a": 1}}', '{"id": true, "vector": {}}', '{"id": "9", "vector": [1]}',
                '{"id": "9", "vector": {"a": -1}}', '{"id": "9", "vector": {"a": NaN}}', '{"id": "7", "vector": {}}',
                '{"id": "9", "vector": {"a": "1"}}', '{"id": "9", "vector": {"a": 1e300}}', "9\tfish"):  # fmt: skip
        file.write_text('{"id": 7, "vector": {"fish": 2.5}}\n' + odd + "\n")
        with pytest.raises(InputError) as caught:
            read_encoded_queries(file)
        assert caught.value.line == 2


def test_real_encoded_queries_are_read(data_dir):
    queries = read_encoded_queries(data_dir / "encoded-queries" / "topics.dl19-passage.splade-pp-ed.tsv.gz")
    assert len(queries) == 43
    assert all(weight == int(weight) >= 1 for row in queries.values() for weight in row.values())


def test_an_unknown_ending_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(InputError, match=r"x\.txt"):
        open_encoded(tmp_path / "x.txt")
    with pytest.raises(DataNotFoundError):
        open_encoded(tmp_path / "x.jsonl")


def test_encoded_queries_search_an_index_of_encoded_passages(tmp_path):
    vectors = [{"id": "a", "contents": "x", "vector": {"##ing": 3, "fish": 2}}, {"id": "b", "vector": {"fish": 1}}]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, vectors)))
    (tmp_path / "q.tsv").write_text("7\tfish fish ##ing\n8\tunknown\n9\tfish\n")
    index = tmp_path / "index"
    for command, arguments in (
        (build, ["--encoded", tmp_path / "v.jsonl", "-o", index]),
        (search, [index, "--queries", tmp_path / "q.tsv", "--run", tmp_path / "out.run"]),
    ):
        app = typer.Typer()
        app.command()(command)
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
    rows = [line.split() for line in (tmp_path / "out.run").read_text().splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("7", "a"), ("7", "b"), ("9", "a"), ("9", "b")]
