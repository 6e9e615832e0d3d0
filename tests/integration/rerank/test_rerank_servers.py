"""Rerank servers in four dialects, as pointwise judges: requests golden, faults clear, calls few."""

import json

import pytest

from thresher.errors import ConfigError, InputError, ModelError
from thresher.llm.budget import Budget
from thresher.llm.client import RetryPolicy
from thresher.rerank.reranker import Reranker
from thresher.rerank.servers import DIALECTS, RerankServer

QUICK = RetryPolicy(attempts=2, first=0.01)


def by_grade(texts):
    return [(i, int(text.split()[1]) / 1000) for i, text in enumerate(texts)]


def answering(dialect, reaction):
    """A server of that dialect: best first, as they all answer."""

    def react(number, path, body):
        ranked = sorted(by_grade(body["texts" if dialect == "tei" else "documents"]), key=lambda pair: -pair[1])
        if dialect == "tei":
            document = [{"index": i, "score": score} for i, score in ranked]
        else:
            document = {"results": [{"index": i, "relevance_score": score} for i, score in ranked]}
            if dialect != "cohere":
                document["usage"] = {"total_tokens": 7 * len(ranked)}
        return reaction(body=json.dumps(document).encode())

    return react


@pytest.fixture
def root(server):
    return server.url.removesuffix("/v1")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_spoken_as_documented(server, root, make_hits, reaction, dialect, monkeypatch):
    monkeypatch.setenv("RERANK_API_KEY", "secret")
    server.react = answering(dialect, reaction)
    judge = RerankServer(root, dialect, model="" if dialect == "tei" else "m", passages_per_call=10)
    result = Reranker(judge, "pointwise").rank("why", make_hits([3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 7]))
    judge.close()
    assert [int(hit.text.split()[1]) for hit in result] == sorted([3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 7])[::-1]
    assert result[0].score == pytest.approx(0.097)
    assert result.usage.calls == 2
    assert result.usage.comparisons == 12
    path, headers, body = max(server.requests, key=lambda request: len(json.dumps(request[2])))
    assert path == DIALECTS[dialect].path
    assert headers["authorization"] == "Bearer secret"
    texts = [f"grade {g} and some words" for g in (3, 1, 4, 15, 9, 2, 6, 5, 35, 8)]
    if dialect == "tei":
        assert body == {"query": "why", "texts": texts, "raw_scores": True, "truncate": True}
    else:
        assert body == {"query": "why", "documents": texts, "model": "m", "top_n": 10}
    assert result.usage.unconfirmed_calls == (0 if dialect in ("jina", "vllm") else 2)


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"[]", b"not json", b'{"results": []}', b'{"results": [{"index": 0, "relevance_score": 1}]}',
        b'{"results": [{"index": 0, "relevance_score": 1}, {"index": 9, "relevance_score": 1}]}',
        b'{"results": [{"index": 0, "relevance_score": NaN}, {"index": 1, "relevance_score": 1}]}',
        b'{"results": [{"index": 0}, {"index": 1}]}', b'"text"', b"null",
    ],
)  # fmt: skip
def test_an_answer_that_does_not_rate_every_passage_is_an_error(server, root, make_hits, reaction, body):
    server.react = lambda number, path, request: reaction(body=body)
    judge = RerankServer(root, "cohere")
    with pytest.raises(ModelError):
        Reranker(judge, "pointwise", retry=QUICK).rank("why", make_hits([1, 2]))
    judge.close()


def test_an_overloaded_server_is_asked_again_and_a_wrong_request_is_not(server, root, make_hits, reaction):
    good = answering("tei", reaction)
    server.react = lambda number, path, body: (
        reaction(status=429, headers={"retry-after": "0.01"}) if number == 0 else good(number, path, body)
    )
    judge = RerankServer(root, "tei")
    result = Reranker(judge, "pointwise", retry=QUICK).rank("why", make_hits([1, 2]))
    assert (result.usage.calls, result.usage.retries, result.complete) == (2, 1, True)
    server.requests.clear()
    server.react = lambda number, path, body: reaction(
        status=422, body=b'{"error": "too long", "error_type": "Validation"}'
    )
    with pytest.raises(ModelError, match="too long"):
        Reranker(judge, "pointwise", retry=QUICK).rank("why", make_hits([1, 2]))
    assert len(server.requests) == 1
    judge.close()


