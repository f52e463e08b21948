"""Evidence as matrices of tasks x tasks, coloured, with the numbers in the cells."""

from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl

from headatlas.charts import head_maps, looks
from headatlas.charts.panels import Wanted, Words, checked, finished, inline, interval_tooltip
from headatlas.evidence.summary import LEVEL
from headatlas.stats.clustering import clustered_order


@dataclass(frozen=True)
class Colours:
    """The colours of a matrix's values: a scheme over a domain, the legend's title, the format of numbers."""

    title: str
    scheme: str
    domain: tuple[float, float]
    number: str
    ticks: list[float]
    legend_number: str
    white: str  # Vega expression over `datum`: is the cell so dark that its number is white?


def dissociation(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """What ablating the top heads of one task (row) costs each task (column), less what random heads cost.

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
    ticks, number = looks.round_ticks(-largest, largest, 6)
    k, title = rows["k"][0], "Loss beyond random heads (nats per answer token)"
    colours = Colours(
        title=title,
        scheme=wanted.look.signed_scheme,
        domain=(-largest, largest),
        number=looks.number_format(largest),
        ticks=ticks,
        legend_number=number,
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
        f"Dissociation of tasks in {wanted.named}, top {k} heads{wanted.by}",
        f"Answer log-probability that a column's task loses on held-out questions when the top {k} heads of a row's "
        f"task are knocked out together, less what it loses with {k} random heads of the same layers.",
        f"{_merit(merit.row(0, named=True))}. Bold: the {wanted.interval} excludes 0.",
        "Loss of each task without the top heads of each task",
    )
    return finished(chart, wanted, words, len(wanted.tasks) * looks.MATRIX_CELL[0] + looks.MATRIX_SIDE)


def task_overlap(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """How alike the maps of each two tasks are: rank correlation, and Jaccard index of the top heads.

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
    correlation = Colours("Rank correlation", look.signed_scheme, (-1, 1), ".2f", [-1, -0.5, 0, 0.5, 1], ".1f", grey)
    dark = "datum.value < 0.55" if look.scheme in ("viridis", "cividis", "magma", "inferno", "plasma") else grey
    jaccard = Colours(f"Jaccard index, top {k}", look.scheme, (0, 1), ".2f", [0, 0.25, 0.5, 0.75, 1], ".2f", dark)
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
    chart = alt.hconcat(*matrices, spacing=2 * looks.PANEL_GAP).resolve_scale(color="independent")
    note = f"Bold: related beyond sharing layers (permutation within layers, Holm-adjusted p < {LEVEL})."
    words = Words(
        f"Overlap of the tasks' maps in {wanted.named}{wanted.by}",
        f"Left: rank correlation of the importance of all heads. Right: how many of the top {k} heads two tasks share, "
        "of all that are top for either.",
        note,
        "Overlap of the maps of each two tasks",
    )
    width = 2 * (len(wanted.tasks) * looks.MATRIX_CELL[0] + looks.MATRIX_SIDE)
    return finished(chart, wanted, words, width)


def annotated_grid(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """The grid of head maps; under each title, how well the model does the task and how reliable the map is.

    Args:
        tables: the importance table, the capability table, the reliability table.
    """
    names = [f"{name}{end}" for name in ("exact_match", "log_prob") for end in ("", "_low", "_high")]
    skills = checked(tables[1], "capability", [*names, "n_questions", "capable"], task=wanted.tasks)
    columns = ["reliability", "ci_low", "ci_high"]
    rows = checked(tables[2], "reliability", columns, method=[wanted.method], task=wanted.tasks)
    reliable = {row["task"]: _reliability(row) for row in rows.iter_rows(named=True)}
    notes, crossed = {}, set()
    for row in skills.iter_rows(named=True):
        task = row["task"]
        notes[task] = f"{head_maps.exact_match(row)} of {row['n_questions']}\n{_log_prob(row)}\n{reliable[task]}"
        if not row["capable"]:
            notes[task] = f"{head_maps.not_done(row)}\n{_log_prob(row)}"
            crossed.add(task)
    about = (
        "Under each title: share of the questions that the model answers, mean log-probability of the answers (nats "
        "per token), and how far two halves of the questions agree on the ranking of heads (Spearman-Brown corrected), "
        f"each with its {wanted.interval}."
    )
    settings = wanted.settings | {"method": wanted.method}
    return head_maps.annotated_grid(tables[0], settings, notes, crossed, about).to_dict()


def _log_prob(row: dict) -> str:
    low, high = row["log_prob_low"], row["log_prob_high"]
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"Log-prob. {row['log_prob']:.3f}{interval}".replace("-", "−").replace("Log−", "Log-")


def _reliability(row: dict) -> str:
    if row["reliability"] is None:
        return "Reliability unknown"
    interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    return f"Reliability {row['reliability']:.2f}{interval}".replace("-", "−")


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
        titles: of the vertical and the horizontal axis; bold: the column that says which numbers are bold.
    """
    look, n = wanted.look, len(order)
    width, height = (n * side for side in looks.MATRIX_CELL)
    labels = [wanted.label(task) for task in order]
    named = rows.with_columns(pl.col("row", "column").replace_strict(dict(zip(order, labels, strict=True))))
    axis = {"domain": False, "ticks": False, "labelLimit": 0, "labelPadding": 6}
    scale = alt.Scale(domain=labels, paddingInner=0, paddingOuter=0)
    base = alt.Chart(inline(named)).encode(
        x=alt.X("column:N", scale=scale, axis=alt.Axis(title=titles[1], labelAngle=looks.ANGLE, **axis)),
        y=alt.Y("row:N", scale=scale, axis=alt.Axis(title=titles[0], **axis)),
    )
    legend = alt.Legend(
        title=colours.title, titleOrient="right", type="gradient", orient="right", offset=looks.BAR_OFFSET,
        gradientLength=looks.bar_length(colours.title, height, look), gradientThickness=looks.BAR_THICKNESS,
        values=colours.ticks, format=colours.legend_number,
    )  # fmt: skip
    colour = alt.Color("value:Q", legend=legend, scale=alt.Scale(
        scheme=colours.scheme, domain=list(colours.domain), nice=False))  # fmt: skip
    known = "isValid(datum.value)"
    cells = base.mark_rect(aria=False, stroke="white").encode(color=colour, tooltip=tooltip).transform_filter(known)
    weight = {"expr": f"datum.{bold} ? 'bold' : 'normal'"} if bold else "normal"
    numbers = (
        base.mark_text(aria=False, fontSize=look.font_size, fontWeight=weight)
        .encode(
            text=alt.Text("value:Q", format=colours.number),
            color=alt.condition(colours.white, alt.value("white"), alt.value(looks.TEXT_COLOUR)),
        )
        .transform_filter(known)
    )
    view = alt.ViewConfig(fill=looks.BLANK_COLOUR)
    return alt.layer(cells, numbers).properties(width=width, height=height, view=view)


def _merit(row: dict) -> str:
    if row["dominance"] is None:
        return "Diagonal dominance: unknown (one task)"
    interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    p = f"= {row['p_value']:.3f}" if row["p_value"] >= 0.001 else f"= {row['p_value']:.1g}"
    return f"Diagonal dominance {row['dominance']:.2f}{interval} nats per answer token, permutation p {p}"


def _order(pairs: pl.DataFrame, tasks: list[str]) -> list[str]:
    place = {task: i for i, task in enumerate(tasks)}
    alike = np.eye(len(tasks))
    for a, b, r in pairs.select("task_a", "task_b", "rank_correlation").iter_rows():
        alike[place[a], place[b]] = alike[place[b], place[a]] = 0.0 if r is None else r
    return [tasks[i] for i in clustered_order(alike)]
