"""Head maps: one heatmap of layers x heads per task, in a grid, with one colour bar.

All these figures are the same grid. They differ in what determines the colours (`Measure`) and in the lines under each
panel's title. A panel is a list of layers (`_panel`): cells, then marks on some of them.
"""

import math
from dataclasses import dataclass, replace

import altair as alt
import polars as pl

from headatlas.charts import colour_bar, frame, layout, marks, notes, palette
from headatlas.charts.head_rows import HeadRows, with_rounding
from headatlas.charts.labels import METHOD_WORDS, sign_words, task_label, unit_of
from headatlas.charts.looks import Looks
from headatlas.charts.panels import Edge, concat, panel_titles, without_labels
from headatlas.charts.text import text_width, wrap
from headatlas.charts.ticks import cell_ticks
from headatlas.charts.wanted import Wanted
from headatlas.metric import METRICS


@dataclass(frozen=True)
class HeadMaps:
    """What all panels share: the checked rows of a model and a method, the tasks in order, sizes."""

    table: HeadRows
    model: str
    method: str
    tasks: list[str]
    metric: str
    look: Looks

    @property
    def cell(self) -> layout.Cell:
        """Sides of a cell."""
        return layout.cell_shape(self.table.layers, self.table.heads, self.look)

    @property
    def width(self) -> int:
        """Pixels of a panel."""
        return self.table.heads * self.cell.width

    @property
    def height(self) -> int:
        """Pixels of a panel."""
        return self.table.layers * self.cell.height

    @property
    def columns(self) -> int:
        """Panels side by side."""
        return min(self.look.columns, len(self.tasks))

    @property
    def own_bars(self) -> bool:
        """Whether each panel has its own scale and bar."""
        return self.look.scale == "panel"

    @property
    def unit(self) -> str:
        """Of effects."""
        return unit_of(self.method, self.metric)


@dataclass(frozen=True)
class Measure:
    """Which column determines the colours, on what kind of scale, and in which words.

    `tooltip`: what a cell says, if it is not a head's importance and effect.
    """

    column: str
    words: str
    about: str
    legend_title: str
    limit: str | float | dict
    scheme: str
    signed: bool = False
    symlog: bool = False
    tooltip: tuple[alt.Tooltip, ...] = ()


def importance(maps: HeadMaps) -> Measure:
    """Share of the summed absolute effects of all heads."""
    look = maps.look
    about = "Share of the summed absolute effects of all heads on a task: each panel sums to 1."
    return Measure("importance", "importance", about, look.legend_title, look.upper_limit, look.scheme)


def signed_effect(maps: HeadMaps) -> Measure:
    """The effect with its sign on a symmetric scale, zero at the middle colour; positive = the head helps."""
    look, symlog = maps.look, maps.look.signed_scale == "symlog"
    about = sign_words(maps.method)
    about += " The colour scale is linear near 0 and logarithmic far from it." if symlog else ""
    title = look.signed_legend_title.replace("{unit}", maps.unit)
    return Measure("effect", "signed effect", about, title, look.signed_limit, look.signed_scheme, True, symlog)


