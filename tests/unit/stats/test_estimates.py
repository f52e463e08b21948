"""Figures of questions and random draws: means, errors and differences by hand."""

import numpy as np
import pytest
from headatlas.stats.estimates import Estimate, difference, means
from headatlas.stats.head_statistics import mean_and_error, question_totals


def test_means_and_their_errors_are_those_of_leaving_out_each_question():
    """With up to 20 questions of equal size the jackknife is exact: the error of a mean."""
    rng = np.random.default_rng(0)
    values, questions = rng.normal(size=(2, 3, 36)), np.arange(36) // 2  # [draw, figure, item]
    found = means(values, questions, seed=0)
    assert found.drawn.shape == (2, 3)
    assert found.left_out.shape == (18, 2, 3)
    np.testing.assert_allclose(found.value, values.mean(axis=(0, 2)))
    for draw in range(2):
        alone = Estimate(found.drawn[draw : draw + 1], found.left_out[:, draw : draw + 1])
        _, error = mean_and_error(*question_totals(values[draw].T, questions))
        np.testing.assert_allclose(alone.std_error, error)


def test_the_spread_over_draws_adds_to_the_error():
    values = np.zeros((3, 1, 20))
    values[:, 0] = np.array([0.0, 1, 5])[:, None]  # no question differs from another
    found = means(values, np.arange(20), seed=0)
    assert found.value == pytest.approx([2])
    assert found.std_error == pytest.approx([np.sqrt(7 / 3)])  # variance 7 of three draws
    low, high = found.interval(0.95)
    assert (high - low) / 2 == pytest.approx([2.0930 * np.sqrt(7 / 3)], rel=1e-4)
    np.testing.assert_allclose(found.of_draws().value, [[0], [1], [5]])
    np.testing.assert_allclose(found.of_draws().std_error, 0, atol=1e-12)


def test_a_difference_is_paired_over_questions_and_its_draws_are_independent():
    rng = np.random.default_rng(1)
    shared, extra, questions = rng.normal(size=20), 0.1 * rng.normal(size=20), np.arange(20)
    a, b = (means(values[None, None], questions, 0).then(lambda f: f[..., 0]) for values in (shared + extra, shared))
    value, low, high, p_value = difference(a, b, 0.95)
    assert value == pytest.approx(extra.mean())
    error = extra.std(ddof=1) / np.sqrt(20)  # what the questions share cancels
    assert (high - low) / 2 == pytest.approx(2.0930 * error, rel=1e-4)
    assert p_value < 0.05 if abs(value) > 2.093 * error else p_value > 0.05
    drawn = np.stack([shared + 1, shared - 1])[:, None]
    c = means(drawn, questions, 0).then(lambda f: f[..., 0])
    _, low, high, _ = difference(c, b, 0.95)
    assert (high - low) / 2 == pytest.approx(2.0930 * 1, rel=1e-4)  # variance 2 of two draws
    assert difference(b, b, 0.95) == (0, 0, 0, 1)


def test_few_questions_have_no_error():
    found = means(np.arange(7.0)[None, None], np.arange(7), 0).then(lambda f: f[..., 0])
    assert found.value == 3
    assert np.isnan(found.std_error)
    assert np.isnan(difference(found, found, 0.95)[1:]).all()
