"""Evidence as matrices of tasks x tasks, coloured, with the numbers in the cells."""

from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl

from headatlas.charts import layout, marks, palette
from headatlas.charts.colour_bar import Bar
from headatlas.charts.frame import Words
from headatlas.charts.panels import interval_tooltip
from headatlas.charts.rows import checked, inline
from headatlas.charts.ticks import number_format, round_ticks
from headatlas.charts.wanted import Wanted
from headatlas.evidence.summary import LEVEL
from headatlas.stats.clustering import clustered_order


@dataclass(frozen=True)
class Colours:
    """Colours of a matrix's values: title of the legend, scheme along a bar, format of the numbers in cells."""

    title: str
    scheme: str
    bar: Bar
    number: str
    white: str  # Vega expression over `datum`: whether the cell is so dark that its number must be white


def dissociation(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """What knocking out the top heads of one task (row) costs each task (column), minus the cost of random heads.

    Args:
        tables: the dissociation matrix and the dominance of its diagonal.
    """
    rows = checked(
        tables[0],
        "dissociation",
        ["k", "effect", "ci_low", "ci_high"],
        method=[wanted.method],
        source_task=wanted.tasks,
        target_task=wanted.tasks,
    )
    merit = checked(tables[1], "dominance", ["dominance", "ci_low", "ci_high", "p_value"], method=[wanted.method])
    largest = rows["effect"].abs().max() or 1.0
    k, title = rows["k"][0], f"Loss beyond random heads ({wanted.unit})"
    colours = Colours(
        title=title,
        scheme=wanted.look.signed_scheme,
        bar=Bar((-largest, largest), *round_ticks(-largest, largest, 6)),
        number=number_format(largest),
        white=f"abs(datum.value) > {0.6 * largest!r}",
    )
    rows = rows.select(
        pl.col("source_task").alias("row"), pl.col("target_task").alias("column"), pl.col("effect").alias("value"),
        "ci_low", "ci_high",
        sure=((pl.col("ci_low") > 0) | (pl.col("ci_high") < 0)).fill_null(False).cast(pl.Int8),
    )  # fmt: skip
    shown = [
        alt.Tooltip("row:N", title="Top heads of"),
        alt.Tooltip("column:N", title="Tested on"),
        alt.Tooltip("value:Q", title=title, format="+.4f"),
        *interval_tooltip("ci_low", "ci_high", "+.4f"),
    ]
    chart = matrix(wanted, rows, wanted.tasks, colours, shown, ("Top heads of", "Tested on"), bold="sure")
    words = Words(
        f"Dissociation of tasks in {wanted.named}, top {k} heads {wanted.by}",
        f"Answer log-probability that a column's task loses on held-out questions when the top {k} heads of a row's "
        f"task are knocked out together, less what it loses with {k} random heads of the same layers.",
        f"{_merit(merit.row(0, named=True), wanted.unit)}. Bold: the {wanted.interval} excludes 0.",
        "Loss of each task without the top heads of each task",
    )
    return wanted.finish(chart, words, len(wanted.tasks) * layout.MATRIX_CELL[0] + layout.MATRIX_SIDE)


def task_overlap(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """How similar the maps of every two tasks are: rank correlation, and Jaccard index of the top heads.

    Tasks are in the order of an average-linkage clustering by rank correlation, the same on both sides.

    Args:
        tables: the task overlap table.
    """
    columns = ["task_a", "task_b", "rank_correlation", "jaccard", "k", "p_adjusted"]
    pairs = checked(tables[0], "task overlap", columns, method=[wanted.method]).filter(
        pl.col("task_a").is_in(wanted.tasks) & pl.col("task_b").is_in(wanted.tasks)
    )
    order = _order(pairs, wanted.tasks)
    pairs = pairs.with_columns(sure=(pl.col("p_adjusted") < LEVEL).fill_null(False).cast(pl.Int8))
    swapped = pairs.rename({"task_a": "task_b", "task_b": "task_a"}).select(pairs.columns)
    both = pl.concat([pairs, swapped])
    grey = "abs(datum.value) > 0.6"
    look, k = wanted.look, pairs["k"][0] if len(pairs) else 0
    correlation = Colours(
        "Rank correlation", look.signed_scheme, Bar((-1, 1), [-1, -0.5, 0, 0.5, 1], ".1f"), ".2f", grey
    )
    dark = "datum.value < 0.55" if look.scheme in palette.DARK_AT_ZERO else grey
    jaccard = Colours(f"Jaccard index, top {k}", look.scheme, Bar((0, 1), [0, 0.25, 0.5, 0.75, 1], ".2f"), ".2f", dark)
    matrices = []
    for column, colours in (("rank_correlation", correlation), ("jaccard", jaccard)):
        rows = both.select(pl.col("task_a").alias("row"), pl.col("task_b").alias("column"),
                           pl.col(column).alias("value"), "p_adjusted", "sure")  # fmt: skip
        shown = [
            alt.Tooltip("row:N", title="Task"),
            alt.Tooltip("column:N", title="and"),
            alt.Tooltip("value:Q", title=colours.title, format=".3f"),
            alt.Tooltip("p_adjusted:Q", title="Adjusted p-value of the rank correlation", format=".3~g"),
        ]
        bold = "sure" if column == "rank_correlation" else None
        matrices.append(matrix(wanted, rows, order, colours, shown, (None, None), bold))
    chart = alt.hconcat(*matrices, spacing=2 * layout.PANEL_GAP).resolve_scale(color="independent")
    note = f"Bold: related beyond sharing layers (permutation within layers, Holm-adjusted p < {LEVEL})."
    words = Words(
        f"Overlap of the tasks' maps in {wanted.named} {wanted.by}",
        f"Left: rank correlation of the importance of all heads. Right: how many of the top {k} heads two tasks share, "
        "of all that are top for either.",
        note,
        "Overlap of the maps of every two tasks",
    )
    width = 2 * (len(wanted.tasks) * layout.MATRIX_CELL[0] + layout.MATRIX_SIDE)
    return wanted.finish(chart, words, width)


def matrix(
    wanted: Wanted,
    rows: pl.DataFrame,
    order: list[str],
    colours: Colours,
    tooltip: list[alt.Tooltip],
    titles: tuple[str | None, str | None],
    bold: str | None = None,
) -> alt.LayerChart:
    """A matrix of `value` by `row` and `column` (keys of tasks, in this order) with a number in each cell.

    Args:
        titles: of the vertical and the horizontal axis; bold: the column that marks bold numbers.
    """
    look, n = wanted.look, len(order)
    width, height = (n * side for side in layout.MATRIX_CELL)
    labels = [wanted.label(task) for task in order]
    named = rows.with_columns(pl.col("row", "column").replace_strict(dict(zip(order, labels, strict=True))))
    axis = {"domain": False, "ticks": False, "labelLimit": 0, "labelPadding": layout.MATRIX_LABEL_GAP}
    scale = alt.Scale(domain=labels, paddingInner=0, paddingOuter=0)
    base = alt.Chart(inline(named)).encode(
        x=alt.X("column:N", scale=scale, axis=alt.Axis(title=titles[1], labelAngle=layout.SLANT, **axis)),
        y=alt.Y("row:N", scale=scale, axis=alt.Axis(title=titles[0], **axis)),
    )
    legend = alt.Legend(**colours.bar.legend(colours.title, layout.bar_length(colours.title, height, look)))
    colour = alt.Color("value:Q", legend=legend, scale=alt.Scale(
        scheme=colours.scheme, domain=list(colours.bar.domain), nice=False))  # fmt: skip
    known = "isValid(datum.value)"
    cells = base.mark_rect(**marks.MATRIX_CELL).encode(color=colour, tooltip=tooltip).transform_filter(known)
    weight = {"expr": f"datum.{bold} ? 'bold' : 'normal'"} if bold else "normal"
    numbers = (
        base.mark_text(**marks.NUMBER, fontSize=look.font_size, fontWeight=weight)
        .encode(
            text=alt.Text("value:Q", format=colours.number),
            color=alt.condition(colours.white, alt.value(palette.TEXT_ON_DARK), alt.value(palette.TEXT)),
        )
        .transform_filter(known)
    )
    view = alt.ViewConfig(fill=palette.BLANK_CELL)
    return alt.layer(cells, numbers).properties(width=width, height=height, view=view)


def _merit(row: dict, unit: str) -> str:
    if row["dominance"] is None:
        return "Diagonal dominance: unknown (one task)"
    interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    p = f"= {row['p_value']:.3f}" if row["p_value"] >= 0.001 else f"= {row['p_value']:.1g}"
    return f"Diagonal dominance {row['dominance']:.2f}{interval} {unit}, permutation p {p}"


def _order(pairs: pl.DataFrame, tasks: list[str]) -> list[str]:
    place = {task: i for i, task in enumerate(tasks)}
    alike = np.eye(len(tasks))
    for a, b, r in pairs.select("task_a", "task_b", "rank_correlation").iter_rows():
        alike[place[a], place[b]] = alike[place[b], place[a]] = 0.0 if r is None else r
    return [tasks[i] for i in clustered_order(alike)]
