"""`/search` and the routes about the server's state."""

from pathlib import Path

from thresher import Index


def test_a_search_gives_what_the_library_gives(client, small_index):
    body = {"query": "chaff in field 7", "k": 5, "where": "team = blue", "facets": ["team", "year"]}
    answer = client.post("/search", json=body)
    assert answer.status_code == 200
    found = answer.json()
    with Index.open(small_index) as index:
        ranking = index.search("chaff in field 7", 5, where="team = blue")
        assert [(hit["docno"], hit["score"]) for hit in found["hits"]] == [(hit.docno, hit.score) for hit in ranking]
        assert found["hits"][0]["text"] == index.passage(found["hits"][0]["docno"]).text
        years = index.facets("year", "chaff in field 7", where="team = blue")
    assert [(one["value"], one["count"]) for one in found["facets"]["year"]] == list(years.items())
    assert found["facets"]["team"] == [{"value": "blue", "count": 20}]


def test_a_recall_that_was_not_measured_is_kept_exactly(client):
    found = client.post("/search", json={"query": "chaff", "recall": 0.9}).json()
    assert found["exact"] is True
    assert found["expected_recall"] == 1.0
    for odd in (0, 1, 2):
        assert client.post("/search", json={"query": "chaff", "recall": odd}).status_code == 422


def test_the_state_of_the_server_is_told(client):
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/ready").json() == {"status": "ready"}
    (index,) = client.get("/info").json()["indexes"]
    assert (index["name"], index["passages"], index["fields"]["year"]) == ("fields", 40, "integer")
    assert 'thresher_requests_total{route="/health",status="200"}' in client.get("/metrics").text


def test_the_page_about_routes_names_every_route_and_field(client):
    page = (Path(__file__).parents[3] / "docs" / "routes.md").read_text(encoding="utf-8")
    schema = client.get("/openapi.json").json()
    about_the_server = {"/health", "/ready", "/info", "/metrics"}  # docs/server.md has these
    for path in set(schema["paths"]) - about_the_server:
        assert path.replace("{name}", "NAME").replace("/indexes/NAME/", "/") in page, path
    bodies = {name: one for name, one in schema["components"]["schemas"].items() if "ValidationError" not in name}
    fields = {name for one in bodies.values() for name in one.get("properties", ())}
    assert {"metadata_condition", "max_context_tokens", "text_1"} < fields
    assert {name for name in fields if f"`{name}`" not in page and f'"{name}"' not in page} == set()


def test_a_request_that_no_route_can_read_says_what_is_wrong(client):
    for method, path, body, status, said in (
        ("post", "/search", '{"query": ', 422, "the request is not JSON at character 10: Expecting value"),
        ("post", "/search", "", 422, "the request has no body; send a JSON object"),
        ("post", "/serach", "{}", 404, "there is no such route; GET /openapi.json lists those there are"),
        ("get", "/search", "", 405, "this route is asked with another method"),
    ):
        answer = client.request(method, path, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True), answer.text


def test_what_is_wrong_is_said_without_the_texts_of_the_request(client, small_index):
    for body, status, said in (
        ({"query": "secret", "k": 0}, 422, "k: "),
        ({"query": "secret", "k": 10_000}, 400, "at most 1000"),
        ({"query": "secret", "where": "colour = red"}, 400, "no field 'colour'"),
        ({"query": "secret", "index": "other"}, 404, "there is no index 'other' here; there are fields"),
        ({"query": "secret", "by": "dense"}, 400, "has no vectors"),
        ({"question": "secret"}, 422, "query: Field required"),
    ):
        answer = client.post("/search", json=body)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
        assert "secret" not in answer.text
        assert str(small_index) not in answer.text
        assert answer.headers["x-request-id"]


def test_the_stages_of_a_search_are_counted(client):
    assert client.post("/search", json={"query": "grain", "facets": ["team"]}).status_code == 200
    text = client.get("/metrics").text
    for stage in ("search", "texts", "facets"):
        assert f'thresher_stage_seconds_count{{stage="{stage}"}}' in text
