"""How often tests and claims are wrong where nothing is to be found, and how often right where something is.

Writes eval/results/significance.json, from simulated differences and losses of known mean. Rows of kind

    test         no difference in truth; power where the true difference is -.02
    claim        the true difference is -.02, the margin; power where it is -.005
    interval     how often a 95 % interval misses the true mean
    family       any false claim among five, by Holm's method and without it
    sequential   ever claimed in 10,000 looks, with the mean loss at the margin of .02
    queries      queries until 80 % of runs claim, for this and other ways to bet

Nothing here needs data; the distributions are those of differences of nDCG@10 after pruning, see docs/evaluation.md.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, Row, options
from thresher.evaluate.power import first_times, queries_to_notice, queries_to_prove, reached
from thresher.evaluate.resampling import bootstrap_interval, randomisation
from thresher.evaluate.sequential import BETS, MONEY, bet_on_loss, still_to_enter
from thresher.evaluate.significance import equivalence, holm, mean_interval, non_inferiority, paired_t

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Draw = Callable[[np.random.Generator, tuple[int, int], float], NDArray[np.float64]]
    Sample = Callable[[np.random.Generator, int], NDArray[np.float64]]

MARGIN = 0.02
ALPHA = 0.05
TOPICS = (20, 43, 97, 323)
SEED = 20


def normal(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> NDArray[np.float64]:
    """Differences of two systems that differ in every topic."""
    return rng.normal(mean, 0.05, shape)


def mostly_zero(
    rng: np.random.Generator, shape: tuple[int, int], mean: float, *, changed: float, sd: float
) -> NDArray[np.float64]:
    """Differences of which a share is not 0, up and down."""
    return np.where(rng.random(shape) < changed, rng.normal(mean / changed, sd, shape), 0.0)


def losses(rng: np.random.Generator, shape: tuple[int, int], mean: float, *, changed: float) -> NDArray[np.float64]:
    """Differences of which a share is a loss, most of them small and few large."""
    return -np.where(rng.random(shape) < changed, rng.beta(1.0, -changed / mean - 1.0, shape), 0.0)


def rare(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> NDArray[np.float64]:
    """Differences of 0, but for a few topics that lose .5."""
    return np.where(rng.random(shape) < -mean / 0.5, -0.5, 0.0)


AROUND: dict[str, Draw] = {
    "normal, sd .05": normal,
    "60 % zeros, else normal, sd .1": partial(mostly_zero, changed=0.4, sd=0.1),
    "85 % zeros, else normal, sd .1": partial(mostly_zero, changed=0.15, sd=0.1),
    "85 % zeros, else normal, sd .2": partial(mostly_zero, changed=0.15, sd=0.2),
}
"""Distributions that can have any mean."""
DISTRIBUTIONS: dict[str, Draw] = {
    **AROUND,
    "45 % zeros, else losses": partial(losses, changed=0.55),
    "68 % zeros, else losses": partial(losses, changed=0.32),
    "85 % zeros, else losses": partial(losses, changed=0.15),
    "rare losses of .5": rare,
}
"""Those, and losses alone, by what result rows and docs call them."""


def share(test: Callable[[NDArray[np.float64]], bool], draws: NDArray[np.float64]) -> float:
    """The share of draws in which a test finds something."""
    return float(np.mean([test(d) for d in draws]))


def row(kind: str, test: str, distribution: str, n: int, draws: int, rate: float | None, **more: float | None) -> Row:
    """One row; every row has the same fields."""
    error = None if rate is None else math.sqrt(max(rate * (1.0 - rate), ALPHA * (1.0 - ALPHA)) / draws)
    return {
        "kind": kind,
        "test": test,
        "distribution": distribution,
        "n": n,
        "draws": draws,
        "alpha": ALPHA,
        "false_positive_rate": rate,
        "standard_error": error,
        "power_at": None,
        "power": None,
        "queries": None,
        **more,
    }


def tests(draws: int) -> Iterator[Row]:
    """Two-sided tests of no difference."""
    known: dict[str, Callable[[NDArray[np.float64]], bool]] = {
        "paired t": lambda d: paired_t(d)[1] < ALPHA,
        "randomisation": lambda d: randomisation(d, rounds=499) < ALPHA,
    }
    for distribution, draw in AROUND.items():
        for n in TOPICS:
            rng = np.random.default_rng([SEED, n])
            null, real = draw(rng, (draws, n), 0.0), draw(rng, (draws, n), -MARGIN)
            for name, test in known.items():
                found = share(test, null)
                yield row("test", name, distribution, n, draws, found, power_at=-MARGIN, power=share(test, real))


def claims(draws: int) -> Iterator[Row]:
    """Claims at their margin."""
    known: dict[str, Callable[[NDArray[np.float64]], bool]] = {
        "non-inferiority, t": lambda d: non_inferiority(d, MARGIN).proven,
        "non-inferiority, skew": lambda d: non_inferiority(d, MARGIN, method="skew").proven,
        "non-inferiority, bounded": lambda d: non_inferiority(d, MARGIN, method="bounded").proven,
        "equivalence, t": lambda d: equivalence(d, MARGIN).proven,
        "equivalence, skew": lambda d: equivalence(d, MARGIN, method="skew").proven,
    }
    for distribution, draw in DISTRIBUTIONS.items():
        for n in TOPICS:
            rng = np.random.default_rng([SEED, n])
            null, real = draw(rng, (draws, n), -MARGIN), draw(rng, (draws, n), -MARGIN / 4)
            null, real = (np.maximum(d, -1.0) for d in (null, real))
            for name, test in known.items():
                found = share(test, null)
                yield row("claim", name, distribution, n, draws, found, power_at=-MARGIN / 4, power=share(test, real))
        print(distribution, flush=True)


def intervals(draws: int) -> Iterator[Row]:
    """95 % intervals of a mean."""
    known = {
        "t interval": mean_interval,
        "bootstrap, percentile": partial(bootstrap_interval, rounds=1000),
        "bootstrap, BCa": partial(bootstrap_interval, rounds=1000, method="bca"),
    }
    for distribution in ("normal, sd .05", "85 % zeros, else normal, sd .1", "85 % zeros, else losses"):
        for n in TOPICS:
            rng = np.random.default_rng([SEED, n])
            sample = DISTRIBUTIONS[distribution](rng, (draws, n), -MARGIN)
            for name, interval in known.items():
                missed = share(lambda d, of=interval: not (i := of(d)).low <= -MARGIN <= i.high, sample)  # type: ignore[misc]
                yield row("interval", name, distribution, n, draws, missed)
        print("intervals", distribution, flush=True)


def families(draws: int) -> Iterator[Row]:
    """Five systems of one kind, which win and lose on the same topics, none of them different from the baseline."""
    for n in TOPICS:
        rng = np.random.default_rng([SEED, n])
        together = 0.7 * rng.normal(0.0, 0.05, (draws, 1, n)) + rng.normal(0.0, 0.05, (draws, 5, n))
        p = [[paired_t(d)[1] for d in one] for one in together]
        for name, adjusted in (("five paired t, Holm", [holm(one) for one in p]), ("five paired t, not adjusted", p)):
            found = float(np.mean([min(one) < ALPHA for one in adjusted]))
            yield row("family", name, "normal, sd .05", n, draws, found)


def at_the_margin(rng: np.random.Generator, shape: tuple[int, int]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Losses float64[looks, runs] whose mean is the margin, by name."""
    yield "losses of 1, Bernoulli", (rng.random(shape) < MARGIN).astype(float)
    yield "losses of .5, Bernoulli", np.where(rng.random(shape) < 2 * MARGIN, 0.5, 0.0)
    yield "70 % zeros, else skewed losses", np.where(rng.random(shape) < 0.3, rng.beta(0.2, 2.8, shape), 0.0)
    yield "80 % zeros, else -.8 to 1", np.where(rng.random(shape) < 0.2, rng.uniform(-0.8, 1.0, shape), 0.0)


