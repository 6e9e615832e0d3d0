"""Passages ordered and rated by the log-probabilities of a few tokens: what is listed, what is missing."""

import math

import pytest

from thresher.errors import ModelError, ThresherError
from thresher.llm.model import Completion
from thresher.llm.tokens import ByteTokens
from thresher.records import Hit
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker

pytest.importorskip("jinja2", reason="needs the llm extra")


class Listing:
    """A model that lists these log-probabilities, of the labels asked for, and no others."""

    name, parameters, tokens, context = "listing", {}, ByteTokens(), None

    def __init__(self, logs, floor=-math.inf):
        self.logs, self.floor, self.requests = logs, floor, []

    def prompt_bound(self, request):
        return 10

    async def complete(self, requests):
        self.requests += requests
        return [
            Completion("", {x: self.logs[x] for x in request.labels if x in self.logs}, self.floor)
            for request in requests
        ]


def hits(n):
    return [Hit(f"d{i}", float(-i), i + 1, f"passage {i}") for i in range(n)]


def ranked(model, n, plan="single:window=all", **judge):
    result = Reranker(ModelJudge(model, **{"order": "logits", **judge}), plan).rank("why", hits(n))
    return [int(hit.docno[1:]) for hit in result], result


def test_letters_that_are_not_listed_follow_in_the_order_shown_and_are_counted():
    order, result = ranked(Listing({"T": -0.5, "C": -1.0, "F": -3.0}), 20)
    assert order == [19, 2, 5, *(i for i in range(20) if i not in (19, 2, 5))]
    assert result.usage.repaired == {"missing": 1}


def test_a_window_of_all_letters_is_one_request_for_one_token_after_an_opening_bracket():
    model = Listing({chr(65 + i): -float((7 * i) % 26) for i in range(26)})
    order, result = ranked(model, 26)
    assert order == sorted(range(26), key=lambda i: (7 * i) % 26)
    (request,) = model.requests
    assert (request.max_tokens, request.opening, len(request.labels)) == (1, "[", 26)
    assert result.usage.repaired == {}


def test_more_passages_than_letters_are_refused_by_number():
    with pytest.raises(ThresherError, match="27 passages cannot be labelled with single letters; show at most 26"):
        ranked(Listing({"A": -1.0}), 27)


def test_equal_letters_tie_and_no_letter_at_all_is_no_answer():
    assert ranked(Listing({"A": -2.0, "B": -1.0, "C": -1.0}), 3)[0] == [1, 2, 0]
    with pytest.raises(ModelError, match="none of the answers could be read"):
        ranked(Listing({}), 3)


@pytest.mark.parametrize(
    ("rating", "logs", "floor", "score"),
    [
        ("graded", {"4": math.log(0.6), "2": math.log(0.2)}, -math.inf, (4 * 0.6 + 2 * 0.2) / 0.8),
        ("graded-plain", {"4": math.log(0.6), "2": math.log(0.2)}, -math.inf, 4 * 0.6 + 2 * 0.2),
        ("graded-plain", {"4": math.log(0.6)}, math.log(0.01), 4 * 0.6 + 0.01 * (1 + 2 + 3 + 5)),
        ("graded-hard", {"4": math.log(0.6), "2": math.log(0.2)}, -math.inf, 4.0),
        ("answerable", {"yes": math.log(0.3), "no": math.log(0.1)}, -math.inf, 0.3),
        ("answerable", {"no": math.log(0.1)}, math.log(0.02), 0.02),
        ("yes-no", {"yes": math.log(0.3), "no": math.log(0.1)}, -math.inf, math.log(3)),
        ("yes-no", {"yes": math.log(0.3)}, math.log(0.01), math.log(30)),
    ],
)
def test_a_rating_is_the_one_computed_by_hand(rating, logs, floor, score):
    result = Reranker(ModelJudge(Listing(logs, floor), rating=rating), "pointwise").rank("why", hits(2))
    assert [hit.score for hit in result] == pytest.approx([score, score], rel=1e-5)
