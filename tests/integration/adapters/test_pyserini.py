"""`LuceneIndex` over indexes that Anserini makes; skipped where its jar or Java is missing (`scripts/anserini`)."""

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest

from thresher.errors import ArtifactError, DamagedArtifactError, InputError, MissingExtraError, ThresherError
from thresher.evaluate import evaluate
from thresher.integrations import jvm
from thresher.integrations.pyserini import LuceneIndex
from thresher.pipeline import Pipeline
from thresher.pipeline.search import SearchStage
from thresher.records import Qrels, Query

TERMS = [*(f"t{i}" for i in range(40)), "naïve", "c++", "u.s.", "日本"]


def missing():
    """Why no Lucene index can be searched here; empty where it can."""
    try:
        jvm.find_jar()
        jvm.find_java()
    except MissingExtraError as err:
        return str(err)
    return "" if find_spec("jnius") else "pyjnius is not installed"


needs_java = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def index_with_anserini(folder, target, *options, collection="JsonVectorCollection"):
    """Run Anserini's indexer as its documentation says."""
    home, _ = jvm.find_java()
    program = [str(home / "bin" / "java"), "-cp", str(jvm.find_jar()), "io.anserini.index.IndexCollection"]
    more = ["-generator", "DefaultLuceneDocumentGenerator", "-threads", "1", *options]
    arguments = ["-collection", collection, "-input", str(folder), "-index", str(target), *more]
    subprocess.run([*program, *arguments], check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def vectors():
    rng = random.Random(7)
    made = {f"d{i}": {term: rng.randint(1, 255) for term in rng.sample(TERMS, 9)} for i in range(120)}
    made["d-same"] = made["a-same"] = {"t1": 7, "t2": 9}
    return made


@pytest.fixture(scope="module")
def lucene(tmp_path_factory, vectors):
    """The path of an impact index whose documents have titles and texts."""
    folder = tmp_path_factory.mktemp("lucene")
    (folder / "in").mkdir()
    records = [
        {
            "id": docno,
            "title": f"Title of {docno}",
            "contents": f"Radium glows in {docno}.\nIt decays.",
            "vector": vector,
        }
        for docno, vector in vectors.items()
    ]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (folder / "in" / "docs.jsonl").write_text(lines, encoding="utf-8")
    index_with_anserini(folder / "in", folder / "index", "-impact", "-pretokenized", "-storeRaw")
    return folder / "index"


@pytest.fixture(scope="module")
def guest(lucene):
    with LuceneIndex.open(lucene, encoder=lambda text: dict.fromkeys(text.split(), 2.0)) as opened:
        yield opened


def by_definition(vectors, query, k):
    scores = {d: sum(query.get(t, 0) * w for t, w in v.items()) for d, v in vectors.items()}
    best = sorted(((s, d) for d, s in scores.items() if s > 0), key=lambda pair: (-pair[0], pair[1].encode()))
    return [(docno, score) for score, docno in best[:k]]


@needs_java
def test_scores_are_the_sums_of_weight_times_impact_and_ties_go_by_docno(guest, vectors):
    rng = random.Random(3)
    for _ in range(25):
        query = {term: float(rng.randint(1, 30)) for term in rng.sample(TERMS, rng.randint(1, 8))}
        k = rng.choice([1, 10, 1000])
        found = guest.search({**query, "unknown": 3.0, "t0": query.get("t0", 0.0)}, k)
        assert found.pairs() == by_definition(vectors, query, k)
        assert found.exact
    assert [d for d, _ in guest.search({"t1": 1.0, "t2": 1.0}, 1000).pairs() if "same" in d] == ["a-same", "d-same"]


@needs_java
def test_float_weights_are_right_to_float32(guest, vectors):
    query = {"t3": 0.3, "日本": 1.7, "c++": 0.01}
    found, wanted = guest.search(query, 200), by_definition(vectors, query, 200)
    np.testing.assert_allclose(found.scores, [score for _, score in wanted], rtol=1e-6)


@needs_java
def test_a_query_without_known_terms_finds_nothing(guest):
    for query, k in (({"unknown": 1.0}, 10), ({}, 10), ({"t1": 0.0}, 10), ({"t1": 1.0}, 0)):
        assert len(guest.search(query, k)) == 0


@needs_java
def test_more_terms_than_lucene_takes_by_default(guest, vectors):
    query = {**dict.fromkeys(TERMS, 1.0), **{f"other{i}": 1.0 for i in range(2000)}}
    assert guest.search(query, 5).pairs() == by_definition(vectors, dict.fromkeys(TERMS, 1.0), 5)


@needs_java
def test_a_run_is_evaluated(guest):
    queries = [Query(f"q{i}", f"t{i} t{i + 1}") for i in range(8)]
    run = guest.search_batch(queries, 20)
    assert list(run) == [query.qid for query in queries]
    assert dict(guest.search_batch(queries, 20, threads=3)) == dict(run)
    assert run["q0"].pairs() == guest.search({"t0": 2.0, "t1": 2.0}, 20).pairs()
    best = {qid: {ranking.docnos[0]: 1} for qid, ranking in run.items()}
    assert evaluate(run, Qrels(best), ["RR"]).mean["RR"] == 1.0
    assert list(guest.search_batch([{"t1": 1.0}])) == ["0"]


@needs_java
def test_threads_do_not_disturb_one_another(guest, vectors):
    """pyjnius notes the object of a call where every thread finds it; with short turns they would soon mix."""
    queries = [{f"t{i % 40}": 2.0, f"t{(7 * i + 1) % 40}": 3.0} for i in range(300)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda query: guest.search(query, 20).pairs(), queries))
            stored = list(pool.map(lambda i: guest.passages([f"d{i}"])[0].docno, range(120)))
    finally:
        sys.setswitchinterval(before)
    assert found == [by_definition(vectors, query, 20) for query in queries]
    assert stored == [f"d{i}" for i in range(120)]


