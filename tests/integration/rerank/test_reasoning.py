"""Reasoning rerankers on a server: thoughts that end, cut-off thoughts, and servers that cannot continue one."""

import json
import math

import pytest

from thresher.errors import ModelError
from thresher.llm.openai_server import OpenAIServer
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker

GRADES = [1, 3, 2]


@pytest.fixture
def rank(server, make_hits):
    made = []

    def run(plan, **judge):
        model = OpenAIServer("tiny", server.url, timeout=60.0)
        made.append(model)
        judge = {"reasoning_tokens": 50, **judge}
        return Reranker(ModelJudge(model, **judge), plan).rank("q", make_hits(GRADES))

    yield run
    for model in made:
        model.close()


def grade_of(body):
    said = "".join(message["content"] for message in body["messages"])
    return next(grade for grade in (1, 2, 3) if f"grade {grade} and" in said)


def verdict(body, chat):
    """P(true) grows with the grade."""
    p = grade_of(body) / 4
    tops = [{"token": " true", "logprob": math.log(p)}, {"token": "false", "logprob": math.log(1 - p)}]
    return chat(" true", logprobs={"content": [{"token": " true", "logprob": math.log(p), "top_logprobs": tops}]})


def begins(body):
    return body.get("continue_final_message") is True


def test_rank1_thinks_and_then_gives_the_log_odds_of_true(server, rank, chat):
    def react(number, path, body):
        return verdict(body, chat) if body.get("logprobs") else chat("<think>It fits. Yes.</think>\n\ntrue")

    server.react = react
    found = rank("pointwise", rating="rank1")
    assert [hit.docno for hit in found] == ["d1", "d2", "d0"]
    assert next(iter(found)).score == pytest.approx(math.log(3))
    asked = [body for _, _, body in server.requests if body.get("logprobs")]
    assert len(server.requests) == 6
    assert {body["messages"][-1]["content"] for body in asked} == {"<think>It fits. Yes.</think>\n\n"}
    assert all(begins(body) for body in asked)


@pytest.mark.parametrize("continues", [True, False])
def test_an_unfinished_thought_is_closed_at_its_last_sentence_and_the_verdict_asked(
    server, rank, chat, reaction, continues
):
    def react(number, path, body):
        if begins(body) and not continues:
            error = {"error": {"message": "Unrecognized request argument supplied: continue_final_message"}}
            return reaction(status=400, body=json.dumps(error).encode())
        return verdict(body, chat) if body.get("logprobs") else chat("<think>It fits. But per", finish="length")

    server.react = react
    found = rank("pointwise", rating="rank1")
    assert [hit.docno for hit in found] == ["d1", "d2", "d0"]
    last = server.requests[-1][2]
    if continues:
        assert last["messages"][-1] == {"role": "assistant", "content": "<think>It fits.\n</think>\n\n"}
    else:
        assert [message["role"] for message in last["messages"][-2:]] == ["assistant", "user"]
        assert last["messages"][-2]["content"] == "<think>It fits.\n</think>"
        assert "answer now" in last["messages"][-1]["content"]
        assert sum(begins(body) for _, _, body in server.requests) <= 3


def test_a_thought_that_the_server_hides_is_closed_too(server, rank, chat):
    def react(number, path, body):
        if body.get("logprobs"):
            return verdict(body, chat)
        reply = chat(None, finish="length")
        document = json.loads(reply.body)
        document["choices"][0]["message"]["reasoning_content"] = "It fits. But per"
        reply.body = json.dumps(document).encode()
        return reply

    server.react = react
    assert [hit.docno for hit in rank("pointwise", rating="rank1")] == ["d1", "d2", "d0"]
    assert server.requests[-1][2]["messages"][-1]["content"] == "<think>\nIt fits.\n</think>\n\n"


def test_a_model_that_does_not_think_is_asked_for_its_verdict_alone(server, rank, chat):
    server.react = lambda number, path, body: verdict(body, chat) if body.get("logprobs") else chat("True.")
    assert [hit.docno for hit in rank("pointwise", rating="rank1")] == ["d1", "d2", "d0"]
    assert not any(begins(body) for _, _, body in server.requests)


def test_rank_k_keeps_ties_and_reads_the_line_after_the_thought(server, rank, chat):
    server.react = lambda number, path, body: chat("<think>[1] > [2] > [3]? No.</think>\n[2] > [3] = [1]")
    found = rank("single", prompts={"listwise": "rank-k"})
    assert [hit.docno for hit in found] == ["d1", "d0", "d2"]
    (request,) = [body for _, _, body in server.requests]
    assert "Write = in place of >" in request["messages"][-1]["content"]


def test_an_order_is_asked_for_when_the_budget_for_thought_is_spent(server, rank, chat):
    def react(number, path, body):
        return chat("[2] > [3] > [1]") if begins(body) else chat("<think>[1] is short. [2] is be", finish="length")

    server.react = react
    found = rank("single", prompts={"listwise": "rank-k"})
    assert [hit.docno for hit in found] == ["d1", "d2", "d0"]
    first, second = (body for _, _, body in server.requests)
    assert first["max_tokens"] - second["max_tokens"] == 50
    assert second["messages"][-1]["content"] == "<think>[1] is short.\n</think>\n\n"
    assert found.usage.reasks == 1


def test_without_a_budget_a_thought_that_is_cut_off_is_an_error_that_says_so(server, rank, chat):
    server.react = lambda number, path, body: chat("<think>[1] > [3] > [2]", finish="length")
    with pytest.raises(ModelError, match="while thinking"):
        rank("single", reasoning_tokens=0)
    assert len(server.requests) == 1
