"""Knock-out curves, the area between top and random, and the dissociation matrix with its diagonal; polars.

Intervals resample questions and random draws together, so they hold for other questions and other random heads.
"""

from collections.abc import Iterable, Sequence
from itertools import permutations as orders
from math import factorial

import numpy as np
import polars as pl

from headatlas.files.knock_outs import KnockOut, sets_of
from headatlas.stats.head_statistics import head_statistics, question_totals

SELECTIONS = ("top", "bottom", "random", "random_norm")


def curves(files: Iterable[KnockOut], confidence: float) -> pl.DataFrame:
    """How well the model does each task without its top, bottom or random heads.

    Returns:
        method, task, selection (`SELECTIONS`), draw, k (0 = no head, once for each selection), score (nats) and
        accuracy, each with `_low` and `_high` (over questions, as for heads), n_items.
    """
    rows = []
    for file in files:
        target = file.targets[file.task]
        score = head_statistics(target.score.T, target.question, confidence=confidence)
        accuracy = head_statistics(target.correct.T.astype(float), target.question, confidence=confidence)
        low, high = (np.clip(end, 0, 1) for end in (accuracy.ci_low, accuracy.ci_high))  # Student's t may reach beyond
        accuracy = accuracy._replace(ci_low=low, ci_high=high)
        for i, index in enumerate(target.sets):
            one = file.sets[index]
            if one["kind"] == "keep":
                continue  # for `sufficiency`
            for selection in SELECTIONS if one["selection"] == "none" else [one["selection"]]:
                row = {"method": file.method, "task": file.task, "selection": selection}
                row |= {"draw": one["draw"], "k": one["k"]}
                for name, found in (("score", score), ("accuracy", accuracy)):
                    row |= {
                        name: found.effect[i],
                        f"{name}_low": found.ci_low[i],
                        f"{name}_high": found.ci_high[i],
                    }
                rows.append(row | {"n_items": score.n_items})
    return pl.DataFrame(rows)


def areas(files: Iterable[KnockOut], resamples: int, confidence: float, seed: int) -> pl.DataFrame:
    """Area between the random and the top curve of the score, for each method and task.

    It is the mean gap over the curve in nats, with k on a scale of log2(1 + k): positive if the top heads matter more
    than random heads of the same layers.

    Returns:
        method, task, area, ci_low, ci_high.
    """
    rows = []
    for file in files:
        gap = area_gap(file)
        question = file.targets[file.task].question
        estimates = _resampled(gap, question, resamples, (seed,))
        rows.append((file.method, file.task, *_interval(float(gap.mean()), estimates, confidence)))
    names = dict.fromkeys(("method", "task"), pl.String) | dict.fromkeys(("area", "ci_low", "ci_high"), pl.Float64)
    return pl.DataFrame(rows, schema=names, orient="row")


def area_gap(file: KnockOut) -> np.ndarray:
    """The area of one method and task by each draw of random heads and on each item: [draw, item], nats."""
    ks = sorted({one["k"] for one in file.sets if one["selection"] == "top"})
    return sum(weight * _gaps(file, file.task, k) for weight, k in zip(curve_weights(ks), ks, strict=True))


def curve_weights(ks: Sequence[int]) -> np.ndarray:
    """Weight of the gap at each k in the mean over the curve from k = 0 (no gap): trapezoids on log2(1 + k)."""
    x = np.log2(1 + np.array([0, *ks]))
    return trapezoid_weights(x)[1:] / x[-1]


def trapezoid_weights(x: np.ndarray) -> np.ndarray:
    """Weight of a curve's value at each of the ascending places `x` in the area below it: [place]."""
    widths = np.diff(x)
    return (np.append(widths, 0) + np.append(0, widths)) / 2


