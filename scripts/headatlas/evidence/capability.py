"""Can the model do the task at all? Share of right answers and their mean score on the clean model; numpy and polars.

Knows traces and items, but no heads. A map of a task that the model does not do shows nothing about the task.
"""

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open

from headatlas.errors import HeadAtlasError
from headatlas.stats.head_statistics import mean_and_error, question_totals
from headatlas.stats.jackknife import reach

COLUMNS = {
    "task": pl.String, "metric": pl.String, "n_questions": pl.Int32, "n_items": pl.Int32, "accuracy": pl.Float64,
    "accuracy_low": pl.Float64, "accuracy_high": pl.Float64, "chance": pl.Float64, "score": pl.Float64,
    "score_low": pl.Float64, "score_high": pl.Float64, "capable": pl.Boolean,
}  # fmt: skip
WRITTEN = {"check": pl.String, "n_empty": pl.Int32}  # also, where the model writes answers of any task itself


def measure(
    score: np.ndarray,
    correct: np.ndarray,
    question: np.ndarray,
    answers: Sequence[str],
    confidence: float,
    metric: str,
    asked: np.ndarray | None = None,
) -> dict[str, float | int | bool | str]:
    """How well the model answers the items of one task. Both splits count, since no head is chosen by this.

    Args:
        score, correct: [item], nats and bool, by the metric (`batches.score_answers`); question: [item];
        answers: [item], texts; metric: `log_prob` or `margin`.
        asked: [item asked], the question of each entry of `correct` and `answers`, where the model writes its answers
            itself and those that it does not write have no score; None: `question`.

    Returns:
        `COLUMNS` without task. accuracy: share of the items, with Wilson's interval (items of one question count as one
        observation). chance: the score of always giving the most frequent answer; 0.5 for a margin. score: mean over
        items, with an interval over questions by Student's t, on the log scale for log-probabilities (NaN with one
        question). capable: whether the lower end of accuracy lies above chance, and so above 0.
    """
    right, right_counts = question_totals(np.float64(correct)[:, None], question if asked is None else asked)
    accuracy = float(right.sum() / right_counts.sum())
    low, high = wilson_interval(accuracy, len(right_counts), confidence)
    totals, counts = question_totals(np.float64(score)[:, None], question)
    n, (mean,), (error,) = len(counts), *mean_and_error(totals, counts)
    most = Counter(answer.strip() for answer in answers).most_common(1)[0][1] / len(answers)
    chance = 0.5 if metric == "margin" else most
    span = reach(confidence, n) * error if n > 1 else np.nan
    score_low, score_high = _symmetric(mean, span) if metric == "margin" else _skewed(mean, span)
    return {
        "metric": metric, "n_questions": len(right_counts), "n_items": len(answers), "accuracy": accuracy,
        "accuracy_low": low, "accuracy_high": high, "chance": chance, "score": float(mean), "score_low": score_low,
        "score_high": score_high, "capable": low > chance,
    }  # fmt: skip


def _symmetric(mean: float, span: float) -> tuple[float, float]:
    return float(mean - span), float(mean + span)


def _skewed(mean: float, span: float) -> tuple[float, float]:
    """Ends around a mean log-probability: below 0 and skewed, so symmetric on the log scale."""
    factor = np.exp(span / -mean) if mean < 0 else np.nan
    return float(mean * factor), float(mean / factor)


def wilson_interval(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share of n observations; its lower end is 0 only if the share is 0.

    Source: Wilson 1927, Journal of the American Statistical Association 22; Brown, Cai and DasGupta 2001.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def read_answers(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, correctness and question of each item of a trace: [item] each.

    Raises:
        HeadAtlasError: the file is not a trace.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return tuple(file.get_tensor(name) for name in ("score", "correct", "question"))
    except (SafetensorError, OSError) as error:
        raise HeadAtlasError(f"{path}: is not a trace ({error}); delete it and run again") from error


def incapable(capability: pl.DataFrame) -> list[str]:
    """The tasks that the model does not do."""
    return capability.filter(~pl.col("capable"))["task"].to_list()
