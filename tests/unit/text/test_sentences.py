"""Sentences: what is a unit, and that prose is cut where a reader would cut it."""

import pytest

from thresher.text.sentences import LONG_ITEM, LONG_RUN, split_sentences


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
        ".. code-block:: c\n\n  a. B\n\n  c",
        ">>> f(1). real\n1. A\n>>> g()",
    ],
)
def test_layout_is_one_unit(unit):
    assert sentences(f"Before it.\n\n{unit}\n\nAfter it. End.") == ["Before it.", unit, "After it.", "End."]


@pytest.mark.parametrize(
    "rows",
    [
        ["| a. A | b |\n|---|---|", "| 1. | 2. B |", "| 3 | 4 |"],
        ["+---+---+\n| a | b |\n+===+===+", "| 1. A | 2 |\n| x | y |\n+---+---+", "| 3 | 4 |\n+---+---+"],
        ["=== ===\n a   b\n=== ===", "1   2. B", "3   4\n=== ==="],
        ["name\tvalue. X", "a\t1. Y", "b\t2"],
    ],
)
def test_a_table_is_its_header_and_its_rows(rows):
    text = "Before it.\n\n" + "\n".join(rows) + "\n\nAfter it. End."
    assert sentences(text) == ["Before it.", *rows, "After it.", "End."]


@pytest.mark.parametrize(
    "expected",
    [
        ["आज मैं घर गया।", "वहाँ कोई नहीं था।", "फिर मैं लौट आया।"],
        ["یہ ایک جملہ ہے۔", "یہ دوسرا ہے۔"],
        ["هل أنت هنا؟", "نعم أنا هنا."],
        ["မြန်မာနိုင်ငံ။", "ရန်ကုန်မြို့။"],
        ["កម្ពុជា។", "ភ្នំពេញ។"],
        ["Սա մեկ է։", "Սա երկու է։"],
        ["አንድ ነው።", "ሁለት ነው።"],
        ["ประเทศไทยเป็นประเทศที่ตั้งอยู่ในเอเชียตะวันออกเฉียงใต้", "มีเมืองหลวงคือกรุงเทพมหานคร"],
        ["ປະເທດລາວຕັ້ງຢູ່ໃນອາຊີຕາເວັນອອກສຽງໃຕ້ແລະບໍ່ມີທະເລ", "ນະຄອນຫຼວງແມ່ນວຽງຈັນ"],
    ],
)
def test_sentences_end_in_scripts_with_stops_of_their_own(expected):
    assert sentences(" ".join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [["他走了。", '"你好。"', "她说。"], ["他走了。", "“你好。”", "她说。"], ["他走了。", "「你好。」", "她说。"]],
)
def test_an_opening_quote_goes_with_what_follows_and_a_closing_one_with_its_sentence(expected):
    assert sentences("".join(expected)) == expected


def test_a_literal_block_is_one_unit():
    text = "Set it::\n\n    a. B\n\n    c\n\nAfter it."
    assert sentences(text) == ["Set it::", "a. B\n\n    c", "After it."]


def test_inline_code_and_labels_are_not_cut():
    assert sentences("Declare them in the `typer.Option`: now. Then go.") == [
        "Declare them in the `typer.Option`: now.",
        "Then go.",
    ]
    assert sentences("(config-file)=") == ["(config-file)="]


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
    found = sentences("word " * 200_000)
    assert max(map(len, found)) <= LONG_RUN


def test_a_title_between_two_lines_of_marks_is_one_heading():
    assert sentences("=====\nGuide\n=====\n\nIt is long.") == ["=====\nGuide\n=====", "It is long."]


def test_entries_of_a_list_of_definitions_need_no_empty_lines_between_them():
    numpy = "Parameters\n----------\na : int\n    The first. It is long.\nb : int\n    The second."
    assert sentences(numpy)[1:] == ["a : int\n    The first.", "It is long.", "b : int\n    The second."]
    google = "Args:\n    a: The first. It is\n        long.\n    b (int): The second.\n\nReturns:\n    A sum."
    assert sentences(google) == [
        *("Args:", "a: The first.", "It is\n        long.", "b (int): The second.", "Returns:", "A sum."),
    ]
    assert sentences("Do it.\n:param a: the first\n:param b: the\n    second\n:returns: a sum") == [
        *("Do it.", ":param a: the first", ":param b: the\n    second", ":returns: a sum"),
    ]


def test_a_heading_in_capitals_is_not_part_of_what_is_indented_under_it():
    page = "NAME\n       ls - list files\n\nOPTIONS\n       -a     all of\n              them\n"
    assert sentences(page) == ["NAME", "ls - list files", "OPTIONS", "-a     all of\n              them"]


def test_rows_of_a_table_whose_columns_are_set_off_by_spaces_are_units():
    assert sentences("NAME     STATE    PORT\nweb      running  80\ndb       stopped  5432") == [
        *("NAME     STATE    PORT", "web      running  80", "db       stopped  5432"),
    ]
    assert sentences("Sign   Meaning\n----   -------\n+      plus") == ["Sign   Meaning\n----   -------", "+      plus"]
    flush = "This  text is set  flush at\nboth  of its sides  and so\nit is  not a table  at all."
    assert len(sentences(flush)) == 1


def test_speech_is_cut_at_turns_and_long_runs_of_it_between_words():
    assert sentences("SPEAKER 1: so where do we begin\nSPEAKER 2: with the budget\n[00:12] okay\n>> right") == [
        *("SPEAKER 1: so where do we begin", "SPEAKER 2: with the budget", "[00:12] okay", ">> right"),
    ]
    words = ("and then we looked at the figures that they had sent us from the office in the north " * 12).split()
    found = sentences(" ".join(words))
    assert " ".join(found).split() == words
    assert max(map(len, found)) <= LONG_RUN
    assert all(one.startswith("and then") for one in found)


def test_stray_marks_are_not_sentences_of_a_paragraph():
    assert sentences("One two. ::\n\nThree. --> Four!") == ["One two. ::", "Three.", "--> Four!"]
