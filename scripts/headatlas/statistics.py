"""Statistics of head effects, clustered by question: numpy only, knows nothing of files and models.

Several items of one question are one cluster: questions, not items, are drawn, flipped and counted.
"""

from typing import NamedTuple

import numpy as np

_CELLS_AT_ONCE = 4_000_000  # size of one block of the [draw, question] matrices: 32 MB, whatever the sizes


class HeadStatistics(NamedTuple):
    """What is known of each head; every array is float64 [head], effects in nats per answer token."""

    effect: np.ndarray
    std_error: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    p_value: np.ndarray
    n_items: int
    n_questions: int


def mean_effects(effects: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """Mean effect of each head, [layer, head] float64, of `effects` [item, layer, head]: that of `head_statistics`.

    NaN in layers without attention, whose effects are NaN.
    """
    means = np.full(effects.shape[1:], np.nan)
    present = ~np.isnan(effects).all((0, 2))
    totals, counts = question_totals(effects[:, present].reshape(len(effects), -1), questions)
    means[present] = (totals.sum(axis=0) / counts.sum()).reshape(-1, effects.shape[2])
    return means


def head_statistics(
    effects: np.ndarray,
    questions: np.ndarray,
    *,
    resamples: int,
    permutations: int | None,
    confidence: float,
    seed: tuple[int, ...],
    null: np.ndarray | None = None,
) -> HeadStatistics:
    """Mean effect of each head with standard error, interval and p-value over questions.

    With a single question nothing is known of the spread: standard error and interval are NaN and p is 1.

    Args:
        effects: [item, head], nats per answer token.
        questions: [item] integers; items of one question share one.
        resamples: bootstrap draws of questions.
        permutations: random sign flips, where there are too many to try them all; not looked at where `null` is given.
        confidence: of the interval, such as 0.95.
        seed: non-negative integers; all randomness comes from `SeedSequence(seed).spawn(2)`, the first child
            for the bootstrap, the second for the sign flips.
        null: [draw, any head], `studentised` effects of a null, from which then the p-values (`null_p_values`).

    Raises:
        ValueError: no item, shapes that do not fit, or an effect that is not finite.
    """
    for_bootstrap, for_flips = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    totals, counts = question_totals(effects, questions)
    effect = totals.sum(axis=0) / counts.sum()
    if len(counts) == 1:
        unknown = np.full_like(effect, np.nan)
        std_error, low, high = unknown, unknown, unknown
    else:
        means = bootstrap_means(totals, counts, resamples, for_bootstrap)
        std_error, low, high = bootstrap_spread(means, effect, len(counts), confidence)
    if null is None:
        p_value = sign_flip_p_values(totals, permutations, for_flips)
    else:
        p_value = null_p_values(studentised(*mean_and_error(totals, counts)), null)
    return HeadStatistics(effect, std_error, low, high, p_value, len(effects), len(counts))


def no_statistics(n_heads: int) -> HeadStatistics:
    """Of a layer without attention: nothing is known of any head, of no item."""
    return HeadStatistics(*(np.full(n_heads, np.nan) for _ in range(5)), n_items=0, n_questions=0)


def question_totals(effects: np.ndarray, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the effects of each question's items, and how many items it has.

    Returns:
        totals float64 [question, head] and counts float64 [question], questions in ascending order.

    Raises:
        ValueError: no item, shapes that do not fit, or an effect that is not finite.
    """
    if effects.ndim != 2 or len(effects) == 0 or questions.shape != effects.shape[:1]:
        raise ValueError(f"effects [item, head] {effects.shape} do not fit questions [item] {questions.shape}")
    if not np.isfinite(effects).all():
        raise ValueError("effects hold values that are not finite")
    _, position, counts = np.unique(questions, return_inverse=True, return_counts=True)
    totals = np.zeros((len(counts), effects.shape[1]))
    np.add.at(totals, position, effects.astype(np.float64))
    return totals, counts.astype(np.float64)


def bootstrap_means(totals: np.ndarray, counts: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Mean over items in each resample of whole questions (ratio of a sum to a count): [resample, head].

    Source: Davison and Hinkley 1997, Bootstrap Methods, section 3.8 (cluster bootstrap).
    """
    n = len(counts)
    blocks = []
    for size in _block_sizes(resamples, n):
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        blocks.append((weights @ totals) / (weights @ counts)[:, None])
    return np.concatenate(blocks)


def bootstrap_spread(
    means: np.ndarray, centre: np.ndarray, n: int, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standard error and percentile interval from resampled means.

    Both are widened by sqrt(n / (n - 1)): resampling n questions with replacement divides by n where an
    unbiased variance divides by n - 1 (Hesterberg 2015, The American Statistician 69, section 3.2).

    Args:
        means: [resample, head].
        centre: [head], the mean of the data themselves.
        n: number of questions, at least 2.

    Returns:
        standard error, lower end, upper end: [head] each.
    """
    widen = np.sqrt(n / (n - 1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return widen * means.std(axis=0), centre + widen * (low - centre), centre + widen * (high - centre)


def sign_flip_p_values(totals: np.ndarray, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Two-sided p-value of each head's summed effect when the sign of every question is a coin toss.

    Exact (all 2^questions flips) where these are no more than `permutations`; else Monte Carlo with
    (hits + 1) / (permutations + 1), which is never 0 and never too small (Phipson and Smyth 2010).
    To let one head alone among n pass q < 0.05, `permutations` must exceed 20 n.

    Args:
        totals: [question, head], summed effects.
    """
    n = len(totals)
    observed = np.abs(totals.sum(axis=0))
    # Sums in another order differ in the last bits; an equal sum must count as reached.
    threshold = observed - 1e-12 * np.abs(totals).sum(axis=0)
    if n < 63 and 2**n <= permutations:
        flips = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return _reached(flips, totals, threshold) / 2**n
    hits = np.zeros(totals.shape[1])
    for size in _block_sizes(permutations, n):
        coins = np.frombuffer(rng.bytes(size * -(-n // 8)), np.uint8).reshape(size, -1)
        hits += _reached(np.unpackbits(coins, axis=1, count=n), totals, threshold)
    return (hits + 1) / (permutations + 1)


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
    """Mean effects over their standard errors; 0 for a head without any effect, NaN where no error is known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((mean == 0) & (error == 0), 0.0, mean / error)


def null_p_values(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Two-sided p-value of each head among the draws of a null, those of all heads taken together.

    (reached + 1) / (draws + 1) as in `sign_flip_p_values`, with heads x draws for draws: valid where, under the null,
    the studentised effects of all heads are distributed alike.

    Args:
        observed: [head], `studentised`; null: [draw, any head], likewise; NaN is no draw. Where nothing is known
            (NaN) p is 1.
    """
    sizes = np.sort(np.abs(null[~np.isnan(null)]))
    # A sum in another order differs in the last bits; an equal size must count as reached.
    reached = len(sizes) - np.searchsorted(sizes, np.abs(observed) * (1 - 1e-9))
    return np.where(np.isnan(observed), 1.0, (reached + 1) / (len(sizes) + 1))


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """False discovery rate q-values: [test] p-values to [test] q-values (Benjamini and Hochberg 1995)."""
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * (n / np.arange(1, n + 1))  # last factor 1: no q is rounded below its p
    q_values = np.empty(n)
    q_values[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q_values, 1.0)


def _reached(flips: np.ndarray, totals: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """How many rows of `flips` (1 = flip this question) bring the absolute sum to the threshold: [head]."""
    sums = totals.sum(axis=0) - 2 * (flips.astype(np.float64) @ totals)
    return (np.abs(sums) >= threshold).sum(axis=0)


def _block_sizes(draws: int, n: int) -> list[int]:
    """Split `draws` into blocks of at most `_CELLS_AT_ONCE` cells of [draw, question]."""
    size = max(1, _CELLS_AT_ONCE // n)
    return [min(size, draws - start) for start in range(0, draws, size)]
