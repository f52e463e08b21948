"""Tasks in the tables of a model: under the names and in the order of the figures; polars."""

from collections.abc import Mapping

import polars as pl

# Columns that hold the keys of tasks, by the kind of table.
TASK_COLUMNS = (("task",), ("task_a", "task_b"), ("source_task", "target_task"), ("task", "matched_to"))


def task_columns(table: pl.DataFrame) -> tuple[str, ...]:
    """The columns of a table that hold keys of tasks."""
    return max((names for names in TASK_COLUMNS if set(names) <= set(table.columns)), key=len, default=())


def of_tasks(table: pl.DataFrame, tasks: list[str]) -> pl.DataFrame:
    """The rows that concern no other tasks than these."""
    for column in task_columns(table):
        table = table.filter(pl.col(column).is_in(tasks))
    return table


def without_tasks(table: pl.DataFrame, tasks: list[str]) -> pl.DataFrame:
    """The rows that concern none of these tasks."""
    for column in task_columns(table):
        table = table.filter(~pl.col(column).is_in(tasks))
    return table


def named(table: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """Replace keys of tasks by names, and sort the rows by the order of these.

    Args:
        names: from each task's key to its name; where two tasks share a name, each keeps its key beside it.
    """
    columns = task_columns(table)
    if not columns:
        return table
    place = {task: index for index, task in enumerate(names)}
    lines = [" ".join(name.split()) for name in names.values()]
    unique = {
        task: name if lines.count(name) == 1 else f"{name} ({task})" for task, name in zip(names, lines, strict=True)
    }
    order = [pl.col(column).replace_strict(place, default=len(place), return_dtype=pl.Int32) for column in columns]
    return table.sort(order, maintain_order=True).with_columns(pl.col(columns).replace(unique))
