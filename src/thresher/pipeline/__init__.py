"""A question answered: search, interpolation, ranking and sentence selection as one thing with one account.

    from thresher import Pipeline

    pipeline = Pipeline("my-index")
    answer = pipeline.ask("what separates grain from chaff?", k=3, max_context_tokens=800)
    answer.context, answer.passages, answer.ledger

`Pipeline` is the door. It loads no model before it is opened.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
