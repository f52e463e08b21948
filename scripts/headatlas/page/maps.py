"""The maps of a model for its page: statistics of all heads, by method and task."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from headatlas.page.javascript import packed

# Columns of the importance table that every cell of a panel has.
STATISTICS = ("effect", "ci_low", "ci_high", "p_value", "q_value", "importance", "rank")


def method_map(importance: pl.DataFrame, method: str, tasks: Sequence[str]) -> dict[str, dict]:
    """One method's statistics, by task.

    Args:
        importance: the table of `headatlas.evidence.importance`.

    Returns:
        for each task the columns `STATISTICS`, packed float32 in order of layer and head, NaN where unknown;
        `notes`: the table's notes, each with the indices of its heads (None: all heads).
    """
    of_method = importance.filter(pl.col("method") == method)
    return {task: _task_map(of_method.filter(pl.col("task") == task).sort("layer", "head")) for task in tasks}


def _task_map(rows: pl.DataFrame) -> dict:
    columns = rows.select(pl.col(STATISTICS).cast(pl.Float32).fill_null(float("nan")))
    found = {name: packed(columns[name].to_numpy()) for name in STATISTICS}
    notes = rows.with_row_index("index").drop_nulls("note").group_by("note", maintain_order=True).agg("index")
    return found | {"notes": [_note(note, index, rows.height) for note, index in notes.iter_rows()]}


def _note(note: str, index: list[int], heads: int) -> dict:
    return {"text": note, "heads": None if len(index) == heads else index}


def shape_of(importance: pl.DataFrame) -> tuple[int, int]:
    """(layers, heads) of the model in an importance table."""
    return int(importance["layer"].max()) + 1, int(importance["head"].max()) + 1


def layers_without_attention(importance: pl.DataFrame) -> list[int]:
    """Layers whose heads have no effect, because they do not exist (hybrid models)."""
    empty = importance.group_by("layer").agg(pl.col("effect").is_null().all()).filter("effect")
    return np.sort(empty["layer"].to_numpy()).tolist()
