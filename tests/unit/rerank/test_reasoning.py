"""Thoughts are closed as they were opened, and scores from log-probabilities are those computed by hand."""

import math

import pytest

from thresher.errors import ConfigError
from thresher.llm.model import Message, Request
from thresher.llm.tokens import ByteTokens
from thresher.rerank.constraints import chain_pattern
from thresher.rerank.label_scores import hard_grade, log_odds, logistic, plain_grade, probability, soft_grade
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.parsing import get_parser, read_order
from thresher.rerank.prompting import load_template
from thresher.rerank.reasoning import asked_again, begun, closed_thought


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("<think>\nOne. Two is", "<think>\nOne.\n</think>\n\n"),
        ("<think>no sentence", "<think>no sentence\n</think>\n\n"),
        ("[THINK]One! Two", "[THINK]One!\n[/THINK]\n\n"),
        ("\u25c1think\u25b7One. Tw", "\u25c1think\u25b7One.\n\u25c1/think\u25b7\n\n"),
        ("<|begin_of_thought|>One? T", "<|begin_of_thought|>One?\n<|end_of_thought|>\n\n"),
        ("<|channel|>analysis<|message|>One. Tw",
         "<|channel|>analysis<|message|>One.\n<|end|><|start|>assistant<|channel|>final<|message|>\n\n"),
        ("The prompt opened this. And th", "The prompt opened this.\n</think>\n\n"),
        ("<think>One.</think>\n\ntrue", "<think>One.</think>\n\n"),
        ("<think>One.</think> true", "<think>One.</think>"),
        ("<think>a</think><think>b. c", "<think>a</think><think>b.\n</think>\n\n"),
        ("<think>3.5 of 4", "<think>3.5 of 4\n</think>\n\n"),
        ("<think>\u4e00\u3002\u4e8c", "<think>\u4e00\u3002\u4e8c\n</think>\n\n"),
        ("<think>line one\nline t", "<think>line one\n</think>\n\n"),
    ],
)  # fmt: skip
def test_a_thought_is_cut_at_its_last_full_sentence_and_closed_as_it_was_opened(text, closed):
    assert closed_thought(text) == closed


def test_a_thought_that_ended_by_itself_keeps_its_last_words():
    assert closed_thought("<think>One. Two", finished=True) == "<think>One. Two\n</think>\n\n"


def test_the_answer_is_asked_for_after_the_thought():
    request = Request((Message("user", "q"),), max_tokens=3)
    assert begun(request, "<think>x</think>\n\n").opening == "<think>x</think>\n\n"
    again = asked_again(request, "<think>x</think>\n\n", "it must be true or false")
    assert again.messages[1].content == "<think>x</think>"
    assert [message.role for message in again.messages] == ["user", "assistant", "user"]
    assert "it must be true or false" in again.messages[-1].content


LOGS = {"1": math.log(0.1), "2": math.log(0.2), "3": math.log(0.1), "4": math.log(0.3), "5": math.log(0.1)}


def test_the_grades_of_instupr_are_those_computed_by_hand():
    total = 0.1 + 0.4 + 0.3 + 1.2 + 0.5
    assert plain_grade(LOGS) == pytest.approx(total)
    assert soft_grade(LOGS) == pytest.approx(total / 0.8)
    assert hard_grade(LOGS) == 4.0
    assert hard_grade({"2": -1.0, "5": -1.0}) == 5.0
    assert soft_grade({"1": -math.inf, "4": -7.0}) == 4.0
    assert plain_grade({}) is soft_grade({}) is hard_grade({"1": -math.inf}) is None


def test_the_other_scores_are_those_computed_by_hand():
    logs = {"yes": math.log(0.6), "no": math.log(0.2)}
    assert probability(logs, "yes") == pytest.approx(0.6)
    assert probability(logs, "maybe") is None
    assert log_odds(logs, "yes", "no") == pytest.approx(math.log(3))
    assert logistic(log_odds(logs, "yes", "no")) == pytest.approx(0.75)
    assert log_odds({"yes": -1.0}, "yes", "no") is log_odds({"yes": -1.0, "no": -math.inf}, "yes", "no") is None


class Silent:
    """A model that is never called."""

    name, parameters, tokens, context = "silent", {}, ByteTokens(), None

    def prompt_bound(self, request):
        return 0

    async def complete(self, requests):
        raise NotImplementedError


@pytest.mark.parametrize("settings", [{"rating": "rank1"}, {"prompts": {"listwise": "rank-k"}}])
def test_a_judge_that_thinks_needs_a_budget_for_it(settings):
    with pytest.raises(ConfigError, match="reasoning_tokens"):
        ModelJudge(Silent(), **settings)
    assert ModelJudge(Silent(), reasoning_tokens=100, **settings)


def test_the_prompt_of_rank_k_asks_for_ties_and_is_no_answer_when_said_back():
    passages = [{"label": str(i), "text": f"text of {i}"} for i in (1, 2, 3)]
    values = {"query": "why", "n": 3, "instruction": "", "example": "[2] > [3] > [1]", "passages": passages}
    template = load_template("rank-k")
    said = template.render({**values, "structured": False})[-1].content
    assert template.fenced
    assert "<think>" in said
    assert " = " in said
    assert read_order(said, (1, 2, 3), get_parser("brackets-v1")) is None
    assert "JSON" in template.render({**values, "structured": True})[-1].content


def test_the_pattern_of_an_order_allows_ties_where_they_are_asked_for():
    import re

    assert re.fullmatch(chain_pattern(["1", "2", "3"], ties=True), "[2] = [1] > [3]")
    assert not re.fullmatch(chain_pattern(["1", "2", "3"]), "[2] = [1] > [3]")
