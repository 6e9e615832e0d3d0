"""Rerank servers that take few or short passages, and answers that are not one rating of each passage."""

import json
import re

import pytest

from thresher.errors import ConfigError, InputError, ModelError
from thresher.llm.budget import Budget
from thresher.llm.client import RetryPolicy
from thresher.records import Hit
from thresher.rerank.reranker import Reranker
from thresher.rerank.servers import DIALECTS, RerankServer

QUICK = RetryPolicy(attempts=2, first=0.01)


@pytest.fixture
def rate(server):
    """Rate passages, best grade first; the texts are `grade N` and more words."""
    made = []

    def run(grades=range(100), dialect="tei", words=3, options=None, base=None, **more):
        hits = [Hit(f"d{g}", 1.0, i + 1, text=f"grade {g} " + "word " * words) for i, g in enumerate(grades)]
        made.append(RerankServer(base or server.url.removesuffix("/v1"), dialect, **(options or {})))
        reranker = Reranker(made[-1], retry=QUICK, depth=None, **more)
        return reranker.rank("why", hits), reranker, hits

    yield run
    for judge in made:
        judge.close()


def passages(body):
    return body.get("texts", body.get("documents"))


def rated(reaction, body):
    ratings = [(i, int(text.split()[1]) / 1000) for i, text in enumerate(passages(body))]
    if "texts" in body:
        return reaction(body=json.dumps([{"index": i, "score": score} for i, score in ratings]).encode())
    return reaction(
        body=json.dumps({"results": [{"index": i, "relevance_score": score} for i, score in ratings]}).encode()
    )


MANY = [
    (422, "batch size {n} > maximum allowed batch size {most}"),
    (413, "Payload Too Large"),
    (413, ""),
    (400, "too many documents: {n} > {most}"),
    (422, "documents: ensure this value has at most {most} items"),
]


@pytest.mark.parametrize(("status", "words"), MANY)
@pytest.mark.parametrize(("dialect", "most"), [("tei", 9), ("cohere", 33), ("vllm", 1)])
def test_a_server_is_sent_as_many_passages_as_it_takes(server, rate, reaction, status, words, dialect, most):
    def react(number, path, body):
        n = len(passages(body))
        if n > most:
            text = words.format(n=n, most=most)
            return reaction(status=status, body=json.dumps({"error": text, "error_type": "Validation"}).encode())
        return rated(reaction, body)

    server.react = react
    result, reranker, hits = rate(dialect=dialect)
    assert [hit.docno for hit in result] == [f"d{g}" for g in range(99, -1, -1)]
    assert result.complete
    assert result.usage.failed_calls <= 8
    refused = len(server.requests)
    assert reranker.rank("again", hits).usage.failed_calls == 0
    assert all(len(passages(body)) <= most for _, _, body in server.requests[refused:])


def test_tei_is_sent_its_own_default_and_the_number_can_be_given(server, rate, reaction):
    server.react = lambda number, path, body: rated(reaction, body)
    for options, most in (({}, 32), ({"passages_per_call": 7}, 7)):
        server.requests.clear()
        rate(options=options)
        assert max(len(passages(body)) for _, _, body in server.requests) == most


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model's maximum context length is 512 tokens. However, you requested 3000 tokens"),
        (422, "`inputs` must have less than 512 tokens. Given: 3000"),
        (413, "input too long"),
        (400, "text too long"),
    ],
)
@pytest.mark.parametrize("dialect", ["vllm", "tei", "jina"])
def test_a_long_passage_is_cut_and_does_not_fail_the_request(server, rate, reaction, status, words, dialect):
    def react(number, path, body):
        if any(len(text) > 2000 for text in passages(body)):
            return reaction(status=status, body=json.dumps({"message": words}).encode())
        return rated(reaction, body)

    server.react = react
    result, reranker, hits = rate(grades=range(7), dialect=dialect, words=3000)
    assert [hit.docno for hit in result] == [f"d{g}" for g in range(6, -1, -1)]
    assert result.usage.truncated == 7
    again = reranker.rank("again", hits).usage
    assert (again.failed_calls, again.truncated) == (0, 7)
    assert max(len(text) for text in passages(server.requests[-1][2])) > 300


