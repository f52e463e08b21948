"""Statistics of heads: hand-computed values, a slow independent implementation, calibration by simulation."""

import itertools
import math
import random
import statistics as plain

import numpy as np
import pytest
from headatlas.statistics import (
    benjamini_hochberg,
    bootstrap_means,
    bootstrap_spread,
    head_statistics,
    mean_and_error,
    null_p_values,
    question_totals,
    sign_flip_p_values,
    studentised,
)
from hypothesis import given, settings
from hypothesis import strategies as st

OPTIONS = {"resamples": 2000, "permutations": 2000, "confidence": 0.95, "seed": (0, 3)}


def slow_exact_p_value(totals: list[float]) -> float:
    flips = list(itertools.product([1, -1], repeat=len(totals)))
    observed = abs(sum(totals))
    hits = sum(abs(sum(s * t for s, t in zip(signs, totals, strict=True))) >= observed - 1e-9 for signs in flips)
    return hits / len(flips)


def slow_bootstrap(effects: list[float], questions: list[int], draws: int, confidence: float):
    """Standard error and percentile interval over questions, in plain Python."""
    rng = random.Random(1)
    names = sorted(set(questions))
    groups = [[e for e, q in zip(effects, questions, strict=True) if q == name] for name in names]
    means = []
    for _ in range(draws):
        drawn = [e for _ in groups for e in rng.choice(groups)]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    widen = math.sqrt(len(names) / (len(names) - 1))
    centre = sum(effects) / len(effects)
    ends = (means[int(draws * (1 - confidence) / 2)], means[int(draws * (1 + confidence) / 2)])
    return plain.pstdev(means) * widen, *(centre + widen * (end - centre) for end in ends)


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


def test_exact_p_values_by_hand():
    totals = np.array([[1.0, 1, 0, 3], [1, -1, 0, 1], [1, 1, 0, 1]])
    # 1+1+1: only all signs alike reach 3: 2 of 8. 1-1+1: every flip reaches 1: 8 of 8. Zeros: always.
    # 3+1+1 = 5: only all alike: 2 of 8.
    assert sign_flip_p_values(totals, 8, np.random.default_rng(0)).tolist() == [0.25, 1, 1, 0.25]


def test_smallest_exact_p_value_of_ten_questions_is_two_in_1024():
    effects = np.ones((10, 1))
    assert head_statistics(effects, np.arange(10), **OPTIONS).p_value == pytest.approx([2 / 1024], abs=0)


def test_monte_carlo_p_value_is_never_zero():
    found = head_statistics(np.ones((200, 1)), np.arange(200), **OPTIONS)
    assert found.p_value == pytest.approx([1 / 2001], abs=0)


def test_head_without_any_effect():
    found = head_statistics(np.zeros((50, 2)), np.arange(50), **OPTIONS)
    assert found.p_value.tolist() == [1, 1]
    for values in (found.effect, found.std_error, found.ci_low, found.ci_high):
        assert values.tolist() == [0, 0]


def test_one_question_says_nothing_of_the_spread():
    found = head_statistics(np.array([[1.0], [2.0]]), np.array([4, 4]), **OPTIONS)
    assert found.effect == [1.5]
    assert found.p_value == [1.0]
    assert np.isnan([found.std_error, found.ci_low, found.ci_high]).all()


def test_spread_of_two_questions_by_hand():
    # Resamples of (0, 2): 0, 1, 1, 2 each a quarter: standard deviation sqrt(1/2), widened by sqrt(2) to 1.
    means = np.array([[0.0], [1], [1], [2]])
    std_error, low, high = bootstrap_spread(means, np.array([1.0]), 2, confidence=0.999999)
    assert std_error == pytest.approx([1.0])
    assert (low, high) == (
        pytest.approx([1 - math.sqrt(2)], abs=1e-4),
        pytest.approx([1 + math.sqrt(2)], abs=1e-4),
    )


def test_mean_and_error_by_hand():
    # Questions of 1 and 3 items with sums 1 and 7: mean 8 / 4 = 2, residuals 1 - 2 and 7 - 6, and so
    # sqrt(2 * (1 + 1)) / 4 = 1/2. The other head has no effect.
    totals, counts = np.array([[1.0, 0], [7, 0]]), np.array([1.0, 3])
    mean, error = mean_and_error(totals, counts)
    assert (mean.tolist(), error.tolist()) == ([2, 0], [0.5, 0])
    assert studentised(mean, error).tolist() == [4, 0]
    assert np.isnan(studentised(*mean_and_error(totals[:1], counts[:1]))).all()  # one question: nothing is known
    assert studentised(np.array([1.0, -1.0]), np.zeros(2)).tolist() == [math.inf, -math.inf]


