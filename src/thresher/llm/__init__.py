"""Language models behind one small protocol, recordings of their answers, and a cache.

The backends import what they need when they are constructed: httpx2 for `OpenAIServer`, torch and transformers
for `TransformersModel`; `RecordedModel` needs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.llm.cache import ResponseCache
    from thresher.llm.local import TransformersModel
    from thresher.llm.model import Completion, LanguageModel, Request
    from thresher.llm.openai_server import OpenAIServer
    from thresher.llm.recorded import RecordedModel, Recorder

__all__ = [
    "Completion",
    "LanguageModel",
    "OpenAIServer",
    "RecordedModel",
    "Recorder",
    "Request",
    "ResponseCache",
    "TransformersModel",
]

_HOMES = {
    "Completion": "model",
    "LanguageModel": "model",
    "OpenAIServer": "openai_server",
    "RecordedModel": "recorded",
    "Recorder": "recorded",
    "Request": "model",
    "ResponseCache": "cache",
    "TransformersModel": "local",
}


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