def sequential(looks: int, runs: int) -> Iterator[Row]:
    """Ever claimed, by the sequential test and by a t test that is looked at after every query from the tenth on."""
    for distribution, draws in at_the_margin(np.random.default_rng(SEED), (looks, runs)):
        found = np.zeros((3, runs), dtype=bool)
        proof, wealth = np.ones((runs, BETS.size)), np.zeros((runs, BETS.size))
        total = squares = np.zeros(runs)
        critical = (
            1.645  # of the normal distribution: the t test of few topics is stricter, and the first 9 are left out
        )
        for before, x in enumerate(draws):
            y = x[:, None] - MARGIN
            proof *= 1.0 - BETS / (1.0 - MARGIN) * y
            wealth = bet_on_loss(wealth, before, BETS / (MARGIN + 1.0) * y)
            found[0] |= proof @ MONEY >= 1.0 / ALPHA
            found[1] |= wealth @ MONEY + still_to_enter(before + 1) >= 1.0 / ALPHA
            total, squares, n = total + x, squares + x**2, before + 1
            if n >= 10:
                error = np.sqrt(np.maximum(squares - total**2 / n, 0.0) / (n - 1) / n)
                found[2] |= MARGIN - total / n > critical * error
        names = ("sequential, proven", "sequential, lost", "t test at every look")
        for name, one in zip(names, found, strict=True):
            yield row("sequential", name, distribution, looks, runs, float(one.mean()))
        print("sequential", distribution, flush=True)