@needs_java
def test_texts_come_from_what_was_indexed(guest):
    (hit,) = guest.search({"t1": 1.0}, 1)
    assert (hit.title, hit.text) == (f"Title of {hit.docno}", f"Radium glows in {hit.docno}.\nIt decays.")
    assert "d3" in guest and "d300" not in guest and len(guest) == 122
    with pytest.raises(InputError, match="'d300' is not in the Lucene index"):
        guest.passages(["d300"])


@needs_java
def test_a_pipeline_and_a_reranker_take_it(guest, reranker):
    answer = Pipeline([SearchStage(guest, depth=20)], k=3).ask("t5 t6")
    assert [one.docno for one in answer.passages] == guest.search("t5 t6", 3).docnos
    assert answer.passages[0].text.startswith("Radium glows")
    opened = Pipeline.open(guest, rerank=None, context=None, vectors=None)
    assert opened.ask("t5 t6").ranking.docnos[:5] == guest.search("t5 t6", 5).docnos
    run = reranker.rank_batch(guest.search_batch([Query("q", "t5")], 5), [Query("q", "radium")])
    assert sorted(run["q"].docnos) == sorted(guest.search("t5", 5).docnos)


@needs_java
def test_an_index_without_texts_gives_docnos(lucene, tmp_path):
    index_with_anserini(lucene.parent / "in", tmp_path / "bare", "-impact", "-pretokenized")
    with LuceneIndex.open(tmp_path / "bare") as bare:
        found = bare.search({"t1": 1.0}, 3)
        assert not bare.has_texts and not found.has_passages
        with pytest.raises(InputError, match="stores no texts"):
            bare.passages(found.docnos)
        with pytest.raises(InputError, match="encoder="):
            bare.search("a text")


@needs_java
def test_bm25_analyses_texts_as_anserini_does(tmp_path):
    (tmp_path / "in").mkdir()
    texts = {"a": "The radium glows", "b": "Radium was discovered by Marie Curie", "c": "Bread is baked from flour"}
    lines = "".join(json.dumps({"id": docno, "contents": text}) + "\n" for docno, text in texts.items())
    (tmp_path / "in" / "docs.jsonl").write_text(lines)
    index_with_anserini(tmp_path / "in", tmp_path / "index", "-storeContents", collection="JsonCollection")
    with LuceneIndex.open(tmp_path / "index", scoring="bm25") as guest:
        found = guest.search("Who discovered radium's glow?")
        assert found.docnos == ["b", "a"] or found.docnos == ["a", "b"]
        assert found[0].text == texts[found[0].docno]
        assert guest.search({"bake": 1.0}).docnos == ["c"]


@needs_java
@pytest.mark.parametrize(
    "query, problem",
    [
        ({"t1": -1.0}, "weight -1.0"),
        ({"t1": float("nan")}, "weight nan"),
        ({"t1": "x"}, "weight 'x'"),
        ({1: 1.0}, "strings"),
        (7, "a query is"),
    ],
)
def test_queries_that_no_index_takes(guest, query, problem):
    with pytest.raises(InputError, match=problem):
        guest.search(query)


@needs_java
def test_damaged_indexes_are_errors_that_name_them(lucene, tmp_path):
    with pytest.raises(ArtifactError, match="no Lucene index"):
        LuceneIndex.open(tmp_path)
    for damage in ("cut", "garbage", "missing"):
        folder = tmp_path / damage
        folder.mkdir()
        for file in lucene.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (segments,) = folder.glob("segments_*")
        if damage == "missing":
            next(folder.glob("*.cfs"), next(folder.glob("*.si"))).unlink()
        else:
            segments.write_bytes(segments.read_bytes()[:40] if damage == "cut" else b"\0" * 200)
        with pytest.raises(ThresherError, match=str(folder)) as caught:
            LuceneIndex.open(folder)
        assert isinstance(caught.value, ArtifactError | DamagedArtifactError)


def test_without_java_or_the_jar_the_extra_is_named(monkeypatch, tmp_path):
    for name in ("JAVA_HOME", "ANSERINI_CLASSPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(jvm, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"thresher\[pyserini\]"):
        jvm.find_java()
    with pytest.raises(MissingExtraError, match=r"thresher\[pyserini\]"):
        jvm.find_jar()
    old = tmp_path / "old"
    old.mkdir()
    (old / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="17.0.9"\n')
    monkeypatch.setenv("JAVA_HOME", str(old))
    with pytest.raises(MissingExtraError, match=r"Java 17 at .* is too old"):
        jvm.find_java()
    (old / "release").write_text('JAVA_VERSION="21.0.1"\n')
    assert jvm.find_java() == (old, 21)
    (tmp_path / "anserini-0.9.0-fatjar.jar").touch()
    (tmp_path / "anserini-0.39.0-fatjar.jar").touch()
    monkeypatch.setenv("ANSERINI_CLASSPATH", str(tmp_path))
    assert jvm.find_jar().name == "anserini-0.39.0-fatjar.jar"
