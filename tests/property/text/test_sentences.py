"""Sentences of any Unicode text cover it, in order, once."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from thresher.text.sentences import split_sentences

BLOCKS = ["\n", "\r\n", "\n\n", "```", "~~~~", "- ", "1. ", "| ", " |", "\t", "# ", "===", "---", ">>> ", "+--+"]
PROSE = [". ", "! ", "? ", "...", "(", ")", "[", "”", '"', "'", "e.g. ", "Dr. ", "A", "b", "word ", "Next ", "3", ".5"]
ODD = ["。", "」", "\u200b", "\u00a0", "\u2028", "\x1c", "-", "_", "’s", "😀", "e\u0301", "\ufeff", ";", "…", "U.S. "]
LAYOUT = st.sampled_from([*BLOCKS, *PROSE, *ODD])
TEXTS = st.one_of(st.text(max_size=80), st.lists(LAYOUT, max_size=40).map("".join))


@settings(max_examples=400)
@given(TEXTS)
@example("\u200b. \u200b\u200b. A")
@example("[].)]. A")
def test_spans_are_ordered_disjoint_trimmed_and_cover_every_visible_character(text):
    spans = split_sentences(text)
    covered = set()
    last = 0
    for span in spans:
        assert last <= span.start < span.end <= len(text)
        assert not text[span.start].isspace()
        assert not text[span.end - 1].isspace()
        covered.update(range(span.start, span.end))
        last = span.end
    assert all(at in covered for at, char in enumerate(text) if not char.isspace())


@given(TEXTS)
def test_the_same_text_gives_the_same_spans(text):
    assert split_sentences(text) == split_sentences(text)
