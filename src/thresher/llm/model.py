"""The interface of a language model: requests in, completions out, one attempt each.

A `Request` is a prompt and the kind of answer wanted: text, the log-probabilities of a few labels as its first token,
or the log-probability of a given continuation. A model makes exactly one attempt at each request: retries, budget and
cache belong to `thresher.llm.client`, because each attempt may cost.

The log-probability of a label is that of all first answer tokens that spell it, regardless of white space around it
and, for labels longer than a letter, of case. A label the server did not list among the likeliest is absent.
"""

from __future__ import annotations

import math
import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from thresher.arguments import checked_call
from thresher.checks import shown
from thresher.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.llm.tokens import Tokens

Json = dict[str, Any]
"""A decoded JSON object."""

retried_by_caller: ContextVar[bool] = ContextVar("retried_by_caller", default=False)
"""Whether the caller of a model counts and repeats its attempts, as `thresher.llm.client` does."""

LARGEST_LOG = 1e30  # beyond it a log-probability is damaged, and differences would exceed a float32

BYTES_A_TOKEN_AT_MOST = 16


class TransientModelError(ModelError):
    """A call that failed and may succeed when tried again.

    Args:
        message: what happened, without secrets.
        retry_after: seconds the server asked to wait, None if it did not.
        may_have_run: whether the call may have been billed: False only if the server refused it or was not reached.
    """

    def __init__(self, message: str, retry_after: float | None = None, may_have_run: bool = True) -> None:
        super().__init__(message, retry_after, may_have_run)

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asked to wait."""
        value = self.args[1]
        return None if value is None else float(value)

    @property
    def may_have_run(self) -> bool:
        """Whether the call may have cost something."""
        return bool(self.args[2])

    def __str__(self) -> str:
        return str(self.args[0])


class RefusedRequestError(ModelError):
    """A request that the server refused to work on, which cost nothing and is not repeated as it is.

    Args:
        message: what happened, without secrets.
        status: the HTTP status, or the one that the error names.
        said: the server's words, without secrets.
    """

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message, status, said)

    @property
    def status(self) -> int:
        """The HTTP status, or the one that the error names."""
        return int(self.args[1])

    @property
    def said(self) -> str:
        """The server's words."""
        return str(self.args[2])

    def __str__(self) -> str:
        return str(self.args[0])


class CannotBeginError(ModelError):
    """The server does not let a request begin the answer."""


