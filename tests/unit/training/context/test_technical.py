"""Pieces of documentation are what their rules say, and transcripts keep their labels."""

import pytest

from training.context.documents import Document
from training.context.technical import CALIBRATED, MEASURED, Asker, drawn, part_of, pieces, with_negatives

NUMPY = """Return the sum of the values along an axis of the array.

Parameters
----------
values : array
    The numbers that are added up, of any shape.
axis : int
    Along which axis they are added, the last by default.

Returns
-------
total : array
    The sums, with one dimension fewer than the values have.
"""
PAGE = (
    "# Keys of the editor\n\nText about keys that is long enough for everybody to read here.\n\n"
    + """## Tables

| key | what it does |
|---|---|
| x | cuts the line out of the text |
| v | pastes what was cut before it |

There are three ways to change the keys:

- give a flag on the command line
- set the variable before it starts
- write them into a file of yours

## Can I use a mouse?

No, the editor reads keys alone, and no mouse at all.
"""
)


def made(text, licence="MIT", family="f", source="docstring"):
    return list(pieces([Document("lib.total", source, family, licence, text)] * 2))


@pytest.mark.parametrize("text", [NUMPY, PAGE])
def test_an_answer_is_a_part_of_its_passage_and_a_passage_a_run_of_whole_paragraphs(text):
    rows = made(text, source="file") + made(text, source="topic")
    assert rows
    for row in rows:
        assert row.passage in text
        for start, end in row.answers:
            assert row.passage[start:end].strip() == row.passage[start:end] != ""
            assert all(line in text.split("\n") for line in row.passage.split("\n"))


def test_what_answers_is_what_stands_with_the_name():
    said = {}
    for text in (NUMPY, PAGE):
        found = Asker(Document("lib.total", "topic", "f", "MIT", text)).found()
        said |= {kind: text[start:end] for kind, _, start, end in found}
    assert said["parameter"] in NUMPY
    assert said["returns"] == "The sums, with one dimension fewer than the values have."
    assert said["faq"] == "No, the editor reads keys alone, and no mouse at all."
    assert said["list"].startswith("- give a flag") and said["list"].endswith("a file of yours")


def test_a_family_is_in_one_part_and_only_what_may_be_trained_on_is_trained_on():
    def parts(licence):
        return {part_of(Document("n", "file", str(n), licence, "")) for n in range(200)}

    assert parts("MIT") == {"train", "calibrate", "measured"}
    assert parts("GPL-2+") == parts("") == {"calibrate", "measured"}
    assert 0 < MEASURED < CALIBRATED < 1


def test_a_negative_holds_no_answer_and_is_another_passage():
    rows = drawn(made(NUMPY) + made(PAGE, source="topic"), made(NUMPY)[0].part, 50)
    for row in with_negatives(rows):
        for other in row.negatives:
            assert other != row.passage
            assert all(row.passage[a:b] not in other for a, b in row.answers)