def test_null_p_values_by_hand():
    null = np.array([[0.5, -3.0], [1.0, np.nan]])  # three draws: 0.5, 1, 3
    found = null_p_values(np.array([4.0, -2.0, 1.0, 0.0, np.nan, math.inf]), null)
    assert found.tolist() == [1 / 4, 2 / 4, 3 / 4, 1, 1, 1 / 4]
    assert null_p_values(np.array([4.0]), np.array([[np.nan]])).tolist() == [1]  # no draw: nothing is known


def test_a_null_takes_the_place_of_sign_flips_and_of_nothing_else():
    effects, null = np.random.default_rng(0).normal(0.5, 1, size=(30, 4)), np.linspace(-3, 3, 99)[:, None]
    flips, drawn = (head_statistics(effects, np.arange(30), **OPTIONS, null=draws) for draws in (None, null))
    t = effects.mean(0) / (effects.std(0, ddof=1) / math.sqrt(30))
    assert drawn.p_value == pytest.approx([(1 + (abs(null) >= abs(each)).sum()) / 100 for each in t], abs=0)
    assert (drawn.p_value != flips.p_value).any()
    for name in ("effect", "std_error", "ci_low", "ci_high"):
        assert getattr(drawn, name).tolist() == getattr(flips, name).tolist()


def test_benjamini_hochberg_by_hand():
    # Sorted: .01 .02 .03 .04 .5 -> p * 5 / rank: .05 .05 .05 .05 .5
    assert benjamini_hochberg(np.array([0.5, 0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.5, 0.05, 0.05, 0.05, 0.05])
    # .01 .04 .045 -> .03 .06 .045 -> running minimum from the top: .03 .045 .045
    assert benjamini_hochberg(np.array([0.045, 0.04, 0.01])) == pytest.approx([0.045, 0.045, 0.03])
    assert benjamini_hochberg(np.array([1.0, 1.0])).tolist() == [1, 1]


# ----- an independent slow implementation


def test_spread_agrees_with_a_slow_bootstrap():
    rng = np.random.default_rng(5)
    questions = rng.integers(25, size=70)
    effects = rng.normal(size=70) + rng.normal(size=25)[questions] + 0.3
    found = head_statistics(effects[:, None], questions, **{**OPTIONS, "resamples": 20_000})
    std_error, low, high = slow_bootstrap(effects.tolist(), questions.tolist(), 20_000, 0.95)
    assert found.std_error == pytest.approx([std_error], rel=0.03)
    assert found.ci_low == pytest.approx([low], abs=0.04 * (high - low))
    assert found.ci_high == pytest.approx([high], abs=0.04 * (high - low))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7))
def test_exact_p_values_agree_with_a_slow_enumeration(totals):
    found = sign_flip_p_values(np.array(totals, dtype=float)[:, None], 128, np.random.default_rng(0))
    assert found == pytest.approx([slow_exact_p_value(totals)], abs=0)


def test_monte_carlo_p_values_agree_with_the_exact_ones():
    totals = np.random.default_rng(2).normal(0.4, 1, size=(12, 6))
    exact = [slow_exact_p_value(column.tolist()) for column in totals.T]
    found = sign_flip_p_values(totals, 4000, np.random.default_rng(0))  # 2^12 = 4096 is more: Monte Carlo
    assert found == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(4000))
    assert found != pytest.approx(exact, abs=0)


def test_blocks_are_as_good_as_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    totals, counts = rng.normal(0.3, 1, size=(30, 4)), np.ones(30)

    def run():
        means = bootstrap_means(totals, counts, 4000, np.random.default_rng(0))
        return means, sign_flip_p_values(totals, 4000, np.random.default_rng(0))

    whole, whole_p = run()
    monkeypatch.setattr("headatlas.statistics._CELLS_AT_ONCE", 30 * 700)  # five full blocks and one of 500
    blocked, blocked_p = run()
    assert blocked.shape == whole.shape == (4000, 4)
    assert blocked.std(axis=0) == pytest.approx(whole.std(axis=0), rel=0.06)
    assert blocked_p == pytest.approx(whole_p, abs=4 * math.sqrt(0.5 / 4000))


# ----- calibration by simulation: each column is one independent experiment


def within_binomial(hits: int, n: int, rate: float, errors: float = 3.5) -> bool:
    return abs(hits - n * rate) <= errors * math.sqrt(n * rate * (1 - rate)) + 1


@pytest.mark.parametrize("n_questions", [9, 60])
def test_null_rate_is_nominal(n_questions):
    experiments, per_question = 4000, 3
    rng = np.random.default_rng(11)
    questions = np.repeat(np.arange(n_questions), per_question)
    shared = rng.standard_t(3, size=(n_questions, experiments))[questions]  # heavy tails, clustered, symmetric
    effects = shared + 0.3 * rng.normal(size=(len(questions), experiments))
    p_value = head_statistics(effects, questions, **OPTIONS).p_value
    for level in (0.01, 0.05, 0.2):
        allowed = math.floor(level * 2**n_questions / 2) * 2 / 2**n_questions if n_questions < 11 else level
        assert within_binomial(int((p_value <= level).sum()), experiments, allowed), level


