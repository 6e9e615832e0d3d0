"""What one command writes, a build reads: encoded passages, decisions, vectors, and weights of other systems."""

import json
import random

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.indexes import segment_of
from thresher import Index, Passage, build_index, open_corpus
from thresher.build.recipe import Recipe, VectorsStep, load_recipe
from thresher.cli.build import build
from thresher.cli.prune import prune
from thresher.encode.bm25 import Bm25Encoder
from thresher.encode.encoded import encode_corpus
from thresher.errors import ArtifactError, ConfigError, InputError
from thresher.prune import PruneStep, read_decision
from thresher.vectors.store import VectorStore

WORDS = [f"word{i}" for i in range(40)]
QUERIES = [f"word{i} word{(i * 7) % 40}" for i in range(0, 40, 3)]


@pytest.fixture(scope="module")
def passages():
    rng = random.Random(0)
    return [Passage(f"d{i}", " ".join(rng.choices(WORDS, k=rng.randint(4, 20))), f"t{i}") for i in range(150)]


@pytest.fixture(scope="module")
def corpus(passages, tmp_path_factory):
    return write(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", passages)


@pytest.fixture(scope="module")
def encoded(passages, tmp_path_factory):
    path = tmp_path_factory.mktemp("encoded") / "encoded"
    encode_corpus(passages, Bm25Encoder.fit([p.contents for p in passages]), path, shard_size=32)
    return path


@pytest.fixture(scope="module")
def plain(corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "index"
    build_index(path, corpus, "bm25")
    return Index.open(path)


def write(path, passages):
    lines = [{"docno": p.docno, "title": p.title, "text": p.text} for p in passages]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def shuffled(passages):
    return random.Random(1).sample(passages, len(passages))


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answers(index, k=200):
    return [[(hit.docno, hit.score) for hit in index.search(query, k=k)] for query in QUERIES]


def test_encoded_passages_become_the_index_that_encoding_in_the_build_gives(corpus, encoded, plain, tmp_path):
    done = run(build, corpus, "-o", tmp_path / "index", "--encoded", encoded)
    assert done.exit_code == 0, done.output
    index = Index.open(tmp_path / "index")
    assert answers(index) == answers(plain)
    assert index.passage("d7") == plain.passage("d7")


def test_a_corpus_in_another_order_gives_each_encoded_passage_its_own_text(passages, encoded, plain, tmp_path):
    build_index(tmp_path / "index", write(tmp_path / "shuffled.jsonl", shuffled(passages)), encoded=encoded)
    index = Index.open(tmp_path / "index")
    assert answers(index) == answers(plain)
    assert [hit.text for hit in index.search("word1")] == [hit.text for hit in plain.search("word1")]


def test_encoded_passages_alone_are_an_index_without_texts(encoded, plain, tmp_path):
    done = run(build, "--encoded", encoded, "-o", tmp_path / "index")
    assert done.exit_code == 0, done.output
    index = Index.open(tmp_path / "index")
    assert answers(index) == answers(plain)
    assert {hit.text for hit in index.search("word1")} == {""}
    with pytest.raises(ConfigError, match="no texts, which pruning reads"):
        build_index(tmp_path / "pruned", None, Recipe(prune=PruneStep(keep=0.5)), encoded=encoded)


def test_a_corpus_that_is_not_the_encoded_one_is_refused_by_docno(passages, encoded, tmp_path):
    with pytest.raises(InputError, match=r"docno 'd149' is not in .*memory"):
        build_index(tmp_path / "index", passages[:-1], encoded=encoded)
    with pytest.raises(InputError, match=r"docno 'new' is not in .*encoded"):
        build_index(tmp_path / "index", [*passages, Passage("new", "word1")], encoded=encoded)
    assert not (tmp_path / "index").exists()


def test_a_written_decision_is_what_a_build_carries_out(corpus, tmp_path):
    done = run(prune, corpus, "--estimator", "length", "--keep", ".5", "--similarity", "0", "-o", tmp_path / "decision")
    assert done.exit_code == 0, done.output
    done = run(build, corpus, "--recipe", "bm25", "-o", tmp_path / "index", "--decision", tmp_path / "decision")
    assert done.exit_code == 0, done.output
    build_index(tmp_path / "same", corpus, Recipe(prune=PruneStep(estimator="length", keep=0.5, similarity=None)))
    index, same = Index.open(tmp_path / "index"), Index.open(tmp_path / "same")
    assert [layout.counts.passages for layout in index.layouts] == [75, 75]
    assert answers(index) == answers(same)
    again, docnos = read_decision(segment_of(tmp_path / "index") / "pruning")
    decision, _ = read_decision(tmp_path / "decision")
    assert (again.tiers == decision.tiers).all()
    assert docnos[0] == "d0"


def test_a_decision_follows_docnos_and_refuses_others(passages, corpus, tmp_path):
    run(prune, corpus, "--estimator", "length", "--keep", ".5", "--similarity", "0", "-o", tmp_path / "decision")
    build_index(tmp_path / "a", corpus, "bm25", decision=tmp_path / "decision")
    build_index(tmp_path / "b", shuffled(passages), "bm25", decision=tmp_path / "decision")
    first = [set(Index.open(tmp_path / name).search("word1", k=99, tiers="first").docnos) for name in "ab"]
    assert first[0] == first[1]
    with pytest.raises(InputError, match="docno 'd149' is not in"):
        build_index(tmp_path / "c", passages[:-1], "bm25", decision=tmp_path / "decision")
    with pytest.raises(ArtifactError):
        build_index(tmp_path / "c", corpus, "bm25", decision=tmp_path / "nothing")


def vectors_of(passages):
    rows = np.array([[p.text.split().count(word) for word in WORDS[:16]] for p in passages], np.float32) + 0.25
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_vectors_encoded_before_are_stored_by_passage_number(passages, corpus, tmp_path, storage):
    mixed = shuffled(passages)
    VectorStore.build(
        tmp_path / "vectors", [vectors_of(mixed)], docnos=[p.docno for p in mixed], storage=storage, sketch=8,
        encoder="print", encoder_name="some-model",
    )  # fmt: skip
    done = run(build, corpus, "--recipe", "bm25", "-o", tmp_path / "index", "--vectors", tmp_path / "vectors")
    assert done.exit_code == 0, done.output
    store = VectorStore.open(segment_of(tmp_path / "index") / "vectors")
    assert (store.encoder_name, store.encoder_fingerprint) == ("some-model", "print")
    assert store.docnos is None
    given = VectorStore.open(tmp_path / "vectors")
    rows, _ = given.rows_of(given.find([p.docno for p in passages]))
    np.testing.assert_allclose(
        store.stored.decode(np.arange(150)), given.stored.decode(rows), atol=0 if storage == "float16" else 1e-6
    )
    with pytest.raises(InputError, match="docno 'new' has no vector"):
        build_index(tmp_path / "other", [*passages, Passage("new", "word1")], "bm25", vectors=tmp_path / "vectors")


def test_vectors_of_both_tiers_are_in_the_order_of_the_passage_numbers(passages, tmp_path):
    VectorStore.build(tmp_path / "vectors", [vectors_of(passages)], docnos=[p.docno for p in passages])
    step = PruneStep(estimator="length", keep=0.5, similarity=None)
    recipe = Recipe(prune=step, vectors=VectorsStep(source=str(tmp_path / "vectors"), second_tier=True, sketch=0))
    build_index(tmp_path / "index", passages, recipe)
    index = Index.open(tmp_path / "index")
    ordered = [passages[int(docno[1:])] for docno in index.docnos_at(np.arange(150))]
    store = VectorStore.open(segment_of(tmp_path / "index") / "vectors")
    np.testing.assert_array_equal(store.stored.decode(np.arange(150)), vectors_of(ordered).astype(np.float16))


def test_given_vectors_of_the_first_tier_alone_are_enough(passages, tmp_path):
    step = PruneStep(estimator="length", keep=0.5, similarity=None)
    build_index(tmp_path / "plain", passages, Recipe(prune=step))
    plain = Index.open(tmp_path / "plain")
    kept = [passages[int(docno[1:])] for docno in plain.docnos_at(np.arange(75))]
    VectorStore.build(tmp_path / "vectors", [vectors_of(kept)], docnos=[p.docno for p in kept])
    build_index(tmp_path / "index", passages, Recipe(prune=step), vectors=tmp_path / "vectors")
    assert len(Index.open(tmp_path / "index").vectors) == 75
    assert len(Index.open(tmp_path / "index")) == 150


def test_recipe_keys_name_the_same_artifacts(corpus, encoded, plain, passages, tmp_path):
    VectorStore.build(tmp_path / "vectors", [vectors_of(passages)], docnos=[p.docno for p in passages])
    run(prune, corpus, "--estimator", "length", "--keep", ".5", "--similarity", "0", "-o", tmp_path / "decision")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[corpus]\nsource = "{corpus}"\n[encode]\nsource = "{encoded}"\n[prune]\ndecision = "{tmp_path}/decision"\n'
        f'[vectors]\nsource = "{tmp_path}/vectors"\n'
    )
    build_index(tmp_path / "index", None, recipe)
    index = Index.open(tmp_path / "index")
    assert len(index) == 150
    assert len(VectorStore.open(segment_of(tmp_path / "index") / "vectors")) == 150
    assert {d for d, _ in answers(index)[0]} == {d for d, _ in answers(plain)[0]}
    assert load_recipe(recipe).encode.source == str(encoded)


@pytest.fixture
def weights(passages, tmp_path):
    file = tmp_path / "weights.jsonl"
    rows = [{"id": p.docno, "contents": p.text, "vector": {w: 1.5 * p.text.split().count(w) for w in p.text.split()}}
            for p in passages]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_weights_of_another_system_are_searched_with_weighted_terms(weights, passages, tmp_path):
    done = run(build, "--encoded", weights, "-o", tmp_path / "index")
    assert done.exit_code == 0, done.output
    index = Index.open(tmp_path / "index")
    wanted = sorted(passages, key=lambda p: (-p.text.split().count("word3"), p.docno.encode()))
    found = index.search({"word3": 1.0}, k=5)
    assert list(found.docnos) == [p.docno for p in wanted[:5]]
    assert found[0].text == wanted[0].text
    with pytest.raises(InputError, match=r"no query encoder .*--query-encoder"):
        index.search("word3")


def test_a_query_encoder_gives_another_systems_weights_their_queries(weights, passages, plain, tmp_path, monkeypatch):
    encoder = Bm25Encoder.fit([p.contents for p in passages])
    monkeypatch.setattr("thresher.build.weights.open_learned", lambda step: encoder)
    build_index(tmp_path / "index", None, Recipe.model_validate({"encode": {"query_encoder": "x"}}), encoded=weights)
    index = Index.open(tmp_path / "index")
    assert list(index.search("Word3 the").docnos) == list(index.search({"word3": 1.0}).docnos) != []
    encoder = Bm25Encoder.fit(["word1 word2"])
    with pytest.raises(InputError, match="not in the vocabulary of the query encoder bm25"):
        build_index(tmp_path / "no", None, Recipe.model_validate({"encode": {"query_encoder": "x"}}), encoded=weights)


def test_there_must_be_something_to_build_from(tmp_path):
    with pytest.raises(ConfigError, match="no corpus to build from"):
        build_index(tmp_path / "index")
    assert not (tmp_path / "index").exists()
    assert isinstance(run(build, "-o", tmp_path / "index").exception, ConfigError)


def test_score_stores_are_read_by_a_build(corpus, tmp_path):
    from thresher.quality.lexical import LexicalEstimator
    from thresher.quality.store import score_corpus, write_scores

    opened = open_corpus(corpus)
    estimator = LexicalEstimator.fit("length", [])
    scored = score_corpus(opened, estimator)
    write_scores(
        tmp_path / "scores", scored.docnos, scored.scores, estimator=estimator, corpus_fingerprint=opened.fingerprint()
    )
    step = PruneStep(scores=str(tmp_path / "scores"), keep=0.5, similarity=None)
    build_index(tmp_path / "a", corpus, Recipe(prune=step))
    build_index(tmp_path / "b", corpus, Recipe(prune=PruneStep(estimator="length", keep=0.5, similarity=None)))
    assert answers(Index.open(tmp_path / "a")) == answers(Index.open(tmp_path / "b"))
