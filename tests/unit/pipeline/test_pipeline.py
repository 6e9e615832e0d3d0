"""One pipeline: what an answer holds, what is off and why, what fails, what is given up under a deadline."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import thresher
from thresher.build.recipe import AskStep, Recipe, VectorsStep
from thresher.build.stream import build_index
from thresher.context import ContextPruner
from thresher.context.scorers import LexicalScorer
from thresher.errors import ArtifactError, ConfigError, DataNotFoundError, InputError
from thresher.pipeline import Pipeline, SearchStage, SelectStage, StageReport
from thresher.prune.plan import PruneStep
from thresher.ranking import Ranking
from thresher.records import Hit, Passage, Query
from thresher.rerank import Budget, Reranker
from thresher.search import Index
from thresher.vectors.store import VectorStore
from training.rerank.simulated import SimulatedJudge, Simulation

from .conftest import SETTINGS, Clock, HashedWords, SlowScorer, made_passages

QUESTION = "which mill makes flour of wheat"


def names(pipeline):
    return [stage.name for stage in pipeline.stages]


def plain(answer):
    """An answer without what depends on the clock."""
    document = answer.as_json()
    for key in ("milliseconds", "usage"):
        del document[key]
    return document | {"ranking": answer.ranking.docnos, "counts": [dict(a.counts) for a in answer.usage.stages]}


def test_an_answer_holds_passages_with_spans_scores_of_every_stage_and_an_account(whole_cascade):
    answer = whole_cascade.ask(QUESTION, 3)
    assert [stage.outcome for stage in answer.stages] == ["done"] * 4
    assert answer.exact
    assert len(answer.passages) == 3
    assert answer.ranking.docnos[:3] == [one.docno for one in answer.passages]
    for rank, one in enumerate(answer.passages, 1):
        assert one.rank == rank
        assert set(one.scores) == {"search", "dense", "interpolate", "relevance", "rerank"}
        assert one.text == "".join(one.original[span.start : span.end] for span in one.spans)
        assert 0 <= one.confidence <= 1
        assert one.metadata
    assert answer.confidence == max(one.confidence for one in answer.passages)
    counts = {account.stage: account.counts for account in answer.usage.stages}
    assert list(counts) == ["search", "interpolate", "rerank", "select"]
    assert counts["search"]["postings"] > 0
    assert counts["search"]["visited"] <= counts["search"]["blocks"]
    assert counts["interpolate"]["lookups"] <= counts["interpolate"]["candidates"]
    assert counts["rerank"]["passages"] == 6
    assert counts["select"]["forwards"] == 0, "what the ranker read is not read again"
    assert 0 < counts["select"]["characters_dropped"] < counts["select"]["characters"]
    json.dumps(answer.as_json(), allow_nan=False)
    assert answer.ranking.scores.tolist() == list(range(len(answer.ranking), 0, -1))
    assert all(one.text in answer.context for one in answer.passages if one.spans)


def test_each_stage_is_optional_and_the_ranking_is_that_of_the_stages_there_are(place):
    searcher = Index.open(place / "plain")
    bare = Pipeline.open(searcher, vectors=None, rerank=None, context=None)
    assert names(bare) == ["search"]
    answer = bare.ask(QUESTION, 5)
    assert answer.ranking.docnos == searcher.search(QUESTION, 1000).docnos
    assert [one.text for one in answer.passages] == [hit.text for hit in searcher.search(QUESTION, 5)]
    assert answer.confidence is None
    ranked = Pipeline.open(searcher, vectors=None, rerank=LexicalScorer(), context=None, settings=SETTINGS)
    assert names(ranked) == ["search", "rerank"]
    assert set(ranked.ask(QUESTION).ranking.docnos[:6]) == set(answer.ranking.docnos[:6])


def test_a_stage_that_cannot_be_had_is_off_with_the_reason_unless_it_was_named(place):
    lacking = AskStep(rerank="no-such-model", context="lexical")
    pipeline = Pipeline.open(place / "plain", settings=lacking)
    assert names(pipeline) == ["search", "select"]
    assert "[vectors]" in pipeline.off["interpolate"]
    assert "no-such-model" in pipeline.off["rerank"]
    with pytest.raises(DataNotFoundError, match="no-such-model"):
        Pipeline.open(place / "plain", rerank="no-such-model", settings=lacking)
    with pytest.raises(ArtifactError):
        Pipeline.open(place / "nowhere")
    with pytest.raises(InputError, match="index must be a path or an AnyIndex"):
        Pipeline.open(object())
    with pytest.raises(InputError, match="context must be a path or a ContextPruner or a SentenceScorer or None"):
        Pipeline.open(place / "plain", context=3)


def test_settings_come_from_the_index_a_recipe_or_the_caller(place, tmp_path):
    assert Pipeline.open(place / "plain").k == SETTINGS.k
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[ask]\nk = 1\nrerank = ""\ncontext = "lexical"\nthreshold = 0.5\n')
    pipeline = thresher.Pipeline.open(place / "plain", settings=recipe)
    assert len(pipeline.ask(QUESTION).passages) == 1
    assert names(pipeline) == ["search", "select"]
    recipe.write_text('[ask]\nthreshold = "tight"\n')
    with pytest.raises(ConfigError, match=r"ask\.threshold"):
        Pipeline.open(place / "plain", settings=recipe)


@pytest.mark.parametrize("context", ["lexical", None])
def test_tokens_handed_over_never_exceed_what_was_allowed(place, context):
    pipeline = Pipeline.open(place / "plain", context=context, rerank=None)
    whole = pipeline.ask(QUESTION, 5).tokens
    for allowed in (1, 7, 20, whole - 1, whole):
        answer = pipeline.ask(QUESTION, 5, max_context_tokens=allowed)
        assert answer.tokens <= allowed
        assert pipeline.count_tokens(answer.context) == answer.tokens
    assert answer.tokens == whole


def test_what_repeats_is_handed_over_once_unless_repeats_are_wanted(place):
    text = "The mill makes flour of wheat. Rain falls on the field."
    hits = [Hit(f"p{n}", 5.0 - n, n + 1, text) for n in range(3)]

    def answer(**settings):
        chosen = SETTINGS.model_copy(update={"threshold": 0.1, **settings})
        return Pipeline.open(place / "plain", vectors=None, settings=chosen).ask(QUESTION, candidates=hits)

    dropped, kept = answer(), answer(repeats="keep")
    assert [bool(one.spans) for one in kept.passages] == [True] * 3
    assert sorted(bool(one.spans) for one in dropped.passages) == [False, False, True]
    assert dropped.usage.stages[-1].counts["repeated"] >= 2
    assert dropped.tokens < kept.tokens
    assert answer(threshold=0.0).tokens > kept.tokens  # a threshold of 0 keeps all
    assert all(one.spans for one in answer(min_keep=1).passages)


def test_a_passage_of_which_nothing_is_kept_takes_no_place(place):
    texts = [
        "The mill makes flour of wheat.",
        "The mill makes flour of wheat. Yes.",
        "Wheat flour of another mill is sold in town.",
    ]
    hits = [Hit(f"p{n}", 5.0 - n, n + 1, text) for n, text in enumerate(texts)]
    settings = SETTINGS.model_copy(update={"threshold": 0.1, "rerank": "lexical", "read": 3})
    answer = Pipeline.open(place / "plain", vectors=None, settings=settings).ask(QUESTION, 2, candidates=hits)
    assert len(answer.passages) == 2
    ranked = list(answer.ranking.docnos)
    assert [one.rank for one in answer.passages] == [ranked.index(one.docno) + 1 for one in answer.passages]
    assert all(one.spans for one in answer.passages)
    assert "Wheat flour of another mill is sold in town." in answer.context


@pytest.mark.parametrize("rerank", ["lexical", None])
def test_two_forms_of_one_page_take_one_place_of_an_answer(tmp_path, rerank):
    page = "The mill makes flour of wheat. It stands by the river. Flour is sold there in sacks."
    passages = [
        Passage("mill.html", page, "Mill"),
        Passage("mill.md", page.replace(". ", ".\n\n"), "Mill"),
        Passage("town", "Wheat flour of another mill is sold in town."),
        Passage("rye", "Rye flour is dark. A mill grinds it."),
    ]
    build_index(tmp_path / "index", passages, "bm25")
    settings = SETTINGS.model_copy(update={"threshold": 0.1})
    answer = Pipeline.open(tmp_path / "index", vectors=None, rerank=rerank, settings=settings).ask(QUESTION, 2)
    handed = [one.docno for one in answer.passages]
    assert {"mill.html", "mill.md"} <= set(answer.ranking.docnos[:4])
    assert len(handed) == 2
    assert len({"mill.html", "mill.md"} & set(handed)) == 1
    assert all(one.spans for one in answer.passages)
    assert answer.context.count("The mill makes flour of wheat.") == 1


def test_an_index_with_two_tiers_is_searched_through_both_where_that_is_called_for(place):
    pipeline = Pipeline.open(place / "tiered", rerank=None, context=None)
    answer = pipeline.ask(QUESTION, 10)
    account = answer.usage.stages[0].counts
    assert account["escalated"] == 1
    assert account["tier_2"] > 0
    assert {one.tier for one in answer.passages} == {1, 2}
    assert {one.tier for one in pipeline.ask(QUESTION, 10, tiers="first").passages} == {1}
    first = Pipeline.open(place / "tiered", rerank=None, context=None, settings=AskStep(tiers="first"))
    assert {one.tier for one in first.ask(QUESTION, 10).passages} == {1}
    assert first.ask(QUESTION, 10, tiers="both").ranking.docnos == answer.ranking.docnos
    assert first.ask_batch([QUESTION], 10, tiers="both")[0].ranking.docnos == answer.ranking.docnos
    with pytest.raises(ConfigError, match="unknown tiers 'second'; choose one of auto, both, first"):
        pipeline.ask(QUESTION, tiers="second")
    with pytest.raises(InputError, match="tiers"):
        pipeline.ask(QUESTION, candidates=answer.ranking, tiers="first")


def test_a_recall_is_promised_by_a_call_or_the_settings(place):
    pipeline = Pipeline.open(place / "tiered", rerank=None, context=None)
    exactly = pipeline.ask(QUESTION, 10)
    for settings, recall in ((AskStep(), 0.9), (AskStep(recall=0.9), None)):
        other = Pipeline.open(place / "tiered", rerank=None, context=None, settings=settings)
        assert other.ask(QUESTION, 10, recall=recall).ranking == exactly.ranking  # nothing was measured there
    with pytest.raises(InputError, match="recall"):
        pipeline.ask(QUESTION, recall=1.0)
    with pytest.raises(InputError, match="recall"):
        pipeline.ask(QUESTION, candidates=exactly.ranking, recall=0.9)


def test_neighbours_by_vector_come_from_the_tiers_that_are_asked_for(place, tmp_path):
    recipe = Recipe(vectors=VectorsStep(sketch=0), prune=PruneStep(estimator="kl", keep=0.5), ask=SETTINGS)
    build_index(tmp_path / "index", made_passages(), recipe, dense=HashedWords())
    parts = {"query_encoder": HashedWords(), "rerank": None, "context": None}
    chosen = SETTINGS.model_copy(update={"neighbours": 50, "depth": 5, "alpha": 0.0})
    pipeline = Pipeline.open(tmp_path / "index", settings=chosen, **parts)
    assert {one.tier for one in pipeline.ask(QUESTION, 30).passages} == {1, 2}
    assert {one.tier for one in pipeline.ask(QUESTION, 30, tiers="first").passages} == {1}


def test_a_pruned_passage_without_a_vector_still_takes_part(place, tmp_path):
    half = made_passages()[:30]
    vectors = HashedWords().encode_passages([p.contents for p in half])
    VectorStore.build(tmp_path / "half", [vectors], docnos=[p.docno for p in half], storage="float16")
    pipeline = Pipeline.open(
        place / "plain",
        vectors=tmp_path / "half",
        query_encoder=HashedWords(),
        rerank=None,
        context=None,
        settings=SETTINGS,
    )
    answer = pipeline.ask(QUESTION, 10)
    assert answer.errors == {}
    assert any(int(docno[1:]) >= 30 for docno in answer.ranking.docnos)
    assert "no vector" in answer.stages[1].reason
    assert not answer.exact


def test_below_what_the_ranker_reads_the_order_is_that_of_the_interpolation(whole_cascade, place):
    parts = {"vectors": place / "vectors", "query_encoder": HashedWords(), "rerank": None, "context": None}
    mixed = Pipeline.open(place / "plain", settings=SETTINGS, **parts).ask(QUESTION).ranking.docnos
    ranked = whole_cascade.ask(QUESTION).ranking.docnos
    assert set(ranked[: SETTINGS.read]) == set(mixed[: SETTINGS.read])
    assert ranked[SETTINGS.read :] == mixed[SETTINGS.read :]
    assert mixed != Index.open(place / "plain").search(QUESTION, 1000).docnos


def test_the_nearest_passages_by_vector_join_the_candidates(tmp_path):
    passages, encoder = made_passages(), HashedWords()
    recipe = Recipe(vectors=VectorsStep(sketch=0), ask=SETTINGS)
    build_index(tmp_path / "index", passages, recipe, dense=encoder)

    def asked(count, **settings):
        chosen = SETTINGS.model_copy(update={"neighbours": count, "depth": 5, **settings})
        parts = {"query_encoder": encoder, "rerank": None, "context": None, "settings": chosen}
        return Pipeline.open(tmp_path / "index", **parts).ask(QUESTION, where=None)

    index = Index.open(tmp_path / "index")
    sparse = index.search(QUESTION, 5).docnos
    vector = encoder.encode_queries([QUESTION])[0]
    near = index.search(QUESTION, 20, by="dense", vector=vector).docnos
    answer = asked(20, alpha=0.0, feedback=0)
    assert set(answer.ranking.docnos) == {*sparse, *near}
    assert answer.ranking.docnos[:20] == near
    counts = {account.stage: account.counts for account in answer.usage.stages}["interpolate"]
    assert counts["joined"] == len({*near} - {*sparse}) > 0
    assert answer.exact
    assert asked(20, alpha=1.0).ranking.docnos[:5] == sparse
    assert set(asked(0).ranking.docnos) == set(sparse)


def test_candidates_can_be_brought(whole_cascade):
    hits = [Hit(p.docno, 1.0, rank, p.text, p.title) for rank, p in enumerate(made_passages()[:8], 1)]
    answer = whole_cascade.ask(QUESTION, candidates=hits)
    assert set(answer.ranking.docnos) == {hit.docno for hit in hits}
    assert answer.usage.stages[0].counts == {"candidates": 8}


def test_nothing_found_is_an_empty_answer(whole_cascade):
    answer = whole_cascade.ask("zzz")
    assert (answer.passages, answer.ranking.docnos, answer.context, answer.confidence) == ((), [], "", None)
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


@pytest.mark.parametrize("stage", ["rerank", "select"])
def test_a_failing_stage_degrades_to_the_stage_before_or_raises(place, stage):
    scorer = Broken()
    parts = {"rerank": scorer, "context": None} if stage == "rerank" else {"rerank": None, "context": scorer}
    pipeline = Pipeline.open(place / "plain", settings=SETTINGS, **parts)
    before = Pipeline.open(place / "plain", rerank=None, context=None, settings=SETTINGS).ask(QUESTION)
    scorer.broken = True
    answer = pipeline.ask(QUESTION)
    assert answer.errors == {stage: "ValueError: the model is gone"}
    assert isinstance(next(s for s in answer.stages if s.stage == stage).error, ValueError)
    assert not answer.exact
    assert answer.ranking == before.ranking
    assert [one.text for one in answer.passages] == [one.text for one in before.passages]
    strict = SETTINGS.model_copy(update={"on_error": "raise"})
    with pytest.raises(ValueError, match="the model is gone"):
        Pipeline.open(place / "plain", settings=strict, **parts).ask(QUESTION)
    scorer.broken = False
    assert pipeline.ask(QUESTION).errors == {}


def test_a_stage_that_fails_after_the_selection_leaves_the_selection(place):
    class Last:
        name = "last"

        def predict(self, state):
            return 0.0

        def run(self, state):
            state.promote([1], [1.0], "last")
            raise RuntimeError("too late")

    pipeline = Pipeline.open(place / "plain", settings=SETTINGS)
    before = pipeline.ask(QUESTION)
    pipeline.stages = (*pipeline.stages, Last())
    answer = pipeline.ask(QUESTION)
    assert answer.errors == {"last": "RuntimeError: too late"}
    assert answer.ranking == before.ranking
    assert [one.as_json() for one in answer.passages] == [one.as_json() for one in before.passages]
    assert answer.confidence == before.confidence is not None


def test_failing_interpolation_leaves_the_sparse_ranking(place):
    class Wrong(HashedWords):
        dimensions = 5

    pipeline = Pipeline.open(
        place / "plain", vectors=place / "vectors", query_encoder=Wrong(), rerank=None, context=None
    )
    answer = pipeline.ask(QUESTION)
    assert "the query's vector has the shape (5,)" in answer.errors["interpolate"]
    assert answer.ranking == Pipeline.open(place / "plain", rerank=None, context=None).ask(QUESTION).ranking


def test_a_failing_search_always_raises(place):
    pipeline = Pipeline.open(place / "plain", rerank=None, context=None)
    pipeline.stages[0].index = type("Gone", (), {"search": lambda *_, **__: 1 / 0})()
    with pytest.raises(ZeroDivisionError):
        pipeline.ask(QUESTION)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 10**20}, "k must be a number of at most 63 bits"),
        ({"k": 10**9}, "k is 1000000000; ask for 1 to 1000000 passages"),
        ({"k": "3"}, "k must be a whole number or None, got '3'"),
        ({"k": True}, "k must be a whole number or None, got True"),
        ({"max_context_tokens": -1}, "max_context_tokens is -1"),
        ({"max_context_tokens": 0}, "max_context_tokens is 0; give a whole number of at least 1"),
        ({"max_context_tokens": 7.5}, "max_context_tokens must be a whole number or None, got 7.5"),
        ({"deadline_ms": "250"}, "deadline_ms must be a number or None, got '250'"),
        ({"deadline_ms": -5}, "deadline_ms is -5"),
        ({"deadline_ms": float("nan")}, "deadline_ms must be a number, got nan"),
    ],
)
def test_arguments_out_of_range_are_refused(whole_cascade, arguments, message):
    with pytest.raises(InputError, match=message):
        whole_cascade.ask(QUESTION, **arguments)
    with pytest.raises(InputError, match="query must be text or a Query, got 3"):
        whole_cascade.ask(3)
    with pytest.raises(InputError, match="threads must be at least 1, got 0"):
        whole_cascade.ask_batch([QUESTION], threads=0)
    with pytest.raises(InputError, match="queries must be a list"):
        whole_cascade.ask_batch(QUESTION)


@pytest.mark.parametrize("never", [0, float("inf"), 1e30])
def test_a_deadline_that_never_comes_is_none(whole_cascade, never):
    answer = whole_cascade.ask(QUESTION, deadline_ms=never)
    assert answer.deadline_ms is None
    assert answer.errors == {}
    assert answer.ranking == whole_cascade.ask(QUESTION).ranking


def slow_cascade(place, clock, a_passage=20.0):
    scorer = SlowScorer(clock, a_passage)
    pipeline = Pipeline.open(
        place / "plain",
        vectors=place / "vectors",
        query_encoder=HashedWords(),
        rerank=scorer,
        context=ContextPruner(scorer),
        settings=SETTINGS.model_copy(update={"read": 10}),
        clock=clock,
    )
    pipeline.warm_up(QUESTION)
    return pipeline


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
        read = accounts["rerank"]["passages"] if "rerank" in accounts else 0
        assert read >= last
        assert sorted(answer.ranking.docnos) == sorted(whole.ranking.docnos)
        assert answer.ranking.docnos[read:] == whole.ranking.docnos[read:] or read < 10
        assert report.outcome == ("done" if read == 10 else "cut" if read else "skipped")
        assert ("rerank" in answer.skipped) == (read < 10)
        last = read
    assert last == 10
    assert plain(answer)["ranking"] == plain(whole)["ranking"]


def test_stages_get_time_in_their_order_and_what_does_not_fit_is_named(place):
    clock = Clock()
    pipeline = slow_cascade(place, clock)
    pipeline.costs.observe("interpolate", 30)
    pipeline.costs.observe("select", 2)
    answer = pipeline.ask(QUESTION, deadline_ms=10)
    assert [stage.outcome for stage in answer.stages] == ["done", "skipped", "skipped", "cut"]
    assert "predicted to take" in answer.stages[1].reason
    assert "deadline reached: 3 passages were not pruned" in answer.stages[3].reason
    assert not answer.exact
    assert all(one.text == one.original for one in answer.passages)
    pipeline.costs.observe("select", 500)
    assert pipeline.ask(QUESTION, deadline_ms=10).stages[3].outcome == "skipped"


def test_a_reranker_orders_the_head_and_under_a_deadline_gets_what_time_is_left(place):
    grades = {f"p{i}": i % 4 for i in range(60)}
    judge = SimulatedJudge({"0": grades}, Simulation(noise=0.0))
    reranker = Reranker(judge, "pointwise", depth=8, budget_per_query=Budget(calls=100))
    pipeline = Pipeline.open(place / "plain", rerank=reranker, settings=SETTINGS)
    answer = pipeline.ask(QUESTION)
    head = [grades[docno] for docno in answer.ranking.docnos[:8]]
    assert head == sorted(head, reverse=True)
    assert answer.usage.stages[1].counts["calls"] == 8
    assert reranker.budget_per_query == Budget(calls=100)
    hurried = pipeline.ask(QUESTION, deadline_ms=10_000)
    assert hurried.ranking == answer.ranking


class Reversed:
    """A stage of the caller's: the first passages in reverse."""

    name = "reversed"

    def __init__(self, head, needs=0.0):
        self.head, self.needs, self.texts = head, needs, []

    def predict(self, state):
        return self.needs

    def run(self, state):
        head = state.ranking.cut(self.head)
        self.texts = [passage.text for passage in state.passages(head)]
        state.promote(range(len(head))[::-1], range(len(head), 0, -1), "reversal")
        return StageReport(self.name, counts={"passages": len(head)})


