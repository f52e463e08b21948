"""Student's t for whole degrees of freedom: the finite sums, exact but for rounding; numpy only.

SciPy has it too, but its import would double the time of a `score_layer` job, and a model has hundreds of them
(workflow/documentation.md, "What is hand-written, and why").
"""

from functools import cache

import numpy as np

SMALLEST = 1e-15  # no p-value is given below it: sums of doubles say no more


def p_value(t: np.ndarray | float, df: int) -> np.ndarray:
    """Two-sided p-value of `t` [...] with `df` degrees of freedom, at least 1; NaN where `t` is NaN.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = np.arctan(np.abs(t) / np.sqrt(df))
    square, term, total = np.cos(angle) ** 2, np.ones_like(angle), np.zeros_like(angle)
    odd = df % 2
    for k in range(df // 2):
        total = total + term
        term = term * square * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    within = np.sin(angle) * total
    if odd:
        within = 2 / np.pi * (angle + np.cos(angle) * within)
    return np.maximum(1 - within, SMALLEST)


@cache
def quantile(confidence: float, df: int) -> float:
    """The t that lies inside -t to t with chance `confidence` for `df` degrees of freedom: bisection of `p_value`."""
    low, high = 0.0, 1.0
    while p_value(high, df) > 1 - confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, df) > 1 - confidence else (low, middle)
    return high
