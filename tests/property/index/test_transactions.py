"""Any sequence of changes, commits and discards gives what a list of sets gives, to readers of every commit."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.indexes import left_over, segment_of, write_segment
from thresher import artifact
from thresher.index import commit, transaction
from thresher.index.collection import open_collection
from thresher.index.commit import writing_index
from thresher.index.transaction import Transaction

SIZES = (0, 1, 9)
STEPS = st.one_of(
    st.tuples(st.just("segment"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 9), st.lists(st.integers(0, 8), max_size=4, unique=True)),
    st.tuples(st.just("drop"), st.integers(0, 9), st.none()),
    st.tuples(st.sampled_from(["commit", "discard", "hold", "release"]), st.none(), st.none()),
)


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """An index of each size."""
    place, found = tmp_path_factory.mktemp("transactions"), []
    for size in SIZES:
        with writing_index(place / str(size)) as draft:
            write_segment(draft.segment.path, [f"d{i}" for i in range(size)])
        found.append(place / str(size))
    return found


class Model:
    """An index as a list of pairs: a segment's size, and the numbers that are deleted in it."""

    def __init__(self, path, templates):
        self.path, self.templates = path, templates
        self.committed, self.number, self.held = [(SIZES[-1], frozenset())], 1, []
        shutil.copytree(templates[-1], path, copy_function=os.link)
        self.changes = Transaction(path).__enter__()
        self.begin()

    def begin(self):
        self.names = [entry.name for entry in self.changes.base.segments]
        self.deleted = [set(deleted) for _, deleted in self.committed]
        self.sizes = [size for size, _ in self.committed]
        self.dropped, self.before, self.last = set(), {}, []

    def step(self, kind, which, how):
        getattr(self, kind)(which, how)

    def segment(self, which, first):
        before = self.names[0] if first else None
        draft = self.changes.segment(before=before)
        shutil.copytree(segment_of(self.templates[which]), draft.path, dirs_exist_ok=True, copy_function=os.link)
        (self.before.setdefault(before, []) if first else self.last).append(SIZES[which])

    def delete(self, which, numbers):
        at = which % len(self.names)
        new = [n for n in numbers if n < self.sizes[at] and n not in self.deleted[at]]
        counts = (np.array([0], np.uint32), np.array([len(new)], np.uint32))
        self.changes.delete(self.names[at], np.array(new, np.int64), {1: counts})
        self.deleted[at] |= set(new)

    def drop(self, which, _):
        at = which % len(self.names)
        if len(self.dropped | {at}) < len(self.names) or self.last or self.before:
            self.changes.drop(self.names[at])
            self.dropped.add(at)

    def commit(self, *_):
        made = [(size, frozenset()) for size in self.before.get(self.names[0], [])]
        made += [(size, frozenset(self.deleted[at])) for at, size in enumerate(self.sizes) if at not in self.dropped]
        made += [(size, frozenset()) for size in self.last]
        changed = self.dropped or self.before or self.last or made != self.committed
        self.number += bool(changed)
        assert self.changes.commit().number == self.number
        self.committed = made
        self.begin()

    def discard(self, *_):
        self.changes.discard()
        self.begin()

    def hold(self, *_):
        self.held.append((open_collection(self.path), self.committed))

    def release(self, *_):
        if self.held:
            self.held.pop(0)

    def check(self):
        for opened, expected in [(open_collection(self.path), self.committed), *self.held]:
            found, start = [], 0
            for part in opened.parts:
                deleted = np.zeros(part.size, np.bool_) if part.deleted is None else part.deleted
                found.append((part.size, frozenset(np.flatnonzero(deleted).tolist())))
                assert (part.start, part.live) == (start, part.size - int(deleted.sum()))
                if part.deleted_counts is not None:
                    assert int(part.deleted_counts[1].sum()) == int(deleted.sum())
                start += part.size
            assert found == expected
            assert opened.size == start
            again = open_collection(self.path, opened.commit.number, opened.commit.sha256)
            assert again.commit == opened.commit

    def close(self):
        self.held.clear()
        self.changes.__exit__(None, None, None)
        with Transaction(self.path):
            pass
        assert left_over(self.path) == []


@given(steps=st.lists(STEPS, max_size=9))
def test_an_index_is_what_its_transactions_made_of_it(templates, tmp_path_factory, steps):
    place = tmp_path_factory.mktemp("x")
    with pytest.MonkeyPatch.context() as patched:
        for module in (artifact, commit, transaction):
            patched.setattr(module, "sync_path", lambda path: None)
        model = Model(place / "x", templates)
        for step in steps:
            model.step(*step)
        model.discard()
        model.check()
        model.close()
    shutil.rmtree(place)
