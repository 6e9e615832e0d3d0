"""Servers as people have them, and hostile ones: what is learnt, what is bounded, and what never leaves."""

import asyncio
import base64
import gzip
import json
import logging
import math
import pickle
import re
import traceback
from urllib.parse import quote

import pytest

from thresher.errors import ConfigError, InputError, MissingExtraError, ModelError
from thresher.llm.budget import Budget
from thresher.llm.cache import ResponseCache
from thresher.llm.client import RetryPolicy
from thresher.llm.model import Message, Request
from thresher.llm.openai_server import OpenAIServer
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker
from thresher.rerank.servers import RerankServer

QUICK = RetryPolicy(attempts=3, first=0.01, longest=0.02)
SECRET = "sk-very/secret+0123456789"  # noqa: S105
GRADES = [3, 1, 2]


def said(message, **more):
    return json.dumps({"error": {"message": message, **more}}).encode()


def texts(hits):
    return [int(hit.text.split()[1]) for hit in hits]


@pytest.fixture
def rank(server, make_hits):
    """Rerank three passages, best grade first, with a model on the server."""
    made = []

    def run(plan="single", grades=GRADES, options=None, judge=None, **more):
        model = OpenAIServer("tiny", server.url, timeout=60.0, **(options or {}))
        made.append(model)
        return Reranker(ModelJudge(model, **(judge or {})), plan, retry=QUICK, **more).rank("q", make_hits(grades))

    yield run
    for model in made:
        model.close()


def refusing(chat, reaction, order_by_grade, *rules):
    """A server that answers 400, or another status, with the words of the first rule that a request breaks."""

    def react(number, path, body):
        for broken, words, *status in rules:
            if broken(body):
                return reaction(status=status[0] if status else 400, body=said(words))
        text = "\n".join(message["content"] for message in body["messages"])
        listed = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -3.0 + int("grade 3" in text)}]
        logprobs = {"content": [{**listed[0], "top_logprobs": listed}]} if body.get("logprobs") else None
        order = order_by_grade({"messages": [None, {"content": text}]})
        return chat("yes" if logprobs else order, logprobs=logprobs)

    return react


LIMIT = (
    lambda b: "max_tokens" in b,
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
)
TEMPERATURE = (
    lambda b: "temperature" in b,
    "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported.",
)
SYSTEM = (lambda b: b["messages"][0]["role"] == "system", "System role not supported")
RULES = {
    "max_tokens": [LIMIT],
    "temperature": [TEMPERATURE],
    "system": [SYSTEM],
    "system, as the template says it": [
        (SYSTEM[0], "Conversation roles must alternate user/assistant/user/assistant/...", 500)
    ],
    "system, as a type error": [(SYSTEM[0], "messages[0].role: unknown variant `system`, expected `user`", 422)],
    "all at once": [LIMIT, TEMPERATURE, SYSTEM],
    "the other limit": [
        (
            lambda b: "max_completion_tokens" in b,
            "[{'loc': ['body', 'max_completion_tokens'], 'msg': 'Extra inputs are not permitted'}]",
        )
    ],
    "structured": [(lambda b: "response_format" in b, "response_format type json_schema is unavailable")],
    "extra": [
        (lambda b: "seed" in b, "Unknown parameter: 'seed'."),
        (lambda b: "stop" in b, "stop: Extra inputs are not permitted"),
        (lambda b: "n" in b, "Unrecognized request argument supplied: n"),
    ],
    "thinking": [
        (lambda b: "chat_template_kwargs" in b, "Unrecognized request argument supplied: chat_template_kwargs"),
        (
            lambda b: b.get("reasoning_effort") == "none",
            "Unsupported value: 'reasoning_effort' does not support 'none'",
        ),
    ],
}
OPTIONS = {
    "the other limit": {"limit_field": "max_completion_tokens"},
    "structured": {"structured": "json-schema"},
    "extra": {"extra": '{"seed": 1, "stop": ["\\n"], "n": 1}'},
    "thinking": {"thinking": "off"},
}


