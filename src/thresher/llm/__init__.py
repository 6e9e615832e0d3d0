"""Language models behind one small protocol, the cache of their answers, prices and retries.

The backends load what they need when they are made: the openai SDK for `OpenAIServer`, torch and transformers for
`TransformersModel`; `RecordedModel` needs neither.
"""

from __future__ import annotations

from typing import Any

from thresher._lazy import load

__all__ = [
    "Completion",
    "LanguageModel",
    "Message",
    "OpenAIServer",
    "Price",
    "RecordedModel",
    "Recorder",
    "Request",
    "ResponseCache",
    "RetryPolicy",
    "TransformersModel",
    "Usage",
    "load_prices",
    "load_tokens",
]

_HOMES = {
    "Completion": "model",
    "LanguageModel": "model",
    "Message": "model",
    "OpenAIServer": "openai_server",
    "Price": "prices",
    "RecordedModel": "recorded",
    "Recorder": "recorded",
    "Request": "model",
    "ResponseCache": "cache",
    "RetryPolicy": "retry",
    "TransformersModel": "local",
    "Usage": "model",
    "load_prices": "prices",
    "load_tokens": "tokens",
}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
