"""The vectors of an index that is added to, deleted from and merged, against one that is built anew."""

import pickle
import random

import numpy as np
import pytest

from thresher.build.recipe import AskStep, Recipe, VectorsStep
from thresher.build.stream import build_index
from thresher.errors import ConfigError
from thresher.pipeline import Pipeline
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.search import Index

from .test_vectors_build import WORDS, Counting

PLAIN = Recipe(vectors=VectorsStep(storage="int8", sketch=4), ask=AskStep(rerank="", context="lexical"))
TIERED = PLAIN.model_copy(update={"prune": PruneStep(estimator="length", keep=0.7, similarity=None)})
QUERIES = ["word1 word2", "word7 word30 word3", "word39"]


class Words(Counting):
    """The encoder of the test of builds, of which others count as another model."""

    dimensions = len(WORDS)

    def accepts(self, fingerprint):
        return fingerprint == self.fingerprint


def made(numbers, salt=""):
    rng = random.Random(f"{salt}{numbers}")
    return [Passage(f"d{i:03d}", " ".join(rng.choices(WORDS, k=rng.randint(4, 20)))) for i in numbers]


def living(path, recipe):
    """An index with a segment built, two added and passages of each replaced or deleted; and what is in it."""
    build_index(path, made(range(120)), recipe, dense=Words())
    kept = {p.docno: p for p in made(range(120))}
    index = Index.open(path)
    for first, changed, gone in ((120, range(3, 30, 9), range(5, 40, 7)), (160, range(100, 140, 6), (1, 2, 119, 150))):
        with index.writer(dense=Words(), merge=False) as writer:
            writer.add(made(range(first, first + 40)))
            writer.replace(made(changed, "again"))
            writer.delete(docnos=[f"d{i:03d}" for i in gone])
        kept |= {p.docno: p for p in [*made(range(first, first + 40)), *made(changed, "again")]}
        kept = {docno: p for docno, p in kept.items() if int(docno[1:]) not in gone}
    index.refresh()
    return index, kept


def dense_answers(index, **more):
    vectors = Words().encode_queries(QUERIES)
    return [index.search(q, 15, by="dense", vector=v, **more).pairs() for q, v in zip(QUERIES, vectors, strict=True)]


def interpolated(index, run, **settings):
    vectors = Words().encode_queries(QUERIES)
    return [index.vectors.interpolate(r, v, **settings).pairs() for r, v in zip(run, vectors, strict=True)]


def by_definition(kept, vectors, k, allowed=None):
    """The best of `kept` by the dot products of what int8 keeps of their vectors."""
    docnos = sorted(kept if allowed is None else set(kept) & set(allowed))
    rows = Words().encode_passages([kept[docno].contents for docno in docnos])
    scales = (np.abs(rows).max(axis=1) / np.float32(127)).astype(np.float32)
    rows = (np.rint(rows / scales[:, None]).astype(np.float32) * scales[:, None]).astype(np.float64)
    found = []
    for vector in vectors.astype(np.float64):
        scores = np.zeros(len(rows))
        for i in range(rows.shape[1]):  # one term after the other, as the kernel adds them
            scores += rows[:, i] * vector[i]
        found.append(sorted(zip(docnos, scores.tolist(), strict=True), key=lambda row: (-row[1], row[0].encode()))[:k])
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return living(tmp_path_factory.mktemp("living") / "index", PLAIN)


def test_dense_retrieval_is_over_what_is_live_and_allowed(plain):
    index, kept = plain
    vectors = Words().encode_queries(QUERIES)
    assert len(index) == len(kept)
    assert dense_answers(index) == by_definition(kept, vectors, 15)
    for share in (2, 9, 60):
        allowed = [f"d{i:03d}" for i in range(0, 200, share)]
        assert dense_answers(index, allow=allowed) == by_definition(kept, vectors, 15, allowed)
    assert all(index.search(q, 5, by="dense", vector=v).exact for q, v in zip(QUERIES, vectors, strict=True))


def test_interpolation_gives_what_an_index_built_anew_gives(plain, tmp_path):
    index, kept = plain
    build_index(tmp_path / "fresh", list(kept.values()), PLAIN, dense=Words())
    fresh = Index.open(tmp_path / "fresh")
    run = [index.search(query, 100) for query in QUERIES]
    for settings in ({"stopping": "exact"}, {"stopping": "length"}, {"feedback": 2}):
        found = interpolated(index, run, k=20, **settings)
        there = [fresh.vectors.find_numbers(fresh.numbers(ranking.docnos)) for ranking in run]
        vectors = Words().encode_queries(QUERIES)
        expected = [
            fresh.vectors.interpolate(ranking, vector, positions=positions, k=20, **settings).pairs()
            for ranking, vector, positions in zip(run, vectors, there, strict=True)
        ]
        assert found == expected


def test_a_merge_changes_no_score_and_rankings_keep_the_vectors_of_their_commit(tmp_path):
    index, kept = living(tmp_path / "index", PLAIN)
    run = [index.search(query, 100) for query in QUERIES]
    dense, before = dense_answers(index), interpolated(index, run, k=20, feedback=2)
    with index.writer(dense=Words()) as writer:
        writer.merge(all=True)
        writer.delete(docnos=[run[0].docnos[0]])
    old = pickle.dumps(index.vectors)
    assert index.refresh()
    assert len(index.vectors) == len(kept)
    assert interpolated(index, run, k=20, feedback=2) == before, "of the commit that the rankings are of"
    del kept[run[0].docnos[0]]
    assert dense_answers(index) == by_definition(kept, Words().encode_queries(QUERIES), 15)
    assert dense_answers(index) != dense or run[0].docnos[0] not in dict(dense[0])
    assert len(pickle.loads(old)) >= len(index.vectors)  # noqa: S301


def test_a_replaced_passage_of_the_second_tier_is_encoded_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    index, _ = living(tmp_path / "index", TIERED)
    index = Index.open(tmp_path / "index", follow=True)
    pipeline = Pipeline.open(index, query_encoder=Words(), rerank=None, context=None)
    first = pipeline.ask(QUERIES[0], 200)
    assert first.errors == {}
    pruned = next(one for one in first.passages if one.tier == 2)
    with index.writer(dense=Words()) as writer:
        writer.replace([Passage(pruned.docno, "word1 word2 word1 word2")])
    answer = pipeline.ask(QUERIES[0], 200)
    again = Pipeline.open(tmp_path / "index", query_encoder=Words(), rerank=None, context=None).ask(QUERIES[0], 200)
    assert answer.ranking.pairs() == again.ranking.pairs()
    position = index.vectors.find_numbers(index.numbers([pruned.docno]))
    made = Words().encode_passages(["word1 word2 word1 word2"])
    np.testing.assert_allclose(index.vectors.stored.decode(position), made, atol=0.02)


def test_passages_with_vectors_of_another_model_are_refused(plain):
    index, kept = plain
    other = Words()
    other.fingerprint = "another"
    with pytest.raises(ConfigError, match="those of the added passages"), index.writer(dense=other) as writer:
        writer.add([Passage("new", "word1")])
        writer.commit()
    assert len(Index.open(index.path)) == len(kept)
