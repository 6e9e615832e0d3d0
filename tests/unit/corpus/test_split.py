"""Long documents become passages that say where they lie."""

import json

import pytest

from thresher.corpus import open_corpus
from thresher.corpus.split import Splitter, windows
from thresher.errors import ConfigError
from thresher.records import Passage

TEXT = "One two three. Four five six. Seven eight nine. Ten eleven twelve."


def test_passages_hold_whole_sentences_and_their_offsets():
    parts = list(Splitter(8)(Passage("d", TEXT, "T", {"url": "u"})))
    assert [p.text for p in parts] == ["One two three. Four five six.", "Seven eight nine. Ten eleven twelve."]
    assert [p.docno for p in parts] == ["d", "d#2"]
    for part in parts:
        assert part.title == "T"
        assert part.metadata["document"] == "d"
        assert part.metadata["url"] == "u"
        assert TEXT[int(part.metadata["start"]) : int(part.metadata["end"])] == part.text


def test_neighbours_overlap_by_whole_sentences():
    parts = [p.text for p in Splitter(8, 4)(Passage("d", TEXT))]
    assert parts == [
        "One two three. Four five six.",
        "Four five six. Seven eight nine.",
        "Seven eight nine. Ten eleven twelve.",
    ]


def test_a_document_that_fits_is_one_passage_with_its_place():
    [passage] = Splitter(16)(Passage("d", TEXT, "T", {"source": "book"}))
    assert (passage.docno, passage.text, passage.title) == ("d", TEXT, "T")
    assert passage.metadata == {"source": "book", "document": "d", "start": "0", "end": str(len(TEXT))}


def test_fields_that_are_called_like_the_position_are_kept():
    (passage,) = Splitter(16)(Passage("d", "text", "", {"start": "noon", "url": "u"}))
    assert passage.metadata == {"original_start": "noon", "url": "u", "document": "d", "start": "0", "end": "4"}


def test_a_sentence_longer_than_the_budget_is_cut_between_words():
    parts = [p.text for p in Splitter(3)(Passage("d", "all but the last words of it fit. Short."))]
    assert parts == ["all but the", "last words of", "it fit.", "Short."]


def test_splitting_is_part_of_opening_and_docnos_stay_unique(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(json.dumps({"id": i, "text": TEXT}) for i in ("a", "b")))
    docnos = [p.docno for p in open_corpus(path, split_tokens=8)]
    assert docnos == ["a", "a#2", "b", "b#2"]


@pytest.mark.parametrize(("tokens", "overlap"), [(0, 0), (5, 5), (5, -1)])
def test_budgets_out_of_range_are_refused(tokens, overlap):
    with pytest.raises(ConfigError):
        Splitter(tokens, overlap)


@pytest.mark.parametrize(
    ("text", "tokens", "longest"),
    [
        ("我们今天去了北京的故宫博物院看展览" * 60, 50, 50),
        ("我们今天去了，北京的故宫博物院，看展览，" * 20, 50, 50),
        ("これはペンです" * 60, 50, 50),
        ("한국어문장입니다" * 40, 50, 50),
        ("สวัสดีครับผมชื่อสมชาย" * 20, 50, 100),
        ("ភាសាខ្មែរជាភាសាផ្លូវការ" * 20, 50, 200),
        ("မြန်မာဘာသာစကား" * 20, 50, 200),
        ("ພາສາລາວເປັນພາສາ" * 20, 50, 100),
        ("x" * 5000, 10, 240),
    ],
)
def test_passages_are_bounded_in_scripts_without_spaces_and_in_endless_words(text, tokens, longest):
    spans = windows(text, tokens, 0)
    assert max(span.end - span.start for span in spans) <= longest
    assert "".join(text[span.start : span.end] for span in spans) == text


@pytest.mark.parametrize(
    "words",
    [
        "हिन्दी विश्व की एक प्रमुख भाषा है",
        "e\u0301te\u0301 na\u0131\u0308ve",
        "வணக்கம் உலகம்",
        "שָׁלוֹם עוֹלָם",
        "می\u200cخواهم کتاب را",
    ],
)
def test_a_word_with_combining_marks_is_one_token(words):
    text = " ".join([words] * 3)
    assert [text[span.start : span.end] for span in windows(text, 1, 0)] == text.split()


def test_sequences_that_are_one_character_stay_whole():
    family, flags, hand = "👨\u200d👩\u200d👧", "🇩🇪🇫🇷", "👍🏽"
    text = family + flags + hand + "a\r\nb"
    assert [text[span.start : span.end] for span in windows(text, 1, 0)] == [family, "🇩🇪", "🇫🇷", hand, "a", "b"]
