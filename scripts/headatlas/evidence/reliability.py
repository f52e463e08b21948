"""Split-half reliability: how far two halves of the questions give the same map; numpy only."""

import math

import numpy as np

from headatlas.stats import jackknife
from headatlas.stats.head_statistics import question_totals
from headatlas.stats.ranking import correlation, rank_correlation

WANTED = 0.9  # the reliability that `questions_needed` aims at
# What of two halves is correlated over heads, from mean effects [..., head]. Ranks count every head alike, and those
# without an effect are most; values (importance up to its scale) are decided by the hottest heads.
ALIKE = {
    "ranking": rank_correlation,
    "values": lambda left, right: correlation(np.abs(left), np.abs(right)),
}


def split_half(
    effects: np.ndarray,
    questions: np.ndarray,
    *,
    of: str = "ranking",
    halves: int,
    confidence: float,
    seed: tuple[int, ...],
) -> tuple[float, float, float]:
    """Split-half reliability of the ranking of heads by mean effect, or of the values of importance, with interval.

    The correlation of the heads' mean effects (`ALIKE`) between two random halves of the questions, averaged
    over many splits, then lengthened to all questions by Spearman and Brown: 2 r / (1 + r). The interval is
    a jackknife over 20 groups of questions on Fisher's z scale, so it tells what other questions would give,
    not how random splits scatter.

    Args:
        effects: [item, head]; questions: [item], items of one question share one.
        of: a key of `ALIKE`; halves: number of random splits.

    Returns:
        reliability, lower, upper end; all NaN with fewer than 8 questions or where all heads are alike.
    """
    totals, counts = question_totals(effects, questions)
    n = len(counts)
    if n < jackknife.FEWEST:
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    first = np.argsort(rng.random((halves, n)), axis=1) < n // 2  # [split, question]
    groups = jackknife.question_groups(n, rng)
    whole = _reliability(totals, counts, first, of)
    left_out = np.array([
        _reliability(totals[groups != group], counts[groups != group], first[:, groups != group], of)
        for group in range(groups.max() + 1)
    ])  # fmt: skip
    return whole, *jackknife.correlation_interval(whole, left_out, confidence)


def questions_needed(reliability: float, questions: int) -> int | None:
    """How many questions would make a map's reliability `WANTED`, by the formula of Spearman and Brown.

    It holds where questions are alike and correlations are of values; of rankings it promises more than comes.

    Args:
        reliability: that of a map made from `questions`.

    Returns:
        a whole number of at least 1; None where the reliability is unknown or not above 0.
    """
    if not reliability > 0:
        return None
    times = WANTED * (1 - reliability) / (reliability * (1 - WANTED))
    return max(1, math.ceil(round(times * questions, 9)))


def _reliability(totals: np.ndarray, counts: np.ndarray, first: np.ndarray, of: str) -> float:
    """Spearman-Brown corrected mean correlation over splits; `first` [split, question] marks first halves."""
    means = [(half @ totals) / (half @ counts)[:, None] for half in (first.astype(float), 1.0 - first)]
    r = float(ALIKE[of](*means).mean())
    return 2 * r / (1 + r) if r > 0 else r  # no lengthening makes sense of halves that disagree
