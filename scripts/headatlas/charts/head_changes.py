"""Head maps of the difference between two runs: effects in one minus effects in the other."""

from dataclasses import replace

import polars as pl

from headatlas.charts import head_maps, notes
from headatlas.charts.head_rows import HeadRows
from headatlas.charts.wanted import Wanted


def head_changes(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """One panel per task, on the scale of the signed grid; heads without a significant difference are dimmed or marked.

    Args:
        tables: `evidence/head-changes`.
    """
    table = tables[0].filter(method=wanted.method)
    tasks = [task for task in wanted.tasks if task in table["task"]]
    rows = HeadRows.read(_as_map(table), wanted.method, tasks)
    unsure = "mark" if wanted.look.insignificant == "mark" else "dim"  # most differences are noise
    look = replace(wanted.look, insignificant=unsure)
    maps = head_maps.HeadMaps(rows, wanted.named, wanted.method, tasks, wanted.metric, look)
    return head_maps.grid(maps, head_maps.difference(maps, table["compared_to"][0]), notes.Notes({}, set()))


def _as_map(table: pl.DataFrame) -> pl.DataFrame:
    """The differences in the columns of the importance table: `effect`, its share and rank by size."""
    size = pl.col("difference").abs()
    return table.with_columns(
        own="effect",
        effect="difference",
        importance=(size / size.sum().over("task")).fill_nan(0),
        rank=size.rank("ordinal", descending=True).over("task"),
    )
