"""The whole cascade with the models that ship: one recipe, one caller or many, little time or all of it."""

import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from thresher.artifact import read_manifest
from thresher.build.recipe import AskStep, EncodeStep, Recipe, VectorsStep
from thresher.build.stream import build_index
from thresher.pipeline import Pipeline
from thresher.prune import PruneStep
from thresher.records import Passage

pytestmark = pytest.mark.models

TEXTS = {
    "wheat": "Threshing separates the grain of wheat from its chaff. It was done with flails on a floor.",
    "mill": "A mill grinds grain into flour. Water or wind turns its stones.",
    "radium": "Marie Curie found radium in 1898. She worked in Paris. Her notebooks are still radioactive.",
    "goldfish": "Goldfish grow to twelve inches in a pond. In a bowl they stay small.",
    "median": "The median of an even number of values is the mean of the two middle ones. It is robust.",
    "tree": "The function copies a directory tree to another place. It keeps permissions where it can.",
    "clock": "A water clock measures time by the flow of water. Some had a float and a dial.",
    "bread": "Bread is baked from flour, water and salt. Yeast makes it rise.",
}


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    pytest.importorskip("torch", reason="needs the models extra")
    pytest.importorskip("tokenizers", reason="needs the models extra")
    folder = tmp_path_factory.mktemp("cascade")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THRESHER_CACHE", str(folder / "cache"))
        passages = [Passage(docno, text) for docno, text in TEXTS.items()]
        recipe = Recipe(
            prune=PruneStep(keep=0.8, junk=False),
            encode=EncodeStep(encoder="thresher-mini"),
            vectors=VectorsStep(),
            ask=AskStep(k=2, read=4, rerank="thresher-context"),
        )
        report = build_index(folder / "index", passages, recipe)
        yield report, Pipeline.open(folder / "index"), folder


def test_one_recipe_builds_tiers_terms_and_vectors_and_says_what_pruning_saved(cascade):
    report, pipeline, folder = cascade
    assert [stage.name for stage in pipeline.stages] == ["search", "interpolate", "rerank", "select"]
    stages = {stage["stage"]: stage["counts"] for stage in read_manifest(folder / "index").fields["usage"]}
    assert {"read", "encode", "store", "index", "vectors", "prune"} <= set(stages)
    assert stages["vectors"]["vectors"] == len(TEXTS) > report.counts["passages"], "both tiers have vectors"
    assert stages["prune"]["encode_seconds_saved"] >= 0


def test_a_query_is_answered_with_the_sentence_that_says_it(cascade):
    _, pipeline, _ = cascade
    answer = pipeline.ask("who found radium?")
    assert answer.errors == {}
    assert answer.ranking.docnos[0] == "radium"
    best = answer.passages[0]
    assert "Marie Curie found radium in 1898." in best.text
    assert set(best.scores) == {"search", "dense", "interpolate", "relevance", "rerank"}
    assert best.confidence is not None
    assert answer.confidence >= best.confidence
    counts = {account.stage: account.counts for account in answer.usage.stages}
    assert counts["rerank"]["forwards"] >= 1
    assert counts["select"]["forwards"] == 0
    json.dumps(answer.as_json(), allow_nan=False)


def test_sixteen_threads_get_the_answers_one_thread_gets(cascade):
    _, pipeline, _ = cascade
    queries = ["who found radium?", "what grinds grain?", "how large do goldfish grow?", "what is a median?"]

    def asked(query):
        answer = pipeline.ask(query)
        return answer.ranking.docnos, [(one.text, dict(one.scores), one.confidence) for one in answer.passages]

    alone = [asked(query) for query in queries]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(asked, queries * 4)) == alone * 4


def test_with_no_time_the_later_stages_are_named_and_the_ranking_is_the_first_one(cascade):
    _, pipeline, _ = cascade
    hurried = pipeline.ask("who found radium?", deadline_ms=0.01)
    assert [stage.outcome for stage in hurried.stages[:3]] == ["done", "skipped", "skipped"]
    assert set(hurried.skipped) >= {"interpolate", "rerank"}
    assert not hurried.exact
    searched = Pipeline.open(pipeline.stages[0].index, vectors=None, rerank=None, context=None)
    assert hurried.ranking == searched.ask("who found radium?").ranking
    assert hurried.passages[0].text == hurried.passages[0].original


def test_a_second_pipeline_takes_the_costs_that_the_first_one_kept(cascade):
    _, pipeline, folder = cascade
    pipeline.cache = folder / "cache"
    pipeline.warm_up()
    again = Pipeline.open(folder / "index", cache=folder / "cache")
    again.warm_up()
    assert again.costs.predict("search") > 0
    assert (folder / "cache" / "costs.json").is_file()
    assert again.ask("what grinds grain?").ranking == pipeline.ask("what grinds grain?").ranking


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_pipeline_opened_before_a_fork_answers_in_the_child(cascade):
    _, pipeline, _ = cascade
    expected = pipeline.ask("who found radium").as_json()["passages"]  # the parent's threads are running by now
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(pipeline.ask("who found radium").as_json()["passages"]))
    child.start()
    child.join(60)
    try:
        assert child.exitcode == 0
        assert [one["docno"] for one in answers.get()] == [one["docno"] for one in expected]
    finally:
        child.kill()
