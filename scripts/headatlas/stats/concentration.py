"""How concentrated importance is, and in which layers it lies; numpy only.

Importance is [head], never negative, on any scale. Every figure is NaN (or 0 heads) if no head has any importance.
"""

import numpy as np

from headatlas.stats.ranking import top_count


def elbow(importance: np.ndarray) -> int:
    """Number of heads before the bend of the curve of sorted importance.

    The bend is the point furthest below the straight line from the first to the last head (Kneedle of Satopaa et al.
    2011, without smoothing). 0 if all heads are equal.
    """
    curve = np.sort(importance)[::-1]
    line = np.linspace(curve[0], curve[-1], len(curve))
    below = line - curve
    return int(below.argmax()) if below.max() > 1e-12 * curve[0] else 0


def gini(importance: np.ndarray) -> float:
    """Gini coefficient: 0 = all heads are equal, (n - 1) / n = one head holds everything."""
    n, total = len(importance), importance.sum()
    if total == 0:
        return float("nan")
    return float((np.sort(importance) @ (2 * np.arange(1, n + 1) - n - 1)) / (n * total))


def effective_heads(importance: np.ndarray) -> float:
    """Exponential of the entropy of the shares: n if n heads share evenly and the others have nothing."""
    total = importance.sum()
    if total == 0:
        return float("nan")
    share = importance[importance > 0] / total
    return float(np.exp(-(share @ np.log(share))))


def top_share(importance: np.ndarray, part: float) -> float:
    """Share of all importance that the most important `part` of the heads holds (0.01 = 1%; at least one head)."""
    total, k = importance.sum(), top_count(part, len(importance))
    return float(np.sort(importance)[::-1][:k].sum() / total) if total else float("nan")


def layer_shares(importance: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Share of all importance in each layer: [layer]; `layer` [head] counts from 0."""
    total = importance.sum()
    sums = np.bincount(layer, weights=importance)
    return sums / total if total else np.full(len(sums), np.nan)


def layer_centre(importance: np.ndarray, layer: np.ndarray) -> float:
    """Centre of mass in layers: 0 = all in the first layer."""
    shares = layer_shares(importance, layer)
    return float(shares @ np.arange(len(shares)))


def layer_quartiles(importance: np.ndarray, layer: np.ndarray) -> list[int] | list[None]:
    """The layers by which a quarter, a half and three quarters of the importance are reached."""
    reached = np.cumsum(layer_shares(importance, layer))
    if np.isnan(reached).any():
        return [None] * 3
    return [int(np.argmax(reached >= quarter - 1e-12)) for quarter in (0.25, 0.5, 0.75)]
