"""The driver against a real HTTP server: concurrency, faults, budget in seconds, resume, and no secrets anywhere."""

import asyncio
import json
import logging
import pickle
import random
import socket
import sqlite3
import traceback

import pytest

from thresher.errors import ConfigError, ModelError
from thresher.llm.budget import Budget, Price
from thresher.llm.cache import ResponseCache
from thresher.llm.client import RetryPolicy
from thresher.llm.openai_server import OpenAIServer
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker, UnfinishedRunError

QUICK = RetryPolicy(attempts=3, first=0.01, longest=0.02)


def grades(n, seed=0):
    return random.Random(seed).sample(range(n), n)


def shuffled_queries(count, n, make_hits):
    return [(f"question {i}", make_hits(grades(n, i))) for i in range(count)]


def texts(hits):
    return [int(hit.text.split()[1]) for hit in hits]


def test_twenty_blocks_are_asked_over_twenty_connections_at_once(server, model, make_hits):
    server.hold_until_open(20)
    result = Reranker(ModelJudge(model), "jointrank", concurrency=20).rank("q", make_hits(grades(100)))
    assert (result.usage.calls, result.usage.depth) == (20, 1)
    assert server.most_open == 20
    assert len(set(texts(result[:10])) & set(range(90, 100))) >= 8


def test_forty_three_queries_share_sixteen_connections(server, model, make_hits):
    server.hold_until_open(16)
    queries = shuffled_queries(43, 100, make_hits)
    results = Reranker(ModelJudge(model), "sliding", concurrency=16).rank_batch(queries)
    assert sum(result.usage.calls for result in results) == 43 * 9
    assert server.most_open == 16
    assert all(texts(result[:10]) == list(range(99, 89, -1)) for result in results)


def test_when_the_seconds_run_out_calls_in_flight_are_cancelled(server, model, make_hits, chat, order_by_grade):
    """Half of the blocks are answered at once, half never: the ranking comes from the answered ones."""
    server.react = lambda number, path, body: chat(order_by_grade(body), delay=0.0 if number % 2 else 3600.0)
    for seconds in (0.5, 2.0, 8.0, 32.0):  # a busy machine needs more for the half that is answered
        reranker = Reranker(ModelJudge(model), "jointrank", concurrency=20, budget=Budget(seconds=seconds))
        result = reranker.rank("q", make_hits(grades(100)))
        assert (result.complete, result.stopped) == (False, "seconds")
        if result.usage.skipped == 10:
            break
    assert result.usage.skipped == 10
    assert len(set(texts(result[:10])) & set(range(80, 100))) >= 8


@pytest.mark.parametrize("kind", ["calls", "tokens", "cost"])
def test_a_budget_is_never_passed_and_the_ranking_so_far_is_marked(
    server, model, make_hits, chat, order_by_grade, kind
):
    rng = random.Random(0)

    def react(number, path, body):
        roll = rng.random()
        if roll < 0.2:
            return type(chat(""))(status=503, body=b"{}")
        if roll < 0.3:
            return type(chat(""))(close=True)
        return chat(order_by_grade(body), prompt_tokens=900, completion_tokens=100)

    server.react = react
    price = Price(input=1.0, output=10.0)
    limits = {"calls": Budget(calls=17), "tokens": Budget(tokens=40_000), "cost": Budget(cost=0.045)}
    reranker = Reranker(
        ModelJudge(model), "sliding", concurrency=8, budget=limits[kind], price=price, retry=QUICK, on_failure="keep"
    )
    results = reranker.rank_batch(shuffled_queries(6, 100, make_hits))
    sent = len(server.requests)
    spent = {"calls": sent, "tokens": sent * 1000, "cost": price.of(sent * 900, sent * 100)}
    limit = getattr(limits[kind], kind)
    assert spent[kind] <= limit
    assert any(result.stopped == kind for result in results)
    assert all(result.complete == (not result.stopped and not result.usage.failed) for result in results)
    assert sum(result.usage.calls for result in results) == sent
    assert all(len(result) == 100 for result in results)


def test_a_storm_of_refusals_is_waited_out_as_the_server_asks(server, model, make_hits, order_by_grade, chat, reaction):
    server.react = lambda number, path, body: (
        reaction(status=429, headers={"retry-after": "0.3"}, body=b"{}") if number < 12 else chat(order_by_grade(body))
    )
    reranker = Reranker(ModelJudge(model), "jointrank", concurrency=20, retry=RetryPolicy(attempts=4, first=0.01))
    result = reranker.rank("q", make_hits(grades(100)))
    assert result.complete
    assert result.usage.failed_calls == result.usage.retries == 12
    assert result.usage.calls == 32
    assert result.usage.unconfirmed_calls == 0  # refused calls cost nothing but the call


