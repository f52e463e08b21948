"""Summary of a model's maps: how sparse and how deep each is, with intervals and tests; polars."""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.stats import jackknife
from headatlas.stats.concentration import (
    effective_heads,
    elbow,
    gini,
    layer_centre,
    layer_quartiles,
    layer_shares,
    top_share,
)
from headatlas.stats.head_statistics import question_totals
from headatlas.stats.multiple_testing import holm

LEVEL = 0.05  # q-value below which a head is called significant
HOTTEST = 10
COMPLETE = 0.1  # share by which integrated gradients may miss what they should add up to; a map beyond it is not read


class Figure(NamedTuple):
    """A figure of importance [head] and layer [head].

    `ends` gives its least and largest possible value from layer [head]; tasks are compared on its `scale`.
    """

    value: Callable[[np.ndarray, np.ndarray], float]
    ends: Callable[[np.ndarray], tuple[float, float]] = lambda layer: (0, 1)
    scale: Callable = jackknife.logit


FIGURES = {
    "effective_heads": Figure(
        lambda importance, layer: effective_heads(importance), lambda layer: (1, len(layer)), np.log
    ),
    "gini": Figure(lambda importance, layer: gini(importance)),
    "top_1_percent": Figure(lambda importance, layer: top_share(importance, 0.01)),
    "top_5_percent": Figure(lambda importance, layer: top_share(importance, 0.05)),
    "layer_centre": Figure(layer_centre, lambda layer: (0, int(layer.max())), lambda x: x),
}


def importance_left_out(effects: np.ndarray, questions: np.ndarray, seed: tuple[int, ...]) -> np.ndarray | None:
    """Absolute mean effects [group, head], each without one group of questions; None if there are too few questions.

    Args:
        effects: [item, head]; questions: [item].
    """
    totals, counts = question_totals(effects, questions)
    if len(counts) < jackknife.FEWEST:
        return None
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    groups = jackknife.question_groups(len(counts), rng)
    return np.abs(jackknife.means_left_out(totals, counts, groups))


def summarise(
    table: pl.DataFrame,
    left_out: Mapping[tuple[str, str], np.ndarray | None],
    confidence: float,
    completeness: Mapping[tuple[str, str], float] | None = None,
) -> pl.DataFrame:
    """One row per method and task: how many heads matter, how unevenly, and how deep they are.

    Args:
        table: the importance table; heads in order of layer and head.
        left_out: from `importance_left_out`, by (method, task).
        completeness: the error of `scores.read_completeness`, by (method, task), where there is one.

    Returns:
        model, method, task, completeness_error (share; NaN if effects need not add up), readable (false if that is
        above `COMPLETE`), heads, stopped (heads that adaptive ablation did not measure on all questions), tested (heads
        with a p-value), significant (q < 0.05), helping and hurting (among
        these), exclusive (significant for no other task by this method), elbow (heads), each of `FIGURES` with `_low`
        and `_high`, layer_q25, layer_q50, layer_q75 (layers, from 0), density_lower and density_upper (share of
        significant heads in each half of the layers; an odd middle layer belongs to neither).
    """
    exclusive = _exclusive(table)
    rows = []
    for (model, method, task), part in table.group_by("model", "method", "task", maintain_order=True):
        importance, layer = part["importance"].to_numpy(), part["layer"].to_numpy()
        row = {"model": model, "method": method, "task": task} | _counts(part)
        error = (completeness or {}).get((method, task), float("nan"))
        row |= {"completeness_error": error, "readable": not error > COMPLETE}
        row |= {"exclusive": exclusive.get((method, task), 0), "elbow": elbow(importance)}
        row |= _figures(importance, layer, left_out[method, task], confidence)
        names = ("layer_q25", "layer_q50", "layer_q75")
        rows.append(row | dict(zip(names, layer_quartiles(importance, layer), strict=True)) | _densities(part))
    return pl.DataFrame(rows, infer_schema_length=None)


