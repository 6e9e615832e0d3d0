"""Whatever is asked for, with whatever time: an answer is whole, in bounds, and the same again."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.build.recipe import AskStep
from thresher.build.stream import build_index
from thresher.context import ContextPruner
from thresher.context.scorers import LexicalScorer
from thresher.pipeline import Pipeline
from thresher.records import Passage

WORDS = ("grain", "chaff", "mill", "flour", "wheat", "rye", "oven", "bread")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class SlowScorer(LexicalScorer):
    """The lexical scorer; every passage moves the clock by as much as the test drew."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.milliseconds = clock, 10.0

    def score(self, pairs):
        self.clock.now += self.milliseconds * len(pairs) / 1000
        return super().score(pairs)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    rng = random.Random(3)
    passages = [
        Passage(f"p{i}", ". ".join(" ".join(rng.choices(WORDS, k=5)) for _ in range(rng.randint(1, 4))) + ".")
        for i in range(40)
    ]
    folder = tmp_path_factory.mktemp("answers")
    build_index(folder / "index", passages, "bm25")
    clock = Clock()
    scorer = SlowScorer(clock)
    pipeline = Pipeline.open(
        folder / "index", rerank=scorer, context=ContextPruner(scorer), settings=AskStep(read=8), clock=clock
    )
    return pipeline, scorer


@settings(max_examples=40)
@given(
    words=st.lists(st.sampled_from((*WORDS, "unknown")), max_size=4),
    k=st.integers(1, 12),
    tokens=st.none() | st.integers(1, 60),
    deadline=st.none() | st.floats(0.1, 400),
    a_passage=st.sampled_from([0.1, 5.0, 40.0]),
)
def test_an_answer_is_whole_in_bounds_and_in_time(slow, words, k, tokens, deadline, a_passage):
    pipeline, scorer = slow
    scorer.milliseconds = a_passage
    for _ in range(3):  # what a passage takes now is learnt
        pipeline.ask("grain flour", 1)
    query = " ".join(words)
    whole = pipeline.ask(query, k)
    answer = pipeline.ask(query, k, max_context_tokens=tokens, deadline_ms=deadline)
    assert sorted(answer.ranking.docnos) == sorted(whole.ranking.docnos)
    assert len(answer.passages) == min(k, len(answer.ranking))
    assert [one.docno for one in answer.passages] == [answer.ranking.docnos[one.rank - 1] for one in answer.passages]
    assert [one.rank for one in answer.passages] == sorted({one.rank for one in answer.passages})
    assert all(one.spans for one in answer.passages if one.rank > k), "only a passage with something takes a place"
    if tokens is not None:
        assert answer.tokens <= tokens
    for one in answer.passages:
        assert one.text == "".join(one.original[span.start : span.end] for span in one.spans)
    if deadline is None:
        assert answer.ranking == whole.ranking
        assert answer.exact
    else:
        assert answer.milliseconds <= deadline + a_passage
        assert answer.exact == (not answer.skipped)
    assert {account.stage for account in answer.usage.stages} == {
        stage.stage for stage in answer.stages if stage.outcome in ("done", "cut")
    }
