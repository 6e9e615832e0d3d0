"""Cache, prices, retries, tokens, secrets, recordings: the small parts around a language model."""

import asyncio
import base64
import json
import math
import pickle
import random
import sqlite3
import subprocess
import sys
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import ArtifactError, ConfigError, DataNotFoundError, InputError, ModelError
from thresher.llm.background import run_in_background
from thresher.llm.budget import Budget, Price, load_prices
from thresher.llm.cache import ResponseCache, default_cache_path
from thresher.llm.client import Call, RetryPolicy
from thresher.llm.http import retry_after_seconds, server_url
from thresher.llm.keys import HIDDEN, Key, KeySource
from thresher.llm.local import Permutation
from thresher.llm.model import Completion, Message, Request, TokenUsage, spells
from thresher.llm.recorded import RecordedModel, Recorder
from thresher.llm.tokens import ByteTokens, load_tokens


def test_the_cache_gives_back_what_was_put_and_survives_closing(tmp_path):
    path = tmp_path / "a" / "b.sqlite"
    with ResponseCache(path) as cache:
        assert cache.get("k") is None
        cache.put("k", {"text": "naïve \ud800 ", "usage": {"prompt_tokens": 3}})
    with ResponseCache(path) as cache:
        assert cache.get("k")["usage"] == {"prompt_tokens": 3}
        assert len(cache) == 1
        cache.clear()
        assert len(cache) == 0


def test_a_cache_with_wide_rights_is_narrowed_and_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "c.sqlite"
    with sqlite3.connect(path):
        pass
    path.chmod(0o644)
    ResponseCache(path).close()
    assert oct(path.stat().st_mode)[-3:] == "600"
    other = tmp_path / "other"
    other.write_bytes(b"not a database at all, just some text of more than sixteen bytes" * 20)
    with pytest.raises(ArtifactError, match="not a response cache"):
        ResponseCache(other)


def test_a_file_that_is_not_a_response_cache_is_refused_and_left_as_it_is(tmp_path):
    foreign = tmp_path / "places.sqlite"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    text, folder, half = tmp_path / "notes.txt", tmp_path / "folder", tmp_path / "half.sqlite"
    text.write_text("my notes")
    folder.mkdir()
    half.write_bytes(b"SQLite format 3\0" + b"?" * 500)
    for path in (foreign, text, folder, half):
        before = None if path is folder else path.read_bytes()
        path.chmod(0o754)
        with pytest.raises(ArtifactError, match=r"not a response cache.*--cache-file"):
            ResponseCache(path)
        assert path is folder or path.read_bytes() == before
        assert path in (foreign, half) or oct(path.stat().st_mode)[-3:] == "754"


def test_a_cache_that_another_process_locks_is_in_use_and_does_not_end_a_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("thresher.llm.cache.BUSY_SECONDS", 0.01)
    path = tmp_path / "c.sqlite"
    with ResponseCache(path) as cache:
        cache.put("known", {"text": "a"})
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ArtifactError, match=r"in use by another process.*--cache-file"):
            ResponseCache(path)
        cache.put("k", {"text": "b"})
        cache.put("k", {"text": "b"})
        assert cache.get("known") is None
        assert len(caplog.records) == 1
        assert "not remembered" in caplog.text
        other.execute("ROLLBACK")
        other.close()
        cache.put("k", {"text": "b"})
        assert (cache.get("k"), cache.get("known")) == ({"text": "b"}, {"text": "a"})


def test_a_full_disk_and_a_damaged_row_do_not_end_a_run(tmp_path, caplog):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        cache.put("known", {"text": "a"})
        for key, damaged in enumerate(("{", "[]", "5", "null", "[" * 100_000, b"\xff")):
            cache._db.execute("INSERT INTO replies VALUES (?, ?)", (str(key), damaged))
            assert cache.get(str(key)) is None
        cache._db.execute("PRAGMA max_page_count = 1")
        cache.put("k", {"text": "b" * 1_000_000})
        assert cache.get("k") is None
        assert cache.get("known") == {"text": "a"}
    assert len(caplog.records) == 1


def test_several_processes_share_one_cache(tmp_path):
    path = tmp_path / "c.sqlite"
    script = (
        "import sys; from thresher.llm.cache import ResponseCache\n"
        "with ResponseCache(sys.argv[1]) as cache:\n"
        "    for i in range(20): cache.put(f'{sys.argv[2]}-{i}', {'text': 'x'})"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, path, str(n)]) for n in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    with ResponseCache(path) as cache:
        assert len(cache) == 60


