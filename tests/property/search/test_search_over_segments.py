"""Whatever segments, deletes and filters: what a search finds is what a fresh index of the same passages gives."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import PLANS
from segmented import Doc, best, delete, write_segments

from thresher.search import Effort, Index

TERMS = [f"t{i}" for i in range(12)]
weights = st.one_of(st.sampled_from([1.0, 0.1, 1 / 3, 2.0**-24, 1e30]), st.floats(2.0**-7, 100, width=32))


@st.composite
def worlds(draw):
    """Segments of passages with terms and metadata, and docnos that are deleted afterwards."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.sampled_from([0, 1, 3, 10, 40]), min_size=1, max_size=4))
    tied, tiers = draw(st.booleans()), draw(st.sampled_from([1, 2]))
    docnos = iter([f"d{i}" for i in rng.permutation(sum(sizes))])
    segments = [
        [
            Doc(
                next(docnos),
                {
                    TERMS[t]: 1.0 if tied else float(rng.integers(1, 256))
                    for t in rng.permutation(12)[: rng.integers(7)]
                },
                {"lang": str(rng.choice(["de", "en"])), "year": int(rng.integers(2000, 2004))},
                int(rng.integers(1, tiers + 1)),
            )
            for _ in range(size)
        ]
        for size in sizes
    ]
    everything = [doc for segment in segments for doc in segment]
    share = draw(st.sampled_from([0.0, 0.2, 0.9, 1.0]))
    gone = {doc.docno for doc in everything if rng.random() < share}
    return segments, gone, tiers


queries = st.dictionaries(st.sampled_from([*TERMS, "unknown"]), weights, max_size=6)


def told(ranking):
    return list(zip(ranking.docnos, ranking.scores.tolist(), strict=True))


@pytest.fixture(autouse=True)
def unflushed(monkeypatch):
    """Nothing here is about crashes, and flushing takes most of the time."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(worlds(), queries, st.integers(0, 60), st.sampled_from(PLANS), st.booleans(), st.data())
def test_segments_give_what_one_index_of_the_survivors_gives(world, query, k, plan, own, data):
    segments, gone, tiers = world
    live = [doc for segment in segments for doc in segment if doc.docno not in gone]
    terms = None if own else data.draw(st.permutations(TERMS))
    apart = tiers == 2 and data.draw(st.booleans())
    names = ("a" * 64, "b" * 64) if apart else ("a" * 64, "a" * 64)
    scale = data.draw(st.sampled_from([None, 0.37]))  # what is above 255 of these is cut alike everywhere
    with tempfile.TemporaryDirectory() as folder:
        path, fresh = Path(folder) / "x", Path(folder) / "fresh"
        write_segments(path, segments, terms, encoders=names, tiers=tiers, block=8, scale=scale)
        if gone:
            delete(path, segments, gone)
        write_segments(fresh, [live], terms, encoders=names, tiers=tiers, block=8, scale=scale)
        with Index.open(path) as index, Index.open(fresh) as one:
            assert len(index) == len(live)
            for options in ({}, {"where": "lang = en"}, {"allow": [doc.docno for doc in live[::3]]}):
                found = index.search(query, k, plan=plan, **options)
                assert told(found) == told(one.search(query, k, plan=plan, **options))
                assert found.passages() == [doc.passage for docno in found.docnos for doc in live if doc.docno == docno]
                assert told(index.search(index.terms(query), k, plan=plan, **options)) == told(found)
                run = index.search_batch([query, {}, query], k, plan=plan, threads=2, **options)
                assert [told(run[qid]) for qid in "012"] == [told(found), [], told(found)]
                if not (gone and own):  # a term that only deleted passages hold counts among the heaviest
                    most = index.search(query, k, effort=Effort(terms=2), **options)
                    assert told(most) == told(one.search(query, k, effort=Effort(terms=2), **options))
                if not apart:
                    assert found.exact
            if not apart and scale is None:
                order = TERMS if terms is None else terms
                known = {term: query[term] for term in order if term in query}
                if own:
                    known = dict(sorted(known.items()))
                assert told(index.search(query, k, plan=plan)) == best(live, known, k)
