"""The queue: full, too slow, left by its client, drained; the same over HTTP and in the event loop."""

import asyncio
import socket
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("prometheus_client")

from thresher.serve.metrics import Metrics
from thresher.serve.refusals import RefusedError
from thresher.serve.work import Work, left_ms


class Blocked:
    """Calls that run until they are let go."""

    def __init__(self):
        self.go, self.begun = threading.Event(), threading.Semaphore(0)

    def __call__(self, value=None):
        self.begun.release()
        assert self.go.wait(20)
        return value


@pytest.fixture
def blocked():
    made = Blocked()
    yield made
    made.go.set()


def occupy(server, blocked, calls):
    """Let so many calls run, or wait, in a server's queue."""
    return [
        asyncio.run_coroutine_threadsafe(server.services.work.run(blocked, n), server.server.loop) for n in range(calls)
    ]


def waiting(server):
    return server.services.work.waiting


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_full_queue_is_429_a_hopeless_deadline_503_and_both_say_when_to_come_back(small_index, serving, blocked):
    with serving({"fields": small_index}, workers=1, queue=1) as made:
        made.wait_until_ready()
        held = occupy(made, blocked, 1)
        blocked.begun.acquire()
        late = made.client.post("/search", json={"query": "grain", "deadline_ms": 50})
        assert (late.status_code, late.json()["error"]["type"]) == (503, "unavailable")
        held += occupy(made, blocked, 1)
        until(lambda: waiting(made) == 1)
        full = made.client.post("/search", json={"query": "grain"})
        assert (full.status_code, full.json()["error"]["type"]) == (429, "overloaded")
        assert int(full.headers["retry-after"]) >= 1 <= int(late.headers["retry-after"])
        blocked.go.set()
        assert [one.result(20) for one in held] == [0, 0]
        assert made.client.post("/search", json={"query": "grain"}).status_code == 200
        text = made.client.get("/metrics").text
        assert 'thresher_refused_total{reason="queue full"} 1.0' in text
        assert 'thresher_refused_total{reason="deadline"} 1.0' in text


def test_a_client_that_goes_away_leaves_the_queue(small_index, serving, blocked):
    with serving({"fields": small_index}, workers=1, queue=5) as made:
        made.wait_until_ready()
        occupy(made, blocked, 1)
        blocked.begun.acquire()
        body = b'{"query": "grain"}'
        with socket.create_connection(made.address) as connection:
            head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: waiting(made) == 1)
        until(lambda: waiting(made) == 0)
        blocked.go.set()
        assert "thresher_dropped_total 1.0" in made.client.get("/metrics").text


def test_weighted_terms_are_not_computed_for_a_request_that_is_late_or_left(blocked):
    from thresher.errors import ThresherError
    from thresher.models.batcher import Batcher
    from thresher.pipeline.deadline import AbandonedError, abandoned_if
    from thresher.serve.models import Models
    from thresher.serve.refusals import status_of

    models, seen = Models({}), []

    def rows(texts):
        seen.append(len(texts))
        return blocked([[] for _ in texts])

    models.__dict__["_sparse_passages"] = Batcher(rows, 64)
    late = Work(1, 4, Metrics()).run(models.sparse, ["a text"] * 90, queries=False, deadline_ms=1)
    with pytest.raises(ThresherError) as caught:
        asyncio.run(late)
    assert status_of(caught.value) == 503
    blocked.go.set()
    with abandoned_if(lambda: len(seen) > 1), pytest.raises(AbandonedError):
        models.sparse(["a text"] * 90, queries=False)
    assert set(seen) == {32}
    assert len(models.sparse(["a text"] * 90, queries=False)) == 90
    assert seen[-3:] == [32, 32, 26]


def test_requests_in_flight_are_answered_while_the_server_drains(small_index, serving, blocked):
    with serving({"fields": small_index}, workers=1, queue=50, linger_seconds=0.3) as made:
        made.wait_until_ready()
        occupy(made, blocked, 1)
        blocked.begun.acquire()
        answers = []

        def ask():
            answers.append(made.client.post("/search", json={"query": "grain"}))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: waiting(made) == 8)
        made.server.loop.call_soon_threadsafe(made.server.drain)
        until(lambda: made.services.work.draining)
        ready = made.client.get("/ready")
        assert (ready.status_code, ready.headers["connection"]) == (503, "close")
        blocked.go.set()
        for thread in threads:
            thread.join(20)
        made.thread.join(20)
        assert not made.thread.is_alive()
        assert [one.status_code for one in answers] == [200] * 8
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(made.address)