def test_the_cache_lives_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path))
    assert default_cache_path() == tmp_path / "responses.sqlite"
    monkeypatch.delenv("THRESHER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_cache_path() == tmp_path / "x/thresher/responses.sqlite"


def test_a_call_is_known_by_everything_its_answer_depends_on():
    base = Request((Message("user", "a"),))
    changed = [
        Request((Message("system", "a"),)), Request((Message("user", "b"),)), Request(base.messages, max_tokens=17),
        Request(base.messages, temperature=0.5), Request(base.messages, labels=("A",)),
        Request(base.messages, repeat=1),
        Request(base.messages, opening="["), Request(base.messages, continuation="x"), Request(base.messages, raw=True),
        Request(base.messages, schema={"type": "string"}), Request(base.messages, pattern="x"),
    ]  # fmt: skip
    keys = {Call({"request": request.payload()}, 0, 0, None, None).key for request in [base, *changed]}
    assert len(keys) == len(changed) + 1


def test_prices_are_per_million_tokens(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text('["a-model"]\ninput = 0.4\noutput = 1.6\n')
    assert load_prices(file)["a-model"].of(1_000_000, 500_000) == pytest.approx(1.2)
    assert Price(0, 0).of(5, 5) == 0


@pytest.mark.parametrize(
    "text", ["[m]\ninput=1", "[m]\ninput=-1\noutput=1", "m = 3", "nonsense", "[m]\ninput='a'\noutput=1"]
)
def test_a_price_table_that_is_none_is_refused(tmp_path, text):
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        load_prices(file)


@pytest.mark.parametrize("text", ["\ufeff[m]\ninput = 1\noutput = 2", "[m]\r\ninput = 1\r\noutput = 2\r\n"])
def test_a_price_table_may_begin_with_a_byte_order_mark(tmp_path, text):
    (tmp_path / "p.toml").write_bytes(text.encode())
    assert load_prices(tmp_path / "p.toml") == {"m": Price(1.0, 2.0)}


ODD_PRICES = [
    'input = "1"\noutput = 1', "input = -1\noutput = 1", "input = nan\noutput = 1", "input = inf\noutput = 1",
    "input = 1", "input = true\noutput = 1", "input = 1e300\noutput = 1", "input = [1]\noutput = 1",
]  # fmt: skip


MALFORMED = ("m = 5", "m = " + "[" * 5000, "\0", "[m")


@pytest.mark.parametrize("text", [*(f"[m]\n{body}" for body in ODD_PRICES), *MALFORMED])
def test_an_odd_price_table_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"p\.toml"):
        load_prices(tmp_path / "p.toml")
    with pytest.raises(ConfigError, match="cannot read the price table"):
        load_prices(tmp_path)


ODD_NUMBERS = ("3", -1, math.nan, True, [1], {}, object(), 1j)


@pytest.mark.parametrize("value", ODD_NUMBERS)
def test_odd_limits_prices_and_waits_are_refused(value):
    made = [
        *(partial(Budget, **{name: value}) for name in ("calls", "tokens", "cost", "seconds")),
        partial(Price, value, 1.0), partial(Price, 1.0, value), partial(RetryPolicy, attempts=value),
        *(partial(RetryPolicy, **{name: value}) for name in ("first", "longest", "patience")),
    ]  # fmt: skip
    for make in made:
        with pytest.raises((ConfigError, InputError)):
            make()


def test_backoff_grows_to_its_limit_and_obeys_the_server():
    policy = RetryPolicy(first=1.0, longest=8.0, patience=30.0)
    for attempt, ceiling in ((1, 1.0), (2, 2.0), (4, 8.0), (2000, 8.0)):
        assert ceiling / 2 <= policy.delay(min(attempt, 900), None) <= ceiling
    assert policy.delay(1, 12.5) == 12.5
    assert policy.delay(1, 500.0) == 30.0
    assert policy.delay(1, 0.0) == 0.0


def test_retry_after_is_seconds_or_a_date():
    assert retry_after_seconds("3") == 3.0
    assert retry_after_seconds(None) is None
    assert retry_after_seconds("soon") is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=9000), usegmt=True)
    assert 1000 < retry_after_seconds(later) <= 9000


@given(st.text(), st.integers(0, 50))
def test_estimated_tokens_bound_and_cut(text, limit):
    tokens = ByteTokens()
    cut = tokens.cut(text, limit)
    assert text.startswith(cut)
    assert tokens.count(cut) <= limit
    assert tokens.count(text) <= tokens.bound(text)


def test_a_missing_tokenizer_is_an_error(tmp_path):
    with pytest.raises(DataNotFoundError, match="tokenizer"):
        load_tokens(tmp_path)