def test_no_head_passes_the_false_discovery_rate_on_null_data():
    rng = np.random.default_rng(3)
    called = 0
    for run in range(100):
        effects = rng.normal(size=(60, 64))
        options = {**OPTIONS, "resamples": 2, "seed": (run,)}
        called += (benjamini_hochberg(head_statistics(effects, np.arange(60), **options).p_value) < 0.05).any()
    assert called <= 5 + 3.5 * math.sqrt(100 * 0.05 * 0.95)


@pytest.mark.parametrize(("n_questions", "skewed"), [(20, False), (60, False), (60, True), (200, True)])
def test_intervals_cover_at_the_stated_rate(n_questions, skewed):
    experiments = 2000
    rng = np.random.default_rng(17)
    per_question = rng.integers(1, 5, size=n_questions)  # unequal clusters
    questions = np.repeat(np.arange(n_questions), per_question)
    shared = rng.gamma(2.0, size=(n_questions, experiments)) if skewed else rng.normal(2, 1, (n_questions, experiments))
    effects = shared[questions] + rng.normal(size=(len(questions), experiments))
    found = head_statistics(effects, questions, **OPTIONS)
    cover = ((found.ci_low <= 2) & (found.ci_high >= 2)).mean()
    assert 0.90 <= cover <= 0.97, cover


def test_error_without_resampling_is_that_of_the_bootstrap():
    rng = np.random.default_rng(31)
    questions = np.repeat(np.arange(200), rng.integers(1, 6, size=200))
    effects = rng.normal(size=(200, 8))[questions] + rng.normal(size=(len(questions), 8))
    found = head_statistics(effects, questions, **{**OPTIONS, "resamples": 20_000, "permutations": 1})
    assert mean_and_error(*question_totals(effects, questions))[1] == pytest.approx(found.std_error, rel=0.03)


def test_standard_error_is_the_spread_of_the_mean_over_experiments():
    rng = np.random.default_rng(23)
    questions = np.repeat(np.arange(40), 2)
    effects = rng.normal(size=(40, 3000))[questions] + rng.normal(size=(80, 3000))
    found = head_statistics(effects, questions, **{**OPTIONS, "permutations": 1})
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
    options = {**OPTIONS, "resamples": 2, "permutations": 50_000}
    p_values = head_statistics(effects, np.arange(100), **options).p_value
    others = rng.uniform(size=(300, 1023))  # p-values of heads without effect
    q_values = [benjamini_hochberg(np.append(rest, p))[-1] for p, rest in zip(p_values, others, strict=True)]
    assert np.mean(np.array(q_values) < 0.05) >= 0.95


def test_too_few_permutations_cannot_show_one_head_among_1024():
    """Why the default is 50,000: 2,000 flips cannot give a p-value below 0.05 / 1024."""
    effects = np.full((100, 1), 1.0)
    few = head_statistics(effects, np.arange(100), **OPTIONS).p_value
    many = head_statistics(effects, np.arange(100), **{**OPTIONS, "permutations": 50_000}).p_value
    assert many < 0.05 / 1024 < few


# ----- determinism, order, bad input


def test_same_seed_same_numbers_other_seed_others():
    effects = np.random.default_rng(0).normal(size=(40, 3))
    first, again = (head_statistics(effects, np.arange(40), **OPTIONS) for _ in range(2))
    other = head_statistics(effects, np.arange(40), **{**OPTIONS, "seed": (0, 4)})
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.ci_low, other.ci_low)


def test_order_of_items_is_of_no_matter():
    rng = np.random.default_rng(0)
    effects, questions = rng.normal(size=(60, 3)), rng.integers(20, size=60)
    order = rng.permutation(60)
    first = head_statistics(effects, questions, **OPTIONS)
    second = head_statistics(effects[order], questions[order], **OPTIONS)
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize(
    ("effects", "questions", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0), "do not fit"),
        (np.zeros((3, 2)), np.zeros(2), "do not fit"),
        (np.array([[np.nan]]), np.zeros(1), "not finite"),
    ],
)
def test_bad_input_is_refused(effects, questions, message):
    with pytest.raises(ValueError, match=message):
        head_statistics(effects, questions, **OPTIONS)


def test_q_values_are_never_below_their_p_values():
    """Not even by rounding, which p * n / n would do."""
    for seed in range(200):
        p_values = np.random.default_rng(seed).random(48)
        assert (benjamini_hochberg(p_values) >= p_values).all()
