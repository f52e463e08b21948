"""Statistics of heads: hand-computed values, a slow independent implementation, calibration by simulation."""

import math

import mpmath
import numpy as np
import pytest
from headatlas.stats import student_t
from headatlas.stats.head_statistics import (
    FEWEST,
    hall,
    hall_inverse,
    head_statistics,
    interval_and_p_value,
    mean_and_error,
    null_p_values,
    question_totals,
    residual_skewness,
    studentised,
)
from headatlas.stats.multiple_testing import benjamini_hochberg
from hypothesis import given, settings
from hypothesis import strategies as st

OPTIONS = {"confidence": 0.95}


def slow_p_value(effects: list[float]) -> float:
    """The larger of the p-values of Student's and Hall's t, one item a question, in plain Python and mpmath."""
    n = len(effects)
    mean = sum(effects) / n
    second, third = (sum((x - mean) ** k for x in effects) / n for k in (2, 3))
    t, a = mean / math.sqrt(second / (n - 1)), third / second**1.5 / math.sqrt(n)
    corrected = ((1 + a * t / 3) ** 3 - 1) / a + a / 6
    return max(tail(t, n - 1), tail(corrected, n - 1))


def tail(t: float, df: int) -> float:
    return float(mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True))


# ----- Student's t


@pytest.mark.parametrize("df", [1, 2, 3, 7, 19, 20, 76, 499])
def test_students_t_agrees_with_the_incomplete_beta_function(df):
    t = np.array([0, 0.3, 1, 2, 3.3, 8, -2])
    assert student_t.p_value(t, df) == pytest.approx([tail(each, df) for each in t], abs=1e-13)


def test_students_t_of_a_printed_table():
    """Abramowitz and Stegun, table 26.10: 0.95 and 0.99 for 1, 7, 19 and 60 degrees of freedom."""
    found = [[student_t.quantile(level, df) for df in (1, 7, 19, 60)] for level in (0.95, 0.99)]
    assert found[0] == pytest.approx([12.706, 2.365, 2.093, 2.000], abs=6e-4)
    assert found[1] == pytest.approx([63.657, 3.499, 2.861, 2.660], abs=6e-4)


def test_a_p_value_is_never_zero_and_that_of_nothing_is_nothing():
    found = student_t.p_value(np.array([math.inf, 1e9, math.nan]), 30)
    assert found[:2].tolist() == [student_t.SMALLEST] * 2
    assert np.isnan(found[2])


# ----- values known by hand


def test_effect_is_the_mean_over_items_not_over_questions():
    effects = np.array([[1.0], [2.0], [6.0]], dtype=np.float32)
    found = head_statistics(effects, np.array([7, 7, 2]), **OPTIONS)
    assert found.effect == pytest.approx([3.0])  # the mean of question means would be 3.75
    assert (found.n_items, found.n_questions) == (3, 2)


def test_question_totals_by_hand():
    totals, counts = question_totals(np.array([[1.0, 0], [2, 0], [6, -1]]), np.array([7, 7, 2]))
    assert totals.tolist() == [[6, -1], [3, 0]]
    assert counts.tolist() == [1, 2]


def test_head_without_any_effect():
    found = head_statistics(np.zeros((50, 2)), np.arange(50), **OPTIONS)
    assert found.p_value.tolist() == [1, 1]
    for values in (found.effect, found.std_error, found.ci_low, found.ci_high):
        assert values.tolist() == [0, 0]


def test_the_same_effect_on_every_question_is_certain():
    found = head_statistics(np.full((50, 1), 0.5), np.arange(50), **OPTIONS)
    assert (found.effect[0], found.ci_low[0], found.ci_high[0]) == (0.5, 0.5, 0.5)
    assert found.p_value[0] == student_t.SMALLEST


def test_one_question_says_nothing_of_the_spread():
    found = head_statistics(np.array([[1.0], [2.0]]), np.array([4, 4]), **OPTIONS)
    assert found.effect == [1.5]
    assert np.isnan([found.std_error, found.ci_low, found.ci_high, found.p_value]).all()


def test_fewer_than_twenty_questions_have_a_standard_error_and_no_interval():
    effects = np.random.default_rng(0).normal(5, 1, size=(FEWEST, 3))
    few = head_statistics(effects[1:], np.arange(FEWEST - 1), **OPTIONS)
    assert np.isfinite([few.effect, few.std_error]).all()
    assert np.isnan([few.ci_low, few.ci_high, few.p_value]).all()
    assert np.isfinite(np.stack(head_statistics(effects, np.arange(FEWEST), **OPTIONS)[:5])).all()
    assert (6 / 7) ** FEWEST < 0.05  # what FEWEST states about one question in seven


def test_a_head_that_is_not_there_has_nothing_and_changes_nothing():
    effects = np.random.default_rng(0).normal(size=(30, 3))
    whole = head_statistics(effects, np.arange(30), **OPTIONS)
    effects[:, 1] = np.nan
    found = head_statistics(effects, np.arange(30), **OPTIONS)
    for one, other in zip(found[:5], whole[:5], strict=True):
        assert np.isnan(one[1])
        assert one[[0, 2]].tolist() == other[[0, 2]].tolist()


