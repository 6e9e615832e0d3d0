"""A server over an index in shards: answers, missing shards, what it refuses; shards in folders and at servers."""

import json
import os
import signal

import pytest
import typer
from typer.testing import CliRunner

from thresher import Index, Pipeline
from thresher.cli.info import info
from thresher.cli.search import search
from thresher.cli.serve import named
from thresher.distributed.door import Reaching, open_path
from thresher.distributed.shard_file import write_shard_file
from thresher.distributed.sharded import ShardedIndex
from thresher.distributed.splitting import split_index
from thresher.errors import ConfigError, InputError, ShardError
from thresher.index.filters import Where
from thresher.serve import ServeSettings, create_app
from thresher.serve.keys import Caller, key_of

BODY = {"query": "grain and chaff in field 7", "k": 8}
HEADER = "thresher-missing-shards"


@pytest.fixture(scope="module")
def shards(small_index, tmp_path_factory):
    """The file that lists three shards of the small index."""
    return split_index(small_index, tmp_path_factory.mktemp("coordinator") / "fields", 3).path


@pytest.fixture(scope="module")
def coordinator(serving, shards):
    """A server over the folders."""
    red = Caller("red", where=Where.parse("team = red"))
    keys = (key_of("boss", Caller("boss", admin=True)), key_of("red", red))
    with serving({"fields": shards}, keys=keys) as made:
        made.client.headers["authorization"] = "Bearer boss"
        made.wait_until_ready()
        yield made


