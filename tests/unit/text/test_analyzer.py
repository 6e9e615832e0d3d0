"""Analyzers: words by Unicode's boundaries, and terms as Lucene's English analyzer makes them."""

import json
import pickle
from pathlib import Path

import pytest

from thresher.errors import ConfigError
from thresher.text.analyzer import ANALYZERS, MAX_TOKEN, STOP_WORDS, analyzer, words

GOLDEN = Path(__file__).parents[2] / "golden" / "analyzer"


def golden(name):
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", golden("words.json"), ids=lambda case: case["text"][:30])
def test_words_are_those_of_lucenes_standard_tokenizer(case):
    assert words(case["text"]) == case["terms"]


@pytest.mark.parametrize("case", golden("english.json"), ids=lambda case: case["text"][:30])
def test_terms_are_those_of_lucenes_english_analyzer(case):
    assert analyzer("english")(case["text"]) == case["terms"]


def test_stems_are_those_of_lucenes_porter_stemmer():
    english = analyzer("english")
    wrong = {word: english(word) for word, term in golden("stems.json").items() if english(word) != [term]}
    assert wrong == {}


def test_there_are_lucenes_33_stop_words_and_none_of_them_is_a_term():
    assert len(STOP_WORDS) == 33
    assert analyzer("english")(" ".join(STOP_WORDS).upper()) == []


def test_plain_analyzers_do_what_they_say():
    assert analyzer("unicode")("The Cats' naïve ΣΑΣ don't") == ["the", "cats", "naïve", "σασ", "don't"]
    assert analyzer("whitespace")(" The  Cats' ") == ["The", "Cats'"]


def test_a_long_word_is_cut_and_read_on():
    assert [len(word) for word in words("x" * 600)] == [MAX_TOKEN, MAX_TOKEN, 90]
    assert words("1," * 200 + "é") == ["1," * 127 + "1", "1," * 71 + "1", "é"]


def test_the_quick_road_for_latin_text_leads_to_the_same_words():
    for text in ("naïve café’s A_b l'été 3,5·4 «x» 10€ __", "don't U.S.A. a:b 1.2,3 x_y_ z."):
        assert words(text) == [word for word in words(text + " 日") if word != "日"]


def test_an_unknown_analyzer_is_refused_and_known_ones_travel_between_processes():
    with pytest.raises(ConfigError, match="english"):
        analyzer("englisch")
    for name in ANALYZERS:
        copy = pickle.loads(pickle.dumps(analyzer(name)))  # noqa: S301
        assert copy.fingerprint == analyzer(name).fingerprint
        assert copy("Cats run") == analyzer(name)("Cats run")
    assert len({analyzer(name).fingerprint for name in ANALYZERS}) == 3
