"""Windows over a document: nothing lost, nothing too long, always forward."""

import re
import unicodedata
from itertools import pairwise

import regex
from hypothesis import given
from hypothesis import strategies as st

from thresher.corpus import split
from thresher.corpus.base import DocnoSet
from thresher.corpus.split import token_count, windows

PIECES = ["One ", "two. ", "Three", "\n\n", "- ", "? ", "x.y ", "日本。", "(", ") ", "\t", "!", "x" * 30]
UNICODE = [
    *(
        "我们",
        "，",
        "ไทย",
        "ភាសា",
        "မြန်မာ",
        "ລາວ",
        "한국",
        "हिन्दी ",
        "। ",
        "e\u0301",
        "\u0301",
        "\ufe0f",
        "\u200d",
        "\u200c",
    ),
    *(
        "👩\u200d💻",
        "👍🏽",
        "🇩🇪",
        "🇫🇷",
        "ガ",
        "か\u3099",
        "\r\n",
        "\x1c",
        "\u0600",
        "²",
        "\u1100",
        "\u1161",
        "ש\u05b8",
        "\u0e33",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60)
ANY = st.lists(st.sampled_from([*PIECES, *UNICODE]) | st.characters(exclude_categories=["Cs"]), max_size=60)
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


def borders(text):
    """Where the characters that readers see begin."""
    return {found.start() for found in regex.finditer(r"\X", text)} | {len(text)}


@given(ANY.map("".join), st.integers(1, 12), st.data())
def test_windows_tile_any_text_and_never_cut_a_character(text, tokens, data):
    overlap = data.draw(st.integers(0, tokens - 1))
    spans = windows(text, tokens, overlap)
    covered = {at for span in spans for at in range(span.start, span.end)}
    assert all(at in covered for at, char in enumerate(text) if not char.isspace())
    edges = borders(text)
    for span in spans:
        assert span.end in edges
        begin = text[span.start]
        assert span.start in edges or text[span.start - 1].isspace()
        assert span.start == 0 or not text[: span.start].strip() or unicodedata.category(begin) not in ("Mn", "Mc")
        assert len(UNSPACED.findall(unicodedata.normalize("NFC", text[span.start : span.end]))) <= 8 * tokens
    for before, after in pairwise(spans):
        assert before.start < after.start
        assert before.end < after.end
        if not overlap:
            assert after.start >= before.end


@given(TEXTS.map("".join), st.integers(1, 12), st.data())
def test_windows_cover_the_text_within_budget_and_overlap(text, tokens, data):
    overlap = data.draw(st.integers(0, tokens - 1))
    spans = windows(text, tokens, overlap)
    count = lambda start, end: len(re.findall(r"[日本]|(?:(?![日本])\w){1,24}|[^\w\s]", text[start:end]))  # noqa: E731
    for span in spans:
        assert 1 <= count(span.start, span.end) <= tokens
    for before, after in pairwise(spans):
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


WORDS = st.sampled_from([
    "a", "b1_", "x" * 30, " ", "  ", "\n", ".", "\N{COMBINING ACUTE ACCENT}", "\xa0", "\x1c", "\x1f", "\x85", "\u0600",
    "\N{ZERO WIDTH JOINER}", "\N{VARIATION SELECTOR-16}", "\N{THUMBS UP SIGN}", "漢", "ไทย", "é", "\u093f", "\u0e33",
    "\u1100",
])  # fmt: skip


@given(st.lists(WORDS, max_size=8).map("".join) | st.text(max_size=20))
def test_tokens_counted_word_by_word_are_those_of_the_whole_text(text):
    pattern = split._ASCII if text.isascii() else split._TOKEN
    assert token_count(text) == len(pattern.findall(text))