def test_mean_and_error_by_hand():
    # Questions of 1 and 3 items with sums 1 and 7: mean 8 / 4 = 2, residuals 1 - 2 and 7 - 6, and so
    # sqrt(2 * (1 + 1)) / 4 = 1/2. The other head has no effect.
    totals, counts = np.array([[1.0, 0], [7, 0]]), np.array([1.0, 3])
    mean, error = mean_and_error(totals, counts)
    assert (mean.tolist(), error.tolist()) == ([2, 0], [0.5, 0])
    assert studentised(mean, error).tolist() == [4, 0]
    assert np.isnan(studentised(*mean_and_error(totals[:1], counts[:1]))).all()  # one question: nothing is known
    assert studentised(np.array([1.0, -1.0]), np.zeros(2)).tolist() == [math.inf, -math.inf]


def test_halls_t_by_hand():
    # Skewness over the root of n is 0.3: t = 2 becomes 2 + 0.3 * 4 / 3 + 0.09 * 8 / 27 + 0.05 = 2.4767, t = -2 becomes
    # -2 + 0.4 - 0.0267 + 0.05 = -1.5767: what speaks for a mean above 0 gets weight, what speaks against it loses some.
    skew = np.array([0.3, 0.3, 0.0])
    assert hall(np.array([2.0, -2.0, 2.0]), skew) == pytest.approx([2.476667, -1.576667, 2], abs=1e-6)
    for y in (-30.0, -2.0, 0.0, 1.0, 30.0):
        for a in (-0.9, -1e-3, -1e-13, 1e-9, 0.2, 1.0):
            assert hall(hall_inverse(y, np.array([a])), np.array([a])) == pytest.approx([y], rel=1e-9, abs=1e-9)


def test_skewness_by_hand():
    # 0, 0, 3: mean 1, residuals -1, -1, 2, variance 2, third moment 2: 2 / 2^1.5. Twice the items change nothing.
    totals = np.array([[0.0, 0, 1], [0, 0, 1], [3, 0, 1]])
    for counts in (np.ones(3), np.full(3, 2.0)):
        assert residual_skewness(totals, counts) == pytest.approx([2**-0.5, 0, 0], abs=1e-12)


def test_null_p_values_by_hand():
    null = np.array([[0.5, -3.0], [1.0, np.nan]])  # three draws: 0.5, 1, 3
    found = null_p_values(np.array([4.0, -2.0, 1.0, 0.0, math.inf]), null)
    assert found.tolist() == [1 / 4, 2 / 4, 3 / 4, 1, 1 / 4]
    assert np.isnan(null_p_values(np.array([np.nan]), null)).all()
    assert null_p_values(np.array([4.0]), np.array([[np.nan]])).tolist() == [1]  # no draw: nothing is known


@pytest.mark.parametrize("n", [5, 30])
def test_a_null_gives_the_p_values_and_nothing_else(n):
    effects, null = np.random.default_rng(0).normal(0.5, 1, size=(n, 4)), np.linspace(-3, 3, 99)[:, None]
    own, drawn = (head_statistics(effects, np.arange(n), **OPTIONS, null=draws) for draws in (None, null))
    t = effects.mean(0) / (effects.std(0, ddof=1) / math.sqrt(n))
    assert drawn.p_value == pytest.approx([(1 + (abs(null) >= abs(each)).sum()) / 100 for each in t], abs=0)
    for name in ("effect", "std_error", "ci_low", "ci_high"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(own, name))


# ----- an independent slow implementation


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=20, max_size=25).filter(lambda x: np.ptp(x) > 0.1), st.floats(-1, 1))
def test_p_values_agree_with_a_slow_computation(effects, shift):
    effects = [shift + 0.1 * x + (x > 2) for x in effects]
    found = head_statistics(np.array(effects)[:, None], np.arange(len(effects)), **OPTIONS).p_value
    assert found == pytest.approx([slow_p_value(effects)], rel=1e-6, abs=1e-12)


