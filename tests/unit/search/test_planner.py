import numpy as np
import pytest

from thresher.search.bounds import share_reached

ROWS = np.array([0, -1, 1], np.int32)
KTH = np.array([[9, 0, 0, 0], [510, 0, 0, 0]], np.float32)


def share(maxima, least, bits=8, terms=(0, 1, 2), weights=(1.0, 5.0, 2.0)):
    terms, weights = np.array(terms, np.uint32), np.array(weights, np.float64)
    return share_reached(terms, weights, bits, ROWS, KTH, np.array(maxima, np.uint8), least)


@pytest.mark.parametrize(("least", "expected"), [(1.0, 0.75), (11.0, 0.75), (12.0, 0.5), (14.0, 0.25), (30.0, 0.0)])
def test_bounds_are_weighted_sums_of_the_common_terms_maxima(least, expected):
    assert share([[1, 9, 0, 0], [5, 2, 0, 10]], least) == expected


def test_wide_impacts_are_bounded_in_the_unit_of_their_list():
    assert share([[0, 0], [255, 127]], 1020.0, bits=16, terms=(2,), weights=(2.0,)) == 0.5


def test_a_sample_of_many_blocks_is_evenly_spaced():
    maxima = np.zeros((2, 5000), np.uint8)
    maxima[0, ::19] = 7  # 5000 // 256 blocks apart
    assert share(maxima, 7.0, terms=(0,), weights=(1.0,)) == 1.0
    maxima[0] = 0
    assert share(maxima, 7.0, terms=(0,), weights=(1.0,)) == 0.0
