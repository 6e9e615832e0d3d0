"""Rerank servers as pointwise judges: Cohere v2, Jina, text-embeddings-inference (TEI), vLLM.

One request rates many passages of a query, so a batch of a hundred ratings is one call or a few. The dialects differ
only in names:

    cohere   POST /v2/rerank   {model, query, documents, top_n}         -> {results: [{index, relevance_score}]}
    jina     POST /v1/rerank   the same                                 -> the same, with {usage: {total_tokens}}
    vllm     POST /rerank      the same                                 -> as jina
    tei      POST /rerank      {query, texts, raw_scores, truncate}     -> [{index, score}]

A *listwise* model (jina-reranker-v3) reads the passages of a request together, and its ratings depend on the list. The
ratings of several requests are then brought to one scale by passages that are in all of them.

A server that refuses a request because it holds too many passages, or a passage that is too long, is sent fewer or
shorter ones; the limits are learnt once and remembered by the object. Passages that are cut are counted.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import ConfigError, ModelError
from thresher.llm.background import Leader, PerLoop, no_end
from thresher.llm.client import Call
from thresher.llm.http import CONNECTIONS, JsonServer, server_url
from thresher.llm.keys import KeySource
from thresher.llm.model import RefusedRequestError, TokenUsage, one_line
from thresher.llm.tokens import tokens_of
from thresher.rerank.cross_encoder import passage_text
from thresher.rerank.judges import Scores, construct
from thresher.rerank.plans.plan import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from thresher.llm.client import Client
    from thresher.llm.model import Json
    from thresher.llm.tokens import Tokens
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison

_log = logging.getLogger(__name__)

LARGEST_SCORE = 1e38  # scores are ranked as float32
SHORTEST = 8  # tokens below which a passage is not cut
LIST = 64  # passages that a listwise model reads together
SHORTEST_LIST = 4  # passages, half of them anchors
ANCHORS = 8  # every eighth passage of a further list is an anchor
WHOLE = 100_000  # passages of a query at a time, where their ratings must be comparable

_LISTWISE = re.compile(r"\bjina-reranker-v3\b", re.IGNORECASE)

_ITEMS = r"(documents|texts|inputs|passages|items)"
_MANY = re.compile(
    rf"batch|too many {_ITEMS}|{_ITEMS}.{{0,60}}(more than|exceed|at most|max|limit)|"
    rf"(more than|at most|max\w*( number)?( of)?|up to) \d+ {_ITEMS}|payload|entity too large|body (is )?too large",
    re.IGNORECASE | re.DOTALL,
)
_LONG = re.compile(
    r"token|context (length|window|size)|too long|max(imum)?[ _](\w+[ _])?length|sequence length|input length|"
    r"longer than|characters",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"(max\w*|limit|at most|less than|up to|than|>)\D{0,60}?(\d[\d,_]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names of a rerank protocol.

    Attributes:
        path: of the endpoint, relative to the server's address.
        documents: field of the passages in a request.
        score: field of a score in the response.
        passages: in one request, unless more or fewer are asked for.
    """

    path: str
    documents: str = "documents"
    score: str = "relevance_score"
    passages: int = 100


DIALECTS = {
    "cohere": Dialect("/v2/rerank"),
    "jina": Dialect("/v1/rerank"),
    "vllm": Dialect("/rerank"),
    "tei": Dialect("/rerank", "texts", "score", 32),
}


