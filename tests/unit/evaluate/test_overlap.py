import itertools
import math

import numpy as np
import pytest

from thresher.errors import InputError
from thresher.evaluate import evaluate
from thresher.evaluate.overlap import expected_loss, rank_biased_overlap, reference_losses
from thresher.ranking import Ranking, Run
from thresher.records import Qrels

FAR = 300


def to_infinity(a, b, p):
    """The overlap of two lists as long as each other, by definition; what is beyond them weighs p ** FAR."""
    assert len(a) == len(b)
    seen, common, total = set(), 0, 0.0
    for d, (x, y) in enumerate(zip(a, b, strict=True), 1):
        common += 1 if x == y else (x in seen) + (y in seen)
        seen |= {x, y}
        total += (1 - p) * p ** (d - 1) * common / d
    return total


def apart(a, b):
    """Both lists made longer with documents that neither has in common with the other."""
    return [*a, *(f"a{n}" for n in range(FAR - len(a)))], [*b, *(f"b{n}" for n in range(FAR - len(b)))]


def alike(a, b):
    """Both lists made longer so that they agree as early as they can: first what only the other has seen."""
    to_a, to_b = [x for x in b if x not in a], [x for x in a if x not in b]
    shared = [f"new{n}" for n in range(FAR)]
    return ([*a, *to_a, *shared][:FAR], [*b, *to_b, *shared][:FAR])


def best_extension(a, b, p):
    """The largest overlap over every extension with the unseen documents, tried out; the tails are shared documents."""
    to_a, to_b = [x for x in b if x not in a], [x for x in a if x not in b]
    tails = [f"new{n}" for n in range(4)]
    best = 0.0
    for left in itertools.permutations([*to_a, *tails[:1]]):
        for right in itertools.permutations([*to_b, *tails[:1]]):
            one, two = [*a, *left], [*b, *right]
            rest = [f"rest{n}" for n in range(40)]
            missing_one = [x for x in two if x not in one]
            missing_two = [x for x in one if x not in two]
            one, two = [*one, *missing_one, *rest][:40], [*two, *missing_two, *rest][:40]
            best = max(best, to_infinity(one, two, p))
    return best


def random_pairs(count, seed=1, longest=7):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        names = [str(n) for n in range(10)]
        yield tuple([names[i] for i in rng.permutation(10)[: rng.integers(0, longest + 1)]] for _ in range(2))


@pytest.mark.parametrize("p", [0.5, 0.9, 0.95])
def test_the_minimum_and_the_residual_are_those_of_the_extremes(p):
    for a, b in random_pairs(60):
        found = rank_biased_overlap(a, b, p=p)
        assert found == rank_biased_overlap(b, a, p=p)
        assert found.minimum == pytest.approx(to_infinity(*apart(a, b), p), abs=1e-5)
        assert found.minimum + found.residual == pytest.approx(to_infinity(*alike(a, b), p), abs=1e-5)
        assert found.minimum - 1e-12 <= found.extrapolated <= found.minimum + found.residual + 1e-12


def test_no_extension_of_short_lists_gives_more_than_the_residual_allows():
    for a, b in random_pairs(25, seed=2, longest=3):
        found = rank_biased_overlap(a, b, p=0.6)
        assert found.minimum + found.residual == pytest.approx(best_extension(a, b, 0.6), abs=1e-8)


def residual_of_the_paper(a, b, p):
    """Equation 30."""
    short, long = sorted((a, b), key=len)
    s, l, x = len(short), len(long), len(set(a) & set(b))  # noqa: E741
    f = l + s - x

    def part(first):
        return sum(p**d / d for d in range(first, f + 1))

    inner = s * part(s + 1) + l * part(l + 1) + x * (math.log(1 / (1 - p)) - part(1))
    return p**s + p**l - p**f - (1 - p) / p * inner


def extrapolation_of_the_paper(a, b, p):
    """Equation 32."""
    short, long = sorted((a, b), key=len)
    s, l = len(short), len(long)  # noqa: E741
    x = [len(set(short[:d]) & set(long[:d])) for d in range(l + 1)]
    first = sum(x[d] / d * p**d for d in range(1, l + 1))
    second = sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * (first + second) + ((x[l] - x[s]) / l + x[s] / s) * p**l


