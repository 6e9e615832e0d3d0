"""Linear quantisation: bounds, and what is refused."""

import numpy as np
import pytest

from thresher.encode.terms import LinearScale, fit_scale
from thresher.errors import ConfigError, InputError


def test_the_largest_weight_is_the_largest_impact_and_no_posting_vanishes():
    for bits, dtype, top in ((8, np.uint8, 255), (16, np.uint16, 65535)):
        scale = fit_scale(3.0, bits)
        impacts = scale.quantize(np.array([3.0, 1.5, 1e-9, 9.0], np.float32))
        assert impacts.dtype == dtype
        assert impacts.tolist() == [top, (top + 1) // 2, 1, top]


def test_a_collection_without_weights_has_scale_one():
    assert fit_scale(0.0) == LinearScale(1.0, 8)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_weights_that_are_no_weights_are_refused(weight):
    with pytest.raises(InputError, match="position 1"):
        LinearScale(1.0).quantize(np.array([1.0, weight], np.float32))


def test_other_widths_and_scales_are_refused():
    with pytest.raises(ConfigError):
        fit_scale(1.0, 12)
    for scale in (0.0, -1.0, np.nan):
        with pytest.raises(InputError):
            LinearScale(scale)
    with pytest.raises(InputError):
        fit_scale(np.inf)
