"""Choose how the signals are mixed, on held-out topics: writes eval/results/mixture-choice.json.

The topics are those of `training.held_out`, which no weights were trained on: of TREC DL 2021, searched in
msmarco-v2-mini and among the given BM25 top 100, of SciFact's train split, and of NFCorpus's (the first `TOPICS` by a
hash). A row is a mixture: `learned_weight` (0 is BM25 alone), `alpha`, and the `feedback` passages with their weight;
with nDCG@10 and R@100 of each set and the mean over sets. All sets have the same weights, and the best single figure
is not what decides: `smoothed` is the mean of a mixture and of those next to it in the grid, and the largest is chosen.
The choice is written into the defaults of `[ask]` and `[encode]` by hand.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, by_hash, options
from eval.collections import CHOOSING, given_run, held_out, only
from eval.known import KnownVectors
from thresher.build.recipe import Recipe
from thresher.encode.dense import MiniLMEncoder
from thresher.evaluate.collections import Collection, load
from thresher.evaluate.measures import evaluate
from thresher.ranking import Run
from thresher.search import Index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from eval.bench import Row
    from thresher.ranking import Ranking
    from thresher.records import Query

ENCODER = "bm25+thresher-mini"
LEARNED = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7)
ALPHAS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
FEEDBACK = (1.0, 2.0, 3.0, 4.0)
"""Weights of the mean vector of the first `PASSAGES`."""
PASSAGES = 2
DEPTH, NEIGHBOURS = 1000, 100
TOPICS = 300
GIVEN = "bm25.dl21"
COLUMNS = {
    "learned_weight": "", "alpha": "", "feedback": "", "feedback_weight": "", "nDCG@10": ".4f", "smoothed": ".4f",
    "dl21": ".4f", "dl21_given": ".4f", "scifact": ".4f", "nfcorpus": ".4f", "R@100": ".4f", "chosen": "",
}  # fmt: skip

Mixture = tuple[float, float, int, float]
"""Learned weight, alpha, feedback passages, and their weight."""


def main(arguments: Sequence[str]) -> None:
    """Measure all mixtures and write them."""
    parser = options("mixture-choice", __doc__)
    parser.add_argument("--encoder", default=ENCODER, help="what weighs the terms; NAME of bm25+NAME may be a folder")
    parser.add_argument("--only", nargs="*", default=CHOOSING, help="collections to measure on")
    parser.add_argument("--topics", type=int, default=TOPICS, help="topics of a collection at most")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    found: dict[str, dict[Mixture, tuple[float, float]]] = {}
    for name in given.only:
        found |= measured(bench, name, given.encoder, given.topics)
    rows = summed_up(found)
    for row in [row for row in rows if row["chosen"]] + rows[:10]:
        print({key: value if isinstance(value, bool | int) else round(value, 4) for key, value in row.items()})
    bench.write("mixture-choice", rows, columns=COLUMNS, title="Mixtures of three signals, on held-out topics")


def measured(bench: Bench, name: str, encoder: str, topics: int) -> dict[str, dict[Mixture, tuple[float, float]]]:
    """By set: nDCG@10 and R@100 of each mixture."""
    collection = load(name)
    queries = by_hash(held_out(collection), lambda query: query.qid)[:topics]
    collection, light = only(collection, queries), MiniLMEncoder(storage="float32")
    recipe = Recipe.model_validate({"encode": {"encoder": encoder}, "vectors": {}})
    index = Index.open(bench.index(collection, recipe, KnownVectors(bench, collection, light, 1.0)))
    vectors = light.encode_queries([query.text for query in queries])
    label = name.partition("/")[0].replace("trec-dl-2021", "dl21")
    found = {label: figures(collection, rankings(index, queries, vectors, None))}
    if label == "dl21":
        run = given_run(GIVEN)
        allowed = [run[query.qid].docnos[:100] for query in queries]
        found["dl21_given"] = figures(collection, rankings(index, queries, vectors, allowed))
    print(f"{name}: {len(queries)} topics", flush=True)
    return found


def rankings(
    index: Index,
    queries: Sequence[Query],
    vectors: NDArray[np.float32],
    allowed: Sequence[Sequence[str]] | None,
) -> Iterable[tuple[Mixture, str, Ranking]]:
    """Each mixture's ranking of each query, of all passages or of the allowed ones, as the pipeline makes it."""
    store = index.vectors
    assert store is not None
    for learned in LEARNED:
        rows = index.encoder.with_weight(learned).encode_queries([query.text for query in queries])  # type: ignore[attr-defined]
        for place, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            allow = None if allowed is None else allowed[place]
            own = slice(int(rows.indptr[place]), int(rows.indptr[place + 1]))
            asked = rows.terms[own].astype(np.int64), rows.weights[own]
            sparse = index.search(asked, DEPTH, allow=allow)
            both = index.with_neighbours(sparse, asked, vector, NEIGHBOURS, allow=allow)
            for alpha, weight in itertools.product(ALPHAS, (0.0, *FEEDBACK)):
                mixed = store.interpolate(
                    both,
                    vector,
                    alpha=alpha,
                    k=100,
                    stopping="none",
                    feedback=PASSAGES if weight else 0,
                    feedback_weight=weight,
                )
                yield (learned, alpha, PASSAGES if weight else 0, weight), query.qid, mixed


def figures(collection: Collection, made: Iterable[tuple[Mixture, str, Ranking]]) -> dict[Mixture, tuple[float, float]]:
    """nDCG@10 and R@100 of each mixture."""
    runs: dict[Mixture, dict[str, Ranking]] = defaultdict(dict)
    for mixture, qid, ranking in made:
        runs[mixture][qid] = ranking
    recall = f"R(rel={collection.relevant})@100" if collection.relevant > 1 else "R@100"
    means = {m: evaluate(Run(run), collection.qrels, f"nDCG@10 {recall}").mean for m, run in runs.items()}
    return {mixture: (mean["nDCG@10"], mean[recall]) for mixture, mean in means.items()}


def summed_up(found: Mapping[str, Mapping[Mixture, tuple[float, float]]]) -> list[Row]:
    """A row a mixture, best first by the mean over itself and its neighbours in the grid."""
    mixtures = list(next(iter(found.values())))
    mean = {m: float(np.mean([of_set[m][0] for of_set in found.values()])) for m in mixtures}
    rows: list[Row] = []
    for m in mixtures:
        row = dict(zip(("learned_weight", "alpha", "feedback", "feedback_weight"), m, strict=True))
        row |= {"nDCG@10": mean[m], "smoothed": float(np.mean([mean[n] for n in mixtures if _beside(m, n)]))}
        row |= {name: of_set[m][0] for name, of_set in found.items()}
        row["R@100"] = float(np.mean([of_set[m][1] for name, of_set in found.items() if name != "dl21_given"]))
        rows.append(row)
    rows.sort(key=lambda row: -row["smoothed"])
    inner = [row for row in rows if row["learned_weight"]]
    return [row | {"chosen": row is inner[0]} for row in rows]


def _beside(one: Mixture, other: Mixture) -> bool:
    """Whether two mixtures are the same or neighbours in every part of the grid; BM25 alone has its own."""
    if (one[0] == 0) != (other[0] == 0) or one[2] != other[2]:
        return False
    grids = (LEARNED, ALPHAS, FEEDBACK)
    parts = ((one[0], other[0]), (one[1], other[1]), (one[3], other[3]))
    return all(a == b or abs(grid.index(a) - grid.index(b)) <= 1 for grid, (a, b) in zip(grids, parts, strict=True))
