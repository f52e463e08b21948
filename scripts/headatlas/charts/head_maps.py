"""Head maps: one heatmap of layers x heads per task, in a grid, with one colour bar.

All three figures are the same grid. They differ in what gives the colours (`Measure`) and in the lines under each
panel's title. A panel is a list of layers (`_panel`): cells, then whatever marks some of them.
"""

import math
from dataclasses import dataclass, replace

import altair as alt
import polars as pl

from headatlas.charts import colour_bar, frame, layout, marks, palette
from headatlas.charts.labels import METHOD_WORDS, UNITS, task_label
from headatlas.charts.looks import Looks
from headatlas.charts.panels import Edge, concat, panel_titles, without_labels
from headatlas.charts.rows import checked
from headatlas.charts.text import text_width, wrap
from headatlas.charts.ticks import cell_ticks
from headatlas.charts.wanted import Wanted
from headatlas.errors import HeadAtlasError

COLUMNS = ["layer", "head", "importance", "effect", "ci_low", "ci_high", "rank", "q_value"]


@dataclass(frozen=True)
class HeadMaps:
    """The rows to draw, sorted by task, layer and head, with what every panel shares."""

    rows: pl.DataFrame
    model: str
    method: str
    tasks: list[str]
    layers: int
    heads: int
    look: Looks
    empty: list[int]  # layers without attention, which have no rows

    @classmethod
    def read(cls, table: pl.DataFrame, model: str, method: str, tasks: list[str], look: Looks) -> "HeadMaps":
        """Check the importance table and pick the rows of a method and of tasks.

        Raises:
            HeadAtlasError: a column, the method, a task or a head is missing, or a value is no number.
        """
        marked = ["rounding"] if "rounding" in table.columns else []
        rows = checked(table, "importance", COLUMNS + marked, method=[method], task=tasks).drop("method")
        layers, heads = rows["layer"].max() + 1, rows["head"].max() + 1
        empty = _empty(rows)
        _check_cells(rows, layers, heads, method, empty)
        rows = rows.filter(~pl.col("layer").is_in(empty))
        if marked and not rows["rounding"].any():
            rows = rows.drop("rounding")
        return cls(rows, model, method, tasks, layers, heads, look, empty)

    @property
    def cell(self) -> layout.Cell:
        """Sides of a cell."""
        return layout.cell_shape(self.layers, self.heads, self.look)

    @property
    def width(self) -> int:
        """Pixels of a panel."""
        return self.heads * self.cell.width

    @property
    def height(self) -> int:
        """Pixels of a panel."""
        return self.layers * self.cell.height

    @property
    def side(self) -> int:
        """Pixels of a cell's shorter side."""
        return min(self.cell.width, self.cell.height)

    @property
    def columns(self) -> int:
        """Panels side by side."""
        return min(self.look.columns, len(self.tasks))

    @property
    def own_bars(self) -> bool:
        """Whether each panel has its own scale and bar."""
        return self.look.scale == "panel"

    @property
    def rounded(self) -> bool:
        """Whether any effect is marked as smaller than its rounding noise."""
        return "rounding" in self.rows.columns

    @property
    def unit(self) -> str:
        """Of effects."""
        return UNITS.get(self.method, "nats per answer token")


@dataclass(frozen=True)
class Measure:
    """Which column gives the colours, on what kind of scale, and what is said of it."""

    column: str
    words: str
    about: str
    legend_title: str
    limit: str | float | dict
    scheme: str
    signed: bool = False
    symlog: bool = False


def importance(maps: HeadMaps) -> Measure:
    """Share of the summed absolute effects of all heads."""
    look = maps.look
    about = "Share of the summed absolute effects of all heads on a task: each panel sums to 1."
    return Measure("importance", "importance", about, look.legend_title, look.upper_limit, look.scheme)


def signed_effect(maps: HeadMaps) -> Measure:
    """The effect with its sign on a symmetric scale, zero at the middle colour; positive = the head helps."""
    look, symlog = maps.look, maps.look.signed_scale == "symlog"
    about = "Above 0 the head helps the answer, below 0 it hurts it."
    about += " Colours go evenly near 0 and by powers of ten far from it." if symlog else ""
    title = look.signed_legend_title.replace("{unit}", maps.unit)
    return Measure("effect", "signed effect", about, title, look.signed_limit, look.signed_scheme, True, symlog)


MEASURES = {"heatmap-grid": importance, "signed-grid": signed_effect}


