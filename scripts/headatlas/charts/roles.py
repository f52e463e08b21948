"""What the heads do, in the grid of the head maps: one panel per role score."""

from dataclasses import replace

import altair as alt
import polars as pl

from headatlas.charts.frame import Words
from headatlas.charts.head_maps import HeadMaps, Measure, grid
from headatlas.charts.head_rows import HeadRows
from headatlas.charts.notes import Notes
from headatlas.charts.rows import checked
from headatlas.charts.wanted import Wanted
from headatlas.errors import HeadAtlasError

OF_HEADS = {
    "previous_token": "Previous token",
    "induction": "Induction",
    "duplicate_token": "Duplicate token",
    "sink": "First token",
    "copying": "Copying",
}
OF_TASKS = {"retrieval_score": "Retrieval score", "span_mass": "Needed span"}  # means over the tasks that have one
ABOUT = (
    "On random tokens repeated once, the attention that a token of the repeat pays to the token before it, to the "
    "token after its first occurrence (induction), to that occurrence, and to the first token of all. Copying: share "
    "of tokens whose own logit the head raises most."
)
ABOUT_TASKS = {
    "retrieval_score": " Retrieval score: share of answer tokens at which the head looks most at the token to copy, a "
    "mean over the tasks that have such tokens.",
    "span_mass": " Needed span: attention of an answer to the tokens on which it hangs, a mean likewise.",
}


def roles(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """The grid of role scores, all of them shares from 0 to 1.

    Args:
        tables: the heads table, the head-roles table.

    Raises:
        HeadAtlasError: a table lacks a column or a task.
    """
    heads, of_tasks = tables
    heads = _checked_heads(heads)
    on_tasks = checked(of_tasks, "head-roles", ["layer", "head", *OF_TASKS], task=wanted.tasks)
    means = on_tasks.group_by("layer", "head").agg(pl.col(*OF_TASKS).mean())
    table = heads.join(means, on=["layer", "head"]).unpivot(
        index=["layer", "head"], variable_name="task", value_name="score"
    )
    known = {name: words for name, words in (OF_HEADS | OF_TASKS).items() if table.filter(task=name)["score"].count()}
    rows = table.filter(pl.col("task").is_in([*known])).select("task", "layer", "head", "score").sort(pl.all())
    present = rows.drop_nulls("score")
    empty = sorted({*rows["layer"]} - {*present["layer"]})
    look = replace(wanted.look, labels=known, insignificant="show")
    size = (rows["layer"].max() + 1, rows["head"].max() + 1)
    maps = HeadMaps(HeadRows(present, *size, empty), wanted.named, "", [*known], wanted.metric, look)
    tooltip = (
        alt.Tooltip("label:N", title="Role"),
        alt.Tooltip("layer:O", title="Layer"),
        alt.Tooltip("head:O", title="Head"),
        alt.Tooltip("score:Q", title="Score", format=".4f"),
    )
    measure = Measure("score", "roles", "", "Role score", "max", look.scheme, tooltip=tooltip)
    words = Words(
        f"What the attention heads of {wanted.named} do",
        ABOUT + "".join(words for name, words in ABOUT_TASKS.items() if name in known),
        "Grey: no attention in this layer" if empty else None,
        f"Role scores of each attention head: model {wanted.named}",
    )
    return grid(maps, measure, Notes({}, set()), words)


def _checked_heads(heads: pl.DataFrame) -> pl.DataFrame:
    """The columns of the heads table that are drawn."""
    columns = ["layer", "head", *OF_HEADS]
    if missing := [column for column in columns if column not in heads.columns]:
        raise HeadAtlasError(f"heads table: no column {', '.join(missing)}; it has {', '.join(heads.columns)}")
    return heads.select(columns)
