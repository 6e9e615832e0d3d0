"""What the server costs over the library, and what it does under load, with hostile requests and at its end.

The server is a process of its own, started by `thresher serve`; its clients are in another. Parts, in this order:

- overhead: one client asks the same queries of the library and of the server, by turns, on /ask and /search;
- load: clients that send one request after the other for a time, under a deadline, each waiting after a refusal as long
  as `Retry-After` says; beside it, what the library answers in as many threads without a server;
- equal: answers of the server to many clients at once, without a deadline, against the library's;
- batches: clients side by side, whose requests share a model's batches, against one client, and against a server that
  runs one call at a time; for requests of several sizes;
- drained: TERM under load; requests that were sent before it and got no answer are lost;
- fuzzed: requests made from good ones by random changes; an answer of 500 or more that is not a refusal is a failure.

    python -m eval serve --clients 64 --seconds 60 --requests 20000
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import numpy as np

from eval.bench import Bench, Row, options
from eval.collections import held_out
from eval.known import KnownVectors
from eval.serve_client import Client, LostError, lags
from eval.serve_fuzz import hostile
from thresher.build.recipe import best_recipe
from thresher.encode.dense import MiniLMEncoder
from thresher.evaluate.collections import load
from thresher.pipeline import Pipeline
from thresher.search.index import Index

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence


COLLECTION = "scifact/train"
"""Its queries are asked: there are enough of them, and nothing is measured on them."""
COLUMNS = [
    "part", "route", "what", "clients", "deadline_ms", "seconds", "requests", "answers_per_s", "library_per_s", "ratio",
    "one_by_one_per_s", "ratio_one_by_one", "p50_ms", "p99_ms", "client_lag_p99_ms", "library_p50_ms", "overhead_ms",
    "status_200", "status_429", "status_503", "status_other", "lost", "different", "rss_start_mb", "rss_end_mb",
]  # fmt: skip
NOTE = (
    "answers_per_s counts answers with status 200. overhead_ms: median of the differences, query by query. batches: "
    "answers a second of the clients side by side; library_per_s is that of one client, one_by_one_per_s that of as "
    "many clients at a server that runs one call at a time, ratio and ratio_one_by_one the quotients. p50_ms and "
    "p99_ms are of answers, as the clients see them; client_lag_p99_ms is the 99th percentile of how late the clients' "
    "own event loop is, which is in those figures and not of the server."
)
RESTED = 3.0
"""Seconds after which the first memory reading of a load is taken."""


class Served:
    """A server process.

    Args:
        index: the directory.
        arguments: of `thresher serve`.
    """

    def __init__(self, index: Path, arguments: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "thresher", "serve", f"index={index}", "--port", "0", "--no-access-log"]
        self.process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = next(line for line in self.process.stdout if line.startswith("listening on "))
        self.url = line.removeprefix("listening on ").strip()
        while httpx2.get(f"{self.url}/ready").status_code != 200:
            time.sleep(0.1)

    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


@contextmanager
def served(index: Path, *arguments: str) -> Iterator[Served]:
    """A server while it is needed."""
    server = Served(index, arguments)
    try:
        yield server
    finally:
        server.stop()


class Outcomes:
    """What came of requests: seconds of answers, statuses, requests without an answer; and the client's own lags."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.statuses: dict[int, int] = {}
        self.lags: list[float] = []
        self.lost = self.refused_connections = 0

    def row(self, seconds: float) -> Row:
        """The figures of a time."""
        answered = self.statuses.get(200, 0)
        known = (200, 429, 503)
        times = np.array(self.seconds or [np.nan]) * 1000
        lag = {"client_lag_p99_ms": float(np.percentile(np.array(self.lags) * 1000, 99))} if self.lags else {}
        return {
            "seconds": seconds,
            "requests": sum(self.statuses.values()) + self.lost,
            "answers_per_s": answered / seconds,
            "p50_ms": float(np.percentile(times, 50)),
            "p99_ms": float(np.percentile(times, 99)),
            **lag,
            **{f"status_{status}": self.statuses.get(status, 0) for status in known},
            "status_other": sum(count for status, count in self.statuses.items() if status not in known),
            "lost": self.lost,
        }


