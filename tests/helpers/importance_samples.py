"""Small tables of importance and planted effects: what the tests of summaries and comparisons share."""

import numpy as np
import polars as pl
from headatlas.evidence.importance import COLUMNS


def importance(rows: list[tuple], method="ablation") -> pl.DataFrame:
    """Importance table of (task, layer, head, effect, q_value) rows."""
    frame = pl.DataFrame(rows, schema=["task", "layer", "head", "effect", "q_value"], orient="row")
    size = pl.col("effect").abs()
    return frame.with_columns(
        model=pl.lit("m"), method=pl.lit(method), std_error=0.1, ci_low=pl.col("effect") - 1,
        ci_high=pl.col("effect") + 1, p_value=pl.col("q_value"), importance=(size / size.sum()).over("task"),
        rank=size.rank("ordinal", descending=True).over("task").cast(pl.Int32), n_items=9, n_questions=9,
        stopped=pl.lit(False), note=pl.lit(None, pl.String),
    ).select(COLUMNS)  # fmt: skip


def planted(centre: int, rng, n=100, layers=6, heads=8) -> np.ndarray:
    """Effects [item, layer, head] with strong heads around one layer."""
    strength = np.exp(-((np.arange(layers) - centre) ** 2))[:, None] * np.linspace(0, 2, heads)
    return strength + rng.normal(size=(n, layers, heads))
