"""Merging: which segments, and that the result is what a fresh segment of the surviving passages is, byte for byte."""

import random
import shutil
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.indexes import segment_of
from thresher.build.merge import MERGING
from thresher.build.merging import DELETED, LARGEST, MOST, PER_LEVEL, SMALL, choose_merges, live_bytes
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.errors import InputError
from thresher.index.commit import SegmentEntry, read_commit
from thresher.records import Passage

WORDS = [f"word{i}" for i in range(50)]


def some(n, seed):
    rng = random.Random(seed)
    return [
        Passage(f"{seed}-{i}", " ".join(rng.choices(WORDS[: 20 + 5 * seed], k=rng.randint(1, 30))), metadata={"n": i})
        for i in range(n)
    ]


def entry(number, size, deleted=0):
    return SegmentEntry(f"{number}-{number:08x}", "", (1000,), (deleted,), size)


@given(st.lists(st.tuples(st.integers(1, 2**33), st.integers(0, 1000)), min_size=1, max_size=60))
def test_merging_until_nothing_is_chosen_leaves_few_segments_and_no_worn_one(sizes):
    entries = [entry(i, size, deleted) for i, (size, deleted) in enumerate(sizes)]
    for _ in range(100):
        groups = choose_merges(entries)
        if not groups:
            break
        chosen = [one for group in groups for one in group]
        assert len({one.name for one in chosen}) == len(chosen)
        for number, group in enumerate(groups, len(entries) + 1000):
            assert len(group) <= MOST
            assert sum(map(live_bytes, group)) <= LARGEST or len(group) == 1
            entries = [one for one in entries if one not in group]
            entries.append(entry(number, sum(map(live_bytes, group))))
    else:
        pytest.fail("merging does not end")
    assert all(one.deleted[0] < max(DELETED * 1000, 1) for one in entries if live_bytes(one) <= LARGEST)
    small = [one for one in entries if live_bytes(one) <= LARGEST // (2 * MOST)]
    assert len(small) <= 6 * (PER_LEVEL - 1)


def test_like_sizes_are_merged_and_a_large_segment_is_left_alone():
    entries = [entry(0, 2**30), *(entry(i, 2**16) for i in range(1, 12))]
    (group,) = choose_merges(entries, small=True)
    assert entries[0] not in group
    assert len(group) == MOST
    assert sum(map(live_bytes, group)) <= SMALL
    assert choose_merges(entries[: PER_LEVEL - 1]) == []


def test_a_merge_is_a_fresh_segment_of_the_survivors_byte_for_byte(tmp_path):
    path, fresh = tmp_path / "index", tmp_path / "fresh"
    build_index(path, some(40, 1), "bm25")
    shutil.copytree(path, fresh)
    with IndexWriter.open(path, merge=False) as writer:
        writer.add(some(30, 2))
        writer.commit()
        writer.delete(docnos=["1-3", "2-4"])
        writer.add(some(5, 3))
        writer.commit()
        writer.replace([Passage("1-5", "word1 unheard")])
    assert len(read_commit(path).segments) == 4
    gone = {"1-3", "2-4", "1-5"}
    survivors = [p for seed, n in ((1, 40), (2, 30), (3, 5)) for p in some(n, seed) if p.docno not in gone]
    with IndexWriter.open(path) as writer:
        report = writer.merge(all=True)
        assert (report.merged, report.made, report.segments, report.passages) == (4, 1, 1, 73)
        assert writer.merge(all=True).merged == 0
    with IndexWriter.open(fresh) as writer:
        writer.delete(docnos=[p.docno for p in some(40, 1)])
        writer.add([*survivors, Passage("1-5", "word1 unheard")])
    one, other = segment_of(path), segment_of(fresh)
    names = sorted(f.relative_to(one).as_posix() for f in one.rglob("*") if f.is_file() and f.name != "manifest.json")
    assert names == sorted(
        f.relative_to(other).as_posix() for f in other.rglob("*") if f.is_file() and f.name != "manifest.json"
    )
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_refit_weighs_all_passages_as_a_fresh_build_does(tmp_path):
    path = tmp_path / "index"
    build_index(path, some(20, 1), "bm25")
    with IndexWriter.open(path) as writer:
        writer.add([Passage(f"long{i}", " ".join(WORDS)) for i in range(20)])
        writer.delete(docnos=["1-0"])
        with pytest.raises(InputError, match="not committed"):
            writer.merge()
        writer.commit()
        writer.merge(refit=True)
    build_index(
        tmp_path / "fresh", [*some(20, 1)[1:], *(Passage(f"long{i}", " ".join(WORDS)) for i in range(20))], "bm25"
    )
    for name in ("impacts", "ids", "keys", "contents", "tokens", "ranks"):
        assert (segment_of(path) / name).read_bytes() == (segment_of(tmp_path / "fresh") / name).read_bytes(), name
    commits = [read_commit(one) for one in (path, tmp_path / "fresh")]
    assert commits[0].frozen["average_length"] == commits[1].frozen["average_length"]
    assert commits[0].fields["encoder"] == commits[1].fields["encoder"]


def test_a_merge_in_the_background_begins_when_the_writer_is_closed(tmp_path):
    path = tmp_path / "index"
    build_index(path, some(20, 1), "bm25")
    with IndexWriter.open(path, merge=False) as writer:
        writer.add(some(20, 2))
        writer.commit()
        assert writer.merge(all=True, background=True).merged == 0
        assert len(read_commit(path).segments) == 2
    for thread in threading.enumerate():
        if thread.name == MERGING:
            thread.join(60)
    commit = read_commit(path)
    assert (len(commit.segments), commit.live) == (1, 40)
