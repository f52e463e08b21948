"""An order that puts similar things next to each other; numpy only."""

import numpy as np


def clustered_order(similarity: np.ndarray) -> list[int]:
    """Leaves of an average-linkage clustering; each merge is turned so that the most similar ends meet.

    The two groups with the highest mean similarity merge first; ties go to the groups that come first.

    Args:
        similarity: [thing, thing], symmetric; the diagonal is ignored.
    """
    groups = [[i] for i in range(len(similarity))]
    while len(groups) > 1:
        pairs = [(a, b) for b in range(len(groups)) for a in range(b)]
        means = [similarity[np.ix_(groups[a], groups[b])].mean() for a, b in pairs]
        a, b = pairs[int(np.argmax(np.round(means, 12)))]
        right = groups.pop(b)
        groups[a] = _joined(groups[a], right, similarity)
    return groups[0] if groups else []


def _joined(left: list[int], right: list[int], similarity: np.ndarray) -> list[int]:
    ways = [(x, y) for x in (left, left[::-1]) for y in (right, right[::-1])]
    return max(((similarity[x[-1], y[0]], x + y) for x, y in ways), key=lambda way: way[0])[1]
