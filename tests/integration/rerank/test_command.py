"""`thresher rerank` from a run to a run, against a local server."""

import json
import random
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from tests.decision_server import respond
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.cli import app
from thresher.cli.rerank import rerank
from thresher.errors import ConfigError, InputError
from thresher.evaluate.trec import read_run
from thresher.llm.recorded import Recorder
from thresher.records import Passage
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.plans import PLANS
from thresher.rerank.reranker import Reranker


@pytest.fixture
def command():
    if "rerank" not in [registered.name for registered in app.registered_commands]:
        app.command("rerank")(rerank)
    return lambda *arguments: CliRunner().invoke(app, ["rerank", *map(str, arguments)])


@pytest.fixture
def files(tmp_path):
    """Two queries, thirty passages whose text states their grade, a run in an unhelpful order."""
    grades = random.Random(0).sample(range(30), 30)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "".join(json.dumps({"_id": f"d{i}", "text": f"grade {g} words"}) + "\n" for i, g in enumerate(grades))
    )
    (tmp_path / "queries.tsv").write_text("q1\twhy is rain\nq2\twhat is sky\n")
    rows = [f"{q} Q0 d{i} {i + 1} {30 - i} first\n" for q in ("q1", "q2") for i in range(30)]
    (tmp_path / "first.run").write_text("".join(rows))
    (tmp_path / "qrels").write_text(
        "".join(f"{q} 0 d{i} {g // 10}\n" for q in ("q1", "q2") for i, g in enumerate(grades))
    )
    (tmp_path / "prices.toml").write_text('["tiny"]\ninput = 1.0\noutput = 2.0\n')
    best = [f"d{i}" for i in sorted(range(30), key=lambda i: -grades[i])]
    return tmp_path, best


def base(folder):
    return [
        folder / "first.run", "--queries", folder / "queries.tsv", "--corpus", folder / "corpus.jsonl",
        "--output", folder / "out.run", "--cache-file", folder / "cache.sqlite",
    ]  # fmt: skip


