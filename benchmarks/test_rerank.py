"""What plans themselves cost: a hundred candidates ranked by a judge that answers at once."""

import pytest

from thresher.rerank import Answer, Prefer, Rate, drive, parse_plan

CANDIDATES = 100


def oracle(ask):
    """Candidate n is more relevant than candidate n + 1 when n is even, and less when it is odd."""
    order = sorted(ask.items, key=lambda item: item ^ 1)
    score = {Prefer: float(order[0] == ask.items[0]), Rate: float(CANDIDATES - (ask.items[0] ^ 1))}.get(type(ask))
    return Answer(tuple((item,) for item in order), score=score)


@pytest.mark.parametrize("plan", ["pointwise", "pairwise-heap", "setwise-heap", "sliding", "jointrank"])
def test_plan(benchmark, plan):
    ranking, calls, _ = benchmark(drive, parse_plan(plan), CANDIDATES, oracle, k=10)
    assert calls > 0
    assert sorted(ranking.order) == list(range(CANDIDATES))
