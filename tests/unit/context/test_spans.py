"""Spans, their text and their cost against plain definitions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.context.spans import approximate_tokens, cut, kept_spans, largest_prefix
from thresher.records import Span


@st.composite
def sentences_of_a_text(draw):
    """A length, ascending disjoint sentences in it with gaps of 0 to 2 code points, and a flag for each."""
    sentences, here = [], draw(st.integers(0, 2))
    for size, gap in draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=8)):
        sentences.append(Span(here, here + size))
        here += size + gap
    keep = draw(st.lists(st.booleans(), min_size=len(sentences), max_size=len(sentences)))
    return here, sentences, keep


@given(sentences_of_a_text())
def test_a_kept_sentence_brings_what_follows_it_unless_it_is_the_last_kept(drawn):
    length, sentences, keep = drawn
    kept = set(range(length)) if all(keep) else set()
    chosen = [number for number, flag in enumerate(keep) if flag]
    for number in chosen if not all(keep) else ():
        end = sentences[number].end if number == chosen[-1] else sentences[number + 1].start
        kept |= set(range(sentences[number].start, end))
    runs = re.finditer("x+", "".join("x" if at in kept else "." for at in range(length)))
    assert kept_spans(length, sentences, keep) == tuple(Span(*run.span()) for run in runs)


def test_a_text_of_nothing_has_no_span():
    assert kept_spans(0, [], []) == ()
    assert kept_spans(3, [], []) == (Span(0, 3),)


def test_an_ellipsis_stands_for_words_and_not_for_white_space():
    text = "  One. Two.  Three.  "
    assert cut(text, [Span(2, 6)], "…") == "One.…"
    assert cut(text, [Span(7, 11)], "…") == "…Two.…"
    assert cut(text, [Span(2, 7), Span(13, 19)], "…") == "One. …Three."
    assert cut(text, [Span(2, 7), Span(13, 19)]) == "One. Three."
    assert cut(text, [], "…") == "…"
    assert cut("   ", [], "…") == ""


@given(st.integers(0, 40), st.integers(-1, 45))
def test_the_largest_prefix_that_fits_is_found(n, last):
    assert largest_prefix(n, lambda m: m <= last) == max(0, min(n, last))


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_a_prefix_fits_even_where_longer_ones_fit_and_shorter_do_not(fits):
    found = largest_prefix(len(fits) - 1, lambda m: fits[m])
    assert found == 0 or fits[found]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0), ("a", 1), ("abcdefghij", 1), ("abcdefghijk", 2), ("abcdefghijklmnop", 2), ("abcdefghijklmnopq", 3),
        ("123", 1), ("1234", 2), ("a\n\n b", 3), ("a  b", 2), ("don't", 3), ("你好", 2), ("é", 1),
    ],
)  # fmt: skip
def test_tokens_are_estimated_by_the_stated_rule(text, tokens):
    assert approximate_tokens(text) == tokens
