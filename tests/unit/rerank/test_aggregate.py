"""Aggregators against what they are defined to be, against brute force, and against other people's code."""

import random
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import ConfigError, InputError
from thresher.rerank.aggregate import AGGREGATORS, aggregate, bradley_terry, wins
from thresher.rerank.aggregate.likelihood import from_first_stage
from thresher.rerank.aggregate.shares import PRIOR, borda_counts
from thresher.rerank.plans.designs import blocks
from thresher.rerank.plans.plan import Answer, Order
from training.rerank.simulated import Simulation

SOME = {"n": st.integers(2, 12), "count": st.integers(0, 6), "seed": st.integers(0, 2**20)}


def made(n, count, seed):
    """Answers about some of n passages, with ties and appended positions."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        size = rng.randint(1, min(n, 5))
        items = rng.sample(range(n), size)
        tiers, start = [], 0
        while start < size:
            width = rng.choice((1, 1, 1, 2))
            tiers.append(tuple(items[start : start + width]))
            start += width
        found.append(Answer(tuple(tiers), named=rng.choice((-1, size - 1, 0))))
    return found


def games_of(answer):
    """(winner, loser, 1) or (one, other, 0.5) twice: each game of an answer, counted one by one."""
    tier = {item: t for t, items in enumerate(answer.tiers) for item in items}
    for i, a in enumerate(answer.order):
        for j, b in enumerate(answer.order):
            if i != j and not (i >= answer.named and j >= answer.named) and tier[a] <= tier[b]:
                yield a, b, 0.5 if tier[a] == tier[b] else 1.0


def noisy(n, seed, *, block=20, replicas=4, noise=1.0):
    """Utilities, and the answers of an independently erring judge to blocks of n passages."""
    rng = random.Random(seed)
    utilities = [float(rng.choice((0, 0, 0, 1, 2, 3))) for _ in range(n)]
    judge = Simulation(noise=noise).judging(utilities, rng)
    return utilities, [judge(Order(shown)) for shown in blocks(n, block, replicas, rng)]


@given(**SOME)
def test_wins_are_counted_game_by_game(n, count, seed):
    answers = made(n, count, seed)
    expected = np.zeros((n, n))
    for answer in answers:
        for a, b, share in games_of(answer):
            expected[a, b] += share
    assert np.array_equal(wins(n, [None, *answers]), expected)


@pytest.mark.parametrize("name", AGGREGATORS)
@given(**SOME)
def test_scores_do_not_depend_on_arrival_and_move_with_the_names(name, n, count, seed):
    """The same answers in another order score the same, and passages renamed take their scores with them."""
    answers = made(n, count, seed)
    rng = random.Random(seed)
    scores = aggregate(name, n, answers).scores
    assert np.isfinite(scores).all()
    again = aggregate(name, n, rng.sample(answers, len(answers))).scores
    assert np.array_equal(scores, again)
    if name != "elo":  # its orders are those of the sorted answers, so other names play in another order
        new = rng.sample(range(n), n)
        renamed = [
            Answer(tuple(tuple(new[item] for item in tier) for tier in one.tiers), named=one.named) for one in answers
        ]
        assert aggregate(name, n, renamed).scores[new] == pytest.approx(scores, abs=1e-7)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_agreement_is_kept_and_whoever_met_nobody_is_average(name):
    order = (3, 1, 4, 0, 2)
    found = aggregate(name, 6, [Answer(tuple((item,) for item in order))] * 3)
    assert sorted(range(5), key=lambda item: -found.scores[item]) == list(order)
    average = {"win-rate": 0.5, "borda": 0.5, "copeland": 0.5, "elo": 1500.0}.get(name)
    if average is not None or name in ("bradley-terry", "rank-centrality"):
        assert found.scores[5] == pytest.approx(average or 0.0)
    if found.errors is not None:
        assert np.isinf(found.errors[5])
        assert np.isfinite(found.errors[:5]).all()


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_without_answers_all_are_equal(name, n):
    for answers in ([], [None], [Answer(((0,),), 0.5)] if n else [None]):
        scores = aggregate(name, n, answers).scores
        assert scores.shape == (n,)
        assert len(set(scores.tolist())) <= 1


@given(penalty=st.sampled_from([0.1, 1.0]), first_stage=st.sampled_from([0.0, 0.5, 2.0]), **SOME)
def test_bradley_terry_is_at_its_maximum(n, count, seed, penalty, first_stage):
    """The gradient of the penalised log-likelihood is zero, on any data, unbeaten passages included."""
    table = wins(n, made(n, count, seed))
    theta = bradley_terry(table, penalty, from_first_stage(n, first_stage))
    p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    believed = -first_stage * np.log(np.arange(n) + 1)
    gradient = (table - (table + table.T) * p).sum(axis=1) - penalty * (theta - believed + believed.mean())
    assert np.abs(gradient).max() < 1e-7
    assert abs(theta.sum()) < 1e-6


def test_the_first_stage_orders_what_was_not_compared_and_breaks_what_is_even():
    answers = [Answer(((3,), (4,))), Answer(((4,), (3,)))]
    scores = aggregate("bradley-terry", 6, answers, first_stage=1.0).scores
    assert scores.tolist() == sorted(scores, reverse=True)
    assert scores[3] - scores[4] < aggregate("bradley-terry", 6, [], first_stage=1.0).scores[[3, 4]] @ [1, -1]
    assert aggregate("bradley-terry", 6, answers * 30, first_stage=1.0).scores[3] > scores[4]


@given(**SOME)
def test_counts_are_what_they_are_by_hand(n, count, seed):
    answers = made(n, count, seed)
    table = wins(n, answers)
    for item in range(n):
        won, lost = table[item].sum(), table[:, item].sum()
        assert aggregate("win-rate", n, answers).scores[item] == pytest.approx(
            won / (won + lost) if won + lost else 0.5
        )
        met = [other for other in range(n) if table[item, other] + table[other, item] > 0]
        points = sum(0.5 + 0.5 * np.sign(table[item, other] - table[other, item]) for other in met)
        assert aggregate("copeland", n, answers).scores[item] == pytest.approx(points / len(met) if met else 0.5)
        shares = []
        for answer in answers:
            if item in answer.order and len(answer.order) > 1:
                others = len(answer.order) - 1
                above = sum(share for a, b, share in games_of(answer) if a == item)
                played = sum(1 for a, b, _ in games_of(answer) if a == item) + sum(
                    1 for a, b, share in games_of(answer) if b == item and share == 1.0
                )
                shares.append((above + (others - played) / 2) / others)
        assert aggregate("borda", n, answers).scores[item] == pytest.approx(np.mean(shares) if shares else 0.5)


def test_borda_of_a_group_is_about_the_group():
    assert borda_counts((0, 1, 2), [Answer(((2,), (0,), (1,)))]) == {2: 1.0, 0: 0.5, 1: 0.0}
    assert borda_counts((7, 1, 2), [Answer(((2, 7), (1,)))]) == {2: 0.75, 7: 0.75, 1: 0.0}
    assert borda_counts((0, 1, 2), [Answer(((2,), (0,), (1,)), named=1)]) == {2: 1.0, 0: 0.25, 1: 0.25}


@given(**SOME)
def test_pagerank_is_the_fixed_point_of_its_walk(n, count, seed):
    table = wins(n, made(n, count, seed))
    steps = np.full((n, n), 1 / n)
    for item in range(n):
        if table[:, item].sum():
            steps[item] = table[:, item] / table[:, item].sum()
    time = np.linalg.solve(np.eye(n) - 0.85 * steps.T, np.full(n, 0.15))
    assert aggregate("pagerank", n, made(n, count, seed)).scores == pytest.approx(time, abs=1e-8)


@given(**SOME)
def test_rank_centrality_is_stationary_in_each_connected_part(n, count, seed):
    """Paired right: the step from i to j follows from the wins of j over i, whatever their numbers."""
    table = wins(n, made(n, count, seed))
    met = (table + table.T) > 0
    most = max(met.sum(axis=1).max(), 1)
    steps = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if met[i, j]:
                steps[i, j] = (table[j, i] + 1) / (table[i, j] + table[j, i] + 2) / most
        steps[i, i] = 1 - steps[i].sum()
    time = np.exp(aggregate("rank-centrality", n, made(n, count, seed)).scores) / n
    assert time @ steps == pytest.approx(time, abs=1e-8)
    reach = np.linalg.matrix_power(steps + np.eye(n), n) > 0
    assert [time[row].sum() for row in reach] == pytest.approx([row.sum() / n for row in reach])


def test_elo_of_one_answer_is_its_formula():
    """With a single answer there is one order to play: 1500 + step times the surplus at even odds."""
    scores = aggregate("elo", 4, [Answer(((2,), (0, 1)))], step=10.0).scores
    assert scores == pytest.approx([1495.0, 1495.0, 1510.0, 1500.0])


def test_elo_is_the_mean_over_all_orders():
    """With three answers the mean over random orders approaches that over the six there are."""
    answers = [Answer(((0,), (1,), (2,))), Answer(((2,), (0,))), Answer(((1,), (3,), (0,)))]
    total = np.zeros(4)
    for order in permutations(answers):
        ratings = np.full(4, 1500.0)
        for answer in order:
            before = ratings.copy()
            for a, b, share in games_of(answer):
                assert share == 1.0
                expected = 1 / (1 + 10 ** ((before[b] - before[a]) / 400))
                ratings[a] += 8 * (1 - expected)
                ratings[b] -= 8 * (1 - expected)
        total += ratings / 6
    assert aggregate("elo", 4, answers, shuffles=4000).scores == pytest.approx(total, abs=0.02)


@pytest.mark.parametrize("name", ["win-rate", "borda", "bradley-terry"])
def test_errors_are_as_large_as_what_changes_when_all_is_asked_again(name):
    """Over judges that answer anew, the spread of a score is what its error says; that games of one answer hang
    together is what makes it larger than the games alone would say."""
    rng = random.Random(5)
    utilities = [float(rng.choice((0, 0, 0, 1, 2, 3))) for _ in range(60)]
    asked = [Order(shown) for shown in blocks(60, 15, 4, rng)]
    judge = Simulation(noise=1.0).judging(utilities, rng)
    found = [aggregate(name, 60, [judge(one) for one in asked]) for _ in range(60)]
    spread = np.std([one.scores for one in found], axis=0, ddof=1)
    stated = np.sqrt(np.mean([one.errors**2 for one in found], axis=0))
    assert 0.85 < np.sqrt((stated**2).mean() / (spread**2).mean()) < 1.15


def test_errors_without_a_second_answer_are_those_of_a_ranking_at_random():
    answers = [Answer(((0,), (1,), (2,))), Answer(((3,), (4,)))]
    assert aggregate("win-rate", 6, answers).errors is None
    assert aggregate("borda", 6, answers).errors is None
    errors = aggregate("bradley-terry", 6, answers).errors
    assert np.isfinite(errors[:5]).all()
    assert (errors[:5] > 0).all()
    assert np.isinf(errors[5])


def test_a_passage_with_few_answers_takes_the_common_variance():
    """Smyth's moderated variance by hand: two passages, shares 1, 0 and 0, 1, and one passage with one answer."""
    answers = [Answer(((0,), (1,))), Answer(((1,), (0,))), Answer(((2,), (0,), (1,)))]
    found = aggregate("borda", 3, answers)
    shares = {0: [1, 0, 0.5], 1: [0, 1, 0], 2: [1]}
    squares = {item: sum((x - np.mean(of)) ** 2 for x in of) for item, of in shares.items()}
    pooled = sum(squares.values()) / 4
    expected = [
        np.sqrt((PRIOR * pooled + squares[item]) / (PRIOR + len(of) - 1) / len(of)) for item, of in shares.items()
    ]
    assert found.errors == pytest.approx(expected)


