"""Calibrate the scores of the model that reads the passages of an index, on queries with judgments.

The candidates are what the index's pipeline finds before it reads passages. The model rates them one by one, as the
rerank stage does, and its ratings are fitted to the judgments (`thresher.rerank.calibration_fit`). The index keeps the
calibration as `score-calibration.json`, outside of its commits: it is of the model and the kind of passages, and holds
for later commits as long as the passages stay alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.index.commit import CALIBRATION
from thresher.pipeline.open import RATINGS, rating_judge
from thresher.pipeline.pipeline import Pipeline
from thresher.ranking import Run
from thresher.rerank.calibration_fit import FOLDS, fit_calibration, judged_pairs
from thresher.rerank.reranker import Reranker
from thresher.search.index import Index

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thresher.records import Qrels, Query
    from thresher.rerank.calibration import ScoreCalibration, Unjudged


@checked_call
def calibrate_index(
    index: str | Path,
    queries: Iterable[Query],
    qrels: Qrels,
    *,
    relevant: int = 1,
    depth: int = 50,
    unjudged: Unjudged = "not relevant",
    method: Literal["auto", "isotonic", "platt"] = "auto",
    folds: int = FOLDS,
    source: str = "",
    device: str = "auto",
) -> ScoreCalibration:
    """Fit the calibration of an index, and write it into the index.

    Args:
        index: its directory.
        queries: with and without judgments; those without are left out.
        qrels: judgments.
        relevant: the lowest grade that counts as relevant.
        depth: passages that are read of each query.
        unjudged: what passages without a judgment count as, as for `judged_pairs`.
        method: the curve, as for `fit_calibration`.
        folds: folds of topics.
        source: where the judgments are from, in words.
        device: of the model.

    Raises:
        InputError: no query is judged, or there are too few judgments.
        ConfigError: the index's reranker does not rate passages.
        MissingExtraError: its model needs what is not installed.
    """
    asked = [query for query in queries if query.qid in qrels.judgments]
    if not asked:
        raise InputError("none of the queries has judgments; give the judgments of these queries")
    with Index.open(index) as opened:
        settings = opened.recipe.ask.model_copy(update={"min_score": 0.0, "precision": 0.0})
        pipeline = Pipeline.open(opened, rerank=None, context=None, settings=settings, device=device)
        judge = rating_judge(opened.recipe.ask.rerank, device)
        with Reranker(judge, RATINGS, depth=depth) as reranker:
            found = [pipeline.ask(query, depth, deadline_ms=0).ranking.cut(depth) for query in asked]
            pairs = [(query, one.with_passages(opened)) for query, one in zip(asked, found, strict=True)]
            results = reranker.rank_batch(pairs)
    run = Run({one.qid: one for one in results if len(one)}, "calibration")
    known = judged_pairs(run, qrels, relevant=relevant, depth=depth, unjudged=unjudged)
    count = len(set(known.topics))
    made = fit_calibration(
        known,
        judge=judge.name,
        plan=RATINGS,
        relevant=relevant,
        signal="score",
        method=method,
        folds=folds,
        model=str(getattr(judge, "fingerprint", "")),
        source=f"{count} topics of {source}" if source else f"{count} topics of this index",
    )
    made.save(Path(index) / CALIBRATION)
    return made
