"""SlideGAR against what it must be: the calls of a sliding window, and the best of all that it compared."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.rerank.plans import plan_from_name
from thresher.rerank.plans.listwise import SlidingWindow
from thresher.rerank.plans.plan import Answer, drive
from thresher.rerank.plans.slidegar import SlideGar
from training.rerank.simulated import perfect

PASSAGES = 400


class Corpus:
    """Passages with random utilities and neighbours, of which the first n are candidates; it records what is asked."""

    def __init__(self, n, seed, degree=12):
        self.rng = random.Random(seed)
        self.utilities = [self.rng.random() for _ in range(PASSAGES)]
        self.candidates = self.rng.sample(range(PASSAGES), n)
        self.near = [self.rng.sample(range(PASSAGES), degree) for _ in range(PASSAGES)]
        self.compared: set[int] = set()
        self.expanded: list[tuple[int, ...]] = []

    def neighbours(self, wanted, n):
        assert n == len(self.candidates)
        assert set(wanted.items) <= wanted.known <= self.compared
        self.expanded.append(tuple(self.candidates[item] for item in wanted.items))
        known = {self.candidates[item] for item in wanted.known}
        listed = [one for item in wanted.items for one in self.near[self.candidates[item]]]
        found = [one for one in dict.fromkeys(listed) if one not in known][: wanted.count]
        self.candidates += [one for one in found if one not in self.candidates]
        return [self.candidates.index(one) for one in found]

    def judge(self, comparison):
        self.compared.update(comparison.items)
        items = comparison.items
        assert len(set(items)) == len(items)
        return perfect([self.utilities[one] for one in self.candidates])(comparison)


@st.composite
def plans(draw, aggregation="last-window"):
    window = draw(st.integers(2, 24))
    pool = draw(st.none() | st.integers(window, 130))
    explore = draw(st.none() | st.integers(1, 12))
    return SlideGar(window, draw(st.integers(1, window - 1)), pool, explore, aggregation)


@given(plan=plans(), n=st.integers(0, 120), seed=st.integers(0, 2**20))
def test_it_finds_the_best_of_what_it_compared_in_the_calls_of_a_sliding_window(plan, n, seed):
    corpus = Corpus(n, seed)
    ranking, spent = drive(plan, n, corpus.judge, neighbours=corpus.neighbours)
    assert sorted(ranking.order) == list(range(len(corpus.candidates)))
    pool = plan.pool or n
    assert spent.calls == spent.depth <= plan.bound(n, 10).calls
    assert plan.bound(n, 10).calls == SlidingWindow(plan.window, plan.stride).bound(n and pool, 10).calls * (n > 1)
    assert len(corpus.compared) <= max(pool + plan.stride - 1, plan.window)
    best = sorted(corpus.compared, key=lambda item: -corpus.utilities[corpus.candidates[item]])
    promised = plan.window - plan.stride
    assert list(ranking.order[: min(promised, len(best))]) == best[:promised]


@given(plan=plans("posterior"), n=st.integers(2, 60), seed=st.integers(0, 2**20), data=st.data())
def test_it_survives_every_judge_and_stop_with_neighbours(plan, n, seed, data):
    corpus = Corpus(n, seed)
    lie = Corpus(n, seed + 1).rng
    kinds = {
        "lying": lambda ask: Answer(tuple((item,) for item in lie.sample(ask.items, len(ask.items)))),
        "tying": lambda ask: Answer((ask.items,)),
        "silent": lambda ask: None,
        "fitful": lambda ask: None if lie.random() < 0.5 else corpus.judge(ask),
    }
    kind = data.draw(st.sampled_from(sorted(kinds)))
    limit = data.draw(st.none() | st.integers(0, 10))

    def judge(ask):
        corpus.compared.update(ask.items)
        return kinds[kind](ask)

    ranking, spent = drive(plan, n, judge, max_calls=limit, neighbours=corpus.neighbours)
    assert sorted(ranking.order) == list(range(len(corpus.candidates)))
    assert spent.calls <= plan.bound(n, 10).calls
    assert limit is None or spent.calls <= limit
    if kind == "silent":
        assert ranking.order == tuple(range(len(corpus.candidates)))


@given(n=st.integers(2, 120), seed=st.integers(0, 2**20), plan=plans())
def test_without_neighbours_the_first_ranks_are_exact_as_promised(n, seed, plan):
    utilities = random.Random(seed).sample(range(n), n)
    ranking, _ = drive(plan, n, perfect(utilities))
    promised = plan.exact_top(n, 10)
    assert [utilities[item] for item in ranking.order[:promised]] == sorted(utilities, reverse=True)[:promised]


def test_neighbours_of_the_best_are_compared_in_the_second_window():
    """The published order of windows: the first stage, neighbours, the first stage, ..."""
    corpus = Corpus(40, 3)
    shown = []

    def judge(ask):
        shown.append({corpus.candidates[item] for item in ask.items})
        return corpus.judge(ask)

    first_stage = list(corpus.candidates)
    drive(SlideGar(8, 4, explore=None, aggregation="last-window"), 40, judge, neighbours=corpus.neighbours)
    best = sorted(first_stage[:8], key=lambda one: -corpus.utilities[one])[:4]
    assert corpus.expanded[0] == tuple(best)
    assert shown[0] == set(first_stage[:8])
    nearest = list(dict.fromkeys(near for one in best for near in corpus.near[one]))
    nearest = [one for one in nearest if one not in first_stage[:8]][:4]
    assert shown[1] == {*best, *nearest}
    rest = [one for one in first_stage[8:] if one not in nearest]
    assert len(shown[2] & set(rest[:4])) == 4
    assert len(corpus.expanded) == 4  # after windows 1, 3, 5 and 7; the ninth is the last


@pytest.mark.parametrize(
    "bad", ["window=1", "stride=20", "pool=19", "explore=0", "aggregation=none", "spread=0", "slope=-1"]
)
def test_settings_are_checked(bad):
    with pytest.raises(InputError, match=bad.partition("=")[0]):
        plan_from_name(f"slidegar:{bad}")


@pytest.mark.parametrize("plan", [SlideGar(), SlideGar(10, 5, 40, None, "last-window"), SlideGar(aggregation="borda")])
def test_a_name_makes_the_same_plan_again(plan):
    assert plan_from_name(plan.name) == plan