@pytest.mark.parametrize("kind", RULES)
def test_what_a_server_does_not_accept_is_learnt_once_and_remembered(
    server, rank, chat, reaction, order_by_grade, make_hits, caplog, kind
):
    rules = RULES[kind]
    server.react = refusing(chat, reaction, order_by_grade, *rules)
    model = OpenAIServer("tiny", server.url, **OPTIONS.get(kind, {}))
    reranker = Reranker(ModelJudge(model), "single", retry=QUICK, concurrency=16)
    pairs = [(f"q{i}", make_hits([i % 3, 5, i % 4])) for i in range(40)]
    for result, (_, hits) in zip(reranker.rank_batch(pairs), pairs, strict=True):
        assert texts(result) == sorted(texts(hits), reverse=True)
        assert result.complete
    refused = len(server.requests) - 40
    assert refused == len(rules)  # sixteen at once, and yet each thing is refused once
    usages = reranker.rank("once more", make_hits(GRADES)).usage
    assert (usages.calls, usages.failed_calls) == (1, 0)
    assert len([record for record in caplog.records if "does not accept" in record.getMessage()]) == len(rules)
    model.close()


def test_refused_requests_count_against_the_budget(server, rank, chat, reaction, order_by_grade):
    server.react = refusing(chat, reaction, order_by_grade, LIMIT, TEMPERATURE, SYSTEM)
    result = rank(budget=Budget(calls=2), on_failure="keep")
    assert (result.stopped, len(server.requests)) == ("calls", 2)


def test_a_model_asked_directly_adapts_as_well(server, chat, reaction, order_by_grade):
    server.react = refusing(chat, reaction, order_by_grade, LIMIT, TEMPERATURE, SYSTEM)
    model = OpenAIServer("tiny", server.url)
    request = Request((Message("system", "be brief"), Message("user", "[1]\n<passage>\ngrade 1")))

    async def complete():
        answers = await model.complete([request, request])
        await model.aclose()
        return answers

    assert asyncio.run(complete())[1].text == "[1]"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("max_tokens is too large: 64. This model supports at most 32 completion tokens", 400),
        ("This model's maximum context length is 512 tokens, however you requested 600", 400),
        ("The model `tiny` does not exist", 404),
        ("Incorrect API key provided", 401),
        ("I do not like it", 400),
        ("Invalid value for 'model'", 422),
    ],
)
def test_a_refusal_that_no_other_form_mends_is_an_error_at_once(server, rank, reaction, words, status):
    server.react = lambda number, path, body: reaction(status=status, body=said(words))
    with pytest.raises(ModelError, match=re.escape(words[:40])):
        rank()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "words",
    ["logprobs are not supported with reasoning models", "Unknown field: top_logprobs", "logprobs: not enabled"],
)
def test_a_plan_that_needs_log_probabilities_says_so_where_there_are_none(server, rank, reaction, words):
    server.react = lambda number, path, body: reaction(status=400, body=said(words))
    with pytest.raises(ModelError, match=r"returns no log-probabilities.*--rating text"):
        rank("pointwise", grades=list(range(9)))
    assert len(server.requests) <= 9


def test_fewer_alternatives_are_asked_for_where_a_server_gives_fewer(server, rank, chat, reaction, order_by_grade):
    too_many = (lambda b: b["top_logprobs"] > 5, "Invalid value for 'top_logprobs': must be less than or equal to 5.")
    server.react = refusing(chat, reaction, order_by_grade, too_many)
    assert rank("pointwise").usage.failed_calls == 1
    assert server.requests[-1][2]["top_logprobs"] == 5