def samples(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Effects of mean zero."""
    if kind == "lognormal":
        return np.exp(rng.normal(size=shape)) - math.exp(0.5)
    if kind == "exponential":
        return rng.exponential(size=shape) - 1
    if kind == "sparse":  # three in ten questions, to the right
        return (rng.random(shape) < 0.3) * rng.exponential(size=shape) - 0.3 + 0.05 * rng.normal(size=shape)
    return rng.standard_t(3, size=shape) if kind == "t3" else rng.normal(size=shape)


KINDS = ("normal", "t3", "exponential", "lognormal", "sparse")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_interval_and_test_agree(kind, confidence):
    """Zero lies outside just where p is below 1 - confidence; an end moved to zero has that very p-value."""
    rng = np.random.default_rng(3)
    effects, counts = samples(kind, (25, 400), rng), rng.integers(1, 4, 25)
    totals = effects * counts[:, None]
    low, high, p_value = interval_and_p_value(totals, counts, confidence)
    assert (((low > 0) | (high < 0)) == (p_value < 1 - confidence)).all()
    for end in (low, high):
        _, _, at_end = interval_and_p_value(totals - end * counts[:, None], counts, confidence)
        assert at_end == pytest.approx(np.full(400, 1 - confidence), rel=1e-6)


def test_the_interval_contains_those_of_both_tests_and_no_more():
    effects = samples("lognormal", (30, 50), np.random.default_rng(1))
    found = head_statistics(effects, np.arange(30), **OPTIONS)
    reach, error, skew = (
        student_t.quantile(0.95, 29),
        found.std_error,
        residual_skewness(effects, np.ones(30)) / 30**0.5,
    )
    assert found.ci_low == pytest.approx(found.effect - reach * error)  # skewed to the right: Student's end is lower
    assert found.ci_high == pytest.approx(found.effect - hall_inverse(-reach, skew) * error)
    assert (found.ci_high - found.effect > 1.05 * reach * error).all()


# ----- calibration by simulation: each column is one independent experiment


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_questions", [20, 40, 77])
def test_intervals_cover_at_the_stated_rate_and_tests_err_at_theirs(kind, n_questions):
    """Two to three thousand experiments tell 0.92 from 0.935; the sparse effects need 40 questions."""
    rng = np.random.default_rng(17)
    per_question = rng.integers(1, 4, size=n_questions)  # unequal clusters
    questions = np.repeat(np.arange(n_questions), per_question)
    effects = samples(kind, (n_questions, 3000), rng)[questions]
    found = head_statistics(effects, questions, **OPTIONS)
    cover = ((found.ci_low <= 0) & (found.ci_high >= 0)).mean()
    assert 0.92 <= cover <= 0.985 or (kind == "lognormal" and n_questions == 20 and cover > 0.90), cover
    assert (found.p_value < 0.05).mean() == pytest.approx(1 - cover, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_a_head_passes_the_false_discovery_rate_on_null_data(kind):
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(100):
        p_values = head_statistics(samples(kind, (77, 64), rng), np.arange(77), **OPTIONS).p_value
        called += (benjamini_hochberg(p_values) < 0.05).any()
    assert called <= (30 if kind == "lognormal" else 5 + 3.5 * math.sqrt(100 * 0.05 * 0.95))


def test_standard_error_is_the_spread_of_the_mean_over_experiments():
    rng = np.random.default_rng(23)
    questions = np.repeat(np.arange(40), 2)
    effects = rng.normal(size=(40, 3000))[questions] + rng.normal(size=(80, 3000))
    found = head_statistics(effects, questions, **OPTIONS)
    assert found.std_error.mean() == pytest.approx(found.effect.std(), rel=0.05)


def test_duplicated_items_of_a_question_do_not_shrink_the_interval():
    rng = np.random.default_rng(0)
    effects, questions = rng.normal(size=(40, 5)), np.arange(40)
    once = head_statistics(effects, questions, **OPTIONS)
    often = head_statistics(np.repeat(effects, 9, axis=0), np.repeat(questions, 9), **OPTIONS)
    for name in ("effect", "std_error", "ci_low", "ci_high", "p_value"):
        assert getattr(often, name) == pytest.approx(getattr(once, name), rel=1e-9), name
    apart = head_statistics(np.repeat(effects, 9, axis=0), np.arange(360), **OPTIONS)
    assert (apart.std_error < 0.5 * once.std_error).all()  # what taking items for questions would claim


def test_planted_head_is_found_among_1024():
    """Power at least 0.95 at 0.65 standard deviations and 100 questions, after Benjamini-Hochberg."""
    rng = np.random.default_rng(29)
    effects = rng.normal(0.65, 1, size=(100, 300))  # 300 experiments, one planted head in each
    p_values = head_statistics(effects, np.arange(100), **OPTIONS).p_value
    others = rng.uniform(size=(300, 1023))  # p-values of heads without effect
    q_values = [benjamini_hochberg(np.append(rest, p))[-1] for p, rest in zip(p_values, others, strict=True)]
    assert np.mean(np.array(q_values) < 0.05) >= 0.95


# ----- order, bad input


def test_order_of_items_is_of_no_matter():
    rng = np.random.default_rng(0)
    effects, questions = rng.normal(size=(90, 3)), rng.permutation(np.repeat(np.arange(30), 3))
    order = rng.permutation(90)
    first = head_statistics(effects, questions, **OPTIONS)
    second = head_statistics(effects[order], questions[order], **OPTIONS)
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize(
    ("effects", "questions", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0), "do not fit"),
        (np.zeros((3, 2)), np.zeros(2), "do not fit"),
        (np.array([[np.inf]]), np.zeros(1), "not finite"),
        (np.array([[np.nan], [1.0]]), np.zeros(2), "not finite"),
    ],
)
def test_bad_input_is_refused(effects, questions, message):
    with pytest.raises(ValueError, match=message):
        head_statistics(effects, questions, **OPTIONS)
