"""An index of BM25 and a learned encoder scores by their exact sum, and its BM25 part is as in an index of it alone."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import PLANS

from tests.word_pairs import HEAVY, NAME, WORDS, WordPairs, registered
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.encode.bm25 import Bm25Encoder
from thresher.encode.hybrid import CEILING, LEARNED
from thresher.records import Passage
from thresher.search import Index
from thresher.text.analyzer import analyzer

TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join), min_size=1, max_size=25)
QUERIES = st.lists(st.sampled_from([*WORDS, "absent"]), min_size=1, max_size=6).map(" ".join)
WEIGHTS = st.sampled_from([0.0, 0.25, 1.0, 3.7])
ANALYZE = analyzer("english")
STEP = 1 / 65535


@pytest.fixture(autouse=True, scope="module")
def installed():
    with pytest.MonkeyPatch.context() as patch:
        registered(patch)
        yield


def made(folder, texts, weight=1.0, encoder=f"bm25+{NAME}"):
    recipe = {"encode": {"encoder": encoder, **({"learned_weight": weight} if "+" in encoder else {})}}
    passages = [Passage(f"d{i:02}", text) for i, text in enumerate(texts)]
    build_index(Path(folder, encoder), passages, Recipe.model_validate(recipe))
    return Index.open(Path(folder, encoder))


def rows_of(batch, vocabulary):
    """Each row as weights by term string."""
    return [
        {vocabulary[t]: w for t, w in zip(batch.terms[low:high].tolist(), batch.weights[low:high], strict=True)}
        for low, high in zip(batch.indptr[:-1], batch.indptr[1:], strict=True)
    ]


def by_definition(texts, query, weight):
    """Each passage's score: as an index adds it, and without rounding."""
    bm25, learned = Bm25Encoder.fit(texts), WordPairs()
    counts = Counter(term for term in ANALYZE(query) if term in bm25.vocabulary)
    idf = dict(zip(bm25.vocabulary, bm25.idf, strict=True))
    asked = {term: np.float32(count * idf[term]) for term, count in counts.items()}
    (own,) = rows_of(learned.encode_queries([query]), learned.vocabulary)
    asked |= {LEARNED + term: w * np.float32(weight * CEILING) for term, w in own.items()}
    stored = rows_of(bm25.encode_passages(texts), bm25.vocabulary)
    for row, more in zip(stored, rows_of(learned.encode_passages(texts), learned.vocabulary), strict=True):
        row |= {LEARNED + term: np.float32(w / CEILING) for term, w in more.items()}
    rounded, exact = [], []
    for row in stored:
        impacts = {term: min(max(np.rint(float(w) / STEP), 1), 65535) for term, w in row.items()}
        rounded.append(sum(float(asked[t]) * impacts[t] for t in sorted(asked) if t in row) * STEP)
        exact.append(sum(float(asked[t]) * min(float(row[t]), 1) for t in asked if t in row))
    return rounded, exact, sum(map(float, asked.values()))


@settings(max_examples=20)
@given(TEXTS, QUERIES, WEIGHTS, st.sampled_from(PLANS), st.integers(1, 30))
def test_a_score_is_bm25_plus_the_weighted_learned_score_and_the_best_are_found(texts, query, weight, plan, k):
    texts = [*(text or "the" for text in texts), "grain"]
    rounded, exact, largest = by_definition(texts, query, weight)
    with tempfile.TemporaryDirectory() as folder, made(folder, texts, weight) as index:
        found = index.search(query, k, plan=plan)
        assert found.exact
        order = sorted((-score, f"d{i:02}") for i, score in enumerate(rounded) if score > 0)
        assert [(-s, d) for d, s in found.pairs()] == order[:k]
        for docno, score in found.pairs():
            assert abs(score - exact[int(docno[1:])]) <= largest * STEP * (1 / 2 + 1e-3), "half a step a term"
        batch = index.search_batch([query, index.terms(query)], k)
        assert [list(batch[qid].pairs()) for qid in "01"] == [list(found.pairs())] * 2
        terms, weights = index.terms(query)
        names = index._now.first.space.vocabulary
        mapping = {names.term(t): float(w) for t, w in zip(terms.tolist(), weights, strict=True)}
        assert list(index.search(mapping, k).pairs()) == list(found.pairs())


@settings(max_examples=6)
@given(TEXTS, QUERIES)
def test_without_its_learned_part_a_score_is_that_of_an_index_of_bm25_alone(texts, query):
    texts = [*(text or "the" for text in texts), "grain"]
    with (
        tempfile.TemporaryDirectory() as folder,
        made(folder, texts) as both,
        made(folder, texts, encoder="bm25") as one,
    ):
        rows = both.encoder.with_weight(0).encode_queries([query])
        found = both.search((rows.terms, rows.weights), 30)
        assert list(found.pairs()) == list(one.search(query, 30).pairs())
        assert both.layouts[0].tokens.tolist() == one.layouts[0].tokens.tolist()


def test_learned_weights_above_the_ceiling_are_clamped_and_counted(tmp_path):
    with made(tmp_path, ["grain", "grain mill", "mill"]) as index:
        counts = index._now.collection.parts[0].layout.manifest.fields["counts"]
        assert (counts["bits"], counts["clamped"]) == (16, 2)
        (hit,) = index.search({f"{LEARNED}grain": 1.0}, 1)
        assert hit.score == 1.0 < HEAVY / CEILING


def test_a_weight_may_be_tried_without_building_again(tmp_path):
    with (
        made(tmp_path, ["grain chaff", "mill", "chaff wind grain", "wind"], 2.0) as index,
        made(tmp_path / "x", ["grain chaff", "mill", "chaff wind grain", "wind"], 0.5) as other,
    ):
        encoder = index.encoder.with_weight(0.5)
        run = index.search_batch(encoder.encode_queries(["grain wind", "flour"]), 4)
        assert [list(run[qid].pairs()) for qid in "01"] == [
            list(other.search(query, 4).pairs()) for query in ("grain wind", "flour")
        ]
        assert index.encoder.weight == 2.0


def test_a_query_that_is_searched_again_is_not_encoded_again(tmp_path):
    asked = []

    class Counting:
        def __init__(self, of):
            self.of = of

        def encode_queries(self, texts):
            asked.extend(texts)
            return self.of.encode_queries(texts)

    with made(tmp_path, ["grain chaff", "mill", "chaff wind grain", "wind"]) as index:
        expected = {query: list(index.search(query, 4).pairs()) for query in ("grain wind", "mill")}
        index.encoder.learned = Counting(index.encoder.learned)
        for query in ("mill", "grain wind", "grain wind", "mill"):
            assert list(index.search(query, 4).pairs()) == expected[query]
    assert asked == ["grain wind", "mill"], "the last query of all was mill"
