"""Bodies of requests: counted while they are held, and looked through in time that grows with their length alone."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.serve.limits import Limits, nesting
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


def levels(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


@given(
    st.recursive(
        st.none() | st.text('[]{}"\\a'),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"'), inner, max_size=3),
        max_leaves=20,
    ),
    st.integers(0, 4),
)
def test_levels_are_counted_up_to_the_limit(value, most):
    body = json.dumps(value).encode()
    if body.count(b"[") + body.count(b"{") > most:
        assert min(nesting(body, most), most + 1) == min(levels(value), most + 1)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[]" * 61 + b'"' + b'\\"' * 500_000, 1),  # a string without an end
        (b"[" * 61 + b"]" * 61, 61),
        (b'{"a":' * 61, 61),
        (b"[],{}," * 100_000, 1),
    ],
)
def test_hostile_bodies_do_not_hold_the_server_up(body, found):
    assert nesting(body, 60) == found
