"""Lines of a table of contents are left out of plain text."""

from thresher.corpus.files.plain import read_plain


def kinds(text):
    return [block.kind for block in read_plain(text).blocks]


def test_a_table_of_contents_is_left_out():
    assert kinds("Grinding ........ 12\nFlour . . . . . . 30\n") == ["gap"]


def test_a_long_line_of_dots_is_text_and_is_read_once():
    assert kinds("." * 300_000 + "!\n") == ["prose"]
