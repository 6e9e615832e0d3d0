"""However an index is split, and wherever its shards are searched: the same ranking to the last bit."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segmented import delete, write_segments
from test_search_over_segments import TERMS, queries, told, worlds

from thresher.distributed.sharded import ShardedIndex
from thresher.distributed.splitting import split_index
from thresher.search import Index
from thresher.search.effort import Effort


@pytest.fixture(autouse=True)
def unflushed(monkeypatch):
    """Nothing here is about crashes, and flushing takes most of the time."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(
    worlds(), queries, st.integers(0, 60), st.sampled_from([1, 2, 3, 7]), st.sampled_from(["docno", "range"]), st.data()
)
def test_shards_give_what_one_index_gives(world, query, k, shards, by, data):
    segments, gone, tiers = world
    live = {doc.docno for segment in segments for doc in segment} - gone
    apart = tiers == 2 and data.draw(st.booleans())
    names = ("a" * 64, "b" * 64) if apart else ("a" * 64, "a" * 64)
    own = data.draw(st.booleans())
    terms = None if own else data.draw(st.permutations(TERMS))
    share = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        write_segments(path, segments, terms, encoders=names, tiers=tiers, block=8, scale=1.0)
        if gone:
            delete(path, segments, gone)
        if own:  # each shard knows the terms of its own passages only
            paths = [Path(folder) / f"s{number}" for number in range(shards)]
            left = [doc for segment in segments for doc in segment if doc.docno in live]
            for number, one in enumerate(paths):
                write_segments(one, [left[number::shards]], None, encoders=names, tiers=tiers, block=8, scale=1.0)
        else:
            report = split_index(path, Path(folder) / "shards", shards, by=by)
            assert sum(report.passages) == len(live)
            paths = report.path
        with Index.open(path) as index, ShardedIndex.open(paths, share=share) as sharded:
            assert len(sharded) == len(index)
            for options in ({}, {"where": "lang = en"}, {"allow": sorted(live)[::3]}, {"tiers": "first"}):
                one, found = index.search(query, k, **options), sharded.search(query, k, **options)
                assert told(found) == told(one)
                assert found.tiers.tolist() == one.tiers.tolist()
                assert found.passages() == one.passages()
                assert found.complete and found.missing_shards == ()
                run = sharded.search_batch([query, {}, query], k, threads=2, **options)
                assert [told(run[qid]) for qid in "012"] == [told(one), [], told(one)]
            pruned = [one.search(query, k, effort=Effort(terms=2)) for one in (index, sharded)]
            assert told(pruned[0]) == told(pruned[1]) or tiers == 2
            assert sharded.facets("lang", query) == index.facets("lang", query)
            assert sharded.facets("year") == index.facets("year")
            view = sharded.restricted("lang = de")
            assert told(view.search(query, k)) == told(index.restricted("lang = de").search(query, k))
