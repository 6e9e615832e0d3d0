"""One pipeline: what an answer holds, what is off and why, what fails, what is given up under a deadline."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import thresher
from thresher.build.recipe import AskStep
from thresher.context import ContextPruner
from thresher.context.scorers import LexicalScorer
from thresher.errors import ArtifactError, ConfigError, DataNotFoundError, InputError
from thresher.pipeline import Pipeline
from thresher.pipeline.parts import VectorsPart
from thresher.records import Hit
from thresher.rerank import Budget, Reranker
from thresher.search import Index
from thresher.vectors.store import VectorStore
from training.rerank.simulated import SimulatedJudge, Simulation

from .conftest import SETTINGS, Clock, HashedWords, SlowScorer, made_passages

QUESTION = "which mill makes flour of wheat"


def plain(answer):
    """An answer without what depends on the clock."""
    document = answer.as_json()
    for key in ("milliseconds", "usage"):
        del document[key]
    return document | {"ranking": answer.ranking, "counts": [dict(a.counts) for a in answer.usage.stages]}


def test_an_answer_holds_passages_with_spans_scores_of_every_stage_and_an_account(whole_cascade):
    answer = whole_cascade.ask(QUESTION, 3)
    assert [stage.outcome for stage in answer.stages] == ["done"] * 4
    assert answer.exact
    assert len(answer.passages) == 3
    assert answer.ranking[:3] == tuple(one.docno for one in answer.passages)
    for rank, one in enumerate(answer.passages, 1):
        assert one.rank == rank
        assert set(one.scores) == {"search", "dense", "interpolate", "relevance", "rank"}
        assert one.text == "".join(one.original[span.start : span.end] for span in one.spans)
        assert 0 <= one.confidence <= 1
        assert one.metadata
    assert answer.confidence == max(one.confidence for one in answer.passages)
    counts = {account.stage: account.counts for account in answer.usage.stages}
    assert list(counts) == ["search", "interpolate", "rank", "context"]
    assert counts["search"]["postings"] > 0
    assert counts["search"]["visited"] <= counts["search"]["blocks"]
    assert counts["interpolate"]["lookups"] <= counts["interpolate"]["candidates"]
    assert counts["rank"]["passages"] == 6
    assert counts["context"]["forwards"] == 0, "what the ranker read is not read again"
    assert 0 < counts["context"]["characters_dropped"] < counts["context"]["characters"]
    json.dumps(answer.as_json(), allow_nan=False)
    assert sorted(answer.ranking) == sorted(row.docno for row in answer.rows())
    assert all(one.text in answer.context for one in answer.passages if one.spans)


def test_each_stage_is_optional_and_the_ranking_is_that_of_the_stages_there_are(place):
    searcher = Index.open(place / "plain")
    bare = Pipeline(searcher, vectors=None, rerank=None, context=None)
    assert bare.stages == ("search",)
    answer = bare.ask(QUESTION, 5)
    assert list(answer.ranking) == searcher.search(QUESTION, 1000).docnos
    assert [one.text for one in answer.passages] == [hit.text for hit in searcher.search(QUESTION, 5)]
    assert answer.confidence is None
    ranked = Pipeline(searcher, vectors=None, rerank=LexicalScorer(), context=None, settings=SETTINGS)
    assert ranked.stages == ("search", "rank")
    assert set(ranked.ask(QUESTION).ranking[:6]) == set(answer.ranking[:6])


def test_a_stage_that_cannot_be_had_is_off_with_the_reason_unless_it_was_named(place):
    lacking = AskStep(rank="no-such-model", context="lexical")
    pipeline = Pipeline(place / "plain", settings=lacking)
    assert pipeline.stages == ("search", "context")
    assert "[vectors]" in pipeline.off["interpolate"]
    assert "no-such-model" in pipeline.off["rank"]
    report = pipeline.ask(QUESTION).stages[2]
    assert (report.outcome, report.reason) == ("off", pipeline.off["rank"])
    with pytest.raises(DataNotFoundError, match="no-such-model"):
        Pipeline(place / "plain", rerank="no-such-model", settings=lacking)
    with pytest.raises(ArtifactError):
        Pipeline(place / "nowhere")
    with pytest.raises(ArtifactError, match="no index"):
        Pipeline(object())
    with pytest.raises(ConfigError, match="no name of a model"):
        Pipeline(place / "plain", context=3)


def test_settings_come_from_the_index_a_recipe_or_the_caller(place, tmp_path):
    assert Pipeline.open(place / "plain").settings == SETTINGS
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[ask]\nk = 1\nrank = ""\ncontext = "lexical"\nthreshold = 0.5\n')
    pipeline = thresher.Pipeline(place / "plain", settings=recipe)
    assert len(pipeline.ask(QUESTION).passages) == 1
    assert pipeline.stages == ("search", "context")
    recipe.write_text('[ask]\nthreshold = "tight"\n')
    with pytest.raises(ConfigError, match=r"ask\.threshold"):
        Pipeline(place / "plain", settings=recipe)


@pytest.mark.parametrize("context", ["lexical", None])
def test_tokens_handed_over_never_exceed_what_was_allowed(place, context):
    pipeline = Pipeline(place / "plain", context=context, rerank=None)
    whole = pipeline.ask(QUESTION, 5).tokens
    for allowed in (0, 7, 20, whole - 1, whole):
        answer = pipeline.ask(QUESTION, 5, max_context_tokens=allowed)
        assert answer.tokens <= allowed
        assert pipeline.parts.pruner.count_tokens(answer.context) <= allowed + len(answer.passages)
    assert answer.tokens == whole


def test_what_repeats_is_handed_over_once_unless_repeats_are_wanted(place):
    text = "The mill makes flour of wheat. Rain falls on the field."
    hits = [Hit(f"p{n}", 5.0 - n, n + 1, text) for n in range(3)]

    def answer(**settings):
        chosen = SETTINGS.model_copy(update={"threshold": 0.1, **settings})
        return Pipeline(place / "plain", vectors=None, settings=chosen).ask(QUESTION, hits=hits)

    dropped, kept = answer(), answer(repeats="keep")
    assert [bool(one.spans) for one in kept.passages] == [True] * 3
    assert sorted(bool(one.spans) for one in dropped.passages) == [False, False, True]
    assert dropped.usage.stages[-1].counts["repeated"] >= 2
    assert dropped.tokens < kept.tokens
    assert answer(threshold=0.0).tokens > kept.tokens  # a threshold of 0 keeps all
    assert all(one.spans for one in answer(min_keep=1).passages)


def test_an_index_with_two_tiers_is_searched_through_both_where_that_is_called_for(place):
    pipeline = Pipeline(place / "tiered", rerank=None, context=None)
    answer = pipeline.ask(QUESTION, 10)
    account = answer.usage.stages[0].counts
    assert account["escalated"] == 1
    assert account["tier_2"] > 0
    assert {one.tier for one in answer.passages} == {1, 2}
    first = Pipeline(place / "tiered", rerank=None, context=None, settings=AskStep(tiers="first"))
    assert {one.tier for one in first.ask(QUESTION, 10).passages} == {1}


def test_a_pruned_passage_without_a_vector_still_takes_part(place, tmp_path):
    half = made_passages()[:30]
    vectors = HashedWords().encode_passages([p.contents for p in half])
    VectorStore.build(tmp_path / "half", [vectors], docnos=[p.docno for p in half], storage="float16")
    pipeline = Pipeline(
        place / "plain",
        vectors=tmp_path / "half",
        query_encoder=HashedWords(),
        rerank=None,
        context=None,
        settings=SETTINGS.model_copy(update={"encode_missing": 0}),
    )
    answer = pipeline.ask(QUESTION, 10)
    assert answer.errors == {}
    assert any(int(docno[1:]) >= 30 for docno in answer.ranking)
    assert "no vector" in answer.stages[1].reason
    assert not answer.exact


class SlowWords(HashedWords):
    """Hashed words, taking ten milliseconds a passage by a clock, and counting them."""

    def __init__(self, clock):
        self.clock, self.encoded = clock, []

    def encode_passages(self, texts):
        self.encoded.extend(texts)
        self.clock.pass_(10 * len(texts))
        return super().encode_passages(texts)


def half_encoded(place, tmp_path, clock, encode_missing):
    """A pipeline whose vector store lacks every second passage, and its encoder."""
    half = made_passages()[::2]
    vectors = HashedWords().encode_passages([p.contents for p in half])
    VectorStore.build(tmp_path / "half", [vectors], docnos=[p.docno for p in half], storage="float16", overwrite=True)
    encoder = SlowWords(clock)
    settings = SETTINGS.model_copy(update={"encode_missing": encode_missing})
    parts = {"vectors": tmp_path / "half", "query_encoder": encoder, "rerank": None, "context": None}
    return Pipeline(place / "plain", settings=settings, clock=clock, warm=False, **parts), encoder


def test_pruned_passages_are_encoded_when_a_query_brings_them_up_and_once(place, tmp_path):
    whole = Pipeline(place / "plain", vectors=place / "vectors", query_encoder=HashedWords(), rerank=None, context=None)
    pipeline, encoder = half_encoded(place, tmp_path, Clock(), 60)
    answer = pipeline.ask(QUESTION, 10)
    assert answer.ranking[:10] == whole.ask(QUESTION, 10).ranking[:10]
    assert answer.usage.stages[1].counts["forwards"] == 1 + len(encoder.encoded) > 1
    assert answer.exact == whole.ask(QUESTION, 10).exact
    again = pipeline.ask(QUESTION, 10)
    assert again.ranking == answer.ranking
    assert again.usage.stages[1].counts["forwards"] == 1
    few, encoder = half_encoded(place, tmp_path, Clock(), 3)
    assert few.ask(QUESTION, 10).usage.stages[1].counts["forwards"] == 4
    first = [docno for docno in whole.ask(QUESTION, 10, hits=None).ranking if int(docno[1:]) % 2]
    assert len(encoder.encoded) == 3 < len(first)


def test_what_is_remembered_is_bounded(place, tmp_path, monkeypatch):
    monkeypatch.setattr(VectorsPart, "remembered", 2)
    pipeline, encoder = half_encoded(place, tmp_path, Clock(), 4)
    first = pipeline.ask(QUESTION, 10)
    assert pipeline.ask(QUESTION, 10).ranking == first.ranking
    assert len(encoder.encoded) == 4 + 2


def test_encoding_pruned_passages_takes_a_part_of_the_time_there_is(place, tmp_path):
    clock = Clock()
    pipeline, encoder = half_encoded(place, tmp_path, clock, 20)
    first = pipeline.ask(QUESTION, 10, deadline_ms=500)
    assert first.usage.stages[1].counts["forwards"] == 2  # one passage tells what one costs
    encoder.encoded.clear()
    answer = pipeline.ask(QUESTION, 10, deadline_ms=500)
    assert 5 <= len(encoder.encoded) <= 10
    assert answer.milliseconds <= 100
    assert "have no vector" in answer.stages[1].reason


def test_candidates_can_be_brought(whole_cascade):
    hits = [Hit(p.docno, 1.0, rank, p.text, p.title) for rank, p in enumerate(made_passages()[:8], 1)]
    answer = whole_cascade.ask(QUESTION, hits=hits)
    assert set(answer.ranking) == {hit.docno for hit in hits}
    assert answer.usage.stages[0].counts == {"candidates": 8}


def test_nothing_found_is_an_empty_answer(whole_cascade):
    answer = whole_cascade.ask("zzz")
    assert (answer.passages, answer.ranking, answer.context, answer.confidence) == ((), (), "", None)
    assert answer.errors == {}


def test_sixteen_threads_get_the_answers_one_thread_gets(whole_cascade):
    queries = [f"{a} and {b}" for a in ("grain", "rye", "bread", "sun") for b in ("oven", "seed", "field", "chaff")]
    alone = [plain(whole_cascade.ask(query)) for query in queries]
    with ThreadPoolExecutor(16) as pool:
        many = list(pool.map(lambda query: plain(whole_cascade.ask(query)), queries * 5))
    assert many == alone * 5
    assert [plain(a) for a in whole_cascade.ask_batch(queries, threads=16)] == alone


def test_answers_come_without_blocking_an_event_loop(whole_cascade):
    async def both():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        one = await whole_cascade.aask(QUESTION)
        batch = await whole_cascade.aask_batch([QUESTION, "rye bread"], threads=2)
        ticking.cancel()
        return one, batch, ticks

    one, batch, ticks = asyncio.run(both())
    assert plain(one) == plain(batch[0]) == plain(whole_cascade.ask(QUESTION))
    assert ticks > 1


class Broken(LexicalScorer):
    """A scorer that fails when told to."""

    broken = False

    def score(self, pairs):
        if self.broken:
            raise ValueError("the model is gone")
        return super().score(pairs)


@pytest.mark.parametrize("stage", ["rank", "context"])
def test_a_failing_stage_degrades_to_the_stage_before_or_raises(place, stage):
    scorer = Broken()
    parts = {"rerank": scorer, "context": None} if stage == "rank" else {"rerank": None, "context": scorer}
    pipeline = Pipeline(place / "plain", settings=SETTINGS, **parts)
    before = Pipeline(place / "plain", rerank=None, context=None, settings=SETTINGS).ask(QUESTION)
    scorer.broken = True
    answer = pipeline.ask(QUESTION)
    assert answer.errors == {stage: "ValueError: the model is gone"}
    assert isinstance(next(s for s in answer.stages if s.stage == stage).error, ValueError)
    assert not answer.exact
    assert answer.ranking == before.ranking
    assert [one.text for one in answer.passages] == [one.text for one in before.passages]
    strict = SETTINGS.model_copy(update={"on_error": "raise"})
    with pytest.raises(ValueError, match="the model is gone"):
        Pipeline(place / "plain", settings=strict, warm=False, **parts).ask(QUESTION)
    scorer.broken = False
    assert pipeline.ask(QUESTION).errors == {}


def test_failing_interpolation_leaves_the_sparse_ranking(place):
    class Wrong(HashedWords):
        dimensions = 5

    pipeline = Pipeline(place / "plain", vectors=place / "vectors", query_encoder=Wrong(), rerank=None, context=None)
    answer = pipeline.ask(QUESTION)
    assert "the query's vector has the shape (5,)" in answer.errors["interpolate"]
    assert answer.ranking == Pipeline(place / "plain", rerank=None, context=None).ask(QUESTION).ranking


def test_a_failing_search_always_raises(place):
    pipeline = Pipeline(place / "plain", rerank=None, context=None)
    pipeline.parts.first = type("Gone", (), {"search": lambda *_, **__: 1 / 0})()
    with pytest.raises(ZeroDivisionError):
        pipeline.ask(QUESTION)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"max_context_tokens": -1}, "max_context_tokens is -1"),
        ({"deadline_ms": -5}, "deadline_ms is -5"),
        ({"deadline_ms": float("nan")}, "deadline_ms is nan"),
    ],
)
def test_arguments_out_of_range_are_refused(whole_cascade, arguments, message):
    with pytest.raises(InputError, match=message):
        whole_cascade.ask(QUESTION, **arguments)
    with pytest.raises(InputError, match="a query is a text"):
        whole_cascade.ask(3)
    with pytest.raises(InputError, match="threads is 0"):
        whole_cascade.ask_batch([QUESTION], threads=0)


def slow_cascade(place, clock, a_passage=20.0):
    scorer = SlowScorer(clock, a_passage)
    return Pipeline(
        place / "plain",
        vectors=place / "vectors",
        query_encoder=HashedWords(),
        rerank=scorer,
        context=ContextPruner(scorer),
        settings=SETTINGS.model_copy(update={"read": 10}),
        clock=clock,
    )


def test_the_ranker_reads_as_many_passages_as_fit_and_the_answer_is_in_time(place):
    clock = Clock()
    pipeline = slow_cascade(place, clock)
    whole = pipeline.ask(QUESTION)
    assert whole.usage.stages[2].counts["passages"] == 10
    assert whole.milliseconds == pytest.approx(200)
    last = 0
    for deadline in (10, 45, 60, 100, 150, 190, 1000):
        answer = pipeline.ask(QUESTION, deadline_ms=deadline)
        assert answer.milliseconds <= deadline
        report, accounts = answer.stages[2], {a.stage: a.counts for a in answer.usage.stages}
        read = accounts["rank"]["passages"] if "rank" in accounts else 0
        assert read >= last
        assert sorted(answer.ranking) == sorted(whole.ranking)
        assert answer.ranking[read:] == whole.ranking[read:] or read < 10
        assert report.outcome == ("done" if read == 10 else "cut" if read else "skipped")
        assert ("rank" in answer.skipped) == (read < 10)
        last = read
    assert last == 10
    assert plain(answer)["ranking"] == plain(whole)["ranking"]


def test_stages_get_time_in_their_order_and_what_does_not_fit_is_named(place):
    clock = Clock()
    pipeline = slow_cascade(place, clock)
    pipeline.costs.observe("interpolate", 30)
    pipeline.costs.observe("context", 2)
    answer = pipeline.ask(QUESTION, deadline_ms=10)
    assert [stage.outcome for stage in answer.stages] == ["done", "skipped", "skipped", "cut"]
    assert "predicted to take" in answer.stages[1].reason
    assert "stay whole for want of time" in answer.stages[3].reason
    assert not answer.exact
    assert all(one.text == one.original for one in answer.passages)
    pipeline.costs.observe("context", 500)
    assert pipeline.ask(QUESTION, deadline_ms=10).stages[3].outcome == "skipped"


def test_a_reranker_orders_the_head_and_under_a_deadline_gets_what_time_is_left(place):
    grades = {f"p{i}": i % 4 for i in range(60)}
    judge = SimulatedJudge({"0": grades}, Simulation(noise=0.0))
    reranker = Reranker(judge, "pointwise", depth=8, budget_per_query=Budget(calls=100))
    pipeline = Pipeline(place / "plain", rerank=reranker, settings=SETTINGS)
    answer = pipeline.ask(QUESTION)
    head = [grades[docno] for docno in answer.ranking[:8]]
    assert head == sorted(head, reverse=True)
    assert answer.usage.stages[1].counts["calls"] == 8
    assert reranker.budget_per_query == Budget(calls=100)
    hurried = pipeline.ask(QUESTION, deadline_ms=10_000)
    assert hurried.ranking == answer.ranking
