"""HybRank: similarities of an index, features, training, the judge, and the commands."""

import json
import random

import numpy as np
import pytest
from typer.testing import CliRunner

from thresher import build_index
from thresher.build.recipe import Recipe
from thresher.cli import app
from thresher.cli.hybrank import hybrank
from thresher.cli.rerank import rerank
from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.evaluate.trec import read_run
from thresher.ranking import Ranking, Run
from thresher.records import Passage, Qrels, Query
from thresher.rerank import Reranker
from thresher.rerank.hybrank import HybRank, HybRankJudge, feature_names, features
from thresher.rerank.hybrank_training import train_hybrank
from thresher.rerank.plans import plan_from_name
from thresher.rerank.similarities import IndexSimilarities, Similarities
from thresher.search import Index

TOPICS = ("wheat", "barley", "millet", "sorghum", "spelt", "oats", "rye", "maize")


class Vectors:
    """A dense encoder: which topic's words a text has, and a constant."""

    name, dimensions, fingerprint = "topics", len(TOPICS) + 1, "topics-1"

    def encode_passages(self, texts):
        rows = np.array(
            [[text.count(f"{topic}x") + text.count(topic) for topic in TOPICS] + [1] for text in texts], float
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    encode_queries = encode_passages


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Passages of eight topics that share words by topic, in an index; queries whose runs mix two topics."""
    random_ = random.Random(3)
    words = {topic: [f"{topic}x{i}" for i in range(12)] for topic in TOPICS}
    passages, about = [], {}
    for i in range(120):
        topic = TOPICS[i % len(TOPICS)]
        about[f"d{i}"] = topic
        common = " ".join(random_.choices(["field", "grain", "harvest", "seed"], k=6))
        passages.append(Passage(f"d{i}", f"{common} {' '.join(random_.choices(words[topic], k=8))}"))
    path = tmp_path_factory.mktemp("hybrank") / "index"
    build_index(path, passages, Recipe.model_validate({"encode": {"encoder": "bm25"}}), progress=False)
    queries, grades, rankings = [], {}, {}
    for n in range(60):
        topic, other = random_.sample(TOPICS, 2)
        qid = f"q{n}"
        queries.append(Query(qid, f"grain {random_.choice(words[topic])} {random_.choice(words[topic])}"))
        relevant = [docno for docno, its in about.items() if its == topic]
        mixed = random_.sample(relevant, 10) + random_.sample([d for d, its in about.items() if its == other], 10)
        random_.shuffle(mixed)
        grades[qid] = dict.fromkeys(relevant, 1)
        rankings[qid] = Ranking(mixed)
    return path, queries, Qrels(grades), Run(rankings)


@pytest.fixture(scope="module")
def model(collection):
    path, queries, qrels, run = collection
    return train_hybrank(run, queries, qrels, path)


def test_similarities_are_those_of_a_search_and_of_unit_rows(collection):
    path, queries, _, run = collection
    index, query = Index.open(path), queries[0]
    docnos = run[query.qid].docnos
    (one,) = IndexSimilarities(index).of(query, docnos, ["terms"])
    found = dict(index.search(query, k=len(index)).pairs())
    assert one.query.tolist() == pytest.approx([found.get(docno, 0.0) for docno in docnos])
    assert np.allclose(one.passages, one.passages.T)
    assert np.allclose(np.diag(one.passages), 1, atol=1e-5)
    terms, weights = index.terms(index.passage(docnos[0]).contents)
    others, theirs = index.terms(index.passage(docnos[1]).contents)
    both = dict(zip(others.tolist(), theirs.tolist(), strict=True))
    dot = sum(w * both.get(t, 0.0) for t, w in zip(terms.tolist(), weights.tolist(), strict=True))
    assert one.passages[0, 1] == pytest.approx(dot / np.linalg.norm(weights) / np.linalg.norm(theirs), abs=1e-5)


def test_an_index_with_vectors_has_two_retrievers(tmp_path):
    texts = ["wheat in a field", "barley and wheat", "rye"]
    recipe = Recipe.model_validate({"encode": {"encoder": "bm25"}, "vectors": {"encoder": "topics"}})
    build_index(
        tmp_path / "i", [Passage(f"d{i}", t) for i, t in enumerate(texts)], recipe, dense=Vectors(), progress=False
    )
    index = Index.open(tmp_path / "i")
    index.dense_encoder = Vectors()
    similarities = IndexSimilarities(index)
    assert similarities.retrievers == ("terms", "vectors")
    vectors = Vectors().encode_passages(texts)
    _, one = similarities.of(Query("q", "wheat"), ["d2", "d0", "d1"], similarities.retrievers)
    wanted = vectors[[2, 0, 1]]
    assert np.allclose(one.passages, wanted @ wanted.T, atol=0.02)
    assert np.allclose(one.query, wanted @ Vectors().encode_queries(["wheat"])[0], atol=0.02)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 60])
def test_features_are_finite_for_any_list_and_know_no_scale(n):
    generator = np.random.default_rng(n)
    vectors = generator.normal(size=(n, 4))
    one = Similarities(generator.normal(size=n), vectors @ vectors.T)
    scores = np.sort(generator.normal(size=n))[::-1]
    rows = features(scores, [one, one])
    assert rows.shape == (n, len(feature_names(["a", "b"])))
    assert np.isfinite(rows).all()
    if n > 1:
        scaled = features(3 * scores + 5, [Similarities(7 * one.query, one.passages), one])
        assert np.allclose(scaled[:, 3], rows[:, 3], atol=1e-4)
        assert np.allclose(scaled[:, :3], rows[:, :3], atol=1e-4)


def test_a_mean_to_anchors_leaves_a_candidate_itself_out():
    passages = np.array([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]])
    rows = features(np.array([3.0, 2.0, 1.0]), [Similarities(np.zeros(3), passages)])
    means = np.array([0.3, 0.4, 0.5])
    assert np.allclose(
        rows[:, feature_names(["t"]).index("t: mean to 3 anchors")], (means - means.mean()) / means.std(), atol=1e-4
    )


def test_training_learns_that_relevant_passages_are_alike_and_repeats_itself(collection, model):
    path, queries, qrels, run = collection
    assert model.about["ndcg_cut_10"] > model.about["ndcg_cut_10_before"] + 0.1
    again = train_hybrank(run, queries, qrels, path)
    for one, other in zip(model.layers, again.layers, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_saved_model_rates_the_same_and_damage_is_named(collection, model, tmp_path):
    path, queries, _, run = collection
    model.save(tmp_path / "model")
    with (
        Reranker(HybRankJudge(model, index=path)) as one,
        Reranker.from_name(f"hybrank:{tmp_path / 'model'}", index=path) as other,
    ):
        assert one.plan.name == "pointwise"
        first, second = one.rank_batch(run, queries), other.rank_batch(run, queries)
    assert {q: r.docnos for q, r in first.items()} == {q: r.docnos for q, r in second.items()}
    assert sum(r.docnos != run[q].docnos for q, r in first.items()) > 50
    assert first["q0"].usage.calls == 0
    with np.load(tmp_path / "model" / "weights.npz") as held:
        arrays = dict(held)
    size = (tmp_path / "model" / "weights.npz").stat().st_size
    np.savez(tmp_path / "model" / "weights.npz", **{**arrays, "a0": arrays["a0"].T.copy()})
    assert (tmp_path / "model" / "weights.npz").stat().st_size == size
    with pytest.raises(DamagedArtifactError, match=r"weights\.npz"):
        HybRank.open(tmp_path / "model")


def test_what_does_not_go_together_is_said(collection, model):
    path, queries, qrels, run = collection
    with pytest.raises(ConfigError, match="give it as index"):
        HybRankJudge(model)
    with pytest.raises(ConfigError, match="vectors"):
        HybRankJudge(HybRank(("vectors",), (), {}), index=path)._similarities.of(queries[0], ["d1"], ["vectors"])
    with Reranker(HybRankJudge(model, index=path)) as reranker, pytest.raises(InputError, match="'stray' is not in"):
        reranker.rank(queries[0], Ranking(["d1", "stray"]))
    with (
        Reranker(HybRankJudge(model, index=path), plan_from_name("sliding")) as reranker,
        pytest.raises(InputError, match="pointwise"),
    ):
        reranker.rank(queries[0], run["q0"])
    with pytest.raises(InputError, match="no query of the run has a relevant"):
        train_hybrank(run, queries, Qrels({"q0": {"elsewhere": 1}}), path)
    with pytest.raises(InputError, match="too few"):
        train_hybrank(Run({"q0": run["q0"]}), queries, qrels, path)


def test_the_commands_train_and_rerank(collection, tmp_path):
    path, queries, qrels, run = collection
    (tmp_path / "queries.tsv").write_text("".join(f"{q.qid}\t{q.text}\n" for q in queries))
    (tmp_path / "qrels").write_text(
        "".join(f"{q} 0 {d} {g}\n" for q, of in qrels.judgments.items() for d, g in of.items())
    )
    (tmp_path / "run").write_text(
        "".join(f"{q} Q0 {d} {n} {s} first\n" for q, r in run.items() for n, (d, s) in enumerate(r.pairs(), 1))
    )
    for name, command in (("hybrank", hybrank), ("rerank", rerank)):
        if name not in [registered.name for registered in app.registered_commands]:
            app.command(name)(command)
    asked = [str(tmp_path / "run"), "--queries", str(tmp_path / "queries.tsv"), "--qrels", str(tmp_path / "qrels"),
             "--index", str(path), "--json"]  # fmt: skip
    result = CliRunner().invoke(app, ["hybrank", *asked, "-o", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["queries"] == 60 - json.loads(result.stdout)["held_out"]
    result = CliRunner().invoke(
        app, ["rerank", *asked, "--model", f"hybrank:{tmp_path / 'model'}", "-o", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["ndcg_cut_10"] > shown["ndcg_cut_10_before"]
    assert read_run(tmp_path / "out").keys() == run.keys()
