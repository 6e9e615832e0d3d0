"""An index is the same, byte for byte, whatever memory its builder may hold, and strings are sorted as Python does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import ConfigError, InputError
from thresher.index import IndexBuilder
from thresher.index.arrays import create_array, map_array
from thresher.index.memory import MemoryLimit, ranges, resident
from thresher.index.string_order import string_order
from thresher.mapping import release
from thresher.records import Passage, SparseBatch


class Tight(MemoryLimit):
    """A limit that leaves some hundred bytes, so that a small index takes many passes and windows."""

    def __init__(self, room: int) -> None:
        self.bytes, self.room = room, room

    def left(self) -> int:
        return self.room

    def require(self, size: int, what: str) -> None:
        pass


@given(st.lists(st.binary(max_size=25)))
def test_strings_are_sorted_by_bytes_and_repeated_ones_are_found(strings):
    letters = np.frombuffer(b"".join(strings), np.uint8)
    offsets = np.cumsum([0, *map(len, strings)])
    order, repeated = string_order(letters, offsets)
    assert order.tolist() == sorted(range(len(strings)), key=lambda i: (strings[i], i))
    found = [strings[i] for i in order.tolist()]
    assert repeated.tolist() == [at > 0 and found[at] == found[at - 1] for at in range(len(found))]


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 120))
def test_ranges_cover_all_items_in_order_and_fit(sizes, room):
    found = list(ranges(np.array(sizes), room))
    assert [i for first, after in found for i in range(first, after)] == list(range(len(sizes)))
    assert all(sum(sizes[first:after]) <= room or after == first + 1 for first, after in found)
    for (first, after), (_, end) in pairwise(found):
        assert end > after and sum(sizes[first : after + 1]) > room  # nothing more would have fitted


def files_of(seed, passages, vocabulary, tokens, memory=None, **options):
    """The files of an index of random rows, by name."""
    rng = np.random.default_rng(seed)
    chance = 1.0 / np.arange(1, vocabulary + 1) ** rng.uniform(0.2, 1.2)
    held = rng.random((passages, vocabulary)) < chance
    indptr = np.cumsum([0, *held.sum(axis=1)])
    batch = SparseBatch(
        indptr.astype(np.int64),
        np.nonzero(held)[1].astype(np.uint32),
        rng.integers(1, 200, indptr[-1]).astype(np.float32),
    )
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        builder = IndexBuilder(directory, [f"t{i}" for i in range(vocabulary)], memory=memory, **options)
        builder.add([Passage(f"d{i}", "text") for i in range(passages)], batch)
        builder.finish(rng.integers(1, 50, passages).astype(np.uint32) if tokens else None)
        return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    passages=st.integers(0, 400),
    vocabulary=st.integers(1, 30),
    tokens=st.booleans(),
    room=st.sampled_from([64, 500, 4000, 10**6]),
    order=st.sampled_from(["source", "bp"]),
    bits=st.sampled_from([8, 16]),
)
def test_files_do_not_depend_on_the_memory_that_is_allowed(seed, passages, vocabulary, tokens, room, order, bits):
    made = (seed, passages, vocabulary, tokens)
    free = files_of(*made, order=order, bits=bits)
    tight = files_of(*made, memory=Tight(room), order=order, bits=bits)
    assert free.keys() == tight.keys()
    assert [name for name in free if free[name] != tight[name]] == []


def test_lists_with_skip_entries_do_not_depend_on_it_either():
    made = (3, 140_000, 6, False)  # several chunks of 65,536 passages
    free, tight = files_of(*made), files_of(*made, memory=Tight(200_000))
    assert [name for name in free if free[name] != tight[name]] == []


def test_a_limit_below_what_the_process_holds_is_refused_with_the_least_that_is_enough():
    with pytest.raises(ConfigError, match=r"the limit is 0\.01 GB; allow \d+\.\d GB"):
        MemoryLimit(0.01)
    with pytest.raises(InputError, match="memory_gb"):
        MemoryLimit(-1)


def test_what_does_not_fit_is_refused_before_it_is_made():
    limit = MemoryLimit(resident() / 1e9 + 1)
    limit.require(10**8, "sorting")
    with pytest.raises(ConfigError, match=r"sorting takes 4\.00 GB"):
        limit.require(4 * 10**9, "sorting")


def test_pages_are_given_back_and_only_those_of_files(tmp_path):
    mapped = create_array(tmp_path / "a", np.uint8, (2**24,))
    mapped[:] = 7
    before = resident()
    release(mapped[4096:])
    assert resident() < before - 2**23
    assert (mapped == 7).all() and (map_array(tmp_path / "a", np.uint8, (2**24,)) == 7).all()
    own = np.full(2**20, 7, np.uint8)
    for array in (own, own[4096:], own.reshape(2, -1), np.frombuffer(bytes(own), np.uint8)):
        release(array)
        assert (array == 7).all()
