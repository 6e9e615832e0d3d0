"""Admin routes change an index as the library does, for admin keys, and requests see it at once."""

import shutil
import threading

import pytest

from thresher import Index
from thresher.serve.keys import Caller, key_of

ADDED = [{"docno": "new", "text": "Zymurgy is brewing.", "title": "Beer", "metadata": {"team": "red", "year": 2030}}]


@pytest.fixture(scope="module")
def changing(serving, small_index, tmp_path_factory):
    path = tmp_path_factory.mktemp("admin") / "index"
    shutil.copytree(small_index, path)
    keys = (key_of("reader", Caller("reader")), key_of("boss", Caller("boss", admin=True)))
    with serving({"main": path}, keys=keys, refresh_seconds=1000) as made:
        made.client.headers["authorization"] = "Bearer boss"
        made.path = path
        yield made


def docnos(made, query):
    hits = made.client.post("/search", json={"query": query}).json()["hits"]
    return [hit["docno"] for hit in hits]


def test_only_admin_keys_may_change_an_index(changing):
    for method, path, body in [
        ("POST", "/admin/add", {"passages": ADDED}),
        ("POST", "/admin/delete", {"docnos": ["d1"]}),
        ("POST", "/admin/sync", {"passages": ADDED}),
        ("GET", "/admin/status", None),
    ]:
        answer = changing.client.request(method, path, json=body, headers={"authorization": "Bearer reader"})
        assert answer.status_code == 403, path
    assert Index.open(changing.path).commit == 1


def test_passages_are_added_replaced_deleted_and_synced(changing):
    client = changing.client
    assert docnos(changing, "zymurgy") == []
    made = client.post("/admin/add", json={"passages": ADDED}).json()
    assert (made["index"], made["commit"], made["change"]["added"]) == ("main", 2, 1)
    assert docnos(changing, "zymurgy") == ["new"]
    again = client.post("/admin/add", json={"passages": ADDED})
    assert again.status_code == 400 and "'new'" in again.json()["error"]["message"]
    other = [{**ADDED[0], "text": "Zymology is the science of it."}]
    assert client.post("/admin/add", json={"passages": other, "replace": True}).json()["change"]["replaced"] == 1
    assert (docnos(changing, "zymurgy"), docnos(changing, "zymology")) == ([], ["new"])
    gone = client.post("/admin/delete", json={"docnos": ["new", "never"]}).json()["change"]
    assert (gone["deleted"], gone["absent"]) == (["new"], ["never"])
    assert client.post("/admin/delete", json={"where": "team = red"}).json()["report"]["deleted"] == 20
    synced = client.post("/admin/sync", json={"passages": ADDED}).json()
    assert (synced["change"]["added"], len(synced["change"]["deleted"])) == (1, 20)
    status = client.get("/admin/status").json()
    assert (status["passages"], status["commit"], status["changing"]) == (1, synced["commit"], False)
    assert (status["last"]["kind"], status["last"]["change"]) == ("sync", synced["change"])
    with Index.open(changing.path) as index:
        assert index.commit == synced["commit"] and index.passage("new").title == "Beer"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("add", {"passages": [{"docno": "a b", "text": "x"}]}, 400, "white space"),
        ("add", {"passages": [{"docno": "a"}]}, 422, "passages.0.text"),
        ("add", {"passages": ADDED * 1001}, 400, "1,001"),
        ("add", {"passages": ADDED, "index": "other"}, 404, "other"),
        ("delete", {}, 422, "give docnos, or where"),
        ("delete", {"where": "colour = red"}, 400, "colour"),
        ("sync", {"passages": []}, 400, "allow_empty"),
        ("sync", {}, 400, "names no corpus"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(changing, path, body, status, said):
    before = Index.open(changing.path).commit
    answer = changing.client.post(f"/admin/{path}", json=body)
    assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert Index.open(changing.path).commit == before
    if status == 400 and path == "sync":
        assert said in changing.client.get("/admin/status").json()["last"]["error"]


def test_one_change_at_a_time(changing, monkeypatch):
    from thresher.build.writer import IndexWriter

    inside, go = threading.Event(), threading.Event()
    add = IndexWriter.add

    def waiting(self, *args, **kwargs):
        inside.set()
        go.wait(30)
        return add(self, *args, **kwargs)

    monkeypatch.setattr(IndexWriter, "add", waiting)
    first = []
    body = {"passages": [{"docno": "slow", "text": "Slowly."}]}
    thread = threading.Thread(target=lambda: first.append(changing.client.post("/admin/add", json=body)))
    thread.start()
    assert inside.wait(30)
    refused = changing.client.post("/admin/delete", json={"docnos": ["slow"]})
    changing_now = changing.client.get("/admin/status").json()["changing"]
    go.set()
    thread.join(30)
    assert (refused.status_code, changing_now, first[0].status_code) == (409, True, 200)
    with Index.open(changing.path).writer():
        taken = changing.client.post("/admin/delete", json={"docnos": ["slow"]})
    assert taken.status_code == 409, taken.text
