"""What is certified and what is not: a copy, a loss, fractions, settings, tiers, runs, and what interrupts."""

import numpy as np
import pytest

from tests.unit.certify.conftest import QRELS, QUERIES, TOPICS, passages, recipe
from thresher.build.stream import build_index
from thresher.certify import Certificate, certify
from thresher.certify.certifying import certify_runs
from thresher.certify.claims import AS_IT_IS, FIRST_TIER, REFERENCE, Setting, names_of, prove
from thresher.certify.pipelines import Asked, runs_of
from thresher.certify.wording import brief, sentences
from thresher.errors import ConfigError, InputError
from thresher.evaluate import write_run
from thresher.evaluate.trec import untied
from thresher.quality.estimator import RandomEstimator
from thresher.quality.store import write_scores
from thresher.ranking import Ranking, Run
from thresher.records import Passage, Qrels, Query
from thresher.search import Effort, Index

ALL = ("lexical", "sparse", "reranked", "context")


def without(path, gone):
    """An index of all passages but these."""
    build_index(path, [one for one in passages() if one.docno not in gone], recipe())
    return path


def test_an_index_against_itself_is_certified_on_every_pipeline(whole):
    made = certify(whole, whole, QUERIES, QRELS, margin=0.001)
    assert made.certified
    assert made.pipelines == ALL
    assert {one.difference for one in made.claims} == {0.0}
    assert all(one.setting == AS_IT_IS and one.topics_needed is None for one in made.claims)
    assert (made.n, made.kind) == (TOPICS, "judged")
    share = f"a loss on fewer than {1 - 0.05 ** (1 / TOPICS):.1%} of all may have hit none of these {TOPICS}."
    assert any(one.endswith(share) for one in sentences(made))


def test_losing_every_relevant_passage_of_a_tenth_of_the_topics_is_not_certified(whole, tmp_path):
    gone = {f"{kind}{topic:02}" for topic in range(0, TOPICS, 10) for kind in "rs"}
    made = certify(without(tmp_path / "pruned", gone), whole, QUERIES, QRELS, margin=0.02)
    assert not made.certified
    assert not any(one.proven for one in made.claims)
    sparse = next(one for one in made.claims if one.pipeline == "sparse")
    assert sparse.difference == pytest.approx(-0.1, abs=0.02)
    assert sparse.worse == TOPICS // 10
    assert sparse.topics_needed > TOPICS
    said = sentences(made)
    assert said[0].startswith("Not shown: that ")
    assert not any("hit none of these" in one for one in said)
    (one,) = (one for one in said if one.startswith("sparse, as it is:"))
    assert "something is lost; whether it is less than 0.02 is undecided" in one
    assert f"takes more than {sparse.topics_needed:,} topics. Alone, a margin of " in one


def test_what_was_not_relevant_may_go(whole, tmp_path):
    made = certify(
        without(tmp_path / "pruned", {f"x{topic:02}" for topic in range(0, TOPICS, 3)}), whole, QUERIES, QRELS,
        margin=0.02,
    )  # fmt: skip
    assert made.certified
    assert made.system.passages < made.baseline.passages


@pytest.fixture
def graded(whole, tmp_path):
    """Scores by which noise goes first, then what is nearly relevant."""
    worth = {"x": 0.0, "s": 1.0, "r": 2.0}
    docnos = [one.docno for one in passages()]
    scores = np.array([worth[docno[0]] + int(docno[1:]) / 1000 for docno in docnos], np.float32)
    return write_scores(tmp_path / "scores", docnos, scores, estimator=RandomEstimator(), corpus_fingerprint="unknown")


def test_the_largest_fraction_is_the_last_before_the_first_that_fails(whole, graded):
    made = certify(
        whole, whole, QUERIES, QRELS, margin=0.02, pipelines=["sparse", "reranked"], fractions=[0.5, 0.1, 0.3],
        scores=graded,
    )  # fmt: skip
    assert [(one.fraction, one.proven) for one in made.claims if one.pipeline == "sparse"] == [
        (0.1, True), (0.3, True), (0.5, False)
    ]  # fmt: skip
    assert made.largest("sparse") == 0.3
    assert made.largest("lexical") is None
    assert not made.certified, "the index itself was not tested, and one fraction was not proven"
    assert "statistics of terms stay those of the whole baseline" in made.note
    assert any(one.startswith("sparse: up to 30% of the baseline's passages") for one in sentences(made))
    assert certify(whole, whole, QUERIES, QRELS, margin=0.02, fractions=[0.1], scores=graded.path).certified


