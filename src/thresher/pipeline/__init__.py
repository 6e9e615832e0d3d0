"""A query answered: search, interpolation, reranking and sentence selection under one deadline.

    from thresher import Pipeline

    pipeline = Pipeline.open("my-index")
    answer = pipeline.ask("what separates grain from chaff?", k=3, max_context_tokens=800)
    answer.context, answer.passages, answer.usage

One module a stage (`search`, `interpolate`, `rerank`, `select`); the deadline is kept in `deadline`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.pipeline.answer import Answer, AnswerPassage
    from thresher.pipeline.interpolate import InterpolateStage
    from thresher.pipeline.pipeline import Pipeline
    from thresher.pipeline.rerank import RerankerStage, RerankStage
    from thresher.pipeline.search import SearchStage
    from thresher.pipeline.select import SelectStage
    from thresher.pipeline.stage import Stage, StageReport, State
    from thresher.pipeline.text_ranker import TextRanker, TextScore

__all__ = [
    "Answer",
    "AnswerPassage",
    "InterpolateStage",
    "Pipeline",
    "RerankStage",
    "RerankerStage",
    "SearchStage",
    "SelectStage",
    "Stage",
    "StageReport",
    "State",
    "TextRanker",
    "TextScore",
]

_HOMES = {
    "Answer": "answer",
    "AnswerPassage": "answer",
    "InterpolateStage": "interpolate",
    "Pipeline": "pipeline",
    "RerankStage": "rerank",
    "RerankerStage": "rerank",
    "SearchStage": "search",
    "SelectStage": "select",
    "Stage": "stage",
    "StageReport": "stage",
    "State": "stage",
    "TextRanker": "text_ranker",
    "TextScore": "text_ranker",
}


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