@pytest.mark.parametrize("base", ["", "/v1", "/v1/", "/v1/chat/completions"])
def test_a_server_at_its_root_or_under_v1_is_found(server, make_hits, reaction, chat, order_by_grade, base):
    for root in ("/v1/chat/completions", "/chat/completions"):
        server.react = lambda number, path, body, root=root: (
            chat(order_by_grade(body)) if path == root else reaction(status=404, body=b'{"detail":"Not Found"}')
        )
        model = OpenAIServer("tiny", f" {server.url.removesuffix('/v1')}{base} ")
        assert texts(Reranker(ModelJudge(model), "single").rank("q", make_hits(GRADES))) == [3, 2, 1]
        model.close()


@pytest.mark.parametrize(
    ("content", "finish", "expected"),
    [
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "[1]"}]},
                {"type": "text", "text": "[1] > [3] > [2]"},
            ],
            "stop",
            None,
        ),
        ([{"type": "text", "text": "[1] > "}, "[3] > [2]", {"type": "reasoning", "text": "[2]"}], "stop", None),
        (5, "stop", "content that is not text"),
        (True, "stop", "content that is not text"),
        ({"a": 1}, "stop", "not text"),
        ([{"type": "image_url", "image_url": "x"}], "stop", "not text"),
        ([{"type": "text", "text": 5}], "stop", "not text"),
        (None, "stop", "empty"),
        ("", "stop", "empty"),
        (None, "length", "while thinking.*--thinking off"),
        ("<think>\nOkay, let me look", "length", "cut off at .* tokens while thinking; give --reasoning-tokens"),
        ("<think>[1] > [3] > [2]", "length", "while thinking"),
        ([], "length", "while thinking"),
    ],
)
def test_content_is_its_text_without_thinking_or_an_error_that_on_failure_governs(
    server, rank, chat, tmp_path, content, finish, expected
):
    reply = chat(content, finish=finish)
    document = json.loads(reply.body)
    document["choices"][0]["message"]["reasoning_content"] = "[2] > [3] > [1]"
    document["choices"][0]["message"]["reasoning"] = "[2] > [3] > [1]"
    reply.body = json.dumps(document).encode()
    server.react = lambda number, path, body: reply
    if expected is None:
        assert texts(rank()) == [3, 2, 1]
        return
    with pytest.raises(ModelError, match=expected):
        rank()
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        assert rank(on_failure="keep", cache=cache).complete is False
        assert len(cache) == 0


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        ({"message": "Rate limit exceeded: free-models-per-day", "code": 429}, 3),
        ({"message": "busy", "code": "429"}, 3),
        ({"message": "busy", "code": "rate_limit_exceeded"}, 3),
        ({"message": "down", "code": 503}, 3),
        ("odd", 3),
        ({"message": "no credit", "code": 402}, 1),
        ({"message": "bad", "code": "400"}, 1),
        ({"message": "who are you", "type": "authentication_error"}, 1),
        ({"message": "gone", "code": "model_not_found"}, 1),
        ({"message": "no more", "code": "insufficient_quota", "status": 429}, 1),
    ],
)
@pytest.mark.parametrize("wrap", ["error", "choice", "vllm"])
def test_an_error_under_status_200_is_an_error_with_its_words(server, rank, reaction, error, calls, wrap):
    if wrap == "vllm":
        document = {"object": "error", **(error if isinstance(error, dict) else {"message": error})}
    else:
        document = {"error": error} if wrap == "error" else {"choices": [{"error": error, "finish_reason": "error"}]}
    server.react = lambda number, path, body: reaction(body=json.dumps(document).encode())
    with pytest.raises(ModelError, match=error["message"] if isinstance(error, dict) else error):
        rank()
    assert len(server.requests) == calls


@pytest.mark.parametrize("value", ["0.01", "nan", "-5", "inf", "1e400", "Fri, 32 Foo", "Mon, 01 Jan 0001 00:00:00 GMT"])
def test_an_odd_retry_after_is_bounded(server, rank, chat, reaction, order_by_grade, make_hits, value):
    server.react = lambda number, path, body: (
        reaction(status=429, headers={"retry-after": value}) if number == 0 else chat(order_by_grade(body))
    )
    policy = RetryPolicy(attempts=2, first=0.01, patience=0.05)
    model = OpenAIServer("tiny", server.url)
    assert Reranker(ModelJudge(model), "single", retry=policy).rank("q", make_hits(GRADES)).usage.retries == 1
    model.close()