def draw(
    table: pl.DataFrame,
    settings: dict,
    capability: pl.DataFrame | None = None,
    noise: dict[str, float] | None = None,
) -> dict:
    """The Vega-Lite spec of `settings["figure"]`, one of `MEASURES`.

    Args:
        table: rows of `importance.parquet`; those of `settings["method"]` are drawn.
        settings: `figure`, `method`, `model`, `tasks` (keys, in the config's order), `figures` (the config section).
        capability: the table of that name; panels of tasks that the model does not do are crossed out.
        noise: rounding noise of one item's effect by task (nats); a mean effect below that of its items is marked in
            the signed grid, as its sign says nothing (in the other it is as dark as zero).

    Raises:
        HeadAtlasError: the table lacks a column, the method, a task or a cell; a key of `figures` is unknown.
    """
    look = Looks.read(settings["figures"])
    if noise and settings["figure"] == "signed-grid":
        table = _with_rounding(table, noise)
    maps = HeadMaps.read(table, settings["model"], settings["method"], look.in_order(settings["tasks"]), look)
    rows = [] if capability is None else capability.filter(~pl.col("capable")).iter_rows(named=True)
    undone = {row["task"]: _not_done(row) for row in rows}
    return grid(maps, MEASURES[settings["figure"]](maps), undone, set(undone))


