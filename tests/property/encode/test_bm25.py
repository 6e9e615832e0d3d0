"""Encoders against definitions, for any text."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thresher.encode.bm25 import Bm25Encoder, lucene_length
from thresher.encode.terms import fit_scale
from thresher.text.analyzer import ANALYZERS, MAX_TOKEN, analyzer, words

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(UNICODE, max_size=8), st.sampled_from(ANALYZERS), st.floats(0, 5), st.floats(0, 1))
def test_a_passage_has_its_terms_and_finite_positive_weights(texts, name, k1, b):
    encoder = Bm25Encoder.fit(texts, analyzer=name, k1=k1, b=b)
    batch = encoder.encode_passages(texts)
    queries = encoder.encode_queries(texts)
    assert np.isfinite(batch.weights).all()
    assert ((batch.weights > 0) & (batch.weights <= 1)).all()
    np.testing.assert_array_equal(batch.terms, queries.terms)
    for row, text in enumerate(texts):
        at = slice(queries.indptr[row], queries.indptr[row + 1])
        counts = Counter(analyzer(name)(text))
        wanted = [counts[encoder.vocabulary[term]] * encoder.idf[term] for term in queries.terms[at]]
        np.testing.assert_array_equal(queries.weights[at], np.array(wanted, np.float32))
        assert len(wanted) == len(counts)


@given(
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(2**-20, 2**20, width=32)), st.sampled_from([8, 16])
)
def test_impacts_are_within_half_a_scale_and_keep_order(weights, bits):
    scale = fit_scale(float(weights.max()), bits)
    impacts = scale.quantize(weights)
    assert impacts.max() == scale.largest
    assert impacts.min() >= 1
    error = np.abs(impacts.astype(np.float64) * scale.scale - weights)
    assert (error <= np.maximum(scale.scale / 2, scale.scale - weights) * (1 + 1e-6)).all()
    order = np.argsort(weights, kind="stable")
    assert (np.diff(impacts[order].astype(np.int64)) >= 0).all()
    np.testing.assert_array_equal(scale.quantize(scale.restore(impacts)), impacts)


@given(st.lists(st.integers(0, 10**7), min_size=1))
def test_lucene_lengths_are_at_most_an_eighth_too_short(lengths):
    lengths = np.array(lengths)
    rounded = lucene_length(lengths)
    assert (rounded <= lengths).all()
    assert (lengths - rounded <= np.maximum(lengths - 24, 0) / 8).all()
    np.testing.assert_array_equal(lucene_length(rounded), rounded)


@given(UNICODE)
def test_words_are_slices_of_the_text_in_order(text):
    at = 0
    for word in words(text):
        at = text.index(word, at) + len(word)
        assert 0 < len(word) <= MAX_TOKEN
        assert not any(char.isspace() and char != "\u180e" for char in word)
