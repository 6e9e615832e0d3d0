"""`/indexes/NAME`: counts, quality with examples, and commits, as the index has them."""

import random
import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from thresher import Index, Passage, build_index
from thresher.build.recipe import Recipe
from thresher.errors import ConfigError, InputError
from thresher.prune import PruneStep
from thresher.search.overview import kept_commits, overview, quality_of
from thresher.serve.keys import Caller, key_of
from thresher.serve.metrics import Metrics

WORDS = [f"word{i}" for i in range(300)]


def passage(i):
    rng = random.Random(i)
    return Passage(f"d{i}", " ".join(rng.choices(WORDS, k=20 + i)), metadata={"team": f"t{i % 2}"})


@pytest.fixture(scope="module")
def pruned_index(tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "index"
    twin = Passage("twin", passage(39).text.upper(), metadata={"team": "t1"})
    step = PruneStep(estimator="length", keep=0.75)
    build_index(path, [*(passage(i) for i in range(40)), twin], Recipe(prune=step))
    return path


@pytest.fixture(scope="module")
def made(serving, pruned_index, small_index, tmp_path_factory):
    changing = tmp_path_factory.mktemp("commits") / "index"
    shutil.copytree(small_index, changing)
    keys = (key_of("all", Caller("all")), key_of("some", Caller("some", indexes=("plain",))))
    with serving({"pruned": pruned_index, "plain": changing}, keys=keys) as server:
        server.client.headers["authorization"] = "Bearer all"
        yield server


def test_an_index_tells_what_it_holds(made, pruned_index):
    found = made.client.get("/indexes/pruned").json()
    tiers = {one["tier"]: one["passages"] for one in found["tiers"]}
    assert sum(tiers.values()) == found["passages"] == len(Index.open(pruned_index))
    assert found["pruned"] == {"score": tiers[2], "duplicate": 1, "dropped": 1}
    assert (found["name"], found["commit"], found["deleted"], found["fields"]) == ("pruned", 1, 0, {"team": "string"})
    assert found["stages"][0] == "search" and found["recipe"]["prune"]["estimator"] == "length"
    assert found["bytes"] == sum(one["bytes"] for one in found["segments"]) > 0
    assert found["created"].endswith("+00:00")
    assert found["encoder"].startswith("bm25")


def test_the_quality_of_passages_is_shown_with_examples(made):
    found = made.client.get("/indexes/pruned/quality?bins=5&examples=2").json()
    bins = found["bins"]
    assert len(bins) == 5 and sum(one["count"] for one in bins) == found["passages"] == 40
    assert all(one["high"] == other["low"] for one, other in pairwise(bins))
    assert found["estimator"] == "length" and bins[0]["low"] < found["threshold"] < bins[-1]["high"]
    kinds = [one["pruned"] for one in found["examples"]]
    assert kinds == ["score", "score", "duplicate", "", ""]
    worst, duplicate, best = found["examples"][0], found["examples"][2], found["examples"][-2]
    assert (worst["docno"], worst["tier"]) == ("d0", 2) and worst["score"] < found["threshold"] < best["score"]
    assert (duplicate["docno"], duplicate["text"]) == ("d39", passage(39).text)
    assert 0 < found["share_pruned"] < 1


def test_without_an_estimator_there_is_no_quality(made):
    answer = made.client.get("/indexes/plain/quality")
    assert answer.status_code == 404 and "not pruned by a quality estimator" in answer.json()["error"]["message"]


def test_the_quality_is_computed_for_one_request_at_a_time():
    from thresher.serve.refusals import RefusedError
    from thresher.serve.routes.indexes import Qualities

    qualities = Qualities()
    served = SimpleNamespace(name="any", index=object.__new__(Index))
    with qualities._lock, pytest.raises(RefusedError, match="another request") as refused:
        qualities.of(served, 20, 3)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "2"})


