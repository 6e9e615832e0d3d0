"""Every format: documents to a file and back are the same documents, and an index of them gives the same scores."""

import gzip
import json
import random
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.exchange_fuzz import cases, read_one
from thresher.build.stream import build_index
from thresher.encode.terms import LinearScale
from thresher.errors import ArtifactError, InputError
from thresher.index.collection import open_collection
from thresher.index.exchange import export_index, open_encoded
from thresher.index.exchange.documents import Documents
from thresher.index.exchange.facts import Facts
from thresher.index.exchange.formats import all_formats, format_of
from thresher.index.exchange.given import GivenVectors
from thresher.index.exchange.opening import open_several
from thresher.records import Passage, SparseBatch
from thresher.search import Index

FORMATS = [made.name for made in all_formats() if made.reads and made.writes]
NO_TEXTS = {made.name for made in all_formats() if made.loses}


class Made(GivenVectors):
    """Passages in memory with impacts of a scale."""

    def __init__(self, rows, vocabulary, scale=1.0, bits=16):
        self.path, self.vocabulary = Path("made"), tuple(vocabulary)
        self.facts = Facts(len(rows), len(vocabulary), scale, bits)
        self.rows = rows

    def __iter__(self):
        for first in range(0, len(self.rows), 3):
            some = self.rows[first : first + 3]
            indptr = np.cumsum([0, *(len(row) for _, row in some)]).astype(np.int64)
            terms = np.array([term for _, row in some for term in sorted(row)], np.uint32)
            impacts = np.array([row[term] for _, row in some for term in sorted(row)], np.float64)
            yield [p for p, _ in some], SparseBatch(indptr, terms, (impacts * self.facts.scale).astype(np.float32))


def rows_of(encoded):
    """(passage, impact by term) of each passage, in order."""
    scale, words, found = encoded.impacts, encoded.query_side.vocabulary, []
    for passages, batch in encoded:
        impacts = batch.weights.astype(np.float64) / (1.0 if scale is None else scale.scale)
        for i, passage in enumerate(passages):
            own = slice(int(batch.indptr[i]), int(batch.indptr[i + 1]))
            names = [words[term] for term in batch.terms[own].tolist()]
            assert batch.terms[own].tolist() == sorted(set(batch.terms[own].tolist()))
            found.append((passage, dict(zip(names, np.rint(impacts[own]).astype(int).tolist(), strict=True))))
    return found


LETTERS = st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"))
DOCNOS = st.text(LETTERS, min_size=1, max_size=6).filter(lambda name: name.split() == [name])
TERMS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), max_size=6)


TEXT = st.characters(exclude_categories=("Cs",))
PLAIN = st.characters(exclude_categories=("Cs", "Cc", "Cn"))


@st.composite
def collections(draw, terms=TERMS, letters=TEXT):
    bits = draw(st.sampled_from([8, 16]))
    words = draw(st.lists(terms, min_size=1, max_size=6, unique=True))
    docnos = draw(st.lists(DOCNOS, min_size=1, max_size=9, unique=True))
    row = st.dictionaries(st.integers(0, len(words) - 1), st.integers(1, 2**bits - 1), max_size=6)
    texts = st.text(letters, max_size=8)
    metadata = st.dictionaries(st.sampled_from(["year", "lang"]), st.integers(0, 9), max_size=1)
    rows = [(Passage(docno, draw(texts), draw(texts), draw(metadata)), draw(row)) for docno in docnos]
    rows[0][1].setdefault(0, 1)
    return Made(rows, words, draw(st.sampled_from([1.0, 0.125, 1.0 / 3, 1 / 65535, 7.1])), bits)


