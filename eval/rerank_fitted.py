"""Judges fitted to recorded models, and what they predict of topics they were not fitted on.

Each model is fitted on all topics but one fold of four, and reranks the candidates of that fold by the recorded plan
(sliding windows), as often as the recordings did. The same figures are then taken of its windows and of the recorded
ones: how often two passages are ordered as their grades are, by how far these are apart and which was shown first; how
often two windows agree on a pair; how often a repetition agrees; and nDCG@10. Writes eval/results/rerank-fitted.json,
and with --update the parameters fitted on all topics, training/rerank/parameters.json.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from eval.bench import Bench, Row, by_hash, options
from eval.collections import data_file
from thresher.durable import write_atomic
from thresher.evaluate.measures import evaluate
from thresher.evaluate.trec import read_qrels, read_run
from thresher.ranking import Ranking, Run
from thresher.rerank.plans.listwise import SlidingWindow
from thresher.rerank.plans.plan import drive
from training.rerank.fitted import PARAMETERS, Parameters
from training.rerank.fitting import Window, agreement, fit, read_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from thresher.records import Qrels
    from thresher.rerank.plans.plan import Answer, Comparison

MODELS = ("rank-vicuna-7b-aug", "vicuna-7b-ckpt800")
FIRST_STAGES = {"lexical": ("bm25", "bm25-rm3"), "learned": ("splade-pp-ed", "tasb", "ada2")}
FOLDS = 4
SEEDS = (0, 1, 2, 3, 4)


def main(arguments: Sequence[str]) -> None:
    """Fit, predict, compare and write."""
    parser = options("rerank-fitted", __doc__)
    parser.add_argument("--update", action="store_true", help="write training/rerank/parameters.json")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    qrels = read_qrels(data_file("trec-dl", "qrels.dl19.txt"))
    index = json.loads(data_file("recordings", "index.json").read_text(encoding="utf-8"))
    folder = data_file("recordings", "index.json").parent
    rows: list[Row] = []
    found: list[Parameters] = []
    for model in MODELS:
        for kind, first_stages in FIRST_STAGES.items():
            recorded = read_windows(folder, model, first_stages)
            entries = [one for one in index if one["model"] == model and one["first_stage"] in first_stages]
            found.append(fit(recorded, qrels.judgments, model, kind))
            rows += compared(recorded, entries, found[-1], qrels)
            print(f"{model}, {kind}: done", flush=True)
    if given.update:
        text = json.dumps([one.to_json() for one in found], indent=1)
        write_atomic(PARAMETERS, text + "\n")
    plot = (
        alt.Chart(alt.Data(values=rows), title="Predicted and recorded, topics not fitted on")
        .mark_point(filled=True)
        .encode(
            x=alt.X("recorded:Q", scale=alt.Scale(zero=False)),
            y=alt.Y("predicted:Q", scale=alt.Scale(zero=False)),
            color="model:N",
            shape="first_stage:N",
        )
    )
    bench.write(
        "rerank-fitted",
        rows,
        seed=SEEDS[0],
        plot=plot,
        columns={
            "model": "", "first_stage": "", "what": "", "recorded": ".4f", "predicted": ".4f", "sd": ".4f"
        },
        title="Judges fitted to recorded models",
        note=f"Recorded: TREC DL 2019, recorded runs. Predicted: by judges fitted on the other topics, {FOLDS} folds, "
        f"seeds {SEEDS}; each seed draws new lasting errors, and `sd` is the standard deviation between seeds. "
        "*Right order*: the passage of the higher grade was shown first.",
    )  # fmt: skip


def compared(
    recorded: Sequence[Window], entries: Sequence[Mapping[str, str]], whole: Parameters, qrels: Qrels
) -> list[Row]:
    """Rows of one model and kind of first stage: each figure as recorded and as predicted."""
    topics = by_hash(sorted({window.qid for window in recorded}), str)
    judges = {}
    for fold in range(FOLDS):
        out = set(topics[fold::FOLDS])
        kept = [window for window in recorded if window.qid not in out]
        judge = fit(kept, qrels.judgments, whole.model, whole.first_stage)
        judges.update(dict.fromkeys(out, judge))
    truth = described(recorded, qrels) | {
        f"nDCG@10, {first_stage}, depth {depth}": fmean(
            float(one["ndcg_cut_10"]) for one in entries if (one["first_stage"], one["depth"]) == (first_stage, depth)
        )
        for first_stage, depth in {(one["first_stage"], one["depth"]) for one in entries}
    }
    predictions: dict[str, list[float]] = defaultdict(list)
    for seed in SEEDS:
        windows, effect = predicted(judges, entries, qrels, seed)
        for key, value in (described(windows, qrels) | effect).items():
            predictions[key].append(value)
    return [
        {
            "model": whole.model,
            "first_stage": whole.first_stage,
            "what": key,
            "recorded": truth[key],
            "predicted": fmean(predictions[key]),
            "sd": float(np.std(predictions[key], ddof=1)),
        }
        for key in sorted(truth)
        if not np.isnan([truth[key], *predictions[key]]).any()
    ]


def predicted(
    judges: Mapping[str, Parameters], entries: Iterable[Mapping[str, str]], qrels: Qrels, seed: int
) -> tuple[list[Window], dict[str, float]]:
    """The windows of one simulated repetition of the recorded runs, and their mean nDCG@10."""
    windows: list[Window] = []
    effect: dict[str, list[float]] = defaultdict(list)
    by_task: dict[tuple[str, int], list[str]] = defaultdict(list)
    for entry in entries:
        by_task[entry["first_stage"], int(entry["depth"])].append(entry["recording"])
    for (first_stage, depth), names in by_task.items():
        rankings: dict[str, dict[str, Ranking]] = {name: {} for name in names}
        for qid, ranking in read_run(data_file("runs", f"{first_stage}.dl19.run.gz"), as_listed=True).items():
            docnos = list(ranking.docnos[:100])
            judge = judges[qid]
            utilities = judge.utilities(qrels.judgments.get(qid, {}), qid, docnos[:depth], seed)
            answer = judge.simulation.judging(utilities, Random(f"{seed} {first_stage} {qid}"))  # noqa: S311
            for name in names:
                noted = _Noted(answer, windows, name, qid, docnos)
                placement, _ = drive(SlidingWindow(), min(depth, len(docnos)), noted, k=10)
                order = [docnos[item] for item in placement.order]
                rankings[name][qid] = Ranking([*order, *docnos[depth:]])
        for made in rankings.values():
            value = evaluate(Run(made), qrels, "nDCG@10").mean["nDCG@10"]
            effect[f"nDCG@10, {first_stage}, depth {depth}"].append(value)
    return windows, {key: fmean(values) for key, values in effect.items()}


@dataclass(frozen=True, slots=True)
class _Noted:
    """A simulated judge whose windows are noted as a recording has them."""

    ask: Callable[[Comparison], Answer | None]
    windows: list[Window]
    run: str
    qid: str
    docnos: Sequence[str]

    def __call__(self, comparison: Comparison) -> Answer | None:
        got = self.ask(comparison)
        if got is not None:
            shown = comparison.items
            order = tuple(shown.index(item) for item in got.order)
            docnos = tuple(self.docnos[item] for item in shown)
            self.windows.append(Window(self.run, self.qid, docnos, order, got.named, ""))
        return got


def described(windows: Sequence[Window], qrels: Qrels) -> dict[str, float]:
    """Figures of a model's answers, from its windows."""
    right: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    asked: dict[tuple[str, str, str], list[tuple[int, bool, bool]]] = defaultdict(list)
    moved = []
    for number, window in enumerate(windows):
        grades = [qrels.judgments.get(window.qid, {}).get(docno, -1) for docno in window.docnos]
        rank = np.argsort(window.order)
        upper, lower = np.triu_indices(len(rank), 1)
        first = rank[upper] < rank[lower]
        moved.append(float(first.mean()) if len(first) else 1.0)
        for a, b, kept in zip(upper.tolist(), lower.tolist(), first.tolist(), strict=True):
            x, y = window.docnos[a], window.docnos[b]
            asked[(window.qid, x, y) if x < y else (window.qid, y, x)].append((number, kept == (x < y), x < y))
            if grades[a] != grades[b] and min(grades[a], grades[b]) >= 0:
                shown = "right" if grades[a] > grades[b] else "wrong"
                count = right[f"pairs ordered as graded, {abs(grades[a] - grades[b])} apart, shown in {shown} order"]
                count[0] += kept == (grades[a] > grades[b])
                count[1] += 1
            elif max(grades[a], grades[b]) >= 2 and min(grades[a], grades[b]) < 0:
                count = right["pairs of a relevant and an unjudged passage, the relevant one first"]
                count[0] += kept == (grades[a] > grades[b])
                count[1] += 1
    same = {True: [0, 0], False: [0, 0]}
    for answers in asked.values():
        for (one, above, right_way), (other, again, then) in pairwise(answers):
            if windows[one].docnos != windows[other].docnos:
                same[right_way == then][0] += above == again
                same[right_way == then][1] += 1
    return {
        **{key: count[0] / count[1] for key, count in right.items()},
        "pairs that keep the order shown": fmean(moved),
        "pairs alike in two windows, shown in the same order": same[True][0] / max(same[True][1], 1),
        "pairs alike in two windows, shown in opposite orders": same[False][0] / max(same[False][1], 1),
        "pairs alike when the same window is asked again": agreement(windows),
    }
