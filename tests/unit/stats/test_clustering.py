"""The order of a clustering."""

import itertools

import numpy as np
import pytest
from headatlas.stats.clustering import clustered_order


def test_clustered_order_by_hand():
    alike = np.array([[1, 0.1, 0.9, 0.2], [0.1, 1, 0.3, 0.8], [0.9, 0.3, 1, 0.0], [0.2, 0.8, 0.0, 1]])
    # {0, 2} then {1, 3}; of the four ways to join them 2 and 1 (0.3) are the most alike ends.
    assert clustered_order(alike) == [0, 2, 1, 3]
    assert clustered_order(np.ones((1, 1))) == [0]
    assert clustered_order(np.zeros((3, 3))) == [0, 1, 2]


def test_clustered_order_merges_by_the_mean_not_by_the_nearest():
    alike = np.eye(4)
    for a, b, value in [(0, 1, 0.9), (0, 2, 0.6), (1, 2, 0.0), (2, 3, 0.4), (0, 3, 0.0), (1, 3, 0.0)]:
        alike[a, b] = alike[b, a] = value
    # 2 to {0, 1}: mean 0.3, less than 0.4 to 3; single linkage (0.6) would put 2 there first.
    order = clustered_order(alike)
    assert abs(order.index(2) - order.index(3)) == 1
    assert order == [1, 0, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_clustered_order_keeps_planted_groups_together(seed):
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat([0, 1, 2], 4))
    alike = 0.5 * (group[:, None] == group) + 0.1 * rng.random((12, 12))
    order = clustered_order((alike + alike.T) / 2)
    assert sorted(order) == list(range(12))
    assert sum(a != b for a, b in itertools.pairwise(group[order])) == 2