def test_a_short_budget_buys_ratings_of_the_head(server, root, make_hits, reaction):
    server.react = answering("tei", reaction)
    judge = RerankServer(root, "tei", passages_per_call=5)
    result = Reranker(judge, "pointwise", budget=Budget(calls=2)).rank("why", make_hits(list(range(20))))
    judge.close()
    assert [int(hit.text.split()[1]) for hit in result] == [*range(9, -1, -1), *range(10, 20)]
    assert (result.stopped, result.complete, result.usage.skipped) == ("calls", False, 10)


def test_it_rates_and_does_nothing_else(root, make_hits):
    judge = RerankServer(root, "jina")
    with pytest.raises(InputError, match="pointwise"):
        Reranker(judge, "sliding").rank("why", make_hits([1, 2]))
    judge.close()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="cohere, jina"):
        RerankServer("http://localhost", "guess")
    with pytest.raises(ConfigError, match="address"):
        RerankServer("localhost:8080")


def listwise(reaction, at_most=64):
    """A server whose ratings depend on the list: each is above or below its mean."""

    def react(number, path, body):
        grades = [int(text.split()[1]) for text in body["documents"]]
        if len(grades) > at_most:
            return reaction(status=400, body=b'{"detail": "too many documents, at most %d"}' % at_most)
        mean = sum(grades) / len(grades)
        rated = [{"index": i, "relevance_score": (grade - mean) / 1000} for i, grade in enumerate(grades)]
        return reaction(body=json.dumps({"results": rated, "usage": {"total_tokens": 1}}).encode())

    return react


GRADES = [(37 * i) % 101 + 300 * (i < 64) for i in range(100)]  # the first 64 are better than all others


@pytest.mark.parametrize(
    ("count", "at_most", "requests"), [(64, 64, 1), (100, 64, 2), (100, 20, 6), (100, 4, 49), (3, 64, 1)]
)
def test_ratings_of_a_listwise_model_are_on_one_scale(server, root, make_hits, reaction, count, at_most, requests):
    server.react = listwise(reaction, at_most)
    judge = RerankServer(root, "jina", model="jina-reranker-v3", passages_per_call=at_most)
    assert judge.listwise
    result = Reranker(judge, "pointwise").rank("why", make_hits(GRADES[:count]))
    judge.close()
    assert [int(hit.text.split()[1]) for hit in result] == sorted(GRADES[:count], reverse=True)
    assert result.usage.calls == len(server.requests) == requests
    assert max(len(body["documents"]) for _, _, body in server.requests) <= at_most


def test_without_a_common_scale_the_lists_of_such_a_model_would_be_mixed(server, root, make_hits, reaction):
    server.react = listwise(reaction)
    judge = RerankServer(root, "jina", model="m", passages_per_call=64)
    assert not judge.listwise
    result = Reranker(judge, "pointwise").rank("why", make_hits(GRADES))
    judge.close()
    assert [int(hit.text.split()[1]) for hit in result] != sorted(GRADES, reverse=True)


def test_a_listwise_model_whose_server_takes_fewer_passages_starts_again_with_fewer(server, root, make_hits, reaction):
    server.react = listwise(reaction, 30)
    judge = RerankServer(root, "vllm", model="m", listwise=True)
    result = Reranker(judge, "pointwise", retry=QUICK).rank("why", make_hits(GRADES))
    judge.close()
    assert [int(hit.text.split()[1]) for hit in result] == sorted(GRADES, reverse=True)
    server.react = listwise(reaction, 3)
    judge = RerankServer(root, "vllm", model="m", listwise=True)
    with pytest.raises(ModelError, match="takes 3 passages at once"):
        Reranker(judge, "pointwise", retry=QUICK).rank("q", make_hits(GRADES))
    judge.close()
