"""Windows of long passages: which are read, how ratings are put together, what other judges see."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import ConfigError, InputError
from thresher.llm.client import CallCounts
from thresher.ranking import Ranking
from thresher.records import Hit, Query
from thresher.rerank import Reranker
from thresher.rerank.judges import windowed
from thresher.rerank.long_documents import GAP, WindowedJudge, bm25_of_windows
from thresher.rerank.plans.plan import Answer, Order, Rate


class Client:
    def __init__(self):
        self.counts = CallCounts()


class Reader:
    """Rates a text by how often it says "gold", and orders by that; keeps what it read."""

    name = "reader"

    def __init__(self, at_once=100, lost=()):
        self.comparisons_per_call, self.lost, self.read = at_once, lost, []
        self.calls = 0

    async def answer(self, query, candidates, comparisons, client):
        assert len(comparisons) <= self.comparisons_per_call
        self.calls += 1
        answers = []
        for one in comparisons:
            texts = [candidates[item].text for item in one.items]
            self.read += texts
            gold = [text.count("gold") for text in texts]
            if any(word in text for word in self.lost for text in texts):
                answers.append(None)
            elif isinstance(one, Rate):
                answers.append(Answer((one.items,), score=float(gold[0])))
            else:
                answers.append(Answer(tuple((one.items[i],) for i in np.argsort(-np.array(gold), kind="stable"))))
        return answers


def sentence(*words):
    return f"The {' '.join(words)} lies in the yard by the old mill. "


LONG = (
    "".join(sentence("stone", str(n)) for n in range(6)) + sentence("ore", "gold", "gold") + sentence("stone", "9") * 3
)
SHORT = sentence("ore", "gold")
QUERY = Query("q", "ore")


def hits(*texts):
    return [Hit(f"d{n}", 1.0, n + 1, text, "Title") for n, text in enumerate(texts)]


def ask(judge, candidates, comparisons):
    client = Client()
    return asyncio.run(judge.answer(QUERY, candidates, comparisons, client)), client.counts


def test_only_the_best_windows_are_read_and_the_best_rating_counts():
    reader = Reader()
    judge = WindowedJudge(reader, windows=2, tokens=14)
    answers, counts = ask(judge, hits(LONG, SHORT), [Rate((0,)), Rate((1,))])
    assert [answer.score for answer in answers] == [2.0, 1.0]
    assert (counts.windows, counts.windows_read) == (11, 3)
    assert reader.calls == 1
    assert SHORT in reader.read
    assert judge.name == "reader, 2 windows of 14 tokens"


def test_weights_make_a_mean_of_the_largest_ratings_and_absent_ones_do_not_count():
    both = sentence("ore", "gold", "gold", "gold") + sentence("ore", "gold")
    judge = WindowedJudge(Reader(), windows=3, tokens=15, weights=(3, 1, 1))
    answers, _ = ask(judge, hits(both, SHORT), [Rate((0,)), Rate((1,))])
    assert [answer.score for answer in answers] == [(3 * 3 + 1) / 4, 1.0]


def test_a_window_without_an_answer_is_left_out_and_a_document_without_any_has_none():
    judge = WindowedJudge(Reader(lost=("lost",)), windows=2, tokens=14)
    candidates = hits(sentence("ore", "lost") + sentence("ore", "gold"), sentence("ore", "lost"))
    answers, _ = ask(judge, candidates, [Rate((0,)), Rate((1,))])
    assert answers[0].score == 1.0
    assert answers[1] is None


def test_a_judge_of_one_passage_a_call_reads_the_windows_joined_in_order():
    reader = Reader(at_once=1)
    judge = WindowedJudge(
        reader, windows=2, tokens=14, scorer=lambda _, windows: [t.count("gold") * 2 + ("9" in t) for t in windows]
    )
    ask(judge, hits(LONG), [Rate((0,))])
    assert reader.calls == 1
    assert reader.read == [f"{sentence('ore', 'gold', 'gold').strip()}{GAP}{sentence('stone', '9').strip()}"]


def test_comparisons_see_the_windows_and_short_passages_stay_whole():
    reader = Reader()
    judge = WindowedJudge(reader, windows=1, tokens=14)
    (answer,), _ = ask(judge, hits(SHORT, LONG), [Order((0, 1))])
    assert answer.tiers == ((1,), (0,))
    assert reader.read == [SHORT, sentence("ore", "gold", "gold").strip()]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=6), st.integers(1, 5), st.integers(1, 8))
def test_no_call_is_larger_than_the_judge_takes_and_every_candidate_is_rated(sizes, windows, at_once):
    candidates = hits(*("".join(sentence("stone", str(n)) for n in range(size)) for size in sizes))
    reader = Reader(at_once=at_once)
    reader.rates_only = True
    with Reranker(WindowedJudge(reader, windows=windows, tokens=14)) as reranker:
        result = reranker.rank("stone", Ranking.from_hits(candidates))
    assert sorted(result.docnos) == [hit.docno for hit in candidates]
    assert result.complete
    assert result.usage.windows == sum(max(size, 1) for size in sizes)
    assert result.usage.windows_read <= min(windows, 12) * len(sizes)


def test_bm25_of_windows_prefers_rare_words_of_the_query():
    scores = bm25_of_windows("the zinc", ["the iron", "the zinc", "the", ""])
    assert scores.argmax() == 1
    assert scores[3] == 0


class Blind(Reader):
    reads_text = False


def test_what_does_not_go_together_is_said():
    with pytest.raises(ConfigError, match="reads no texts"):
        WindowedJudge(Blind())
    with pytest.raises(InputError, match="windows"):
        WindowedJudge(Reader(), windows=0)
    with pytest.raises(InputError, match="weights must be"):
        WindowedJudge(Reader(), weights=(0, 1))
    with pytest.raises(InputError, match="2 scores for 10 windows"):
        ask(WindowedJudge(Reader(), tokens=14, scorer=lambda *_: [1, 2]), hits(LONG), [Rate((0,))])
    reader = Reader()
    assert windowed(reader, 0) is reader
    assert windowed(reader, 3).windows == 3