def compare_tasks(
    table: pl.DataFrame, left_out: Mapping[tuple[str, str], np.ndarray | None], confidence: float
) -> pl.DataFrame:
    """Test the difference between every two tasks, by each method, in each of `FIGURES`.

    Returns:
        method, figure, task_a, task_b, difference (a - b, on the figure's scale: log for effective_heads, logit for
        shares, layers for layer_centre), ci_low and ci_high (not adjusted), p_value, p_adjusted (Holm, over all pairs
        of one method and figure). Tasks with too few questions are left out.
    """
    rows = []
    for (method,), part in table.group_by("method", maintain_order=True):
        layer = part.filter(pl.col("task") == part["task"][0])["layer"].to_numpy()
        tasks = [t for t in part["task"].unique(maintain_order=True) if left_out[method, t] is not None]
        values = {t: part.filter(pl.col("task") == t)["importance"].to_numpy() for t in tasks}
        tasks = [task for task in tasks if values[task].any()]
        for name, figure in FIGURES.items():
            known = {
                t: tuple(map(figure.scale, _jackknifed(figure, values[t], layer, left_out[method, t]))) for t in tasks
            }
            rows += _pairs(method, name, known, confidence)
    schema = dict.fromkeys(("method", "figure", "task_a", "task_b"), pl.String)
    schema |= dict.fromkeys(("difference", "ci_low", "ci_high", "p_value", "p_adjusted"), pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def layer_profile(
    table: pl.DataFrame, left_out: Mapping[tuple[str, str], np.ndarray | None], confidence: float
) -> pl.DataFrame:
    """Share of importance per layer: method, task, layer, share, ci_low, ci_high, significant (heads)."""
    parts = []
    for (method, task), part in table.group_by("method", "task", maintain_order=True):
        layer = part["layer"].to_numpy()
        shares = layer_shares(part["importance"].to_numpy(), layer)
        low = high = np.full(len(shares), np.nan)
        if left_out[method, task] is not None:
            others = np.array([layer_shares(importance, layer) for importance in left_out[method, task]])
            low, high = jackknife.bounded_interval(shares, others, confidence)
        significant = np.bincount(layer, weights=(part["q_value"] < LEVEL).fill_null(False).to_numpy()).astype(int)
        absent = ~np.isin(np.arange(len(shares)), layer)  # layers without attention have no share
        shares, low, high = (np.where(absent, np.nan, values) for values in (shares, low, high))
        columns = {"layer": np.arange(len(shares)), "share": shares, "ci_low": low, "ci_high": high}
        frame = pl.DataFrame(columns | {"significant": significant})
        parts.append(frame.select(pl.lit(method).alias("method"), pl.lit(task).alias("task"), pl.all()))
    return pl.concat(parts)


def hottest_heads(table: pl.DataFrame) -> pl.DataFrame:
    """The ten most important heads of each method and task, most important first."""
    columns = [
        "method",
        "task",
        "rank",
        "layer",
        "head",
        "effect",
        "ci_low",
        "ci_high",
        "q_value",
        "importance",
    ]
    groups = table.filter(pl.col("rank") <= HOTTEST).group_by("method", "task", maintain_order=True)
    return pl.concat([part.sort("rank") for _, part in groups]).select(columns)


def _counts(part: pl.DataFrame) -> dict[str, int]:
    significant = part.filter(pl.col("q_value") < LEVEL)
    helping = int((significant["effect"] > 0).sum())
    return {
        "heads": part.height,
        "stopped": int(part["stopped"].sum()),
        "tested": part["q_value"].count(),
        "significant": significant.height,
        "helping": helping,
        "hurting": significant.height - helping,
    }


def _exclusive(table: pl.DataFrame) -> dict[tuple[str, str], int]:
    """Number of heads that are significant for one task only, by (method, task)."""
    significant = table.filter(pl.col("q_value") < LEVEL)
    alone = significant.filter(pl.len().over("method", "layer", "head") == 1)
    return {(method, task): n for method, task, n in alone.group_by("method", "task").len().iter_rows()}


def _densities(part: pl.DataFrame) -> dict[str, float | None]:
    half = (part["layer"].max() + 1) / 2
    called = (pl.col("q_value") < LEVEL).fill_null(False)
    lower = part.filter(pl.col("layer") + 1 <= half).select(called.mean()).item()
    upper = part.filter(pl.col("layer") >= half).select(called.mean()).item()
    return {"density_lower": lower, "density_upper": upper}


def _figures(
    importance: np.ndarray, layer: np.ndarray, left_out: np.ndarray | None, confidence: float
) -> dict[str, float | None]:
    row = {}
    for name, figure in FIGURES.items():
        low = high = float("nan")
        if left_out is not None and importance.any():
            whole, others = _jackknifed(figure, importance, layer, left_out)
            low, high = jackknife.bounded_interval(whole, others, confidence, *figure.ends(layer))
        row |= {name: figure.value(importance, layer), f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def _jackknifed(
    figure: Figure, importance: np.ndarray, layer: np.ndarray, left_out: np.ndarray
) -> tuple[float, np.ndarray]:
    return figure.value(importance, layer), np.array([figure.value(values, layer) for values in left_out])


def _pairs(method: str, name: str, known: dict[str, tuple[float, np.ndarray]], confidence: float) -> list[tuple]:
    rows = []
    for (task_a, (a, others_a)), (task_b, (b, others_b)) in combinations(known.items(), 2):
        groups = min(len(others_a), len(others_b))
        error = float(np.hypot(jackknife.std_error(others_a), jackknife.std_error(others_b)))
        half = jackknife.reach(confidence, groups) * error
        difference = float(a - b)
        p_value = jackknife.difference_p_value(difference, error, groups)
        rows.append((method, name, task_a, task_b, difference, difference - half, difference + half, p_value))
    adjusted = holm(np.array([row[-1] for row in rows]))
    return [(*row, float(p)) for row, p in zip(rows, adjusted, strict=True)]