GOOD: dict[str, Sample] = {
    "equal rankings": lambda _, n: np.zeros(n),
    "80 % zeros, else normal, sd .1": lambda rng, n: np.where(rng.random(n) < 0.2, rng.normal(0, 0.1, n), 0.0),
    "normal, sd .1": lambda rng, n: rng.normal(0.0, 0.1, n),
}


def queries(runs: int) -> Iterator[Row]:
    """Queries until 80 % of the runs claim."""
    for distribution, draw in GOOD.items():
        sample = draw(np.random.default_rng(SEED), 4000)
        sample -= sample.mean()
        for mean in (0.0, 0.01):
            needed = queries_to_prove(sample + mean, MARGIN, runs=runs, seed=SEED)
            other = plug_in(sample + mean, runs)
            name = f"{distribution}, mean loss {mean:g}"
            yield row("queries", "proven, fixed bets", name, 0, runs, None, power=0.8, queries=needed)
            yield row("queries", "proven, plug-in bets", name, 0, runs, None, power=0.8, queries=other)
        for after in (0, 500, 5000):
            for drift in (0.05, 0.1, 0.2):
                needed = queries_to_notice(sample, drift, MARGIN, after=after, runs=runs, seed=SEED)
                name = f"{distribution}, then {drift:g} more after {after}"
                yield row("queries", "lost", name, after, runs, None, power=0.8, queries=needed)
            needed = slower_shares(sample, 0.1, after, runs)
            name = f"{distribution}, then 0.1 more after {after}"
            yield row("queries", "lost, shares 1 / (j (j + 1))", name, after, runs, None, power=0.8, queries=needed)
        print("queries", distribution, flush=True)


def plug_in(sample: NDArray[np.float64], runs: int, limit: int = 20_000) -> int | None:
    """`queries_to_prove` with the predictable plug-in bets of Waudby-Smith and Ramdas, in place of fixed ones."""
    rng = np.random.default_rng(SEED)
    low, size = -1.0, 2.0
    margin = (MARGIN - low) / size
    total, spread, wealth = np.full(runs, 0.5), np.full(runs, 0.25), np.zeros(runs)

    def won(draw: NDArray[np.float64], before: int) -> NDArray[np.bool_]:
        t = before + 1
        x = (draw - low) / size
        bet = np.sqrt(2.0 * math.log(1.0 / ALPHA) / (spread / t * t * math.log(t + 1)))
        wealth[:] += np.log1p(np.minimum(bet, 0.99 / (1.0 - margin)) * (margin - x))
        total[:] += x
        spread[:] += (x - total / (t + 1)) ** 2
        rich: NDArray[np.bool_] = wealth >= math.log(1.0 / ALPHA)
        return rich

    return reached(first_times(won, (rng.choice(sample, runs) for _ in range(limit)), runs), 0.8)


def slower_shares(sample: NDArray[np.float64], drift: float, after: int, runs: int, limit: int = 20_000) -> int | None:
    """`queries_to_notice` where a share 1 / (j (j + 1)) of the money enters at query j."""
    rng = np.random.default_rng(SEED)
    wealth = np.zeros((runs, BETS.size))

    def won(draw: NDArray[np.float64], before: int) -> NDArray[np.bool_]:
        share = 1.0 / (before + 1) - 1.0 / (before + 2)
        wealth[:] = np.minimum((wealth + share) * (1.0 + BETS / (MARGIN + 1.0) * (draw[:, None] - MARGIN)), 1e100)
        rich: NDArray[np.bool_] = wealth @ MONEY + 1.0 / (before + 2) >= 1.0 / ALPHA
        return rich

    def drawn() -> Iterator[NDArray[np.float64]]:
        gain = float((np.minimum(sample + 0.5, 1.0) - sample).mean())
        for at in range(after + limit):
            x = rng.choice(sample, runs)
            worse = rng.random(runs) < drift / gain
            yield np.where(worse, np.minimum(x + 0.5, 1.0), x) if at >= after else x

    times = first_times(won, drawn(), runs)
    return reached(times[times > after] - after, 0.8)


def main(arguments: Sequence[str]) -> None:
    """Simulate and write."""
    parser = options("significance", __doc__)
    parser.add_argument("--draws", type=int, default=2000, help="simulated data sets of each kind")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows = [
        *tests(given.draws),
        *claims(given.draws),
        *intervals(given.draws),
        *families(given.draws),
        *sequential(10_000, given.draws),
        *queries(max(1, given.draws // 4)),
    ]
    bench.write(
        "significance",
        rows,
        seed=SEED,
        packages=("scipy",),
        title="How often tests and claims are wrong",
        note=(
            "`n`: topics; for sequential tests, looks; for queries until a loss is noticed, good queries before the "
            "drift. `false_positive_rate` is to be compared with `alpha`; `standard_error` is that of the simulation. "
            "Claims are at the margin .02."
        ),
    )
