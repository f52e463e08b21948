"""Evidence as scatter plots, one panel per task: effects of whole key-value groups against sums of single heads."""

import altair as alt
import polars as pl

from headatlas.charts import palette
from headatlas.charts.frame import Words
from headatlas.charts.rows import checked
from headatlas.charts.scatter import NAMED, Effects, Kinds, scatter_grid
from headatlas.charts.wanted import Wanted
from headatlas.evidence.head_groups import differs
from headatlas.evidence.summary import LEVEL

SUM = Effects("sum", "Sum of single heads")
WHOLE = Effects("effect", "Whole group")
DIFFERS = Kinds(
    "differs",
    "Group against sum",
    {"more": palette.SERIES[1], "less": palette.SERIES[0], "undecided": palette.RANDOM_CURVE},
)


def head_groups(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """Effect of the query heads of one key-value head, replaced together, against the sum of their single effects.

    Args:
        tables: the head-groups table.
    """
    columns = ["layer", "group", "first_head", "last_head", *SUM.columns, *WHOLE.columns, "difference", "q_value"]
    groups = (
        checked(tables[0], "head-groups", columns, task=wanted.tasks)
        .sort(pl.col("difference").abs(), descending=True, nulls_last=True)
        .with_columns(
            differs=differs().fill_null("undecided"),
            name=pl.format("{}.{}-{}", "layer", "first_head", "last_head"),
            label=wanted.label_column(),
        )
    )
    tooltip = [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("name:N", title="Layer.heads"),
        *WHOLE.tooltip(wanted.unit),
        *SUM.tooltip(wanted.unit),
        alt.Tooltip("difference:Q", title="Difference", format=".4f"),
        alt.Tooltip("q_value:Q", title="q of the difference", format=".3g"),
    ]
    words = Words(
        f"Query heads that share keys and values in {wanted.named}",
        "Effect of replacing all query heads of one key-value head together (upward) against the sum of their effects "
        "one at a time (across), by exact ablation. Off the diagonal, the heads of a group work together: further from "
        "zero than the sum, they back each other up; nearer to zero, one does what another has done.",
        f"The {NAMED} groups furthest from the diagonal with layer.heads. Bars: {wanted.interval}. "
        f"Colours: q < {LEVEL} for the difference.",
        "Effect of groups of heads against the sum of their members' effects",
    )
    return wanted.finish(scatter_grid(wanted, groups, SUM, WHOLE, DIFFERS, tooltip), words, wanted.grid_width)