@pytest.mark.parametrize("tokens", [-1_000_000, 0, math.nan, "5", {"a": 1}, True, 10**30, "usage"])
def test_usage_that_cannot_be_true_does_not_loosen_a_budget(server, make_hits, chat, order_by_grade, tokens):
    def react(number, path, body):
        reply = chat(order_by_grade(body))
        document = json.loads(reply.body)
        document["usage"] = 7 if tokens == "usage" else {"prompt_tokens": tokens, "completion_tokens": tokens}
        reply.body = json.dumps(document).encode()
        return reply

    server.react = react
    model = OpenAIServer("tiny", server.url)
    reranker = Reranker(ModelJudge(model), "sliding:window=4,stride=2", budget=Budget(tokens=20_000), concurrency=2)
    results = reranker.rank_batch([(f"q{i}", make_hits(list(range(60)))) for i in range(20)])
    model.close()
    assert any(result.stopped == "tokens" for result in results)
    sent = sum(len(message["content"]) for _, _, body in server.requests for message in body["messages"])
    assert sent <= 20_000 * 16
    assert all(0 <= result.usage.prompt_tokens <= 20_000 for result in results)


BOMB = gzip.compress(b" " * (64 << 20), 1)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("kind", ["endless", "bomb", "brotli", "slow", "deep", "nested", "digits"])
def test_an_answer_of_any_size_costs_bounded_memory_and_time(server, make_hits, reaction, kind, status):
    body = {
        "bomb": BOMB,
        "deep": b"[" * 200_000,
        "nested": b'{"error":' * 900 + b"1" + b"}" * 900,
        "digits": b'{"choices": ' + b"9" * 100_000 + b"}",
        "brotli": b"x",
    }.get(kind, b"")
    headers = {"content-encoding": {"bomb": "gzip", "brotli": "br"}[kind]} if kind in ("bomb", "brotli") else {}
    endless = {"endless": b" " * 65_536, "slow": b" "}.get(kind, b"")
    server.react = lambda number, path, request: reaction(
        status=status, body=body, headers=headers, endless=endless, pause=0.05 if kind == "slow" else 0.0
    )
    model = OpenAIServer("tiny", server.url, timeout=0.5 if kind == "slow" else 10)
    with pytest.raises(ModelError):
        Reranker(ModelJudge(model), "single", retry=RetryPolicy(attempts=1)).rank("q", make_hits(GRADES))
    model.close()
    assert server.sent < 32 << 20
    assert len(server.requests) == 1


