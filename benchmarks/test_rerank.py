"""What plans themselves cost: a hundred candidates ranked by a judge that answers at once."""

import pytest

from thresher.rerank import Answer, Prefer, Rate, drive, plan_from_name

CANDIDATES = 100


def oracle(comparison):
    """Candidate n is more relevant than candidate n + 1 when n is even, and less when it is odd."""
    items = comparison.items
    order = sorted(items, key=lambda item: item ^ 1)
    score = {Prefer: float(order[0] == items[0]), Rate: float(CANDIDATES - (items[0] ^ 1))}.get(type(comparison))
    return Answer(tuple((item,) for item in order), score=score)


@pytest.mark.parametrize("plan", ["pointwise", "pairwise-heap", "setwise-heap", "sliding", "jointrank"])
def test_plan(benchmark, plan):
    placement, calls, _ = benchmark(drive, plan_from_name(plan), CANDIDATES, oracle, k=10)
    assert calls > 0
    assert sorted(placement.order) == list(range(CANDIDATES))