def annotated_grid(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """The grid of importance; under each title, how well the model does the task and how reliable the map is.

    Args:
        tables: the importance table, the capability table, the reliability table.
    """
    names = [f"{name}{end}" for name in ("exact_match", "log_prob") for end in ("", "_low", "_high")]
    skills = checked(tables[1], "capability", [*names, "n_questions", "capable"], task=wanted.tasks)
    columns = ["reliability", "ci_low", "ci_high"]
    halves = checked(tables[2], "reliability", columns, method=[wanted.method], task=wanted.tasks)
    notes, crossed = {}, set()
    for skill, half in zip(skills.iter_rows(named=True), halves.iter_rows(named=True), strict=True):
        task = skill["task"]
        notes[task] = f"{_exact_match(skill)} of {skill['n_questions']}\n{_log_prob(skill)}\n{_reliability(half)}"
        if not skill["capable"]:
            notes[task] = f"{_not_done(skill)}\n{_log_prob(skill)}"
            crossed.add(task)
    about = (
        "Under each title: share of the questions that the model answers, mean log-probability of the answers (nats "
        "per token), and how far two halves of the questions agree on the ranking of heads (Spearman-Brown corrected), "
        f"each with its {wanted.interval}."
    )
    maps = HeadMaps.read(tables[0], wanted.named, wanted.method, wanted.tasks, wanted.look)
    measure = importance(maps)
    return grid(maps, replace(measure, about=f"{measure.about} {about}"), notes, crossed)


def grid(maps: HeadMaps, measure: Measure, notes: dict[str, str], crossed: set[str]) -> dict:
    """The spec of a grid of head maps.

    Args:
        notes: smaller lines under the titles of some tasks' panels.
        crossed: tasks whose panels are crossed out.
    """
    look, tasks, columns = maps.look, maps.tasks, maps.columns
    below = _level([wrap(notes.get(task, ""), look.font_size, maps.width) for task in tasks], columns)
    titles = panel_titles(tasks, look, maps.width)
    bars = [_bar(maps.rows.filter(task=task)[measure.column], measure) for task in tasks] if maps.own_bars else []
    shared = _bar(maps.rows[measure.column], measure)
    numbers = [str(maps.layers - 1)] if look.tick_labels == "all" else []
    beside = layout.tick_room(numbers, look) + max((bar.width(look) for bar in bars), default=0)
    gaps = layout.spaces(look, maps.width, titles, beside, below)
    length = layout.bar_length(measure.legend_title, _bar_room(maps, gaps.row), look)
    if maps.own_bars:  # a bar longer than its panel must not meet the one below
        gaps = replace(gaps, row=gaps.row + length - maps.height)
    charts = []
    for index, task in enumerate(tasks):
        edge = Edge.of(index, columns, len(tasks))
        titled = edge.right or not maps.own_bars
        colour = _colour(bars[index] if bars else shared, measure, length, titled)
        title = alt.TitleParams(titles[index], subtitle=below[index]) if below[index] else titles[index]
        charts.append(_panel(maps, task, measure, colour, edge, task in crossed).properties(title=title))
    chart = concat(charts, columns, gaps, maps.rows)
    chart = chart.resolve_scale(color="independent" if maps.own_bars else "shared")
    return frame.finish(
        chart, look.entitled(maps.model, maps.method), _words(maps, measure), columns * (maps.width + gaps.column)
    )


def _panel(
    maps: HeadMaps, task: str, measure: Measure, colour: alt.Color, edge: Edge, crossed: bool
) -> alt.TopLevelMixin:
    look = maps.look
    unsure = f"!isValid(datum.q_value) || datum.q_value >= {look.q_threshold}"
    heads = alt.Chart().encode(**_axes(maps, edge), tooltip=_tooltip(maps))
    cells = heads.mark_rect(**marks.CELL).encode(color=colour)
    if look.insignificant == "dim":
        cells = cells.encode(opacity=alt.condition(unsure, alt.value(palette.DIM_OPACITY), alt.value(1)))
    layers = [cells]
    if maps.empty:
        layers.insert(0, _empty_layers(maps))
    if look.insignificant == "mark":
        layers.append(heads.mark_point(**marks.dot(maps.side)).transform_filter(unsure))
    if maps.rounded:
        layers.append(heads.mark_point(**marks.small_cross(maps.side)).transform_filter("datum.rounding"))
    if crossed:
        layers += _diagonals(maps, measure)
    zero = (palette.SIGNED_SCHEMES if measure.signed else palette.SCHEMES)[measure.scheme]
    return (
        (cells if len(layers) == 1 else alt.layer(*layers))
        .transform_filter(f"datum.task === '{task}'")
        .transform_calculate(label=f"'{_quoted(task_label(task, look.labels))}'", interval=_INTERVAL)
        .properties(width=maps.width, height=maps.height, view=alt.ViewConfig(fill=zero))
    )


def _empty_layers(maps: HeadMaps) -> alt.Chart:
    """Grey rows where a layer has no attention."""
    rows = alt.InlineData(values=[{"layer": layer} for layer in maps.empty])
    bands = alt.Chart(rows).mark_rect(**marks.EMPTY_LAYER)
    return bands.encode(y=alt.Y("layer:O"), tooltip=[alt.Tooltip("layer:O", title="No attention in layer")])


def _diagonals(maps: HeadMaps, measure: Measure) -> list[alt.Chart]:
    """Both diagonals of a panel."""
    line = alt.Chart(alt.InlineData(values=[{}])).mark_rule(**marks.crossed_out(measure.signed))
    left, right, top, bottom = (alt.value(place) for place in (0, maps.width, 0, maps.height))
    return [line.encode(x=left, x2=right, y=top, y2=bottom), line.encode(x=left, x2=right, y=bottom, y2=top)]


def _axes(maps: HeadMaps, edge: Edge) -> dict[str, alt.X | alt.Y]:
    """Axes of whole numbers from 0; outer panels have titles, and labels if not all have them."""
    layers, heads = cell_ticks(maps.layers, maps.heads, maps.cell, maps.look)
    x = _axis(heads, "Head" if edge.bottom else None, maps.look)
    y = _axis(layers, "Layer" if edge.left else None, maps.look)
    if edge.left and maps.height < text_width("Layer", maps.look.font_size):  # the panel is too low for it
        y.titleAngle, y.titleAlign, y.titleBaseline = 0, "right", "middle"
    return {
        "x": alt.X("head:O", axis=x, scale=_whole(maps.heads)),
        "y": alt.Y("layer:O", axis=y, scale=_whole(maps.layers)),
    }


def _axis(ticks: list[int], title: str | None, look: Looks) -> alt.Axis:
    axis = alt.Axis(values=ticks, title=title, labelAngle=0, domain=False)
    if title is None and look.tick_labels != "all":
        without_labels(axis)
    return axis


def _whole(count: int) -> alt.Scale:
    return alt.Scale(domain=list(range(count)), paddingInner=0, paddingOuter=0)


_INTERVAL = (
    "format(datum.effect, '+.4f') + "
    "(isValid(datum.ci_low) ? "
    "' [' + format(datum.ci_low, '+.4f') + ', ' + format(datum.ci_high, '+.4f') + ']' : '')"
)


def _tooltip(maps: HeadMaps) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("layer:O", title="Layer"),
        alt.Tooltip("head:O", title="Head"),
        alt.Tooltip("importance:Q", title="Importance", format=".5f"),
        alt.Tooltip("interval:N", title=f"Effect [interval], {maps.unit}"),
        alt.Tooltip("rank:Q", title=f"Rank of {(maps.layers - len(maps.empty)) * maps.heads:,}", format=",d"),
        alt.Tooltip("q_value:Q", title="q-value", format=".3~g"),
    ]


