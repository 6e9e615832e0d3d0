"""Choosing the training pairs that a quality head is fitted on, against random subsets.

Pairs are the judged passages of TREC DL 2021 (wanted: grade 2 or higher); the head is the linear one on the lexical
columns; AUC is measured on the judged passages of DL 2023, whose queries and passages were not fitted on. Writes
eval/results/training-pairs.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, Row, options
from thresher.evaluate.collections import load
from thresher.quality.lexical import CollectionStatistics, feature_columns
from training.quality.pairs import compare_pruning, score_pairs, text_perplexity

if TYPE_CHECKING:
    from collections.abc import Sequence

KEEP = (0.75, 0.5, 0.25, 0.1)


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("training-pairs", __doc__).parse_args(arguments))
    passages = list(load("trec-dl-2021").corpus)
    texts = [p.contents for p in passages]
    place = {p.docno: i for i, p in enumerate(passages)}
    statistics = CollectionStatistics.of(texts)
    table = bench.kept_array("features-trec-dl-2021", lambda: feature_columns(texts, statistics))
    sets = []
    for name in ("trec-dl-2021", "trec-dl-2023"):
        best: dict[int, int] = {}
        for judged in load(name).qrels.judgments.values():
            for docno, grade in judged.items():
                if docno in place:
                    best[place[docno]] = max(best.get(place[docno], 0), grade)
        sets.append(best)
    rows = np.array(sorted(sets[0]))
    unseen = np.array(sorted(set(sets[1]) - set(sets[0])))
    train = (table[rows], np.array([sets[0][i] >= 2 for i in rows]))
    test = (table[unseen], np.array([sets[1][i] >= 2 for i in unseen]))
    scores = score_pairs(*train)
    scores["perplexity"] = text_perplexity([texts[i] for i in rows], statistics)
    out: list[Row] = []
    for keep in KEEP:
        found = compare_pruning(train, test, scores, keep)
        random = next(r for r in found if r["kept"] == "random")
        for row in found:
            beats = row["auc"] > random["hi"] if row["kept"] not in ("random", "all") else None
            out.append({"pairs_kept": keep, **row, "above_95_percent_of_random": beats})
    bench.write(
        "training-pairs", out, seed=0,
        title="Fitting on a part of the training pairs",
        note="auc: on the judged passages of DL 2023. random: mean of twenty draws, lo and hi their 5 % and 95 % "
        "quantiles.",
    )  # fmt: skip
