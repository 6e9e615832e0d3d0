"""A query answered: search, interpolation, ranking and sentence selection as one thing with one account.

    from thresher import Pipeline

    pipeline = Pipeline("my-index")
    answer = pipeline.ask("what separates grain from chaff?", k=3, max_context_tokens=800)
    answer.context, answer.passages, answer.usage

`Pipeline` is the door. It loads no model before it is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.pipeline.answer import Answer, AnswerPassage, StageReport
    from thresher.pipeline.pipeline import Pipeline

__all__ = ["Answer", "AnswerPassage", "Pipeline", "StageReport"]

_HOMES = {
    "Answer": "answer",
    "AnswerPassage": "answer",
    "Pipeline": "pipeline",
    "StageReport": "answer",
}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