def metric(client, name, **labels):
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    found = [line for line in lines if all(f'{key}="{value}"' in line for key, value in labels.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def test_a_coordinator_answers_as_a_server_of_the_whole_index(coordinator, client):
    for more in (
        {},
        {"where": "team = red"},
        {"tiers": "first"},
        {"facets": ["team", "tags"]},
        {"effort": "terms=2,candidates=40"},
        {"recall": 0.9},
        {"texts": False, "deadline_ms": 60_000},
    ):
        whole, found = (one.post("/search", json={**BODY, **more}) for one in (client, coordinator.client))
        assert found.status_code == whole.status_code == 200
        assert HEADER not in found.headers
        document = found.json()
        assert document.pop("missing_shards") == []
        assert document.pop("commit") == 3  # the sum of the shards'
        expected = whole.json()
        assert expected.pop("commit") == 1
        if "effort" in more:
            assert document["hits"] == expected["hits"]
        else:
            assert document == expected


def test_the_other_routes_of_a_search_work_over_shards(coordinator, client):
    both = client, coordinator.client
    narrow = {"fields": ["tags"], "query": "field 3", "where": "team = blue", "limit": 2}
    for body in ({"fields": ["team", "year"]}, narrow):
        one, other = (each.post("/facets", json=body).json()["facets"] for each in both)
        assert one == other
    one, other = (each.post("/ask", json={"query": BODY["query"], "k": 3}).json() for each in both)
    assert [p["docno"] for p in other["passages"]] == [p["docno"] for p in one["passages"]]
    assert other["context"] == one["context"] and other["missing_shards"] == []
    one, other = (each.post("/expand", json={"docno": "d3"}).json() for each in both)
    assert one == other
    given = {"knowledge_id": "fields", "query": "field 5", "retrieval_setting": {"top_k": 2}}
    one, other = (each.post("/retrieval", json=given).json()["records"] for each in both)
    assert [r["content"] for r in one] == [r["content"] for r in other]
    info = coordinator.client.get("/info").json()["indexes"][0]
    assert info["passages"] == 40
    assert [one["replicas"] for one in info["shards"]] == [["shard-0000"], ["shard-0001"], ["shard-0002"]]
    about = coordinator.client.get("/indexes/fields").json()
    assert sum(one["passages"] for one in about["shards"]) == about["passages"] == 40
    assert metric(coordinator.client, "thresher_shard_seconds_count", index="fields", shard="shard-0001") > 0


def test_what_needs_one_directory_is_refused_with_what_to_do(serving, shards, coordinator):
    for path in ("quality", "commits"):
        refused = coordinator.client.get(f"/indexes/fields/{path}")
        assert refused.status_code == 501 and "in shards" in refused.json()["error"]["message"]
    dense = coordinator.client.post("/search", json={**BODY, "by": "dense"})
    assert dense.status_code == 400 and "by='sparse'" in dense.json()["error"]["message"]
    given = {"passages": [{"docno": "new", "text": "Rye."}]}
    refused = coordinator.client.post("/admin/add", json=given)
    assert refused.status_code == 501 and "thresher add" in refused.json()["error"]["message"]
    with pytest.raises(ConfigError, match="not itself a shard"):
        create_app({"fields": shards}, ServeSettings(shard=True))


def test_a_view_of_a_key_is_kept_over_shards(coordinator, small_index):
    hits = coordinator.client.post("/search", json=BODY, headers={"authorization": "Bearer red"}).json()["hits"]
    assert {hit["metadata"]["team"] for hit in hits} == {"red"}
    with Index.open(small_index) as index, open_path(coordinator.services.hosted["fields"].path) as sharded:
        view, own = sharded.restricted("team = red"), index.restricted("team = red")
        assert view.search("grain", 40).pairs() == own.search("grain", 40).pairs()
        pipeline = Pipeline.open(sharded)
        answer = pipeline.over(view).ask("grain", 5)
        assert {passage.metadata["team"] for passage in answer.passages} == {"red"}
        assert "interpolate" in pipeline.off


def test_a_stalled_shard_is_missing_by_the_deadline_and_named(serving, small_index, tmp_path, until):
    report = split_index(small_index, tmp_path / "stalled", 2)
    shards, paths = report.path, report.shards
    reaching = Reaching(run="processes", on_missing="partial")
    with serving({"fields": shards}, reaching=reaching) as server:
        server.wait_until_ready()
        index = server.services.hosted["fields"].index
        stalled = index.shards[1].replicas[0]
        expected = server.client.post("/search", json=BODY).json()
        os.kill(stalled.process.pid, signal.SIGSTOP)
        try:
            found = server.client.post("/search", json={**BODY, "deadline_ms": 3000})
            document = found.json()
            assert found.status_code == 200 and found.headers[HEADER] == "shard-0001"
            assert document["missing_shards"] == ["shard-0001"]
            assert not document["complete"] and not document["exact"]
            with Index.open(paths[1]) as shard:
                assert not any(hit["docno"] in shard for hit in document["hits"])
            refused = server.client.post("/search", json={**BODY, "deadline_ms": 3000, "on_missing": "error"})
            assert refused.status_code == 503 and "shard-0001" in refused.json()["error"]["message"]
            assert str(shards.parent) not in refused.text
            answer = server.client.post("/ask", json={"query": BODY["query"], "deadline_ms": 3000})
            assert answer.headers[HEADER] == "shard-0001" and answer.json()["missing_shards"] == ["shard-0001"]
            assert metric(server.client, "thresher_partial_answers_total", index="fields") == 2
            assert metric(server.client, "thresher_shard_missing_total", shard="shard-0001") >= 3
        finally:
            os.kill(stalled.process.pid, signal.SIGCONT)
        assert server.client.post("/search", json=BODY).json() == expected
        stalled.process.kill()
        stalled.process.join()
        refused = server.client.post("/search", json={**BODY, "on_missing": "error"})
        assert refused.status_code == 503 and "shard-0001" in refused.json()["error"]["message"]
        assert server.client.get("/health").status_code == 200
        until(lambda: "shard-0001" in server.client.get("/info").json()["indexes"][0].get("problem", ""))


def test_shards_at_servers_are_asked_and_their_commits_taken_up(serving, shards, small_index, tmp_path, until):
    report = split_index(small_index, tmp_path / "apart", 2)
    with serving(dict(zip("ab", report.shards, strict=True)), shard=True) as there:
        there.wait_until_ready()
        listed = tmp_path / "servers.toml"
        write_shard_file(listed, [[f"{there.url}#a"], [f"{there.url}#b"]])
        with serving({"fields": listed}) as server:
            server.wait_until_ready()
            with Index.open(small_index) as index:
                found = server.client.post("/search", json=BODY).json()
                assert [(hit["docno"], hit["score"]) for hit in found["hits"]] == index.search(BODY["query"], 8).pairs()
            with Index.open(report.shards[0]) as index, index.writer() as writer:
                writer.delete(docnos=[index.any_passage().docno])
            until(lambda: server.services.hosted["fields"].index.commit == 3)
            assert len(server.services.hosted["fields"].index) == 39
            assert server.client.post("/search", json={**BODY, "deadline_ms": 60_000}).json()["commit"] == 3
        there.stop()
        with pytest.raises(ShardError, match="did not answer"):
            open_path(listed)


def test_the_command_searches_shards_as_one_index(shards, small_index, tmp_path):
    app = typer.Typer()
    app.command()(search)
    queries = tmp_path / "queries.tsv"
    queries.write_text("1\tgrain and chaff\n2\tthe red team\n")
    runs = []
    for path in (small_index, shards):
        run = tmp_path / f"{path.name}.run"
        done = CliRunner().invoke(app, [str(path), "--queries", str(queries), "--run", str(run), "-k", "20"])
        assert done.exit_code == 0, done.output
        runs.append(run.read_text())
        done = CliRunner().invoke(app, [str(path), "grain", "--where", "team = red", "--json"])
        assert done.exit_code == 0, (done.output, done.exception)
        runs.append([(hit["docno"], hit["score"]) for hit in json.loads(done.stdout)["hits"]])
    assert runs[:2] == runs[2:]
    with pytest.raises(InputError, match="lists shards"):
        open_path(_written(tmp_path / "other.toml", "[index"))
    assert isinstance(open_path(shards), ShardedIndex)
    assert list(named([str(shards), f"x={shards}"])) == ["fields", "x"]


def test_a_pipeline_asks_shards_and_info_tells_of_them(shards, small_index):
    query = "grain and chaff in field 7"
    with open_path(small_index) as whole, open_path(shards) as sharded:
        one, other = (Pipeline.open(index, rerank=None, context=None).ask(query) for index in (whole, sharded))
    assert [(p.docno, p.scores) for p in one.passages] == [(p.docno, p.scores) for p in other.passages]
    app = typer.Typer()
    app.command()(info)
    told = CliRunner().invoke(app, [str(shards), "--json"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert (document["kind"], document["live"]) == ("shards", 40)
    assert sum(shard["live"] for shard in document["shards"]) == 40
    assert [shard["replicas"] for shard in document["shards"]] == [[f"shard-000{n}"] for n in range(3)]
    shown = CliRunner().invoke(app, [str(shards)]).stdout
    assert "an index in 3 shards" in shown
    assert "shard-0002" in shown


def _written(path, text):
    path.write_text(text)
    return path
