"""Comparison of models: sparsity, depth and dissociation of each, and the similarity of every two; polars.

Heads of different models do not correspond, and models differ in their number of layers. What can be compared is how
unevenly importance is spread, and at what depth it lies: 0 is the first layer, 1 the last.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.evidence.knock_out_curves import dominance, dominance_p_value
from headatlas.stats import jackknife
from headatlas.stats.head_statistics import question_totals
from headatlas.stats.multiple_testing import holm
from headatlas.stats.ranking import correlation

FEWEST_LAYERS = 4  # with fewer, any two profiles are similar
ALL_TASKS = "(all)"  # cannot be the key of a task
SPARSITY = ("effective_heads", "gini", "top_1_percent", "top_5_percent")  # figures of the summary


class Mapped(NamedTuple):
    """One model's map of one task: `effects` [item, layer, head] and the name of each item's `question` [item]."""

    effects: np.ndarray
    question: Sequence[str]


def side_by_side(
    summaries: Mapping[str, pl.DataFrame], layers: Mapping[str, int], dominances: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """One row per model, method and task.

    Args:
        summaries, dominances: tables by model; a model without knock-outs has no dominances.

    Returns:
        model, method, task, layers, heads, significant, elbow, each of `SPARSITY` and the centre of mass `centre` (0 =
        first layer, 1 = last) with `_low` and `_high`; `dominance` of the dissociation matrix with `_low`, `_high` and
        `_p`, which is the same for all tasks of a model and method.
    """
    parts = []
    for model, summary in summaries.items():
        deepest = max(1, layers[model] - 1)
        ends = [f"{name}{end}" for name in SPARSITY for end in ("", "_low", "_high")]
        centre = {f"centre{end}": pl.col(f"layer_centre{end}") / deepest for end in ("", "_low", "_high")}
        named = pl.lit(model).alias("model"), "method", "task", pl.lit(layers[model]).cast(pl.Int32).alias("layers")
        part = summary.select(*named, "heads", "significant", "elbow", *ends, **centre)
        parts.append(part.join(_dominance(dominances.get(model)), on="method", how="left", maintain_order="left"))
    return pl.concat(parts)


def pairs(
    maps: Mapping[str, Mapping[tuple[str, str], Mapped]], confidence: float, permutations: int, seed: int
) -> pl.DataFrame:
    """How similar every two models are, by each method, on each task and on all.

    The jackknife leaves a question that both models answered out of both at once, so it does not count twice.

    Args:
        maps: by model, then by (method, task); all models have the same methods and tasks.

    Returns:
        model_a, model_b, method, task (or `ALL_TASKS`: means over tasks), profile_correlation (of the shares of
        importance over relative depth, see `profile_correlation`; unknown below 4 layers), ci_low, ci_high, other_tasks
        (the mean correlation with the other model's other tasks), p_value (for `ALL_TASKS` only: share of the ways to
        pair the tasks of two models that give at least this mean correlation), centre_difference (of the centre of
        mass, a - b, in relative depth), centre_low, centre_high, centre_p_adjusted (Holm, over tasks).

    Intervals are over questions. Neighbouring layers are similar, so the correlation over layers gets no test.
    """
    rows = []
    for a, b in combinations(maps, 2):
        for method in dict.fromkeys(method for method, _ in maps[a]):
            tasks = [task for of, task in maps[a] if of == method]
            found = [_compare(maps[a][method, task], maps[b][method, task], confidence, (seed,)) for task in tasks]
            rows += _rows((a, b, method), tasks, found, permutations, seed)
    texts = dict.fromkeys(("model_a", "model_b", "method", "task"), pl.String)
    names = ("profile_correlation", "ci_low", "ci_high", "other_tasks", "p_value")
    centres = ("centre_difference", "centre_low", "centre_high", "centre_p_adjusted")
    return pl.DataFrame(rows, schema=texts | dict.fromkeys((*names, *centres), pl.Float64), orient="row")


def layer_profile(effect: np.ndarray) -> np.ndarray:
    """Share of importance of each layer [..., layer] from mean effects [..., layer, head]; NaN without importance."""
    sums = np.abs(effect).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return sums / sums.sum(axis=-1, keepdims=True)


def profile_correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson correlation of two profiles [..., layer] over relative depth; NaN below `FEWEST_LAYERS`.

    The profile with fewer layers is interpolated linearly at the depths of the other. Values are correlated, not ranks:
    the ranks of a few layers stay the same whatever questions are left out, so a jackknife would look certain.
    """
    if min(left.shape[-1], right.shape[-1]) < FEWEST_LAYERS:
        return np.full(np.broadcast_shapes(left.shape[:-1], right.shape[:-1]), np.nan)
    depths = np.linspace(0, 1, max(left.shape[-1], right.shape[-1]))
    return correlation(*(_at(depths, profile) for profile in (left, right)))


def centre(profile: np.ndarray) -> np.ndarray:
    """Centre of mass of profiles [..., layer]: 0 = all in the first layer, 1 = all in the last."""
    return profile @ np.linspace(0, 1, profile.shape[-1])


