"""A recipe with a [vectors] table: vectors beside the postings, resumed where a build was killed, and asked through."""

import random

import numpy as np
import pytest

from tests.indexes import segment_of
from thresher.artifact import read_manifest, verify
from thresher.build.recipe import AskStep, Recipe, VectorsStep
from thresher.build.stream import build_index
from thresher.pipeline import Pipeline
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.search import Index, calibrate_tiers
from thresher.vectors.store import VectorStore

WORDS = [f"word{i}" for i in range(40)]
RECIPE = Recipe(
    prune=PruneStep(estimator="length", keep=0.8, similarity=None),
    vectors=VectorsStep(storage="float16", sketch=0),
    ask=AskStep(rerank="", context="lexical"),
)


class Counting:
    """A dense encoder that counts what it encodes, and dies when told to."""

    fingerprint = "counting"

    def __init__(self, dies_after=10**9):
        self.encoded, self.dies_after = 0, dies_after

    def encode_passages(self, texts):
        if self.encoded >= self.dies_after:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        rows = [[text.count(word) for word in WORDS] for text in texts]
        vectors = np.array(rows, dtype=np.float32) + 1e-3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_queries = encode_passages


@pytest.fixture(scope="module")
def passages():
    rng = random.Random(0)
    return [Passage(f"d{i}", " ".join(rng.choices(WORDS, k=rng.randint(4, 20))) + f" {i}") for i in range(1400)]


def test_a_killed_build_encodes_only_what_is_missing(tmp_path, passages):
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "index", passages, RECIPE, dense=Counting(dies_after=1))
    assert not (tmp_path / "index").exists()
    second = Counting()
    report = build_index(tmp_path / "index", passages, RECIPE, dense=second)
    assert second.encoded == len(passages) - 1024
    assert [path.name for path in tmp_path.iterdir()] == ["index"], "shards are gone when the index is whole"
    fresh = build_index(tmp_path / "fresh", passages, RECIPE, dense=Counting())
    one, other = (read_manifest(segment_of(r.path) / "vectors").files["codes.npy"] for r in (report, fresh))
    assert one == other


def test_the_index_its_vectors_and_its_settings_are_one_artifact_that_a_pipeline_opens(tmp_path, passages, monkeypatch):
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    report = build_index(tmp_path / "index", passages, RECIPE, dense=Counting())
    verify(tmp_path / "index")
    store = VectorStore.open(segment_of(tmp_path / "index") / "vectors")
    assert len(store) == len(passages) > report.counts["passages"]
    counts = {stage.stage: stage.counts for stage in report.usage.stages}
    assert counts["vectors"]["vectors"] == len(store)
    assert counts["prune"]["postings_saved"] > 0
    assert counts["prune"]["encode_seconds_saved"] >= 0, "an estimate from seconds taken: under a millisecond it is 0"
    assert "bytes_saved" in counts["prune"]
    pipeline = Pipeline.open(tmp_path / "index", query_encoder=Counting())
    assert [stage.name for stage in pipeline.stages] == ["search", "interpolate", "select"]
    answer = pipeline.ask("word1 word2", 20)
    assert answer.errors == {}
    assert {1, 2} == {one.tier for one in answer.passages}
    assert answer.stages[1].counts["forwards"] == 1, "the query alone is encoded"
    assert not answer.stages[1].reason


@pytest.mark.parametrize("told", [True, False])
def test_a_recipe_says_whether_the_second_tier_has_vectors(tmp_path, passages, told):
    recipe = RECIPE.model_copy(update={"vectors": VectorsStep(storage="float16", sketch=0, second_tier=told)})
    build_index(tmp_path / "index", passages[:200], recipe, dense=Counting())
    assert len(VectorStore.open(segment_of(tmp_path / "index") / "vectors")) == (200 if told else 160)


def test_a_budget_of_time_leaves_the_second_tier_without_vectors():
    timed, sized = (Recipe(prune=PruneStep(budget=limit), vectors=VectorsStep()) for limit in ("1 hour", "1 GB"))
    assert not timed.encodes_second_tier
    assert sized.encodes_second_tier


def test_a_calibrated_index_escalates_some_of_a_pipelines_queries(tmp_path, passages):
    queries = [f"word{i} word{(7 * i) % 40}" for i in range(40)]
    step = PruneStep(estimator="length", keep=0.8, similarity=None)
    build_index(tmp_path / "index", passages[:300], Recipe(prune=step))
    calibrate_tiers(Index.open(tmp_path / "index"), queries, 0.3)
    verify(tmp_path / "index")
    pipeline = Pipeline.open(tmp_path / "index", rerank=None, context=None, settings=AskStep(depth=10))
    through = sum(pipeline.ask(query, 10).usage.stages[0].counts.get("escalated", 0) for query in queries)
    assert 0 < through < 40