def wanted_of(made, name):
    texts = name not in NO_TEXTS
    return [
        (passage if texts else Passage(passage.docno, ""), {made.vocabulary[t]: impact for t, impact in row.items()})
        for passage, row in made.rows
    ]


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back(name, data):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    terms = TERMS.filter(lambda term: term.split() == [term]) if name == "anserini" else TERMS
    made = data.draw(collections(terms, PLAIN if name == "vespa" else TEXT))  # it writes U+FFFD for control characters
    with TemporaryDirectory() as folder:
        root = Path(folder)
        build_index(root / "index", encoded=made)
        packs = {one.name: one.packs for one in all_formats()}[name] and data.draw(st.booleans())
        size = data.draw(st.sampled_from([None, 1, 4]))
        done = export_index(root / "index", root / "out", format=name, shards_of=size, gz=packs)
        assert done.facts.documents == len(made.rows)
        assert (done.facts.scale, done.facts.bits) == (made.facts.scale, made.facts.bits)
        opened = open_encoded(root / "out")
        assert opened.impacts == made.impacts
        assert rows_of(opened) == wanted_of(made, name)
        build_index(root / "again", encoded=root / "out")
        with Index.open(root / "index") as one, Index.open(root / "again") as two:
            for query in [{word: 1.0} for word in made.vocabulary] + [dict.fromkeys(made.vocabulary, 0.7)]:
                assert [(h.docno, h.score) for h in one.search(query)] == [
                    (h.docno, h.score) for h in two.search(query)
                ]


@pytest.fixture(scope="module")
def lexical(tmp_path_factory):
    """A BM25 index of two segments with a deleted passage, reordered inside."""
    random.seed(3)
    folder = tmp_path_factory.mktemp("lexical") / "index"
    words = [f"word{i}" for i in range(40)]
    passages = [
        Passage(f"d{i:02}", " ".join(random.choices(words, k=9)), metadata={"year": 2000 + i % 4}) for i in range(60)
    ]
    recipe = folder.with_suffix(".toml")
    recipe.write_text('[index]\norder = "bp"\n')
    build_index(folder, passages[:40], recipe)
    with Index.open(folder).writer(merge=False) as writer:
        writer.add(passages[40:])
        writer.delete(docnos=["d07", "d50"])
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_of_bm25_is_imported_with_its_query_encoder(lexical, tmp_path, name):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    export_index(lexical, tmp_path / "out", format=name)
    build_index(tmp_path / "index", encoded=tmp_path / "out")
    with Index.open(lexical) as one, Index.open(tmp_path / "index") as two:
        assert len(one) == len(two) == 58
        for query in ("word1 word2", "word3", "word9 word11 word12 word9"):
            found = [(hit.docno, hit.score) for hit in one.search(query, 60)]
            assert found
            assert found == [(hit.docno, hit.score) for hit in two.search(query, 60)]
    with Index.open(tmp_path / "index").writer() as writer:
        writer.add([Passage("new", "word1 word1")])


def test_filters_and_shards(lexical, tmp_path):
    with open_collection(lexical) as collection:
        documents = Documents.of(collection, where="year = 2001")
        docnos = [document.docno for document in documents]
        assert sorted(docnos) == sorted(f"d{i:02}" for i in range(1, 60, 4))
        assert docnos == list(documents.docnos())
        shards = [list(shard.docnos()) for shard in documents.shards(4)]
        assert [len(shard) for shard in shards] == [4, 4, 4, 3]
        assert [docno for shard in shards for docno in shard] == docnos
    with pytest.raises(InputError, match="no passages that match"):
        export_index(lexical, tmp_path / "none", where="year = 1999")


def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    for words, name, problem in [(["new york"], "anserini", "has a blank"), (["a\nb"], "ciff", "has a line feed")]:
        build_index(tmp_path / name, encoded=Made([(Passage("d", ""), {0: 3})], words))
        with pytest.raises(InputError, match=problem):
            export_index(tmp_path / name, tmp_path / "out", format=name)
        assert not (tmp_path / "out").exists()
    export_index(tmp_path / "anserini", tmp_path / "out", format="ciff")
    with pytest.raises(ArtifactError, match="exists already"):
        export_index(tmp_path / "anserini", tmp_path / "out", format="ciff")
    with pytest.raises(InputError, match="does not give the format"):
        format_of(tmp_path / "a.txt")