class AdaptedError(TransientModelError):
    """A refused request from which the model learnt what the server accepts: the next attempt is another request."""

    def __init__(self, message: str) -> None:
        super().__init__(message, None, False)

    def __reduce__(self) -> tuple[type[AdaptedError], tuple[str]]:
        return AdaptedError, (str(self),)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: its role (`system`, `user` or `assistant`) and text."""

    role: str
    content: str


@checked_call
@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and the kind of answer wanted.

    Attributes:
        messages: the conversation so far; a single one where `raw` is set.
        max_tokens: the longest answer, reasoning included.
        temperature: 0 for the likeliest answer.
        labels: return the log-probabilities of these as the first answer token.
        opening: text the answer begins with, as if the model had written it ("[", so that ids follow at once).
        continuation: return the log-probability of this text as the answer.
        schema: a JSON schema for the answer, if the model supports constrained output.
        pattern: a regular expression for the answer, if the model supports constrained output.
        permutation: the answer must name each of these once, as `[2] > [1]`, if the model supports that.
        raw: the message is the prompt itself, without chat template (monoT5, base models).
        repeat: number of the repetition; another number is another call to cache and journal.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 16
    temperature: float = 0.0
    labels: tuple[str, ...] = ()
    opening: str = ""
    continuation: str = ""
    schema: Mapping[str, object] | None = None
    pattern: str = ""
    permutation: tuple[str, ...] = ()
    raw: bool = False
    repeat: int = 0

    def payload(self) -> dict[str, object]:
        """The whole request as plain JSON, for the cache key."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **values,
            "messages": [[m.role, m.content] for m in self.messages],
            "labels": list(self.labels),
            "permutation": list(self.permutation),
        }


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one call, None where the model did not report them."""

    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None

    @classmethod
    def reported(cls, document: object, sent: int = 0, received: int = 0) -> TokenUsage:
        """The usage that a server reports: counts that cannot be true are raised to what was sent, or left out.

        Args:
            document: the `usage` of its answer, of any type.
            sent: bytes of the prompt; no vocabulary packs more than `BYTES_A_TOKEN_AT_MOST` of them into a token.
            received: bytes of the answer.
        """
        values = document if isinstance(document, dict) else {}
        details = values.get("completion_tokens_details", values.get("output_tokens_details"))
        prompt = _count(values.get("prompt_tokens", values.get("input_tokens", values.get("total_tokens"))))
        answer = _count(values.get("completion_tokens", values.get("output_tokens")))
        read = values.get("prompt_tokens_details", values.get("input_tokens_details"))
        cached = _count(read.get("cached_tokens")) if isinstance(read, dict) else None
        return cls(
            None if prompt is None else max(prompt, sent // BYTES_A_TOKEN_AT_MOST),
            None if answer is None else max(answer, received // BYTES_A_TOKEN_AT_MOST),
            _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None,
            None if cached is None or prompt is None else min(cached, prompt),
        )

    def as_json(self) -> Json:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer.

    Attributes:
        text: the answer, the opening not repeated.
        labels: log-probability of each requested label that the model listed; empty if none was requested.
        floor: log-probability that no absent label exceeds.
        continuation: log-probability of the requested continuation, None if none was requested.
        usage: tokens.
        finish: why the answer ended: `stop`, `length` or another word of the model.
    """

    text: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    floor: float = -math.inf
    continuation: float | None = None
    usage: TokenUsage = field(default_factory=TokenUsage)
    finish: str = "stop"

    def __post_init__(self) -> None:
        given = (*self.labels.values(), self.floor) if isinstance(self.labels, dict) else (None,)
        given = given if self.continuation is None else (*given, self.continuation)
        if not all(isinstance(number, float | int) for number in given):
            raise ModelError(f"the model returned log-probabilities that are no numbers: {self.labels}, {self.floor}")
        numbers = [*self.labels.values(), self.floor, *([] if self.continuation is None else [self.continuation])]
        if any(math.isnan(number) or number > LARGEST_LOG or -math.inf < number < -LARGEST_LOG for number in numbers):
            raise ModelError(
                f"the model returned a log-probability that is not a number (labels {dict(self.labels)}, continuation "
                f"{self.continuation}); its float type may be too small: try bfloat16 or float32"
            )

    def as_json(self) -> Json:
        """Plain JSON (infinities as null), for cache and journal."""
        return {
            "text": self.text,
            "labels": {label: _finite(value) for label, value in self.labels.items()},
            "floor": _finite(self.floor),
            "continuation": None if self.continuation is None else [_finite(self.continuation)],
            "finish": self.finish,
            "usage": self.usage.as_json(),
        }

    @classmethod
    def from_json(cls, document: Json) -> Completion:
        """The completion from its `as_json`.

        Raises:
            InputError: the document is something else.
        """
        try:
            continuation = document["continuation"]
            if not isinstance(document["text"], str) or not isinstance(document["finish"], str):
                raise TypeError("the text of a completion must be text")
            return cls(
                text=document["text"],
                labels={label: _number(value) for label, value in document["labels"].items()},
                floor=_number(document["floor"]),
                continuation=None if continuation is None else _number(continuation[0]),
                usage=TokenUsage(**document["usage"]),
                finish=document["finish"],
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as err:
            raise InputError(f"{shown(document)} is not a recorded completion ({type(err).__name__}: {err})") from err


class LanguageModel(Protocol):
    """A language model."""

    @property
    def name(self) -> str:
        """The model's name, as in price tables."""

    @property
    def parameters(self) -> Mapping[str, object]:
        """Everything besides the request that answers depend on, as plain JSON, without secrets."""

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
            ModelError: it failed for good, or cannot give the answer requested.
        """


def spells(token: str, label: str) -> bool:
    """Whether a token spells a label; see the module on white space and case."""
    token = token.strip().lstrip("\u2581\u0120").strip()
    return token == label or (len(label) > 1 and token.lower() == label.lower())


def _count(value: object) -> int | None:
    """A number of tokens, None for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**12 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return -math.inf if value is None else float(value)


def folded(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages with what the system says at the beginning of the user's first message."""
    system = "\n\n".join(one["content"] for one in messages if one["role"] == "system")
    others = [dict(one) for one in messages if one["role"] != "system"]
    if not others or others[0]["role"] != "user":
        return [{"role": "user", "content": system}, *others]
    return [{"role": "user", "content": f"{system}\n\n{others[0]['content']}"}, *others[1:]]


def one_line(text: str) -> str:
    """`text` on one line, without characters that control a terminal or the direction of writing."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def is_thought(text: str) -> bool:
    """Whether an answer ends within the model's thinking, or before anything was said."""
    if not text.strip():
        return True
    starts = [(found.start(), found[0]) for found in re.finditer(THOUGHT_OPENS, text, re.IGNORECASE)]
    return bool(starts) and not re.search(THOUGHT_CLOSES, text[starts[-1][0] + len(starts[-1][1]) :], re.IGNORECASE)


_THOUGHT = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis)"
THOUGHT_OPENS = rf"<{_THOUGHT}>|\[{_THOUGHT}\]|\u25c1{_THOUGHT}\u25b7|<\|channel\|>{_THOUGHT}|<\|begin_of_thought\|>"
THOUGHT_CLOSES = rf"</{_THOUGHT}>|\[/{_THOUGHT}\]|\u25c1/{_THOUGHT}\u25b7|<\|channel\|>final|<\|end_of_thought\|>"
