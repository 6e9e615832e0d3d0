"""One index in three shards: in threads, processes and at a server; stalled, killed and changed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import typer
from typer.testing import CliRunner

from thresher import Index, Passage, build_index
from thresher.build.recipe import EncodeStep, Recipe
from thresher.cli.split import split
from thresher.distributed.messages import FactsRequest, PassagesRequest, Texts
from thresher.distributed.replicas import ProcessReplica
from thresher.distributed.shard_file import read_shard_file, write_shard_file
from thresher.distributed.sharded import ShardedIndex
from thresher.distributed.splitting import split_index
from thresher.errors import ArtifactError, InputError, ShardError
from thresher.prune import PruneStep

WORDS = "grain chaff field wheat straw sieve barn wind light heavy".split()
PASSAGES = [
    Passage(f"d{n}", " ".join(WORDS[(n * k) % 10] for k in range(1, 3 + n % 7)), metadata={"team": "ab"[n % 2], "n": n})
    for n in range(60)
]
QUERIES = ["grain and chaff", "heavy wind", "straw", "nothing that is there", "wheat wheat field light"]
RECIPE = Recipe(
    encode=EncodeStep(encoder="bm25"),
    prune=PruneStep(estimator="length", keep=0.7, junk=False),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An index of two segments and two tiers, with deletes and folded duplicates."""
    path = tmp_path_factory.mktemp("whole") / "index"
    build_index(path, PASSAGES[:45], RECIPE)
    with Index.open(path) as index, index.writer(merge=False) as writer:
        writer.add(PASSAGES[45:])
        writer.delete(docnos=["d3", "d17", "d50"])
    return path


@pytest.fixture(scope="module")
def shards(whole, tmp_path_factory):
    """The file that lists its three shards."""
    return split_index(whole, tmp_path_factory.mktemp("shards"), 3).path


def told(ranking):
    return ranking.pairs(), ranking.tiers.tolist(), ranking.exact, ranking.escalated


def assert_same(sharded, whole):
    with Index.open(whole) as index:
        assert len(sharded) == len(index)
        for query in QUERIES:
            for options in ({}, {"where": "team = a"}, {"tiers": "first"}, {"allow": ["d1", "d2", "d4"]}):
                one, found = index.search(query, 8, **options), sharded.search(query, 8, **options)
                assert told(found) == told(one)
                assert [(hit.text, hit.metadata, hit.aliases) for hit in found] == [
                    (hit.text, hit.metadata, hit.aliases) for hit in one
                ]
        assert sharded.facets("team", "grain") == index.facets("team", "grain")
        run = sharded.search_batch(QUERIES, 8)
        assert all(run[qid].pairs() == one.pairs() for qid, one in index.search_batch(QUERIES, 8).items())


def test_shards_in_threads_answer_as_one_index(whole, shards):
    for threads in (1, 3):
        with ShardedIndex.open(shards, threads=threads) as sharded:
            assert_same(sharded, whole)
            assert sharded.passage("d1").text == PASSAGES[1].text
            assert sharded.search(sharded.terms("grain and chaff")) == sharded.search("grain and chaff")
            with pytest.raises(InputError, match="'d3' is in none of the 3 shards"):
                sharded.passages(["d3"])
            with pytest.raises(InputError, match="term ids differ"):
                sharded.search(([0], [1.0]))
            with pytest.raises(InputError, match="no field 'colour'"):
                sharded.search("grain", where="colour = red")


def test_an_answer_that_the_deadline_cut_says_so_and_names_no_shard(shards):
    with ShardedIndex.open(shards) as sharded:
        found = sharded.search("grain and chaff", 8, deadline_ms=0)  # each shard is told so, and answers
        assert not found.complete and not found.exact and found.missing_shards == ()
        assert not found.escalated
        whole = sharded.search("grain and chaff", 8, deadline_ms=1e6)
        assert whole.complete and whole == sharded.search("grain and chaff", 8)


def test_a_recall_is_kept_by_the_exact_answer(shards):
    with ShardedIndex.open(shards) as sharded:
        found = sharded.search("grain and chaff", 8, recall=0.5)
        assert found.exact and found.expected_recall == 1 and found == sharded.search("grain and chaff", 8)
        run = sharded.search_batch(["grain and chaff"], 8, recall=0.5)
        assert run["0"] == found
        with pytest.raises(InputError, match="recall must be above 0"):
            sharded.search("grain", recall=1.0)
        with pytest.raises(InputError, match="by='sparse'"):
            sharded.search("grain", by="dense")


def test_a_view_names_no_duplicates_outside_of_it(shards):
    with ShardedIndex.open(shards) as sharded:
        passage = sharded.any_passage()
        view = sharded.restricted(f"team = {passage.metadata['team']}")
        folded = [hit for hit in sharded.search("grain chaff wheat", 60, tiers="first") if hit.aliases]
        assert folded, "the index folds no duplicates, so nothing is shown here"
        assert all(hit.aliases == () for hit in view.search("grain chaff wheat", 60, tiers="first"))


