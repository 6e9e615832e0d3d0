"""The test of the evaluation for headings kept alone finds them, and nothing else."""

import pytest

from eval.context_technical import lone
from thresher.records import Span

TEXT = "# Guide\n\nWelcome.\n\nNotes\n-----\n\nOne.\n\n~~~~~\n\nTwo.\n"


def kept(*parts):
    return [Span(TEXT.index(part), TEXT.index(part) + len(part)) for part in parts]


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (["# Guide\n\nWelcome."], (0, 0)),
        (["# Guide"], (1, 0)),
        (["Notes\n-----"], (1, 0)),
        (["# Guide", "Notes\n-----"], (2, 0)),
        (["# Guide", "Notes\n-----\n\nOne."], (0, 0)),
        (["Welcome.", "~~~~~"], (0, 1)),
        (["Notes\n-----", "Two."], (0, 0)),
    ],
)
def test_a_heading_is_lone_where_nothing_under_it_is_kept(parts, found):
    assert lone(TEXT, kept(*parts)) == found
