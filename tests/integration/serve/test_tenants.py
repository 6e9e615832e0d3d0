"""Keys, and what a key that is restricted to a filter may see: no route gives it more.

A route that is added needs a row in `ASKED`.
"""

import json

import pytest

pytest.importorskip("prometheus_client")

from thresher import Index
from thresher.index.filters import Where
from thresher.serve.keys import Caller, key_of

RED = Where.parse("team = red")
KEYS = (
    key_of("all-of-it", Caller("all")),
    key_of("red-only", Caller("red", where=RED)),
    key_of("other-index", Caller("other", indexes=("other",))),
    key_of("may-change", Caller("admin", admin=True)),
)
SEARCH = {"query": "chaff in field 7 of team blue", "k": 40, "facets": ["team", "year", "tags"]}
ASKED = {
    ("get", "/health"): [None],
    ("get", "/ready"): [None],
    ("get", "/info"): [None],
    ("get", "/metrics"): [None],
    ("post", "/search"): [
        SEARCH,
        {**SEARCH, "where": "team = blue"},
        {**SEARCH, "where": {"or": [{"team": "blue"}, {"team": "red"}]}},
        {**SEARCH, "where": "not team = red"},
        {"query": "chaff", "where": "team = blue or team = red", "k": 100},
    ],
    ("post", "/facets"): [{"fields": ["team", "year"]}, {"fields": ["team"], "query": "chaff", "where": "team = blue"}],
    ("post", "/ask"): [
        {"query": "chaff in field 7 of team blue", "k": 20, "ranking": 100, "texts": True},
        {"query": "chaff", "k": 5, "where": "team = blue", "ranking": 100},
    ],
    ("post", "/context"): [
        {"query": "chaff", "docnos": ["d0"]},
        {"query": "chaff", "docnos": ["d0", "d1"]},
        {"query": "chaff", "docnos": ["d7"]},
    ],
    ("post", "/expand"): [{"docno": "d0"}, {"docno": "d1"}, {"docno": "d7", "spans": [[0, 5]]}],
    ("post", "/retrieval"): [
        {"knowledge_id": "fields", "query": "chaff in field 7 of team blue", "retrieval_setting": {"top_k": 40}},
        {
            "knowledge_id": "fields",
            "query": "chaff",
            "metadata_condition": {
                "conditions": [{"name": ["team"], "comparison_operator": "is", "value": "blue"}],
            },
        },
    ],
    ("post", "/admin/add"): [{"passages": [{"docno": "d1", "text": "chaff"}]}],
    ("post", "/admin/delete"): [{"docnos": ["d1"]}],
    ("post", "/admin/sync"): [{}],
    ("post", "/admin/shadow/reset"): [{}],
    ("get", "/admin/status"): [None],
    ("get", "/indexes/{name}"): [None],
    ("get", "/indexes/{name}/quality"): [None],
    ("get", "/indexes/{name}/shadow"): [None],
    ("get", "/indexes/{name}/commits"): [None],
}
"""Requests to each route that would show passages of another team; the first is allowed."""
ADMIN = {"/admin/add", "/admin/delete", "/admin/sync", "/admin/status", "/admin/shadow/reset"}
OF_ALL = {"", "/quality", "/commits", "/shadow"}
FORBIDDEN = ADMIN | {"/metrics", *(f"/indexes/{{name}}{one}" for one in OF_ALL)}
"""What a restricted key may not have at all."""
OF_THE_REQUEST = {
    "/v2/rerank", "/v1/rerank", "/rerank", "/v1/score", "/score", "/v1/embeddings", "/embed", "/embed_sparse",
    "/v1/models", "/v1/models/{name}",
}  # fmt: skip
"""Routes that read the texts of the request and none of an index."""


@pytest.fixture(scope="module")
def guarded(small_index, serving):
    with serving({"fields": small_index, "other": small_index}, keys=KEYS) as made:
        made.wait_until_ready()
        made.key = lambda secret: {"Authorization": f"Bearer {secret}"}
        yield made


def routes(app):
    schema = app.openapi()
    return [(method, path) for path, one in schema["paths"].items() for method in one]


def test_every_route_has_a_row_here(guarded):
    assert {path for _, path in routes(guarded.app)} <= {path for _, path in ASKED} | OF_THE_REQUEST