FAULTS = {
    "429": {"status": 429, "body": b'{"error": {"message": "slow down"}}', "headers": {"retry-after": "0.01"}},
    "500": {"status": 500, "body": b"oops"},
    "wrong JSON": {"body": b'{"choices": [{"mess'},
    "no JSON": {"body": b"<html>hello</html>"},
    "empty object": {"body": b"{}"},
    "no choices": {"body": b'{"id":"x","object":"chat.completion","created":0,"model":"m","choices":[]}'},
    "cut stream": {"cut": True, "body": b'{"choices": ' + b" " * 1000},
    "hung up": {"close": True},
    "stall": {"delay": 30.0},
    "bad request": {"status": 400, "body": b'{"error": {"message": "no such model"}}'},
    "unauthorised": {"status": 401, "body": b'{"error": {"message": "who are you"}}'},
}


@pytest.mark.parametrize("fault", [*FAULTS, "refused", "empty answer", "prose"])
def test_a_fault_is_an_error_or_a_marked_ranking_and_never_passes_for_a_result(
    server, make_hits, chat, reaction, fault
):
    if fault == "refused":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    else:
        url = server.url
        said = {"empty answer": "", "prose": "There are 20 passages, and I like 3 of them."}
        server.react = lambda number, path, body: chat(said[fault]) if fault in said else reaction(**FAULTS[fault])
    model = OpenAIServer("tiny", url, timeout=0.3)
    hits = make_hits(grades(30))

    def rank(on_failure):
        reranker = Reranker(ModelJudge(model), "sliding", retry=QUICK, on_failure=on_failure)
        return reranker.rank_batch([("q", hits)])[0]

    with pytest.raises(ModelError) as caught:
        rank("raise")
    assert "tiny" in str(caught.value) or "could be read" in str(caught.value)
    skipped, kept = rank("skip"), rank("keep")
    assert (len(skipped), skipped.complete) == (0, False)
    assert skipped.error
    assert [hit.docno for hit in kept] == [hit.docno for hit in hits]
    assert not kept.complete
    with pytest.raises(ModelError):
        Reranker(ModelJudge(model), "sliding", retry=QUICK, on_failure="skip").rank("q", hits)
    model.close()


def test_a_fault_in_some_calls_leaves_a_ranking_from_the_others(
    server, model, make_hits, chat, order_by_grade, reaction
):
    server.react = lambda number, path, body: (
        reaction(status=400, body=b"{}") if number % 4 == 0 else chat(order_by_grade(body))
    )
    result = Reranker(ModelJudge(model), "jointrank", on_failure="skip").rank("q", make_hits(grades(100)))
    assert result.usage.failed == 5
    assert not result.complete
    assert len(set(texts(result[:10])) & set(range(85, 100))) >= 8


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_log_probabilities_that_are_no_numbers_are_an_error(server, model, make_hits, chat, value):
    listed = [{"token": "yes", "logprob": -1.0, "bytes": None}, {"token": "no", "logprob": "X", "bytes": None}]
    body = chat("yes", logprobs={"content": [{**listed[0], "top_logprobs": listed}]})
    body.body = body.body.replace(b'"X"', value.encode())
    server.react = lambda number, path, request: body
    with pytest.raises(ModelError, match="not a number"):
        Reranker(ModelJudge(model), "pointwise").rank("q", make_hits(grades(3)))


def test_log_probabilities_that_are_not_offered_are_an_error_with_a_remedy(server, model, make_hits, chat):
    server.react = lambda number, path, body: chat("yes")
    with pytest.raises(ModelError, match="answer in text instead"):
        Reranker(ModelJudge(model), "pointwise").rank("q", make_hits(grades(3)))


def test_yes_no_log_odds_are_the_rating(server, model, make_hits, chat):
    def react(number, path, body):
        grade = int(body["messages"][1]["content"].split("grade ")[1].split()[0])
        top = [("Yes", -5.0 + grade), (" no", -1.0), ("Maybe", -3.0)]
        listed = [{"token": token, "logprob": log, "bytes": None} for token, log in top]
        return chat("yes", logprobs={"content": [{**listed[0], "top_logprobs": listed}]})

    server.react = react
    result = Reranker(ModelJudge(model), "pointwise").rank("q", make_hits([1, 3, 0, 2]))
    assert texts(result) == [3, 2, 1, 0]
    assert [hit.score for hit in result] == pytest.approx([-1.0, -2.0, -3.0, -4.0])


