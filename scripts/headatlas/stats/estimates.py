"""Figures that depend on questions and on random draws, with intervals and paired tests for both together.

Leaving out groups of questions (`stats.jackknife`) shows how much a figure depends on the questions, and its spread
over draws how much it depends on what was drawn; the two variances add up.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from headatlas.stats import jackknife
from headatlas.stats.head_statistics import question_totals


class Estimate(NamedTuple):
    """Figures [...] on all questions and without each group of them.

    `drawn` [draw, ...]: by each random draw (one, if nothing is drawn); `left_out` [group, draw, ...]: the same with
    each group left out, NaN with fewer than 8 questions.
    """

    drawn: np.ndarray
    left_out: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """Mean over draws: [...]."""
        return self.drawn.mean(axis=0)

    @property
    def std_error(self) -> np.ndarray:
        """Of the mean over draws, for other questions and other draws: [...]; NaN if unknown."""
        draws = len(self.drawn)
        of_draws = self.drawn.var(axis=0, ddof=1) / draws if draws > 1 else 0.0
        return np.sqrt(jackknife.std_error(self.left_out.mean(axis=1)) ** 2 + of_draws)

    def interval(self, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of the mean over draws: [...] each; NaN if unknown."""
        half = jackknife.reach(confidence, len(self.left_out)) * self.std_error
        return self.value - half, self.value + half

    def of_draws(self) -> "Estimate":
        """Each draw by itself: figures [draw, ...] that are not averaged."""
        return Estimate(self.drawn[None], self.left_out[:, None])

    def then(self, figure: Callable[[np.ndarray], np.ndarray]) -> "Estimate":
        """Further figures of these, computed by a function of arrays [..., figure]."""
        return Estimate(figure(self.drawn), figure(self.left_out))


def means(values: np.ndarray, questions: np.ndarray, seed: int) -> Estimate:
    """Means over items; estimates with the same questions and seed leave out the same groups, so they are paired.

    Args:
        values: [draw, figure, item]; questions: [item], items of one question share one.

    Returns:
        figures [figure].
    """
    shape = values.shape[:2]
    totals, counts = question_totals(values.reshape(-1, values.shape[2]).T, questions)
    whole = totals.sum(axis=0) / counts.sum()
    if len(counts) < jackknife.FEWEST:
        left_out = np.full((2, len(whole)), np.nan)
    else:
        groups = jackknife.question_groups(len(counts), np.random.default_rng(np.random.SeedSequence((seed,))))
        left_out = jackknife.means_left_out(totals, counts, groups)
    return Estimate(whole.reshape(shape), left_out.reshape(-1, *shape))


def difference(a: Estimate, b: Estimate, confidence: float) -> tuple[float, float, float, float]:
    """Difference of two paired figures (a - b) with independent draws.

    Returns:
        value, lower and upper end, two-sided p-value by Student's t; the last three NaN if unknown.
    """
    questions = jackknife.std_error(a.left_out.mean(axis=1) - b.left_out.mean(axis=1))
    of_draws = sum(one.drawn.var(ddof=1) / len(one.drawn) for one in (a, b) if len(one.drawn) > 1)
    value, error = float(a.value - b.value), float(np.sqrt(questions**2 + of_draws))
    groups = len(a.left_out)
    half = jackknife.reach(confidence, groups) * error
    return value, value - half, value + half, jackknife.difference_p_value(value, error, groups)
