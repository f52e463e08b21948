"""Can the model do the task at all? Exact match and answer log-probability of the clean model; numpy and polars.

Knows traces and items; knows nothing of heads. A map of a task that the model does not do shows nothing of the task.
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
    "task": pl.String, "n_questions": pl.Int32, "n_items": pl.Int32, "exact_match": pl.Float64,
    "exact_match_low": pl.Float64, "exact_match_high": pl.Float64, "chance": pl.Float64, "log_prob": pl.Float64,
    "log_prob_low": pl.Float64, "log_prob_high": pl.Float64, "capable": pl.Boolean,
}  # fmt: skip


def measure(
    log_prob: np.ndarray, correct: np.ndarray, question: np.ndarray, answers: Sequence[str], confidence: float
) -> dict[str, float | int | bool]:
    """How well the model answers the items of one task, both splits together: no head was chosen by them.

    Args:
        log_prob: [item], nats per answer token; correct: [item], is the whole answer the model's own first choice,
            token by token? question: [item]; answers: [item], texts.

    Returns:
        `COLUMNS` but task. exact_match: share of the items, with Wilson's interval (items of one question count as
        one observation). chance: what the most frequent answer, given to every item, would score. log_prob: mean over
        items, with an interval over questions by Student's t on the log scale (NaN with one question). capable: the
        lower end of exact_match lies above chance, and so above 0.
    """
    totals, counts = question_totals(np.stack([correct, log_prob], axis=1).astype(np.float64), question)
    n, mean, error = len(counts), *mean_and_error(totals, counts)
    low, high = wilson_interval(float(mean[0]), n, confidence)
    lost = -float(mean[1])  # above 0, and skewed: its interval is symmetric on the log scale
    factor = np.exp(reach(confidence, n) * error[1] / lost) if n > 1 and lost > 0 else np.nan
    chance = Counter(answer.strip() for answer in answers).most_common(1)[0][1] / len(answers)
    return {
        "n_questions": n, "n_items": len(answers), "exact_match": float(mean[0]), "exact_match_low": low,
        "exact_match_high": high, "chance": chance, "log_prob": -lost, "log_prob_low": float(-lost * factor),
        "log_prob_high": float(-lost / factor), "capable": low > chance,
    }  # fmt: skip


def wilson_interval(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share of n observations: its lower end is 0 only where the share is.

    Source: Wilson 1927, Journal of the American Statistical Association 22; Brown, Cai and DasGupta 2001.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def read_answers(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probability, correctness and question of each item of a trace: [item] each.

    Raises:
        HeadAtlasError: not a trace.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return tuple(file.get_tensor(name) for name in ("score", "correct", "question"))
    except (SafetensorError, OSError) as error:
        raise HeadAtlasError(f"{path}: not a trace ({error}); delete it and run again") from error


def incapable(capability: pl.DataFrame) -> list[str]:
    """The tasks that the model does not do."""
    return capability.filter(~pl.col("capable"))["task"].to_list()
