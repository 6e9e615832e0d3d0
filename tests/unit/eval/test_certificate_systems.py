"""What the certificate's experiment leaves out, and which level it calls the largest."""

import numpy as np

from eval.certificate import largest
from eval.certified_systems import credited, without, without_light_tokens
from thresher.ranking import Ranking, Run
from thresher.records import Qrels, SparseBatch


def batch(rows):
    terms = [term for row in rows for term, _ in row]
    weights = [weight for row in rows for _, weight in row]
    indptr = np.cumsum([0, *map(len, rows)])
    return SparseBatch(indptr.astype(np.int64), np.array(terms, np.uint32), np.array(weights, np.float32))


def test_a_query_loses_its_frequent_and_light_terms_and_those_in_no_passage():
    counts = np.array([90, 1, 1, 1, 0, 1, 1, 1, 1, 1])  # 98 postings of 9 terms in 100 passages: 5 times .109
    queries = batch([[(0, 0.3), (1, 1.0), (2, 0.1), (4, 2.0)], [(0, 0.9), (1, 1.0)]])
    kept = without_light_tokens(queries, counts, 100)
    assert kept.indptr.tolist() == [0, 2, 4]
    assert kept.terms.tolist() == [1, 2, 0, 1]


def test_postings_go_at_random_and_the_number_stays():
    whole = batch([[(0, 1.0), (1, 2.0)], [(2, 3.0)], [(0, 4.0), (3, 5.0)]])
    left = without(whole, 3, seed=1)
    assert len(left) == 3
    assert len(left.terms) == 3
    rows = [set(whole.terms[whole.indptr[i] : whole.indptr[i + 1]]) for i in range(3)]
    assert all(set(left.terms[left.indptr[i] : left.indptr[i + 1]]) <= rows[i] for i in range(3))


def test_a_judged_passage_is_found_through_its_twin_where_that_is_credited():
    run = Run({"1": Ranking(["a", "b"], [2.0, 1.0]), "2": Ranking(["a"], [1.0])})
    qrels = Qrels({"1": {"twin": 2, "a": 0}, "2": {"a": 1}})
    found = credited(run, {"a": ["twin", "other"]}, qrels)
    assert found["1"].docnos == ["twin", "b"]
    assert found["2"].docnos == ["a"]


def test_a_level_counts_only_with_every_milder_one():
    levels = [{"setting": str(i), "proven": proven} for i, proven in enumerate((True, True, False, True))]
    best, following = largest(levels, "proven")
    assert (best["setting"], following["setting"]) == ("1", "2")
    assert largest(levels[2:], "proven") == (None, levels[2])
    assert largest(levels[:2], "proven") == (levels[1], None)
