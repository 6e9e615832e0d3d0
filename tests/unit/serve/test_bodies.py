"""Bodies of requests are counted while they are held, whatever order their pieces come in."""

from __future__ import annotations

import asyncio

from thresher.serve.limits import Limits
from thresher.serve.settings import ServeSettings

HEADERS = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]


def test_no_byte_is_counted_as_held_once_all_bodies_are_answered():
    held = []

    async def app(scope, receive, send):
        held.append(limits._held)

    limits = Limits(app, ServeSettings())

    async def serve() -> None:
        def client():
            pieces: asyncio.Queue[dict[str, object]] = asyncio.Queue()
            scope = {"type": "http", "headers": HEADERS, "query_string": b""}
            return pieces, asyncio.create_task(limits(scope, pieces.get, app))

        async def piece(pieces, body, more):
            pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})
            for _ in range(5):
                await asyncio.sleep(0)

        first, one = client()
        await piece(first, b"[1,", True)
        second, two = client()  # begins to wait while three bytes are held
        await piece(second, b"", True)
        await piece(first, b"2]", False)
        await piece(second, b"[]", False)
        await asyncio.gather(one, two)

    asyncio.run(serve())
    assert held == [5, 2]
    assert limits._held == 0
