"""Errors on the wire: their headers, and their shapes as `/openapi.json` describes them."""

import asyncio
import json
import socket
import threading

import pytest
from jsonschema import Draft202012Validator

from thresher.errors import BudgetExhaustedError
from thresher.serve.bodies import dumped
from thresher.serve.routes.retrieval import renamed


def test_what_stops_at_the_deadline_says_when_to_ask_again(client, monkeypatch):
    def late(*_):
        raise BudgetExhaustedError("the deadline is over")

    monkeypatch.setattr("thresher.serve.routes.rerank.reranked", late)
    for path in ("/v2/rerank", "/v1/rerank"):
        answer = client.post(path, json={"query": "grain", "documents": ["a"]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_another_method_is_told_which_are_allowed(client):
    for method, path, allowed in (("GET", "/ask", "POST"), ("POST", "/info", "GET, HEAD"), ("PUT", "/", "GET, HEAD")):
        answer = client.request(method, path, json={})
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), path
    assert "allow" not in client.get("/nowhere").headers


def test_errors_have_the_shapes_that_are_described(client):
    document = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(document)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if path.startswith("/admin"):
                continue  # without a key they are refused before they are read
            wrong = client.request(method, path.format(name="x"), json={"k": []})
            for answer in (wrong, client.get(path, headers={"host": "evil.test"})):
                if answer.status_code >= 400:
                    described = operation["responses"]
                    response = described.get(str(answer.status_code), described["default"])
                    schema = {**response["content"]["application/json"]["schema"], "components": document["components"]}
                    Draft202012Validator(schema).validate(answer.json())
    assert {"400", "default"} <= set(document["paths"]["/v1/embeddings"]["post"]["responses"])
    assert {"422", "default"} <= set(document["paths"]["/search"]["post"]["responses"])


def test_probes_leave_no_lines_in_the_access_log(small_index, serving, capsys):
    with serving({"fields": small_index}, log=True) as made:
        made.wait_until_ready()
        for path in ("/health", "/ready", "/info"):
            made.client.get(path)
        assert made.client.post("/ready", json={}).status_code == 405
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [(one["route"], one["status"]) for one in said] == [("/info", 200), ("/ready", 405)]


def test_what_is_in_the_kernel_when_the_server_stops_is_answered(small_index, serving):
    with serving({"fields": small_index}) as made:
        made.wait_until_ready()
        begun, go = threading.Event(), threading.Event()

        async def stop():
            begun.set()
            go.wait(20)  # the loop accepts nothing meanwhile
            made.server.should_exit = True
            await made.server.shutdown()

        stopped = asyncio.run_coroutine_threadsafe(stop(), made.server.loop)
        assert begun.wait(20)
        connections = [socket.create_connection(made.address, 60) for _ in range(30)]
        for one in connections:
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        go.set()
        answers = [one.makefile("rb").read() for one in connections]
        for one in connections:
            one.close()
        stopped.result(20)
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * 30


def test_a_long_answer_is_the_same_json():
    rows = [[0.1, n, None, "é"] for n in range(100)]
    for content in (rows, {"object": "list", "data": rows, "usage": {"n": 1}}, {"data": rows, 1: [2]}, [{}] * 50):
        whole = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        assert dumped(content) == whole
    assert json.loads(dumped([[float("nan"), "\ud800"]] * 50)) == [[None, "\ufffd"]] * 50


def test_no_field_of_a_passage_is_lost_to_a_record():
    given = {"handle": "h", "handle_": 1, "team": "red", "docno": 7}
    assert renamed(given) == {"handle__": "h", "handle_": 1, "team": "red", "docno_": 7}
    assert renamed({"team": "red"}) == {"team": "red"}


@pytest.mark.parametrize("again", [True, False])
def test_the_quality_of_an_index_that_was_built_again_is_503(monkeypatch, again):
    from types import SimpleNamespace

    from thresher import Index
    from thresher.errors import ArtifactError
    from thresher.serve.refusals import RefusedError
    from thresher.serve.routes import indexes

    def replaced(*_, **__):
        raise ArtifactError("replaced")

    monkeypatch.setattr(indexes, "quality_of", replaced)
    index = object.__new__(Index)
    hosted = SimpleNamespace(device="cpu", refresh=bool, index=object() if again else index)
    with pytest.raises(RefusedError if again else ArtifactError) as raised:
        indexes.Qualities().of(SimpleNamespace(name="any", index=index, hosted=hosted), 5, 0)
    assert not again or (raised.value.status, raised.value.headers) == (503, {"Retry-After": "1"})
