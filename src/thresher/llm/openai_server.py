"""Language models behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, LM Studio, TGI, or a hosted one.

One request is one call, and `thresher.llm.client` decides about another. Connections are limited and kept open; there
is one client per event loop. The openai SDK is not used: it reads organisation, project and headers for OpenAI from
the environment and sends them to every address, and its answers have no limit of size.

Servers and models differ in what they accept. What one refuses by name is learnt once, noted in the log and remembered
by the object, see `thresher.llm.accepted`. While it is unknown what a server accepts, one request goes ahead of the
others, for half a second at most.

Log-probabilities of labels come from `top_logprobs` of the first answer token; the log-probability of a continuation
from the completions endpoint with `echo`, if the server supports it. Structured output is requested in one of the
dialects below; without one, answers are free text. Reasoning is never read as the answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from thresher.arguments import checked_call
from thresher.errors import ConfigError, ModelError
from thresher.llm.accepted import (
    LIMIT_FIELDS,
    STRUCTURE,
    TOP_LOGPROBS,
    Accepted,
    LimitField,
    Thinking,
    addresses,
    learn,
    ways_to_think,
)
from thresher.llm.background import Leader, PerLoop, no_end
from thresher.llm.http import CONNECTIONS, JsonServer, server_url
from thresher.llm.keys import KeySource
from thresher.llm.model import (
    AdaptedError,
    CannotBeginError,
    Completion,
    LanguageModel,
    RefusedRequestError,
    TokenUsage,
    TransientModelError,
    folded,
    one_line,
    retried_by_caller,
    spells,
)
from thresher.llm.tokens import tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from thresher.llm.model import Json, Request
    from thresher.llm.tokens import Tokens

_log = logging.getLogger(__name__)

Structured = Literal["none", "json-schema", "vllm-regex", "tgi-regex"]

TEMPLATE_TOKENS = 64  # upper bound on what a chat template adds around a conversation
MESSAGE_TOKENS = 16  # and around each message
_NOTHING: tuple[dict[str, float], float] = ({}, -math.inf)


class OpenAIServer(LanguageModel):
    """A model on a server.

    Args:
        model: the name the server knows it by.
        base_url: the server's address, with or without `/v1`.
        key: the name of the environment variable that holds the key, the path of a file with it, or a function that
            returns it. Unless given, OPENAI_API_KEY for openai.com and THRESHER_LLM_KEY for every other host, so that
            no key goes where it does not belong. A local server needs none.
        timeout: seconds after which a call without an answer has failed.
        connections: the most open connections.
        tokens: the model's tokenizer, or the path of its tokenizer.json, for exact counts; estimates unless given.
        context: the most tokens of prompt and answer together, None if unknown.
        structured: how a schema or pattern is sent to the server: `json-schema` (OpenAI, vLLM, llama.cpp),
            `vllm-regex`, `tgi-regex`, or `none`.
        top_logprobs: number of alternatives requested for the first answer token.
        limit_field: the field that carries the longest answer; if the server refuses it, the other one is used.
        thinking: `off` asks a thinking model to answer at once and `on` to think, in the way the server knows; `auto`
            leaves it to the server.
        extra: further fields of the request body (`{"chat_template_kwargs": {"enable_thinking": False}}`), or
            their JSON.

    Raises:
        ConfigError: an argument is not one of the above.
        MissingExtraError: httpx2 is not installed.
    """

    @checked_call
    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        key: str | Path | Callable[[], str] = "",
        timeout: float = 120.0,
        connections: int = CONNECTIONS,
        tokens: Tokens | str | Path | None = None,
        context: int | None = None,
        structured: Structured = "none",
        top_logprobs: int = TOP_LOGPROBS,
        limit_field: LimitField = "max_tokens",
        thinking: Thinking = "auto",
        extra: Mapping[str, object] | str | None = None,
    ) -> None:
        _check_choice("structured", structured, ("none", "json-schema", "vllm-regex", "tgi-regex"))
        _check_choice("limit_field", limit_field, LIMIT_FIELDS)
        _check_choice("thinking", thinking, ("auto", "on", "off"))
        for name, value in (("context", context), ("top_logprobs", top_logprobs)):
            if not (value is None and name == "context") and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(model, str) or not model.strip():
            raise ConfigError(f"a model on a server has a name; got {model!r}")
        self._model, self._url = model, server_url(base_url, "v1", ("/chat/completions", "/completions"))
        self._server = JsonServer(
            f"{self._url} (model {model!r})", KeySource(key or default_key(self._url)), timeout, connections
        )
        self._tokens, self._context = tokens_of(tokens), context
        self._structured, self._extra = structured, extra_body(extra)
        self._accepted = Accepted(limit_field, ways_to_think(thinking, self._url), addresses(self._url), top_logprobs)
        self._thinking = thinking
        self._leaders = PerLoop(Leader, no_end)

    @property
    def name(self) -> str:
        """The model, as the server knows it."""
        return self._model

    @property
    def parameters(self) -> Mapping[str, object]:
        """Address and what is sent with every request."""
        thinking = {} if self._thinking == "auto" else {"thinking": self._thinking}
        return {"url": self._url, "structured": self._structured, "extra": self._extra, **thinking}

    @property
    def tokens(self) -> Tokens:
        """The tokenizer, or estimates."""
        return self._tokens

    @property
    def context(self) -> int | None:
        """As given."""
        return self._context

    @property
    def structured(self) -> Structured:
        """The dialect for structured output; `none` once the server has refused it."""
        return "none" if self._accepted.dropped & set(STRUCTURE) else self._structured

    @checked_call
    def prompt_bound(self, request: Request) -> int:
        """The bounds of all texts and of the chat template."""
        texts = [message.content for message in request.messages] + [request.opening, request.continuation]
        return sum(map(self._tokens.bound, texts)) + MESSAGE_TOKENS * len(request.messages) + TEMPLATE_TOKENS

    @checked_call
    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One call per request, concurrently. Called directly, it repeats what a server refuses in a form it accepts.

        Raises:
            AdaptedError: as it is called by `thresher.llm.client`, which counts every request: the next attempt is sent
                in a form the server accepts.
            TransientModelError: no connection, a time-out, a broken or unreadable answer, status 408, 409, 424, 425,
                429 or 5xx, or an error of that kind under status 200.
            RefusedRequestError: any other status.
            ModelError: log-probabilities that the server does not give, an answer cut off while the model was thinking,
                an answer that is not text, or a refusal to answer.
        """
        return list(await asyncio.gather(*map(self._one, requests)))

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._server.aclose()

    def close(self) -> None:
        """Close the connections that synchronous callers used."""
        self._server.close()

    async def _one(self, request: Request) -> Completion:
        """Attempts until nothing is left to learn from a refusal; one, if the caller counts and repeats them."""
        while True:
            async with self._leaders.get().turn() as turn:
                completion, refusal = await self._attempt(request, self._accepted)
                if completion is not None:
                    return completion
                turn.settled = False
            if retried_by_caller.get():
                raise AdaptedError(f"{self._server.where} refused the form of a request: {refusal}")

    async def _attempt(self, request: Request, accepted: Accepted) -> tuple[Completion | None, str]:
        """One request: its completion, or None and the words of a refusal from which something was learnt."""
        self._check_possible(request, accepted)
        path, body = self._body(request, accepted)
        try:
            answer = await self._server.post(accepted.urls[0] + path, body)
        except (RefusedRequestError, TransientModelError) as err:
            learnt = learn(err, accepted, body)
            if learnt is None:
                raise
            if self._accepted is accepted:
                self._accepted, note = learnt
                _log.warning("%s does not accept %s", self._server.where, note)
            return None, str(err)
        problem: Exception
        try:
            return self._completion(request, answer), ""
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as err:
            problem = err
        said = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise TransientModelError(f"{self._server.where} sent a response that is not a completion ({said})")

    def _check_possible(self, request: Request, accepted: Accepted) -> None:
        """Raise if the server is known not to do what the request needs."""
        where = self._server.where
        if request.labels and not accepted.logprobs:
            raise self._no_logprobs()
        if request.opening and not request.raw and not accepted.opening:
            raise CannotBeginError(
                f"{where} does not let the request begin the answer (continue_final_message), which order='logits' "
                "needs; use --order generate, or a server that does (vLLM)"
            )
        if not accepted.thinking:
            raise ModelError(
                f"{where} accepts no known way to turn thinking {self._thinking}; leave --thinking at auto and give "
                "--reasoning-tokens, or name the server's own field with --extra-body"
            )

    def _body(self, request: Request, accepted: Accepted) -> tuple[str, Json]:
        """Path and body of a request, in a form the server accepts as far as it is known."""
        body: Json = {"model": self._model, "temperature": request.temperature}
        if request.continuation or request.raw:
            path = "/completions"
            prompt = "\n\n".join(message.content for message in request.messages) + request.opening
            body |= {"prompt": prompt + request.continuation, "max_tokens": max(request.max_tokens, 1)}
            if request.continuation:
                body |= {"max_tokens": 1, "echo": True, "logprobs": 1}
            elif request.labels:
                body["logprobs"] = accepted.top
        else:
            path = "/chat/completions"
            messages = [{"role": m.role, "content": m.content} for m in request.messages]
            body["messages"] = messages if accepted.system else folded(messages)
            body[accepted.limit_field] = max(request.max_tokens, 1)
            if request.opening:
                body["messages"] = [*body["messages"], {"role": "assistant", "content": request.opening}]
                body.update(continue_final_message=True, add_generation_prompt=False)
            if request.labels:
                body.update(logprobs=True, top_logprobs=accepted.top)
            body |= accepted.thinking[0]
        body |= {**self._constraint(request), **self._extra}
        return path, {name: value for name, value in body.items() if name not in accepted.dropped}

    def _completion(self, request: Request, answer: object) -> Completion:
        """The completion in an answer.

        Raises:
            ModelError: it has no log-probabilities, or its content is not text.
            TypeError, KeyError, ...: it is not a completion.
        """
        if not isinstance(answer, dict):
            raise TypeError(f"a JSON object was expected, not {str(answer)[:80]!r}")
        choice = answer["choices"][0]
        sent = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
        labels, floor = _NOTHING
        logprobs = choice.get("logprobs") or {}
        if request.continuation:
            value = self._continuation(request, logprobs)
            return Completion(continuation=value, usage=TokenUsage.reported(answer.get("usage"), sent))
        if request.raw:
            text = choice.get("text")
            tops = (logprobs.get("top_logprobs") or [{}]) if request.labels else [{}]
            listed = [(token, _log_of(log)) for token, log in (tops[0] or {}).items()]
        else:
            text = choice["message"].get("content")
            first = (logprobs.get("content") or [{}])[0] if request.labels else {}
            listed = [(entry["token"], _log_of(entry["logprob"])) for entry in first.get("top_logprobs") or ()]
        if request.labels:
            labels, floor = self._pick(listed, request.labels)
        text = "" if request.labels and not isinstance(text, str) else self._text(text)
        if not (text or request.raw or request.labels) and choice.get("finish_reason") == "length":
            text = _unfinished_thought(choice["message"])
        usage = TokenUsage.reported(answer.get("usage"), sent, len(text.encode("utf-8", "replace")))
        return Completion(text, labels, floor, usage=usage, finish=str(choice.get("finish_reason") or ""))

    def _text(self, content: object) -> str:
        """The text of a message: its text parts, without its thinking; none for null."""
        if content is None:
            return ""
        if isinstance(content, str):
            return content
        parts = content if isinstance(content, list) else [content]
        texts = []
        for part in parts:
            kind = part.get("type", "text") if isinstance(part, dict) else None
            text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
            if isinstance(kind, str) and re.search(r"think|reason", kind):
                continue
            if not isinstance(content, list) or not isinstance(text, str) or kind not in (None, "text", "output_text"):
                raise ModelError(
                    f"{self._server.where} answered with content that is not text "
                    f"({one_line(json.dumps(part))[:80]} where text or a list of text parts is expected)"
                )
            texts.append(text)
        return "".join(texts)

    def _continuation(self, request: Request, logprobs: Json) -> float:
        """The log-probability of the continuation, from that of each token of the echoed prompt."""
        start = sum(len(m.content) for m in request.messages) + 2 * (len(request.messages) - 1) + len(request.opening)
        end = start + len(request.continuation)
        wanted = [
            _log_of(value)
            for offset, value in zip(
                logprobs.get("text_offset") or (), logprobs.get("token_logprobs") or (), strict=False
            )
            if start <= offset < end and value is not None
        ]
        if not wanted:
            raise self._no_logprobs()
        return math.fsum(wanted)

    def _pick(self, listed: Sequence[tuple[str, float]], labels: Sequence[str]) -> tuple[dict[str, float], float]:
        """The log-probability of each label among the listed tokens, and the smallest listed."""
        if not listed:
            raise self._no_logprobs()
        found: dict[str, float] = {}
        for label in labels:
            logs = [value for token, value in listed if spells(token, label)]
            if logs:
                top = max(logs) if not any(map(math.isnan, logs)) else math.nan
                spread = math.fsum(math.exp(value - top) for value in logs) if math.isfinite(top) else 1.0
                found[label] = top + math.log(spread)
        return found, min(value for _, value in listed)

    def _no_logprobs(self) -> ModelError:
        return ModelError(
            f"{self._server.where} returns no log-probabilities, which this rating or choice needs; let the model "
            "answer in text instead (--rating text, --choice generate, --order generate), or use a server that "
            "supports them (vLLM, llama.cpp)"
        )

    def _constraint(self, request: Request) -> Json:
        """The fields that constrain the answer to a schema or pattern, in the server's dialect."""
        if self._structured == "json-schema" and request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        if self._structured == "vllm-regex" and request.pattern:
            return {"structured_outputs": {"regex": request.pattern}}
        if self._structured == "tgi-regex" and request.pattern:
            return {"response_format": {"type": "regex", "value": request.pattern}}
        return {}


def _unfinished_thought(message: Json) -> str:
    """The thought of a message without content, as an open one; empty if there is none."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    return f"<think>\n{thought}" if isinstance(thought, str) and thought.strip() else ""


def _log_of(value: object) -> float:
    """A log-probability of an answer."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a log-probability is {str(value)[:40]!r}")
    return float(value)


def extra_body(extra: Mapping[str, object] | str | None) -> Json:
    """Further fields of the body, as given or from their JSON."""
    problem = ""
    try:
        found = json.loads(extra) if isinstance(extra, str) else dict(extra or {})
        json.dumps(found, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as err:
        problem, found = f" ({err})", None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"extra must be a JSON object with further fields of the request{problem}")
    return found


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def default_key(url: str) -> str:
    """The environment variable whose key is meant for this host."""
    host = urlsplit(url).hostname or ""
    return "OPENAI_API_KEY" if host == "openai.com" or host.endswith(".openai.com") else "THRESHER_LLM_KEY"
