"""Answers with less than full effort, against brute force: true scores, proven where they say so, and never too few."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.build.stream import build_index
from thresher.build.writer import IndexWriter
from thresher.index import IndexBuilder
from thresher.index.commit import writing_index
from thresher.index.counts import SUPERBLOCK
from thresher.records import Passage, SparseBatch
from thresher.search import Effort, Index
from thresher.search.effort import now
from thresher.search.kernels.types import FOREVER, PLANS

N, TERMS = 3 * SUPERBLOCK + 77, 24


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An index with dense, common and scanned lists, and the impacts it holds by passage and term."""
    rng = np.random.default_rng(5)
    table = np.zeros((N, TERMS), np.int64)
    for term in range(TERMS):
        share = 0.4 / (1 + term) ** 1.3
        some = rng.random(N) < share
        table[some, term] = np.clip(rng.lognormal(3, 0.9, int(some.sum())), 1, 255).astype(np.int64)
    table[0] = 255  # so that weights are stored as they are
    rows, terms = np.nonzero(table)
    indptr = np.searchsorted(rows, np.arange(N + 1)).astype(np.int64)
    path = tmp_path_factory.mktemp("steps") / "x"
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, [f"t{i:02d}" for i in range(TERMS)])
        weights = table[rows, terms].astype(np.float32)
        batch = SparseBatch(indptr, terms.astype(np.uint32), weights)
        builder.add([Passage(f"{i:05d}", "", metadata={}) for i in range(N)], batch)
        draft.fields.update(builder.finish())
    with Index.open(path) as index:
        yield index, table


def truth(table, terms, weights):
    scores = np.zeros(N)
    for term, weight in sorted(zip(terms, weights, strict=True)):
        scores += np.float64(np.float32(weight)) * table[:, term]
    return scores


def best(scores, k, allowed=None):
    order = np.lexsort((np.arange(N), -scores))
    order = order[scores[order] > 0] if allowed is None else order[(scores[order] > 0) & allowed[order]]
    return order[:k].tolist()


def checked(found, scores, k, allowed=None, *, few=False):
    """A ranking holds true scores, in order, as many as there are; and if it says so, the best."""
    numbers = found.numbers.tolist()
    assert len(set(numbers)) == len(numbers)
    assert few or len(numbers) == len(best(scores, k, allowed))
    scale = scores[numbers] / found.scores
    assert np.ptp(scale) <= 1e-12 * scale.max() if len(numbers) else True
    assert numbers == sorted(numbers, key=lambda i: (-scores[i], i))
    assert found.complete
    if found.exact:
        assert numbers == best(scores, k, allowed)


efforts = st.builds(
    Effort,
    terms=st.none() | st.integers(1, 8),
    candidates=st.sampled_from([1, 5, 40, 500, 5000]),
    blocks=st.sampled_from([1.0, 0.7]),
    postings=st.none() | st.sampled_from([0.05, 0.3, 0.9]),
    left_out=st.sampled_from([0.0, 0.2, 0.7]),
)


@settings(max_examples=60, deadline=None)
@given(
    query=st.dictionaries(
        st.integers(0, TERMS - 1), st.sampled_from([0.25, 0.5, 1.0, 1.7, 3.0]), min_size=1, max_size=12
    ),
    effort=efforts,
    k=st.sampled_from([0, 1, 10, 300, N]),
    plan=st.sampled_from(list(PLANS)),
    allow=st.sampled_from([None, 2, 3000]),
)
def test_hits_of_two_steps_hold_true_scores_and_are_the_best_where_they_say_so(built, query, effort, k, plan, allow):
    index, table = built
    terms, weights = list(query), list(query.values())
    allowed = None if allow is None else np.arange(N) % allow == 0
    found = index.search((terms, weights), k, effort=effort, plan=plan, allow=allowed, explain=True)
    checked(found, truth(table, terms, weights), k, allowed, few=effort.blocks < 1)
    (told,) = found.explanations
    assert told.first_terms <= told.terms == len(terms)
    assert told.rescored == 0 or told.rescored >= len(found)


def test_a_few_candidates_can_be_proven_to_hold_the_best(built):
    index, table = built
    query = ([0, 20], [0.01, 3.0])
    found = index.search(query, 3, effort=Effort(terms=1, candidates=20), explain=True)
    assert found.exact
    assert found.explanations[0].first_terms == 1
    assert 3 <= found.explanations[0].rescored <= 20
    checked(found, truth(table, *query), 3)
    ties = index.search(([0, 1], [1.0, 1.0]), 10, effort=Effort(terms=1, candidates=10))
    assert not ties.exact