ECHOES = {
    "plain": lambda key: key,
    "header": lambda key: f"Authorization: Bearer {key}",
    "repr": lambda key: repr(f"Bearer {key}\n"),
    "json": lambda key: json.dumps(key).replace("/", "\\/"),
    "url": lambda key: quote(key, safe=""),
    "base64": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "at the cut": lambda key: "x" * 490 + key,
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("dialect", ["openai", "cohere"])
def test_a_server_that_repeats_the_key_does_not_get_it_into_any_file_or_message(
    server, make_hits, chat, reaction, tmp_path, monkeypatch, caplog, echo, dialect
):
    shown = ECHOES[echo](SECRET)
    hidden = [
        SECRET,
        shown,
        SECRET[:15],
        SECRET.encode().hex(),
        base64.b64encode(b"." * 2 + SECRET.encode()).decode()[4:28],
    ]
    monkeypatch.setenv("SOME_KEY", f"{SECRET}\r\n")
    caplog.set_level(logging.DEBUG)
    options = {"key": "SOME_KEY", "timeout": 60.0}
    judge = (
        ModelJudge(OpenAIServer("tiny", server.url, **options))
        if dialect == "openai"
        else RerankServer(server.url, "cohere", **options)
    )
    errors = [
        reaction(status=401, body=said(f"Incorrect key: {shown}")),
        reaction(status=500, body=shown.encode()),
        reaction(body=said(shown)),
        reaction(body=shown.encode()),
        reaction(status=302, headers={"location": quote(shown)}),
        reaction(
            body=json.dumps({"results": [{"index": shown}], "choices": [{"message": {"content": {shown: 1}}}]}).encode()
        ),
        reaction(status=400, body=json.dumps({"detail": [{"loc": ["body", shown], "msg": shown}]}).encode()),
        reaction(body=json.dumps({"results": [{"index": 0, "relevance_score": shown}], "choices": shown}).encode()),
    ]
    everything = []
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        for place, answer in enumerate([*errors, chat(f"[1] > [3] > [2] {shown}")]):
            answer.headers["x-echo"] = quote(shown)
            answer.phrase = shown
            server.react = lambda number, path, body, answer=answer: answer
            reranker = Reranker(judge, retry=QUICK, cache=cache, journal=tmp_path / "journal", depth=3)
            try:
                everything.append(repr(reranker.rank(f"q{place}", make_hits(GRADES))))
            except ModelError as err:
                shown_locals = traceback.TracebackException.from_exception(err, capture_locals=True)
                ours = [frame.locals or {} for frame in shown_locals.stack if "src/thresher" in frame.filename]
                everything += [str(err), repr(err), str(pickle.dumps(err)), str(ours)]
                while err is not None:
                    everything.append(repr(err))
                    err = err.__cause__ or err.__context__
    judge.close()
    everything += [caplog.text, *(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())]
    assert server.requests[0][1]["authorization"] == f"Bearer {SECRET}"
    for text in everything:
        assert not any(form in text for form in hidden)


@pytest.mark.parametrize("kind", ["environment", "file", "function"])
@pytest.mark.parametrize("padded", [f"{SECRET}\n", f" {SECRET}\r\n", f"\ufeff{SECRET}"])
def test_white_space_around_a_key_is_dropped(
    server, make_hits, chat, order_by_grade, tmp_path, monkeypatch, kind, padded
):
    monkeypatch.setenv("SOME_KEY", padded)
    (tmp_path / "key").write_bytes(padded.encode())
    source = {"environment": "SOME_KEY", "file": tmp_path / "key", "function": lambda: padded}[kind]
    model = OpenAIServer("tiny", server.url, key=source)
    Reranker(ModelJudge(model), "single").rank("q", make_hits(GRADES))
    model.close()
    assert server.requests[0][1]["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("odd", [f"{SECRET}\nX: y", f"a {SECRET}", f"{SECRET}\u00e9", f"{SECRET}\x7f"])
def test_a_key_that_cannot_be_sent_is_refused_by_name_before_any_request(server, make_hits, monkeypatch, odd):
    monkeypatch.setenv("SOME_KEY", odd)
    for judge in (
        ModelJudge(OpenAIServer("tiny", server.url, key="SOME_KEY")),
        RerankServer(server.url, key="SOME_KEY"),
    ):
        with pytest.raises(ConfigError, match="SOME_KEY") as caught:
            Reranker(judge, on_failure="keep").rank("q", make_hits(GRADES))
        judge.close()
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        ours = [frame.locals or {} for frame in shown.stack if "src/thresher" in frame.filename]
        assert SECRET not in str(caught.value) + str(ours)
    assert server.requests == []


def test_nothing_of_the_environment_goes_to_a_server_but_its_key(server, make_hits, monkeypatch):
    for name in (
        "OPENAI_CUSTOM_HEADERS",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_API_KEY",
        "OPENAI_WEBHOOK_SECRET",
    ):
        monkeypatch.setenv(name, f"X-Secret: {SECRET}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    for judge in (ModelJudge(OpenAIServer("tiny", server.url)), RerankServer(server.url)):
        Reranker(judge, on_failure="keep", retry=QUICK).rank("q", make_hits(GRADES))
        judge.close()
    assert server.requests
    for _, headers, _ in server.requests:
        assert SECRET not in str(headers)
        assert set(headers) <= {
            "host",
            "accept",
            "accept-encoding",
            "connection",
            "user-agent",
            "content-type",
            "content-length",
        }


def test_a_redirect_is_not_followed(server, rank, reaction):
    other = server.url.replace("127.0.0.1", "localhost")
    server.react = lambda number, path, body: reaction(status=307, headers={"location": f"{other}/chat/completions"})
    with pytest.raises(ModelError, match="redirect"):
        rank()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("ALL_PROXY", "socks5://u:sk-proxy@127.0.0.1:9", MissingExtraError),
        ("HTTP_PROXY", "gopher://x", ConfigError),
        ("ALL_PROXY", "http://[::1", ConfigError),
        ("SSL_CERT_FILE", "/nowhere/at-all.pem", ConfigError),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(server, rank, monkeypatch, name, value, kind):
    monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=name) as caught:
        rank(on_failure="keep")
    assert "sk-proxy" not in "".join(traceback.format_exception(caught.value))
    assert server.requests == []


@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "127.0.0.1:9"])
def test_a_proxy_that_is_not_there_is_named(rank, monkeypatch, value):
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(ModelError, match=r"cannot be reached.*HTTP_PROXY"):
        rank()