class RerankServer:
    """Rates passages with a rerank server. Answers `Rate` alone.

    Args:
        base_url: the server's address, with or without the path of the dialect; a version in it (`/v1`) is kept.
        dialect: `cohere`, `jina`, `vllm` or `tei`.
        model: the model's name; TEI serves one model and needs none.
        key: the name of the environment variable that holds the key, the path of a file with it, or a function that
            returns it.
        passages_per_call: passages in one request, unless given 64 for listwise models, 32 for `tei` and 100 for the
            others; fewer are sent if the server takes fewer.
        passage_tokens: passages are cut to this many tokens; by default they are sent whole, and cut if the server
            refuses their length.
        timeout: seconds after which a call without an answer has failed.
        connections: the most open connections.
        tokens: the model's tokenizer, or the path of its tokenizer.json, for exact counts; estimates unless given.
        listwise: whether the model reads the passages of a request together, so that a rating depends on the others.
            Then the ratings of one query are comparable: they come from one request of at most 64 passages, or from
            several that share passages. By default true for names such as `jina-reranker-v3`.

    Raises:
        ConfigError: an argument is not one of the above.
        MissingExtraError: httpx2 is not installed.
    """

    rates_only = True

    @checked_call
    def __init__(
        self,
        base_url: str,
        dialect: str = "cohere",
        *,
        model: str = "",
        key: str | Path | Callable[[], str] = "RERANK_API_KEY",
        passages_per_call: int | None = None,
        passage_tokens: int | None = None,
        timeout: float = 60.0,
        connections: int = CONNECTIONS,
        tokens: Tokens | str | Path | None = None,
        listwise: bool | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise ConfigError(f"unknown rerank dialect {dialect!r}; choose one of {', '.join(DIALECTS)}")
        for name, value in (("passages_per_call", passages_per_call), ("passage_tokens", passage_tokens)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
        self._dialect, self._kind, self._model = DIALECTS[dialect], dialect, model
        url = server_url(base_url, self._dialect.path.removesuffix("/rerank"), ("/rerank",))
        self._url = re.sub(r"/v\d+$", "", url) if dialect == "tei" else url
        self._server = JsonServer(self.name, KeySource(key), timeout, connections)
        self.listwise = bool(_LISTWISE.search(model)) if listwise is None else listwise
        self._together = passages_per_call or (LIST if self.listwise else self._dialect.passages)
        self._longest = passage_tokens
        self._tokens = tokens_of(tokens)
        self._leaders = PerLoop(Leader, no_end)

    @property
    def comparisons_per_call(self) -> int:
        """Passages rated at once: those of one request, or for a listwise model all of a query."""
        return WHOLE if self.listwise else self._together

    @property
    def name(self) -> str:
        """Dialect, address and model."""
        return f"{self._kind}({self._url}, model={self._model or 'default'})"

    @checked_call
    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Rate the passages in one request, or in several if the server takes fewer at once.

        Raises:
            ModelError: the request failed for good, or the response does not rate every passage once with a number.
            InputError: a comparison is not a `Rate`.
        """
        texts = [passage_text(candidates, comparison, self.name) for comparison in comparisons]
        found: list[float] | None = None
        while found is None:
            rated = self._in_lists if self.listwise else self._in_parts
            found = await rated(query.text, texts, client)
        return [Answer((one.items,), score=score) for one, score in zip(comparisons, found, strict=True)]

    async def _in_parts(self, query: str, texts: Sequence[str], client: Client) -> list[float]:
        """Ratings from as many requests as it takes."""
        scores: list[float] = []
        while len(scores) < len(texts):
            scores += await self._at_a_time(query, texts[len(scores) : len(scores) + self._together], client) or []
        return scores

    async def _in_lists(self, query: str, texts: Sequence[str], client: Client) -> list[float] | None:
        """Ratings that depend on the list, on the scale of the first one; None if the server takes shorter lists.

        Every further list holds anchors, passages of the first one at even distances in its ranking. The mean
        difference of their two ratings is added to the list's other ratings.
        """
        size = self._together
        if size < SHORTEST_LIST < len(texts):
            raise ModelError(f"{self.name} takes {size} passages at once; a listwise model needs {SHORTEST_LIST}")
        first = await self._at_a_time(query, texts[:size], client)
        if first is None or len(texts) <= size:
            return first
        ranks = sorted(range(size), key=lambda place: -first[place])
        count = max(2, size // ANCHORS)
        anchors = [ranks[step * (size - 1) // (count - 1)] for step in range(count)]
        scores = list(first)
        while len(scores) < len(texts):
            part = texts[len(scores) : len(scores) + size - count]
            found = await self._at_a_time(query, [*(texts[anchor] for anchor in anchors), *part], client)
            if found is None:
                return None
            shift = math.fsum(first[anchor] - found[place] for place, anchor in enumerate(anchors)) / count
            scores += [score + shift for score in found[count:]]
        return scores

    async def _at_a_time(self, query: str, texts: Sequence[str], client: Client) -> list[float] | None:
        """Ratings from one request; None if the server turns out to take fewer passages at once."""
        while len(texts) <= self._together:
            shown = list(texts) if self._longest is None else [self._tokens.cut(text, self._longest) for text in texts]
            async with self._leaders.get().turn() as turn:
                try:
                    reply = await client.call(self._call(query, shown))
                except RefusedRequestError as err:
                    if not self._adapt(err, query, shown):
                        raise
                    turn.settled = False
                    continue
            client.counts.truncated += sum(cut != text for cut, text in zip(shown, texts, strict=True))
            return list(reply.scores)
        return None

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._server.aclose()

    def close(self) -> None:
        """Close the connections that synchronous callers used."""
        self._server.close()

    def _call(self, query: str, texts: Sequence[str]) -> Call[Scores]:
        """The request that rates these texts."""
        body: Json = {"query": query, self._dialect.documents: list(texts)}
        if self._model:
            body["model"] = self._model
        body |= {"raw_scores": True, "truncate": True} if self._kind == "tei" else {"top_n": len(texts)}

        async def send() -> Scores:
            document = await self._server.post(f"{self._url}/rerank", body)
            return self._read(document, len(texts), sum(len(text.encode("utf-8", "replace")) for text in texts))

        bound = sum(self._tokens.bound(text) + self._tokens.bound(query) + 8 for text in texts)
        return Call({"server": self.name, "body": body}, bound, 0, send, Scores.from_json, questions=len(texts))

    def _adapt(self, err: RefusedRequestError, query: str, texts: Sequence[str]) -> bool:
        """Learn from a refusal how many passages the server takes, and how long; whether to try again."""
        longest = max(map(self._tokens.count, texts))
        if len(texts) > self._together or longest > (self._longest or math.inf):
            return True  # another request has learnt it
        long = bool(_LONG.search(err.said))
        if err.status not in (400, 413, 422) or not (long or err.status == 413 or _MANY.search(err.said)):
            return False
        limits = [int(re.sub(r"\D", "", found[2])) for found in _LIMIT.finditer(err.said[:500])]
        fits = [limit - self._tokens.count(query) - SHORTEST for limit in limits if limit < 10**9]
        in_all = long and bool(fits) and min(fits) >= longest  # no passage is too long: all of them together are
        if len(texts) > 1 and (in_all or _MANY.search(err.said) or (err.status == 413 and not long)):
            fewer = [limit for limit in limits if 0 < limit < len(texts)]
            self._together = max(fewer) if fewer and not in_all else len(texts) // 2
            _log.warning("%s takes fewer passages; %d are sent at once", self.name, self._together)
            return True
        shorter = [fit for fit in fits if SHORTEST <= fit < longest] if long else []
        limit = max(shorter) if shorter else longest * 2 // 3
        if limit < SHORTEST:
            return False
        self._longest = limit
        _log.warning("%s takes shorter passages; they are cut to %d tokens", self.name, limit)
        return True

    def _read(self, document: object, count: int, sent: int) -> Scores:
        """The scores in an answer.

        Raises:
            ModelError: it does not rate each of `count` passages once with a number.
        """
        results = document.get("results", document.get("data")) if isinstance(document, dict) else document
        if not isinstance(results, list):
            raise self._unusable(f"it is not a list of ratings but {one_line(str(document))[:80]!r}")
        scores: dict[int, float] = {}
        for entry in results:
            index = entry.get("index") if isinstance(entry, dict) else None
            score = entry.get(self._dialect.score) if isinstance(entry, dict) else None
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
                raise self._unusable(f"it rates the passage {one_line(repr(index))[:40]} of 0 to {count - 1}")
            if index in scores:
                raise self._unusable(f"it rates passage {index} twice")
            number = isinstance(score, int | float) and not isinstance(score, bool)
            if not number or not -LARGEST_SCORE <= score <= LARGEST_SCORE:  # type: ignore[operator]
                shown = one_line(repr(score))[:40] if not isinstance(score, int) else "a number that is too large"
                raise self._unusable(f"its score of passage {index} is {shown}, not a number of 32 bits")
            scores[index] = float(score)  # type: ignore[arg-type]
        if len(scores) < count:
            missing = [index for index in range(count) if index not in scores]
            raise self._unusable(f"it does not rate {len(missing)} of them, the first is passage {missing[0]}")
        usage = TokenUsage.reported(document.get("usage") if isinstance(document, dict) else None, sent)
        return Scores(tuple(scores[index] for index in range(count)), replace(usage, answer_tokens=0))

    def _unusable(self, why: str) -> ModelError:
        return ModelError(f"{self.name} sent an answer that is not one rating of each passage: {why}")


def _named(dialect: str, model: str, *, base_url: str = "", **options: object) -> RerankServer:
    """The server of a judge's name; options of `RerankServer`."""
    if not base_url:
        raise ConfigError(f"judge {dialect!r} needs the address of its server; give it as base_url")
    return construct(RerankServer, f"judge {dialect!r}", base_url, dialect, model=model, **options)


cohere, jina, vllm, tei = (partial(_named, dialect) for dialect in DIALECTS)