def dissociation(
    files: Sequence[KnockOut],
    tasks: Sequence[str],
    resamples: int,
    permutations: int,
    confidence: float,
    seed: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What knocking out the top heads of each task does to every task, and how far the diagonal stands out.

    Args:
        files: of all methods; tasks: rows and columns of the matrix, in this order.

    Returns:
        two tables: method, source_task, target_task, k (heads knocked out together), effect (loss of score beyond the
        loss without random heads of the same layers, nats), ci_low, ci_high;
        method, dominance (mean of the diagonal minus the mean of the rest), ci_low, ci_high, p_value (one-sided, under
        random orders of the rows; exact if there are no more than `permutations` orders).
    """
    cells, merits = [], []
    for method in dict.fromkeys(file.method for file in files):
        sources = {file.task: file for file in files if file.method == method}
        matrix = np.full((len(tasks), len(tasks)), np.nan)
        drawn = np.full((resamples, *matrix.shape), np.nan)
        for i, source in enumerate(tasks):
            for j, target in enumerate(tasks):
                file = sources[source]
                gap = _gaps(file, target, file.dissociation_k)
                # The same questions in every row: seeded by the column.
                drawn[:, i, j] = _resampled(gap, file.targets[target].question, resamples, (seed, j), row=i)
                matrix[i, j] = gap.mean()
                ends = _interval(matrix[i, j], drawn[:, i, j], confidence)
                cells.append((method, source, target, file.dissociation_k, *ends))
        p_value = dominance_p_value(matrix, permutations, np.random.default_rng(seed))
        merit = _interval(dominance(matrix), np.array([dominance(m) for m in drawn]), confidence)
        merits.append((method, *merit, p_value))
    ends = dict.fromkeys(("ci_low", "ci_high"), pl.Float64)
    names = dict.fromkeys(("method", "source_task", "target_task"), pl.String)
    names |= {"k": pl.Int32, "effect": pl.Float64} | ends
    merit_names = {"method": pl.String, "dominance": pl.Float64} | ends | {"p_value": pl.Float64}
    return pl.DataFrame(cells, schema=names, orient="row"), pl.DataFrame(merits, schema=merit_names, orient="row")


def dominance(matrix: np.ndarray) -> float:
    """Mean of the diagonal of [source, target] minus the mean of the other cells; NaN for a single task."""
    n = len(matrix)
    if n < 2:
        return float("nan")
    own = np.trace(matrix)
    return float(own / n - (matrix.sum() - own) / (n * n - n))


def dominance_p_value(matrix: np.ndarray, permutations: int, rng: np.random.Generator) -> float:
    """Share of the orders of the rows whose diagonal is at least as large; 1 for a single task."""
    n = len(matrix)
    observed = np.trace(matrix) - 1e-12 * np.abs(matrix).sum()
    if factorial(n) <= permutations:
        every = np.array(list(orders(range(n))))
        return float((matrix[every, np.arange(n)].sum(axis=1) >= observed).mean())
    drawn = np.argsort(rng.random((permutations, n)), axis=1)
    hits = (matrix[drawn, np.arange(n)].sum(axis=1) >= observed).sum()
    return float((hits + 1) / (permutations + 1))


def _gaps(file: KnockOut, target: str, k: int) -> np.ndarray:
    """Score without random heads minus score without the top heads: [draw, item]."""
    score = file.targets[target].score.astype(np.float64)
    return score[sets_of(file, target, "random", k)] - score[sets_of(file, target, "top", k)]


def _resampled(
    gap: np.ndarray, question: np.ndarray, resamples: int, seed: tuple[int, ...], row: int = 0
) -> np.ndarray:
    """Mean gap in each resample of questions (by `seed`) and of draws (by `seed` and `row`): [resample]."""
    totals, counts = question_totals(gap.T, question)  # [question, draw]
    n, draws = totals.shape
    of_questions = np.random.default_rng(np.random.SeedSequence((*seed, 0)))
    of_draws = np.random.default_rng(np.random.SeedSequence((*seed, 1, row)))
    if n == 1:
        return np.full(resamples, np.nan)  # one question says nothing about others
    weights = of_questions.multinomial(n, np.full(n, 1 / n), size=resamples)
    means = (weights @ totals) / (weights @ counts)[:, None]
    return (means * of_draws.multinomial(draws, np.full(draws, 1 / draws), size=resamples)).sum(axis=1) / draws


def _interval(value: float, estimates: np.ndarray, confidence: float) -> tuple[float, float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return value, float(low), float(high)