def test_an_unreadable_answer_is_asked_again_with_the_error(server, model, make_hits, chat, order_by_grade):
    def react(number, path, body):
        if len(body["messages"]) == 2:
            return chat("I would rather not.")
        assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
        assert body["messages"][2]["content"] == "I would rather not."
        assert "could not be read" in body["messages"][3]["content"]
        return chat(order_by_grade(body))

    server.react = react
    result = Reranker(ModelJudge(model), "single").rank("q", make_hits(grades(10)))
    assert texts(result) == list(range(9, -1, -1))
    assert (result.usage.calls, result.usage.reasks, result.complete) == (2, 1, True)


def test_a_server_held_to_a_schema_cannot_forget_or_repeat(server, make_hits, chat):
    def react(number, path, body):
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["required"] == [str(i + 1) for i in range(10)]
        assert "JSON object" in body["messages"][1]["content"]
        return chat(json.dumps({label: 10 - int(label) + 1 for label in schema["properties"]}))

    server.react = react
    model = OpenAIServer("tiny", server.url, structured="json-schema")
    hits = make_hits(grades(10))
    result = Reranker(ModelJudge(model), "single").rank("q", hits)
    model.close()
    assert [hit.docno for hit in result] == [hit.docno for hit in reversed(hits)]
    assert result.usage.repaired == {}


def test_a_killed_run_goes_on_where_it_was(server, model, make_hits, chat, order_by_grade, reaction, tmp_path):
    """A run that dies after 30 calls is resumed: no call whose answer it recorded is made again.

    The answers to up to three calls may be on their way when the run dies, and as many requests: those reach the server
    whenever it comes to read them, also during the second run.
    """
    queries = shuffled_queries(8, 100, make_hits)
    uninterrupted = Reranker(ModelJudge(model), "sliding", concurrency=4).rank_batch(queries)
    server.requests.clear()

    def dying(number, path, body):
        if number >= 30:
            return reaction(status=400, body=b"{}")
        return chat(order_by_grade(body))

    server.react = dying
    journal = tmp_path / "run.journal"
    first = Reranker(ModelJudge(model), "sliding", concurrency=4, journal=journal, budget=Budget(calls=80))
    with pytest.raises(ModelError):
        first.rank_batch(queries)
    recorded = journal.read_bytes().count(b'"answered"')
    assert 27 <= recorded <= 30
    with journal.open("ab") as file:
        file.write(b'{"answered": "half a li')  # the line a kill cut short
    server.react = lambda number, path, body: chat(order_by_grade(body))
    server.requests.clear()
    second = Reranker(ModelJudge(model), "sliding", concurrency=4, journal=journal, budget=Budget(calls=80))
    results = second.rank_batch(queries)
    assert sum(result.usage.resumed for result in results) == recorded
    assert sum(result.usage.calls for result in results) == 72 - recorded
    assert len({json.dumps(body) for _, _, body in server.requests}) == 72 - recorded
    assert results == uninterrupted
    assert oct(journal.stat().st_mode)[-3:] == "600"


def test_a_budget_holds_over_an_interruption(server, model, make_hits, chat, order_by_grade, tmp_path):
    queries = shuffled_queries(2, 100, make_hits)
    journal = tmp_path / "run.journal"
    for expected in (10, 10):
        Reranker(ModelJudge(model), "sliding", journal=journal, budget=Budget(calls=10)).rank_batch(queries)
        assert len(server.requests) == expected


def test_the_cache_answers_what_was_asked_before_and_is_private(server, model, make_hits, tmp_path):
    path = tmp_path / "cache" / "responses.sqlite"
    hits = make_hits(grades(50))
    with ResponseCache(path) as cache:
        first = Reranker(ModelJudge(model), "sliding", cache=cache).rank("q", hits)
        second = Reranker(ModelJudge(model), "sliding", cache=cache).rank("q", hits)
        other = Reranker(ModelJudge(model, repeat=1), "sliding", cache=cache).rank("q", hits)
        uncached = Reranker(ModelJudge(model), "sliding").rank("q", hits)
    assert (first.usage.calls, first.usage.cache_hits) == (4, 0)
    assert (second.usage.calls, second.usage.cache_hits) == (0, 4)
    assert (other.usage.calls, uncached.usage.calls) == (4, 4)
    assert first == second
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert oct(path.parent.stat().st_mode)[-3:] == "700"


