"""What every language model looks like from here: requests in, completions out, one attempt each.

A `Request` is a prompt and what is wanted of the answer: text, the log-probabilities of a few labels as its first
token, or the log-probability of a given continuation. A model makes exactly one attempt a request: retries, budget
and cache belong to whoever holds the account, because each attempt may cost.

Labels: the log-probability of a label is that of all first answer tokens that spell it, white space around it and,
for labels longer than a letter, case aside. A label the server did not list among the likeliest is absent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from thresher.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.llm.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: `system`, `user` or `assistant`, and what it says."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and what is wanted.

    Attributes:
        messages: the conversation so far; a single one where `raw` is set.
        max_tokens: the longest answer, reasoning included.
        temperature: 0 for the likeliest answer.
        labels: wanted log-probabilities of these as the first answer token.
        opening: text the answer begins with, given to the model as its own ("[", so that ids follow at once).
        continuation: wanted log-probability of this text as the answer.
        schema: a JSON schema the answer must follow, where the model can be held to one.
        pattern: a regular expression the answer must match, where the model can be held to one.
        permutation: the answer must name each of these once, as `[2] > [1]`, where the model can be held to that.
        raw: the message is the prompt itself, without chat template (monoT5, base models).
        repeat: number of the repetition, so that asking the same again is another call to cache and journal.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 16
    temperature: float = 0.0
    labels: tuple[str, ...] = ()
    opening: str = ""
    continuation: str = ""
    schema: Mapping[str, Any] | None = None
    pattern: str = ""
    permutation: tuple[str, ...] = ()
    raw: bool = False
    repeat: int = 0

    def payload(self) -> dict[str, Any]:
        """All of it as plain JSON: what a cache key is made of."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **values,
            "messages": [[m.role, m.content] for m in self.messages],
            "labels": list(self.labels),
            "permutation": list(self.permutation),
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, None where the model did not say."""

    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: the answer, the opening not repeated.
        labels: log-probability of each wanted label that the model gave one; empty if none was wanted.
        floor: log-probability that no absent label exceeds.
        continuation: log-probability of the wanted continuation, None if none was wanted.
        usage: tokens.
        finish: `stop`, `length` or what else the model said.
    """

    text: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    floor: float = -math.inf
    continuation: float | None = None
    usage: Usage = field(default_factory=Usage)
    finish: str = "stop"

    def __post_init__(self) -> None:
        numbers = [*self.labels.values(), self.floor, *([] if self.continuation is None else [self.continuation])]
        if any(math.isnan(number) or number == math.inf for number in numbers):
            raise ModelError(
                f"the model gave a log-probability that is no number (labels {dict(self.labels)}, continuation "
                f"{self.continuation}); it may be running in too small a float type: try bfloat16 or float32"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain JSON (infinities as null), for cache and journal."""
        return {
            "text": self.text,
            "labels": {label: _finite(value) for label, value in self.labels.items()},
            "floor": _finite(self.floor),
            "continuation": None if self.continuation is None else [_finite(self.continuation)],
            "finish": self.finish,
            "usage": {name: getattr(self.usage, name) for name in self.usage.__dataclass_fields__},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Completion:
        """The completion `as_json` was made of."""
        continuation = document["continuation"]
        return cls(
            text=document["text"],
            labels={label: _number(value) for label, value in document["labels"].items()},
            floor=_number(document["floor"]),
            continuation=None if continuation is None else _number(continuation[0]),
            usage=Usage(**document["usage"]),
            finish=document["finish"],
        )


class LanguageModel(Protocol):
    """Anything that completes prompts."""

    @property
    def name(self) -> str:
        """The model's name, as prices and records know it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything beside the request that answers depend on, as plain JSON, free of secrets."""

    @property
    def tokens(self) -> Tokens:
        """Counts and cuts text in this model's tokens."""

    @property
    def context(self) -> int | None:
        """The most tokens of prompt and answer together, None if unknown."""

    def prompt_bound(self, request: Request) -> int:
        """An upper bound on the prompt tokens of a request."""

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One attempt at each request.

        Raises:
            TransientModelError: it failed and may succeed later.
            ModelError: it failed for good, or cannot give what is wanted.
        """


def spells(token: str, label: str) -> bool:
    """Does a token spell a label? See the module on white space and case."""
    token = token.strip().lstrip("\u2581\u0120").strip()
    return token == label or (len(label) > 1 and token.lower() == label.lower())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return -math.inf if value is None else float(value)
