"""Passages that are added with their weighted terms: in the index's vocabulary and scale, or refused."""

import json
import random

import numpy as np
import pytest

from tests.indexes import segment_of
from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.errors import ConfigError, InputError
from thresher.index.collection import open_collection
from thresher.index.uninvert import uninvert
from thresher.records import Passage, SparseBatch


def row(i):
    rng = random.Random(i)
    vector = {f"t{k}": round(rng.uniform(0.1, 3), 3) for k in rng.sample(range(30), 8)}
    return {"id": f"d{i}", "contents": f"text {i}", "vector": vector}


def write(file, rows):
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


def given(*rows):
    indptr = np.cumsum([0, *(len(one) for one in rows)])
    terms = np.array([term for one in rows for term in one], np.uint32)
    return SparseBatch(indptr, terms, np.array([weight for one in rows for weight in one.values()], np.float32))


@pytest.fixture
def path(tmp_path):
    build_index(tmp_path / "index", encoded=write(tmp_path / "first.jsonl", map(row, range(30))))
    return tmp_path / "index"


def test_terms_are_matched_by_their_strings_and_weighed_with_the_first_scale(path, tmp_path):
    more = write(tmp_path / "more.jsonl", [{**row(90), "vector": {"t3": 2.0, "t29": 1000.0}}])
    with IndexWriter.open(path) as writer:
        assert writer.add(encoded=more).added == 1
    first, second = open_collection(path).parts
    assert first.layout.counts.scale == second.layout.counts.scale
    assert list(map(second.layout.vocabulary.__getitem__, range(30))) == list(
        map(first.layout.vocabulary.__getitem__, range(30))
    )
    rows = uninvert(second.layout, None, 0, 1)
    names = [second.layout.vocabulary[term] for term in rows.terms]
    weights = dict(zip(names, rows.batch(second.layout.counts.scale).weights.tolist(), strict=True))
    assert weights["t3"] == pytest.approx(2, abs=first.layout.counts.scale)
    assert weights["t29"] == pytest.approx(255 * first.layout.counts.scale), "clamped to the largest impact"


def test_a_corpus_and_its_terms_may_come_in_different_orders(path, tmp_path):
    more = write(tmp_path / "more.jsonl", map(row, range(20, 40)))
    corpus = [Passage(f"d{i}", f"other text {i}") for i in reversed(range(20, 40))]
    with IndexWriter.open(path) as writer:
        change = writer.replace(corpus, encoded=more)
        assert (change.added, change.replaced) == (10, 10)
        writer.commit()
        writer.merge(all=True)
    fresh = write(tmp_path / "all.jsonl", map(row, range(40)))
    build_index(tmp_path / "fresh", encoded=fresh)
    one, other = (open_collection(p).parts[0].layout for p in (path, tmp_path / "fresh"))
    rows, wanted = uninvert(one, None, 0, 40), uninvert(other, None, 0, 40)
    assert rows.indptr.tolist() == wanted.indptr.tolist()
    assert {one.passage(n).text for n in range(20, 40)} == {f"other text {i}" for i in range(20, 40)}


def test_rows_of_a_batch_belong_to_the_passages_in_order(path):
    with IndexWriter.open(path) as writer:
        writer.add([Passage("a", "one"), Passage("b", "two")], encoded=given({1: 1.0, 4: 2.0}, {2: 1.5}))
    added = open_collection(path).parts[1].layout
    assert uninvert(added, None, 0, 2).terms.tolist() == [1, 4, 2]


def test_what_does_not_fit_is_refused_before_anything_is_taken(path, tmp_path):
    unknown = write(tmp_path / "unknown.jsonl", [{**row(1), "vector": {"zzz": 1.0}}])
    with IndexWriter.open(path) as writer:
        with pytest.raises(InputError, match="'zzz' is not in the vocabulary"):
            writer.replace(encoded=unknown)
        with pytest.raises(InputError, match="encoded has term 30; the index has 30 terms"):
            writer.add([Passage("a", "one")], encoded=given({30: 1.0}))
        with pytest.raises(InputError, match="2 passages came with 1 row"):
            writer.add([Passage("a", "one"), Passage("b", "two")], encoded=given({3: 1.0}))
        with pytest.raises(ConfigError, match=r"give new ones encoded as well \(encoded=, --encoded\)"):
            writer.add([Passage("a", "one")])
        same = [Passage(f"d{i}", f"text {i}") for i in range(29)]
        assert writer.sync(same).deleted == ("d29",), "what is left alone needs no terms"
        writer.discard()
        assert writer.commit().commit == 1
    build_index(tmp_path / "bm25", [Passage("a", "one")], "bm25")
    with IndexWriter.open(tmp_path / "bm25") as writer:
        with pytest.raises(InputError, match="weighs terms by BM25"):
            writer.add([Passage("b", "two")], encoded=given({0: 1.0}))
        with pytest.raises(InputError, match="nothing to add"):
            writer.add()
    with IndexWriter.open(path) as writer, pytest.raises(InputError, match="no BM25 weights to fit again"):
        writer.merge(refit=True)
    assert segment_of(path).is_dir()
