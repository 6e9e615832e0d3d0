"""Efforts as values: what they may be, as text, and as the query processor takes them."""

import pytest

from thresher.errors import InputError
from thresher.search import Effort
from thresher.search.effort import EXACT, EXACT_LIMITS, UNLIMITED


def test_an_effort_is_written_as_it_is_read():
    for effort in (EXACT, Effort(10, 100), Effort(blocks=0.75, superblocks=250), Effort(left_out=0.5, candidates=7)):
        assert str(effort) == "" or Effort.parse(str(effort)) == effort
    assert str(Effort(terms=10, candidates=100)) == "terms=10,candidates=100"
    assert Effort.parse(" postings = .25 , terms=3 ") == Effort(terms=3, postings=0.25)


@pytest.mark.parametrize(
    "text", ["", "terms", "terms=", "terms=x", "terms=1.5", "depth=3", "terms=1,terms=2", "blocks=0", "left_out=1"]
)
def test_a_text_that_is_no_effort_is_refused(text):
    with pytest.raises(InputError):
        Effort.parse(text)


def test_no_limit_is_more_than_any_query_and_index_has():
    assert EXACT.limits is EXACT.limits
    assert EXACT_LIMITS == (UNLIMITED, 0, 1.0, UNLIMITED, 1.0, 0.0)
    assert Effort(terms=10**30, superblocks=10**30).limits == EXACT_LIMITS
