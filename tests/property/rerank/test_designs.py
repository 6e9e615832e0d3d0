"""Block designs hold what they promise: coverage, block sizes, and at their natural n how often candidates meet."""

import random
from collections import Counter
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.rerank.plans.designs import DESIGNS, blocks


def meetings(made):
    """How often each pair shares a block."""
    return Counter(pair for block in made for pair in combinations(sorted(block), 2))


def coverage(made, n):
    counts = Counter(item for block in made for item in block)
    return [counts[item] for item in range(n)]


@pytest.mark.parametrize("design", DESIGNS)
@given(n=st.integers(2, 160), size=st.integers(2, 170), replicas=st.integers(1, 6), seed=st.integers(0, 2**20))
def test_blocks_hold_no_candidate_twice_and_all_as_often_as_promised(design, n, size, replicas, seed):
    made = blocks(n, size, replicas, random.Random(seed), design)
    assert all(2 <= len(set(block)) == len(block) <= size for block in made)
    assert {item for block in made for item in block} <= set(range(n))
    held = coverage(made, n)
    slots = replicas * n
    if n <= size:
        assert (len(made), set(held)) == (replicas, {replicas})
    elif design == "equi-replicate":
        assert len(made) == -(-slots // size)
        assert set(held) <= {replicas, replicas + 1}
    elif design == "replicate":
        assert len(made) == slots // size
        assert set(held) <= {replicas - 1, replicas}
    elif design == "randomised":
        assert len(made) == -(-slots // size)
    else:
        promised = replicas if design == "latin-square" else replicas + replicas % 2
        assert min(held) == promised
        assert sum(held) - promised * n <= sum(len(block) == 2 for block in made)  # companions of lonely candidates
    assert Counter(map(len, made)) == Counter(map(len, blocks(n, size, replicas, random.Random(seed + 1), design)))


@given(size=st.integers(2, 20), seed=st.integers(0, 2**20))
def test_a_latin_square_at_its_natural_size_is_rows_and_columns(size, seed):
    made = blocks(size * size, size, 2, random.Random(seed), "latin-square")
    assert [len(block) for block in made] == [size] * (2 * size)
    assert set(meetings(made).values()) == {1}
    rows, columns = made[:size], made[size:]
    assert all(len(set(row) & set(column)) == 1 for row in rows for column in columns)
    assert sorted(item for row in rows for item in row) == list(range(size * size))


@given(size=st.integers(2, 20), seed=st.integers(0, 2**20))
def test_a_triangle_at_its_natural_size_lets_each_two_blocks_share_one(size, seed):
    n = size * (size + 1) // 2
    made = blocks(n, size, 2, random.Random(seed), "triangular")
    assert [len(block) for block in made] == [size] * (size + 1)
    assert set(meetings(made).values()) == {1}
    assert all(len(set(a) & set(b)) == 1 for a, b in combinations(made, 2))
    assert coverage(made, n) == [2] * n


@given(n=st.integers(3, 160), size=st.integers(2, 60), seed=st.integers(0, 2**20))
def test_rows_and_vertices_of_any_n_are_balanced(n, size, seed):
    """Cells differ by at most one candidate, so the blocks of a class differ by few."""
    if n <= size:
        return
    square = blocks(n, size, 1, random.Random(seed), "latin-square")
    sizes = sorted(len(block) for block in square)
    assert sizes[-1] - sizes[0] <= 1
    assert len(square) <= 2 * -(-n // size) + 1
    triangle = sorted(len(block) for block in blocks(n, size, 2, random.Random(seed), "triangular"))
    assert n > size * (size + 1) // 2 or triangle[-1] - triangle[0] <= 2


@pytest.mark.parametrize("design", DESIGNS)
def test_a_hundred_candidates_in_blocks_of_twenty(design):
    made = blocks(100, 20, 4, random.Random(1), design)
    assert len(made) == (22 if design == "triangular" else 20)
    assert all(len(block) in (18, 19, 20) for block in made)


@pytest.mark.parametrize("design", DESIGNS)
def test_no_block_is_the_head_of_the_list_or_in_its_order(design):
    for seed in range(5):
        for block in blocks(64, 8, 2, random.Random(seed), design):
            assert sorted(block) != list(range(8))
            assert not all(a < b for a, b in pairwise(block))
