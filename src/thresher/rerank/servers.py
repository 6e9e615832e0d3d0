"""Rerank servers as pointwise judges: Cohere v2, Jina, text-embeddings-inference (TEI), vLLM.

One request rates many passages of a query, so a batch of a hundred ratings is one call or a few. The dialects differ
only in names:

    cohere   POST /v2/rerank   {model, query, documents, top_n}         -> {results: [{index, relevance_score}]}
    jina     POST /v1/rerank   the same                                 -> the same, with {usage: {total_tokens}}
    vllm     POST /rerank      the same                                 -> as jina
    tei      POST /rerank      {query, texts, raw_scores, truncate}     -> [{index, score}]
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, ModelError, require
from thresher.llm.client import Call
from thresher.llm.http import CONNECTIONS, KeySource, PerLoop, checked_url, http_client, retry_after_seconds, scrub
from thresher.llm.model import TokenUsage, TransientModelError, tokens_of
from thresher.rerank.cross_encoder import passage_text
from thresher.rerank.judges import Scores, construct
from thresher.rerank.plans.plan import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from thresher.llm.client import Client
    from thresher.llm.model import Json, Tokens
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison

REFUSED = (429, 503)
TRANSIENT = (408, 409, 424, 425, 429, *range(500, 600))


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names of a rerank protocol.

    Attributes:
        path: of the endpoint, relative to the server's address.
        documents: field of the passages in a request.
        score: field of a score in the response.
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
        model: the model's name; TEI serves one model and needs none.
        key: the name of the environment variable that holds the key, or a function that returns it.
        passages_per_call: passages in one request.
        timeout: seconds after which a call without an answer has failed.
        connections: the most open connections.
        tokens: the model's tokenizer, or the path of its tokenizer.json, for exact counts; estimates unless given.
    """

    rates_only = True

    def __init__(
        self,
        base_url: str,
        dialect: str = "cohere",
        *,
        model: str = "",
        key: str | Callable[[], str] = "RERANK_API_KEY",
        passages_per_call: int = 100,
        timeout: float = 60.0,
        connections: int = CONNECTIONS,
        tokens: Tokens | str | Path | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise ConfigError(f"unknown rerank dialect {dialect!r}; choose one of {', '.join(DIALECTS)}")
        if passages_per_call < 1:
            raise ConfigError(f"passages_per_call must be at least 1, got {passages_per_call}")
        self._httpx = require("httpx2", extra="llm", purpose="calling a rerank server")
        self._url, self._dialect, self._kind, self._model = checked_url(base_url), DIALECTS[dialect], dialect, model
        self._key = KeySource(key)
        self.comparisons_per_call = passages_per_call
        self._timeout, self._tokens = timeout, tokens_of(tokens)
        self._clients = PerLoop(lambda: http_client(connections, timeout), lambda client: client.aclose())

    @property
    def name(self) -> str:
        """Dialect, address and model."""
        return f"{self._kind}({self._url}, model={self._model or 'default'})"

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Rate the passages in one request.

        Raises:
            ModelError: the request failed for good, or the response does not rate every passage with a number.
            InputError: a comparison is not a `Rate`.
        """
        texts = [passage_text(candidates, comparison, self.name) for comparison in comparisons]
        body = self._body(query.text, texts)

        async def send() -> Scores:
            return await self._post(body, len(texts))

        bound = sum(self._tokens.bound(text) + self._tokens.bound(query.text) + 8 for text in texts)
        reply = await client.call(Call({"server": self.name, "body": body}, bound, 0, send, Scores.from_json))
        return [Answer((one.items,), score=score) for one, score in zip(comparisons, reply.scores, strict=True)]

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._clients.aclose()

    def close(self) -> None:
        """Close the connections that synchronous callers used."""
        self._clients.close()

    def _body(self, query: str, texts: Sequence[str]) -> Json:
        body: Json = {"query": query, self._dialect.documents: list(texts)}
        if self._model:
            body["model"] = self._model
        if self._kind == "tei":
            return {**body, "raw_scores": True, "truncate": True}
        return {**body, "top_n": len(texts)}

    async def _post(self, body: Json, count: int) -> Scores:
        key = self._key.read()
        httpx = self._httpx
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._clients.get().post(self._url + self._dialect.path, json=body, headers=headers)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
            raise TransientModelError(f"{self.name} did not answer within {self._timeout:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as err:
            reason = scrub(str(err), key)
            raise TransientModelError(f"{self.name} cannot be reached ({reason})", may_have_run=False) from None
        except httpx.HTTPError as err:
            reason = scrub(f"{type(err).__name__}: {err}", key)
            raise TransientModelError(f"{self.name} broke the connection ({reason})") from None
        if response.status_code != 200:
            message = scrub(f"{self.name} answered with status {response.status_code}: {response.text[:500]}", key)
            if response.status_code in TRANSIENT:
                wait = retry_after_seconds(response.headers.get("retry-after"))
                raise TransientModelError(message, wait, may_have_run=response.status_code not in REFUSED)
            raise ModelError(message)
        try:
            return self._read(json.loads(response.content), count)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as err:
            message = (
                f"{self.name} sent a response that is not a rating of {count} passages ({type(err).__name__}: {err})"
            )
            raise TransientModelError(scrub(message, key)) from None

    def _read(self, document: Json, count: int) -> Scores:
        results: Sequence[Json] = document if self._kind == "tei" else document["results"]  # type: ignore[assignment]
        scores: dict[int, float] = {}
        for entry in results:
            scores[int(entry["index"])] = float(entry[self._dialect.score])
        if sorted(scores) != list(range(count)):
            raise ValueError(f"it rates the passages {sorted(scores)[:5]} ..., not each once")
        if not all(map(math.isfinite, scores.values())):
            raise ModelError(f"{self.name} returned a score that is not a number")
        usage = {} if self._kind == "tei" else (document.get("usage") or {})
        tokens = usage.get("prompt_tokens", usage.get("total_tokens"))
        return Scores(tuple(scores[index] for index in range(count)), TokenUsage(tokens, 0))


def _named(dialect: str, model: str, *, base_url: str = "", **options: object) -> RerankServer:
    """The server of a judge's name; options of `RerankServer`."""
    if not base_url:
        raise ConfigError(f"judge {dialect!r} needs the address of its server; give it as base_url")
    return construct(RerankServer, f"judge {dialect!r}", base_url, dialect, model=model, **options)


cohere, jina, vllm, tei = (partial(_named, dialect) for dialect in DIALECTS)