async def requests(
    url: str,
    path: str,
    bodies: Sequence[dict[str, Any]],
    clients: int,
    until: Callable[[int], bool],
    outcomes: Outcomes,
) -> None:
    """Clients that send the bodies in turn, one request after the other each, while `until(sent so far)` is false."""
    sent = 0

    async def client() -> None:
        nonlocal sent
        async with Client(url) as connection:
            while not until(sent):
                body = bodies[sent % len(bodies)]
                sent += 1
                began = time.perf_counter()
                try:
                    status, wait = await connection.post(path, body)
                except ConnectionError:
                    outcomes.refused_connections += 1
                    return
                except LostError:
                    outcomes.lost += 1
                    continue
                outcomes.statuses[status] = outcomes.statuses.get(status, 0) + 1
                if status == 200:
                    outcomes.seconds.append(time.perf_counter() - began)
                else:
                    await asyncio.sleep(wait)

    async with lags() as late:
        await asyncio.gather(*(client() for _ in range(clients)))
    outcomes.lags += late


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """A condition that holds once the time is over."""
    end = time.perf_counter() + seconds
    return lambda _: time.perf_counter() >= end


def overhead(server: Served, path: str, call: Callable[[str], object], queries: Sequence[str]) -> Row:
    """The same queries asked of the library and of the server, by turns, which of them first by turns too.

    The client is the standard library's, over one connection: what other clients take is not the server's.
    """
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=120)

    def request(query: str) -> None:
        connection.request("POST", path, json.dumps({"query": query}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    own: list[float] = []
    http: list[float] = []
    for number, query in enumerate(["a query that warms up", *queries]):
        ways = [(own, call), (http, request)]
        for seconds, ask in ways if number % 2 else reversed(ways):
            began = time.perf_counter()
            ask(query)
            seconds.append(time.perf_counter() - began)
    connection.close()
    theirs, ours = np.array(http[1:]) * 1000, np.array(own[1:]) * 1000
    return {
        "part": "overhead", "route": path, "clients": 1, "requests": len(theirs), "status_200": len(theirs),
        "p50_ms": float(np.median(theirs)), "p99_ms": float(np.percentile(theirs, 99)),
        "library_p50_ms": float(np.median(ours)), "overhead_ms": float(np.median(theirs - ours)),
    }  # fmt: skip


def found(index: Index, query: str) -> list[tuple[object, ...]]:
    """What `/search` answers with, from the library."""
    return [(one.docno, one.title, one.text, one.score, one.metadata) for one in index.search(query)]


def library_rate(pipeline: Pipeline, queries: Sequence[str], seconds: float, deadline_ms: float, threads: int) -> float:
    """Answers a second of the library alone, within the deadline."""
    end, place = time.perf_counter() + seconds, iter(range(10**9))

    def ask() -> int:
        count = 0
        while time.perf_counter() < end:
            pipeline.ask(queries[next(place) % len(queries)], deadline_ms=deadline_ms)
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        return sum(one.result() for one in [pool.submit(ask) for _ in range(threads)]) / seconds


def under_load(
    server: Served, pipeline: Pipeline, queries: Sequence[str], clients: int, seconds: float, deadline_ms: float
) -> Row:
    """Clients for a time under a deadline, beside the library alone in half of the time, before and after."""
    threads = 4 * (os.cpu_count() or 1)  # as the server has them
    before = library_rate(pipeline, queries, seconds / 4, deadline_ms, threads)
    outcomes, memory = Outcomes(), [0.0]
    bodies = [{"query": query, "deadline_ms": deadline_ms} for query in queries]

    async def load() -> None:
        async def read() -> None:
            await asyncio.sleep(RESTED)
            memory[0] = server.memory()

        reading = asyncio.create_task(read())
        await requests(server.url, "/ask", bodies, clients, for_seconds(seconds), outcomes)
        await reading

    asyncio.run(load())
    library = (before + library_rate(pipeline, queries, seconds / 4, deadline_ms, threads)) / 2
    row = outcomes.row(seconds)
    return {
        "part": "load", "route": "/ask", "clients": clients, "deadline_ms": deadline_ms, **row,
        "library_per_s": library, "ratio": row["answers_per_s"] / library,
        "rss_start_mb": memory[0], "rss_end_mb": server.memory(),
    }  # fmt: skip


def equal(server: Served, pipeline: Pipeline, queries: Sequence[str], clients: int) -> Row:
    """Answers of the server to many clients, against the library's."""

    def told(passages: Sequence[dict[str, Any]]) -> object:
        return [(one["docno"], one["spans"], one["scores"]) for one in passages]

    async def ask() -> list[httpx2.Response]:
        gate = asyncio.Semaphore(clients)

        async def one(session: httpx2.AsyncClient, query: str) -> httpx2.Response:
            async with gate:
                return await session.post("/ask", json={"query": query, "deadline_ms": 0})

        async with httpx2.AsyncClient(base_url=server.url, timeout=600) as session:
            return await asyncio.gather(*(one(session, query) for query in queries))

    answers = asyncio.run(ask())
    different = 0
    for query, answer in zip(queries, answers, strict=True):
        expected = json.loads(json.dumps(pipeline.ask(query, deadline_ms=0).as_json()))
        different += answer.status_code != 200 or told(answer.json()["passages"]) != told(expected["passages"])
    answered = sum(answer.status_code == 200 for answer in answers)
    return {
        "part": "equal", "route": "/ask", "clients": clients, "requests": len(queries), "status_200": answered,
        "different": different,
    }  # fmt: skip


def batches(
    server: Served, single: Served, what: str, path: str, bodies: Sequence[dict[str, Any]], clients: int, seconds: float
) -> Row:
    """Clients side by side; before and after, one client, and as many at a server that runs one call at a time."""
    rates: dict[str, list[float]] = {"alone": [], "single": [], "together": []}
    rows = []
    for way in ("alone", "single", "together", "together", "single", "alone"):
        outcomes = Outcomes()
        began = time.perf_counter()
        url, count = single.url if way == "single" else server.url, 1 if way == "alone" else clients
        asyncio.run(requests(url, path, bodies, count, for_seconds(seconds / 3), outcomes))
        row = outcomes.row(time.perf_counter() - began)
        rates[way].append(row["answers_per_s"])
        if way == "together":
            rows.append(row)
    alone, one_by_one, together = (sum(rates[way]) / 2 for way in rates)
    statuses = {name: rows[0][name] + rows[1][name] for name in rows[0] if name.startswith("status_")}
    return {
        "part": "batches", "route": path, "what": what, "clients": clients, "seconds": seconds,
        "answers_per_s": together, "library_per_s": alone, "ratio": together / alone,
        "one_by_one_per_s": one_by_one, "ratio_one_by_one": together / one_by_one,
        **{name: rows[0][name] for name in ("p50_ms", "p99_ms")}, **statuses,
    }  # fmt: skip


def batch_requests(queries: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Requests of several sizes that run a model: what they are, their route and their bodies."""
    short = [" ".join(text.split()[:30]) for text in texts]

    def reads(documents: Sequence[str], count: int) -> list[dict[str, Any]]:
        return [{"query": query, "documents": documents[at : at + count]} for at, query in enumerate(queries)]

    return [
        ("whole answers", "/ask", [{"query": query, "deadline_ms": 0} for query in queries]),
        ("5 passages", "/v2/rerank", reads(texts, 5)),
        ("10 texts of 30 words", "/v2/rerank", reads(short, 10)),
        ("3 texts of 30 words", "/v2/rerank", reads(short, 3)),
        ("1 query", "/v1/embeddings", [{"model": MiniLMEncoder.name, "input": query} for query in queries]),
    ]


def drained(index: Path, queries: Sequence[str], clients: int) -> Row:
    """TERM while clients ask."""
    server, outcomes = Served(index), Outcomes()
    bodies = [{"query": query} for query in queries]

    async def load() -> None:
        async def end() -> None:
            await asyncio.sleep(5)
            server.process.send_signal(signal.SIGTERM)

        ending = asyncio.create_task(end())
        await requests(server.url, "/ask", bodies, clients, for_seconds(60), outcomes)
        await ending

    began = time.perf_counter()
    asyncio.run(load())
    code = server.process.wait(60)
    row = outcomes.row(time.perf_counter() - began)
    return {"part": "drained", "route": "/ask", "clients": clients, **row, "exit_code": code}


def fuzzed(server: Served, queries: Sequence[str], count: int, clients: int, seed: int) -> Row:
    """Hostile requests, a few clients side by side."""
    outcomes, failed = Outcomes(), []
    todo = hostile(queries, count, seed)

    async def client(session: httpx2.AsyncClient) -> None:
        for method, path, data, headers in todo:
            began = time.perf_counter()
            try:
                answer = await session.request(method, path, content=data, headers=headers)
            except httpx2.HTTPError as err:
                outcomes.lost += 1
                failed.append(f"{method} {path} {data[:200]!r}: {err!r}")
                continue
            outcomes.seconds.append(time.perf_counter() - began)
            status = answer.status_code
            outcomes.statuses[status] = outcomes.statuses.get(status, 0) + 1
            if status >= 500 and status != 503:
                failed.append(f"{status} {method} {path} {data[:200]!r}: {answer.text[:200]}")

    async def send() -> None:
        async with httpx2.AsyncClient(base_url=server.url, timeout=120) as session:
            await asyncio.gather(*(client(session) for _ in range(clients)))

    began = time.perf_counter()
    asyncio.run(send())
    for line in failed[:20]:
        print(f"failed: {line}", flush=True)
    row = outcomes.row(time.perf_counter() - began)
    refused = sum(count for status, count in outcomes.statuses.items() if 400 <= status < 500)
    failures = sum(count for status, count in outcomes.statuses.items() if status >= 500 and status != 503)
    return {"part": "fuzzed", "clients": clients, **row, "status_4xx": refused, "status_5xx": failures}


def main(arguments: Sequence[str]) -> None:
    """Run the parts and write serve.json."""
    parser = options("serve", __doc__)
    parser.add_argument("--clients", type=int, default=64, help="clients of the load")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of the load")
    parser.add_argument("--deadline-ms", type=float, default=1000, help="deadline of the load")
    parser.add_argument("--requests", type=int, default=20_000, help="hostile requests")
    parser.add_argument("--queries", type=int, default=200, help="queries asked in turn")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows = measured(bench, given)
    columns = [*COLUMNS, "exit_code", "status_4xx", "status_5xx"]
    bench.write(
        "serve", rows, columns=columns, note=NOTE, title="The server", packages=("fastapi", "uvicorn", "httpx2")
    )


def measured(bench: Bench, given: argparse.Namespace) -> list[Row]:
    """The rows of all parts."""
    collection = load(COLLECTION)
    index = bench.index(collection, best_recipe(), KnownVectors(bench, collection, MiniLMEncoder(device="cpu"), 1.0))
    queries = [query.text for query in held_out(collection)][: given.queries]
    pipeline = Pipeline.open(index)
    pipeline.warm_up()
    gc.collect()
    gc.freeze()  # a collection that walks the models would hold up the clients
    texts = [passage.contents for passage in islice(collection.corpus, 500)]
    rows: list[Row] = []

    def note(row: Row) -> None:
        print(json.dumps(row), flush=True)
        rows.append(row)

    with served(index) as server:
        note(overhead(server, "/ask", pipeline.ask, queries))
        with Index.open(index) as opened:
            note(overhead(server, "/search", partial(found, opened), queries))
        note(under_load(server, pipeline, queries, given.clients, given.seconds, given.deadline_ms))
        note(equal(server, pipeline, queries, given.clients))
        with served(index, "--workers", "1") as single:
            for what, path, bodies in batch_requests(queries, texts):
                note(batches(server, single, what, path, bodies, 16, given.seconds / 3))
        note(fuzzed(server, queries, given.requests, 8, 0))
    note(drained(index, queries, 32))
    return rows