def test_a_passage_without_a_score_is_named(whole, tmp_path, graded):
    with Index.open(without(tmp_path / "more", set())) as index, index.writer() as writer:
        writer.add([Passage("new", "topic1")])
    with pytest.raises(InputError, match="docno 'new' has no score"):
        certify(tmp_path / "more", tmp_path / "more", QUERIES, QRELS, margin=0.02, fractions=[0.1], scores=graded)


def test_two_tiers_are_tested_by_the_first_against_both(tmp_path):
    prune = {"estimator": "length", "keep": 0.6, "junk": False, "similarity": None}
    twice = Passage("again", passages()[0].text)
    build_index(tmp_path / "x", [*passages(), twice], recipe(prune=prune))
    made = certify(tmp_path / "x", tmp_path / "x", QUERIES, QRELS, margin=0.02, pipelines=["sparse"])
    (one,) = made.claims
    assert one.setting == FIRST_TIER
    assert "Pruning dropped 1 of the passages (junk, duplicates)" in made.note
    build_index(tmp_path / "y", passages(), recipe())
    both = certify(tmp_path / "x", tmp_path / "y", QUERIES, QRELS, margin=0.02, pipelines=["sparse"])
    assert [(one.setting, one.proven) for one in both.claims] == [(AS_IT_IS, True), (FIRST_TIER, one.proven)]
    said = "The same is certified of" if one.proven else "It is not shown of"
    assert brief(made)[1:] == []
    assert brief(both)[1].startswith(f"{said} its first tier alone")
    with Index.open(tmp_path / "x") as index:
        assert index.tiered
        first = runs_of(index, QUERIES, ["sparse"], 10, tiers="first")["sparse"]
        found = index.search_batch(QUERIES, 10, tiers="first")
        assert {qid: first[qid].docnos for qid in first} == {qid: found[qid].docnos for qid in found}


def test_settings_are_systems_of_their_own_on_the_pipelines_they_change(whole):
    made = certify(
        whole, whole, QUERIES, QRELS, margin=0.05, settings=["terms=1", "blocks=.9", "threshold=strong,read=1"]
    )
    tested = {(one.setting, one.pipeline) for one in made.claims}
    assert tested == {
        *((setting, pipeline) for setting in ("terms=1", "blocks=.9") for pipeline in ("lexical", "sparse")),
        *(("threshold=strong,read=1", pipeline) for pipeline in ("reranked", "context")),
    }
    with Index.open(whole) as index:
        few = index.search_batch(QUERIES, 10, effort=Effort(terms=1))
    by_hand = certify_runs({"few": untied(few)}, _run(whole), QRELS, margin=0.05)
    assert by_hand.claims[0].difference == next(
        one.difference for one in made.claims if (one.setting, one.pipeline) == ("terms=1", "sparse")
    )
    with pytest.raises(
        InputError,
        match="'colour=red' is not a setting NAME=VALUE of one of: terms, candidates, ",
    ):
        certify(whole, whole, QUERIES, QRELS, margin=0.05, settings=["colour=red"])
    with pytest.raises(InputError, match="at least 0 and at most 1; got 7"):
        certify(whole, whole, QUERIES, QRELS, margin=0.05, settings=["blocks=7"])
    with pytest.raises(ConfigError, match="read"):
        certify(whole, whole, QUERIES, QRELS, margin=0.05, settings=["read=none"])
    with pytest.raises(ConfigError, match="read=1 changes none of the pipelines sparse"):
        certify(whole, whole, QUERIES, QRELS, margin=0.05, settings=["read=1"], pipelines=["sparse"])


def _run(path):
    with Index.open(path) as index:
        return untied(index.search_batch(QUERIES, 10))


def test_any_run_can_be_certified(whole, tmp_path):
    write_run(_run(whole), tmp_path / "full.run")
    made = certify_runs(
        {"same": tmp_path / "full.run"}, tmp_path / "full.run", QRELS, margin=0.01, measures="nDCG@10 P@2"
    )
    assert made.certified
    assert [(one.pipeline, one.measure) for one in made.claims] == [("same", "nDCG@10"), ("same", "P@2")]
    worse = Run({qid: Ranking(list(one.docnos)[1:], one.scores[1:]) for qid, one in _run(whole).items()})
    assert not certify_runs({"worse": worse}, tmp_path / "full.run", QRELS, margin=0.01).certified