@given(text=st.text(alphabet="ab cé\u4f60", max_size=40), limit=st.integers(0, 12))
def test_exact_tokens_cut_at_a_token(text, limit):
    tokenizers = pytest.importorskip("tokenizers", reason="needs the models extra")
    from thresher.llm.tokens import TokenizerTokens

    model = tokenizers.Tokenizer(
        tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2, "<u>": 3}, [("a", "b")], unk_token="<u>")  # noqa: S106
    )
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokens = TokenizerTokens(model)
    cut = tokens.cut(text, limit)
    assert text.startswith(cut)
    assert tokens.count(cut) <= limit
    if tokens.count(text) <= limit:
        assert cut == text

    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*letters, "ab"])}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("a", "b")]))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens = type(tokens)(model)  # a character of three bytes is three tokens, which all end where it does
    cut = tokens.cut(text, limit)
    assert text.startswith(cut)
    assert tokens.count(cut) <= limit
    assert cut == text or tokens.count(text[: len(cut) + 1]) > limit or text[len(cut) - 1 : len(cut) + 1] == "ab"


def test_a_cut_inside_a_character_drops_the_character():
    tokenizers = pytest.importorskip("tokenizers", reason="needs the models extra")
    from thresher.llm.tokens import TokenizerTokens

    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.Tokenizer(tokenizers.models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens = TokenizerTokens(model)
    assert [tokens.cut("a\u4f60b", limit) for limit in range(6)] == ["", "a", "a", "a", "a\u4f60", "a\u4f60b"]


def test_keys_are_read_late_and_never_shown(monkeypatch, tmp_path):
    monkeypatch.delenv("A_KEY", raising=False)
    source = KeySource("A_KEY", required=True)
    with pytest.raises(ConfigError, match="A_KEY is not set"):
        source.read()
    monkeypatch.setenv("A_KEY", "s3cret/+key")
    assert "s3cret" not in repr(source) + repr(source.read())
    assert source.read().hide("Bearer s3cret/+key and s3cret%2F%2Bkey") == "Bearer *** and ***"
    assert Key().hide("text") == "text"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(source.read())
    file = tmp_path / "key"
    file.write_text("\ufeff s3cret/+key\r\n")
    for padded in (file, lambda: "s3cret/+key\n", lambda: "\ts3cret/+key "):
        assert KeySource(padded).read().forms() == source.read().forms()


SECRET = "sk-very/secret+0123456789"  # noqa: S105


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60), st.binary(max_size=9))
def test_a_key_is_hidden_in_every_form_in_which_it_is_repeated(value, before):
    key = Key(value)
    encoded = base64.b64encode(before + value.encode() + b" tail").decode()
    inside = base64.b64encode(value.encode()).decode().rstrip("=")[:-2]
    for text in (
        value,
        json.dumps(value),
        repr(value),
        quote(value, safe=""),
        quote(value),
        encoded,
        value.encode().hex(),
    ):
        hidden = key.hide(f"before {text} after")
        assert HIDDEN in hidden
        assert value not in hidden
        assert inside not in hidden


def test_a_key_that_is_an_ordinary_word_hides_that_word_only():
    assert Key("EMPTY").hide("EMPTYING is EMPTY") == "EMPTYING is ***"
    assert Key("1").hidden({"content": "[2] > [1]"}) == {"content": "[2] > [1]"}


@pytest.mark.parametrize(
    "odd", ["{}\0", "{}\nHost: x", "{}\r\nx", "Bearer {}", "{}\u00e9", "{}\u2028x", b"{}", 5, None, "raise"]
)
def test_a_key_that_cannot_be_sent_is_refused_by_its_place_and_never_repeated(odd):
    def function():
        if odd == "raise":
            raise OSError(SECRET)
        return odd.format(SECRET) if isinstance(odd, str) else SECRET.encode() if isinstance(odd, bytes) else odd

    with pytest.raises(ConfigError, match="the function returns") as caught:
        KeySource(function).read()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert SECRET not in str(caught.value)
    assert odd == "raise" or SECRET not in shown.replace(repr(function), "")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x", "x:80", "localhost:8000/v1", "https://", "http://h/?k=v", "http://h/#f", "http://h:99999", "http://h:0",
        "http://h:port", "http://::1:8000/v1", "http://[::1", "http://h o/v1", "http://h/v1\nx", "", "   ", None, 5,
        "//h", f"http://u:{SECRET}@h/", f"u:{SECRET}@h/v1", f"http://u:{SECRET}@h:99999/",
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_carries_a_secret_is_refused(url):
    with pytest.raises(ConfigError, match="address") as caught:
        server_url(url, "v1", ())
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("given", "chat", "cohere", "bare"),
    [
        ("http://h:1", "http://h:1/v1", "http://h:1/v2", "http://h:1"),
        (" http://h:1/ ", "http://h:1/v1", "http://h:1/v2", "http://h:1"),
        ("http://h/v1", "http://h/v1", "http://h/v1", "http://h/v1"),
        ("http://h//v2/", "http://h/v2", "http://h/v2", "http://h/v2"),
        ("HTTP://h/v1/v1", "http://h/v1", "http://h/v1", "http://h/v1"),
        ("http://h/v2/rerank/", "http://h/v2", "http://h/v2", "http://h/v2"),
        ("http://h/v1/chat/completions", "http://h/v1", "http://h/v1", "http://h/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1", "http://[::1]:8000/v2", "http://[::1]:8000"),
        ("https://h/api", "https://h/api", "https://h/api/v2", "https://h/api"),
        ("https://h/v1beta/openai", "https://h/v1beta/openai", "https://h/v1beta/openai", "https://h/v1beta/openai"),
    ],
)
def test_an_address_may_be_written_with_or_without_version_and_endpoint(given, chat, cohere, bare):
    ends = ("/chat/completions", "/rerank")
    assert [server_url(given, version, ends) for version in ("v1", "/v2", "")] == [chat, cohere, bare]


