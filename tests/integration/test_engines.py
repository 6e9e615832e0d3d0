"""Bulk files: golden files, round trips, and engines that give our top 10 and our scores from them."""

import json
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.engines import regenerate
from thresher import Index, build_index
from thresher.build.recipe import Recipe
from thresher.errors import ConfigError, InputError, MissingExtraError, ThresherError
from thresher.index.exchange import export_index, open_encoded
from thresher.index.exchange.bulk import Bulk
from thresher.index.exchange.formats import FORMATS, format_of
from thresher.integrations import jvm
from thresher.integrations.pyserini import LuceneIndex
from thresher.records import Passage, Query
from thresher.search.requests import search_requests, weights_of

BULK = regenerate.FORMATS
WORDS = [*(f"word{i}" for i in range(60)), "3.5", "naïve", "日本", "100%", "u.s.a"]
QUERIES = [Query(f"q{i}", " ".join(random.Random(i).sample(WORDS, 4))) for i in range(12)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index of two segments with deleted passages, and impacts of 8 bits."""
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 40))) for _ in range(150)]
    passages = [
        Passage(f"d{i}/{i % 7}", text, f"Title {i}" if i % 3 else "", {"n": i} if i % 2 else {})
        for i, text in enumerate(texts)
    ]
    path = tmp_path_factory.mktemp("engines") / "index"
    build_index(path, passages[:100], Recipe(encode={"encoder": "bm25"}, index={"bits": 8}))
    opened = Index.open(path)
    with opened.writer(merge=False) as writer:
        writer.add(passages[100:])
        writer.delete(docnos=["d3/3", "d120/1"])
    opened.refresh()
    return opened


@pytest.fixture(scope="module")
def exports(index, tmp_path_factory):
    """The folder of an export in each format, by name; made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("exports"), {}

    def export(name):
        if name not in made:
            made[name] = folder / regenerate.folder_of(name)
            export_index(index.path, made[name], format=name)
        return made[name]

    return export


def documents_of(folder):
    return sorted(file for file in folder.iterdir() if file.name.startswith("documents-"))


def test_golden_files_are_what_is_written(tmp_path):
    regenerate.write(tmp_path)
    written = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*.*")}
    golden = {
        file.relative_to(regenerate.HERE): file.read_bytes()
        for name in BULK
        for file in (regenerate.HERE / regenerate.folder_of(name)).iterdir()
    }
    assert written.keys() == golden.keys()
    for name, content in golden.items():
        assert written[name] == content, f"{name} differs: see {regenerate.__name__}"


@pytest.mark.parametrize("name", BULK)
def test_an_export_is_imported_with_the_same_scores(name, index, exports, tmp_path):
    report = build_index(tmp_path / "again", encoded=open_encoded(exports(name)))
    again = Index.open(tmp_path / "again")
    assert len(again) == len(index) == 148 and report is not None
    for query in QUERIES:
        ours, theirs = index.search(query, 20), again.search(query, 20)
        assert ours == theirs
        assert [(hit.title, hit.text, dict(hit.metadata)) for hit in ours] == [
            (hit.title, hit.text, dict(hit.metadata)) for hit in theirs
        ]


@pytest.mark.parametrize("name", BULK)
def test_files_keep_to_their_limit_and_hold_everything_once(name, index, tmp_path, monkeypatch):
    monkeypatch.setattr(type(FORMATS.make(name)), "limit", 4000)
    made = export_index(index.path, tmp_path / "out", format=name)
    files = [tmp_path / "out" / file for file in made.files]
    assert len(files) > 5 and all(file.stat().st_size < 4100 for file in files)
    assert set(made.others) <= {file.name for file in (tmp_path / "out").iterdir()}
    assert len(made.others) == 1
    monkeypatch.undo()
    whole = export_index(index.path, tmp_path / "whole", format=name, shards_of=50, gz=True)
    assert len(whole.files) == 3 and all(file.endswith(".gz") for file in whole.files)
    held = [[p.docno for passages, _ in open_encoded(tmp_path / n) for p in passages] for n in ("out", "whole")]
    assert held[0] == held[1] and len(set(held[0])) == 148


@pytest.mark.parametrize("name", BULK)
def test_a_file_alone_is_read_by_its_name(name, exports):
    (file,) = documents_of(exports(name))
    form = format_of(file)
    assert isinstance(form, Bulk) and form.name == name.partition(":")[0]
    passages = [passage for chunk, _ in open_encoded(file, format=name) for passage in chunk]
    assert len(passages) == 148 and passages[0].text


def by_definition(index, query, k):
    return index.search(query, k).pairs()


def agree(found, wanted):
    """The same scores, and the same docnos where no other has nearly that score."""
    np.testing.assert_allclose([s for _, s in found], [s for _, s in wanted], rtol=1e-6)
    scores = [score for _, score in wanted]
    for place, (docno, score) in enumerate(wanted):
        if sum(abs(other - score) <= 2e-6 * score for other in scores) == 1 and place < len(wanted) - 1:
            assert found[place][0] == docno


def test_qdrant_edge_gives_our_top_10(index, exports, tmp_path):
    edge = pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")
    folder = exports("qdrant")
    (field,) = json.loads((folder / "collection.json").read_text())["sparse_vectors"]
    params = edge.EdgeSparseVectorParams(datatype=edge.VectorStorageDatatype.Float32)
    (tmp_path / "shard").mkdir()
    shard = edge.EdgeShard.create(str(tmp_path / "shard"), edge.EdgeConfig(sparse_vectors={field: params}))
    for file in documents_of(folder):
        points = [
            edge.Point(
                point["id"],
                {name: edge.SparseVector(one["indices"], one["values"]) for name, one in point["vector"].items()},
                point["payload"],
            )
            for point in json.loads(file.read_text())["points"]
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    for query, (_, body) in zip(QUERIES, search_requests(index, folder, QUERIES, k=10), strict=True):
        asked = edge.Query.Nearest(edge.SparseVector(body["query"]["indices"], body["query"]["values"]), body["using"])
        hits = shard.query(edge.QueryRequest(query=asked, limit=body["limit"], with_payload=True))
        agree([(hit.payload["docno"], hit.score) for hit in hits], by_definition(index, query, 10))
    shard.close()


def test_milvus_lite_gives_our_top_10(index, exports, tmp_path):
    pymilvus = pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    folder = exports("milvus")
    definition = json.loads((folder / "collection.json").read_text())
    kinds = {"VarChar": "VARCHAR", "JSON": "JSON", "SparseFloatVector": "SPARSE_FLOAT_VECTOR"}
    schema = pymilvus.MilvusClient.create_schema(auto_id=definition["schema"]["autoId"])
    for field in definition["schema"]["fields"]:
        more = {name: int(value) for name, value in field.get("elementTypeParams", {}).items()}
        kind = pymilvus.DataType[kinds[field["dataType"]]]
        schema.add_field(field["fieldName"], kind, is_primary=field.get("isPrimary", False), **more)
    client = pymilvus.MilvusClient(str(tmp_path / "milvus.db"))
    try:
        params = client.prepare_index_params()
        for one in definition["indexParams"]:
            kind = one["params"].pop("index_type")
            params.add_index(
                one["fieldName"], kind, one["indexName"], metric_type=one["metricType"], params=one["params"]
            )
        client.create_collection("passages", schema=schema, index_params=params)
        for file in documents_of(folder):
            rows = json.loads(file.read_text())["rows"]
            for row in rows:
                row["terms"] = dict(zip(row["terms"]["indices"], map(float, row["terms"]["values"]), strict=True))
            client.insert("passages", rows)
        for query, (_, body) in zip(QUERIES, search_requests(index, folder, QUERIES, k=10), strict=True):
            asked = [{int(term): weight for term, weight in vector.items()} for vector in body["data"]]
            how = {"metric_type": body["searchParams"]["metricType"], "params": body["searchParams"]["params"]}
            (hits,) = client.search(
                "passages", asked, anns_field=body["annsField"], limit=body["limit"], search_params=how,
                output_fields=body["outputFields"],
            )  # fmt: skip
            found = [(hit["entity"]["docno"], hit["distance"]) for hit in hits]
            agree(found, by_definition(index, query, 10))
    finally:
        client.close()


def lucene_is_missing():
    try:
        jvm.find_jar()
        jvm.find_java()
    except MissingExtraError as err:
        return str(err)
    return "" if find_spec("jnius") else "pyjnius is not installed"


@pytest.mark.skipif(bool(lucene_is_missing()), reason=lucene_is_missing() or "-")
def test_anserini_gives_our_scores_from_our_export(index, exports, tmp_path):
    from tests.integration.adapters.test_pyserini import index_with_anserini

    (tmp_path / "in").mkdir()
    (file,) = [one for one in exports("anserini").iterdir() if one.name.startswith("documents")]
    (tmp_path / "in" / "docs.jsonl").write_bytes(file.read_bytes())
    index_with_anserini(tmp_path / "in", tmp_path / "lucene", "-impact", "-pretokenized", "-storeRaw")
    rng = random.Random(5)
    with LuceneIndex.open(tmp_path / "lucene") as guest:
        assert len(guest) == len(index)
        for _ in range(20):
            terms = rng.sample([term for query in QUERIES for term in weights_of(index, query)], 5)
            query = {term: float(rng.randint(1, 9)) for term in terms}
            found = dict(guest.search(query, 1000).pairs())
            assert found == impact_sums(file, query)
        for query in QUERIES:
            scale = export_facts(exports("anserini"))["scale"]
            weights = {term: weight * scale for term, weight in weights_of(index, query).items()}
            agree(guest.search(weights, 10).pairs(), by_definition(index, query, 10))


def impact_sums(file, query):
    """docno to the sum of weight x impact, in whole numbers."""
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    sums = {one["id"]: sum(int(w) * one["vector"].get(t, 0) for t, w in query.items()) for one in records}
    return {docno: float(score) for docno, score in sums.items() if score}


def export_facts(folder):
    return json.loads((folder / "manifest.json").read_text())["facts"]


def test_what_an_engine_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    build_index(tmp_path / "index", [Passage("d" * 600, "some words"), Passage("e", "words " * 12_000)], "bm25")
    for name in ("elasticsearch", "opensearch"):
        with pytest.raises(InputError, match="more than 512 bytes"):
            export_index(tmp_path / "index", tmp_path / "out", format=name)
    with pytest.raises(InputError, match=r"passage 'e' has 7\d,\d+ bytes"):
        export_index(tmp_path / "index", tmp_path / "out", format="milvus")
    assert not (tmp_path / "out").exists()
    for name in ("opensearch:x", "vespa:x", "qdrant:x"):
        with pytest.raises(ConfigError, match="argument"):
            FORMATS.make(name)


def test_only_engines_are_asked(index, exports):
    with pytest.raises(InputError, match="takes no requests"):
        next(search_requests(index, exports("npz"), ["a query"]))


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("x.qdrant.json", '{"points": [{"vector": {"terms": {"indices": [1, 1], "values": [1, 2]}}}]}', "twice"),
        ("x.qdrant.json", '{"points": [{"id": 1, "vector": {"terms": {"indices": [-1], "values": [1]}}}]}', "index -1"),
        ("x.qdrant.json", '{"points": [{"id": 1, "vector": {"terms": {"indices": [1], "values": []}}}]}', "one length"),
        ("x.qdrant.json", '{"points": [7]}', "the point is 7"),
        ("x.qdrant.json", '{"points": {}}', "a list 'points'"),
        ("x.qdrant.json", "[" * 100_000, "not JSON"),
        ("x.qdrant.json", '{"points": [{"id": 1, "vector": {"terms": {"5": -1}}}]}', "weight -1"),
        ("x.milvus.json", '{"rows": [{"docno": "a", "terms": {"x": 1}}]}', "'x' is not a whole number"),
        ("x.milvus.json", '{"rows": [{"docno": "a b", "terms": {}}]}', "white space"),
        ("x.milvus.json", '{"rows": [{"docno": "a", "terms": {"4000000000": 1}}]}', "not named"),
        ("x.es.ndjson", '{"index": {"_id": "a"}}', "cut short"),
        ("x.es.ndjson", '{"delete": {"_id": "a"}}', "expected an action"),
        ("x.es.ndjson", '{"index": {"_id": "a"}}\n{"terms": {"t": "x"}}', "weight 'x'"),
        ("x.opensearch.ndjson", '{"index": {"_id": "a"}}\n{"terms": 7}', "must be an object"),
        ("x.vespa.jsonl", '{"remove": "id:a:b::c"}', "expected {'put'"),
        ("x.vespa.jsonl", '{"put": "id:a:b::c", "fields": {"terms": {"cells": {"t": 1e400}}}}', "weight"),
        ("x.vespa.jsonl", '{"put": "id:a:b::c", "fields": {"metadata": "{", "terms": {}}}', "not JSON"),
    ],
)  # fmt: skip
def test_damaged_files_are_errors_that_name_them(name, content, problem, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem) as caught:
        list(open_encoded(tmp_path / name))
    assert name in str(caught.value)


