"""Tables of contents are left out of plain text; hostile text is read in time that grows with its length."""

from thresher.corpus.files.markdown import read_markdown
from thresher.corpus.files.plain import read_plain
from thresher.text.sentences import split_sentences


def kinds(text):
    return [block.kind for block in read_plain(text).blocks]


def test_a_table_of_contents_is_left_out():
    assert kinds("Grinding ........ 12\nFlour . . . . . . 30\n") == ["gap"]


def test_a_long_line_of_dots_is_text_and_is_read_once():
    assert kinds("." * 300_000 + "!\n") == ["prose"]


def test_comments_without_an_end_are_looked_for_once():
    assert not [block for block in read_markdown("<!--\n" * 100_000).blocks if block.kind != "gap"]


def test_a_long_row_of_code_marks_is_read_once():
    assert len(split_sentences("`" * 300_000)) == 1
