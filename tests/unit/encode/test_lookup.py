"""Terms of an expansion encoder, on a small vocabulary of word pieces made here."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.encode.lookup import FIRST_TERM, SPLIT, WordPieceTerms, shared_forms
from thresher.errors import InputError

WORDS = ["pond", "ponds", "fish", "fishing", "gold", "##fish", "##ly", "as", "café", "!"]
PIECES = [*(f"[unused{i}]" for i in range(FIRST_TERM)), *WORDS]


def at(word):
    return FIRST_TERM + WORDS.index(word)


class Encoding:
    """What `tokenizers.Encoding` has: ids of pieces, and the word that each is of."""

    def __init__(self, *words):
        parts = [word.split() for word in words]
        self.ids = [at(piece) for part in parts for piece in part]
        self.word_ids = [i for i, part in enumerate(parts) for _ in part]


def test_forms_of_a_word_share_the_most_frequent_ones_term():
    shared = shared_forms(PIECES)
    assert shared[at("ponds")] == at("pond")
    assert shared[at("fishing")] == at("fish")
    for word in ("pond", "fish", "gold", "##fish", "##ly", "as", "café", "!"):
        assert shared[at(word)] == at(word)
    assert (shared[:FIRST_TERM] == np.arange(FIRST_TERM)).all()


def test_a_rare_word_counts_as_a_whole_and_its_pieces_count_less():
    terms = WordPieceTerms(PIECES, shared_forms(PIECES), buckets=64)
    found, length = terms.count(Encoding("gold ##fish", "ponds", "pond", "gold"))
    (bucket,) = [term for term in found if term >= len(PIECES)]
    assert found == {bucket: 1.0, at("gold"): 1 + SPLIT, at("##fish"): SPLIT, at("pond"): 2.0}
    assert length == 4
    assert terms.vocabulary[bucket] == f"[word{bucket - len(PIECES)}]"
    assert len(terms.vocabulary) == len(set(terms.vocabulary)) == len(PIECES) + 64


def test_a_cut_word_whose_stem_is_known_is_that_form():
    terms = WordPieceTerms(PIECES, shared_forms(PIECES), buckets=64)
    found, _ = terms.count(Encoding("fish ##ly"))  # "fishly" stems to "fish"
    assert found == {at("fish"): 1 + SPLIT, at("##ly"): SPLIT}


def test_without_buckets_pieces_are_terms():
    found, length = WordPieceTerms(PIECES).count(Encoding("gold ##fish", "ponds", "ponds"))
    assert found == {at("gold"): 1.0, at("##fish"): 1.0, at("ponds"): 2.0}
    assert length == 4


@given(st.lists(st.lists(st.sampled_from(["gold", "gold ##fish", "ponds", "fish", "!"]), max_size=6), max_size=5))
def test_many_texts_are_counted_like_each(texts):
    terms = WordPieceTerms(PIECES, shared_forms(PIECES), buckets=16)
    encodings = [Encoding(*words) for words in texts]
    counted = terms.count_all(encodings)
    assert counted.lengths.tolist() == [len(words) for words in texts]
    for i, encoding in enumerate(encodings):
        row = slice(counted.indptr[i], counted.indptr[i + 1])
        assert (np.diff(counted.terms[row]) > 0).all()
        expected = terms.count(encoding)[0]
        assert Counter(dict(zip(counted.terms[row].tolist(), counted.counts[row].tolist(), strict=True))) == expected
        assert (counted.rows()[row] == i).all()


@pytest.mark.parametrize("shared", [np.arange(3), np.full(len(PIECES), -1), np.full(len(PIECES), len(PIECES))])
def test_a_table_that_does_not_fit_is_refused(shared):
    with pytest.raises(InputError, match="one term each"):
        WordPieceTerms(PIECES, shared)
