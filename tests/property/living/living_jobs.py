"""Writes to a living index, in this process or in a child, that are let be, fail or are killed at a chosen moment.

A moment is the n-th operation on a file of the index or beside it: opening for writing, renaming, removing, making a
directory, flushing to disk. Python announces all but the last to audit hooks, before they happen.
"""

import errno
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from living_model import VARIANTS, write

from tests.word_pairs import registered
from thresher.build.writer import IndexWriter
from thresher.records import Passage

_watched = {"place": "", "left": -1, "act": None, "count": 0}
_OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree", "open"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_sync = os.fsync


def _hook(event, arguments):
    if _watched["act"] is None or event not in _OPERATIONS:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
        return
    try:
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
    except TypeError:  # a descriptor
        return
    if path.startswith(_watched["place"]):
        _tick(path)


def _flush(descriptor):
    if _watched["act"] is not None:
        _tick("a flush")
    else:
        return _sync(descriptor)
    return None  # nothing here survives the machine, so that nothing has to reach the disk


def _tick(path):
    _watched["count"] += 1
    if _watched["count"] == _watched["left"]:
        _watched["act"](path)


def _kill(_path):
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(path):
    raise OSError(errno.ENOSPC, "no space left, says the test", path)


_hooked = []


@contextmanager
def disturbed(path, how, moment):
    """Operations on files below the folder of `path` end badly at a moment: `killed`, `failing`; or `counted`."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    act = {"killed": _kill, "failing": _fail, "counted": lambda _path: None}[how]
    _watched.update(place=str(Path(path).parent), left=moment, act=act, count=0)
    os.fsync = _flush
    try:
        yield _watched
    finally:
        _watched["act"] = None
        os.fsync = _sync


def apply(path, variant, calls, how="counted", moment=0):
    """Make the calls in one transaction; what each reports, and how many operations on files there were."""
    kind = VARIANTS[variant]
    told = []
    with disturbed(path, how, moment) as watched:
        with IndexWriter.open(path, **kind.options()) as writer:
            for name, given in calls:
                told.append(write(writer, kind, name, given))
            report = writer.commit()
        count = watched["count"]
    return told, report.commit, count


def merge(path, variant, every, refit, how="counted", moment=0):
    """Merge segments."""
    with disturbed(path, how, moment) as watched:
        with IndexWriter.open(path, **VARIANTS[variant].options()) as writer:
            report = writer.merge(all=every, refit=refit)
        count = watched["count"]
    return report, count


def warm_up():
    """Load modules and kernels, and install the encoder of a variant, before children are forked."""
    registered(pytest.MonkeyPatch())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        VARIANTS["bm25"].build(path)
        apply(path, "bm25", [("delete", ["d0"]), ("add", [Passage("new", "w1 w2")])])
        merge(path, "bm25", True, False)