def test_it_writes_the_run_and_says_what_it_took(server, command, files):
    folder, best = files
    arguments = [
        *base(folder), "--model", "openai:tiny", "--base-url", server.url, "--prices", folder / "prices.toml",
        "--qrels", folder / "qrels", "--resume", folder / "journal",
    ]  # fmt: skip
    done = command(*arguments, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["ndcg_cut_10"] == pytest.approx(1.0)
    assert document["ndcg_cut_10_before"] < 0.9
    record = document["usage"]
    assert (record["calls"], record["depth"], record["prompt_tokens"], record["answer_tokens"]) == (22, 2, 2200, 440)
    assert record["cost"] == pytest.approx((2200 * 1.0 + 440 * 2.0) / 1e6)
    made = read_run(folder / "out.run", as_listed=True).rankings
    assert [row.docno for row in made["q1"]][:10] == best[:10]
    assert len(made["q2"]) == 30
    again = command(*arguments)
    assert again.exit_code == 0
    assert "resumed" in again.stdout
    assert len(server.requests) == 22


def test_a_budget_stops_it_and_it_says_so(server, command, files):
    folder, _ = files
    done = command(*base(folder), "--model", "openai:tiny", "--base-url", server.url, "--max-calls", "1", "--no-cache")
    assert done.exit_code == 0
    assert "limit on calls was reached" in done.stderr
    assert len(server.requests) == 1
    assert not (folder / "cache.sqlite").exists()


def test_a_rerank_server_is_asked_pointwise_by_default(server, command, files, reaction):
    folder, best = files

    def react(number, path, body):
        results = [{"index": i, "relevance_score": int(t.split()[1])} for i, t in enumerate(body["documents"])]
        return reaction(body=json.dumps({"results": results}).encode())

    server.react = react
    done = command(*base(folder), "--model", "cohere:m", "--base-url", server.url.removesuffix("/v1"), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["usage"]["plan"] == "pointwise"
    assert [row.docno for row in read_run(folder / "out.run", as_listed=True).rankings["q1"]] == best


def test_the_options_of_servers_reach_them(server, command, files, reaction, chat, order_by_grade):
    folder, _ = files
    (folder / "key").write_text("a-secret-key\n")
    options = ["--limit-field", "max_completion_tokens", "--thinking", "off", "--extra-body", '{"seed": 7}',
               "--reasoning-tokens", "100", "--key-file", folder / "key"]  # fmt: skip
    root = server.url.removesuffix("/v1")
    done = command(*base(folder), "--model", "openai:tiny", "--base-url", root, "--no-cache", *options)
    assert done.exit_code == 0, done.output
    path, headers, body = server.requests[0]
    assert (path, headers["authorization"]) == ("/v1/chat/completions", "Bearer a-secret-key")
    assert body["max_completion_tokens"] > 100
    assert (body["seed"], body["chat_template_kwargs"]["enable_thinking"]) == (7, False)
    server.requests.clear()
    server.react = lambda number, path, body: reaction(
        body=json.dumps([{"index": i, "score": int(t.split()[1])} for i, t in enumerate(body["texts"])]).encode()
    )
    options = ["--passages-per-call", "7", "--passage-tokens", "3"]
    done = command(*base(folder), "--model", "tei:", "--base-url", f"{server.url}/", "--json", *options)
    assert done.exit_code == 0, done.output
    assert max(len(body["texts"]) for _, _, body in server.requests) == 7
    assert json.loads(done.stdout)["usage"]["truncated"] == 60


@pytest.mark.parametrize(
    "options",
    [
        ["--base-url", "http://h:99999"], ["--base-url", "h:80"], ["--base-url", "http://u:p@h"],
        ["--base-url", "http://h", "--thinking", "perhaps"], ["--base-url", "http://h", "--extra-body", "{"],
        ["--base-url", "http://h", "--limit-field", "x"], ["--base-url", "http://h", "--passages-per-call", "3"],
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_used_is_one_message(command, files, options):
    folder, _ = files
    done = command(*base(folder), "--model", "openai:tiny", *options)
    assert done.exit_code == 1
    assert isinstance(done.exception, ConfigError)
    assert not (folder / "out.run").exists()


def test_recorded_answers_replay_without_a_server(server, model, command, files):
    from thresher.evaluate.trec import read_queries
    from thresher.rerank.candidates import texts_of_corpus, with_texts

    folder, best = files
    run = read_run(folder / "first.run", as_listed=True)
    candidates = with_texts(run, texts_of_corpus(run, folder / "corpus.jsonl", 100), 100)
    recorder = Recorder(model, folder / "said.jsonl")
    Reranker(ModelJudge(recorder), "sliding").rank_batch(candidates, read_queries(folder / "queries.tsv"))
    recorder.close()
    asked = len(server.requests)
    done = command(*base(folder), "--model", f"recorded:{folder / 'said.jsonl'}", "--plan", "sliding")
    assert done.exit_code == 0, done.output
    assert len(server.requests) == asked
    assert [row.docno for row in read_run(folder / "out.run", as_listed=True).rankings["q2"]][:10] == best[:10]


def test_a_plan_can_be_chosen_by_the_limits_and_the_reason_is_told(server, command, files):
    folder, _ = files
    options = ["--base-url", server.url, "--plan", "auto", "--max-calls-per-query", "8", "--json"]
    done = command(*base(folder), "--model", "openai:tiny", *options)
    assert done.exit_code == 0, done.output
    usage = json.loads(done.stdout)["usage"]
    assert usage["plan"].partition(":")[0] in PLANS.kinds()
    assert "calls in" in usage["reason"]
    assert usage["calls"] <= 16


def test_finished_queries_are_written_when_another_cannot_be_read(server, command, files, chat, order_by_grade):
    folder, best = files
    server.react = lambda number, path, body: chat("No." if "what is sky" in str(body) else order_by_grade(body))
    done = command(*base(folder), "--model", "openai:tiny", "--base-url", server.url)
    assert done.exit_code == 1
    assert "'q2' was not reranked" in str(done.exception)
    assert "1 of 2 queries" in str(done.exception)
    made = read_run(folder / "out.run", as_listed=True).rankings
    assert list(made) == ["q1"]
    assert [row.docno for row in made["q1"]][:10] == best[:10]
    server.react = lambda number, path, body: chat("No.")
    (folder / "out.run").unlink()
    none = command(*base(folder), "--model", "openai:tiny", "--base-url", server.url, "--no-cache")
    assert none.exit_code == 1
    assert "nothing written" in str(none.exception)
    assert not (folder / "out.run").exists()


def test_a_query_file_with_some_of_the_runs_queries_reranks_those(server, command, files):
    folder, best = files
    (folder / "queries.tsv").write_text("q2\twhat is sky\nq7\tof another run\n")
    done = command(*base(folder), "--model", "openai:tiny", "--base-url", server.url)
    assert done.exit_code == 0, done.output
    assert "1 of the run's 2 queries are not in --queries" in done.stderr
    made = read_run(folder / "out.run", as_listed=True).rankings
    assert list(made) == ["q2"]
    assert [row.docno for row in made["q2"]][:10] == best[:10]
    (folder / "queries.tsv").write_text("q7\tof another run\n")
    assert command(*base(folder), "--model", "openai:tiny", "--base-url", server.url).exit_code == 1


def test_what_is_recorded_replays_and_nothing_else_is_overwritten(server, command, files):
    folder, _ = files
    said = folder / "said.jsonl"
    online = [*base(folder), "--model", "openai:tiny", "--base-url", server.url, "--no-cache", "--record"]
    for _ in range(2):
        done = command(*online, said)
        assert done.exit_code == 0, done.output
    first, asked = (folder / "out.run").read_bytes(), len(server.requests)
    assert command(*base(folder), "--model", f"recorded:{said}").exit_code == 0
    assert (folder / "out.run").read_bytes() == first
    assert len(server.requests) == asked
    notes = folder / "notes.txt"
    notes.write_text("mine")
    assert isinstance(command(*online, notes).exception, InputError)
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("plan", ["sliding", "jointrank", "pointwise", "setwise-heap", "pairwise-heap", "auto"])
def test_a_dry_run_sends_nothing_and_tells_calls_tokens_and_price(server, command, files, plan):
    folder, _ = files
    done = command(
        *base(folder), "--model", "openai:tiny", "--base-url", server.url, "--plan", plan,
        "--prices", folder / "prices.toml", "--dry-run", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert server.requests == []
    assert not (folder / "out.run").exists()
    assert not (folder / "cache.sqlite").exists()
    assert 0 < document["calls"] <= document["most_calls"]
    assert document["prompt_tokens"] > document["answer_tokens"] > 0
    assert document["cost"] == pytest.approx((document["prompt_tokens"] + 2 * document["answer_tokens"]) / 1e6)


@pytest.mark.parametrize("kind", ["decisions", "systemone"])
def test_a_decision_model_is_asked_by_name_with_cache_and_dry_run(server, command, files, kind, reaction):
    folder, best = files

    def react(number, path, body):
        status, document = respond(path, body, lambda text: int(text.split()[1]) / 100)
        return reaction(status=status, body=json.dumps(document).encode())

    server.react = react
    arguments = [
        *base(folder), "--model", f"{kind}:tiny", "--base-url", server.url, "--prices", folder / "prices.toml",
        "--plan", "pointwise", "--questions-per-call", "20", "--rating", "score", "--json",
    ]  # fmt: skip
    dry = command(*arguments, "--dry-run")
    assert dry.exit_code == 0, dry.output
    document = json.loads(dry.stdout)
    assert (document["calls"], document["answer_tokens"], server.requests) == (4, 0, [])
    assert document["cost"] == pytest.approx(document["prompt_tokens"] / 1e6)
    biased = command(*arguments, "--order-bias", "--plan", "choice-pool:repeats=2", "--no-cache")
    assert biased.exit_code == 0, biased.output
    assert json.loads(biased.stdout)["order_bias"]["pairs"] == 2
    assert json.loads(biased.stdout)["order_bias"]["pull"] == 0.0
    assert "pull" in command(*arguments[:-1], "--order-bias", "--plan", "choice-pool:repeats=2", "--no-cache").stdout
    done, again = command(*arguments), command(*arguments)
    assert done.exit_code == again.exit_code == 0, done.output
    assert [hit.docno for hit in read_run(folder / "out.run")["q1"]] == best
    assert (json.loads(done.stdout)["usage"]["calls"], json.loads(again.stdout)["usage"]["cache_hits"]) == (4, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        [], ["--model", "openai:tiny", "--replay", "x"], ["--model", "guess:tiny"], ["--model", "openai:tiny"],
        ["--model", "openai:tiny", "--base-url", "http://127.0.0.1:9/v1", "--plan", "guess"],
    ],
)  # fmt: skip
def test_what_it_does_not_understand_it_refuses(command, files, wrong):
    folder, _ = files
    done = command(*base(folder), *wrong)
    assert done.exit_code != 0
    assert not (folder / "out.run").exists()


def test_a_candidate_without_a_passage_is_named(server, command, files):
    folder, _ = files
    with (folder / "first.run").open("a") as run:
        run.write("q2 Q0 stranger 31 0 first\n")
    done = command(*base(folder), "--model", "openai:tiny", "--base-url", server.url)
    assert done.exit_code == 1
    assert "'stranger' at rank 31" in str(done.exception)


def test_a_killed_process_is_resumed_without_asking_anything_twice(server, files, chat, order_by_grade):
    """SIGKILL in the middle; the second run makes exactly the calls whose answers are not in the journal."""
    folder, best = files
    server.react = lambda number, path, body: chat(order_by_grade(body), delay=0.1)
    script = "from thresher.cli import main; main()"
    command = [
        sys.executable, "-c", script, "rerank", *base(folder)[:-2], "--no-cache", "--resume", folder / "journal",
        "--model", "openai:tiny", "--base-url", server.url, "--plan", "sliding:window=4,stride=2", "--concurrency", "2",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while len(server.requests) < 10:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    server.wait_until_left()
    first = [json.dumps(body) for _, _, body in server.requests]
    answered = sum(b'"answered"' in line for line in (folder / "journal").read_bytes().splitlines(keepends=True)
                   if line.endswith(b"\n"))  # fmt: skip
    assert not (folder / "out.run").exists()
    server.requests.clear()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    second = [json.dumps(body) for _, _, body in server.requests]
    assert answered + len(second) == 2 * 14
    assert len(set(first) & set(second)) <= len(first) - answered <= 2  # at most what was in flight
    made = read_run(folder / "out.run", as_listed=True).rankings
    assert [row.docno for row in made["q1"]][:2] == best[:2]


def test_a_run_over_a_pruned_index_is_reranked_with_the_same_index(server, command, tmp_path):
    """The run holds passages of both tiers; the index finds the texts of both."""
    from thresher.build.recipe import PruneStep, Recipe
    from thresher.build.stream import build_index
    from thresher.cli.search import search
    from thresher.records import Passage

    if "search" not in [registered.name for registered in app.registered_commands]:
        app.command("search")(search)
    passages = [Passage(f"d{i}", f"grade {i} of grain" + " more words" * (i % 7)) for i in range(40)]
    index, first, out = tmp_path / "index", tmp_path / "first.run", tmp_path / "out.run"
    build_index(index, passages, Recipe(prune=PruneStep(estimator="length", keep=0.5, fold=False, junk=False)))
    (tmp_path / "q.tsv").write_text("q1\tgrain\n")
    arguments = ["search", index, "--queries", tmp_path / "q.tsv", "--run", first, "-k", "40"]
    searched = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert searched.exit_code == 0, searched.output
    assert len(read_run(first, as_listed=True).rankings["q1"]) == 40
    done = command(
        first, "--queries", tmp_path / "q.tsv", "--index", index, "--output", out, "--model", "openai:tiny",
        "--base-url", server.url, "--no-cache",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read_run(out, as_listed=True).rankings["q1"].docnos[:10] == [f"d{i}" for i in range(39, 29, -1)]


def test_neighbours_of_an_index_join_the_run(server, command, files):
    folder, best = files
    passages = [
        Passage(row["_id"], row["text"]) for row in map(json.loads, (folder / "corpus.jsonl").read_text().splitlines())
    ]
    build_index(folder / "index", passages, Recipe())
    rows = [f"q1 Q0 {one.docno} {i + 1} {30 - i} first\n" for i, one in enumerate(passages[:22])]
    (folder / "first.run").write_text("".join(rows))
    arguments = [
        folder / "first.run", "--queries", folder / "queries.tsv", "--index", folder / "index", "--output",
        folder / "out.run", "--no-cache", "--model", "openai:tiny", "--base-url", server.url, "--plan",
        "slidegar:pool=30,aggregation=last-window", "--json",
    ]  # fmt: skip
    refused = command(*arguments)
    assert refused.exit_code == 2
    assert "--neighbours" in refused.output
    done = command(*arguments, "--neighbours", "postings")
    assert done.exit_code == 0, done.output
    usage = json.loads(done.stdout)["usage"]
    assert usage["calls"] == 2
    assert usage["added"] > 0
    made = [row.docno for row in read_run(folder / "out.run", as_listed=True)["q1"]]
    assert len(set(made)) == len(made) == 22 + usage["added"]
    assert made[:10] == [docno for docno in best if docno in made][:10]
