"""Fit the quality estimator that ships: src/thresher/models/weights/quality-embedded/head.json.

    python -m training.quality.train            # needs THRESHER_DATA

Fitted on TREC DL 2021 and 2023 (passages with text, their judgments) and on the train splits of SciFact and NFCorpus;
on no DL 2019, no test split. On the DL sets the target is whether any query grades a passage 2 or higher, over the
judged passages; on SciFact and NFCorpus, which list relevant passages alone, it is what a passage contributes to the
train queries' nDCG@10 under BM25. Columns are the lexical features, standardised by collection; the head is a ridge
regression over the four sets, weighted as below.

Five more heads are fitted without a fifth of the passages each (by a hash of the text, so copies go together). They are
for measuring alone: a figure on a collection whose train split was fitted on takes, for each passage, the head that has
not seen it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np

from thresher.encode.bm25 import Bm25Encoder
from thresher.evaluate.collections import Collection, load
from thresher.quality.fitted import CLIP, LinearHead
from thresher.quality.lexical import FEATURES, CollectionStatistics, feature_columns
from training.quality.coverage import SparseView
from training.quality.heads import ridge_weights

SETS = {"trec-dl-2021": 0.5, "trec-dl-2023": 0.5, "scifact/train": 1.0, "nfcorpus/train": 1.0}
RIDGE = 0.01
FOLDS = 5
TARGET = Path("src/thresher/models/weights/quality-embedded")


def fold_of(text: str) -> int:
    """The fold of a passage, alike for all that differ in case and marks alone."""
    bare = re.sub(r"[\W_]+", "", text.lower())
    return hashlib.blake2b(bare.encode(), digest_size=4).digest()[0] % FOLDS


def training_set(name: str) -> tuple[np.ndarray, ...]:
    """Standardised columns float64[n, features], target float64[n], rows to fit on bool[n], fold int[n]."""
    collection = load(name)
    passages = list(collection.corpus)
    texts = [p.contents for p in passages]
    row = {p.docno: i for i, p in enumerate(passages)}
    table = feature_columns(texts, CollectionStatistics.of(texts))
    table = np.clip((table - table.mean(0)) / np.where(table.std(0) > 1e-9, table.std(0), 1), -CLIP, CLIP)
    judgments = {
        q: {row[d]: g for d, g in judged.items() if d in row} for q, judged in collection.qrels.judgments.items()
    }
    if name.startswith("trec-dl"):
        target, use = graded(judgments, collection.relevant, len(texts))
    else:
        target, use = contributed(collection, judgments, texts), np.ones(len(texts), bool)
    return table, target, use, np.array([fold_of(text) for text in texts])


def graded(judgments: dict[str, dict[int, int]], relevant: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether any query grades a passage `relevant` or higher float64[n], and whether any judges it bool[n]."""
    best = np.full(n, -1)
    for judged in judgments.values():
        for i, grade in judged.items():
            best[i] = max(best[i], grade)
    return (best >= relevant).astype(float), best >= 0


def contributed(collection: Collection, judgments: dict[str, dict[int, int]], texts: list[str]) -> np.ndarray:
    """Square root of the nDCG that a passage brings in the first twenty of the BM25 rankings, summed over queries."""
    encoder = Bm25Encoder.fit(texts)
    queries = [q for q in collection.queries if judgments.get(q.qid)]
    view = SparseView(encoder.encode_passages(texts), encoder.encode_queries([q.text for q in queries]))
    total = np.zeros(len(texts))
    for number, query in enumerate(queries):
        judged = judgments[query.qid]
        gains = np.sort([g for g in judged.values() if g > 0])[::-1][:10]
        if not len(gains):
            continue
        ideal = (gains / np.log2(np.arange(len(gains)) + 2)).sum()
        scores = view.scores(number)
        for rank, i in enumerate(np.argsort(-scores, kind="stable")[:20].tolist()):
            total[i] += max(judged.get(i, 0), 0) / np.log2(rank + 2) / ideal
    return np.sqrt(total / len(queries))


def fitted(sets: dict[str, tuple[np.ndarray, ...]], without: int | None) -> LinearHead:
    """Ridge over the sets, each centred, its target of unit variance, its passages together weighing SETS[name]."""
    blocks, targets = [], []
    for table, target, use, fold in sets.values():
        rows = use & (fold != without) if without is not None else use
        blocks.append(table[rows])
        targets.append(target[rows] / target[rows].std())
    weights = ridge_weights(blocks, targets, ridge=RIDGE, weights=[SETS[name] for name in sets])
    return LinearHead(np.zeros(len(weights)), np.ones(len(weights)), weights)


def main() -> None:
    """Fit on all sets, and once without each fold, and write the head."""
    sets = {name: training_set(name) for name in SETS}
    head = fitted(sets, None)
    document = {
        "columns": list(FEATURES),
        "head": head.as_json(),
        "folds": [fitted(sets, fold).as_json() for fold in range(FOLDS)],
        "fitted_on": {name: int(use.sum()) for name, (_, _, use, _) in sets.items()},
        "weights": SETS,
        "ridge": RIDGE,
        "command": "python " + " ".join(sys.argv),
    }
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "head.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, weight in zip(FEATURES, head.weights, strict=True):
        print(f"{name:16s} {weight:+.3f}")


if __name__ == "__main__":
    main()