def test_a_servers_words_cannot_control_a_terminal(server, rank, reaction):
    server.react = lambda number, path, body: reaction(
        status=400, body=said("\x1b[2Jbad\u202e \x9b1m\r\n" + "y" * 9000)
    )
    with pytest.raises(ModelError, match="bad") as caught:
        rank()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "value",
    [
        {"timeout": 0},
        {"timeout": math.nan},
        {"timeout": "5"},
        {"timeout": True},
        {"connections": 0},
        {"connections": "x"},
        {"thinking": "maybe"},
        {"limit_field": "tokens"},
        {"structured": "xml"},
        {"context": 0},
        {"top_logprobs": 0},
        {"extra": "no JSON"},
        {"extra": "[1]"},
        {"extra": {"a": math.nan}},
        {"extra": {"a": object()}},
        {"key": 5},
        {"extra": "[" * 100_000},
    ],
)
def test_odd_options_are_refused_when_the_model_is_made(value):
    with pytest.raises((ConfigError, InputError)):
        OpenAIServer("tiny", "http://localhost", **value)
    with pytest.raises(ConfigError):
        OpenAIServer("", "http://localhost")


def test_servers_are_pickled_without_connections_and_keys(server, make_hits, chat, order_by_grade, monkeypatch):
    monkeypatch.setenv("SOME_KEY", SECRET)
    for judge in (
        ModelJudge(OpenAIServer("tiny", server.url, key="SOME_KEY")),
        RerankServer(server.url, key="SOME_KEY"),
    ):
        Reranker(judge, on_failure="keep", retry=QUICK).rank("q", make_hits(GRADES))
        data = pickle.dumps(judge.model if isinstance(judge, ModelJudge) else judge)
        assert SECRET.encode() not in data
        again = pickle.loads(data)  # noqa: S301
        assert again.name == (judge.model.name if isinstance(judge, ModelJudge) else judge.name)
        judge.close()


@pytest.mark.parametrize("wrong", [SECRET.encode(), [SECRET], {SECRET: 1}])
def test_a_key_of_a_wrong_type_is_not_shown(wrong):
    for make in (
        lambda: OpenAIServer("tiny", "http://h", key=wrong),
        lambda: RerankServer("http://h", key=wrong),
        lambda: OpenAIServer("tiny", wrong),
    ):
        with pytest.raises((ConfigError, InputError)) as caught:
            make()
        assert SECRET not in str(caught.value)
