"""What a server was seen not to accept, and what is sent to it instead.

Servers and models differ in what they accept. What one refuses by name is learnt once (`learn`) and kept in an
`Accepted`: the other field for the longest answer, no temperature, the system message folded into the user's, no
structured output, fewer alternatives, another way to turn thinking off, an address with or without `/v1`. Nothing
is sent from here: `thresher.llm.openai_server` sends, and asks about each refusal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from thresher.llm.model import RefusedRequestError

if TYPE_CHECKING:
    from thresher.errors import ModelError
    from thresher.llm.model import Json

LimitField = Literal["max_tokens", "max_completion_tokens"]
Thinking = Literal["auto", "on", "off"]

TOP_LOGPROBS = 20  # the maximum of OpenAI, and of vLLM by default
OLLAMA_PORT = 11434
LIMIT_FIELDS: tuple[LimitField, LimitField] = ("max_tokens", "max_completion_tokens")
STRUCTURE = ("response_format", "structured_outputs", "json_schema", "guided_regex")
_OPENING = ("continue_final_message", "add_generation_prompt")
_WANTED = {"model", "messages", "prompt", "echo", "input"}  # fields without which there is no request

_REFUSAL = re.compile(
    r"unsupported|not (be )?(support|permit|allow|accept|available|enabled|compatible)|does ?n.t (support|accept)|"
    r"unknown|unrecogni[sz]ed|unexpected|extra (input|field|param)|deprecated|invalid|removed|only the default|"
    r"instead|disabled|no longer|cannot be (used|set)|not valid|must be (omitted|unset|removed)",
    re.IGNORECASE,
)
_TOO_MUCH = re.compile(
    r"too (large|long|many|big|high)|context (length|window|size)|exceed|at (most|least)", re.IGNORECASE
)
_NO_SYSTEM = re.compile(
    r"system[ _]?(role|message|prompt|instruction)|developer (role|message|instruction)|roles? must alternate|"
    r"role.{0,80}system|system.{0,40}(not|un)[ -]?support",
    re.IGNORECASE | re.DOTALL,
)
_THINKING: dict[str, tuple[Json, ...]] = {
    "auto": ({},),
    "off": (
        {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "minimal"},
        {"reasoning_effort": "low"},
    ),
    "on": ({"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}, {"reasoning_effort": "medium"}),
}
"""Ways to turn thinking on or off: of vLLM, SGLang and llama.cpp; then of OpenAI and Ollama, by strength."""

_BY_HOST = (
    (r"(^|\.)openrouter\.ai$", {"off": {"reasoning": {"enabled": False}}, "on": {"reasoning": {"enabled": True}}}),
    (r"(^|\.)aliyuncs\.com$", {"off": {"enable_thinking": False}, "on": {"enable_thinking": True}}),
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a server accepts, as far as it is known.

    Attributes:
        limit_field: the field of the longest answer.
        other_limit: whether the other field may still be tried.
        system: whether system messages are accepted.
        opening: whether an answer can be begun.
        logprobs: whether log-probabilities are given.
        top: how many alternatives are.
        thinking: the ways of turning thinking on or off that are left, the one in use first.
        urls: the addresses that are left, the one in use first.
        dropped: fields that are not sent.
    """

    limit_field: LimitField
    thinking: tuple[Json, ...]
    urls: tuple[str, ...]
    top: int = TOP_LOGPROBS
    other_limit: bool = True
    system: bool = True
    opening: bool = True
    logprobs: bool = True
    dropped: frozenset[str] = frozenset()


def learn(err: ModelError, accepted: Accepted, body: Json) -> tuple[Accepted, str] | None:
    """What a server accepts after an error, and what it does not, in words; None if the error is about something else.

    Args:
        err: the error.
        accepted: what the request took to be accepted.
        body: the request.
    """
    said = err.said if isinstance(err, RefusedRequestError) else str(err)
    status = err.status if isinstance(err, RefusedRequestError) else 500
    if status in (404, 405):
        if len(accepted.urls) > 1 and "model" not in said.lower():
            return replace(accepted, urls=accepted.urls[1:]), f"requests at {accepted.urls[0]}"
        return None
    roles = [message["role"] for message in body.get("messages", ())]
    if "system" in roles and status in (400, 422, 500, 501) and _NO_SYSTEM.search(said):
        return replace(accepted, system=False), "system messages; they are sent as a part of the user's"
    if status not in (400, 422, 501):
        return None
    places = {name: place for name in body if name not in _WANTED and (place := _place(said, name, body[name])) >= 0}
    for name in sorted(places, key=places.__getitem__):
        if (found := _without(name, said, accepted)) is not None:
            return found
    return None


def _without(name: str, said: str, accepted: Accepted) -> tuple[Accepted, str] | None:
    """What is accepted if the server refused a field with these words; None if the field is not what it refused."""
    found: tuple[Accepted, str] | None = None
    if name in LIMIT_FIELDS:
        other = LIMIT_FIELDS[1 - LIMIT_FIELDS.index(name)]
        if accepted.other_limit and not _TOO_MUCH.search(said) and (_REFUSAL.search(said) or other in said):
            found = replace(accepted, limit_field=other, other_limit=False), f"{name!r}; {other!r} is sent"
    elif name in ("logprobs", "top_logprobs"):
        numbers = map(int, re.findall(r"(?<![\w.-])\d{1,2}(?![\w.-]*\w)", said))
        top = max((number for number in numbers if 0 < number < accepted.top), default=0)
        found = (
            (replace(accepted, top=top), f"{accepted.top} alternatives; {top} are asked for")
            if top
            else (replace(accepted, logprobs=False), f"{name!r}")
        )
    elif name in _OPENING:
        found = replace(accepted, opening=False), f"{name!r}"
    elif accepted.thinking and name in accepted.thinking[0]:
        found = replace(accepted, thinking=accepted.thinking[1:]), f"{accepted.thinking[0]}"
    elif name == "temperature" or name in STRUCTURE or _REFUSAL.search(said):
        found = replace(accepted, dropped=accepted.dropped | {name}), f"{name!r}; it is not sent"
    return found


def _place(said: str, name: str, value: object) -> int:
    """Where a server's words name a field, or a field within it; -1 if they do not."""
    found = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", said)
    if found and "_" not in name and name not in ("temperature", "logprobs"):  # may be an ordinary word: n, stop, seed
        before = r"[\"'`.]|:\s*|(argument|param\w*|field|input|key)\S*\s+"
        found = re.search(rf"({before}){re.escape(name)}(?![\w-])|^{re.escape(name)}\b", said, re.IGNORECASE)
    if found:
        return found.start()
    inner = [_place(said, key, None) for key in value if "_" in key] if isinstance(value, dict) else []
    return max(inner, default=-1)


def ways_to_think(thinking: Thinking, url: str) -> tuple[Json, ...]:
    """How thinking is turned on or off on this host, the likeliest way first."""
    host, ways = urlsplit(url).hostname or "", _THINKING[thinking]
    for pattern, own in _BY_HOST:
        if thinking in own and re.search(pattern, host):
            return (own[thinking], *ways)
    efforts_first = re.search(r"(^|\.)openai\.com$", host) or urlsplit(url).port == OLLAMA_PORT
    return ways[1:] if efforts_first and len(ways) > 1 else ways


def addresses(url: str) -> tuple[str, ...]:
    """The address, and the other one to try if it is not found: with `/v1`, or without."""
    return (url, url.removesuffix("/v1")) if url.endswith("/v1") else (url, f"{url}/v1")
