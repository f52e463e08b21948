"""Split-half reliability: how far two halves of the questions rank the heads alike; numpy only."""

import numpy as np

from headatlas import jackknife
from headatlas.ranking import rank_correlation
from headatlas.statistics import question_totals


def split_half(
    effects: np.ndarray, questions: np.ndarray, *, halves: int, confidence: float, seed: tuple[int, ...]
) -> tuple[float, float, float]:
    """Split-half reliability of the ranking of heads by mean effect, with interval.

    The Spearman correlation of the heads' mean effects between two random halves of the questions, averaged
    over many splits, then lengthened to all questions by Spearman and Brown: 2 r / (1 + r). The interval is
    a jackknife over 20 groups of questions on Fisher's z scale, so it tells what other questions would give,
    not how random splits scatter.

    Args:
        effects: [item, head]; questions: [item], items of one question share one.
        halves: number of random splits.

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
    whole = _reliability(totals, counts, first)
    left_out = np.array([
        _reliability(totals[groups != group], counts[groups != group], first[:, groups != group])
        for group in range(groups.max() + 1)
    ])  # fmt: skip
    return whole, *_jackknife_interval(whole, left_out, confidence)


def _reliability(totals: np.ndarray, counts: np.ndarray, first: np.ndarray) -> float:
    """Spearman-Brown corrected mean correlation over splits; `first` [split, question] marks first halves."""
    means = [(half @ totals) / (half @ counts)[:, None] for half in (first.astype(float), 1.0 - first)]
    r = float(rank_correlation(*means).mean())
    return 2 * r / (1 + r) if r > 0 else r  # no lengthening makes sense of halves that disagree


def _jackknife_interval(whole: float, left_out: np.ndarray, confidence: float) -> tuple[float, float]:
    z, z_left_out = (np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9)) for r in (whole, left_out))
    low, high = jackknife.interval(z, z_left_out, confidence)
    return float(np.tanh(low)), float(np.tanh(high))
