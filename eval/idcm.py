"""Long documents read in part: windows that BM25 picks, against every window, on `time`.

The costly reader is the rank head of thresher-context, the documents are BM25's first 15 of every query, cut into
windows of 64 tokens. The reader rates every window once (kept in the work directory); every row is made of those
ratings by `WindowedJudge`. Nothing is trained or chosen: all numbers of windows are reported. Writes
eval/results/idcm.json.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, Row, options
from eval.collections import judged
from thresher.build.recipe import Recipe
from thresher.context.model import TwoHeadedScorer
from thresher.context.scorers import SplitPassage
from thresher.corpus.split import windows
from thresher.evaluate.collections import load
from thresher.evaluate.comparison import differences
from thresher.evaluate.measures import Evaluation, evaluate
from thresher.evaluate.resampling import bootstrap_interval
from thresher.ranking import Run
from thresher.rerank.long_documents import WindowedJudge, bm25_of_windows
from thresher.rerank.plans.plan import Answer
from thresher.rerank.reranker import Reranked, Reranker
from thresher.search.index import Index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.llm.client import Client
    from thresher.ranking import Ranking
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison

DEPTH, TOKENS = 15, 64
EVERY = 1000
"""More windows than any document has."""
COUNTS = (1, 2, 3, 4, 6, 8)
MEASURE = "nDCG@10"


class KnownRatings:
    """Answers `Rate` with ratings made before.

    Args:
        ratings: by query and window.
    """

    name, rates_only, comparisons_per_call = "thresher-context", True, 1 << 20

    def __init__(self, ratings: dict[tuple[str, str], float]) -> None:
        self.ratings = ratings

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """The ratings."""
        del client
        return [
            Answer((one.items,), score=self.ratings[query.text, candidates[one.items[0]].text]) for one in comparisons
        ]


def parts(text: str) -> list[str]:
    """The windows of a document."""
    return [text[span.start : span.end] for span in windows(text, TOKENS, 0)]


def read(scorer: TwoHeadedScorer, query: Query, ranking: Ranking) -> dict[str, list[float]]:
    """The rating of every window, by docno."""
    texts = {hit.docno: parts(hit.text) for hit in ranking}
    every = [text for its in texts.values() for text in its]
    order = sorted(range(len(every)), key=lambda place: len(every[place]))
    rated = np.empty(len(every))
    rated[order] = scorer.relevance([(query.text, SplitPassage(every[place], ())) for place in order])
    ends = np.cumsum([len(its) for its in texts.values()])[:-1]
    return {docno: its.tolist() for docno, its in zip(texts, np.split(rated, ends), strict=True)}


def first_windows(query: str, texts: Sequence[str]) -> list[float]:
    """Scores that pick the first windows: what is read without a choice."""
    del query
    return [-float(place) for place in range(len(texts))]


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("idcm", __doc__).parse_args(arguments))
    collection = load("time")
    index = Index.open(bench.index(collection, Recipe.model_validate({"encode": {"encoder": "bm25"}})))
    queries = judged(collection)
    run = Run({query.qid: index.search(query.text, k=DEPTH) for query in queries})
    scorer = TwoHeadedScorer()
    ratings: dict[tuple[str, str], float] = {}
    for query in queries:
        found = bench.kept(f"idcm-{query.qid}", partial(read, scorer, query, run[query.qid]))
        for hit in run[query.qid]:
            ratings |= {
                (query.text, text): score for text, score in zip(parts(hit.text), found[hit.docno], strict=True)
            }
    first = evaluate(run, collection.qrels, MEASURE)

    def measured(judge: WindowedJudge) -> tuple[Evaluation, int]:
        with Reranker(judge, depth=DEPTH) as reranker:
            after = reranker.rank_batch(run, queries)
        read_windows = sum(one.usage.windows_read for one in after.values() if isinstance(one, Reranked))
        return evaluate(after, collection.qrels, MEASURE), read_windows

    reader = KnownRatings(ratings)
    every, reads = measured(WindowedJudge(reader, windows=EVERY, tokens=TOKENS))
    print(every.mean, reads, flush=True)
    rows: list[Row] = [
        {"system": "BM25 of documents", MEASURE: round(first.mean[MEASURE], 4), "read": 0},
        {"system": "every window", MEASURE: round(every.mean[MEASURE], 4), "read": reads, "fewer": 1.0},
    ]
    by_words: dict[str, NDArray[np.float64]] = {}  # the windows of a query are the same in every row

    def bm25(query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        if query not in by_words:
            by_words[query] = bm25_of_windows(query, texts)
        return by_words[query]

    for chosen_by, scorer_of in (("BM25", bm25), ("place: the first", first_windows)):
        for count in COUNTS:
            result, own = measured(WindowedJudge(reader, windows=count, tokens=TOKENS, scorer=scorer_of))
            lost = differences(result, every, MEASURE)
            interval = bootstrap_interval(lost)
            rows.append({"system": f"windows by {chosen_by}", "windows": count, MEASURE: round(result.mean[MEASURE], 4),
                         "difference": round(float(lost.mean()), 4), "lo": round(interval.low, 4),
                         "hi": round(interval.high, 4), "read": own, "fewer": round(reads / own, 1)})  # fmt: skip
            print(rows[-1], flush=True)
    bench.write(
        "idcm",
        rows,
        seed=0,
        title="Windows of long documents",
        packages=("torch",),
        note=f"time: {len(queries)} queries over 423 articles. BM25's first {DEPTH} are reranked by the rank head of "
        f"thresher-context; a document gets its best window's rating. read: windows of {TOKENS} tokens that the head "
        "read, over all queries; fewer: how many times fewer than all. difference: of nDCG@10 to reading every window, "
        "with the 95 % interval of a paired bootstrap over queries.",
    )
