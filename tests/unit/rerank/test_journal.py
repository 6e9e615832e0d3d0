"""The journal of a run: what it brings back, and what it refuses."""

import subprocess
import sys

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


def test_a_journal_of_an_older_version_counts_a_question_a_call(tmp_path):
    path = tmp_path / "journal"
    path.write_text('{"sent": "a", "cost": [1, 2, 3, 0.5]}\n{"answered": "a", "cost": [1, 2, 3, 0.5], "reply": {}}\n')
    with Journal(path) as journal:
        assert journal.spent == Cost(1, 2, 3, 0.5, 1)
        journal.sent("b", Cost(1, 2, 3, 0.0, 64))
    with Journal(path) as journal:
        assert journal.spent == Cost(2, 4, 6, 0.5, 65)


@pytest.mark.parametrize(
    "mine",
    [
        '{"results": [1, 2]}', '{"results": 1}\n', "{", '{"answer": 42}', '{"sent": 1}', "[1]", '"', "\n",
        '{"answered": "x"}', '{"sent": "k", "cost": [1, 2, 3, 4]}\n{"results": 1}',
    ],
)  # fmt: skip
def test_a_users_own_file_is_never_overwritten_by_a_journal(tmp_path, mine):
    path = tmp_path / "results.json"
    path.write_text(mine)
    refused = False
    try:
        Journal(path).close()
    except InputError as err:
        refused = "results.json" in str(err)
    assert path.read_text() == mine
    assert refused


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_last_line_that_a_kill_cut_short_is_dropped_wherever_it_ends(tmp_path, cut):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.sent("a", Cost(1, 2, 3, 0.0))
        journal.answered("a", Cost(1, 2, 3, 0.0), {"text": "na\u00efve"})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:cut])
    with Journal(path) as journal:
        assert journal.replies == {}
        journal.answered("a", Cost(1, 2, 3, 0.0), {"text": "yes"})
    with Journal(path) as journal:
        assert journal.replies == {"a": {"text": "yes"}}


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.sent("a", Cost(1, 2, 3, 0.0))
        journal.answered("a", Cost(1, 2, 3, 0.0), {"text": "yes"})
    path.write_bytes(path.read_bytes().rstrip())
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.replies == {"a": {"text": "yes"}}
            journal.sent("b", Cost(1, 2, 3, 0.0))


def test_half_a_surrogate_pair_in_an_answer_comes_back(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.sent("a", Cost(1, 2, 3, 0.0))
        journal.answered("a", Cost(1, 2, 3, 0.0), {"text": "\ud83d [1] > [2]"})
    with Journal(path) as journal:
        assert journal.replies == {"a": {"text": "\ud83d [1] > [2]"}}


def test_a_full_disk_is_reported_and_the_run_goes_on(tmp_path):
    """In a process of its own, whose files may not grow beyond 4,000 bytes."""
    script = """
import logging, resource, signal, sys
logging.basicConfig()
from thresher.llm.budget import Cost
from thresher.llm.cache import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
with Journal(sys.argv[1]) as journal:
    for key in range(100):
        journal.sent(str(key), Cost(1, 2, 3, 0.0))
        journal.answered(str(key), Cost(1, 2, 3, 0.0), {"text": "x" * 50})
    print(len(journal.replies))
"""
    path = tmp_path / "journal"
    done = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "100"
    assert done.stderr.count("cannot be resumed from here") == 1
    with Journal(path) as journal:
        assert 0 < len(journal.replies) < 100
