"""Indexes that are replaced, closed, copied and sent to other processes while they are used."""

# ruff: noqa: S301  (what is unpickled was pickled here)

import copy
import os
import pickle
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from tests.indexes import segment_of
from thresher.build.stream import build_index
from thresher.errors import ArtifactError, InputError
from thresher.ranking import Run
from thresher.records import Passage
from thresher.search import Index
from thresher.vectors import VectorStore

WRITER = """
import sys
from thresher.build.stream import build_index
from thresher.records import Passage
n = 0
while True:
    n += 1
    words = [f"only{n}x{i}" for i in range(n % 7)]
    passages = [Passage(f"b{n}-{i}", f"build{n} common {' '.join(words[:i])}") for i in range(20 + n % 5)]
    build_index(sys.argv[1], passages, "bm25", overwrite=True)
"""
OPENER = """
import os, resource, sys
from thresher.search import Index
resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
held = [Index.open(sys.argv[1]) for _ in range(100)]
assert all(len(index.search("w1", 3)) == 3 for index in held)
held[0].vectors.scores([1, 0], [0])
files = []
try:
    while True:
        files.append(open(os.devnull))
except OSError:
    pass
try:
    Index.open(sys.argv[1])
except OSError as err:
    print(type(err).__name__, err.strerror)
"""


def passages(n, text="w1 w2"):
    return [Passage(f"d{i}", f"{text} number{i}") for i in range(n)]


@pytest.fixture
def index(tmp_path):
    build_index(tmp_path / "x", passages(30), "bm25")
    VectorStore.build(segment_of(tmp_path / "x") / "vectors", [np.ones((30, 2))])
    return Index.open(tmp_path / "x")


@pytest.mark.parametrize("ask", [lambda x: x.search("w1"), lambda x: x.encoder, lambda x: x.vectors])
def test_what_is_loaded_later_is_of_the_build_that_was_opened_or_refused(index, ask):
    terms = ([0, 1, 2], [1.0, 1.0, 1.0])
    before = index.search(terms).pairs()
    build_index(index.path, passages(30, "w1 w7 w8"), "bm25", overwrite=True)
    with pytest.raises(ArtifactError, match="was replaced since it was opened; open it again"):
        ask(index)
    assert index.search(terms).pairs() == before
    assert len(Index.open(index.path).search("w7")) == 10


def test_a_reader_during_overwrites_never_mixes_two_builds(tmp_path):
    build_index(tmp_path / "x", [Passage("b0-0", "build0 common")], "bm25")
    opened = 0
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "x")])
    try:
        end, seen = time.monotonic() + 60, set()
        while len(seen) < 5 and time.monotonic() < end and writer.poll() is None:
            index = Index.open(tmp_path / "x")
            opened += 1
            try:
                hits = list(index.search("common", 40))
            except ArtifactError as err:
                assert "was replaced since it was opened" in str(err)
                continue
            builds = {hit.docno.partition("-")[0][1:] for hit in hits}
            assert builds == {hit.text.partition(" ")[0].removeprefix("build") for hit in hits}
            assert len(builds) == 1
            assert len(hits) == len(index)
            seen |= builds
    finally:
        writer.kill()
        writer.wait()
    assert opened > 4


def test_an_open_index_holds_one_descriptor_and_their_lack_is_called_by_its_name(index):
    run = subprocess.run([sys.executable, "-c", OPENER, str(index.path)], capture_output=True, text=True, check=True)
    assert run.stdout == "OSError Too many open files\n"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")  # noqa: PTH110
def test_a_closed_index_leaves_memory_with_the_last_of_its_rankings(index):
    def mapped():
        with open("/proc/self/maps") as lines:  # noqa: PTH123
            return sum(str(index.path) in line for line in lines)

    found, docnos = index.search("w1"), index.search("w1").docnos
    assert index.vectors is not None
    index.close()
    assert found.docnos == docnos
    assert found[0].text.startswith("w1")
    for ask in (lambda: index.search("w1"), lambda: index.passage("d1"), lambda: index.layouts, lambda: index.vectors):
        with pytest.raises(InputError, match="is closed; open it again"):
            ask()
    del found
    assert mapped() == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_an_index_its_rankings_and_its_vectors_are_copied(index, copied):
    found, run = index.search("w1 number3", explain=True), index.search_batch(["w1", "w2"])
    mixed = found.interpolate(index.vectors, np.ones(2, np.float32))
    for one in (found, mixed, found.cut(2), found.fuse(mixed), found.with_passages(index)):
        again = copied(one)
        assert again == one
        assert (type(again), again.exact, again.source) == (type(one), one.exact, one.source)
        assert [hit.text for hit in again] == [hit.text for hit in one]
    assert copied(mixed).dense.tolist() == mixed.dense.tolist()
    assert copied(found).explanations == found.explanations
    assert copied(run) == run
    assert isinstance(copied(run), Run)
    assert copied(index).search("w1 number3") == found
    assert copied(index.vectors).scores([1, 1], [4]).tolist() == [2]
    assert len(pickle.dumps(index)) < 1000
    assert len(pickle.dumps(index.vectors)) < 1000


def test_a_pickled_index_is_refused_where_another_was_built_since(index):
    kept = pickle.dumps((index, index.vectors))
    ranking = pickle.dumps(index.search("w1", 3))
    build_index(index.path, passages(30, "w1 w7 w8"), "bm25", overwrite=True)
    with pytest.raises(ArtifactError, match="was replaced"):
        pickle.loads(kept)
    assert len(pickle.loads(ranking).docnos) == 3
    with pytest.raises(ArtifactError, match="was replaced"):
        pickle.loads(ranking).passages()


def ask(index, query):
    return index.search(query, 3)


def test_workers_take_an_index_and_give_rankings(index):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(ask, index, "w1 number7").result() == index.search("w1 number7", 3)
