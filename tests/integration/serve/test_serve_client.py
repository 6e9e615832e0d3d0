"""The client that measures the server: statuses, waits, connections that the server closes, and its own delays."""

import asyncio
import socket
import threading
import time

import pytest

from eval.serve import Outcomes, requests
from eval.serve_client import Client, LostError, lags


def test_it_counts_what_comes_of_requests(server):
    outcomes = Outcomes()
    bodies = [{"query": "grain"}, {"query": "grain", "k": "x"}]
    asyncio.run(requests(server.url, "/search", bodies, 3, lambda sent: sent >= 12, outcomes))
    assert sum(outcomes.statuses.values()) >= 12 and set(outcomes.statuses) == {200, 422}
    assert len(outcomes.seconds) == outcomes.statuses[200] and outcomes.lost == 0
    row = outcomes.row(1.0)
    assert row["answers_per_s"] == row["status_200"] and row["client_lag_p99_ms"] >= 0


def test_a_connection_that_ends_early_is_a_lost_request_and_one_that_is_closed_is_opened_again():
    answers = [
        b"HTTP/1.1 503 No\r\nContent-Length: 2\r\nRetry-After: 3\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200",
    ]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()

        async def ask():
            async with Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
                assert await client.post("/ask", {}) == (503, 3.0)
                with pytest.raises(LostError):
                    await client.post("/ask", {})

        asyncio.run(ask())
        thread.join(10)


def test_a_loop_that_is_held_up_is_noticed():
    async def held():
        async with lags() as found:
            await asyncio.sleep(0.02)
            time.sleep(0.2)
            await asyncio.sleep(0.02)
        return max(found)

    assert asyncio.run(held()) > 0.1
