"""Multiple testing: q-values and adjusted p-values by hand; NaN is no test."""

import math

import numpy as np
import pytest
from headatlas.stats.multiple_testing import benjamini_hochberg, holm


def test_benjamini_hochberg_by_hand():
    # Sorted: .01 .02 .03 .04 .5 -> p * 5 / rank: .05 .05 .05 .05 .5
    assert benjamini_hochberg(np.array([0.5, 0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.5, 0.05, 0.05, 0.05, 0.05])
    # .01 .04 .045 -> .03 .06 .045 -> running minimum from the top: .03 .045 .045
    assert benjamini_hochberg(np.array([0.045, 0.04, 0.01])) == pytest.approx([0.045, 0.045, 0.03])
    assert benjamini_hochberg(np.array([1.0, 1.0])).tolist() == [1, 1]


def test_what_is_unknown_is_no_test():
    known = np.array([0.5, 0.03, 0.01, 0.04, 0.02])
    found = benjamini_hochberg(np.array([0.5, np.nan, 0.03, 0.01, 0.04, np.nan, 0.02]))
    assert np.isnan(found[[1, 5]]).all()
    assert found[[0, 2, 3, 4, 6]].tolist() == benjamini_hochberg(known).tolist()
    assert np.isnan(benjamini_hochberg(np.full(3, np.nan))).all()


def test_q_values_are_never_below_their_p_values():
    """Not even by rounding, which p * n / n would do."""
    for seed in range(200):
        p_values = np.random.default_rng(seed).random(48)
        assert (benjamini_hochberg(p_values) >= p_values).all()


def test_holm_by_hand():
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.5, 0.6])).tolist() == [1, 1]
    found = holm(np.array([0.04, math.nan, 0.01, 0.03]))
    assert found[[0, 2, 3]] == pytest.approx([0.06, 0.03, 0.06])
    assert math.isnan(found[1])
