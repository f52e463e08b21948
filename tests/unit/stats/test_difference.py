"""Two runs compared: paired and independent samples against formulas worked out apart, and coverage by simulation."""

import math

import mpmath
import numpy as np
import pytest
from headatlas.stats.difference import Sample, compare
from headatlas.stats.head_statistics import head_statistics

N = 30


def sample(effects: np.ndarray, start: int = 0) -> Sample:
    """One item a question, numbered from `start`."""
    names = [f"q{start + row}" for row in range(len(effects))]
    return Sample(effects, names, names)


def test_what_both_runs_share_cancels_in_pairs():
    hard = np.random.default_rng(0).normal(0, 5, (N, 1))  # the same in both runs
    own = np.random.default_rng(1).normal(0, 0.1, (N, 1))
    found = compare(sample(hard + 1 + own), sample(hard), 0.95)
    assert found.paired
    alone = head_statistics(1 + own, np.arange(N), confidence=0.95)
    for name in ("effect", "std_error", "ci_low", "ci_high", "p_value"):
        assert getattr(found.difference, name) == pytest.approx(getattr(alone, name), rel=1e-6)
    assert found.first.effect - found.second.effect == pytest.approx(found.difference.effect)
    assert found.first.std_error[0] > 5 * found.difference.std_error[0]


def test_pairs_go_by_name_not_by_place_and_leave_out_what_one_run_lacks():
    values = np.arange(N, dtype=float)[:, None]
    order = np.random.default_rng(0).permutation(N)
    moved = sample(values).at(order[:25])
    found = compare(sample(values + 2), moved, 0.95)
    assert found.paired
    assert (found.difference.n_items, found.difference.n_questions) == (25, 25)
    assert found.difference.effect == pytest.approx(2)
    assert found.second.effect == pytest.approx(order[:25].mean())
    assert (found.difference.ci_low, found.difference.ci_high) == (pytest.approx(2), pytest.approx(2))


def test_few_shared_questions_make_independent_samples():
    first, second = np.random.default_rng(0).normal(1, 1, (30, 1)), np.random.default_rng(1).normal(0, 2, (40, 1))
    found = compare(sample(first), sample(second, start=15), 0.95)
    assert not found.paired
    error = math.hypot(first.std(ddof=1) / math.sqrt(30), second.std(ddof=1) / math.sqrt(40))
    assert found.difference.effect[0] == pytest.approx(first.mean() - second.mean())
    assert found.difference.std_error[0] == pytest.approx(error)
    # The third cumulant of a mean is that of the data over n squared; Hall's t with that of the difference.
    cumulants = [
        ((x - x.mean()) ** 3).mean() / x.std() ** 3 / math.sqrt(len(x)) * (x.std(ddof=1) / math.sqrt(len(x))) ** 3
        for x in (first, second)
    ]
    a, t = (cumulants[0] - cumulants[1]) / error**3, (first.mean() - second.mean()) / error
    hall = ((1 + a * t / 3) ** 3 - 1) / a + a / 6
    tails = [float(mpmath.betainc(29 / 2, 0.5, 0, 29 / (29 + x * x), regularized=True)) for x in (t, hall)]
    assert found.difference.p_value[0] == pytest.approx(max(tails))


def test_all_questions_of_a_small_run_are_pairs_without_a_test():
    found = compare(sample(np.ones((5, 1))), sample(np.zeros((5, 1))), 0.95)
    assert found.paired
    assert found.difference.effect == 1
    assert np.isnan(found.difference.p_value).all()


def test_items_of_a_question_are_one_cluster():
    effects = np.random.default_rng(0).normal(0, 1, (N, 1)).repeat(2, axis=0)
    questions = [f"q{row // 2}" for row in range(2 * N)]
    twice = Sample(effects, [f"i{row}" for row in range(2 * N)], questions)
    once = sample(effects[::2])
    zero = [side._replace(effects=np.zeros_like(side.effects)) for side in (twice, once)]
    a, b = compare(twice, zero[0], 0.95).difference, compare(once, zero[1], 0.95).difference
    assert a.p_value == pytest.approx(b.p_value)
    assert (a.n_items, a.n_questions) == (2 * N, N)


def test_intervals_of_independent_skewed_samples_cover():
    """Exponential effects of one sign, two runs of 40 and 60 questions: 95% intervals cover at least 93%."""
    rng = np.random.default_rng(0)
    first, second = rng.exponential(1, (40, 4000)), rng.exponential(2, (60, 4000))
    found = compare(sample(first), sample(second, start=100), 0.95).difference
    covered = ((found.ci_low <= -1) & (found.ci_high >= -1)).mean()
    assert 0.93 <= covered <= 0.99
