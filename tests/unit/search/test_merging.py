"""Answers of several parts as one: by score, then docno, and docnos are read for ties between parts only."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thresher.search.best import merged


def answer(pairs):
    return np.array([number for number, _ in pairs], np.int64), np.array([score for _, score in pairs], float)


def test_equal_scores_of_different_parts_go_by_docno():
    names = {10: b"c", 11: b"a", 20: b"b", 21: b"0"}
    numbers, scores = merged([answer([(10, 3), (11, 2)]), answer([(20, 3), (21, 2)])], 4, names.__getitem__)
    assert numbers.tolist() == [20, 10, 21, 11]
    assert scores.tolist() == [3, 3, 2, 2]


def test_docnos_of_scores_that_do_not_tie_are_not_read():
    def refuse(number):
        raise AssertionError(number)

    numbers, _ = merged([answer([(1, 5), (2, 5), (3, 1)]), answer([(4, 4), (5, 2), (6, 2)])], 6, refuse)
    assert numbers.tolist() == [1, 2, 4, 5, 6, 3]


@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, 2.5]), max_size=8), max_size=5), st.integers(0, 30))
def test_the_merge_is_what_sorting_gives(parts, k):
    docnos, answers = {}, []
    for place, scores in enumerate(parts):
        own = [(100 * place + i, score) for i, score in enumerate(scores)]
        docnos |= {number: b"d%d" % (number * 7919 % 101) for number, _ in own}
        answers.append(answer(sorted(own, key=lambda pair: (-pair[1], docnos[pair[0]]))))
    numbers, scores = merged(answers, k, docnos.__getitem__)
    every = [
        (number, score) for own, given in answers for number, score in zip(own.tolist(), given.tolist(), strict=True)
    ]
    expected = sorted(every, key=lambda pair: (-pair[1], docnos[pair[0]]))[:k]
    assert list(zip(scores.tolist(), map(docnos.get, numbers.tolist()), strict=True)) == [
        (score, docnos[number]) for number, score in expected
    ]
