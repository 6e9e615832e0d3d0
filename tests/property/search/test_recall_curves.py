"""Curves of recall: the cheapest level that keeps a promise, its order, and the file."""

import itertools
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thresher.search.effort import EXACT, Effort
from thresher.search.recall import Level, Promise, RecallCurve, cheapest
from thresher.search.recall_fit import lower_bound, path_of

SHARES = st.floats(0, 1)
EFFORTS = st.builds(
    Effort,
    terms=st.none() | st.integers(1, 40),
    candidates=st.integers(0, 9),
    blocks=st.sampled_from([0.5, 1.0]),
    superblocks=st.none() | st.integers(1, 9),
    postings=st.none() | st.sampled_from([0.1, 0.55]),
)


@st.composite
def curves(draw):
    longest = tuple(sorted(draw(st.sets(st.integers(1, 50), max_size=3))))
    kinds = len(longest) + 1

    def levels():
        costs = sorted(draw(st.lists(st.floats(0.001, 10), min_size=1, max_size=6, unique=True)), reverse=True)
        yield Level(1.0, 1.0, costs[0], (EXACT,) * kinds, (1.0,) * kinds)
        for ms in costs[1:]:
            efforts, recalls = ([draw(each) for _ in range(kinds)] for each in (EFFORTS, SHARES))
            yield Level(draw(SHARES), draw(SHARES), ms, tuple(efforts), tuple(recalls))

    ks = sorted(draw(st.sets(st.integers(1, 1000), min_size=1, max_size=3)))
    return RecallCurve(longest, {k: tuple(levels()) for k in ks}, 9, "x", 99, {"added": 3})


@given(curves(), SHARES)
def test_the_cheapest_level_is_chosen_of_those_whose_bound_and_all_dearer_ones_keep_the_promise(curve, recall):
    for levels in curve.levels.values():
        keeping = [one for i, one in enumerate(levels) if all(dearer.bound >= recall for dearer in levels[: i + 1])]
        level, cheaper, share = cheapest(levels, recall)
        assert level is min(keeping, key=lambda one: one.ms)
        if cheaper is None:
            assert level is levels[-1]
            assert share == 0
        else:
            assert cheaper is levels[levels.index(level) + 1]
            assert 0 <= share <= 1
            assert (1 - share) * level.bound + share * cheaper.bound >= recall - 1e-9


@given(curves(), SHARES, SHARES)
def test_a_higher_promise_never_costs_less(curve, one, other):
    for k in curve.levels:
        assert curve.at(k, max(one, other)).ms >= curve.at(k, min(one, other)).ms - 1e-9


@given(curves(), st.integers(0, 1001))
def test_a_k_takes_the_curve_of_the_next_larger_one(curve, k):
    larger = [one for one in curve.levels if one >= k]
    wanted = Promise(curve.longest, *cheapest(curve.levels[larger[0]], 0.9)) if larger else None
    assert curve.at(k, 0.9) == wanted


@given(curves())
def test_a_curve_is_read_as_it_was_written(curve):
    assert RecallCurve.from_json(json.loads(json.dumps(curve.as_json(), allow_nan=False))) == curve


TIMES = st.lists(st.tuples(st.floats(0.3, 1), st.floats(0.1, 1)), max_size=4)


@given(st.lists(TIMES, min_size=1, max_size=3))
def test_levels_go_from_exact_search_down_by_the_best_trades(kinds):
    times = [{EXACT: (1.0, 1.0)} | {Effort(terms=i + 1): one for i, one in enumerate(found)} for found in kinds]
    shares = [1 / len(times)] * len(times)
    path = path_of(times, shares)

    def total(settings, at):
        return sum(of[setting][at] for of, setting in zip(times, settings, strict=True))

    assert set(path[0]) == {EXACT}
    for before, after in itertools.pairwise(path):
        assert total(after, 1) < total(before, 1)
        assert total(after, 0) <= total(before, 0)
        assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


@given(st.lists(SHARES, min_size=2, max_size=50))
def test_a_bound_is_below_the_mean_and_nearer_with_more_queries(recalls):
    few, many = (lower_bound(np.array(recalls * times)) for times in (1, 20))
    assert few <= np.mean([*recalls, 0.5]) + 1e-9
    assert few <= many + 0.05
    assert many <= np.mean([*recalls * 20, 0.5]) + 1e-9
