"""Policies: what goes, in which order, and what may never go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import ConfigError, InputError
from thresher.prune.decision import REASONS, TIER_DROPPED, TIER_ONE, TIER_TWO, read_decision, write_decision
from thresher.prune.plan import report
from thresher.prune.policy import Policy, costs_by_words, decide, parse_budget
from thresher.quality.junk import JunkRules

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


def names(n):
    return [f"d{i}" for i in range(n)]


@given(SCORES, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_keeps_all_that_a_smaller_one_kept(scores, a, b):
    low, high = sorted((a, b))
    scores = np.array(scores, np.float64)
    small = decide(Policy(keep=low), names(len(scores)), scores).kept
    large = decide(Policy(keep=high), names(len(scores)), scores).kept
    assert small.sum() == round(low * len(scores))
    assert not (small & ~large).any()
    if small.any() and not small.all():
        assert scores[small].min() >= scores[~small].max()


@given(SCORES, st.randoms(use_true_random=False))
def test_what_goes_does_not_depend_on_the_order_of_the_corpus(scores, random):
    docnos = names(len(scores))
    order = list(range(len(scores)))
    random.shuffle(order)
    kept = decide(Policy(keep=0.5), docnos, np.array(scores, np.float64)).kept
    shuffled = decide(Policy(keep=0.5), [docnos[i] for i in order], np.array(scores, np.float64)[order]).kept
    assert {docnos[i] for i in np.flatnonzero(kept)} == {docnos[order[i]] for i in np.flatnonzero(shuffled)}


@given(SCORES, st.floats(0, 1), st.integers(0, 3), st.data())
def test_no_group_falls_below_the_floor(scores, keep, floor, data):
    n = len(scores)
    groups = data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    decision = decide(Policy(keep=keep, floor=floor), names(n), np.array(scores, np.float64), groups=groups)
    for group in set(groups):
        rows = np.array([g == group for g in groups])
        assert decision.kept[rows].sum() >= min(floor, rows.sum())
    needed = sum(min(floor, groups.count(g)) for g in set(groups))
    assert decision.kept.sum() == max(round(keep * n), needed)


@given(SCORES, st.lists(st.floats(0, 5), min_size=30, max_size=30), st.floats(0, 60))
def test_a_budget_is_never_exceeded_and_goes_to_the_best(scores, costs, budget):
    scores, costs = np.array(scores, np.float64), np.array(costs[: len(scores)])
    kept = decide(Policy(budget=budget), names(len(scores)), scores, costs=costs).kept
    assert costs[kept].sum() <= budget + 1e-9
    if kept.any() and not kept.all():
        assert scores[kept].min() >= scores[~kept].max()


def test_pins_stay_and_count():
    decision = decide(Policy(keep=0.5, pins=frozenset(["d0"])), names(4), np.array([0.0, 1, 2, 3]))
    assert decision.kept.tolist() == [True, False, False, True]
    assert REASONS[decision.reasons[0]] == "pinned"
    with pytest.raises(InputError, match="'d9' is not in the corpus"):
        decide(Policy(pins=frozenset(["d9"])), names(4), np.zeros(4))


def test_junk_goes_before_anything_good_does():
    texts = ["A fine sentence about wheat.", "<<<>>> ---", "Another one about the wind.", "A third, about rain."]
    decision = decide(Policy(keep=0.75, junk=JunkRules()), names(4), np.array([0.0, 9, 1, 2]), texts=texts)
    assert decision.kept.tolist() == [True, False, True, True]
    assert decision.junk == {1: "empty"}
    assert decision.tiers[1] == TIER_TWO


@pytest.mark.parametrize(("rest", "drop_junk", "tier"), [
    ("tier-2", False, TIER_TWO), ("tier-2", True, TIER_DROPPED), ("drop", False, TIER_DROPPED),
])  # fmt: skip
def test_junk_can_be_found_again_unless_it_is_to_be_dropped(rest, drop_junk, tier):
    texts = ["A fine sentence about wheat.", "<<<>>> ---"]
    policy = Policy(junk=JunkRules(), rest=rest, drop_junk=drop_junk)
    assert decide(policy, names(2), np.array([0.0, 9]), texts=texts).tiers.tolist() == [TIER_ONE, tier]


def test_duplicates_are_folded_to_the_best_scored_with_a_pointer():
    texts = ["Wheat, wheat!", "wheat WHEAT", "something else", "wheat wheat"]
    decision = decide(Policy(fold=True, similarity=None), names(4), np.array([0.0, 2, 1, 1]), texts=texts)
    assert decision.kept.tolist() == [False, True, True, False]
    assert decision.canonical.tolist() == [1, 1, 2, 1]
    assert decision.counts()["duplicate"] == 2


def test_a_document_whose_passages_are_all_duplicates_keeps_one_for_its_floor():
    texts = ["wheat", "rain", "wheat", "rain"]
    decision = decide(
        Policy(fold=True, similarity=None, floor=1),
        names(4),
        np.array([3.0, 2, 1, 0]),
        texts=texts,
        groups=list("aabb"),
    )
    assert decision.kept.tolist() == [True, True, True, False]


def test_a_pinned_duplicate_is_not_folded_and_stands_for_the_others():
    texts = ["wheat", "wheat"]
    decision = decide(
        Policy(fold=True, similarity=None, pins=frozenset(["d1"])), names(2), np.array([9.0, 0]), texts=texts
    )
    assert decision.canonical.tolist() == [1, 1]
    assert decision.kept.tolist() == [False, True]


def test_the_rest_goes_to_the_second_tier_or_nowhere():
    scores = np.array([0.0, 1.0])
    assert decide(Policy(threshold=0.5), names(2), scores).tiers.tolist() == [TIER_TWO, TIER_ONE]
    assert decide(Policy(threshold=0.5, rest="drop"), names(2), scores).tiers.tolist() == [TIER_DROPPED, TIER_ONE]
    assert decide(Policy(threshold=1.0), names(2), scores).kept.tolist() == [False, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 1.5}, "keep is 1.5"),
        ({"keep": 0.5, "threshold": 1.0}, "one of keep"),
        ({"budget": -1.0}, "budget is -1.0"),
        ({"threshold": float("nan")}, "threshold must be a number, got nan"),
        ({"floor": -1}, "floor is -1"),
        ({"rest": "bin"}, "'bin'"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises((ConfigError, InputError), match=message):
        Policy(**settings)


def test_what_a_policy_needs_must_be_given():
    for policy, message in [
        (Policy(floor=1), "floor needs the group"),
        (Policy(budget=1.0), "budget needs the cost"),
        (Policy(junk=JunkRules()), "give their texts"),
    ]:
        with pytest.raises(ConfigError, match=message):
            decide(policy, names(2), np.zeros(2))
    with pytest.raises(InputError, match="2 finite scores"):
        decide(Policy(), names(2), np.array([0.0, np.nan]))


def test_budgets_are_read_in_bytes_and_time():
    assert parse_budget("2 GB") == (2e9, "bytes")
    assert parse_budget("1.5GiB") == (1.5 * 2**30, "bytes")
    assert parse_budget("3 hours") == (10800.0, "seconds")
    assert parse_budget("90 min") == (5400.0, "seconds")
    for wrong in ("2", "GB", "2 parsecs", "", "-1 GB"):
        with pytest.raises(ConfigError, match="number and a unit"):
            parse_budget(wrong)
    assert costs_by_words(["a b", ""], 100.0, 50).tolist() == [4.0, 2.0]
    with pytest.raises(ConfigError, match="rate"):
        costs_by_words(["a"], 1.0, 0)


def test_a_decision_comes_back_from_disk(tmp_path):
    texts = ["wheat", "wheat", "---", "rain"]
    policy = Policy(keep=0.5, fold=True, similarity=None, junk=JunkRules())
    decision = decide(policy, names(4), np.array([1.0, 2, 3, 0]), texts=texts)
    write_decision(tmp_path / "p", decision, names(4), corpus_fingerprint="f", estimator="e", policy={"keep": 0.5})
    again, docnos = read_decision(tmp_path / "p", corpus="f")
    assert docnos == names(4)
    for field in ("tiers", "reasons", "canonical"):
        np.testing.assert_array_equal(getattr(again, field), getattr(decision, field))
    assert again.junk == decision.junk


def test_the_report_counts_everything_once_and_shows_what_goes():
    texts = ["A sentence about wheat.", "Wheat a sentence about", "<<<>>>", "A word about rain."]
    scores = np.array([3.0, 0.0, 1.0, 2.0])
    decision = decide(Policy(keep=0.5, junk=JunkRules()), names(4), scores, texts=texts)
    shown = report(decision, names(4), scores, texts)
    assert shown.kept.sum() == 2
    assert shown.pruned.sum() == 2
    assert shown.junk == {"empty": 1}
    assert {e.docno for e in shown.examples} == {"d1", "d2"}
    assert shown.counts["words"] == 12