def test_passages_are_cut_to_the_tokens_that_are_asked_for_and_counted(server, rate, reaction):
    server.react = lambda number, path, body: rated(reaction, body)
    result, _, _ = rate(grades=range(3), words=500, options={"passage_tokens": 40})
    assert result.usage.truncated == 3
    assert all(100 < len(text) <= 160 for text in passages(server.requests[0][2]))


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "no such model"), (401, "who are you"), (422, "query must not be empty"), (404, "not found")],
)
def test_another_refusal_is_an_error_at_once(server, rate, reaction, status, words):
    server.react = lambda number, path, body: reaction(status=status, body=json.dumps({"error": words}).encode())
    with pytest.raises(ModelError, match=words):
        rate(grades=[1, 2])
    assert len(server.requests) == 1


def test_a_server_that_refuses_everything_is_asked_a_few_times_and_no_more(server, rate, reaction):
    server.react = lambda number, path, body: reaction(status=413, body=b"too long")
    with pytest.raises(ModelError, match="413"):
        rate(concurrency=4)
    assert len(server.requests) < 60
    server.requests.clear()
    result, _, _ = rate(budget=Budget(calls=3), on_failure="keep")
    assert (result.stopped, len(server.requests)) == ("calls", 3)


RATING = {"index": 0, "relevance_score": 0.5}
ODD = {
    "missing": [RATING],
    "twice": [RATING, RATING],
    "out of range": [RATING, {"index": 2, "relevance_score": 1}],
    "negative": [RATING, {"index": -1, "relevance_score": 1}],
    "a bool": [RATING, {"index": True, "relevance_score": 1}],
    "text": [RATING, {"index": "1", "relevance_score": 1}],
    "half": [RATING, {"index": 0.5, "relevance_score": 1}],
    "too large": '[{"index": 1e999, "relevance_score": 1}]',
    "score text": [RATING, {"index": 1, "relevance_score": "1"}],
    "score bool": [RATING, {"index": 1, "relevance_score": True}],
    "score nan": '[{"index": 0, "relevance_score": NaN}]',
    "score inf": '[{"index": 0, "relevance_score": 1e999}]',
    "no score": [RATING, {"index": 1}],
    "score null": [{"index": 0, "relevance_score": None}],
    "float64": '[{"index": 0, "relevance_score": 1e300}]',
    "huge int": '[{"index": 0, "relevance_score": 1' + "0" * 400 + "}]",
    "empty": [],
    "entries": [1, 2],
    "lists": [[0, 1], [1, 1]],
    "null": None,
    "word": "ok",
    "dict": {"0": 0.5},
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("dialect", ["cohere", "tei"])
def test_an_answer_is_one_rating_of_each_passage_or_an_error_that_on_failure_governs(
    server, rate, reaction, odd, dialect
):
    results = ODD[odd] if isinstance(ODD[odd], str) and ODD[odd][0] == "[" else json.dumps(ODD[odd])
    results = results.replace("relevance_score", "score") if dialect == "tei" else f'{{"results": {results}}}'
    server.react = lambda number, path, body: reaction(body=results.encode())
    with pytest.raises(ModelError, match=re.escape(dialect)) as caught:
        rate(grades=[1, 2], dialect=dialect)
    assert len(str(caught.value)) < 700
    assert len(server.requests) == 1
    result, _, _ = rate(grades=[1, 2], dialect=dialect, on_failure="keep")
    assert [hit.docno for hit in result] == ["d1", "d2"]
    assert not result.complete


@pytest.mark.parametrize("given", ["", "/", "/v1", "/v1/", "/v2", "/rerank", "/v1/rerank", "/v1/v1"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_address_is_found_with_and_without_its_version(server, rate, reaction, dialect, given):
    server.react = lambda number, path, body: rated(reaction, body)
    rate(grades=[1, 2], dialect=dialect, base=f" {server.url.removesuffix('/v1')}{given}")
    version = re.search(r"/v\d", given)
    default = DIALECTS[dialect].path
    kept = f"{version[0]}/rerank" if version and dialect != "tei" else default
    assert [path for path, _, _ in server.requests] == [kept]


@pytest.mark.parametrize(
    "option",
    [
        {"passages_per_call": 0},
        {"passages_per_call": 1.5},
        {"passage_tokens": 0},
        {"passage_tokens": "4"},
        {"dialect": "x"},
        {"timeout": -1},
        {"key": 5},
    ],
)
def test_odd_options_are_refused_when_the_server_is_named(option):
    with pytest.raises((ConfigError, InputError)):
        RerankServer("http://localhost", **option)