def test_an_index_that_was_built_again_has_its_quality_computed_anew(tmp_path):
    from thresher.serve.routes.indexes import Qualities

    def opened(passages):
        build_index(tmp_path / "index", passages, Recipe(prune=PruneStep(estimator="length", keep=0.5)), overwrite=True)
        return SimpleNamespace(name="any", index=Index.open(tmp_path / "index"), hosted=SimpleNamespace(device="cpu"))

    qualities, first = Qualities(), opened([passage(i) for i in range(10)])
    assert qualities.of(first, 5, 0)["passages"] == 10
    again = opened([passage(i) for i in range(20)])
    assert first.index.commit == again.index.commit == 1
    assert qualities.of(again, 5, 0)["passages"] == 20
    assert qualities.of(again, 5, 0) is qualities.of(again, 5, 0)
    assert qualities.of(first, 5, 0)["passages"] == 10


def test_commits_are_listed(made):
    hosted = made.services.hosted["plain"]
    before = made.client.get("/indexes/plain/commits").json()["commits"]
    assert [(one["number"], one["passages"], one["deleted"]) for one in before] == [(1, 40, 0)]
    with hosted.index.writer() as writer:
        writer.delete(docnos=["d1"])
    hosted.refresh()
    newest = made.client.get("/indexes/plain/commits").json()["commits"][0]
    assert (newest["number"], newest["passages"], newest["deleted"], newest["segments"]) == (2, 39, 1, 1)
    assert newest["created"] >= before[0]["created"]


def test_only_keys_that_see_all_may_look(made):
    headers = {"authorization": "Bearer some"}
    for path in ("/indexes/plain", "/indexes/plain/quality", "/indexes/plain/commits"):
        assert made.client.get(path, headers=headers).status_code == 403
    assert made.client.get("/indexes/other").status_code == 404
    assert made.client.get("/indexes/pruned/quality?bins=0").status_code == 422


def test_a_restricted_view_does_not_tell(pruned_index):
    view = Index.open(pruned_index).restricted("team = t1")
    for call in (overview, kept_commits, quality_of):
        with pytest.raises(ValueError, match="restricted view"):
            call(view)


def test_messages_keep_their_full_stops_where_an_index_is_the_current_folder(pruned_index, monkeypatch):
    from thresher.serve.front import told
    from thresher.serve.hosted import Hosted
    from thresher.serve.late import UNCOUNTED

    monkeypatch.chdir(pruned_index)
    hosted = Hosted("docs", Path(), UNCOUNTED)
    services = SimpleNamespace(hosts=lambda: [hosted])
    assert told(InputError(f"{pruned_index}: at most 1.5"), services, "id") == (400, "docs: at most 1.5")


def test_an_error_that_the_library_does_not_raise_is_logged(caplog):
    from thresher.serve.front import told

    services = SimpleNamespace(hosts=list, metrics=Metrics())
    for error in (InputError("of a client"), ConfigError("of a client")):
        assert told(error, services, "first") == (400, "of a client")
    for error in (ValueError("of a fault"), TypeError("of a fault"), KeyError("of a fault")):
        status, message = told(error, services, "second")
        assert (status, "second" in message, "of a fault" in message) == (500, True, False)
    assert "second" in caplog.text and "first" not in caplog.text and "ValueError: of a fault" in caplog.text
    assert b'thresher_failures_total{error="TypeError"} 1.0' in services.metrics.text()


def test_a_fault_inside_the_library_is_no_fault_of_the_client(client, monkeypatch):
    from thresher.serve.served import Served

    def faulty(*_, **__):
        raise ValueError("of the code")

    monkeypatch.setattr(Served, "search", faulty)
    monkeypatch.setattr(Served, "ask", faulty)
    stream = {"accept": "text/event-stream"}
    for path, headers in (("/search", {}), ("/ask", {}), ("/ask", stream)):
        answer = client.post(path, json={"query": "grain"}, headers={"x-request-id": "mine", **headers})
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal")
        assert "mine" in answer.text and "of the code" not in answer.text
    answer = client.post("/retrieval", json={"query": "grain", "knowledge_id": "fields"})
    assert (answer.status_code, answer.json()["error_code"], "of the code" in answer.text) == (500, 500, False)
    assert 'thresher_failures_total{error="ValueError"}' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/ready", 200), ("/", 200), ("/nowhere", 404), ("/ask", 405)]
)
def test_head_gets_the_headers_of_get(client, path, status):
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code == status
    assert (head.content, head.headers["content-length"]) == (b"", str(len(get.content)))