def test_a_call_is_told_what_is_left_of_its_deadline_and_is_not_waited_for_beyond_it(blocked):
    async def asked():
        work = Work(1, 4, Metrics())
        left = await work.run(left_ms, deadline_ms=5000)
        assert 0 < left <= 5000
        assert await work.run(left_ms) is None
        with pytest.raises(RefusedError) as refused:
            await work.run(blocked, deadline_ms=30)
        assert refused.value.status == 503
        with pytest.raises(RefusedError) as refused:  # its turn does not come
            await work.run(left_ms, deadline_ms=30)
        assert refused.value.status == 503
        blocked.go.set()
        assert await work.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await work.run(lambda: 1 / 0)
        assert await work.run(lambda: 8) == 8
        work.close()

    asyncio.run(asked())


def test_a_long_call_of_one_kind_does_not_make_others_seem_long(blocked):
    def change():
        time.sleep(0.3)

    async def asked():
        work = Work(2, 4, Metrics())
        await work.run(change)
        await work.run(left_ms)
        held = [asyncio.ensure_future(work.run(blocked)), asyncio.ensure_future(work.run(change))]
        await asyncio.sleep(0.01)
        assert work.expected_wait() < 0.1  # the thread of the quick kind is the first to be free
        blocked.go.set()
        await asyncio.gather(*held)
        work.close()

    asyncio.run(asked())


def test_a_request_that_would_spend_most_of_its_time_waiting_is_refused_at_once(blocked):
    def answer():
        time.sleep(0.2)

    async def asked():
        work = Work(1, 4, Metrics())
        await work.run(answer)
        held = asyncio.ensure_future(work.run(answer))
        await asyncio.sleep(0.01)
        with pytest.raises(RefusedError, match="too much of its deadline") as refused:
            await work.run(answer, deadline_ms=300)
        assert int(refused.value.headers["Retry-After"]) >= 1
        await work.run(answer, deadline_ms=10_000)
        await held
        work.close()

    asyncio.run(asked())


def test_a_request_is_refused_as_soon_as_there_is_no_time_left_for_a_call_of_its_kind(blocked):
    async def asked():
        work = Work(1, 4, Metrics())
        held = asyncio.ensure_future(work.run(blocked))
        work.times.learn(left_ms.__qualname__, 100.0)
        with pytest.raises(RefusedError, match="time for an answer") as refused:
            await work.run(left_ms, deadline_ms=90_000)
        assert refused.value.status == 503
        blocked.go.set()
        await held
        assert await work.run(left_ms, deadline_ms=95_000) > 0  # it expects less after a refusal
        work.close()

    asyncio.run(asked())


def test_a_cancelled_request_gives_its_place_back(blocked):
    async def asked():
        work = Work(1, 4, Metrics())
        first = asyncio.ensure_future(work.run(blocked))
        second = asyncio.ensure_future(work.run(blocked))
        await asyncio.sleep(0.02)
        assert work.waiting == 1
        second.cancel()
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert work.waiting == 0
        blocked.go.set()
        assert await work.run(lambda: 7) == 7
        work.close()

    asyncio.run(asked())


def test_a_stream_gives_what_a_call_emits_then_its_error():
    def counting(emit):
        for number in range(3):
            emit(number)
        raise ValueError("no more")

    async def asked():
        work = Work(1, 4, Metrics())
        events = await work.stream(counting)
        assert [await anext(events) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="no more"):
            await anext(events)
        work.close()

    asyncio.run(asked())


def test_what_is_to_be_done_once_models_are_loaded_is_done_before_the_server_is_ready():
    from thresher.serve.app import _warm_up

    services = SimpleNamespace(hosts=list, ready=False)
    seen = []
    services.when_ready = lambda: seen.append(services.ready)
    asyncio.run(_warm_up(services))
    assert (seen, services.ready) == ([False], True)