def test_several_files_become_one(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "1", "vector": {"b": 2, "c": 300}}\n')
    (tmp_path / "b.jsonl").write_text('{"id": "2", "vector": {"a": 1, "c": 4}}\n')
    joined = open_several([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert joined.impacts == LinearScale(1.0, 16)
    assert [(p.docno, row) for p, row in rows_of(joined)] == [("1", {"b": 2, "c": 300}), ("2", {"a": 1, "c": 4})]


def test_a_big_ann_file_is_as_its_benchmark_has_it(tmp_path):
    made = Made([(Passage("x", ""), {1: 5}), (Passage("y", ""), {0: 2, 2: 7})], ["a", "b", "c"])
    build_index(tmp_path / "i", encoded=made)
    export_index(tmp_path / "i", tmp_path / "o", format="bigann")
    content = (tmp_path / "o" / "documents.csr").read_bytes()
    assert content == struct.pack("<6q3i3f", 2, 3, 3, 0, 1, 3, 1, 0, 2, 5, 2, 7)


def test_scipy_reads_what_is_written(tmp_path):
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    made = Made([(Passage("x", ""), {1: 5}), (Passage("y", ""), {0: 2, 2: 7})], ["a", "b", "c"])
    build_index(tmp_path / "i", encoded=made)
    export_index(tmp_path / "i", tmp_path / "o", format="npz")
    assert sparse.load_npz(tmp_path / "o" / "documents.npz").toarray().tolist() == [[0, 5, 0], [2, 0, 7]]


def test_columns_of_data_sets_may_hold_terms(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    table = {"id": ["x", "y", "z"], "terms": [["b", "a"], None, []], "values": [[1.5, 0.25], None, []]}
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    ((passages, batch),) = open_encoded(tmp_path / "t.parquet")
    assert [p.docno for p in passages] == ["x", "y", "z"]
    assert (batch.terms.tolist(), batch.weights.tolist()) == ([0, 1], [0.25, 1.5])


def test_tensors_of_sentence_transformers_are_rows(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from thresher.index.exchange.tensors import TensorRows

    dense = torch.tensor([[0, 2.5, 0], [1.0, 0, 3.0]])
    rows = TensorRows(dense.to_sparse_coo(), ["x", "y"], ["a", "b", "c"])
    ((passages, batch),) = rows
    assert [p.docno for p in passages] == ["x", "y"]
    assert (batch.indptr.tolist(), batch.terms.tolist(), batch.weights.tolist()) == ([0, 1, 3], [1, 0, 2], [2.5, 1, 3])
    build_index(tmp_path / "i", encoded=rows)
    with Index.open(tmp_path / "i") as index:
        assert [hit.docno for hit in index.search({"a": 1.0, "c": 1.0})] == ["y"]


def coordinates(path: Path, rows: list[int]) -> Path:
    """A safetensors file of a tensor of coordinates."""
    n = len(rows)
    header = {
        "__metadata__": {"shape": json.dumps([2, 3])},
        "indices": {"dtype": "I64", "shape": [2, n], "data_offsets": [0, 16 * n]},
        "values": {"dtype": "F32", "shape": [n], "data_offsets": [16 * n, 20 * n]},
    }
    text = json.dumps(header).encode()
    columns = np.array([1, 0, 2][:n], "<i8").tobytes()
    body = np.array(rows, "<i8").tobytes() + columns + np.array([2.5, 1, 3][:n], "<f4").tobytes()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_tensors_of_coordinates_are_read(tmp_path):
    ((passages, batch),) = open_encoded(coordinates(tmp_path / "a.safetensors", [0, 1, 1]))
    assert [p.docno for p in passages] == ["0", "1"]
    assert (batch.indptr.tolist(), batch.terms.tolist(), batch.weights.tolist()) == ([0, 1, 3], [1, 0, 2], [2.5, 1, 3])
    with pytest.raises(InputError, match="do not ascend"):
        open_encoded(coordinates(tmp_path / "b.safetensors", [1, 0, 1]))


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(*fields) -> bytes:
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def framed(*messages: bytes) -> bytes:
    return b"".join(varint(len(one)) + one for one in messages)


POSTING = message((1, 0), (2, 3))
LIST = message((1, b"a"), (2, 2), (3, 7), (4, POSTING), (4, message((1, 1), (2, 4))))
RECORDS = [message((2, b"x"), (3, 3)), message((1, 1), (2, b"y"), (3, 4))]


def ciff(*, version=1, lists=1, docs=2, body=(LIST,), records=RECORDS, more=b"") -> bytes:
    return framed(message((1, version), (2, lists), (3, docs)), *body, *records) + more


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "ends within the header"),
        (ciff(version=2), "version 2"),
        (ciff(lists=2**40), "1099511627776 posting lists"),
        (ciff(docs=2**30), "documents in a file of"),
        (ciff(lists=2**31 - 1), "not CIFF"),
        (ciff()[:-3], "the file ends within the record of document 2"),
        (ciff()[:20], "the file ends within posting list 1 of 1"),
        (ciff(more=b"\0"), "more bytes after the last document"),
        (ciff(records=[RECORDS[1], RECORDS[1]]), "document 0 has no record"),
        (ciff(body=[message((1, b"a"), (2, 3), (4, POSTING))]), "df that is not"),
        (ciff(body=[message((2, 1), (4, POSTING))]), "two terms, or with none"),
        (ciff(lists=2, body=[LIST, LIST]), "occurs twice"),
        (ciff(body=[message((1, b"\xff"), (2, 1), (4, POSTING))]), "not UTF-8"),
        (ciff(body=[message((1, b"a"), (2, 1), (4, message((1, 2), (2, 1))))]), "beyond those that the header"),
        (ciff(body=[message((1, b"a"), (2, 1), (4, message((1, 2**64 - 1), (2, 1))))]), "below 0"),
        (ciff(body=[message((1, b"a"), (2, 2), (4, POSTING), (4, POSTING))]), "gap of 0"),
        (ciff(body=[message((1, b"a"), (2, 1), (4, message((1, 0), (2, 70_000))))]), "between 1 and 65,535"),
        (ciff(body=[message((1, b"a"), (2, 1), (4, message((1, 0))))]), "between 1 and 65,535"),
        (ciff(body=[b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]), "more than ten bytes"),
        (ciff(body=[message((1, b"a")) + b"\x22\x7f\x08"]), "longer than its message"),
        (ciff(body=[message((1, b"a")) + b"\x2f"]), "unknown type"),
        (ciff(body=[message((1, b"a" * 70_000), (2, 1), (4, POSTING))]), "65,535 bytes"),
    ],
)
def test_a_damaged_ciff_file_is_refused_with_its_place(tmp_path, content, problem):
    (tmp_path / "a.ciff").write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        list(open_encoded(tmp_path / "a.ciff"))
    assert "a.ciff" in str(caught.value)


def test_ciff_fields_may_come_in_any_order_and_unknown_ones_are_skipped(tmp_path):
    odd = message((9, 5), (4, message((7, b"more"), (2, 3))), (2, 1), (1, b"a"), (3, 3))
    for name, content in (
        ("a.ciff", ciff(body=[odd])),
        ("b.ciff.gz", gzip.compress(ciff(body=[odd], records=RECORDS[::-1]))),
    ):
        (tmp_path / name).write_bytes(content)
        assert [(p.docno, row) for p, row in rows_of(open_encoded(tmp_path / name))] == [("x", {"a": 3}), ("y", {})]


def test_bmp_finds_the_same_scores_in_what_is_written(tmp_path):
    bmp = pytest.importorskip("bmp", reason="bmp is not installed")
    random.seed(5)
    rows = [
        (Passage(f"d{i}", ""), {t: random.randint(1, 255) for t in random.sample(range(30), 9)}) for i in range(500)
    ]
    made = Made(rows, [f"t{i}" for i in range(30)], bits=8)
    build_index(tmp_path / "i", encoded=made)
    export_index(tmp_path / "i", tmp_path / "o", format="ciff")
    bmp.ciff2bmp(str(tmp_path / "o" / "documents.ciff"), str(tmp_path / "x"), 32, False)
    searcher, full = bmp.Searcher(str(tmp_path / "x")), 0
    with Index.open(tmp_path / "i") as index:
        for _ in range(30):
            query = {f"t{t}": float(random.randint(1, 31)) for t in random.sample(range(30), 5)}
            query[next(iter(query))] = 32.0  # the largest weight, by which bmp scales the others
            docnos, scores = searcher.search(query, k=10, alpha=1.0, beta=1.0)
            ours = {hit.docno: hit.score for hit in index.search(query, len(rows))}
            assert [ours[docno] for docno in docnos] == list(scores)
            full += list(scores) == list(ours.values())[:10]
    assert full > 15  # it never scores the block that it comes to last, so some answers lack passages


def test_what_protobuf_writes_is_read(tmp_path):
    protobuf = pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, proto

    assert protobuf
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package="ciff", syntax="proto3")
    fields = {
        "Header": [("version", 1, 5), ("num_postings_lists", 2, 5), ("num_docs", 3, 5), ("total_postings_lists", 4, 5),
                   ("total_docs", 5, 5), ("total_terms_in_collection", 6, 3), ("average_doclength", 7, 1),
                   ("description", 8, 9)],
        "Posting": [("docid", 1, 5), ("tf", 2, 5)],
        "PostingsList": [("term", 1, 9), ("df", 2, 3), ("cf", 3, 3), ("postings", 4, 11)],
        "DocRecord": [("docid", 1, 5), ("collection_docid", 2, 9), ("doclength", 3, 5)],
    }  # fmt: skip
    for name, own in fields.items():
        made = file.message_type.add(name=name)
        for field, number, kind in own:
            many = kinds.LABEL_REPEATED if kind == kinds.TYPE_MESSAGE else kinds.LABEL_OPTIONAL
            one = made.field.add(name=field, number=number, type=kind, label=many)
            if kind == kinds.TYPE_MESSAGE:
                one.type_name = ".ciff.Posting"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    header, posting, postings, record = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ciff.{name}")) for name in fields
    )
    messages = [header(version=1, num_postings_lists=2, num_docs=300, average_doclength=2.5, description="by protobuf")]
    spread = [posting(docid=0 if i == 0 else 1, tf=1 + i * 200) for i in range(300)]
    messages.append(postings(term="all", df=300, cf=sum(p.tf for p in spread), postings=spread))
    messages.append(postings(term="ünd", df=2, cf=9, postings=[posting(docid=7, tf=4), posting(docid=290, tf=5)]))
    messages += [record(docid=i, collection_docid=f"d{i}", doclength=3) for i in range(300)]
    with (tmp_path / "a.ciff").open("wb") as out:
        for one in messages:
            proto.serialize_length_prefixed(one, out)
    opened = open_encoded(tmp_path / "a.ciff")
    assert opened.impacts == LinearScale(1.0, 16)
    assert [row for _, row in rows_of(opened)] == [
        {"all": 1 + i * 200} | ({"ünd": 4 if i == 7 else 5} if i in (7, 297) else {}) for i in range(300)
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_an_error_that_names_it_or_is_read(lexical, tmp_path, name):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    exported = export_index(lexical, tmp_path / "out", format=name)
    whole = tmp_path / "out" / exported.files[0]
    outcomes = {read_one(path) for path in cases([whole], 40, tmp_path / "cases")}
    assert outcomes <= {"named", "read"}
    assert "named" in outcomes