def test_no_route_shows_a_restricted_key_anything_of_what_it_may_not_see(guarded, small_index):
    with Index.open(small_index) as index:
        numbers = range(len(index))
        hidden = [one for one in index.passages_at(numbers) if one.metadata["team"] == "blue"]
    for (method, path), bodies in ASKED.items():
        for number, body in enumerate(bodies):
            shown = guarded.client.request(
                method, path.format(name="fields"), json=body, headers=guarded.key("red-only")
            )
            allowed = (403,) if path in FORBIDDEN else (200, 400, 404) if number else (200,)
            assert shown.status_code in allowed, (path, shown.text)
            for one in hidden:
                for secret in (f'"{one.docno}"', one.text, json.dumps(one.title), one.metadata["url"] + '"'):
                    assert secret not in shown.text, (path, body)


def test_a_handle_that_another_key_was_given_opens_nothing(guarded):
    asked = {"query": "chaff in field 7 of team blue", "k": 5}
    answer = guarded.client.post("/ask", json=asked, headers=guarded.key("all-of-it")).json()
    handle = next(one["handle"] for one in answer["passages"] if one["metadata"]["team"] == "blue")
    assert guarded.client.post("/expand", json={"handle": handle}, headers=guarded.key("all-of-it")).status_code == 200
    refused = guarded.client.post("/expand", json={"handle": handle}, headers=guarded.key("red-only"))
    assert refused.status_code in (400, 403, 404, 410), refused.text
    assert "field" not in refused.text


def test_a_restricted_key_counts_only_what_it_may_see(guarded):
    seen = guarded.client.post("/search", json=SEARCH, headers=guarded.key("red-only")).json()
    assert seen["facets"]["team"] == [{"value": "red", "count": 20}]
    assert sum(one["count"] for one in seen["facets"]["year"]) == 20
    assert len(seen["hits"]) == 20
    info = guarded.client.get("/info", headers=guarded.key("red-only")).json()["indexes"]
    assert [one["passages"] for one in info] == [20, 20]
    everything = guarded.client.post("/search", json=SEARCH, headers=guarded.key("all-of-it")).json()
    assert everything["facets"]["team"] == [{"value": "blue", "count": 20}, {"value": "red", "count": 20}]
    scores = {hit["docno"]: hit["score"] for hit in everything["hits"]}
    assert all(scores[hit["docno"]] == hit["score"] for hit in seen["hits"])


def test_answers_of_a_restricted_key_come_from_what_it_may_see(guarded):
    from thresher.serve.served import Served

    hosted = guarded.services.hosted["fields"]
    answer = Served(hosted, Caller("red", where=RED)).ask("chaff in field 7 of team blue", 5)
    assert {one.metadata["team"] for one in answer.passages} == {"red"}
    assert (
        answer.ranking.docnos
        == Served(hosted, Caller()).ask("chaff in field 7 of team blue", 5, where=RED).ranking.docnos
    )


def test_without_a_key_or_with_a_wrong_one_only_the_state_of_the_server_is_told(guarded):
    for method, path in routes(guarded.app):
        for headers in ({}, guarded.key("wrong"), {"Authorization": "Basic all-of-it"}, guarded.key(",")):
            answer = guarded.client.request(method, path, json=ASKED.get((method, path), [{}])[0], headers=headers)
            if path in ("/health", "/ready"):
                assert answer.status_code in (200, 503)
            else:
                status = 403 if path == "/retrieval" else 401  # what Dify takes for a wrong key
                assert (answer.status_code, answer.headers["www-authenticate"]) == (status, "Bearer")
    assert guarded.client.get("/openapi.json").status_code == 401


def test_a_key_for_one_index_sees_no_other(guarded):
    other = guarded.key("other-index")
    assert [one["name"] for one in guarded.client.get("/info", headers=other).json()["indexes"]] == ["other"]
    refused = guarded.client.post("/search", json={"query": "chaff", "index": "fields"}, headers=other)
    assert (refused.status_code, "there are other" in refused.text) == (404, True)
    assert guarded.client.post("/search", json={"query": "chaff"}, headers=other).json()["index"] == "other"


def test_pages_of_other_origins_may_not_ask_unless_they_are_named(small_index, serving, server):
    origin = {"Origin": "https://app.test"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in server.client.get("/health", headers=origin).headers
    assert server.client.options("/search", headers=preflight).status_code == 405
    with serving({"fields": small_index}, cors=("https://app.test",)) as made:
        allowed = made.client.options("/search", headers=preflight).headers["access-control-allow-origin"]
        assert allowed == "https://app.test"
        refused = made.client.post("/search", json={}, headers=origin)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (422, "https://app.test")
        other = made.client.get("/health", headers={"Origin": "https://other.test"})
        assert "access-control-allow-origin" not in other.headers


def test_a_server_without_a_key_answers_only_under_the_name_of_this_machine(server):
    for host, status in (
        ("localhost:8080", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.test", 403), ("", 403), ("[x", 403)
    ):  # fmt: skip
        assert server.client.get("/info", headers={"Host": host}).status_code == status, host
