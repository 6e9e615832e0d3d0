"""Every plan keeps its own guarantee under a judge that is always right, for every n from 0 to 120."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.rerank.aggregate import AGGREGATORS
from thresher.rerank.plans import PLANS, plan_from_name
from thresher.rerank.plans.designs import DESIGNS
from thresher.rerank.plans.funnel import Funnel
from thresher.rerank.plans.jointrank import JointRank
from thresher.rerank.plans.listwise import SetwiseHeap, SetwiseInsertion, SinglePass, SlidingWindow
from thresher.rerank.plans.pairwise import AllPairs, PairwiseHeap, PairwiseSliding, Pointwise
from thresher.rerank.plans.partition import TopDown
from thresher.rerank.plans.plan import Answer, Order, drive
from thresher.rerank.plans.pool import ChoicePool
from thresher.rerank.plans.tournament_graph import TournamentGraph
from thresher.rerank.plans.tourrank import TourRank
from training.rerank.simulated import Simulation, perfect

EVERY_N = range(121)


def orders(n: int) -> list[list[float]]:
    """Utilities by first-stage position: already right, reversed, shuffled, nearly right, and few distinct grades."""
    rng = random.Random(n)
    right = [float(n - i) for i in range(n)]
    shuffled = rng.sample(right, n)
    nearly = [value + rng.gauss(0, n / 6) for value in right]
    grades = [float(rng.choice((0, 0, 1, 2, 3))) for _ in range(n)]
    return [right, right[::-1], shuffled, nearly, grades]


SHUFFLING = ("acurank", "funnel", "jointrank", "slidegar", "tourrank")

ORDERS = [orders(n) for n in EVERY_N]


def check(plan, n: int, k: int, utilities: list[float], seed: int = 0) -> None:
    ranking, spent = drive(plan, n, perfect(utilities), k=k, seed=seed)
    assert sorted(ranking.order) == list(range(n))
    bound = plan.bound(n, k)
    assert spent.questions == spent.calls <= bound.calls == bound.questions
    assert spent.depth <= min(spent.questions, bound.depth)
    assert spent.passages <= bound.passages
    if n < 2:
        assert spent.questions == 0
    exact = min(plan.exact_top(n, k), n)
    ideal = sorted(utilities, reverse=True)
    assert [utilities[item] for item in ranking.order[:exact]] == ideal[:exact], (plan.name, n, k)
    if ranking.scores is not None:
        assert len(ranking.scores) == n
        assert all(a >= b for a, b in zip(ranking.scores, ranking.scores[1:], strict=False))


EXACT = [
    Pointwise(),
    AllPairs(),
    PairwiseHeap(),
    PairwiseHeap(both_orders=False),
    PairwiseSliding(),
    PairwiseSliding(passes=3, both_orders=False),
    *(SetwiseHeap(c) for c in range(2, 26)),
    *(SetwiseInsertion(c) for c in range(2, 26)),
    SinglePass(None),
    SinglePass(20),
    *(TopDown(w) for w in (5, 10, 11, 20, 33)),
    *(TournamentGraph(w) for w in (5, 10, 20, 33)),
    ChoicePool(40, 1),
    TourRank(),
    TourRank(window=5, groups=1),
    TourRank(tournaments=2, window=33),
]
VARIANTS = [
    Funnel(),
    Funnel(7, 2, 1, 0),
    Funnel(20, 1, 1, 2, prior=0.0),
    ChoicePool(),
    ChoicePool(7, 1),
    ChoicePool(12, 3, 3, "borda"),
    TopDown(20),
    TopDown(2),
    TopDown(20, buffer=20),
    TournamentGraph(),
    TournamentGraph(3),
    TournamentGraph(2),
    TourRank(),
    TourRank(2, 4, 3),
    AllPairs(both_orders=False),
    AllPairs(aggregation="probabilities"),
    AllPairs(50),
]


@pytest.mark.parametrize("plan", EXACT, ids=lambda plan: plan.name)
def test_a_plan_with_a_promise_keeps_it_at_every_n(plan):
    for n in EVERY_N:
        check(plan, n, 10, ORDERS[n][(n + EXACT.index(plan)) % 5])


@pytest.mark.parametrize("plan", EXACT[::3] + VARIANTS, ids=lambda plan: plan.name)
@settings(max_examples=20)
@given(n=st.integers(0, 120), k=st.integers(1, 130), seed=st.integers(0, 2**20))
def test_a_plan_with_a_promise_keeps_it_for_every_k(plan, n, k, seed):
    rng = random.Random(seed)
    n %= 40 if plan.name.startswith("pairwise-all") else 121
    check(plan, n, k, [float(rng.randrange(1 + n)) for _ in range(n)])


@pytest.mark.parametrize("children", [2, 3, 9, 25])
def test_insertion_is_exact_whether_or_not_the_judge_orders_the_whole_group(children):
    for n in EVERY_N:
        utilities = ORDERS[n][1 + n % 2]
        truth = perfect(utilities)

        def judge(ask, truth=truth):
            return truth(Order(ask.items))

        ranking, spent = drive(SetwiseInsertion(children), n, judge)
        plain, more = drive(SetwiseInsertion(children), n, truth)
        assert ranking.order[:10] == plain.order[:10]
        assert spent.calls <= more.calls <= SetwiseInsertion(children).bound(n, 10).calls


@pytest.mark.parametrize("window", range(2, 31))
def test_a_sliding_pass_makes_the_first_w_minus_s_ranks_exact(window):
    """All strides allowed and all n, aligned with the stride or not."""
    for stride in range(1, window + 1):
        plan = SlidingWindow(window, stride)
        for n in EVERY_N:
            check(plan, n, 10, ORDERS[n][1 + (n + stride) % 3])
        assert plan.bound(window, 10).calls == 1


@given(
    n=st.integers(0, 120), window=st.integers(2, 125), stride=st.integers(1, 125), passes=st.integers(1, 5),
    seed=st.integers(0, 2**20),
)  # fmt: skip
def test_more_passes_make_more_ranks_exact(n, window, stride, passes, seed):
    plan = SlidingWindow(window, min(stride, window), passes)
    utilities = [float(i) for i in range(n)]
    random.Random(seed).shuffle(utilities)
    check(plan, n, 10, utilities)
    assert len(plan.windows(n)) == (0 if n < 2 else 1 if n <= window else 1 + -(-(n - window) // plan.stride))


@given(
    n=st.integers(0, 120), block=st.integers(2, 40), replicas=st.integers(1, 5), windows=st.integers(0, 5),
    rule=st.sampled_from(AGGREGATORS), design=st.sampled_from(DESIGNS), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_blocks_are_within_their_bound_and_exact_where_one_holds_all(n, block, replicas, windows, rule, design, seed):
    plan = JointRank(block, replicas, rule, windows=windows, head=10, design=design, first_stage=seed % 2 / 4)
    assert plan_from_name(plan.name).name == plan.name
    utilities = [float(i) for i in range(n)]
    random.Random(seed).shuffle(utilities)
    check(plan, n, 10, utilities, seed)


@given(
    n=st.integers(0, 120), block=st.integers(2, 40), copies=st.integers(1, 3), middle=st.integers(0, 2),
    windows=st.integers(0, 4), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_a_funnel_spends_what_it_says_and_is_exact_where_one_block_holds_all(n, block, copies, middle, windows, seed):
    plan = Funnel(block, copies, middle, windows)
    assert plan_from_name(plan.name) == plan
    utilities = [float(i) for i in range(n)]
    random.Random(seed).shuffle(utilities)
    check(plan, n, 10, utilities, seed)
    _, spent = drive(plan, n, perfect(utilities), seed=seed)
    assert spent == plan.bound(n, 10)


def test_blocks_of_a_funnel_are_equally_strong_and_shown_in_the_order_so_far():
    steps = Funnel(20, 2, 0, 3).run(100, 10, random.Random(0))
    asked = next(steps)
    assert [ask.items for ask in asked[:5]] == [tuple(range(start, 100, 5)) for start in range(5)]
    for ask in asked:
        assert list(ask.items) == sorted(ask.items)
    assert sorted(item for ask in asked[5:] for item in ask.items) == list(range(100))
    windows = steps.send([perfect([float(i) for i in range(100)])(ask) for ask in asked])
    first = windows[0].items
    assert set(first) > set(range(90, 100))
    for ask in windows[1:]:
        assert sorted(ask.items) == sorted(first)
        assert max(abs(first.index(item) - place) for place, item in enumerate(ask.items)) <= 10
        assert ask.items != first


@pytest.mark.parametrize("name", PLANS.kinds())
def test_every_plan_survives_every_judge(name):
    """Judges that lie, tie, contradict themselves or say nothing: a permutation, within the stated calls."""
    plan = plan_from_name(name)
    rng = random.Random(1)

    def lying(ask):
        items = rng.sample(ask.items, len(ask.items))
        return Answer(tuple((item,) for item in items), score=rng.random())

    judges = [
        lying,
        lambda ask: Answer((ask.items,), score=0.5),
        lambda ask: None,
        lambda ask: lying(ask) if rng.random() < 0.5 else None,
        Simulation(noise=1.0, position_bias=2.0, malformed=0.5).judging([float(i % 4) for i in range(60)], rng),
    ]
    for judge in judges:
        for n in (0, 1, 2, 3, 10, 21, 59):
            ranking, spent = drive(plan, n, judge, k=10)
            assert sorted(ranking.order) == list(range(n))
            bound = plan.bound(n, 10)
            assert spent.calls <= bound.calls
            assert spent.passages <= bound.passages
            assert spent.depth <= bound.depth


@pytest.mark.parametrize("name", PLANS.kinds())
def test_a_judge_that_says_nothing_leaves_the_first_stage_order(name):
    ranking, _ = drive(plan_from_name(name), 37, lambda ask: None)
    assert ranking.order == tuple(range(37))


@pytest.mark.parametrize("name", [name for name in PLANS.kinds() if name.partition("-")[0] not in SHUFFLING])
def test_a_judge_for_whom_all_are_equal_leaves_the_first_stage_order(name):
    ranking, _ = drive(plan_from_name(name), 37, perfect([1.0] * 37))
    settled = 10 if name == "tournament-graph" else 37  # what is out is placed by how many beat it
    assert ranking.order[:settled] == tuple(range(settled))


@pytest.mark.parametrize("name", PLANS.kinds())
@given(limit=st.integers(0, 200), seed=st.integers(0, 1000))
def test_a_stopped_plan_returns_a_ranking_and_asks_no_more(name, limit, seed):
    utilities = [float(i) for i in range(30)]
    random.Random(seed).shuffle(utilities)
    ranking, spent = drive(plan_from_name(name), 30, perfect(utilities), k=5, seed=seed, max_calls=limit)
    assert sorted(ranking.order) == list(range(30))
    assert spent.calls <= limit


@pytest.mark.parametrize("name", [name for name in PLANS.kinds() if name != "single"])
def test_a_larger_budget_buys_a_better_head(name):
    """Averaged over orders, what a stopped plan returns is better than the first stage, and more calls do not harm."""
    plan = plan_from_name(name)
    n = 30
    total = plan.bound(n, 10).calls

    def quality(limit):
        found = 0
        for seed in range(8):
            rng = random.Random(seed)
            utilities = [-i + rng.gauss(0, 20) for i in range(n)]
            ranking, _ = drive(plan, n, perfect(utilities), k=10, seed=seed, max_calls=limit)
            best = set(sorted(range(n), key=lambda item: -utilities[item])[:10])
            found += len(best & set(ranking.order[:10]))
        return found

    assert quality(0) < quality(total)
    assert quality(0) <= quality(total // 2) + 2
    assert quality(total // 2) <= quality(total) + 2


def test_parallel_passes_compare_exactly_what_sequential_passes_compare():
    """The wavefront of the sliding pairwise plan is the textbook double loop, only wider."""
    for n in (2, 3, 7, 20, 41):
        utilities = [float(i * 7919 % 101) for i in range(n)]
        order, compared = list(range(n)), []
        for p in range(min(10, n - 1)):
            for i in range(n - 2, p - 1, -1):
                compared.append((order[i], order[i + 1]))
                if utilities[order[i + 1]] > utilities[order[i]]:
                    order[i], order[i + 1] = order[i + 1], order[i]
        asked: list = []

        truth = perfect(utilities)

        def judge(ask, asked=asked, truth=truth):
            asked.append(ask.items)
            return truth(ask)

        ranking, spent = drive(PairwiseSliding(both_orders=False), n, judge)
        assert sorted(asked) == sorted(compared)
        assert list(ranking.order) == order
        assert spent.depth == n + min(10, n - 1) - 2


def test_ties_in_the_last_window_are_kept():
    ranking, _ = drive(SlidingWindow(4, 2), 4, lambda ask: Answer(((2, 0), (1,), (3,))))
    assert ranking.tiers == ((2, 0), (1,), (3,))


def test_calls_for_a_hundred_candidates_are_what_the_literature_says():
    def calls(plan, utilities):
        return drive(plan, 100, perfect(utilities), k=10)[1].calls

    bm25_like = orders(100)[3]
    assert calls(AllPairs(), bm25_like) == 9900
    assert 2 * 230 <= calls(PairwiseHeap(), bm25_like) <= 2 * 300
    assert calls(PairwiseSliding(), bm25_like) == 1890
    assert calls(SlidingWindow(20, 10), bm25_like) == 9
    assert calls(JointRank(), bm25_like) == 20
    assert 110 <= calls(SetwiseHeap(2), bm25_like) <= 150
    assert 29 <= calls(SetwiseHeap(9), bm25_like) <= 40
    assert calls(AllPairs(head=30, aggregation="probabilities"), bm25_like) == 870
    assert all(isinstance(ask, Order) for ask in next(JointRank().run(100, 10, random.Random(0))))


def test_a_choice_among_hundreds_goes_in_rounds_and_ends_in_one_pool():
    plan = ChoicePool(50, 2, 5)
    utilities = [float(i * 7919 % 1009) for i in range(1000)]
    ranking, spent = drive(plan, 1000, perfect(utilities), k=10, per_call=400)
    assert [utilities[item] for item in ranking.order[:10]] == sorted(utilities, reverse=True)[:10]
    assert sorted(ranking.order) == list(range(1000))
    assert (spent.questions, spent.depth, spent.calls) == (2 * 23 + 2 * 5 + 2, 3, 3)
    assert spent.passages <= plan.bound(1000, 10).passages < 2 * 1500


@pytest.mark.parametrize("n", [2, 37, 250, 300])
def test_a_judge_that_repeats_the_order_shown_leaves_the_first_stage_order(n):
    """Every second time the options are shown in reverse, so a preference for early options cancels."""
    ranking, _ = drive(ChoicePool(), n, lambda ask: Answer(tuple((item,) for item in ask.items)))
    assert ranking.order == tuple(range(n))
