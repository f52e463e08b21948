"""Statistics of head effects, clustered by question; numpy only, knows nothing of files and models.

The items of one question are one cluster: questions count, not items. An interval holds the means that the test does
not reject. There are two tests, and both have to reject: Student's t, and Hall's t, which corrects for the skewness of
the effects. `tests/benchmarks/interval_coverage.py` compares them with others; config/README.md shows the results.
"""

from typing import NamedTuple

import numpy as np

from headatlas.stats import student_t

# Questions; with fewer there is neither interval nor test. Twenty questions miss what one question in seven does with a
# probability of 5%, and no statistic of the twenty can show it.
FEWEST = 20


class HeadStatistics(NamedTuple):
    """What is known about each head; every array is float64 [head], effects in nats per answer token.

    `n_items` and `n_questions` are [head], too, if heads were measured on different ones.
    """

    effect: np.ndarray
    std_error: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    p_value: np.ndarray
    n_items: int | np.ndarray
    n_questions: int | np.ndarray


def mean_effects(effects: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """Mean effect of each head, float64 [layer, head], from `effects` [item, layer, head], as in `head_statistics`.

    It is the mean over the items on which the head was measured, where the effect is not NaN. NaN in layers without
    attention.
    """
    measured = ~np.isnan(effects)
    totals, _ = question_totals(np.where(measured, effects, 0).reshape(len(effects), -1), questions)
    with np.errstate(invalid="ignore"):
        return totals.sum(axis=0).reshape(effects.shape[1:]) / measured.sum(axis=0)


def head_statistics(
    effects: np.ndarray, questions: np.ndarray, *, confidence: float, null: np.ndarray | None = None
) -> HeadStatistics:
    """Mean effect of each head with standard error, interval and p-value over questions.

    With fewer than `FEWEST` questions, interval and p-value are NaN; with one question, so is the standard error. If
    the effects of a head are NaN, so are its statistics.

    Args:
        effects: [item, head], nats per answer token; a column of NaN is a head that does not exist.
        questions: [item] integers; items of one question share one.
        confidence: of the interval, such as 0.95.
        null: [draw, any head], `studentised` effects under a null. If it is given, the p-values come from it
            (`null_p_values`), for any number of questions from 2.

    Raises:
        ValueError: no item, shapes that do not fit, or an effect that is not finite.
    """
    totals, counts = question_totals(effects, questions)
    effect, std_error = mean_and_error(totals, counts)
    if len(counts) < FEWEST:
        low = high = p_value = np.full_like(effect, np.nan)
    else:
        low, high, p_value = interval_and_p_value(totals, counts, confidence)
    if null is not None:
        p_value = null_p_values(studentised(effect, std_error), null)
    return HeadStatistics(effect, std_error, low, high, p_value, len(effects), len(counts))


def no_statistics(n_heads: int) -> HeadStatistics:
    """Statistics of a layer without attention: nothing is known about any head."""
    return HeadStatistics(*(np.full(n_heads, np.nan) for _ in range(5)), n_items=0, n_questions=0)


def seed_statistics(scores: np.ndarray, n_items: int, n_questions: int) -> HeadStatistics:
    """Mean score of each head over seeds with its standard error over seeds; no interval and no test.

    Seeds are no sample of questions: more of them tell nothing about other questions.

    Args:
        scores: [seed, head]; n_items, n_questions: what the seeds learned from.
    """
    effect, std_error = mean_and_error(scores.astype(np.float64), np.ones(len(scores)))
    unknown = np.full_like(effect, np.nan)
    return HeadStatistics(effect, std_error, unknown, unknown, unknown, n_items, n_questions)


def question_totals(effects: np.ndarray, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the effects of each question's items, and its number of items.

    Returns:
        totals float64 [question, head] and counts float64 [question], questions in ascending order.

    Raises:
        ValueError: no item, shapes that do not fit, or an effect that is not finite in a column that is not all NaN.
    """
    if effects.ndim != 2 or len(effects) == 0 or questions.shape != effects.shape[:1]:
        raise ValueError(f"effects [item, head] {effects.shape} do not fit questions [item] {questions.shape}")
    if not (np.isfinite(effects) | np.isnan(effects).all(axis=0)).all():
        raise ValueError("effects hold values that are not finite")
    _, position, counts = np.unique(questions, return_inverse=True, return_counts=True)
    totals = np.zeros((len(counts), effects.shape[1]))
    np.add.at(totals, position, effects.astype(np.float64))
    return totals, counts.astype(np.float64)


def interval_and_p_value(
    totals: np.ndarray, counts: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interval of each head's mean effect, and two-sided p-value of a mean of zero, by the more careful of two tests.

    Student's t holds for symmetric effects, however heavy their tails. Hall's t holds for skewed effects, such as those
    of a head that matters for a few questions. On each side the interval is the longer of the two, and the p-value is
    the larger of the two: zero lies outside exactly if p is below 1 - confidence.

    Args:
        totals: [question, head], summed effects; counts: [question], items; at least two questions.

    Returns:
        lower end, upper end, p-value: [head] each.
    """
    mean, error = mean_and_error(totals, counts)
    skew = residual_skewness(totals, counts) / np.sqrt(len(counts))
    return careful_interval(mean, error, skew, len(counts) - 1, confidence)


def careful_interval(
    mean: np.ndarray, error: np.ndarray, skew: np.ndarray, df: int, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interval of an estimate and two-sided p-value of zero, by the more careful of Student's and Hall's t.

    Args:
        mean, error: [head], the estimate and its standard error.
        skew: [head], skewness of the estimate: of a mean, that of the data over the square root of their number.
        df: degrees of freedom.

    Returns:
        as `interval_and_p_value`.
    """
    t, reach = studentised(mean, error), student_t.quantile(confidence, df)
    p_value = np.maximum(student_t.p_value(t, df), student_t.p_value(hall(t, skew), df))
    above, below = (np.maximum(reach, sign * hall_inverse(sign * reach, skew)) for sign in (1, -1))
    return mean - above * error, mean + below * error, p_value


def hall(t: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """Hall's monotone transformation of a studentised mean [head], which removes the influence of skewness.

    Source: Hall 1992, Journal of the Royal Statistical Society B 54, 221-228.

    Args:
        skew: [head], skewness of the data divided by the square root of their number.
    """
    with np.errstate(invalid="ignore"):
        return np.where(skew == 0, t, t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6)


def hall_inverse(y: float, skew: np.ndarray) -> np.ndarray:
    """The studentised mean [head] that `hall` transforms to `y`."""
    x = skew * (y - skew / 6)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.where(
            x > -0.5, np.expm1(np.log1p(x) / 3), np.cbrt(1 + x) - 1
        )  # cube root of 1 + x, minus 1, accurate for tiny x too
        return np.where(skew == 0, y, 3 / skew * root)


def residual_skewness(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Skewness over questions of the residuals of `mean_and_error`: [head], 0 if there is no spread."""
    residuals = totals - totals.sum(axis=0) / counts.sum() * counts[:, None]
    spread = np.sqrt((residuals**2).mean(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread == 0, 0.0, ((residuals / spread) ** 3).mean(axis=0))


def mean_and_error(totals: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean effect over items and its standard error over questions, without resampling: [head] each.

    The standard error is the linearised one of a ratio (Cochran 1977, Sampling Techniques, section 6.4), NaN with a
    single question.

    Args:
        totals: [question, head], summed effects; counts: [question], items.
    """
    n, mean = len(counts), totals.sum(axis=0) / counts.sum()
    if n == 1:
        return mean, np.full_like(mean, np.nan)
    residuals = totals - mean * counts[:, None]
    return mean, np.sqrt(n / (n - 1) * (residuals**2).sum(axis=0)) / counts.sum()


def studentised(mean: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Mean effects over their standard errors; 0 for a head without any effect, NaN if the error is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((mean == 0) & (error == 0), 0.0, mean / error)


def null_p_values(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Two-sided p-value of each head among the draws of a null, pooled over all heads.

    (reached + 1) / (draws + 1), where draws counts every head of every draw, is never 0 and never too small (Phipson
    and Smyth 2010). It is valid if the studentised effects of all heads have the same distribution under the null.

    Args:
        observed: [head], `studentised`, NaN if unknown, which gives NaN; null: [draw, any head], likewise, where NaN is
            no draw.
    """
    sizes = np.sort(np.abs(null[~np.isnan(null)]))
    # Sums in another order differ in the last bits; an equal size must count as reached.
    reached = len(sizes) - np.searchsorted(sizes, np.abs(observed) * (1 - 1e-9))
    return np.where(np.isnan(observed), np.nan, (reached + 1) / (len(sizes) + 1))