@pytest.mark.parametrize(
    ("token", "label", "same"),
    [
        ("yes", "yes", True), (" Yes", "yes", True), ("\u2581yes", "yes", True), ("\u0120YES", "yes", True),
        ("a", "A", False), (" A", "A", True), ("yesterday", "yes", False), ("", "A", False),
    ],
)  # fmt: skip
def test_what_spells_a_label(token, label, same):
    assert spells(token, label) is same


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_completion_refuses_log_probabilities_that_are_no_numbers(value):
    with pytest.raises(ModelError, match="not a number"):
        Completion(labels={"A": value})
    with pytest.raises(ModelError, match="not a number"):
        Completion(continuation=value)


def test_a_completion_survives_json():
    completion = Completion("t", {"A": -1.5, "B": -math.inf}, -9.0, -3.25, TokenUsage(1, 2, 3), "length")
    assert Completion.from_json(json.loads(json.dumps(completion.as_json(), allow_nan=False))) == completion


class Echo:
    name, parameters, context, tokens = "echo", {"a": 1}, 100, ByteTokens()

    def prompt_bound(self, request):
        return 7

    async def complete(self, requests):
        return [Completion(request.messages[-1].content.upper()) for request in requests]


def test_a_recording_says_again_what_was_said(tmp_path):
    file = tmp_path / "said.jsonl"
    recorder = Recorder(Echo(), file)
    request = Request((Message("user", "hello"),))
    asyncio.run(recorder.complete([request]))
    recorder.close()
    model = RecordedModel(file)
    assert (model.name, model.parameters, model.context) == ("echo", {"a": 1}, 100)
    (said,) = asyncio.run(model.complete([request]))
    assert said.text == "HELLO"
    with pytest.raises(ModelError, match="holds no answer"):
        asyncio.run(model.complete([Request((Message("user", "other"),))]))
    assert oct(file.stat().st_mode)[-3:] == "600"
    with file.open("a") as lines:
        lines.write("{broken\n")
    with pytest.raises(InputError, match=r"said\.jsonl:3"):
        RecordedModel(file)


@given(count=st.integers(1, 12), seed=st.integers(0, 2**20))
def test_generation_held_to_a_permutation_is_one(count, seed):
    """Whatever is chosen among the ids allowed, the text names each label once, and then ends."""
    rng = random.Random(seed)
    vocabulary = ["</s>", "[", "]", " > ", " >", " ", *"0123456789", " > [", "10", "11"]

    def encode(text):  # greedy longest match, as real tokenizers nearly do
        ids = []
        while text:
            piece = max((token for token in vocabulary if text.startswith(token)), key=len)
            ids.append(vocabulary.index(piece))
            text = text[len(piece) :]
        return ids

    labels = [str(i + 1) for i in range(count)]
    held = Permutation(labels, encode, 0)
    said = []
    while not said or said[-1] != 0:
        said.append(rng.choice(held.allowed(said)))
        assert len(said) < 200
    text = "".join(vocabulary[i] for i in said[:-1])
    named = [part.strip("[]") for part in text.split(" > ")]
    assert sorted(named) == sorted(labels)


def test_synchronous_callers_may_be_inside_a_running_loop():
    async def inner():
        return 5

    async def outer():
        return run_in_background(inner())

    assert asyncio.run(outer()) == 5


def test_nothing_heavy_is_loaded_by_the_package():
    import subprocess
    import sys

    heavy = "('torch', 'openai', 'httpx2', 'numpy')"
    code = f"import sys, thresher.llm, thresher.rerank; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