def test_a_stage_of_the_callers_is_put_in_and_another_left_out(place):
    index = Index.open(place / "plain")
    own = Reversed(4)
    pipeline = Pipeline([SearchStage(index), own, SelectStage(LexicalScorer(), threshold=0.0)], k=3, texts=index)
    answer = pipeline.ask(QUESTION)
    found = index.search(QUESTION, 1000)
    assert repr(pipeline) == "<Pipeline: search > reversed > select>"
    assert answer.ranking.docnos == [*found.docnos[:4][::-1], *found.docnos[4:]]
    assert own.texts == [hit.text for hit in found.cut(4)]
    assert [set(one.scores) for one in answer.passages] == [{"search", "reversal"}] * 3
    assert [one.scores["search"] for one in answer.passages] == found.scores[[3, 2, 1]].tolist()
    assert [one.sentences.original for one in answer.passages] == own.texts[:0:-1]
    assert answer.usage.stages[1].counts == {"passages": 4}
    with pytest.raises(ConfigError, match="same name"):
        Pipeline([SearchStage(index), SearchStage(index)])


@pytest.mark.parametrize("repeats", ["drop", "keep"])
def test_the_first_passage_keeps_its_best_sentence_where_that_reaches_the_conservative_preset(place, repeats):
    index = Index.open(place / "plain")
    scorer = LexicalScorer()
    scorer.presets = {"conservative": 0.0001, "balanced": 1.0}  # nothing reaches the second

    def kept(question, threshold="balanced", least=0.0):
        select = SelectStage(scorer, threshold=threshold, repeats=repeats, min_confidence=least)
        answer = Pipeline([SearchStage(index), select], k=3, texts=index).ask(question)
        return [sum(one.sentences.keep) for one in answer.passages if one.sentences.spans]

    assert kept(QUESTION) == [1]
    assert kept(QUESTION, 1.0) == [], "a number is what it says"
    assert kept(QUESTION, least=1.0) == []


