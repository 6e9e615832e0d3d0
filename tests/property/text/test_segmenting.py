"""The starts of sentences are those of syntok's segmenter, and found in a number of steps that grows with the text."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syntok.segmenter import State, segment
from syntok.tokenizer import Tokenizer

from thresher.text.segmenting import segment_starts
from thresher.text.sentences import split_sentences

PIECES = [
    "(", ")", "[", "]", "{", "}", "（", "）", "\u2329", "\u232a", ".", "...", "!", "?", ";", "。", ",", ":", '"', "'",
    "”", "»", " ", " ", " ", "  ", "\n", "\u200b", "-", "_", "a", "b", "A", "I", "IV", "x1", "1", "12", "2024", "no",
    "No", "Jan", "Dr", "etc", "The", "Because", "word", "Word", "it", "It", "e.g", "U.S", "don't", "camelCase", "好",
    "é", "١", "²",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.sampled_from(["( ", " (", ". ", ". The ", ".) ", " Word. "])).map("".join)


def tokens(text):
    return Tokenizer(replace_not_contraction=False).tokenize(text)


@settings(max_examples=200, deadline=None)
@given(texts | st.text(max_size=60))
def test_the_starts_are_those_of_syntok(text):
    wanted = [sentence[0].offset for sentence in segment(tokens(text))]
    assert list(segment_starts(tokens(text))) == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=45, max_size=130).map(" ".join))
def test_brackets_that_are_closed_late_are_those_of_syntok(text):
    wanted = [sentence[0].offset for sentence in segment(tokens(f"A ({text}) b. C"))]
    assert list(segment_starts(tokens(f"A ({text}) b. C"))) == wanted


@pytest.mark.parametrize("inside", [46, 47, 48, 49, 50, 51])
def test_the_last_token_that_may_close_a_bracket(inside):
    text = f"See ({'a ' * inside}) b. Then (Word {'a ' * inside}more.) Next."
    assert list(segment_starts(tokens(text))) == [sentence[0].offset for sentence in segment(tokens(text))]


def calls(text):
    """How many functions of Python are called to split a text."""
    count = 0

    def called(frame, event, _):
        nonlocal count
        count += event == "call"

    sys.setprofile(called)
    try:
        split_sentences(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        "[",
        "(a ",
        "A(",
        "A) ",
        "(A. ",
        '"',
        ". ",
        "... ",
        "a. ",
        "1. ",
        "Dr. ",
        "a\n",
        "- a\n",
        "好。",
        "。(",
        "| a\n",
    ],
)
def test_the_work_grows_with_the_text(unit):
    split_sentences("Load (it). Both.")
    small, large = (calls("A" + unit * (size // len(unit))) for size in (1000, 4000))
    assert large <= 5 * small + 200
    assert large <= 30 * 4000


def test_the_rules_are_there():
    assert State.max_bracket_skipping_length == 70
