"""Sentences: what is a unit, and that prose is cut where a reader would cut it."""

import pytest

from thresher.text.sentences import LONG_ITEM, split_sentences


def sentences(text):
    return [text[span.start : span.end] for span in split_sentences(text)]


def test_prose_is_cut_at_sentences_and_not_at_abbreviations():
    text = "Dr. Smith et al. (2004) saw Fig. 3 in version 3.11. It rained! Why?"
    assert sentences(text) == ["Dr. Smith et al. (2004) saw Fig. 3 in version 3.11.", "It rained!", "Why?"]


def test_a_wrapped_line_does_not_end_a_sentence_and_an_empty_line_does():
    assert sentences("One line\nand another. Next\n\nNew paragraph") == [
        "One line\nand another.",
        "Next",
        "New paragraph",
    ]


@pytest.mark.parametrize(
    "unit",
    [
        "# A heading. With a stop",
        "Title. Two\n==========",
        "```python\nx = 1. A. B.\n\ny = 2\n```",
        "~~~\na. B\n~~~",
        "- an item. Two sentences",
        "1. First item\n   goes on. Here",
        "| a. A | b |\n|---|---|\n| 1. | 2. B |",
        "+---+---+\n| a | b |\n+---+---+",
        "name\tvalue. X\na\t1. Y",
        ">>> f(1). real\n1. A\n>>> g()",
    ],
)
def test_layout_is_one_unit(unit):
    assert sentences(f"Before it.\n\n{unit}\n\nAfter it. End.") == ["Before it.", unit, "After it.", "End."]


def test_list_items_are_apart_without_empty_lines():
    text = "They are:\n- one. One\n- two\n  wrapped\n* three"
    assert sentences(text) == ["They are:", "- one. One", "- two\n  wrapped", "* three"]


def test_a_long_list_item_is_prose():
    text = "- " + "A sentence of some words stands here. " * 10
    assert len(text) > LONG_ITEM
    assert len(sentences(text)) == 10


def test_a_fence_that_nothing_closes_is_prose():
    assert sentences("```\nOne. Two.") == ["```\nOne.", "Two."]


def test_ideographic_full_stops_end_sentences_without_a_space():
    assert sentences("これは文です。「次の文です。」終わり") == ["これは文です。", "「次の文です。」", "終わり"]


def test_empty_and_blank_texts_have_no_sentences():
    assert sentences("") == sentences(" \n\t\r\n\u2003") == []


def test_long_text_without_sentence_ends_is_quick():
    assert len(sentences("word " * 200_000)) == 1