def difference(maps: HeadMaps, other: str) -> Measure:
    """The effect minus that in another run, on the scale of the signed effect."""
    about = f"Above 0 the effect of a head is larger in {maps.model} than in {other}, below 0 it is smaller."
    words, title = f"effect minus that in {other},", f"Difference ({maps.unit})"
    tooltip = (
        *(alt.Tooltip(f"{name}:O", title=name.capitalize()) for name in ("layer", "head")),
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("interval:N", title=f"Difference [interval], {maps.unit}"),
        alt.Tooltip("own:Q", title="Effect here", format="+.4f"),
        alt.Tooltip("other:Q", title="Effect in the other run", format="+.4f"),
        alt.Tooltip("q_value:Q", title="q-value", format=".3~g"),
        alt.Tooltip("change:N", title="Change"),
    )
    return replace(signed_effect(maps), words=words, about=about, legend_title=title, tooltip=tooltip)


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
        settings: `figure`, `method`, `model`, `tasks` (keys, in the config's order), `metric`, `figures` (section).
        capability: the table of that name; panels of tasks that the model cannot do are crossed out.
        noise: rounding noise of one item's effect by task (nats); a mean effect below that of its items is marked in
            the signed grid, because its sign means nothing (in the other grid it is as dark as zero).

    Raises:
        HeadAtlasError: the table lacks a column, the method, a task or a cell; a key of `figures` is unknown.
    """
    look = Looks.read(settings["figures"])
    if noise and settings["figure"] == "signed-grid":
        table = with_rounding(table, noise)
    tasks, method = look.in_order(settings["tasks"]), settings["method"]
    maps = HeadMaps(HeadRows.read(table, method, tasks), settings["model"], method, tasks, settings["metric"], look)
    return grid(maps, MEASURES[settings["figure"]](maps), notes.undone_only(capability))


def annotated_grid(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """The grid of importance, with accuracy, score and reliability under each title.

    Args:
        tables: the importance table, the capability table, the reliability table.
    """
    table, capability, reliability = tables
    words, known = METRICS[wanted.metric], reliability.filter(method=wanted.method)
    agree = "how far two halves of the questions agree on the ranking of heads (Spearman-Brown corrected)"
    each = f"each with its {wanted.interval}"
    figures = (words.accuracy.lower(), words.axis.lower())
    about = f"Under each title: {', '.join(figures)}, and {agree}, {each}."
    if known["ci_low"].null_count() == known.height:
        about = f"Under each title: {' and '.join(figures)}, {each}, and {agree}."
    rows = HeadRows.read(table, wanted.method, wanted.tasks)
    maps = HeadMaps(rows, wanted.named, wanted.method, wanted.tasks, wanted.metric, wanted.look)
    measure = importance(maps)
    under = notes.on_all(capability, reliability, wanted.method, wanted.tasks)
    return grid(maps, replace(measure, about=f"{measure.about} {about}"), under)


def grid(maps: HeadMaps, measure: Measure, under: notes.Notes, words: frame.Words | None = None) -> dict:
    """The spec of a grid of head maps, with notes under the titles of panels; `words` replaces those above it."""
    look, tasks, columns = maps.look, maps.tasks, maps.columns
    room = maps.width + layout.PANEL_GAP  # a line may extend into the gaps, which then grow
    below = _level([wrap(under.lines.get(task, ""), look.font_size, room) for task in tasks], columns)
    titles = panel_titles(tasks, look, maps.width)
    bars = _bars(maps, measure)
    numbers = [str(maps.table.layers - 1)] if look.tick_labels == "all" else []
    own_bar = max(bar.width(look) for bar in bars) if maps.own_bars else 0
    gaps = layout.spaces(look, maps.width, titles, layout.tick_room(numbers, look) + own_bar, below)
    length = layout.bar_length(measure.legend_title, _bar_room(maps, gaps.row), look)
    if maps.own_bars:  # a bar longer than its panel must not touch the one below
        gaps = replace(gaps, row=gaps.row + length - maps.height)
    charts = []
    for index, task in enumerate(tasks):
        edge = Edge.of(index, columns, len(tasks))
        colour = _colour(bars[index], measure, length, titled=edge.right or not maps.own_bars)
        title = alt.TitleParams(titles[index], subtitle=below[index]) if below[index] else titles[index]
        charts.append(_panel(maps, task, measure, colour, edge, task in under.undone).properties(title=title))
    chart = concat(charts, columns, gaps, maps.table.rows)
    chart = chart.resolve_scale(color="independent" if maps.own_bars else "shared")
    return frame.finish(
        chart,
        look.with_names(maps.model, maps.method),
        words or _words(maps, measure),
        columns * (maps.width + gaps.column),
    )


def _panel(
    maps: HeadMaps, task: str, measure: Measure, colour: alt.Color, edge: Edge, crossed: bool
) -> alt.TopLevelMixin:
    look = maps.look
    unsure = f"!isValid(datum.q_value) || datum.q_value >= {look.q_threshold}"
    heads = alt.Chart().encode(**_axes(maps, edge), tooltip=[*measure.tooltip] or _tooltip(maps))
    cells = heads.mark_rect(**marks.CELL).encode(color=colour)
    if look.insignificant == "dim":
        cells = cells.encode(opacity=alt.condition(unsure, alt.value(palette.DIM_OPACITY), alt.value(1)))
    layers = [cells]
    if maps.table.empty:
        layers.insert(0, _empty_layers(maps))
    if look.insignificant == "mark":
        layers.append(heads.mark_point(**marks.dot(maps.cell.side)).transform_filter(unsure))
    if maps.table.rounded:
        layers.append(heads.mark_point(**marks.small_cross(maps.cell.side)).transform_filter("datum.rounding"))
    if crossed:
        layers += _diagonals(maps, measure)
    zero = (palette.SIGNED_SCHEMES if measure.signed else palette.SCHEMES)[measure.scheme]
    return (
        (cells if len(layers) == 1 else alt.layer(*layers))
        .transform_filter(f"datum.task === '{task}'")
        .transform_calculate(label=f"'{_quoted(task_label(task, look.labels))}'", **_interval(maps))
        .properties(width=maps.width, height=maps.height, view=alt.ViewConfig(fill=zero))
    )


def _empty_layers(maps: HeadMaps) -> alt.Chart:
    """Grey rows for layers without attention."""
    rows = alt.InlineData(values=[{"layer": layer} for layer in maps.table.empty])
    bands = alt.Chart(rows).mark_rect(**marks.EMPTY_LAYER)
    return bands.encode(y=alt.Y("layer:O"), tooltip=[alt.Tooltip("layer:O", title="No attention in layer")])


def _diagonals(maps: HeadMaps, measure: Measure) -> list[alt.Chart]:
    """Both diagonals of a panel."""
    line = alt.Chart(alt.InlineData(values=[{}])).mark_rule(**marks.crossed_out(measure.signed))
    left, right, top, bottom = (alt.value(place) for place in (0, maps.width, 0, maps.height))
    return [line.encode(x=left, x2=right, y=top, y2=bottom), line.encode(x=left, x2=right, y=bottom, y2=top)]


def _axes(maps: HeadMaps, edge: Edge) -> dict[str, alt.X | alt.Y]:
    """Axes of whole numbers from 0. Outer panels have titles and labels; the others have labels with `tick_labels:
    all`."""
    layers, heads = cell_ticks(maps.table.layers, maps.table.heads, maps.cell, maps.look)
    x = _axis(heads, "Head" if edge.bottom else None, maps.look)
    y = _axis(layers, "Layer" if edge.left else None, maps.look)
    if edge.left and maps.height < text_width("Layer", maps.look.font_size):  # the panel is too low for the title
        y.titleAngle, y.titleAlign, y.titleBaseline = 0, "right", "middle"
    return {
        "x": alt.X("head:O", axis=x, scale=_whole(maps.table.heads)),
        "y": alt.Y("layer:O", axis=y, scale=_whole(maps.table.layers)),
    }


def _axis(ticks: list[int], title: str | None, look: Looks) -> alt.Axis:
    axis = alt.Axis(values=ticks, title=title, labelAngle=0, domain=False)
    if title is None and look.tick_labels != "all":
        without_labels(axis)
    return axis


def _whole(count: int) -> alt.Scale:
    return alt.Scale(domain=list(range(count)), paddingInner=0, paddingOuter=0)


def _interval(maps: HeadMaps) -> dict[str, str]:
    """The text of a cell's effect with its interval, where cells have one."""
    return {"interval": _INTERVAL} if "effect" in maps.table.rows.columns else {}


_INTERVAL = (
    "format(datum.effect, '+.4f') + "
    "(isValid(datum.ci_low) ? "
    "' [' + format(datum.ci_low, '+.4f') + ', ' + format(datum.ci_high, '+.4f') + ']' : '')"
)


def _tooltip(maps: HeadMaps) -> list[alt.Tooltip]:
    questions = [alt.Tooltip("n_questions:Q", title="Questions", format=",d")] if maps.table.adaptive else []
    return [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("layer:O", title="Layer"),
        alt.Tooltip("head:O", title="Head"),
        alt.Tooltip("importance:Q", title="Importance", format=".5f"),
        alt.Tooltip("interval:N", title=f"Effect [interval], {maps.unit}"),
        alt.Tooltip("rank:Q", title=f"Rank of {maps.table.ranked:,}", format=",d"),
        alt.Tooltip("q_value:Q", title="q-value", format=".3~g"),
        *questions,
    ]


def _bars(maps: HeadMaps, measure: Measure) -> list[colour_bar.Bar]:
    """One bar per task, all equal unless each panel has its own."""
    rows = maps.table.rows
    if maps.own_bars:
        return [_bar(rows.filter(task=task)[measure.column], measure) for task in maps.tasks]
    return [_bar(rows[measure.column], measure)] * len(maps.tasks)


def _bar(values: pl.Series, measure: Measure) -> colour_bar.Bar:
    """The colour bar for these values: from zero (or symmetric around it) to the limit in the settings."""
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
    """Height in pixels of what a bar is next to: its panel, or all rows of panels."""
    rows = 1 if maps.own_bars else math.ceil(len(maps.tasks) / maps.columns)
    return rows * maps.height + (rows - 1) * row_gap


def _colour(bar: colour_bar.Bar, measure: Measure, length: int, titled: bool) -> alt.Color:
    legend = alt.Legend(**bar.legend(measure.legend_title if titled else None, length))
    return alt.Color(f"{measure.column}:Q", scale=alt.Scale(scheme=measure.scheme, **bar.scale), legend=legend)


def _level(notes: list[list[str]], columns: int) -> list[list[str]]:
    """Equal numbers of lines for all panels of a row, so that their titles align; none if no panel has any."""
    rows = [notes[start : start + columns] for start in range(0, len(notes), columns)]
    most = [max(len([line for line in lines if line]) for lines in row) for row in rows]
    return [[*lines, *[" "] * (n - len(lines))][:n] for row, n in zip(rows, most, strict=True) for lines in row]


def _words(maps: HeadMaps, measure: Measure) -> frame.Words:
    """The words above the figure, including the meaning of dimmed or marked cells and grey rows."""
    marked = {"dim": "Dimmed", "mark": "Dot"}.get(maps.look.insignificant)
    parts = (
        marked and f"{marked}: not significant (q ≥ {maps.look.q_threshold:g})",
        maps.table.empty and "Grey: no attention in this layer",
        maps.table.rounded and "×: smaller than rounding error",
        maps.table.adaptive and _stopped(maps),
    )
    what = "Signed effect" if measure.signed else "Importance"
    return frame.Words(
        f"Attention heads of {maps.model}: {measure.words} by {METHOD_WORDS.get(maps.method, maps.method)}",
        measure.about,
        "; ".join(part for part in parts if part) or None,
        f"{what} of each attention head per task: model {maps.model}, method {maps.method}",
    )


def _stopped(maps: HeadMaps) -> str:
    """`Measured on some of the questions only: 215 to 240 of 270 heads`."""
    of_tasks = maps.table.rows.group_by("task").agg(pl.col("stopped").sum())["stopped"]
    numbers = " to ".join(dict.fromkeys(f"{n:,}" for n in (of_tasks.min(), of_tasks.max())))
    return f"Measured on some of the questions only: {numbers} of {maps.table.ranked:,} heads"


def _quoted(text: str) -> str:
    """`text` on one line, escaped for a single-quoted Vega string."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'")
