"""Whether passages said to be among the best ten with 80 to 90 % confidence are there 80 to 90 % of the time.

Candidates are the BM25 and SPLADE++ top 100 of TREC DL 2021 and 2019, reranked by two plans under judges that err:
Plackett-Luce noise at three levels, noise half of which is fixed for each query and passage, and the judges fitted to
recorded models. The plan's answers give each candidate its confidence (`thresher.rerank.aggregate.confidence`).

The truth is the order of NIST grades, unjudged as 0. Where a tie spans rank ten, every way of breaking it counts alike:
if three of twelve equals have a place among the ten, each of the twelve is there by a quarter.

One number is fitted for each judge and plan: `correlated`, the share of the variance of its errors that is the same in
every answer. It is the smallest under which the candidates of the DL 2021 lists that are said to be likelier in than
out are in as often as is said, on average. The default is that of the fitted judges and both plans together. What is
said and what comes true is reported on DL 2019, with 20 seeds and intervals from resampled topics: with errors taken
for independent, with the default, and with the judge's own share.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from eval.bench import Bench, Row, key_of, options
from eval.collections import data_file
from thresher.evaluate.trec import read_qrels, read_run
from thresher.rerank.aggregate.confidence import CORRELATED, Believed, evidence
from thresher.rerank.driver import query_seed
from thresher.rerank.plans import plan_from_name
from thresher.rerank.plans.plan import drive
from training.rerank.fitted import fitted
from training.rerank.simulated import Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.rerank.plans.plan import Answer, Comparison

K, DEPTH = 10, 100
GRADE_WORTH = 1.5
PLANS = ("jointrank-head:replicas=3,windows=5", "sliding:window=20,stride=10")
SIMULATIONS = {
    "noise-0.5": Simulation(noise=0.5),
    "noise-1": Simulation(noise=1.0),
    "noise-2": Simulation(noise=2.0),
    "correlated": Simulation(noise=1.0, correlated=0.5),
}
FITTED = ("fitted-rank-vicuna-7b-aug", "fitted-vicuna-7b-ckpt800")
JUDGES = (*SIMULATIONS, *FITTED)
FIRST_STAGES = {"bm25": "lexical", "splade-pp-ed": "learned"}
CHOICE_SEEDS, SEEDS = 1, 20
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.84, 0.86, 0.88, 0.9, 0.92)
LIKELIER = 0.5
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
RESAMPLES = 1000
ALLOWANCES = ("independent", "default", "own")


def topics(year: str, first_stage: str) -> Iterator[tuple[str, list[str], Mapping[str, int]]]:
    """Query, candidates and grades of each judged topic."""
    qrels = read_qrels(data_file("trec-dl", f"qrels.{year}.txt")).judgments
    run = read_run(data_file("runs", f"{first_stage}.{year}.run.gz"), as_listed=True)
    for qid, ranking in run.items():
        if qid in qrels:
            yield qid, ranking.docnos[:DEPTH], qrels[qid]


def share_there(grades: Sequence[int], k: int) -> NDArray[np.float64]:
    """float64[n]: by how much each candidate is among the best k, if every way of breaking ties counts alike."""
    values = np.array(grades)
    if len(values) <= k:
        return np.ones(len(values))
    last = np.sort(values)[-k]
    above, level = values > last, values == last
    shares: NDArray[np.float64] = above + level * ((k - above.sum()) / level.sum())
    return shares


def believed(
    judge: str, first_stage: str, qid: str, docnos: Sequence[str], grades: Mapping[str, int], plan: str, seed: int
) -> Believed:
    """What the answers of a judge to the comparisons of a plan say."""
    if judge in SIMULATIONS:
        simulation = SIMULATIONS[judge]
        worth = [GRADE_WORTH * max(grades.get(docno, 0), 0) for docno in docnos]
        utilities = simulation.lasting(worth, qid, docnos, seed)
    else:
        parameters = fitted(judge, FIRST_STAGES[first_stage])
        simulation, utilities = parameters.simulation, parameters.utilities(grades, qid, docnos, seed)
    rng = Random(int.from_bytes(sha256(f"{judge} {seed} {qid} {plan}".encode()).digest()[:7], "big"))  # noqa: S311
    answer = simulation.judging(utilities, rng)
    said: list[Answer | None] = []

    def heard(comparison: Comparison) -> Answer | None:
        found = answer(comparison)
        said.append(evidence(comparison, found))
        return found

    drive(plan_from_name(plan), len(docnos), heard, k=K, seed=query_seed(seed, qid) >> 1)
    return Believed.after(len(docnos), said)


def excesses(judge: str) -> dict[str, list[float]]:
    """For each plan and each of SHARES, by how many more candidates are said to be in, of those likelier in, than are.

    On the lists of DL 2021.
    """
    total = {plan: np.zeros(len(SHARES)) for plan in PLANS}
    for first_stage in FIRST_STAGES:
        for qid, docnos, grades in topics("dl21", first_stage):
            there = share_there([max(grades.get(docno, 0), 0) for docno in docnos], K)
            for plan in PLANS:
                for seed in range(CHOICE_SEEDS):
                    found = believed(judge, first_stage, qid, docnos, grades, plan, seed)
                    for number, share in enumerate(SHARES):
                        said = np.nan_to_num(found.confidence(K, share))
                        here = said >= LIKELIER
                        total[plan][number] += (said[here] - there[here]).sum()
    return {plan: sums.tolist() for plan, sums in total.items()}


def counted(judge: str, shares: Mapping[str, Mapping[str, float]]) -> list[dict[str, float | str]]:
    """For each plan, allowance, topic and bin: how many candidates, and the sums of what was said and of the truth."""
    sums: dict[tuple[str, str, str, int], NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    for first_stage in FIRST_STAGES:
        for qid, docnos, grades in topics("dl19", first_stage):
            there = share_there([max(grades.get(docno, 0), 0) for docno in docnos], K)
            for plan in PLANS:
                for seed in range(SEEDS):
                    found = believed(judge, first_stage, qid, docnos, grades, plan, seed)
                    for allowance, share in shares[plan].items():
                        said = found.confidence(K, share)
                        bins = np.clip(np.digitize(said, EDGES) - 1, 0, len(EDGES) - 2)
                        for number in np.unique(bins[~np.isnan(said)]).tolist():
                            here = bins == number
                            cell = [here.sum(), said[here].sum(), there[here].sum()]
                            sums[plan, allowance, qid, number] += np.array(cell)
    return [
        {"plan": plan, "allowance": allowance, "qid": qid, "bin": number, "n": n, "said": said, "there": there}
        for (plan, allowance, qid, number), (n, said, there) in sums.items()
    ]


def summary(cells: Sequence[Mapping[str, float | str]]) -> list[Row]:
    """What was said and what came true in each bin, with an interval of the latter over topics drawn again."""
    qids = sorted({str(cell["qid"]) for cell in cells})
    drawn = np.random.default_rng(0).multinomial(len(qids), np.full(len(qids), 1 / len(qids)), size=RESAMPLES)
    rows = []
    for number in range(len(EDGES) - 1):
        sums = np.zeros((len(qids), 3))
        for cell in cells:
            if cell["bin"] == number:
                sums[qids.index(str(cell["qid"]))] += [float(cell[key]) for key in ("n", "said", "there")]
        n, said, there = sums.sum(axis=0)
        if n:
            again = drawn @ sums
            shares = again[:, 2][again[:, 0] > 0] / again[:, 0][again[:, 0] > 0]
            low, high = np.quantile(shares, (0.025, 0.975))
            rows.append(
                {
                    "bin": f"{EDGES[number]:.1f} to {EDGES[number + 1]:.1f}",
                    "said": said / n,
                    "there": there / n,
                    "lo": float(low),
                    "hi": float(high),
                    "n": int(n),
                }
            )
    return rows


def rows_of(
    judge: str, cells: Sequence[Mapping[str, float | str]], shares: Mapping[str, Mapping[str, float]]
) -> Iterator[Row]:
    """The rows of a judge: each plan with each allowance."""
    for plan in PLANS:
        for allowance in ALLOWANCES:
            chosen = [cell for cell in cells if cell["allowance"] == allowance and cell["plan"] == plan]
            given = {"judge": judge, "plan": plan, "allowance": allowance, "correlated": shares[plan][allowance]}
            for row in summary(chosen):
                yield {**given, **row}


def choices(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
) -> tuple[float, dict[str, dict[str, dict[str, float]]]]:
    """The default share, and for each judge and plan the share of each of ALLOWANCES."""

    def least(of: Sequence[Sequence[float]]) -> float:
        return next(share for number, share in enumerate(SHARES) if sum(curve[number] for curve in of) <= 0)

    default = least([curves[judge][plan] for judge in FITTED for plan in PLANS])
    return default, {
        judge: {plan: {"independent": 0.0, "default": default, "own": least([curve])} for plan, curve in by.items()}
        for judge, by in curves.items()
    }


def main(arguments: Sequence[str]) -> None:
    """Fit the shares, count what comes true, and write."""
    bench = Bench.of(options("rerank-confidence", __doc__).parse_args(arguments))
    curves = {judge: bench.kept(f"confidence-choice-{judge}", partial(excesses, judge)) for judge in JUDGES}
    default, chosen = choices(curves)
    if default != CORRELATED:
        print(f"the default share is {CORRELATED}; the lists of DL 2021 choose {default}")
    rows: list[Row] = []
    for judge, shares in chosen.items():
        name = f"confidence-cells-{judge}-{key_of(shares)}"
        rows += rows_of(judge, bench.kept(name, partial(counted, judge, shares)), shares)
    points = [{**row, "judge, plan": f"{row['judge']}, {row['plan'].partition(':')[0]}"} for row in rows]
    line = alt.Chart(alt.Data(values=[{"said": 0, "there": 0}, {"said": 1, "there": 1}])).mark_line(
        color="grey", strokeDash=[4, 4]
    )
    dots = (
        alt.Chart(alt.Data(values=points))
        .mark_line(point=True)
        .encode(
            x=alt.X("said:Q", title="said", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("there:Q", title="came true", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("judge, plan:N"),
        )
    )
    charts = [
        (line.encode(x="said:Q", y="there:Q") + dots.transform_filter(alt.datum.allowance == allowance)).properties(
            width=240, height=240, title=allowance
        )
        for allowance in ALLOWANCES
    ]
    bench.write(
        "rerank-confidence",
        rows,
        seed=0,
        plot=alt.hconcat(*charts),
        columns={
            "judge": "", "plan": "", "allowance": "", "correlated": ".2f", "bin": "", "said": ".3f", "there": ".3f",
            "lo": ".3f", "hi": ".3f", "n": ",d",
        },
        title="Confidence of being among the first ten",
        note=f"TREC DL 2019, BM25 and SPLADE++ top 100, {SEEDS} seeds; `correlated` was chosen on DL 2021, the default "
        f"({default}) for the fitted judges together. `there` is the share of the passages of a bin that are among the "
        "best ten by NIST grade, a tie at rank ten counted by the share of places left. `lo` to `hi` is its interval "
        "over topics drawn again (95 %). `independent` takes errors for drawn anew every time.",
    )  # fmt: skip
