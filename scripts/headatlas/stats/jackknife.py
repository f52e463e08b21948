"""Intervals and tests of any smooth figure of the heads' mean effects, by leaving out groups of questions.

A bootstrap would not work: each resample adds noise of its own, which shifts figures of absolute effects (shares,
entropy, rank correlations). Leaving out a twentieth of the questions adds hardly any.
Source: Shao and Tu 1995, The Jackknife and Bootstrap, section 2.3 (delete-group jackknife).
"""

import numpy as np

from headatlas.stats import student_t

GROUPS = 20  # of questions; each is left out once
FEWEST = 8  # questions; with fewer there are no intervals


def question_groups(n: int, rng: np.random.Generator) -> np.ndarray:
    """Divide n questions at random into equal groups: [question], numbers from 0 to at most `GROUPS` - 1."""
    return rng.permutation(n) % min(GROUPS, n)


def means_left_out(totals: np.ndarray, counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean effect over items with one group of questions left out: [group, head].

    Args:
        totals: [question, head]; counts: [question] items; groups: [question].
    """
    inside = np.arange(groups.max() + 1)[:, None] == groups
    return (totals.sum(axis=0) - inside @ totals) / (counts.sum() - inside @ counts)[:, None]


def std_error(left_out: np.ndarray) -> np.ndarray:
    """Standard error of a figure from its values with each group left out, along the first axis."""
    n = len(left_out)
    return np.sqrt((n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))


def reach(confidence: float, groups: int) -> float:
    """Half width of an interval in standard errors: Student's t with `groups` - 1 degrees of freedom."""
    return student_t.quantile(confidence, groups - 1)


def interval(whole: np.ndarray, left_out: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end around `whole` [...] from `left_out` [group, ...]."""
    half = reach(confidence, len(left_out)) * std_error(left_out)
    return whole - half, whole + half


def bounded_interval(
    whole: np.ndarray, left_out: np.ndarray, confidence: float, least: float = 0, most: float = 1
) -> tuple[np.ndarray, np.ndarray]:
    """As `interval`, for a figure between `least` and `most`: symmetric on the logit scale between them.

    Near an end it is longer on the other side, which covers better than a symmetric interval cut off at the end.
    """
    if most <= least:
        return whole, whole
    scaled = (logit((values - least) / (most - least)) for values in (whole, left_out))
    low, high = (least + (most - least) * inverse_logit(end) for end in interval(*scaled, confidence))
    return np.minimum(low, whole), np.maximum(high, whole)


def correlation_interval(whole: float, left_out: np.ndarray, confidence: float) -> tuple[float, float]:
    """As `interval`, for a correlation: symmetric on Fisher's z scale, so within -1 to 1."""
    z, z_left_out = (np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9)) for r in (whole, left_out))
    low, high = interval(z, z_left_out, confidence)
    return float(np.tanh(low)), float(np.tanh(high))


def logit(x: np.ndarray) -> np.ndarray:
    """Log odds of `x` in 0 to 1, finite at both ends."""
    x = np.clip(x, 1e-9, 1 - 1e-9)
    return np.log(x / (1 - x))


def inverse_logit(x: np.ndarray) -> np.ndarray:
    """From log odds back to 0 to 1."""
    return 1 / (1 + np.exp(-x))


def difference_p_value(difference: float, std_error: float, groups: int) -> float:
    """Two-sided p-value of a difference of two independent figures, by the same Student's t as `reach`.

    Without any spread, the p-value is 0 for a difference and 1 for no difference.
    """
    if std_error == 0:
        return float(difference == 0)
    return float(student_t.p_value(difference / std_error, groups - 1))
