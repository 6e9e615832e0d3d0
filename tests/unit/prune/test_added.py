"""Pruning of passages added to an index: frozen thresholds, first come stays, and what is kept of the dropped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.corpus.spool import Spool
from thresher.index.records import content_keys
from thresher.prune.decision import REASONS, TIER_DROPPED, TIER_ONE, TIER_TWO, Decision, write_decision
from thresher.prune.dropped import Dropped, StoredDecision, StoredDecisions
from thresher.prune.frozen import decide_added, junk_of, threshold_of
from thresher.prune.plan import PruneStep
from thresher.prune.policy import Policy, decide
from thresher.records import Passage

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)
TEXTS = [f"number {i} of passages that say something else about grain and chaff {i * 7}" for i in range(30)]


def names(n):
    return [f"d{i}" for i in range(n)]


@given(SCORES, st.floats(0.01, 1))
def test_the_frozen_threshold_keeps_what_the_build_kept(scores, keep):
    scores = np.array(scores, np.float64)
    built = decide(Policy(keep=keep), names(len(scores)), scores)
    step = PruneStep(keep=keep, fold=False, junk=False)
    threshold = threshold_of(step, built, scores)
    added = decide_added(step, threshold, names(len(scores)), TEXTS[: len(scores)], scores, junk={}, live={})
    assert not (built.kept & ~added.kept).any()
    extra = added.kept & ~built.kept  # of equal scores a build keeps as many as fit
    assert (scores[extra] == threshold).all()


def test_a_build_that_keeps_nothing_by_score_freezes_a_threshold_above_all():
    scores = np.array([1.0, 2.0])
    built = decide(Policy(keep=0.5, pins=frozenset(["d0"])), names(2), scores)
    threshold = threshold_of(PruneStep(keep=0.5, pins=("d0",)), built, scores)
    assert threshold is not None
    assert threshold > 2


def test_the_first_of_several_duplicates_stays_whatever_its_score():
    texts = [TEXTS[0], TEXTS[0].upper(), TEXTS[1], "§§§ --- §§§", TEXTS[1]]
    step = PruneStep(threshold=0.0)
    docnos = names(5)
    junk = junk_of(step, docnos, texts)
    assert list(junk) == [3]
    decision = decide_added(step, 0.0, docnos, texts, np.array([0, 9, 1, 1, 9.0]), junk=junk, live={2: "old", 4: "old"})
    assert [REASONS[r] for r in decision.reasons] == ["kept", "duplicate", "duplicate", "junk", "duplicate"]
    assert decision.canonical.tolist() == [0, 0, 2, 3, 4]
    assert decision.tiers.tolist() == [TIER_ONE, TIER_DROPPED, TIER_DROPPED, TIER_TWO, TIER_DROPPED]


def test_a_passage_alone_is_folded_into_one_of_the_index():
    step = PruneStep()
    decision = decide_added(step, None, names(1), TEXTS[:1], np.zeros(1), junk={}, live={0: "old"})
    assert [REASONS[r] for r in decision.reasons] == ["duplicate"]
    nothing = decide_added(step, None, [], [], np.zeros(0), junk={}, live={})
    assert len(nothing) == 0


def test_pins_and_floors_hold_for_added_passages():
    step = PruneStep(threshold=5.0, pins=("d1", "absent"), floor=1, floor_field="source", rest="drop")
    scores, groups = np.array([1.0, 1.0, 2.0, 3.0]), np.array([0, 0, 1, 1])
    decision = decide_added(step, 5.0, names(4), TEXTS[:4], scores, junk={}, live={1: "old"}, groups=groups)
    assert [REASONS[r] for r in decision.reasons] == ["score", "pinned", "score", "floor"]


@pytest.fixture
def stored(tmp_path):
    """A segment's decision over five passages: two tiers, one folded here, one folded elsewhere, one junk."""
    passages = [Passage(f"d{i}", TEXTS[i], f"title {i}", {"n": str(i)}) for i in range(5)]
    spool = Spool(tmp_path / "spool")
    list(spool.fill(passages))
    reasons = np.array([REASONS.index(r) for r in ("kept", "duplicate", "score", "duplicate", "junk")], np.uint8)
    tiers = np.array([TIER_ONE, TIER_DROPPED, TIER_TWO, TIER_DROPPED, TIER_DROPPED], np.uint8)
    decision = Decision(tiers, reasons, np.array([0, 0, 2, 3, 4]), {4: "empty"})
    dropped = Dropped.of(spool, decision, {3: "old"})
    write_decision(
        tmp_path / "pruning", decision, spool.docnos, corpus_fingerprint="", estimator="", policy={}, dropped=dropped
    )
    return tmp_path / "pruning", passages


def test_what_is_kept_of_folded_passages_is_all_of_them(stored):
    path, passages = stored
    decision = StoredDecision(path, (1, 1))
    assert len(decision) == 3
    assert [decision.passage(place) for place in decision.folded] == [passages[1], passages[3]]
    assert decision.representatives() == ["d0", "old"]
    assert decision.contents.tolist() == content_keys([passages[1], passages[3], passages[4]]).tolist()
    assert decision.passage(2) is None


def test_folded_passages_are_found_over_segments_and_forgotten_ones_are_not(stored):
    path, _ = stored
    first = StoredDecision(path, (1, 1), np.array([False, True, False]))
    both = StoredDecisions([StoredDecision(path, (1, 1)), first])
    assert both.aliases("d0") == ("d1", "d1")
    assert both.aliases("old") == ("d3",)
    assert both.aliases("d2") == ()
    assert StoredDecisions([first]).aliases("old") == ()
    assert StoredDecisions([first]).representative("d3") == ""
    assert both.representative("d3") == "old"
    assert both.outcome("d3") == "was folded into its duplicate 'old'"
    assert both.outcome("d4") == "was pruned as junk"
    assert both.outcome("d0") == both.outcome("nowhere") == ""


def test_a_content_key_changes_with_every_field_and_not_with_the_order_of_the_metadata():
    one = Passage("d", "text", "title", {"a": "1", "b": "2"})
    same = Passage("d", "text", "title", {"b": "2", "a": "1"})
    others = [
        Passage("e", "text", "title", one.metadata), Passage("d", "tex", "title", one.metadata),
        Passage("d", "text", "titl", one.metadata), Passage("d", "text", "title"), Passage("d", "title", "text"),
    ]  # fmt: skip
    keys = content_keys([one, same, *others]).tolist()
    assert keys[0] == keys[1]
    assert len({*keys}) == len(keys) - 1