def test_terms_are_left_out_while_they_add_little(built):
    """The fewest of the worthiest terms without which the others add at most the share of the bound."""
    index, table = built
    terms, weights = [0, 1, 2, 5, 9, 20], [0.5, 0.1, 2.0, 1.0, 3.0, 0.02]
    most = np.array(weights) * table[:, terms].max(axis=0)
    worth = np.argsort(-most / np.sqrt((table[:, terms] > 0).sum(axis=0)))
    rest = most.sum() - np.cumsum(most[worth])
    for share in (0.0, 0.01, 0.1, 0.3, 0.6, 0.99):
        effort = Effort(left_out=share, candidates=50)
        (told,) = index.search((terms, weights), 5, effort=effort, explain=True).explanations
        assert told.first_terms == 1 + np.argmax(rest <= share * most.sum() + 1e-9)


def test_as_many_candidates_as_passages_give_the_exact_answer(built):
    index, table = built
    query = ([0, 3, 7, 11, 15], [1.0, 0.5, 2.0, 1.5, 0.25])
    found = index.search(query, 50, effort=Effort(terms=1, candidates=N))
    assert found.numbers.tolist() == best(truth(table, *query), 50)
    assert found == index.search(query, 50)


def test_batches_and_threads_answer_as_one_query_does(built):
    index, _ = built
    rng = np.random.default_rng(8)
    queries = [
        (np.sort(rng.choice(TERMS, 6, replace=False)), rng.uniform(0.2, 2, 6).astype(np.float32)) for _ in range(40)
    ]
    effort = Effort(terms=4, candidates=30, postings=0.5, left_out=0.2)
    alone = [index.search(query, 10, effort=effort) for query in queries]
    for threads in (1, 3):
        run = index.search_batch(queries, 10, effort=effort, threads=threads)
        assert [run[str(i)] for i in range(40)] == alone
        assert [run[str(i)].exact for i in range(40)] == [one.exact for one in alone]


def test_segments_deletes_and_tiers_give_true_scores_too(tmp_path):
    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(30)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(300)]
    passages = [Passage(f"d{i:03d}", text) for i, text in enumerate(texts)]
    build_index(tmp_path / "x", passages[:150], "bm25")
    with IndexWriter.open(tmp_path / "x", merge=False) as writer:
        writer.add(passages[150:])
        writer.delete(docnos=[f"d{i:03d}" for i in range(0, 300, 7)])
        writer.commit()
    with Index.open(tmp_path / "x") as index:
        for seed in range(20):
            query = " ".join(np.random.default_rng(seed).choice(words, 6, replace=False))
            everything = dict(zip(*(lambda r: (r.docnos, r.scores.tolist()))(index.search(query, 300)), strict=True))
            found = index.search(query, 10, effort=Effort(terms=2, candidates=20))
            assert all(everything[docno] == score for docno, score in zip(found.docnos, found.scores, strict=True))
            assert len(found) == 10
            if found.exact:
                assert found.docnos == index.search(query, 10).docnos


def test_a_deadline_that_has_passed_gives_an_empty_answer_that_says_so(built):
    index, _ = built
    query = ([0, 3, 7], [1.0, 0.5, 2.0])
    late = index.search(query, 10, deadline_ms=0)
    assert (len(late), late.exact, late.complete) == (0, False, False)
    batch = index.search_batch([query, query], 10, deadline_ms=0, threads=2)
    assert [one.complete for one in batch.values()] == [False, False]
    for wait in (float("inf"), 1e9):
        found = index.search(query, 10, deadline_ms=wait)
        assert found == index.search(query, 10)
        assert found.exact
        assert found.complete


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("k", [10, 2000])
def test_what_is_found_by_the_deadline_has_true_scores(built, plan, k):
    index, table = built
    query = ([0, 2, 3, 5], [1.0, 0.5, 2.0, 0.75])
    scores, searcher = truth(table, *query), index._now.parts[0].searcher
    terms, weights = np.array(query[0], np.int64), np.array(query[1], np.float32)
    for wait in (0, 2_000, 10_000, 30_000, 100_000, 10**12):
        docs, found, row = searcher.top(terms, weights, k, Effort().limits, plan, deadline=now() + wait)
        assert np.allclose(found * (scores[docs[:1]] / found[:1] if len(docs) else 1), scores[docs], rtol=1e-12)
        assert len(docs) == 0 or found.tolist() == sorted(found.tolist(), reverse=True)
    assert searcher.top(terms, weights, k, Effort().limits, plan, deadline=FOREVER)[2] == row
