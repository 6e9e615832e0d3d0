"""`/ask`: the library's answer, as one document and as events; stages that are left out; clients that go away."""

import json
import shutil
import socket
import threading
import time

import httpx2
import pytest

from thresher import Index, Passage, Pipeline, build_index
from thresher.build.recipe import AskStep, EncodeStep, Recipe
from thresher.errors import ConfigError
from thresher.index.commit import CALIBRATION
from thresher.rerank.calibration import HeldOut, ScoreCalibration

QUERY = "which team keeps the grain of field 3?"
VARYING = {"milliseconds", "seconds"}
EVENTS = {"accept": "text/event-stream"}


def steady(value):
    """A document without its times."""
    if isinstance(value, dict):
        return {name: steady(one) for name, one in value.items() if name not in VARYING}
    return [steady(one) for one in value] if isinstance(value, list) else value


def events_of(client, body):
    with client.stream("POST", "/ask", json=body, headers=EVENTS) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).split("\n\n")
    assert blocks.pop() == ""
    lines = [block.split("\n") for block in blocks]
    assert all(len(two) == 2 and two[0].startswith("event: ") and two[1].startswith("data: ") for two in lines)
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


@pytest.fixture(scope="module")
def pipeline(reading_index):
    return Pipeline.open(reading_index)


def test_the_answer_is_the_librarys(reading, pipeline):
    body = {"query": QUERY, "k": 3, "max_context_tokens": 40, "where": {"year": {"gte": 2002}}}
    found = reading.client.post("/ask", json=body).json()
    wanted = pipeline.ask(QUERY, 3, max_context_tokens=40, where="year >= 2002")
    assert {name: found[name] for name in ("index", "commit")} == {"index": "reading", "commit": 1}
    assert found["context"] == wanted.context != ""
    handles = [passage.pop("handle") for passage in found["passages"]]
    assert len(set(handles)) == len(handles) == 3
    assert steady({name: found[name] for name in wanted.as_json()}) == steady(wanted.as_json())
    assert [one["stage"] for one in found["usage"]] == ["search", "rerank", "select"]


def test_the_ranking_after_each_stage_can_be_had(reading):
    found = reading.client.post("/ask", json={"query": QUERY, "k": 2, "ranking": 4, "texts": True}).json()
    rankings = found["rankings"]
    assert list(rankings) == ["search", "rerank", "select"]
    assert [one["rank"] for one in rankings["search"]] == [1, 2, 3, 4]
    assert all(set(one["scores"]) == {"search"} and "field" in one["text"] for one in rankings["search"])
    assert all({"search", "rerank", "relevance"} <= set(one["scores"]) for one in rankings["rerank"])
    assert [one["docno"] for one in rankings["select"]] == [one["docno"] for one in rankings["rerank"]]


def test_a_stage_can_be_left_out(reading, pipeline):
    found = reading.client.post("/ask", json={"query": QUERY, "without": ["rerank"]}).json()
    wanted = pipeline.without("rerank").ask(QUERY)
    assert [one["stage"] for one in found["stages"]] == ["search", "select"]
    assert [one["docno"] for one in found["passages"]] == [one.docno for one in wanted.passages]
    refused = reading.client.post("/ask", json={"query": QUERY, "without": ["search"]})
    assert refused.status_code == 400
    assert "rerank or select" in refused.json()["error"]["message"]


def test_events_together_are_the_document(reading):
    body = {"query": QUERY, "k": 3, "max_context_tokens": 60}
    events = events_of(reading.client, body)
    assert [name for name, _ in events] == ["stage", "stage", "stage", "passages", "usage", "done"]
    stages = [data for name, data in events if name == "stage"]
    assert [one["stage"] for one in stages] == ["search", "rerank", "select"]
    assert all(one["outcome"] == "done" and one["milliseconds"] > 0 and len(one["ranking"]) == 10 for one in stages)
    assert stages[0]["counts"]["candidates"] == 40
    document = reading.client.post("/ask", json=body).json()
    assert steady(events[3][1] | events[4][1]) == steady(document)
    assert [one["docno"] for one in stages[1]["ranking"]][:1] == [document["passages"][0]["docno"]]


def test_events_come_as_stages_finish(reading, monkeypatch):
    """The first event is there while the second stage still waits."""
    go = threading.Event()
    stage = reading.services.hosted["reading"].pipeline.stages[1]
    run = type(stage).run
    monkeypatch.setattr(type(stage), "run", lambda self, state: go.wait(30) and run(self, state))
    with reading.client.stream("POST", "/ask", json={"query": QUERY}, headers=EVENTS) as answer:
        pieces = answer.iter_text()
        first = next(pieces)
        assert first.startswith("event: stage") and '"search"' in first
        go.set()
        assert "event: done" in "".join(pieces)


