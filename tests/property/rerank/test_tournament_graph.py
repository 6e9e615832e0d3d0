"""The tournament graph asks nothing it knows, ties what is in a cycle, and ends under every judge."""

import random
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from thresher.rerank.plans.plan import Answer, drive
from thresher.rerank.plans.tournament_graph import TournamentGraph
from training.rerank.simulated import perfect


def shuffled(n, seed):
    return [float(value) for value in random.Random(seed).sample(range(n), n)]


def closure(n, pairs):
    """Known relations, by repeated squaring of nothing cleverer than a triple loop."""
    known = [[False] * n for _ in range(n)]
    for a, b in pairs:
        known[a][b] = True
    for via in range(n):
        for a in range(n):
            if known[a][via]:
                for b in range(n):
                    known[a][b] = known[a][b] or known[via][b]
    return known


def test_a_hundred_candidates_take_as_many_calls_as_published_and_less_depth():
    spent = [drive(TournamentGraph(20), 100, perfect(shuffled(100, seed)))[1] for seed in range(20)]
    assert {one.calls for one in spent} == {6, 7}
    assert max(one.depth for one in spent) == 3
    small = [drive(TournamentGraph(10), 100, perfect(shuffled(100, seed)))[1].calls for seed in range(20)]
    assert 12 <= sum(small) / 20 <= 15
    assert TournamentGraph(20).bound(100, 10).calls == 15


@given(n=st.integers(2, 25), k=st.integers(1, 25), size=st.integers(2, 8), seed=st.integers(0, 2**20))
def test_every_match_holds_a_pair_that_does_not_follow_from_earlier_answers(n, k, size, seed):
    """Also under a judge that answers at random, which makes cycles; the placement is what the answers say."""
    rng = random.Random(seed)
    pairs = []

    def judge(ask):
        known = closure(n, pairs)
        assert any(not known[a][b] and not known[b][a] for a, b in combinations(ask.items, 2))
        order = rng.sample(ask.items, len(ask.items))
        batch.extend(combinations(order, 2))
        return Answer(tuple((item,) for item in order))

    batch: list[tuple[int, int]] = []
    plan = TournamentGraph(size)
    steps = plan.run(n, k, random.Random(0))
    try:
        asks = next(steps)
        while True:
            batch.clear()
            answers = [judge(ask) for ask in asks]
            pairs.extend(batch)
            asks = steps.send(answers)
    except StopIteration as done:
        placement = done.value
    known = closure(n, pairs)
    tier_of = {item: number for number, tier in enumerate(placement.tiers) for item in tier}
    for a, b in combinations(range(n), 2):
        assert (tier_of[a] == tier_of[b]) == (known[a][b] and known[b][a])
        if known[a][b] and not known[b][a]:
            assert tier_of[a] < tier_of[b]


def test_a_cycle_is_a_tie_with_the_best_record_first():
    answers = {(0, 1): (0, 1), (1, 2): (1, 2), (0, 2): (2, 0)}
    plan = TournamentGraph(2)
    steps = plan.run(3, 3, random.Random(0))
    asks = next(steps)
    try:
        while True:
            asks = steps.send([Answer(tuple((item,) for item in answers[ask.items])) for ask in asks])
    except StopIteration as done:
        assert len(done.value.tiers) == 3  # two matches make a chain, so the third is not played
    tied, spent = drive(TournamentGraph(20), 5, lambda ask: Answer(((3,), (4, 1), (0, 2))))
    assert tied.tiers == ((3,), (1, 4), (0, 2))
    assert spent.calls == 1


def test_passages_that_repair_appended_are_not_ordered():
    ranking, spent = drive(TournamentGraph(4), 4, lambda ask: Answer(((3,), (0,), (2,), (1,)), named=1))
    assert ranking.order == (3, 0, 1, 2)
    assert spent.calls == 1


def test_lost_answers_are_asked_again_in_another_order_and_then_given_up():
    asked = []

    def silent(ask):
        asked.append(ask.items)

    ranking, spent = drive(TournamentGraph(20), 40, silent)
    assert ranking.order == tuple(range(40))
    assert (spent.calls, spent.depth) == (6, 3)
    assert sorted(asked[0]) == sorted(asked[2]) == sorted(asked[4])
    assert len(set(asked)) == 6
    utilities = shuffled(100, 5)
    truth, calls = perfect(utilities), []

    def forgetful(ask):
        calls.append(ask)
        return truth(ask) if len(calls) % 3 else None

    found, spent = drive(TournamentGraph(20), 100, forgetful)
    assert spent.calls <= TournamentGraph(20).bound(100, 10).calls
    assert [utilities[item] for item in found.order[:10]] == sorted(utilities, reverse=True)[:10]
