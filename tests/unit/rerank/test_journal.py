"""The journal of a run: what it brings back, and what it refuses."""

import pytest

from thresher.errors import InputError
from thresher.llm.budget import Cost
from thresher.llm.cache import Journal


def test_answers_and_spending_come_back_and_open_calls_count_at_their_reservation(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.sent("a", Cost(1, 100, 20, 0.5))
        journal.answered("a", Cost(1, 90, 5, 0.25), {"text": "na\u00efve"})
        journal.sent("b", Cost(1, 100, 20, 0.5))
        journal.failed("b", Cost(1, 0, 0, 0.0))
        journal.sent("c", Cost(1, 100, 20, 0.5))
    with path.open("ab") as file:
        file.write(b'{"answered": "c", "co')
    with Journal(path) as journal:
        assert journal.replies == {"a": {"text": "na\u00efve"}}
        assert journal.spent == Cost(3, 190, 25, 0.75)
        journal.sent("c", Cost(1, 1, 1, 0.0))
    with Journal(path) as journal:
        assert journal.spent.calls == 4


def test_two_runs_do_not_write_one_journal(tmp_path):
    with Journal(tmp_path / "journal"), pytest.raises(InputError, match="another run"):
        Journal(tmp_path / "journal")


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("some notes\nof mine")
    with pytest.raises(InputError, match=r"notes\.txt.*not a.* rerank journal"):
        Journal(path)
    assert path.read_text() == "some notes\nof mine"
    path.write_text("one line without an end")
    with pytest.raises(InputError, match="not a rerank journal"):
        Journal(path)
    assert path.read_text() == "one line without an end"