def test_refusals_name_what_is_wrong():
    with pytest.raises(ConfigError, match="no aggregation 'mean'; choose from"):
        aggregate("mean", 3, [])
    with pytest.raises(ConfigError, match="'borda' has no setting 'penalty'"):
        aggregate("borda", 3, [], penalty=1.0)
    with pytest.raises(InputError, match="penalty must be"):
        aggregate("bradley-terry", 3, [], penalty=0.0)
    with pytest.raises(InputError, match=r"positions \(0, 3\); each must be from 0 to 2"):
        aggregate("elo", 3, [Answer(((0,), (3,)))])
    with pytest.raises(InputError, match=r"positions \(1, 1\)"):
        wins(3, [Answer(((1,), (1,)))])


def test_pagerank_is_networkx():
    networkx = pytest.importorskip("networkx", reason="the oracle of PageRank is not installed")
    _, answers = noisy(40, 1, block=10)
    table = wins(40, answers)
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(40))
    graph.add_weighted_edges_from((b, a, table[a, b]) for a in range(40) for b in range(40) if table[a, b])
    theirs = networkx.pagerank(graph, alpha=0.85, tol=1e-14, max_iter=1000)
    assert aggregate("pagerank", 40, answers).scores / 40 == pytest.approx([theirs[i] for i in range(40)], abs=1e-9)


def test_bradley_terry_is_choix():
    choix = pytest.importorskip("choix", reason="the oracle of regularised Bradley-Terry is not installed")
    _, answers = noisy(30, 2, block=10)
    pairs = [(a, b) for answer in answers for a, b, _ in games_of(answer)]
    theirs = choix.opt_pairwise(30, pairs, alpha=0.05, tol=1e-12)  # its penalty is alpha |theta|^2
    ours = aggregate("bradley-terry", 30, answers).scores
    assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-4)


def test_rank_centrality_is_choix():
    choix = pytest.importorskip("choix", reason="the oracle of rank centrality is not installed")
    _, answers = noisy(30, 3, block=15, replicas=6)
    table = wins(30, answers)
    pairs = [
        (a, b) for a in range(30) for b in range(30) for _ in range(int(table[a, b]) + 1) if table[a, b] + table[b, a]
    ]
    theirs = choix.rank_centrality(30, pairs)
    ours = aggregate("rank-centrality", 30, answers).scores
    assert ours - ours.mean() == pytest.approx(theirs - theirs.mean(), abs=1e-6)
