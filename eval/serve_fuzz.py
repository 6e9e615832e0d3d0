"""Hostile requests for the server: good ones of every route, changed at random."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**80, -(2**63), 1.5, 1e308, -0.0, "", " ", "a" * 5000, "\u0000",
    "\ud7ff", "\U0001f600" * 50, "\u202e", "'; drop", "<script>", "../../etc/passwd", "NaN", [], {}, [[]], [None],
    {"": ""}, [1, "a"], {"a": {"a": {"a": [1]}}}, "team = 'x' and (", "e\u0301" * 20,
)  # fmt: skip
"""Values that take the place of good ones."""


def examples(queries: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Good requests by route."""
    query, texts = queries[0], list(queries[1:4])
    return {
        "/search": [{"query": query, "k": 3}, {"query": query, "by": "both", "tiers": "both", "explain": True}],
        "/ask": [
            {"query": query, "k": 2, "max_context_tokens": 200, "without": ["select"]},
            {"query": query, "ranking": 3, "texts": True, "where": "year > 3"},
        ],
        "/facets": [{"field": "year", "query": query}],
        "/context": [{"query": query, "texts": texts}, {"query": query, "docnos": ["1", "2"]}],
        "/expand": [{"handle": "aGVsbG8"}],
        "/retrieval": [
            {
                "knowledge_id": "index", "query": query, "retrieval_setting": {"top_k": 3, "score_threshold": 0.1},
                "metadata_condition": {
                    "logical_operator": "and",
                    "conditions": [{"name": ["year"], "comparison_operator": ">", "value": "1"}],
                },
            }
        ],
        "/v2/rerank": [{"model": "thresher-light", "query": query, "documents": texts, "top_n": 2}],
        "/v1/rerank": [{"query": query, "documents": [{"text": text} for text in texts], "return_documents": True}],
        "/rerank": [{"query": query, "texts": texts, "raw_scores": False, "return_text": True}],
        "/score": [{"text_1": query, "text_2": texts}],
        "/embed_sparse": [{"inputs": texts}],
        "/v1/embeddings": [{"model": "all-MiniLM-L6-v2", "input": texts, "encoding_format": "base64"}],
        "/admin/add": [{"passages": [{"docno": "x", "text": "y"}]}],
    }  # fmt: skip


def changed(value: Any, chance: random.Random) -> Any:
    """A JSON value with one random change: a part is replaced, left out, doubled or put deeper."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(sorted(value))
        kind = chance.random()
        rest = {name: one for name, one in value.items() if name != key}
        if kind < 0.15:
            return rest
        if kind < 0.25:
            return {**value, f"{key}x": value[key]}
        return {**rest, key: changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.6:
        at = chance.randrange(len(value))
        return [*value[:at], changed(value[at], chance), *value[at + chance.randrange(2) :]]
    return chance.choice(ODD) if chance.random() < 0.8 else [value]


Request = tuple[str, str, bytes, dict[str, str]]
"""Method, path, body and headers."""


def hostile(queries: Sequence[str], count: int, seed: int) -> Iterator[Request]:
    """Requests made from good ones by random changes of their JSON, bytes, headers, paths and methods."""
    chance, good = random.Random(seed), examples(queries)  # noqa: S311
    for _ in range(count):
        yield _request(good, chance)


def _request(good: dict[str, list[dict[str, Any]]], chance: random.Random) -> Request:
    path = chance.choice(sorted(good))
    body = chance.choice(good[path])
    for _ in range(chance.randrange(4)):
        body = changed(body, chance)
    data = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    kind = chance.random()
    if kind < 0.05:
        data = data[: chance.randrange(len(data) + 1)]
    elif kind < 0.1:
        at = chance.randrange(len(data) + 1)
        data = data[:at] + chance.randbytes(3) + data[at:]
    elif kind < 0.13:
        headers |= {"content-encoding": chance.choice(["gzip", "br", "deflate", "x"])}
    elif kind < 0.16:
        headers |= {"content-type": chance.choice(["text/plain", "application/xml", "multipart/form-data"])}
    elif kind < 0.2:
        path = path + chance.choice(["/", "/x", "?a=b", "%00", "//", "/../x", "\u00e9"])
    elif kind < 0.24:
        headers |= {"accept": "text/event-stream"}
    return chance.choice(["POST"] * 12 + ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]), path, data, headers