def test_shards_in_processes_answer_by_the_deadline_where_one_is_stopped_or_killed(whole, shards):
    with ShardedIndex.open(shards, run="processes", on_missing="partial") as sharded:
        assert_same(sharded, whole)
        (stalled,) = sharded.shards[1].replicas
        assert isinstance(stalled, ProcessReplica)
        os.kill(stalled.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        found = sharded.search("grain and chaff", 8, deadline_ms=1000)
        assert time.monotonic() - began < 10  # generous: the machine may be busy; without a deadline it would never end
        assert not found.complete and not found.exact and stalled.name in found.missing_shards
        with pytest.raises(ShardError, match="by the deadline"):
            sharded.search("grain and chaff", 8, deadline_ms=1000, on_missing="error")
        patient, sharded.options = sharded.options, sharded.options._replace(timeout=1.0)
        assert stalled.name in sharded.search("grain and chaff", 8).missing_shards  # without a deadline too
        sharded.options = patient
        os.kill(stalled.process.pid, signal.SIGCONT)
        with Index.open(whole) as index:
            assert told(sharded.search("grain and chaff", 8)) == told(index.search("grain and chaff", 8))
        stalled.process.kill()
        stalled.process.join()
        found = sharded.search("grain and chaff", 8)
        assert found.missing_shards == (stalled.name,)
        assert set(found.docnos) <= {passage.docno for passage in PASSAGES}
        with pytest.raises(ShardError, match="ended"):
            sharded.search("grain and chaff", 8, on_missing="error")


def test_nothing_waits_for_a_stopped_process_whose_pipe_is_full(whole, shards):
    with ShardedIndex.open(shards, run="processes", on_missing="partial") as sharded:
        (stalled,) = sharded.shards[1].replicas
        os.kill(stalled.process.pid, signal.SIGSTOP)
        many = PassagesRequest(tuple(f"d{number}" for number in range(100_000)))  # more than a pipe holds
        large = stalled.submit(many, 600.0)
        for _ in range(5):
            assert stalled.name in sharded.search("grain and chaff", 8, deadline_ms=50).missing_shards
        futures = [stalled.submit(FactsRequest(), 0.0) for _ in range(1100)]
        late = [str(future.exception()) for future in futures if future.done()]
        assert any("has not answered the last 1,024 requests" in one for one in late)
        os.kill(stalled.process.pid, signal.SIGCONT)
        assert isinstance(large.result(60), Texts)
        while stalled._waiting:  # it answers what it got; the others are dropped
            time.sleep(0.05)
        with Index.open(whole) as index:
            assert told(sharded.search("grain and chaff", 8)) == told(index.search("grain and chaff", 8))


def test_a_shard_at_a_server_answers_as_it_does_here(whole, shards, tmp_path):
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(module, reason="the extra serve is not installed")
    (first,), (second,), (third,) = read_shard_file(shards)
    command = [sys.executable, "-m", "thresher", "serve", f"one={first}", f"two={second}", "--shard", "--port", "0"]
    environment = {**os.environ, "SHARD_KEY": "secret"}
    with subprocess.Popen(
        [*command, "--api-key-env", "SHARD_KEY"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as server:
        try:
            url = next(line.split()[-1] for line in server.stdout if line.startswith("listening on "))
            listed = tmp_path / "shards.toml"
            write_shard_file(listed, [[f"{url}#one"], [f"{url}#two", second], [third]])
            os.environ["SHARD_KEY"] = "secret"
            with ShardedIndex.open(listed, key_env="SHARD_KEY", on_missing="partial") as sharded:
                assert_same(sharded, whole)
                server.send_signal(signal.SIGSTOP)
                found = sharded.search("grain and chaff", 8, deadline_ms=1500)
                assert f"{url}#one" in found.missing_shards
                assert third not in found.missing_shards
                server.send_signal(signal.SIGCONT)
            os.environ["SHARD_KEY"] = "another"
            with pytest.raises(ShardError, match="status 401"):
                ShardedIndex.open(listed, key_env="SHARD_KEY")
        finally:
            os.environ.pop("SHARD_KEY", None)
            server.kill()


def test_a_search_takes_up_new_commits_of_its_shards(whole, tmp_path):
    report = split_index(whole, tmp_path / "s", 2, by="range")
    with ShardedIndex.open(report.path) as sharded, Index.open(report.shards[0]) as shard:
        before = sharded.search("barn", 5)
        with shard.writer() as writer:
            writer.add([Passage("new", "barn barn")])
        assert sharded.search("barn", 5) == before
        assert sharded.refresh() and "new" in sharded.search("barn", 60).docnos


def test_what_is_no_set_of_shards_is_refused(whole, shards, tmp_path):
    other = tmp_path / "other"
    build_index(other, [Passage("x", "grain of rye"), Passage("y", "rye")])
    (first,), *_ = read_shard_file(shards)
    with pytest.raises(ShardError, match="differ in the"):
        ShardedIndex.open([first, other])
    with pytest.raises(InputError, match="named twice"):
        ShardedIndex.open([first, first])
    with pytest.raises(InputError, match="in two shards"), ShardedIndex.open([first, whole]) as twice:
        twice.search("grain", 20)
    with pytest.raises(ArtifactError, match="is there already"):
        split_index(whole, shards.parent, 3)
    bad = tmp_path / "bad.toml"
    bad.write_text("shards = []")
    with pytest.raises(InputError, match="a file of shards holds"):
        ShardedIndex.open(bad)


def test_the_command_splits_an_index(whole, tmp_path):
    app = typer.Typer()
    app.command()(split)
    done = CliRunner().invoke(app, [str(whole), "--shards", "2", "-o", str(tmp_path / "s"), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    with Index.open(whole) as index, ShardedIndex.open(said["shards"]) as sharded:
        assert sum(said["passages"].values()) == len(index) == len(sharded)
        names = [passage.docno for passage in PASSAGES if passage.docno in index]
        assert sharded.passages(names) == index.passages(names)
        assert sharded.aliases(names) == index.aliases(names)


def test_queries_from_several_threads_do_not_meet(shards):
    with ShardedIndex.open(shards, run="processes") as sharded:
        expected = {query: sharded.search(query, 8).pairs() for query in QUERIES}
        wrong = []

        def ask(query):
            wrong.extend(query for _ in range(10) if sharded.search(query, 8).pairs() != expected[query])

        threads = [threading.Thread(target=ask, args=(query,)) for query in QUERIES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
