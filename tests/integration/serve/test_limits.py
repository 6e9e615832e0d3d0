"""What is too large, too slow, compressed, not UTF-8 or nested too deeply is refused; the server goes on."""

import gzip
import json
import socket
import time

import pytest

pytest.importorskip("prometheus_client")

HEAD = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def strict(small_index, serving):
    limits = {"max_body_bytes": 2000, "max_header_bytes": 4000, "header_seconds": 0.8, "body_seconds": 0.8}
    with serving({"fields": small_index}, **limits, send_seconds=0.8, max_buffered_bytes=3000) as made:
        made.wait_until_ready()
        yield made
        assert made.client.post("/search", json={"query": "grain"}).status_code == 200


def sent(server, *pieces, wait=0.0):
    """What a server answers to bytes; empty where it closes the connection without an answer."""
    with socket.create_connection(server.address, timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece if isinstance(piece, bytes) else piece.encode())
            time.sleep(wait)
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
                if b"}}" in found:
                    break
        except ConnectionResetError:
            pass
        return found.decode()


def status(answer):
    return int(answer.split(" ", 2)[1]) if answer else 0


def test_a_body_that_is_too_large_is_refused_before_it_is_read(strict):
    answer = sent(strict, HEAD + "Content-Length: 99999999999999999999\r\n\r\n")
    assert (status(answer), "2,000 bytes" in answer) == (413, True)


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(strict):
    chunk = f"{1500:x}\r\n".encode() + b"x" * 1500 + b"\r\n"
    assert status(sent(strict, HEAD + "Transfer-Encoding: chunked\r\n\r\n", chunk, chunk, wait=0.05)) == 413


def test_a_body_that_comes_too_slowly_is_refused(strict):
    assert status(sent(strict, HEAD + 'Content-Length: 100\r\n\r\n{"query"')) == 408


@pytest.mark.parametrize("start", ["", "POST /search HT", "POST /search HTTP/1.1\r\nHost: localh"])
def test_a_connection_without_a_request_is_closed(strict, start):
    before = time.monotonic()
    assert sent(strict, start) == ""
    assert time.monotonic() - before < 8


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b" " * 10_000_000)[:1900],
        b'{"query": "\xff"}',
        b'{"query": "\\ud800"}',
        b'{"query": ' + b"[" * 1000,
        b'{"query": "x", "where": ' + b'{"not": ' * 100 + b"1" + b"}" * 101,
        b'{"query": "x", "k": 1e999}',
        b'{"query": "x", "deadline_ms": NaN}',
        b'{"query": "x"',
        b"\x00",
        b'{"query": "x", "k": ' + b"9" * 1500 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_the_clients_fault(strict, body):
    answer = strict.client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert set(answer.json()["error"]) == {"type", "message"}


def test_compressed_bodies_and_other_types_are_refused(strict):
    body, kind = json.dumps({"query": "grain"}), {"Content-Type": "application/json"}
    packed = gzip.compress(body.encode())
    for headers, content in (
        ({**kind, "Content-Encoding": "gzip"}, packed),
        ({"Content-Type": "text/plain"}, body),
        ({}, body),
    ):
        assert strict.client.post("/search", content=content, headers=headers).status_code == 415


def test_headers_that_are_too_large_are_refused(strict):
    assert status(sent(strict, f"GET /{'x' * 3900} HTTP/1.1\r\nHost: localhost\r\nX-A: {'y' * 200}\r\n\r\n")) == 431
    assert status(sent(strict, f"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: {'y' * 20_000}\r\n\r\n")) in (0, 400, 431)


def test_bytes_that_are_not_http_are_refused(strict):
    assert status(sent(strict, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")) in (0, 400)


def test_a_client_that_does_not_read_is_cut_off(strict):
    before = len(strict.server.server_state.connections)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(strict.address)
        body = b'{"query": "grain chaff", "k": 40}'
        request = HEAD.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            for _ in range(400):  # pipelined: the answers fill the buffers of both sides
                connection.sendall(request)
        except (ConnectionError, TimeoutError):
            pass
        end = time.monotonic() + 20
        while len(strict.server.server_state.connections) > before and time.monotonic() < end:
            time.sleep(0.02)
        assert len(strict.server.server_state.connections) <= before


def test_the_access_log_has_no_text_and_no_key(small_index, serving, capsys):
    with serving({"fields": small_index}, log=True) as made:
        headers = {"Authorization": "Bearer very-secret", "X-Request-ID": "abc-1"}
        found = made.client.post("/search", json={"query": "unheard-of words"}, headers=headers)
        assert found.headers["x-request-id"] == "abc-1"
        assert made.client.get("/info", headers={"X-Request-ID": "a b\\n"}).headers["x-request-id"] != "a b\\n"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    line = next(one for one in lines if one["id"] == "abc-1")
    assert (line["method"], line["route"], line["status"]) == ("POST", "/search", 200)
    assert set(line) == {"time", "id", "method", "route", "status", "ms", "caller", "stages"}
    assert set(line["stages"]) == {"search", "texts"}
    assert not any(word in json.dumps(lines) for word in ("unheard", "very-secret"))


def test_a_connection_beyond_the_limit_is_refused_in_the_dialects_shape_and_closed(small_index, serving):
    body = b'{"model": "x", "query": "grain", "documents": ["chaff"]}'
    head = b"POST /v2/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with serving({"fields": small_index}, connections=3) as made:
        made.wait_until_ready()  # on a connection that stays open
        open_now = made.server.server_state.connections

        def until(count):
            end = time.monotonic() + 20
            while len(open_now) != count:
                assert time.monotonic() < end
                time.sleep(0.01)

        with socket.create_connection(made.address), socket.create_connection(made.address):
            until(3)
            with socket.create_connection(made.address, 20) as fourth:
                fourth.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                headers, _, answer = fourth.makefile("rb").read().partition(b"\r\n\r\n")
        assert headers.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in headers.lower()
        assert "connections" in json.loads(answer)["message"]
        until(1)
        with socket.create_connection(made.address, 20) as later:
            later.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert later.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
