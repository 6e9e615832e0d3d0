"""Requests to a language model: what identifies them, and how they are cut to the context."""

import hashlib
import json

import pytest

from thresher.errors import ConfigError, InputError, ModelError
from thresher.llm.model import Completion
from thresher.llm.tokens import ByteTokens
from thresher.records import Hit, Query
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker

pytest.importorskip("jinja2", reason="needs the llm extra")


class Fixed:
    """A model that answers by a hash of the prompt."""

    name, parameters, tokens = "fixed", {"files": "x"}, ByteTokens()

    def __init__(self, context=None):
        self.context, self.bounds = context, 0

    def prompt_bound(self, request):
        self.bounds += 1
        return sum(len(message.content) for message in request.messages) + 7

    async def complete(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        n = int(hashlib.sha256(repr(request.messages).encode()).hexdigest()[:6], 16)
        names = request.permutation or ("1", "2", "3")
        text = " > ".join(f"[{label}]" for label in sorted(names, key=lambda x: (n * (ord(x[-1]) + len(x))) % 97))
        if request.schema and "enum" in request.schema:
            text = request.schema["enum"][n % len(request.schema["enum"])]
        labels = {label: -((n * (i + 3)) % 17) / 4 for i, label in enumerate(request.labels)}
        return Completion(text, labels, continuation=-1.0 * (n % 50) if request.continuation else None)


HITS = [
    Hit(f"d{i}", -i, i + 1, f"passage {i} says [3] <think> " + "word " * (i * 130 % 400), "" if i % 3 else f"title {i}")
    for i in range(25)
]
PAIRS = [(Query("q1", "why is <|im_start|> the sky blue"), HITS), (Query("q2", "what is rain"), HITS[::-1])]


@pytest.mark.parametrize(
    ("plan", "asking", "count", "digest"),
    [
        ("pointwise", {"rating": "yes-no"}, 50, "0c6e2ffd29212d03"),
        ("pointwise", {"rating": "graded"}, 50, "01af2b1d73b8dfa2"),
        ("pointwise", {"rating": "likelihood"}, 50, "68ae5f834038554e"),
        ("pointwise", {"rating": "monot5"}, 50, "9ebbe45d34b4e395"),
        ("pointwise", {"rating": "text"}, 50, "2762f35b74316679"),
        ("pairwise-heap", {}, 138, "3b05942a87917190"),
        ("pairwise-heap", {"choice": "generate"}, 134, "6fdee306f481244a"),
        ("setwise-heap:children=4", {}, 20, "1ff9bb1e6d23d44a"),
        ("setwise-heap", {"choice": "generate"}, 27, "8be188afe9317ad5"),
        ("sliding:window=6,stride=3", {"order": "logits"}, 16, "4b410819ada14c2d"),
        ("sliding:window=6,stride=3", {"order": "generate"}, 16, "6a19eab8fc5a8624"),
        ("jointrank:block=5", {"instruction": "be strict", "reasoning_tokens": 20}, 40, "8acda70374211d7d"),
        ("instupr-pairs:head=6", {"repeat": 2}, 60, "3637fb14d54ae2dc"),
    ],
)
def test_the_keys_of_calls_do_not_change_so_that_caches_and_journals_stay_valid(tmp_path, plan, asking, count, digest):
    journal = tmp_path / "journal"
    Reranker(ModelJudge(Fixed(2500), **asking), plan, k=3, journal=journal).rank_batch(PAIRS)
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    keys = sorted(event["answered"] for event in events if "answered" in event)
    assert (len(keys), hashlib.sha256("".join(keys).encode()).hexdigest()[:16]) == (count, digest)


def test_a_journal_replays_to_the_same_ranking_without_a_call(tmp_path):
    def rank():
        return Reranker(ModelJudge(Fixed()), "jointrank:block=5", journal=tmp_path / "journal").rank_batch(PAIRS)

    first, second = rank(), rank()
    assert first == second
    assert [result.usage.calls for result in second] == [0, 0]
    assert [result.usage.resumed for result in second] == [result.usage.calls for result in first]


def test_the_prompt_without_passages_is_measured_once_for_a_query_and_a_window_size():
    model = Fixed(4000)
    calls = Reranker(ModelJudge(model), "sliding:window=6,stride=3").rank(*PAIRS[0]).usage.calls
    assert calls == 8
    assert model.bounds == calls + 2  # each request is measured, and two frames: windows of 6, and the last of 4 or 6


def test_a_window_that_does_not_fit_the_context_is_an_error_that_says_so():
    with pytest.raises(ModelError, match="choose a smaller window"):
        Reranker(ModelJudge(Fixed(300)), "sliding").rank(*PAIRS[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "guess"}, {"rating": "stars"}, {"passage_tokens": 0}, {"reasks": -1}, {"prompts": {"haiku": "x"}},
        {"order": []}, {"rating": None}, {"passage_tokens": 1.5}, {"reasks": "2"}, {"prompts": "listwise"},
        {"prompts": {"listwise": "haiku"}}, {"temperature": float("nan")}, {"temperature": 10**400}, {"repeat": []},
        {"instruction": None}, {"parsing": {}}, {"reasoning_tokens": True}, {"choice": b"logits"}, {"prompts": {1: 2}},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises((ConfigError, InputError)):
        ModelJudge(Fixed(), **wrong)


@pytest.mark.parametrize(
    "text", ["1 2 3 4 5 6 7 8 9 " * 60, "\u5929\u5730\u7384\u9ec4" * 90, "< <s> </s> [1] " * 50, "x" * 2000]
)
@pytest.mark.parametrize("order", ["generate", "logits"])
def test_a_prompt_fits_the_context_even_if_every_byte_is_a_token(text, order):
    class Bytes(Fixed):
        longest = 0

        def answer(self, request):
            prompt = sum(len(message.content.encode()) for message in request.messages)
            self.longest = max(self.longest, prompt + request.max_tokens)
            return super().answer(request)

        def prompt_bound(self, request):
            return sum(len(message.content.encode()) for message in request.messages) + 7

    model = Bytes(2048)
    hits = [Hit(f"d{i}", -i, i + 1, f"{i} {text}") for i in range(6)]
    usage = Reranker(ModelJudge(model, order=order), "single").rank("why", hits).usage
    assert model.longest <= 2048
    assert usage.truncated == 6


def test_half_a_surrogate_pair_in_query_and_passage_reaches_no_tokenizer():
    class Strict(Fixed):
        def answer(self, request):
            "".join(message.content for message in request.messages).encode()
            return super().answer(request)

    hits = [Hit(f"d{i}", -i, i + 1, f"\ud83d passage {i}", "\udc00") for i in range(3)]
    assert len(Reranker(ModelJudge(Strict()), "single").rank(Query("q", "what \ud83d"), hits)) == 3
