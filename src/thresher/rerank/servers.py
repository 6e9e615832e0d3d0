"""Rerank servers as pointwise judges: Cohere v2, Jina, text-embeddings-inference (TEI), vLLM.

One request rates many passages of a query, so a call here is a request, and a batch of a hundred ratings is one or
a few of them. The dialects differ in names alone:

    cohere   POST /v2/rerank   {model, query, documents, top_n}         -> {results: [{index, relevance_score}]}
    jina     POST /v1/rerank   the same                                 -> the same, with {usage: {total_tokens}}
    vllm     POST /rerank      the same                                 -> as jina
    tei      POST /rerank      {query, texts, raw_scores, truncate}     -> [{index, score}]
"""

from __future__ import annotations

import asyncio
import json
import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError, ModelError, require
from thresher.llm.retry import TransientModelError, retry_after_seconds
from thresher.llm.secrets import KeySource, checked_url, scrub
from thresher.llm.tokens import ByteTokens, Tokens
from thresher.rerank.asks import Answer, Ask
from thresher.rerank.cross_encoder import passage_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thresher.rerank.judge import Question
    from thresher.rerank.limiter import Gate

KEEP_ALIVE = 300.0  # seconds an idle connection stays open
REFUSED = (429, 503)
TRANSIENT = (408, 409, 424, 425, 429, *range(500, 600))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a rerank server is spoken to.

    Attributes:
        path: of the endpoint, below the server's address.
        documents: name of the field of passages.
        score: name of the field of a score in the answer.
    """

    path: str
    documents: str = "documents"
    score: str = "relevance_score"


DIALECTS = {
    "cohere": Dialect("/v2/rerank"),
    "jina": Dialect("/v1/rerank"),
    "vllm": Dialect("/rerank"),
    "tei": Dialect("/rerank", "texts", "score"),
}


class RerankServer:
    """Rates passages with a rerank server. Answers `Rate` alone.

    Args:
        base_url: the server's address, without the path of the dialect.
        dialect: `cohere`, `jina`, `vllm` or `tei`.
        model: the model's name; TEI serves one and needs none.
        key: the name of the environment variable that holds the key, or a function that returns it.
        passages_per_call: how many passages one request carries.
        timeout: seconds after which a call without an answer has failed.
        connections: the most open connections.
        tokens: the model's tokenizer, for exact counts; estimates unless given.
    """

    def __init__(
        self,
        base_url: str,
        dialect: str = "cohere",
        *,
        model: str = "",
        key: str | Callable[[], str] = "RERANK_API_KEY",
        passages_per_call: int = 100,
        timeout: float = 60.0,
        connections: int = 64,
        tokens: Tokens | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise ConfigError(f"there is no rerank dialect {dialect!r}; choose one of {', '.join(DIALECTS)}")
        if passages_per_call < 1:
            raise ConfigError(f"passages_per_call={passages_per_call} must be at least 1")
        self._httpx: Any = require("httpx2", extra="llm", purpose="asking a rerank server")
        self._url, self._dialect, self._kind, self._model = checked_url(base_url), DIALECTS[dialect], dialect, model
        self._key = KeySource(key)
        self.asks_per_call = passages_per_call
        self._timeout, self._connections, self._tokens = timeout, connections, tokens or ByteTokens()
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    @property
    def name(self) -> str:
        """Dialect, address and model."""
        return f"{self._kind}({self._url}, model={self._model or 'default'})"

    async def answer(self, query: Question, asks: Sequence[Ask], gate: Gate) -> list[Answer | None]:
        """Rate the passages in one request.

        Raises:
            ModelError: the request failed for good, or the answer does not rate every passage with a number.
            InputError: an ask that is not `Rate`.
        """
        texts = [passage_text(query, ask, self.name) for ask in asks]
        body = self._body(query.text, texts)

        async def send() -> Mapping[str, Any]:
            return await self._post(body, len(texts))

        bound = sum(self._tokens.bound(text) + self._tokens.bound(query.text) + 8 for text in texts)
        reply = await gate.call({"server": self.name, "body": body}, bound, 0, send)
        return [Answer((ask.items,), score=score) for ask, score in zip(asks, reply["scores"], strict=True)]

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def close(self) -> None:
        """Close the connections that synchronous callers used."""
        from thresher.llm.background import run_in_background

        run_in_background(self.aclose())

    def _body(self, query: str, texts: Sequence[str]) -> dict[str, Any]:
        body: dict[str, Any] = {"query": query, self._dialect.documents: list(texts)}
        if self._model:
            body["model"] = self._model
        if self._kind == "tei":
            return {**body, "raw_scores": True, "truncate": True}
        return {**body, "top_n": len(texts)}

    async def _post(self, body: Mapping[str, Any], count: int) -> dict[str, Any]:
        key = self._key.read()
        httpx = self._httpx
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client().post(self._url + self._dialect.path, json=body, headers=headers)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
            raise TransientModelError(f"{self.name} did not answer within {self._timeout:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as err:
            said = scrub(str(err), key)
            raise TransientModelError(f"{self.name} cannot be reached ({said})", may_have_run=False) from None
        except httpx.HTTPError as err:
            said = scrub(f"{type(err).__name__}: {err}", key)
            raise TransientModelError(f"{self.name} broke the connection ({said})") from None
        if response.status_code != 200:
            message = scrub(f"{self.name} answered with status {response.status_code}: {response.text[:500]}", key)
            if response.status_code in TRANSIENT:
                wait = retry_after_seconds(response.headers.get("retry-after"))
                raise TransientModelError(message, wait, may_have_run=response.status_code not in REFUSED)
            raise ModelError(message)
        try:
            return self._read(json.loads(response.content), count)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as err:
            message = f"{self.name} answered what is not a rating of {count} passages ({type(err).__name__}: {err})"
            raise TransientModelError(scrub(message, key)) from None

    def _read(self, document: Any, count: int) -> dict[str, Any]:
        results = document if self._kind == "tei" else document["results"]
        scores: dict[int, float] = {}
        for entry in results:
            scores[int(entry["index"])] = float(entry[self._dialect.score])
        if sorted(scores) != list(range(count)):
            raise ValueError(f"it rates the passages {sorted(scores)[:5]} ..., not each once")
        if not all(map(math.isfinite, scores.values())):
            raise ModelError(f"{self.name} gave a score that is no number")
        usage = {} if self._kind == "tei" else (document.get("usage") or {})
        tokens = usage.get("prompt_tokens", usage.get("total_tokens"))
        return {
            "scores": [scores[index] for index in range(count)],
            "usage": {"prompt_tokens": tokens, "answer_tokens": 0},
        }

    def _client(self) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            limits = self._httpx.Limits(
                max_connections=self._connections,
                max_keepalive_connections=self._connections,
                keepalive_expiry=KEEP_ALIVE,
            )
            self._clients[loop] = self._httpx.AsyncClient(limits=limits, timeout=self._timeout, follow_redirects=False)
        return self._clients[loop]
