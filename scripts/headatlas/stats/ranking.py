"""Ranks, correlations and top sets of heads; numpy, and SciPy for ranks."""

from math import comb

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, 1 = smallest; equal values share their mean rank. Same shape; NaN along an axis with
    any NaN."""
    from scipy.stats import rankdata  # takes 0.7 s to import: only jobs that call this pay

    return rankdata(values, axis=-1)


def rank_correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman correlation along the last axis; NaN where one side is constant.

    Args:
        left, right: [..., head].

    Returns:
        [...] in -1 to 1.
    """
    return correlation(ranks(left), ranks(right))


def correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson correlation along the last axis; NaN where one side is constant.

    Args:
        left, right: [..., head].

    Returns:
        [...] in -1 to 1.
    """
    a, b = (side - side.mean(axis=-1, keepdims=True) for side in (left, right))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        return np.where(scale > 0, (a * b).sum(axis=-1) / scale, np.nan)


def top(importance: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest values of [head] that are above 0, largest first, ties by index."""
    order = np.argsort(-importance, kind="stable")[:k]
    return order[importance[order] > 0]


def top_count(share: float, n: int) -> int:
    """How many of n heads a share of them is: at least one."""
    return max(1, round(share * n))


def hottest(effect: np.ndarray, share: float) -> list[tuple[int, int]]:
    """The share of the heads, at least one, that have the largest effects in size: (layer, head), largest first.

    Args:
        effect: [layer, head], NaN in layers without attention; ties go by layer, then head.
    """
    size = np.abs(effect).ravel()
    k = top_count(share, np.isfinite(size).sum())
    order = np.argsort(-size, kind="stable")[:k]  # NaN comes last
    return [divmod(int(index), effect.shape[1]) for index in order]


def overlap(left: np.ndarray, right: np.ndarray) -> float:
    """Share of the larger of two index sets that is in both; NaN where both are empty."""
    size = max(len(left), len(right))
    return len(np.intersect1d(left, right)) / size if size else float("nan")


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Size of the intersection of two index sets over that of their union; NaN where both are empty."""
    union = len(np.union1d(left, right))
    return len(np.intersect1d(left, right)) / union if union else float("nan")


def at_least_common(common: int, left: int, right: int, n: int) -> float:
    """Probability that two random sets of `left` and `right` of n heads have so many or more in common.

    Hypergeometric, exact in whole numbers.
    """
    hits = range(common, min(left, right) + 1)
    return sum(comb(left, both) * comb(n - left, right - both) for both in hits) / comb(n, right)
