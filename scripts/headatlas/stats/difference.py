"""Mean effects of the same heads in two runs: the difference, with interval and test over questions; numpy only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headatlas.stats.head_statistics import (
    FEWEST,
    HeadStatistics,
    careful_interval,
    head_statistics,
    mean_and_error,
    question_totals,
    residual_skewness,
)


class Sample(NamedTuple):
    """One run on one task: `effects` [item, head]; [item] what identifies each `item`, and its `question`."""

    effects: np.ndarray
    item: Sequence[object]
    question: Sequence[str]

    def statistics(self, confidence: float) -> HeadStatistics:
        """Of this run by itself."""
        return head_statistics(self.effects, self.numbers, confidence=confidence)

    @property
    def numbers(self) -> np.ndarray:
        """[item]: questions as numbers."""
        return np.unique(self.question, return_inverse=True)[1]

    def at(self, rows: Sequence[int]) -> "Sample":
        """Some of the items."""
        chosen = ([values[row] for row in rows] for values in (self.item, self.question))
        return Sample(self.effects[list(rows)], *chosen)


class Compared(NamedTuple):
    """Statistics of both runs and of their difference (first - second), on the items that the difference is from."""

    first: HeadStatistics
    second: HeadStatistics
    difference: HeadStatistics
    paired: bool


def compare(first: Sample, second: Sample, confidence: float) -> Compared:
    """Difference of the mean effects of every head.

    Runs that share `FEWEST` questions, or all questions of the smaller one, are compared on the items they share:
    paired, so what makes a question hard in both cancels. Others are taken as independent samples. If these share
    questions after all, intervals are too long wherever a head does in both runs what it does on a question.

    Returns:
        intervals and p-values over questions, NaN with fewer than `FEWEST` (of either run, if they are independent).
    """
    mine, theirs = _shared(first, second)
    common = len({first.question[row] for row in mine})
    if common and common >= min(FEWEST, *(len({*side.question}) for side in (first, second))):
        first, second = first.at(mine), second.at(theirs)
        difference = first._replace(effects=first.effects.astype(np.float64) - second.effects)
        return Compared(*(side.statistics(confidence) for side in (first, second, difference)), paired=True)
    known = [side.statistics(confidence) for side in (first, second)]
    return Compared(*known, _independent(first, second, confidence), paired=False)


def _shared(first: Sample, second: Sample) -> tuple[list[int], list[int]]:
    """Rows of the items that are in both runs, in the order of the first."""
    place = {item: row for row, item in enumerate(second.item)}
    mine = [row for row, item in enumerate(first.item) if item in place]
    return mine, [place[first.item[row]] for row in mine]


def _independent(first: Sample, second: Sample, confidence: float) -> HeadStatistics:
    """Two samples of questions. Variances add, third cumulants subtract; degrees of freedom are those of the smaller
    sample, fewer than Welch's."""
    parts = [question_totals(side.effects, side.numbers) for side in (first, second)]
    (mean, error), (other, other_error) = (mean_and_error(*part) for part in parts)
    n_items, n_questions = (min(len(x), len(y)) for x, y in ((first.item, second.item), (parts[0][1], parts[1][1])))
    change, change_error = mean - other, np.hypot(error, other_error)
    if n_questions < FEWEST:
        unknown = np.full_like(change, np.nan)
        return HeadStatistics(change, change_error, unknown, unknown, unknown, n_items, n_questions)
    cumulants = [
        residual_skewness(totals, counts) / np.sqrt(len(counts)) * own**3
        for (totals, counts), own in zip(parts, (error, other_error), strict=True)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.where(change_error == 0, 0.0, (cumulants[0] - cumulants[1]) / change_error**3)
    ends = careful_interval(change, change_error, skew, n_questions - 1, confidence)
    return HeadStatistics(change, change_error, *ends, n_items, n_questions)
