"""Windows over a document: nothing lost, nothing too long, always forward."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from thresher.corpus.base import DocnoSet
from thresher.corpus.stream import windows

TEXTS = st.lists(
    st.sampled_from(["One ", "two. ", "Three", "\n\n", "- ", "? ", "x.y ", "日本。", "(", ") ", "\t", "!"]), max_size=60
)


@given(TEXTS.map("".join), st.integers(1, 12), st.data())
def test_windows_cover_the_text_within_budget_and_overlap(text, tokens, data):
    overlap = data.draw(st.integers(0, tokens - 1))
    spans = windows(text, tokens, overlap)
    covered = {at for span in spans for at in range(span.start, span.end)}
    assert all(at in covered for at, char in enumerate(text) if not char.isspace())
    count = lambda start, end: len(re.findall(r"\w+|[^\w\s]", text[start:end]))  # noqa: E731
    for span in spans:
        assert 1 <= count(span.start, span.end) <= tokens
    for before, after in pairwise(spans):
        assert before.start < after.start
        assert before.end < after.end
        assert after.start >= before.end or count(after.start, before.end) <= overlap


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(2, 14), st.data())
def test_an_overlap_is_as_many_whole_sentences_as_fit_and_no_more(lengths, tokens, data):
    overlap = data.draw(st.integers(0, tokens - 1))
    sizes = [min(length, tokens - 1) + 1 for length in lengths]  # words and a full stop
    sentences = [" ".join(["Word", *["word"] * (size - 2)]) + "." for size in sizes]
    text = " ".join(sentences)
    starts = [len(" ".join(sentences[:i])) + (i > 0) for i in range(len(sentences))]
    expected, first = [], 0
    while True:
        stop = first
        while stop < len(sizes) and sum(sizes[first : stop + 1]) <= tokens:
            stop += 1
        expected.append((starts[first], starts[stop - 1] + len(sentences[stop - 1])))
        if stop == len(sizes):
            break
        allowed = [
            back
            for back in range(first + 1, stop + 1)
            if sum(sizes[back:stop]) <= overlap and sum(sizes[back : stop + 1]) <= tokens
        ]
        first = min(allowed)
    assert [(span.start, span.end) for span in windows(text, tokens, overlap)] == expected


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=60))
def test_a_docno_is_new_exactly_once(docnos):
    seen = DocnoSet()
    known = set()
    for docno in docnos:
        assert seen.add(docno) == (docno not in known)
        known.add(docno)
    assert len(seen) == len(known)