def test_without_judgments_the_baselines_rankings_count_and_it_is_said_to_be_weaker(whole, tmp_path):
    made = certify(whole, whole, QUERIES, margin=0.02, pipelines=["sparse"])
    assert (made.kind, made.certified, made.measures) == ("reference", True, ("RBO", "kept@10"))
    assert any("It is weaker" in one for one in sentences(made))
    gone = {f"r{topic:02}" for topic in range(0, TOPICS, 2)}
    pruned = certify(without(tmp_path / "pruned", gone), whole, QUERIES, margin=0.02, pipelines=["sparse"])
    assert not pruned.certified
    assert all(one.judged is None and one.difference < -0.02 for one in pruned.claims)
    assert certify(whole, whole, QUERIES, margin=0.02, pipelines=["sparse"], measures="kept@10").measures == (
        "kept@10",
    )


def test_topics_that_can_lose_nothing_are_left_out_and_counted(whole):
    qrels = Qrels({**QRELS.judgments, "q00": {"x00": 0}, "q01": {"r01": 2}})
    made = certify(whole, whole, [*QUERIES, Query("other", "grain")], qrels, margin=0.02, pipelines=["sparse"])
    assert made.n == TOPICS - 1
    assert "Left out, without judgments: 1 of 41 queries." in made.note
    assert "Left out, without a relevant passage: 1 of 40 judged queries." in made.note
    assert certify(whole, whole, QUERIES, qrels, margin=0.02, pipelines=["sparse"], judged=2).n == TOPICS - 2
    with pytest.raises(InputError, match=r"needs two queries or more, and 1 of 1 can be used$"):
        certify(whole, whole, QUERIES[2:3], QRELS, margin=0.02)


def test_an_interrupted_call_asks_only_what_it_had_not_asked(whole, graded, tmp_path, monkeypatch):
    wanted = {"margin": 0.02, "fractions": [0.1, 0.3], "scores": graded, "work": tmp_path / "work"}
    asked = []
    answer = Asked.runs

    def counting(self, pipelines, **options):
        asked.append(list(pipelines))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answer(self, pipelines, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Asked, "runs", counting)
        with pytest.raises(KeyboardInterrupt):
            certify(whole, whole, QUERIES, QRELS, **wanted)
        resumed = certify(whole, whole, QUERIES, QRELS, **wanted)
    assert asked == [list(ALL), list(ALL), list(ALL), [], [], list(ALL)]
    fresh = certify(whole, whole, QUERIES, QRELS, **{**wanted, "work": None})
    assert resumed.claims == fresh.claims


def test_what_cannot_be_asked_is_said(whole):
    with pytest.raises(InputError, match="unknown pipeline 'dense'; known are: lexical, sparse"):
        certify(whole, whole, QUERIES, QRELS, margin=0.02, pipelines=["dense"])
    with pytest.raises(InputError, match=r"the pipeline interpolated cannot be asked of .*: the index has no vectors"):
        certify(whole, whole, QUERIES, QRELS, margin=0.02, pipelines=["interpolated"])
    for wrong, said in ((0, "the margin must be above 0"), (-1, "the margin must be above 0")):
        with pytest.raises(InputError, match=said):
            certify(whole, whole, QUERIES, QRELS, margin=wrong)
    with pytest.raises(InputError, match="a fraction is at least 0 and below 1, got 1"):
        certify(whole, whole, QUERIES, QRELS, margin=0.02, fractions=[1.0], scores="random")


def test_the_arguments_are_kept_so_that_it_can_be_made_again(whole, tmp_path):
    folder = whole.parent
    made = certify(
        whole, whole, folder / "queries.tsv", folder / "qrels.txt", margin=0.03, fractions=[0.1], scores="random"
    )
    assert Certificate.from_json(made.as_json()) == made
    assert certify(whole, **made.settings).claims == made.claims


def test_a_measure_that_needs_judgments_is_not_replaced_where_there_are_none(whole):
    assert names_of("nDCG@10", judged=False) == REFERENCE
    assert names_of("kept@10", judged=False) == ("kept@10",)
    with pytest.raises(InputError, match="R@10: without judgments only RBO and kept@10 can be tested"):
        certify(whole, whole, QUERIES, margin=0.02, measures="RBO R@10")


def test_several_runs_of_one_system_are_averaged_by_topic():
    qrels = Qrels({f"{i}": {"good": 1} for i in range(6)})
    found = Run({qid: Ranking(["good", "bad"], [2.0, 1.0]) for qid in qrels.judgments})
    seeds = [Run({qid: found[qid] for qid in qrels.judgments if int(qid) % 2 == odd}) for odd in (0, 1)]
    (claim,) = prove({Setting("sparse", "random", 0.5): seeds}, found, qrels, "nDCG@10", 0.6)
    assert (claim.n, claim.difference, claim.sd) == (6, -0.5, 0.0)
    assert claim.proven
    single = prove({Setting("sparse"): seeds[0]}, found, qrels, "nDCG@10", 0.6)[0]
    assert (single.difference, single.proven) == (-0.5, False)