def _bar(values: pl.Series, measure: Measure) -> colour_bar.Bar:
    """The colour bar for these values: from zero (or symmetric about it) to the limit in the settings."""
    sizes = values.abs()
    largest, rule = sizes.max(), measure.limit
    if rule == "max":
        limit = largest
    elif isinstance(rule, dict):
        limit = sizes.quantile(rule["quantile"], "linear")
    else:
        limit = float(rule)
    limit = limit or largest or 10.0 ** (1 - colour_bar.DECIMALS)  # all zero: still a bar that starts at 0
    if measure.symlog:
        return colour_bar.symlog_bar(limit, largest > limit, sizes.median())
    return colour_bar.linear_bar(limit, clipped=largest > limit, signed=measure.signed)


def _bar_room(maps: HeadMaps, row_gap: int) -> int:
    """Pixels from the top to the bottom of what a bar stands beside: its panel, or all rows of panels."""
    rows = 1 if maps.own_bars else math.ceil(len(maps.tasks) / maps.columns)
    return rows * maps.height + (rows - 1) * row_gap


def _colour(bar: colour_bar.Bar, measure: Measure, length: int, titled: bool) -> alt.Color:
    legend = alt.Legend(**bar.legend(measure.legend_title if titled else None, length))
    return alt.Color(f"{measure.column}:Q", scale=alt.Scale(scheme=measure.scheme, **bar.scale), legend=legend)


def _level(notes: list[list[str]], columns: int) -> list[list[str]]:
    """As many lines for all panels of a row, so that titles above them stand level; none where no panel has any."""
    rows = [notes[start : start + columns] for start in range(0, len(notes), columns)]
    most = [max(len([line for line in lines if line]) for lines in row) for row in rows]
    return [[*lines, *[" "] * (n - len(lines))][:n] for row, n in zip(rows, most, strict=True) for lines in row]


def _words(maps: HeadMaps, measure: Measure) -> frame.Words:
    """What is over the figure; where cells are dimmed or marked or rows grey, what that means."""
    marked = {"dim": "Dimmed", "mark": "Dot"}.get(maps.look.insignificant)
    parts = (
        marked and f"{marked}: not significant (q ≥ {maps.look.q_threshold:g})",
        maps.empty and "Grey: no attention in this layer",
        maps.rounded and "×: smaller than the rounding of its numbers",
    )
    what = "Signed effect" if measure.signed else "Importance"
    return frame.Words(
        f"Attention heads of {maps.model}: {measure.words} by {METHOD_WORDS.get(maps.method, maps.method)}",
        measure.about,
        "; ".join(part for part in parts if part) or None,
        f"{what} of each attention head per task: model {maps.model}, method {maps.method}",
    )


def _quoted(text: str) -> str:
    """`text` on one line, fit to stand in a Vega expression between single quotes."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'")


def _not_done(row: dict) -> str:
    """The lines under the title of a task that the model does not do."""
    return f"Not done by the model\n{_exact_match(row)}"


def _exact_match(row: dict) -> str:
    """How often the model is right, from a row of the capability table: `Exact match 83 % [71, 91]`."""
    share, low, high = (100 * row[f"exact_match{end}"] for end in ("", "_low", "_high"))
    return f"Exact match {share:.0f} % [{low:.0f}, {high:.0f}]"


def _log_prob(row: dict) -> str:
    low, high = row["log_prob_low"], row["log_prob_high"]
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"Log-prob. {row['log_prob']:.3f}{interval}".replace("-", "−").replace("Log−", "Log-")


def _reliability(row: dict) -> str:
    if row["reliability"] is None:
        return "Reliability unknown"
    interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    return f"Reliability {row['reliability']:.2f}{interval}".replace("-", "−")


def _with_rounding(table: pl.DataFrame, noise: dict[str, float]) -> pl.DataFrame:
    """The table with `rounding`: is a mean effect smaller than the rounding noise of its items?"""
    known = {task: level for task, level in noise.items() if task in table["task"]}
    level = pl.col("task").replace_strict(known, default=0.0, return_dtype=pl.Float64) / pl.col("n_items").sqrt()
    return table.with_columns(rounding=pl.col("effect").abs() < level)


def _empty(rows: pl.DataFrame) -> list[int]:
    """Layers without attention: those that have no effect in any row."""
    effects = rows.group_by("layer").agg(pl.col("effect", "importance").is_null().all())
    return effects.filter(pl.col("effect") & pl.col("importance"))["layer"].sort().to_list()


def _check_cells(rows: pl.DataFrame, layers: int, heads: int, method: str, empty: list[int]) -> None:
    """Every task has each layer and head once, with finite values: a hole would look like importance zero.

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
