"""Language models behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, TGI, or a hosted one.

Requests go through the openai SDK with its own retries off: one request is one call, and `thresher.llm.client` decides
about another. Connections are limited and kept open; there is one client per event loop.

Log-probabilities of labels come from `top_logprobs` of the first answer token; the log-probability of a continuation
from the completions endpoint with `echo`, if the server supports it. Structured output is requested in one of the
dialects below; without one, answers are free text.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from thresher.errors import ConfigError, ModelError, require
from thresher.llm.http import CONNECTIONS, KeySource, PerLoop, checked_url, http_client, retry_after_seconds, scrub
from thresher.llm.model import Completion, LanguageModel, TokenUsage, TransientModelError, spells, tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import openai

    from thresher.llm.model import Json, Request, Tokens

Structured = Literal["none", "json-schema", "vllm-regex", "tgi-regex"]

REFUSED = (429,)
TRANSIENT = (408, 409, 425, 429, *range(500, 600))
TEMPLATE_TOKENS = 64  # upper bound on what a chat template adds around a conversation
MESSAGE_TOKENS = 16  # and around each message
_NOTHING: tuple[dict[str, float], float] = ({}, -math.inf)
TOP_LOGPROBS = 20  # the maximum of OpenAI, and of vLLM by default


class OpenAIServer(LanguageModel):
    """A model on a server.

    Args:
        model: the name the server knows it by.
        base_url: the server's address, up to and including `/v1`.
        key: the name of the environment variable that holds the key, or a function that returns it. Unless given,
            OPENAI_API_KEY for openai.com and THRESHER_LLM_KEY for every other host, so that no key goes where it does
            not belong. A local server needs none.
        timeout: seconds after which a call without an answer has failed.
        connections: the most open connections.
        tokens: the model's tokenizer, or the path of its tokenizer.json, for exact counts; estimates unless given.
        context: the most tokens of prompt and answer together, None if unknown.
        structured: how a schema or pattern is sent to the server: `json-schema` (OpenAI, vLLM, llama.cpp),
            `vllm-regex`, `tgi-regex`, or `none`.
        top_logprobs: number of alternatives requested for the first answer token.
        limit_field: the field that carries the longest answer; hosted reasoning models want `max_completion_tokens`.
        extra: further fields of the request body (`{"chat_template_kwargs": {"enable_thinking": False}}`).
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        key: str | Callable[[], str] = "",
        timeout: float = 120.0,
        connections: int = CONNECTIONS,
        tokens: Tokens | str | Path | None = None,
        context: int | None = None,
        structured: Structured = "none",
        top_logprobs: int = TOP_LOGPROBS,
        limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        extra: Mapping[str, object] | None = None,
    ) -> None:
        if structured not in ("none", "json-schema", "vllm-regex", "tgi-regex"):
            raise ConfigError(
                f"structured must be one of 'none', 'json-schema', 'vllm-regex', 'tgi-regex'; got {structured!r}"
            )
        self._openai = require("openai", extra="llm", purpose="calling an OpenAI-compatible server")
        self._httpx = require("httpx2", extra="llm", purpose="calling an OpenAI-compatible server")
        self._model, self._url = model, checked_url(base_url)
        self._key = KeySource(key or _default_key(self._url))
        self._timeout, self._connections = timeout, connections
        self._tokens, self._context = tokens_of(tokens), context
        self._structured, self._top_logprobs = structured, top_logprobs
        self._limit_field, self._extra = limit_field, dict(extra or {})
        self._clients = PerLoop(self._new_client, lambda client: client.close())

    @property
    def name(self) -> str:
        """The model, as the server knows it."""
        return self._model

    @property
    def parameters(self) -> Mapping[str, object]:
        """Address and what is sent with every request."""
        return {"url": self._url, "structured": self._structured, "extra": self._extra}

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
        """The dialect for structured output."""
        return self._structured

    def prompt_bound(self, request: Request) -> int:
        """The bounds of all texts and of the chat template."""
        texts = [message.content for message in request.messages] + [request.opening, request.continuation]
        return sum(map(self._tokens.bound, texts)) + MESSAGE_TOKENS * len(request.messages) + TEMPLATE_TOKENS

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One call per request, concurrently.

        Raises:
            TransientModelError: no connection, a time-out, a broken or unreadable answer, status 408, 409, 425, 429
                or 5xx.
            ModelError: any other status, or log-probabilities that the server does not give.
        """
        return list(await asyncio.gather(*map(self._one, requests)))

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._clients.aclose()

    def close(self) -> None:
        """Close the connections that synchronous callers used."""
        self._clients.close()

    async def _one(self, request: Request) -> Completion:
        key = self._key.read()
        try:
            async with asyncio.timeout(self._timeout):
                if request.continuation:
                    return await self._continuation(self._client(key), request)
                if request.raw:
                    return await self._raw(self._client(key), request)
                return await self._chat(self._client(key), request)
        except TimeoutError:
            raise TransientModelError(f"{self._where} did not answer within {self._timeout:g} s") from None
        except self._openai.OpenAIError as err:
            raise self._translated(err, key) from None
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as err:
            message = scrub(
                f"{self._where} sent a response that is not a completion ({type(err).__name__}: {err})", key
            )
            raise TransientModelError(message) from None

    @property
    def _where(self) -> str:
        return f"{self._url} (model {self._model!r})"

    def _new_client(self) -> openai.AsyncOpenAI:
        made: openai.AsyncOpenAI = self._openai.AsyncOpenAI(
            api_key="unset",
            base_url=self._url,
            max_retries=0,
            timeout=self._timeout,
            http_client=http_client(self._connections, self._timeout),
        )
        return made

    def _client(self, key: str) -> openai.AsyncOpenAI:
        client = self._clients.get()
        client.api_key = key or "unset"
        return client

    async def _chat(self, client: openai.AsyncOpenAI, request: Request) -> Completion:
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        body: Json = {"model": self._model, "messages": messages, "temperature": request.temperature}
        body[self._limit_field] = max(request.max_tokens, 1)
        if request.opening:
            messages.append({"role": "assistant", "content": request.opening})
            body.update(continue_final_message=True, add_generation_prompt=False)
        if request.labels:
            body.update(logprobs=True, top_logprobs=self._top_logprobs)
        answer = await self._post(client, "/chat/completions", {**body, **self._constraint(request), **self._extra})
        choice = answer["choices"][0]
        labels, floor = _NOTHING
        if request.labels:
            first = ((choice.get("logprobs") or {}).get("content") or [{}])[0]
            listed = [(entry["token"], float(entry["logprob"])) for entry in first.get("top_logprobs") or ()]
            labels, floor = self._pick(listed, request.labels)
        return Completion(
            text=choice["message"].get("content") or "",
            labels=labels,
            floor=floor,
            usage=_usage(answer),
            finish=choice.get("finish_reason") or "",
        )

    async def _raw(self, client: openai.AsyncOpenAI, request: Request) -> Completion:
        body: Json = {
            "model": self._model,
            "prompt": request.messages[0].content + request.opening,
            "temperature": request.temperature,
            "max_tokens": max(request.max_tokens, 1),
        }
        if request.labels:
            body["logprobs"] = self._top_logprobs
        answer = await self._post(client, "/completions", {**body, **self._constraint(request), **self._extra})
        choice = answer["choices"][0]
        labels, floor = _NOTHING
        if request.labels:
            tops = (choice.get("logprobs") or {}).get("top_logprobs") or [{}]
            labels, floor = self._pick([(token, float(log)) for token, log in tops[0].items()], request.labels)
        return Completion(
            choice.get("text") or "", labels, floor, usage=_usage(answer), finish=choice.get("finish_reason") or ""
        )

    async def _continuation(self, client: openai.AsyncOpenAI, request: Request) -> Completion:
        prompt = "\n\n".join(message.content for message in request.messages) + request.opening
        body = {
            "model": self._model,
            "prompt": prompt + request.continuation,
            "max_tokens": 1,
            "echo": True,
            "logprobs": 1,
            "temperature": 0.0,
        }
        answer = await self._post(client, "/completions", {**body, **self._extra})
        logprobs = answer["choices"][0].get("logprobs") or {}
        end = len(prompt) + len(request.continuation)
        wanted = [
            float(value)
            for offset, value in zip(
                logprobs.get("text_offset") or (), logprobs.get("token_logprobs") or (), strict=False
            )
            if len(prompt) <= offset < end and value is not None
        ]
        if not wanted:
            raise self._no_logprobs()
        return Completion(continuation=math.fsum(wanted), usage=_usage(answer))

    async def _post(self, client: openai.AsyncOpenAI, path: str, body: Json) -> Json:
        """One request. The SDK's typed methods cost more than the call itself; its plain `post` does the same."""
        answer = await client.post(path, body=body, cast_to=object)
        if not isinstance(answer, dict):
            raise TypeError(f"a JSON object was expected, not {str(answer)[:80]!r}")
        return answer

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
            f"{self._where} returns no log-probabilities, which this rating or choice needs; let the model answer in "
            "text instead, or use a server that supports them (vLLM, llama.cpp)"
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

    def _translated(self, err: Exception, key: str) -> ModelError:
        """An SDK error as one of ours, without the key in its text or chain (requests carry headers)."""
        openai = self._openai
        if isinstance(err, openai.APITimeoutError):
            return TransientModelError(f"{self._where} did not answer within {self._timeout:g} s")
        if isinstance(err, openai.APIConnectionError):
            cause = err.__cause__
            reached = not isinstance(cause, self._httpx.ConnectError | self._httpx.ConnectTimeout)
            detail = "broke the connection" if reached else "cannot be reached"
            reason = scrub(f"{type(cause).__name__}: {cause}" if cause else str(err), key)
            return TransientModelError(f"{self._where} {detail} ({reason})", may_have_run=reached)
        if isinstance(err, openai.APIStatusError):
            status = err.status_code
            message = scrub(f"{self._where} answered with status {status}: {err.message[:500]}", key)
            if status in TRANSIENT:
                wait = retry_after_seconds(err.response.headers.get("retry-after"))
                return TransientModelError(message, wait, may_have_run=status not in REFUSED)
            return ModelError(message)
        return TransientModelError(scrub(f"{self._where} sent a response that cannot be read ({err})", key))


def _default_key(url: str) -> str:
    """The environment variable whose key is meant for this host."""
    host = urlsplit(url).hostname or ""
    return "OPENAI_API_KEY" if host == "openai.com" or host.endswith(".openai.com") else "THRESHER_LLM_KEY"


def _usage(answer: Json) -> TokenUsage:
    usage = answer.get("usage") or {}
    details = usage.get("completion_tokens_details") or {}
    return TokenUsage(usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("reasoning_tokens"))
