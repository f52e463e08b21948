"""Adaptive measurement: rounds by hand, which heads go on, and intervals that hold where effects have heavy tails."""

import numpy as np
import pytest
from headatlas.stats import student_t
from headatlas.stats.adaptive import (
    Bound,
    Rounds,
    adaptive_statistics,
    deciding_interval,
    draw_rounds,
    measure_in_rounds,
    open_heads,
    round_ends,
)
from headatlas.stats.head_statistics import head_statistics


def given_out(effects, questions, bound, seed=0):
    """Rounds over complete effects [item, head], and what was measured of them."""
    seen = np.full(effects.shape, np.nan)

    def measure(items, heads):
        cells = np.ix_(items, np.flatnonzero(heads))
        assert np.isnan(seen[cells]).all()
        seen[cells] = effects[cells]

    rounds = measure_in_rounds(seen, np.ones(effects.shape[1], bool), questions, bound, (seed,), measure)
    return seen, rounds


def test_rounds_grow_by_half_from_twenty_questions():
    assert round_ends(77) == [20, 30, 45, 68, 77]
    assert round_ends(30) == [20, 30]
    assert round_ends(21) == [20, 21]
    assert round_ends(20) == [20]
    assert round_ends(7) == [7]


def test_a_question_is_in_one_round_with_all_its_items_and_the_order_depends_on_the_seed():
    questions = np.repeat(np.arange(77)[::-1], [1, 2, 3, 1, 1, 1, 2] * 11)
    rounds = draw_rounds(questions, (0,))
    of_question = [set(rounds[questions == question]) for question in range(77)]
    assert all(len(found) == 1 for found in of_question)
    assert np.bincount([found.pop() for found in of_question]).tolist() == [20, 10, 15, 23, 9]
    assert np.array_equal(rounds, draw_rounds(questions, (0,)))
    assert not np.array_equal(rounds, draw_rounds(questions, (1,)))


def test_the_deciding_interval_by_hand():
    """Symmetric effects, so Student's t alone; 20 of 80 questions leave the root of 3/4 of its length."""
    effects = np.array([1.0, -1.0] * 10)[:, None] + 3
    low, high = deciding_interval(effects, np.ones(20), 80, looks=4)
    error = np.sqrt(20 / 19) / np.sqrt(20)
    half = student_t.quantile(1 - 0.05 / 4, 19) * error * np.sqrt(0.75)
    assert (low[0], high[0]) == pytest.approx((3 - half, 3 + half), abs=1e-12)


def test_a_head_goes_on_where_its_interval_reaches_the_bound():
    spread = np.array([1.0, -1.0] * 10)[:, None]
    effects = np.array([0.0, 1.0, -3.0, 2.0]) + spread * np.array([0.1, 1.0, 0.1, 0.1])
    questions = np.arange(20)
    # Half lengths: 0.056 (spread 0.1) and 0.56. Sizes at least 1.94 and 2.94 by the last two.
    assert open_heads(effects, questions, 80, Bound(smallest_effect=0.5)).tolist() == [False, True, True, True]
    assert open_heads(effects, questions, 80, Bound(smallest_effect=0.05)).tolist() == [True, True, True, True]
    assert open_heads(effects, questions, 80, Bound(top=2)).tolist() == [False, False, True, True]
    assert open_heads(effects, questions, 80, Bound(top=3)).tolist() == [False, True, True, True]
    assert open_heads(effects, questions, 80, Bound(top=4)).all()
    assert open_heads(effects, questions, 80, Bound(top=20)).all()


def test_further_questions_go_only_to_open_heads():
    rng = np.random.default_rng(0)
    effects = np.array([0.0, 0.02, 1.0, -1.0]) + 0.1 * rng.normal(size=(60, 4))
    seen, rounds = given_out(effects, np.arange(60), Bound(smallest_effect=0.5))
    assert round_ends(60) == [20, 30, 45, 60]
    assert rounds.head.tolist() == [1, 1, 4, 4]
    assert np.isfinite(seen).sum(0).tolist() == [20, 20, 60, 60]
    assert np.array_equal(np.isfinite(seen), rounds.measured)
    seen, rounds = given_out(effects, np.arange(60), Bound(smallest_effect=5.0))
    assert rounds.head.tolist() == [1, 1, 1, 1]


def test_an_effect_that_is_not_finite_stops_no_head_and_no_other():
    effects = np.full((40, 3), 0.001) + 1e-4 * np.random.default_rng(0).normal(size=(40, 3))
    effects[:, 1] = np.nan
    rounds = given_out(effects, np.arange(40), Bound(smallest_effect=0.5))[1]
    assert rounds.head.tolist() == [1, 3, 1]