def test_files_of_others_need_no_manifest(tmp_path):
    (tmp_path / "a.es.ndjson").write_text('{"create": {"_id": "a"}}\n{"text": "x", "terms": {"u%2Es": 1.5, "z": 0}}\n')
    ((passages, batch),) = open_encoded(tmp_path / "a.es.ndjson")
    assert (passages[0].docno, batch.weights.tolist()) == ("a", [1.5])
    assert open_encoded(tmp_path / "a.es.ndjson").vocabulary == ("u%2Es",)
    (tmp_path / "b.vespa.jsonl").write_text('{"put": "id:n:t::b:1", "fields": {"text": "x", "terms": {"w": 2}}}\n')
    ((passages, _),) = open_encoded(tmp_path / "b.vespa.jsonl")
    assert passages[0].docno == "b:1"


@pytest.mark.parametrize("name", BULK)
@given(st.randoms(use_true_random=False))
def test_changed_bytes_are_errors_or_passages(name, tmp_path_factory, rng):
    golden = regenerate.HERE / regenerate.folder_of(name)
    (file,) = golden.glob("documents*")
    content = bytearray(file.read_bytes())
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(content))
        content[at : at + rng.choice([0, 1, 1, 30])] = rng.choice(
            [b"", b'"', b"}", b"9", b"null", b"\xff", b"[[", b"-"]
        )
    broken = tmp_path_factory.getbasetemp() / f"broken{Path(file).name.removeprefix('documents-00000')}"
    broken.write_bytes(content)
    try:
        assert all(len(passages) == len(batch) for passages, batch in open_encoded(broken, format=name))
    except ThresherError as err:
        assert broken.name in str(err)
