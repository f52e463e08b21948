"""Adjustment of p-values for the number of tests; numpy, and SciPy for Benjamini-Hochberg.

NaN is no test: it is not counted, and stays NaN.
"""

from collections.abc import Callable

import numpy as np


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """False discovery rate q-values of [test] p-values (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control  # takes 0.7 s to import: only jobs that call this pay

    return _over_tests(p_values, false_discovery_control)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusted [test] p-values that keep the chance of any false call below the level (Holm 1979)."""
    return _over_tests(p_values, _step_down)


def _step_down(p_values: np.ndarray) -> np.ndarray:
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return np.minimum(adjusted, 1.0)


def _over_tests(p_values: np.ndarray, adjust: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    tested = ~np.isnan(p_values)
    adjusted = np.full(len(p_values), np.nan)
    adjusted[tested] = adjust(p_values[tested])
    return adjusted