def test_an_error_before_the_first_event_has_its_status(reading):
    for body, status, said in [
        ({"query": QUERY, "where": "colour = red"}, 400, "colour"),
        ({"query": QUERY, "k": 0}, 422, "k: "),
        ({"query": QUERY, "index": "other"}, 404, "other"),
    ]:
        answer = reading.client.post("/ask", json=body, headers=EVENTS)
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True)


def test_an_error_after_it_is_an_event(reading, monkeypatch):
    def fails(*_):
        raise RuntimeError("what only the log may know")

    monkeypatch.setattr("thresher.pipeline.answer.Answer.as_json", fails)
    events = events_of(reading.client, {"query": QUERY})
    assert [name for name, _ in events] == ["stage", "stage", "stage", "error"]
    assert events[-1][1]["status"] == 500
    assert "log" in events[-1][1]["error"]["message"] and "only" not in events[-1][1]["error"]["message"]


def test_a_client_that_goes_away_half_way_stops_the_pipeline(reading, monkeypatch):
    inside, noticed, go, ran = (threading.Event() for _ in range(4))
    work = reading.services.work
    rerank, select = (type(stage) for stage in reading.services.hosted["reading"].pipeline.stages[1:])
    run, left = rerank.run, type(work)._left

    def waiting(self, state):
        inside.set()
        go.wait(60)
        return run(self, state)

    def leaving(self, turn):
        left(self, turn)
        noticed.set()

    monkeypatch.setattr(rerank, "run", waiting)
    monkeypatch.setattr(select, "run", lambda *_: ran.set())
    body = json.dumps({"query": QUERY}).encode()
    head = (
        f"POST /ask HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer all\r\nAccept: text/event-stream\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(reading.address) as connection:
        connection.sendall(head.encode() + body)
        got = b""
        while b"event: stage" not in got:
            got += connection.recv(65536)
        assert inside.wait(60)
        monkeypatch.setattr(type(work), "_left", leaving)
    assert noticed.wait(60), "the server does not see that the client has gone"
    go.set()
    end = time.monotonic() + 60
    while work._running and time.monotonic() < end:
        time.sleep(0.01)
    assert not work._running
    assert not ran.is_set()
    assert reading.client.get("/health").status_code == 200


def test_a_handle_of_an_answer_gives_back_what_was_dropped(reading, reading_index):
    passage = reading.client.post("/ask", json={"query": QUERY, "k": 1}).json()["passages"][0]
    found = reading.client.post("/expand", json={"handle": passage["handle"]}).json()
    text = Index.open(reading_index).passage(passage["docno"]).text
    assert found["text"] == text == passage["original"]
    assert found["kept"] == passage["spans"]
    kept = "".join(text[start:end] for start, end in found["kept"])
    dropped = "".join(one["text"] for one in found["dropped"])
    assert kept and dropped and sorted("".join((kept + dropped).split())) == sorted("".join(text.split()))


def test_a_tenants_handle_opens_for_no_other_key(reading):
    def post(key, path, body):
        return httpx2.post(f"{reading.url}{path}", json=body, headers={"authorization": f"Bearer {key}"}, timeout=600)

    passage = post("red", "/ask", {"query": QUERY, "k": 1}).json()["passages"][0]
    assert passage["metadata"]["team"] == "red"
    body = {"handle": passage["handle"]}
    assert post("red", "/expand", body).status_code == 200
    for key in ("blue", "all"):
        refused = post(key, "/expand", body)
        assert refused.status_code == 404
        assert passage["docno"] not in refused.text.replace(passage["handle"], "")
    assert post("blue", "/expand", {"docno": passage["docno"]}).status_code == 400
    posted = post("red", "/context", {"query": QUERY, "texts": ["The red team keeps it. Secret."]}).json()["passages"][
        0
    ]
    assert post("red", "/expand", {"handle": posted["handle"]}).json()["text"].endswith("Secret.")
    assert post("blue", "/expand", {"handle": posted["handle"]}).status_code == 410
    assert post("blue", "/expand", body | {"index": "other"}).status_code == 422
    assert post("blue", "/ask", {"query": QUERY, "k": 40}).json()["candidates"] == 20


def test_what_json_lacks_is_replaced(serving, tmp_path):
    odd = {"nan": float("nan"), "inf": float("inf"), "half": "a\ud800b", "list": [1, {"x": "\udfff"}], "large": 2**80}
    plain = {"nan": None, "inf": None, "half": "a\ufffdb", "list": [1, {"x": "\ufffd"}], "large": 2**80}
    recipe = Recipe(encode=EncodeStep(encoder="bm25"), ask=AskStep(context="", rerank=""))
    build_index(tmp_path / "odd", [Passage("d1", "Grain falls.", metadata=odd)], recipe=recipe)
    with serving({"odd": tmp_path / "odd"}) as made:
        (hit,) = made.client.post("/search", json={"query": "grain"}).json()["hits"]
        document = made.client.post("/ask", json={"query": "grain"}).json()
        events = dict(events_of(made.client, {"query": "grain"}))
        whole = made.client.post("/expand", json={"docno": "d1"}).json()
        body = {"knowledge_id": "odd", "query": "grain", "retrieval_setting": {"top_k": 1}}
        record = made.client.post("/retrieval", json=body).json()["records"][0]
    assert hit["text"] == whole["text"] == "Grain falls."
    assert record["metadata"].items() >= plain.items()
    assert [one["metadata"] for one in (hit, document["passages"][0], events["passages"]["passages"][0])] == [plain] * 3


def test_why_a_stage_failed_is_told_without_paths_and_texts_of_others(reading, monkeypatch):
    hosted = reading.services.hosted["reading"]
    last = hosted.pipeline.stages[-1]

    def fail(error):
        def run(self, state):
            raise error

        monkeypatch.setattr(type(last), "run", run)
        document = reading.client.post("/ask", json={"query": QUERY}).json()
        events = dict(events_of(reading.client, {"query": QUERY}))
        assert events["usage"]["errors"] == document["errors"]
        return document["errors"][last.name]

    assert fail(OSError("/secret/place")) == "the stage failed; the server's log has the cause"
    assert fail(ConfigError(f"{hosted.path}/recipe.toml: no")) == "reading/recipe.toml: no"


def test_the_tiers_that_are_searched_can_be_chosen(tmp_path, serving):
    from thresher.prune.plan import PruneStep

    recipe = Recipe(encode=EncodeStep(encoder="bm25"), prune=PruneStep(estimator="kl", keep=0.5))
    passages = [Passage(f"d{i}", f"grain of field {i}, " + "chaff " * (i % 5)) for i in range(30)]
    build_index(tmp_path / "tiered", passages, recipe)
    pipeline = Pipeline.open(tmp_path / "tiered")
    with serving({"tiered": tmp_path / "tiered"}) as made:
        made.wait_until_ready()
        (info,) = made.client.get("/info").json()["indexes"]
        assert (info["tiers"], info["defaults"]) == (2, {"k": 5, "max_context_tokens": None, "deadline_ms": None})
        for tiers in ("auto", "both", "first"):
            found = made.client.post("/ask", json={"query": "grain", "k": 30, "tiers": tiers}).json()
            wanted = pipeline.ask("grain", 30, tiers=tiers)
            assert [one["docno"] for one in found["passages"]] == [one.docno for one in wanted.passages]
            assert {one["tier"] for one in found["passages"]} == ({1} if tiers == "first" else {1, 2})
        assert made.client.post("/ask", json={"query": "grain", "tiers": "second"}).status_code == 422


def test_an_answer_has_probabilities_and_thresholds_where_the_index_is_calibrated(reading_index, serving, tmp_path):
    copy = tmp_path / "calibrated"
    shutil.copytree(reading_index, copy)
    ScoreCalibration(
        judge="lexical-english", plan="pointwise", signal="score", method="platt", points=((0.5, 0.0),), relevant=1,
        unjudged="left out", topics=9, pairs=90, positives=30, held_out=HeldOut(0.04, 0.02, 0.06, 0.5, 5),
    ).save(copy / CALIBRATION)  # fmt: skip
    asked = {"query": "grain and chaff", "k": 5}
    with serving({"calibrated": copy, "plain": reading_index}) as made:
        made.wait_until_ready()
        every = made.client.post("/ask", json=asked).json()["passages"]
        found = [one["probability"] for one in every]
        assert all(0 < p < 1 for p in found)
        least = max(found) - 1e-5  # answers have six digits
        kept = made.client.post("/ask", json={**asked, "min_score": least}).json()["passages"]
        assert [one["probability"] for one in kept] == [p for p in found if p >= least]
        plain = made.client.post("/ask", json={**asked, "index": "plain"}).json()["passages"]
        assert {one["probability"] for one in plain} == {None}
        refused = made.client.post("/ask", json={**asked, "index": "plain", "precision": 0.5})
        assert refused.status_code == 400
        assert "calibrate scores" in refused.json()["error"]["message"]
        told = {one["name"]: one["probabilities"] for one in made.client.get("/info").json()["indexes"]}
        assert told["plain"] is None
        assert told["calibrated"]["held_out"]["ece"] == 0.04
