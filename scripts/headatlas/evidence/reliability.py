"""Split-half reliability: how far two halves of the questions give the same map; numpy only."""

import math

import numpy as np

from headatlas.stats import jackknife
from headatlas.stats.head_statistics import question_totals
from headatlas.stats.ranking import correlation, rank_correlation

UNKNOWN = (float("nan"),) * 3  # reliability, lower and upper end
WANTED = 0.9  # the reliability that `questions_needed` aims at
# How the mean effects [..., head] of two halves are correlated over heads. Ranks weigh all heads equally, and most
# heads have hardly any effect; the hottest heads decide the correlation of values (importance up to its scale).
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
    """Split-half reliability of the ranking of heads by mean effect, or of importance values, with an interval.

    The correlation of the heads' mean effects (`ALIKE`) between two random halves of the questions is averaged over
    many splits, then corrected to the full number of questions by Spearman and Brown: 2 r / (1 + r). The interval is a
    jackknife over 20 groups of questions on Fisher's z scale: it shows what other questions would give, not how much
    random splits scatter.

    Args:
        effects: [item, head]; questions: [item], items of one question share one.
        of: a key of `ALIKE`; halves: number of random splits.

    Returns:
        reliability, lower and upper end; all NaN with fewer than 8 questions, or if all heads are equal.
    """
    totals, counts = question_totals(effects, questions)
    n = len(counts)
    if n < jackknife.FEWEST:
        return UNKNOWN
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    first = np.argsort(rng.random((halves, n)), axis=1) < n // 2  # [split, question]
    groups = jackknife.question_groups(n, rng)
    whole = _reliability(totals, counts, first, of)
    left_out = np.array([
        _reliability(totals[groups != group], counts[groups != group], first[:, groups != group], of)
        for group in range(groups.max() + 1)
    ])  # fmt: skip
    return whole, *jackknife.correlation_interval(whole, left_out, confidence)


def paired_seeds(scores: np.ndarray, *, of: str = "ranking") -> float:
    """The same reliability where two seeds of a pair learned from two halves of the questions.

    The correlation of the two is averaged over pairs, then corrected to the full number of questions. It includes what
    a seed changes, which the mean over seeds has less of, so the map is at least that reliable.

    Args:
        scores: [seed, head], pairs side by side; of: a key of `ALIKE`.

    Returns:
        NaN if all heads are equal.
    """
    return _to_full_number(float(ALIKE[of](scores[::2], scores[1::2]).mean()))


def questions_needed(reliability: float, questions: int) -> int | None:
    """Number of questions that would raise a map's reliability to `WANTED`, by the Spearman-Brown formula.

    The formula holds for correlations of values over similar questions; for rankings it is too optimistic.

    Args:
        reliability: of a map made from `questions`.

    Returns:
        at least 1; None if the reliability is unknown or not above 0.
    """
    if not reliability > 0:
        return None
    times = WANTED * (1 - reliability) / (reliability * (1 - WANTED))
    return max(1, math.ceil(round(times * questions, 9)))


def _reliability(totals: np.ndarray, counts: np.ndarray, first: np.ndarray, of: str) -> float:
    """Spearman-Brown corrected mean correlation over splits; `first` [split, question] marks first halves."""
    means = [(half @ totals) / (half @ counts)[:, None] for half in (first.astype(float), 1.0 - first)]
    return _to_full_number(float(ALIKE[of](*means).mean()))


def _to_full_number(r: float) -> float:
    """Reliability of all questions from the correlation of two halves."""
    return 2 * r / (1 + r) if r > 0 else r  # more questions do not help halves that disagree