def _at(depths: np.ndarray, profile: np.ndarray) -> np.ndarray:
    own = np.linspace(0, 1, profile.shape[-1])
    return np.apply_along_axis(lambda shares: np.interp(depths, own, shares), -1, profile)


def _dominance(table: pl.DataFrame | None) -> pl.DataFrame:
    names = {"dominance": "dominance", "ci_low": "dominance_low", "ci_high": "dominance_high", "p_value": "dominance_p"}
    if table is None:
        return pl.DataFrame(schema={"method": pl.String} | dict.fromkeys(names.values(), pl.Float64))
    return table.select("method", *names).rename(names)


class _Compared(NamedTuple):
    """Two models on one task: their profiles, and those without each group of questions (None: too few questions)."""

    profiles: tuple[np.ndarray, np.ndarray]
    left_out: tuple[np.ndarray, np.ndarray] | None
    confidence: float

    def correlation(self) -> tuple[float, float, float]:
        whole = float(profile_correlation(*self.profiles))
        if self.left_out is None:
            return whole, float("nan"), float("nan")
        return whole, *jackknife.correlation_interval(whole, profile_correlation(*self.left_out), self.confidence)

    def centres(self) -> tuple[float, float, float, float]:
        """Difference, interval, p-value."""
        difference = float(centre(self.profiles[0]) - centre(self.profiles[1]))
        if self.left_out is None:
            return difference, float("nan"), float("nan"), float("nan")
        others = centre(self.left_out[0]) - centre(self.left_out[1])
        ends = np.clip(jackknife.interval(difference, others, self.confidence), -1, 1)
        p_value = jackknife.difference_p_value(difference, float(jackknife.std_error(others)), len(others))
        return difference, float(ends[0]), float(ends[1]), p_value


def _compare(a: Mapped, b: Mapped, confidence: float, seed: tuple[int, ...]) -> _Compared:
    profiles = tuple(layer_profile(side.effects.mean(axis=0, dtype=np.float64)) for side in (a, b))
    names = sorted({*a.question, *b.question})
    if min(len({*side.question}) for side in (a, b)) < jackknife.FEWEST:
        return _Compared(profiles, None, confidence)
    groups = jackknife.question_groups(len(names), np.random.default_rng(np.random.SeedSequence(seed)))
    group = dict(zip(names, groups.tolist(), strict=True))
    return _Compared(profiles, tuple(_left_out(side, group) for side in (a, b)), confidence)


def _left_out(side: Mapped, group: Mapping[str, int]) -> np.ndarray:
    """Profiles [group, layer], each without one group of questions; a group this model lacks changes nothing."""
    own, question = np.unique(side.question, return_inverse=True)
    totals, counts = question_totals(side.effects.reshape(len(question), -1), question)
    groups = np.array([group[name] for name in own])
    kept = np.arange(max(group.values()) + 1)[:, None] != groups  # [group, question]
    means = (kept @ totals) / (kept @ counts)[:, None]
    return layer_profile(means.reshape(len(kept), *side.effects.shape[1:]))


def _rows(names: tuple, tasks: list[str], found: list[_Compared], permutations: int, seed: int) -> list[tuple]:
    """The rows of one pair of models and one method."""
    alike, centres = [one.correlation() for one in found], [one.centres() for one in found]
    matrix = np.array([[float(profile_correlation(x.profiles[0], y.profiles[1])) for y in found] for x in found])
    adjusted = holm(np.array([p for *_, p in centres]))
    rows = []
    for i, task in enumerate(tasks):
        others = np.delete(np.append(matrix[i], matrix[:, i]), [i, len(tasks) + i])
        other_tasks = float(others.mean()) if len(others) else float("nan")
        rows.append((*names, task, *alike[i], other_tasks, float("nan"), *centres[i][:3], float(adjusted[i])))
    own, unlike, p_value = float(np.trace(matrix)) / len(tasks), float("nan"), float("nan")
    if len(tasks) > 1 and np.isfinite(matrix).all():
        unlike = own - dominance(matrix)
        p_value = dominance_p_value(matrix, permutations, np.random.default_rng(seed))
    means = _mean_with_interval(found, own)
    return [*rows, (*names, ALL_TASKS, *means, unlike, p_value, *[float("nan")] * 4)]


def _mean_with_interval(found: list[_Compared], own: float) -> tuple[float, float, float]:
    """Mean correlation over tasks. Tasks are assumed to have different questions, so variances add."""
    if any(one.left_out is None for one in found) or not np.isfinite(own):
        return own, float("nan"), float("nan")
    errors = [jackknife.std_error(profile_correlation(*one.left_out)) for one in found]
    groups = min(len(one.left_out[0]) for one in found)
    half = jackknife.reach(found[0].confidence, groups) * float(np.linalg.norm(errors)) / len(found)
    low, high = np.clip([own - half, own + half], -1, 1)
    return own, float(low), float(high)
