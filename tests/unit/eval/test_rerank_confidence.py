"""The share of errors that a judge repeats, as chosen from how much more is said than comes true."""

from eval.rerank_confidence import FITTED, PLANS, SHARES, choices, share_there


def excess_until(share, *, after=0.0):
    """One passage too many said to be in under every smaller share."""
    return [1.0 if one < share else after for one in SHARES]


def test_the_smallest_share_under_which_no_more_is_said_than_comes_true_is_a_judges_own():
    curves = {judge: {plan: excess_until(0.9) for plan in PLANS} for judge in FITTED}
    curves["other"] = {PLANS[0]: excess_until(0.1, after=-2.0), PLANS[1]: excess_until(0.0)}
    default, chosen = choices(curves)
    assert default == 0.9
    assert chosen["other"][PLANS[0]] == {"independent": 0.0, "default": 0.9, "own": 0.1}
    assert chosen["other"][PLANS[1]]["own"] == 0.0


def test_the_default_is_that_of_the_fitted_judges_and_plans_together():
    """Three passages too many of one plan weigh as much as three too few of the others."""
    low = excess_until(0.2, after=-1.0)
    curves = {judge: dict.fromkeys(PLANS, low) for judge in FITTED}
    curves[FITTED[0]][PLANS[0]] = [3.0 if share < 0.8 else 4.0 if share < 0.86 else 0.0 for share in SHARES]
    curves["other"] = {plan: excess_until(0.92) for plan in PLANS}
    default, chosen = choices(curves)
    assert default == 0.2
    assert chosen[FITTED[0]][PLANS[0]]["own"] == 0.86


def test_ties_at_the_last_place_share_what_is_left():
    assert share_there([3, 2, 2, 2, 0], 2).tolist() == [1.0, 1 / 3, 1 / 3, 1 / 3, 0.0]
    assert share_there([0, 1], 5).tolist() == [1.0, 1.0]
