"""How far two maps agree: two methods on one task, or two tasks by one method; polars."""

from itertools import combinations

import numpy as np
import polars as pl

from headatlas.metric import OTHER_UNITS
from headatlas.stats.multiple_testing import holm
from headatlas.stats.ranking import jaccard, overlap, rank_correlation, ranks, top, top_count

HOTTEST = {"same_sign": pl.Float64, "hottest_rank": pl.Int32, "hottest_ratio": pl.Float64, "same_unit": pl.Boolean}


def method_agreement(table: pl.DataFrame, share: float, permutations: int, seed: int) -> pl.DataFrame:
    """Compare every two methods on each task, by importance.

    Args:
        table: the importance table; share: of the heads that count as top (0.1 = a tenth, at least one head).

    Returns:
        task, method_a, method_b, rank_correlation (Spearman), overlap (share of the top heads in common), k (number of
        top heads; by chance the overlap is k / heads), p_value (of the rank correlation, from `within_layer_p_value`),
        p_adjusted (Holm, over all tasks of the two methods), and the columns of `_on_hottest`.
    """
    names = ["task", "method_a", "method_b", "rank_correlation", "overlap"]
    alike = _compare_all(table, "task", "method", names, overlap, share, permutations, seed)
    hottest = [_on_hottest(table, *row) for row in alike.select(*names[:3], "k").iter_rows()]
    alike = pl.concat([alike, pl.DataFrame(hottest, schema=HOTTEST)], how="horizontal")
    return with_adjusted(alike, ["method_a", "method_b"])


def _on_hottest(table: pl.DataFrame, task: str, method_a: str, method_b: str, k: int) -> dict[str, object]:
    """What method_b says about the heads that are hottest by method_a. Importance, an absolute value, hides signs.

    Returns:
        same_sign (share of the k hottest whose effect has the same sign); for the hottest one, hottest_rank (by
        method_b) and hottest_ratio (effect by method_b over effect by method_a: negative if the signs differ, NaN if
        method_a gives no head an effect); same_unit (whether the two sizes can be compared).
    """
    a, b = (table.filter(task=task, method=method).sort("layer", "head") for method in (method_a, method_b))
    effect_a, effect_b = a["effect"].to_numpy(), b["effect"].to_numpy()
    hottest = np.argsort(a["rank"].to_numpy())[:k]
    first = hottest[0]
    return {
        "same_sign": float((np.sign(effect_a[hottest]) == np.sign(effect_b[hottest])).mean()),
        "hottest_rank": int(b["rank"][int(first)]),
        "hottest_ratio": float(effect_b[first] / effect_a[first]) if effect_a[first] else float("nan"),
        "same_unit": not OTHER_UNITS.keys() & {method_a, method_b},
    }


def task_overlap(table: pl.DataFrame, share: float, permutations: int, seed: int) -> pl.DataFrame:
    """Compare every two tasks by each method, by importance.

    Returns:
        method, task_a, task_b, rank_correlation, jaccard (of the top heads), k, p_value, p_adjusted (Holm, over all
        pairs of tasks of the method); arguments as for `method_agreement`.
    """
    names = ["method", "task_a", "task_b", "rank_correlation", "jaccard"]
    return with_adjusted(_compare_all(table, "method", "task", names, jaccard, share, permutations, seed), ["method"])


def with_adjusted(rows: pl.DataFrame, family: list[str]) -> pl.DataFrame:
    """Add `p_adjusted`: Holm's adjustment of `p_value` over the rows that share the values of `family`."""
    parts = [
        part.with_columns(p_adjusted=pl.Series(holm(part["p_value"].to_numpy()), dtype=pl.Float64))
        for _, part in rows.with_row_index("place").group_by(family, maintain_order=True)
    ]
    return pl.concat(parts).sort("place").drop("place") if parts else rows.with_columns(p_adjusted=pl.col("p_value"))


def shuffles_within_layers(layer: np.ndarray, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Random orders of the heads that keep each head in its layer: indices [permutation, head].

    Args:
        layer: [head].
    """
    key = layer + rng.random((permutations, len(layer)))  # sorts by layer, at random within it
    shuffled = np.empty(key.shape, dtype=np.int64)
    shuffled[:, np.argsort(layer, kind="stable")] = np.argsort(key, axis=1)
    return shuffled


def within_layer_p_value(left: np.ndarray, right: np.ndarray, shuffles: np.ndarray) -> float:
    """Two-sided p-value of a rank correlation under shuffles of the heads within their layers.

    The null keeps the importance of each layer, so maps that agree on layers alone do not count as correlated. NaN if
    one side is constant.

    Args:
        left, right: importance [head]; shuffles: from `shuffles_within_layers`.
    """
    a, b = ranks(left), ranks(right)
    a, b = a - a.mean(), b - b.mean()
    if not (a.any() and b.any()):
        return float("nan")
    null = b[shuffles] @ a
    middle = null.mean()
    hits = (np.abs(null - middle) >= np.abs(a @ b - middle) * (1 - 1e-12)).sum()
    return float((hits + 1) / (len(shuffles) + 1))


def _compare_all(table, group, member, names, common, share, permutations, seed) -> pl.DataFrame:
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    one_map = table.filter(pl.col("method") == table["method"][0], pl.col("task") == table["task"][0])
    layer = one_map.sort("layer", "head")["layer"].to_numpy()
    shuffles, k = shuffles_within_layers(layer, permutations, rng), top_count(share, len(layer))
    rows = []
    for (name,), part in table.group_by(group, maintain_order=True):
        maps = {m: half.sort("layer", "head") for (m,), half in part.group_by(member, maintain_order=True)}
        for a, b in combinations(maps, 2):
            left, right = (maps[key]["importance"].to_numpy() for key in (a, b))
            shared = common(top(left, k), top(right, k))
            p_value = within_layer_p_value(left, right, shuffles)
            rows.append((name, a, b, float(rank_correlation(left, right)), shared, k, p_value))
    types = [pl.String] * 3 + [pl.Float64] * 2 + [pl.Int32, pl.Float64]
    return pl.DataFrame(rows, schema=dict(zip([*names, "k", "p_value"], types, strict=True)), orient="row")