def test_a_stage_of_the_callers_is_skipped_by_its_prediction_and_degrades_like_others(place):
    index = Index.open(place / "plain")
    slow = Pipeline([SearchStage(index), Reversed(4, needs=10**9)], texts=index)
    assert slow.ask(QUESTION, deadline_ms=10_000).skipped == ("reversed",)
    assert slow.ask(QUESTION).skipped == ()
    broken = Pipeline([SearchStage(index), Reversed(head=-1)], texts=index)
    answer = broken.ask(QUESTION)
    assert "k must be" in answer.errors["reversed"]
    assert answer.ranking == index.search(QUESTION, 1000)


def test_a_query_keeps_its_qid_and_rankings_become_a_run(whole_cascade):
    answers = whole_cascade.ask_batch([Query("q7", QUESTION), Query("q9", "rye bread")])
    assert [answer.qid for answer in answers] == ["q7", "q9"]
    assert answers[0].ranking.to_run(answers[0].qid)["q7"] == whole_cascade.ask(QUESTION).ranking
    assert answers[0].as_json()["qid"] == "q7"


def test_opening_asks_nothing_writes_nothing_and_needs_no_home(place, tmp_path, monkeypatch):
    monkeypatch.setattr(Index, "search", lambda *_, **__: pytest.fail("a query was asked"))
    monkeypatch.setattr(LexicalScorer, "score", lambda *_: pytest.fail("a model ran"))
    for name in ("HOME", "XDG_CACHE_HOME", "THRESHER_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: pytest.fail("the home directory was looked for"))
    pipeline = Pipeline.open(place / "plain", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert not pipeline.costs.known("search")


def test_warming_up_learns_costs_and_keeps_them_where_asked(place, tmp_path):
    pipeline = Pipeline.open(place / "plain", cache=tmp_path / "cache")
    pipeline.warm_up()
    assert pipeline.costs.known("search")
    again = Pipeline.open(place / "plain", cache=tmp_path / "cache")
    asked = []
    again.stages[0].index = type("Counting", (), {"search": lambda _, *a: asked.append(a) or Ranking(["p1"])})()
    again.texts = Index.open(place / "plain")
    again.warm_up(QUESTION)
    assert len(asked) == 1, "what another process learnt is not measured again"
    assert again.costs.predict("search") == pytest.approx(pipeline.costs.predict("search"))
    unkept = Pipeline.open(place / "plain")
    unkept.warm_up(QUESTION)
    assert unkept.costs.known("search")


def test_warming_up_calls_no_reranker(place):
    judge = SimulatedJudge({"0": {}}, Simulation(noise=0.0))
    pipeline = Pipeline.open(place / "plain", rerank=Reranker(judge, "pointwise"), settings=SETTINGS)
    pipeline.stages[1].run = lambda _: pytest.fail("a call was made")
    pipeline.warm_up(QUESTION)


def test_nothing_is_handed_over_below_min_confidence(place):
    def ask(**settings):
        chosen = SETTINGS.model_copy(update=settings)
        return Pipeline.open(place / "plain", settings=chosen).ask(QUESTION)

    sure = ask(min_confidence=0.0)
    assert sure.passages and not sure.withheld
    at = ask(min_confidence=sure.confidence)
    assert at.passages == sure.passages
    above = ask(min_confidence=sure.confidence + 1e-9)
    assert (above.passages, above.withheld, above.confidence) == ((), True, sure.confidence)
    assert above.ranking == sure.ranking
    assert "below min_confidence" in above.stages[-1].reason


@pytest.mark.parametrize("first", ["dense", "both"])
def test_candidates_can_be_found_by_vectors(place, tmp_path, first):
    build_index(
        tmp_path / "i",
        made_passages(),
        Recipe(ask=SETTINGS.model_copy(update={"first": first}), vectors=VectorsStep()),
        dense=HashedWords(),
    )
    index = Index.open(tmp_path / "i")
    vector = HashedWords().encode_queries([QUESTION])[0]
    dense = index.search(QUESTION, 60, by="dense", vector=vector)
    scores = index.vectors.scores(vector, np.arange(60))
    assert dense.scores.tolist() == sorted(scores.tolist(), reverse=True)
    assert dense.exact and len(dense) == 60
    expected = dense if first == "dense" else index.search(QUESTION, 1000).fuse(dense)
    pipeline = Pipeline.open(index, rerank=None, context=None, vectors=None, query_encoder=HashedWords())
    assert pipeline.ask(QUESTION).ranking.docnos == expected.docnos
    with pytest.raises(InputError, match="weighted terms"):
        index.search({"mill": 1.0}, by="dense")
    with pytest.raises(InputError, match="no vectors"):
        Index.open(place / "plain").search(QUESTION, by="dense")
    with pytest.raises(InputError, match="by must be 'sparse', 'dense' or 'both'; got 'sparsely'"):
        index.search(QUESTION, by="sparsely")


def test_callers_are_told_of_each_stage_as_it_ends(whole_cascade):
    seen = []

    def on_stage(report, state, seconds):
        seen.append((report, state.ranking.docnos, seconds))

    answer = whole_cascade.ask(QUESTION, 3, on_stage=on_stage)
    assert tuple(report for report, _, _ in seen) == answer.stages
    assert [seconds for _, _, seconds in seen] == [one.seconds for one in answer.usage.stages]
    rankings = [docnos for _, docnos, _ in seen]
    assert rankings[-1] == answer.ranking.docnos != rankings[0]
    again = asyncio.run(whole_cascade.aask(QUESTION, 3, on_stage=on_stage))
    assert [report.stage for report, _, _ in seen] == [stage.stage for stage in (*answer.stages, *again.stages)]

    def fails(*_):
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        whole_cascade.ask(QUESTION, on_stage=fails)


def test_stages_are_left_out_over_the_same_models(whole_cascade, place):
    less = whole_cascade.without("interpolate", "rerank")
    assert names(less) == ["search", "select"]
    assert names(whole_cascade) == ["search", "interpolate", "rerank", "select"]
    assert less.off["rerank"] == "left out"
    assert less.stages[1] is whole_cascade.stages[3]
    assert less.ask(QUESTION).ranking.docnos == Index.open(place / "plain").search(QUESTION, 100).docnos
    assert whole_cascade.over(Index.open(place / "plain")).stages[2] is whole_cascade.stages[2]
    for name in ("search", "nothing"):
        with pytest.raises(InputError, match=f"no stage '{name}' to leave out; it can be interpolate or rerank"):
            whole_cascade.without(name)