def test_statistics_of_complete_heads_are_the_usual_ones_and_of_others_wider():
    rng = np.random.default_rng(1)
    questions = np.repeat(np.arange(60), 2)
    effects = np.array([0.05, 0.5]) + 0.1 * rng.exponential(size=(120, 2))
    seen, rounds = given_out(effects, questions, Bound(smallest_effect=0.4))
    assert rounds.head.tolist() == [1, 4]
    found = adaptive_statistics(seen, questions, rounds, confidence=0.9)
    assert (found.n_questions.tolist(), found.n_items.tolist()) == ([20, 60], [40, 120])
    usual = head_statistics(effects[:, 1:], questions, confidence=0.9)
    first = rounds.item == 0
    early = head_statistics(effects[first, :1], questions[first], confidence=1 - 0.1 / 3)
    for name in ("effect", "std_error", "ci_low", "ci_high"):
        expected = [getattr(early, name)[0], getattr(usual, name)[0]]
        assert getattr(found, name).tolist() == expected, name
    assert found.p_value.tolist() == [min(1, 3 * early.p_value[0]), usual.p_value[0]]


def test_with_few_questions_there_is_one_round_and_no_interval():
    effects = np.random.default_rng(2).normal(size=(12, 2))
    seen, rounds = given_out(effects, np.arange(12), Bound(smallest_effect=9.0))
    assert np.array_equal(seen, effects)
    found = adaptive_statistics(seen, np.arange(12), rounds, confidence=0.95)
    assert np.isnan(found.ci_low).all()
    assert found.n_questions.tolist() == [12, 12]


def heavy(kind, n, heads, rng):
    """Effects [question, head] of mean zero with heavy tails, as in tests/benchmarks/interval_coverage.py."""
    if kind == "sparse":  # one question in three matters
        return (rng.random((n, heads)) < 1 / 3) * rng.exponential(size=(n, heads)) - 1 / 3
    if kind == "t3":
        return rng.standard_t(3, size=(n, heads))
    return np.exp(rng.normal(size=(n, heads))) - np.exp(0.5)


@pytest.mark.parametrize(("kind", "least"), [("normal", 0.95), ("t3", 0.93), ("lognormal", 0.92), ("sparse", 0.95)])
def test_all_rounds_together_cover_the_mean_over_all_questions(kind, least):
    """0.95 is nominal; lognormal effects, whose largest come late, fall short of it by a little."""
    rng = np.random.default_rng(3)
    effects = rng.normal(size=(77, 4000)) if kind == "normal" else heavy(kind, 77, 4000, rng)
    truth, right = effects.mean(0), np.ones(4000, bool)
    for end in round_ends(77)[:-1]:
        low, high = deciding_interval(effects[:end], np.ones(end), 77, looks=4)
        right &= (low <= truth) & (truth <= high)
    assert least <= right.mean() < 0.99


@pytest.mark.parametrize("kind", ["t3", "lognormal", "sparse"])
def test_reported_intervals_cover_wherever_heads_stop(kind):
    """The population's mean is 0, and heads stop at different rounds because the bound lies within their reach."""
    effects = heavy(kind, 77, 4000, np.random.default_rng(4))
    _, rounds = given_out(effects, np.arange(77), Bound(smallest_effect=0.6))
    assert len(np.unique(rounds.head)) >= 3
    found = adaptive_statistics(effects, np.arange(77), rounds, confidence=0.95)
    assert ((found.ci_low <= 0) & (found.ci_high >= 0)).mean() >= 0.93


def test_the_hottest_heads_are_those_of_all_questions():
    """40 heads, five of which matter, with lognormal noise: few questions for most, and the same five."""
    rng = np.random.default_rng(5)
    effects = np.r_[2.0, -2.5, 3.0, 3.5, -4.0, np.zeros(35)] + 0.3 * heavy("lognormal", 200, 40, rng)
    seen, rounds = given_out(effects, np.arange(200), Bound(top=5))
    assert set(np.argsort(-np.abs(np.nanmean(seen, axis=0)))[:5]) == {0, 1, 2, 3, 4}
    assert (rounds.head[:5] == len(round_ends(200))).all()
    assert effects.size / rounds.measured.sum() > 4


def test_what_was_measured():
    rounds = Rounds(np.array([0, 1, 2]), np.array([[1, 3], [0, 2]]))
    assert rounds.measured.tolist() == [
        [[True, True], [False, True]],
        [[False, True], [False, True]],
        [[False, True], [False, False]],
    ]