@pytest.mark.parametrize("said", ["", None, "<think>[1] > [2]", "I would rather not.", "{}", "[1] = [1]"])
def test_a_failed_answer_is_not_kept_so_that_the_next_run_asks_again(
    server, model, make_hits, chat, order_by_grade, tmp_path, said
):
    hits = make_hits(grades(10))
    server.react = lambda number, path, body: chat(said)
    for memory in ("cache", "journal"):
        with ResponseCache(tmp_path / "cache.sqlite") as cache:
            options = {"cache": cache} if memory == "cache" else {"journal": tmp_path / "run.journal"}
            server.react = lambda number, path, body: chat(said)
            first = Reranker(ModelJudge(model), "single", on_failure="keep", **options).rank("q", hits)
            assert (first.complete, first.usage.unreadable) == (False, 1)
            server.react = lambda number, path, body: chat(order_by_grade(body))
            second = Reranker(ModelJudge(model), "single", **options).rank("q", hits)
            assert texts(second) == list(range(9, -1, -1))
            assert Reranker(ModelJudge(model), "single", **options).rank("q", hits).usage.calls == 0


def test_what_was_finished_survives_a_query_without_a_readable_answer(
    server, model, make_hits, chat, order_by_grade, caplog
):
    caplog.set_level(logging.INFO)
    server.react = lambda number, path, body: (
        chat("Hm \x1b[31m" * 100, finish="length") if "question 3" in str(body) else chat(order_by_grade(body))
    )
    with pytest.raises(UnfinishedRunError, match=r"cut off at 96 tokens.*1 of 6 queries") as caught:
        Reranker(ModelJudge(model), "single").rank_batch(shuffled_queries(6, 10, make_hits))
    assert [one.qid for one in caught.value.finished] == ["0", "1", "2", "4", "5"]
    assert all(texts(one) == list(range(9, -1, -1)) for one in caught.value.finished)
    shown = [record.getMessage() for record in caplog.records if "could not be read" in record.getMessage()]
    assert len(shown) == 1
    assert "Hm \\x1b[31mHm" in shown[0]
    assert len(shown[0]) < 900
    copied = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(copied), copied.finished) == (str(caught.value), caught.value.finished)


SECRET = "sk-very-secret-0123456789"  # noqa: S105


def test_a_key_reaches_the_server_and_nothing_else(
    server, make_hits, chat, order_by_grade, reaction, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("SOME_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    cache_path, journal = tmp_path / "cache.sqlite", tmp_path / "journal"
    for source in ("SOME_KEY", lambda: SECRET):
        model = OpenAIServer("tiny", server.url, key=source)
        judge = ModelJudge(model)
        server.react = lambda number, path, body: chat(order_by_grade(body))
        with ResponseCache(cache_path) as cache:
            result = Reranker(judge, "single", cache=cache, journal=journal).rank("q", make_hits(grades(5)))
        said = [repr(result), repr(model), repr(judge), judge.name, str(model.parameters)]
        said += [repr(vars(model)), repr(vars(vars(model)["_server"]))]
        for status in (401, 500):
            body = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}}).encode()
            server.react = lambda number, path, request, status=status, body=body: reaction(status=status, body=body)
            with pytest.raises(ModelError) as caught:
                Reranker(judge, "single", journal=journal, retry=QUICK).rank("other", make_hits(grades(5)))
            said += [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
        model.close()
        assert SECRET not in "".join(said)
    assert all(headers["authorization"] == f"Bearer {SECRET}" for _, headers, _ in server.requests)
    assert SECRET not in caplog.text
    assert SECRET.encode() not in journal.read_bytes()
    assert SECRET.encode() not in cache_path.read_bytes()
    with sqlite3.connect(cache_path) as database:
        assert SECRET not in "".join(database.iterdump())
    database.close()


def test_a_key_given_as_such_is_refused_without_repeating_it(server):
    for attempt in (
        lambda: OpenAIServer("tiny", server.url, key=SECRET),
        lambda: OpenAIServer("tiny", f"http://user:{SECRET}@localhost/v1"),
        lambda: OpenAIServer("tiny", f"http://localhost/v1?key={SECRET}"),
    ):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert SECRET not in str(caught.value)


def test_async_callers_use_their_own_loop(server, make_hits):
    async def both():
        model = OpenAIServer("tiny", server.url)
        reranker = Reranker(ModelJudge(model), "sliding")
        results = await asyncio.gather(
            reranker.arank("one", make_hits(grades(30, 1))), reranker.arank("two", make_hits(grades(30, 2)))
        )
        inside = reranker.rank("three", make_hits(grades(30, 3)))  # synchronous, from within a running loop
        await model.aclose()
        model.close()
        return [*results, inside]

    for result in asyncio.run(both()):
        assert texts(result[:10]) == list(range(29, 19, -1))


def test_a_key_for_one_host_is_not_sent_to_another(server, model, make_hits, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    Reranker(ModelJudge(model), "single").rank("q", make_hits(grades(3)))
    assert all(SECRET not in str(headers) for _, headers, _ in server.requests)
