"""Rows of the importance table for head maps: every head of every task, checked."""

from dataclasses import dataclass

import polars as pl

from headatlas.charts.rows import checked
from headatlas.errors import HeadAtlasError

COLUMNS = ["layer", "head", "importance", "effect", "ci_low", "ci_high", "rank", "q_value"]


@dataclass(frozen=True)
class HeadRows:
    """The rows to draw, sorted by task, layer and head, and the model's size."""

    rows: pl.DataFrame
    layers: int
    heads: int
    empty: list[int]  # layers without attention, which have no rows

    @classmethod
    def read(cls, table: pl.DataFrame, method: str, tasks: list[str]) -> "HeadRows":
        """Pick the rows of a method and of tasks, and check them.

        Raises:
            HeadAtlasError: a column, the method, a task or a head is missing, or a value is no number.
        """
        marked = ["rounding"] if "rounding" in table.columns else []
        marked += ["stopped", "n_questions"] if "stopped" in table.columns else []
        marked += ["own", "other", "change"] if "other" in table.columns else []
        rows = checked(table, "importance", COLUMNS + marked, method=[method], task=tasks).drop("method")
        layers, heads = rows["layer"].max() + 1, rows["head"].max() + 1
        empty = _empty(rows)
        _check_cells(rows, layers, heads, method, empty)
        rows = rows.filter(~pl.col("layer").is_in(empty))
        if "rounding" in marked and not rows["rounding"].any():
            rows = rows.drop("rounding")
        if "stopped" in marked and not rows["stopped"].any():
            rows = rows.drop("stopped", "n_questions")
        return cls(rows, layers, heads, empty)

    @property
    def rounded(self) -> bool:
        """Whether any effect is smaller than its rounding noise."""
        return "rounding" in self.rows.columns

    @property
    def adaptive(self) -> bool:
        """Whether any head was not measured on all questions of its task."""
        return "stopped" in self.rows.columns

    @property
    def ranked(self) -> int:
        """Number of heads that have a rank."""
        return (self.layers - len(self.empty)) * self.heads


def with_rounding(table: pl.DataFrame, noise: dict[str, float]) -> pl.DataFrame:
    """The table with `rounding`: whether a mean effect is smaller than the rounding noise of its items."""
    known = {task: level for task, level in noise.items() if task in table["task"]}
    level = pl.col("task").replace_strict(known, default=0.0, return_dtype=pl.Float64) / pl.col("n_items").sqrt()
    return table.with_columns(rounding=pl.col("effect").abs() < level)


def _empty(rows: pl.DataFrame) -> list[int]:
    """Layers without attention: layers without an effect in any row."""
    effects = rows.group_by("layer").agg(pl.col("effect", "importance").is_null().all())
    return effects.filter(pl.col("effect") & pl.col("importance"))["layer"].sort().to_list()


def _check_cells(rows: pl.DataFrame, layers: int, heads: int, method: str, empty: list[int]) -> None:
    """Check that every task has each layer and head once, with finite values: a gap would look like zero importance.

    Args:
        empty: layers without attention, which have no values.
    """
    for (task,), of_task in rows.group_by("task", maintain_order=True):
        cells = of_task.select("layer", "head").n_unique()
        if not cells == len(of_task) == layers * heads:
            raise HeadAtlasError(
                f"importance table: method {method}, task {task} has {len(of_task)} rows for {cells} heads, "
                f"expected one for each of {layers} x {heads}; rerun `aggregate`"
            )
    finite = pl.all_horizontal(pl.col("importance", "effect").is_finite().fill_null(False))
    for bad in rows.filter(~pl.col("layer").is_in(empty) & ~finite)[:1].iter_rows(named=True):
        raise HeadAtlasError(
            f"importance table: method {method}, task {bad['task']}, layer {bad['layer']}, head {bad['head']}: "
            f"importance {bad['importance']}, effect {bad['effect']} cannot be drawn; look at its scores"
        )
