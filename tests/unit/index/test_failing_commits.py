"""A commit that fails leaves a whole index: the last one, or the new one where only its last flush failed."""

import errno
import os
import shutil

import numpy as np

from thresher.build.stream import build_index
from thresher.index.collection import verify
from thresher.index.commit import read_commit
from thresher.index.transaction import Transaction
from thresher.records import Passage


def test_a_commit_whose_flushes_fail_leaves_a_whole_index(tmp_path, monkeypatch):
    build_index(tmp_path / "built", [Passage(f"d{i}", "grain") for i in range(20)], "bm25")
    seen = set()
    for failing in range(1, 100):
        path = tmp_path / f"{failing}"
        shutil.copytree(tmp_path / "built", path)
        done = []

        def flush(_descriptor, failing=failing, done=done):
            done.append(1)
            if len(done) == failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        failed = False
        with monkeypatch.context() as patched:
            try:
                with Transaction(path) as transaction:
                    patched.setattr(os, "fsync", flush)
                    transaction.delete(transaction.base.segments[0].name, np.array([3]))
                    transaction.commit()
            except OSError:
                failed = True
        verify(path)
        commit = read_commit(path)
        assert commit.live == (20 if commit.number == 1 else 19)
        seen.add((failed, commit.number))
        if not failed:
            break
    assert seen == {(True, 1), (True, 2), (False, 2)}