def test_the_values_are_those_of_the_paper():
    compared = 0
    for a, b in random_pairs(80, seed=3):
        if a and b:
            found = rank_biased_overlap(a, b)
            assert found.residual == pytest.approx(residual_of_the_paper(a, b, 0.9), abs=1e-9)
            assert found.extrapolated == pytest.approx(extrapolation_of_the_paper(a, b, 0.9), abs=1e-9)
            compared += 1
    assert compared > 50


def test_equal_and_disjoint_and_empty_rankings():
    names = [str(n) for n in range(10)]
    same = rank_biased_overlap(names, Ranking(names))
    assert same.extrapolated == pytest.approx(1.0)
    assert 1.0 - same.residual == pytest.approx(same.minimum)
    assert rank_biased_overlap(names, ["x", "y"]).extrapolated == 0.0
    assert rank_biased_overlap(names, []).extrapolated == 0.0
    assert rank_biased_overlap(names, []).residual == pytest.approx(1.0)
    assert rank_biased_overlap([], []).extrapolated == 1.0
    cut = rank_biased_overlap(names, names[:4])
    assert cut.extrapolated == pytest.approx(1.0)


def test_a_change_at_the_top_costs_more_than_one_below():
    names = [str(n) for n in range(10)]
    top, bottom = ["x", *names[1:]], [*names[:9], "x"]
    assert rank_biased_overlap(names, top).extrapolated < rank_biased_overlap(names, bottom).extrapolated < 1.0
    graded = Ranking(names, np.linspace(2, 1, 10))
    assert expected_loss(top, graded) > expected_loss(bottom, graded) > 0.0


def test_expected_loss_is_ndcg_lost_with_the_scores_as_grades():
    rng = np.random.default_rng(4)
    for _ in range(40):
        names = [str(n) for n in rng.permutation(30)[: rng.integers(1, 25)]]
        grades = np.sort(rng.integers(1, 40, len(names)))[::-1]
        other = [str(n) for n in rng.permutation(30)[: rng.integers(0, 25)]]
        qrels = Qrels({"q": dict(zip(names, grades.tolist(), strict=True))})
        value = evaluate(Run({"q": Ranking(other)}), qrels, "nDCG@10").mean["nDCG@10"]
        assert expected_loss(other, Ranking(names, grades)) == pytest.approx(1 - value, abs=1e-9)
        assert expected_loss(names, Ranking(names, grades)) == 0.0


def test_expected_loss_does_not_depend_on_the_scale_and_takes_negative_scores():
    names, other = ["a", "b", "c", "d"], ["d", "a", "x"]
    scores = np.array([9.0, 7.0, 4.0, 3.0])
    loss = expected_loss(other, Ranking(names, scores))
    assert expected_loss(other, Ranking(names, scores * 1e6)) == pytest.approx(loss)
    shifted = expected_loss(other, Ranking(names, scores - 10.0))  # gains 6, 4, 1, 0
    discounts = 1 / np.log2(np.arange(2, 6))
    assert shifted == pytest.approx(1 - 6 * discounts[1] / (np.array([6, 4, 1, 0]) @ discounts))
    assert expected_loss(["b", "a"], Ranking(["a", "b"], [-1.0, -1.0])) == 0.0
    assert expected_loss([], Ranking(["a"], [0.0])) == 1.0
    assert expected_loss(["a"], Ranking([])) == 0.0


def test_losses_of_a_run_are_by_query_of_the_reference():
    reference = Run({"1": Ranking(["a", "b"]), "2": Ranking(["a"]), "3": Ranking([])})
    run = Run({"1": Ranking(["a", "b"]), "9": Ranking(["z"])})
    assert reference_losses(run, reference) == pytest.approx({"1": 0.0, "2": 1.0, "3": 0.0})
    assert reference_losses(run, reference, kind="expected") == pytest.approx({"1": 0.0, "2": 1.0, "3": 0.0})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rank_biased_overlap(["a", "b", "a"], []), "docno 'a' comes twice"),
        (lambda: rank_biased_overlap(["a"], [], p=1.0), "p must be between 0 and 1"),
        (lambda: expected_loss(["a"], Ranking(["a"], [math.inf])), "not finite"),
        (lambda: expected_loss(["a"], Ranking(["a"]), k=0), "k must be"),
        (lambda: reference_losses(Run({"7": Ranking(["b", "b"])}), Run({"7": Ranking(["a"])})), "query '7': docno 'b'"),
    ],
)
def test_senseless_arguments_are_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
