"""Which training pairs to fit a quality head on, beside random parts: eval/results/training-pairs.json.

    python eval/training_pairs.py

Pairs are the judged passages of TREC DL 2021 (wanted: grade 2 or higher); the head is the linear one on the lexical
columns; AUC is measured on the judged passages of DL 2023, whose queries and passages were not fitted on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pruned_rankings import work

from thresher.evaluate.collections import load
from thresher.evaluate.results import write_results
from thresher.quality.features import feature_columns
from thresher.quality.lexical import CollectionStatistics
from training.quality.pairs import compare_pruning, score_pairs, text_perplexity

RESULTS = Path(__file__).parent / "results"
KEEP = (0.75, 0.5, 0.25, 0.1)


def main() -> None:
    passages = list(load("trec-dl-2021").corpus)
    texts = [p.contents for p in passages]
    place = {p.docno: i for i, p in enumerate(passages)}
    file = work() / "features-trec-dl-2021.npy"
    statistics = CollectionStatistics.of(texts)
    if not file.exists():
        np.save(file, feature_columns(texts, statistics))
    table = np.load(file)
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
    out = []
    for keep in KEEP:
        found = compare_pruning(train, test, scores, keep)
        random = next(r for r in found if r["kept"] == "random")
        for row in found:
            beats = row["auc"] > random["hi"] if row["kept"] not in ("random", "all") else None
            out.append({"pairs_kept": keep, **row, "above_95_percent_of_random": beats})
    write_results(
        RESULTS / "training-pairs.json", out, command="python eval/training_pairs.py", seed=0,
        title="Fitting on a part of the training pairs",
        note="auc: on the judged passages of DL 2023. random: mean of twenty draws, lo and hi their 5 % and 95 % "
        "quantiles.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
