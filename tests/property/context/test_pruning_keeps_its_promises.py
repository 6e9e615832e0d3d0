"""What pruning promises for any text, any scores and any budget."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thresher.context import ContextPruner, PassageScores
from thresher.context.scorers import combine
from thresher.context.spans import cut, kept_spans, largest_prefix
from thresher.models.windows import sentence_tokens, windows
from thresher.records import Passage, Span
from thresher.text.sentences import split_sentences

ODD = (
    "a\u0301e\u0308 \u05e9\u05dc\u05d5\u05dd. \u200b\ufeff\x00! "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467? 你好。 x\n- item\n\n| a | b |\n| c | d |\n"
)
texts = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(["One. ", "Two words! ", "Really? ", "\n\n", "- an item\n", ODD, " ", "\x00", "é", "🙂 "]),
        max_size=15,
    ).map("".join),
)


class HashScorer:
    """Scores that look random and depend on nothing but query and sentence."""

    name = "hash"
    presets = {"balanced": 0.5}  # noqa: RUF012

    def score(self, pairs):
        out = []
        for query, passage in pairs:
            scores = [_number(query + passage.text[s.start : s.end]) for s in passage.sentences]
            out.append(PassageScores(_number(query + passage.text) * 10 - 5, tuple(scores)))
        return out


def _number(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") / 2**32


def words(text: str) -> int:
    return len(text.split())


pruner = ContextPruner(HashScorer(), count_tokens=words)


@given(texts, st.floats(0, 1))
@example("", 0.0)
@example("x", 1.0)
@example(ODD, 0.5)
def test_spans_are_valid_ordered_disjoint_and_inside(text, threshold):
    (pruned,) = pruner.prune("q", [text], threshold=threshold)
    here = -1
    for span in pruned.spans:
        assert here < span.start < span.end <= len(text)
        here = span.end
    for sentence, kept in zip(pruned.sentences, pruned.keep, strict=True):
        inside = any(span.start <= sentence.start and sentence.end <= span.end for span in pruned.spans)
        outside = all(span.end <= sentence.start or sentence.end <= span.start for span in pruned.spans)
        assert inside if kept else outside


@given(texts, st.floats(0, 1))
def test_what_is_left_is_the_concatenation_of_slices(text, threshold):
    (pruned,) = pruner.prune("q", [text], threshold=threshold)
    assert pruned.text == "".join(text[span.start : span.end] for span in pruned.spans)
    assert pruned.original == text
    if text:
        assert pruned.saved_characters == pytest.approx(1 - len(pruned.text) / len(text))


@given(texts)
def test_threshold_zero_keeps_all(text):
    (pruned,) = pruner.prune("q", [text], threshold=0)
    assert all(pruned.keep)
    if pruned.sentences:
        assert pruned.text == text


@given(texts, st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
def test_without_a_budget_a_higher_threshold_never_keeps_more(text, one, other, min_keep):
    low, high = sorted((one, other))
    passages = [text, "Another. Text here! Is it?"]
    more = pruner.prune("q", passages, threshold=low, min_keep=min_keep)
    less = pruner.prune("q", passages, threshold=high, min_keep=min_keep)
    for a, b in zip(more, less, strict=True):
        assert all(x or not y for x, y in zip(a.keep, b.keep, strict=True))


@given(
    st.lists(texts, max_size=4), st.integers(0, 40), st.floats(0, 1), st.integers(0, 2), st.sampled_from(["", " […] "])
)
def test_the_token_budget_is_never_exceeded(bodies, budget, threshold, min_keep, ellipsis):
    passages = [Passage(str(n), text, "A title") for n, text in enumerate(bodies)]
    pruned = pruner.prune("q", passages, threshold=threshold, max_tokens=budget, min_keep=min_keep, ellipsis=ellipsis)
    assert sum(words(p.contents) for p in pruned) <= budget
    assert [p.tokens for p in pruned] == [words(p.contents) for p in pruned]


@given(st.lists(texts, min_size=1, max_size=4), st.integers(1, 3))
def test_every_passage_keeps_as_many_sentences_as_asked(bodies, min_keep):
    for pruned in pruner.prune("q", bodies, threshold=1.0, min_keep=min_keep):
        assert sum(pruned.keep) >= min(min_keep, len(pruned.keep) - len(pruned.ties.headings))


@given(st.lists(texts, max_size=5), st.permutations(range(5)))
def test_order_and_company_change_no_result(bodies, order):
    together = pruner.prune("q", [Passage(str(n), t) for n, t in enumerate(bodies)], threshold=0.5)
    for number in (n for n in order if n < len(bodies)):
        (alone,) = pruner.prune("q", [Passage(str(number), bodies[number])], threshold=0.5)
        assert alone == together[number]


def test_a_text_of_100_000_words_is_pruned():
    text = "The grain is kept. The chaff is dropped! " * 12_500
    (pruned,) = pruner.prune("q", [text], threshold=0.5, max_tokens=1_000)
    assert len(pruned.sentences) == 25_000
    assert words(pruned.text) <= 1_000


def test_a_repeated_passage_and_a_repeated_sentence_are_treated_alike():
    first, second = pruner.prune("q", ["Same. Same.", "Same. Same."], threshold=0.5)
    assert first.keep == second.keep
    assert len(set(first.scores)) == 1


@given(texts, st.lists(st.booleans(), max_size=40), st.sampled_from(["…", " [...] ", ""]))
def test_an_ellipsis_stands_exactly_where_something_is_left_out(text, flags, ellipsis):
    sentences = split_sentences(text)
    keep = (flags * (len(sentences) + 1))[: len(sentences)] if flags else [True] * len(sentences)
    spans = kept_spans(len(text), sentences, keep)
    made = cut(text, spans, ellipsis)
    gaps = [text[a:b] for a, b in _gaps(len(text), spans)]
    expected = len("".join(text[s.start : s.end] for s in spans)) + len(ellipsis) * sum(bool(g.strip()) for g in gaps)
    assert len(made) == expected


def _gaps(length, spans):
    here = 0
    for span in spans:
        yield here, span.start
        here = span.end
    yield here, length


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 20), st.integers(0, 15))
def test_windows_read_every_token_and_keep_their_size(lengths, room, overlap):
    ranges, here = [], 0
    for length in lengths:
        ranges.append((here, here + length))
        here += length
    read = list(windows(ranges, room, overlap))
    assert all(0 < end - start <= room for start, end in read)
    assert {t for start, end in read for t in range(start, end)} == set(range(here))
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(read))
    for first, after in ranges:
        if 0 < after - first <= room:  # what fits in a window is whole in some window
            assert any(start <= first and after <= end for start, end in read)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 8), st.data())
def test_no_sentence_goes_without_a_score(lengths, room, data):
    ranges, here = [], 0
    for length in lengths:
        ranges.append((here, here + length))
        here += length
    read = [(w, [data.draw(st.floats(0, 1)) for _ in ranges]) for w in windows(ranges, room, 0)]
    scores = combine(ranges, read)
    assert len(scores) == len(ranges)
    assert all(0 <= score <= 1 + 1e-12 for score in scores)
    if here == 0:
        assert set(scores) == {1.0}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=10), st.data())
def test_every_token_belongs_to_one_sentence(shape, data):
    sentences, here = [], 0
    for gap, length in shape:
        sentences.append(Span(here + gap, here + gap + length))
        here += gap + length
    starts = sorted(data.draw(st.sets(st.integers(0, max(0, here - 1)), max_size=20))) if here else []
    ranges = sentence_tokens([(s, s + 1) for s in starts], sentences)
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    if ranges:
        assert ranges[0][0] == 0


@given(st.integers(0, 50), st.integers(-1, 60))
def test_the_largest_prefix_that_fits(n, limit):
    assert largest_prefix(n, lambda m: m <= limit or m == 0) == max(0, min(n, limit))
