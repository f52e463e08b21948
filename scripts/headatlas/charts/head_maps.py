"""Head maps as Altair charts: one heatmap of layers x heads per task, in a grid, with one colour bar.

Knows the columns of `importance.parquet` and Altair; knows nothing of how the numbers came about, and takes
every size and colour from `looks`.
"""

import math
from dataclasses import dataclass, replace

import altair as alt
import polars as pl

from headatlas.charts import looks
from headatlas.charts.looks import Looks
from headatlas.errors import HeadAtlasError

UNITS = {"ablation": "nats per answer token", "attribution": "nats per answer token", "probe": "logits"}
COLUMNS = ["task", "layer", "head", "importance", "effect", "ci_low", "ci_high", "rank", "q_value"]
PAGE_MENU = {"export": True, "source": True, "compiled": False, "editor": False}  # the editor is a web page
DIGITS = 6  # significant digits of a value in the spec; the table keeps them all


@dataclass(frozen=True)
class Measure:
    """Which column gives the colours, on what kind of scale, and what the figure's title says of it."""

    column: str
    signed: bool
    scheme: str
    legend_title: str
    limit: str | float | dict
    words: str
    about: str
    symlog: bool = False


@dataclass(frozen=True)
class Panels:
    """The rows of the tasks to draw, with the size of the model and what every panel shares."""

    rows: pl.DataFrame
    tasks: list[str]
    layers: int
    heads: int
    look: Looks
    unit: str
    empty: list[int]  # layers without attention

    @property
    def rounded(self) -> bool:
        """Whether any effect is smaller than its rounding noise."""
        return self.rows["rounding"].any()

    @property
    def cell(self) -> int:
        """Side of a cell in pixels."""
        return looks.cell_size(self.layers, self.heads, self.look)

    @property
    def width(self) -> int:
        """Pixels."""
        return self.heads * self.cell

    @property
    def height(self) -> int:
        """Pixels."""
        return self.layers * self.cell

    @property
    def own_bars(self) -> bool:
        """Whether each panel has its own scale and bar."""
        return self.look.scale == "panel"

    def values(self, column: str, task: str | None = None) -> pl.Series:
        """One column of all tasks, or of one."""
        rows = self.rows if task is None else self.rows.filter(pl.col("task") == task)
        return rows[column]


def heatmap_grid(table: pl.DataFrame, settings: dict, notes: dict[str, str] | None = None) -> alt.TopLevelMixin:
    """Grid of heatmaps of `importance` (share of the summed absolute effect of all heads), one panel a task.

    Args:
        table: rows of `importance.parquet`; those of `settings["method"]` are drawn.
        settings: `method`, `model`, `tasks` (keys, in the config's order) and `figures` (the config section).
        notes: lines under the titles of tasks that the model does not do; their panels are crossed out.
    Raises:
        HeadAtlasError: the table lacks a column, the method, a task or a cell; a key of `figures` is unknown.
    """
    panels = _panels(table, settings)
    return _grid(panels, _importance(panels.look), settings, notes or {}, set(notes or {}))


def signed_grid(table: pl.DataFrame, settings: dict, notes: dict[str, str] | None = None) -> alt.TopLevelMixin:
    """Grid of heatmaps of the signed `effect` on a symmetric scale, zero at the middle colour.

    Positive = the head helps the answer; nats per answer token, logits for the probe. Arguments and errors as
    `heatmap_grid`.
    """
    panels = _panels(table, settings)
    look = panels.look
    title = look.signed_legend_title.replace("{unit}", panels.unit)
    symlog = look.signed_scale == "symlog"
    about = "Above 0 the head helps the answer, below 0 it hurts it."
    about += " Colours go evenly near 0 and by powers of ten far from it." if symlog else ""
    measure = Measure("effect", True, look.signed_scheme, title, look.signed_limit, "signed effect", about, symlog)
    return _grid(panels, measure, settings, notes or {}, set(notes or {}))


def annotated_grid(
    table: pl.DataFrame, settings: dict, notes: dict[str, str], crossed: set[str], about: str
) -> alt.TopLevelMixin:
    """`heatmap_grid` with smaller lines under each panel's title: `notes`, task to text.

    Args:
        crossed: tasks whose panels are crossed out; about: what the lines say, for the line under the figure's title.
    """
    panels = _panels(table, settings)
    measure = _importance(panels.look)
    return _grid(panels, replace(measure, about=f"{measure.about} {about}"), settings, notes, crossed)


def _importance(look: Looks) -> Measure:
    about = "Share of the summed absolute effects of all heads on a task: each panel sums to 1."
    return Measure("importance", False, look.scheme, look.legend_title, look.upper_limit, "importance", about)


FIGURES = {"heatmap-grid": heatmap_grid, "signed-grid": signed_grid}


def draw(
    table: pl.DataFrame,
    settings: dict,
    capability: pl.DataFrame | None = None,
    noise: dict[str, float] | None = None,
) -> dict:
    """The Vega-Lite spec of `settings["figure"]`, one of `FIGURES`.

    Args:
        capability: the table of that name; panels of tasks that the model does not do are marked.
        noise: rounding noise of one item's effect by task (nats); a mean effect below that of its items is marked in
            the signed grid, as its sign says nothing (in the other it is as dark as zero).
    """
    noise = {task: level for task, level in (noise or {}).items() if task in table["task"]}
    if noise and settings["figure"] == "signed-grid":
        level = pl.col("task").replace_strict(noise, default=0.0, return_dtype=pl.Float64) / pl.col("n_items").sqrt()
        table = table.with_columns(rounding=pl.col("effect").abs() < level)
    rows = [] if capability is None else capability.filter(~pl.col("capable")).iter_rows(named=True)
    notes = {row["task"]: not_done(row) for row in rows if row["task"] in settings["tasks"]}
    return FIGURES[settings["figure"]](table, settings, notes).to_dict()


def not_done(row: dict) -> str:
    """The lines under the title of a task that the model does not do."""
    return f"Not done by the model\n{exact_match(row)}"


def exact_match(row: dict) -> str:
    """How often the model is right, from a row of the capability table: `Exact match 83 % [71, 91]`."""
    share, low, high = (100 * row[f"exact_match{end}"] for end in ("", "_low", "_high"))
    return f"Exact match {share:.0f} % [{low:.0f}, {high:.0f}]"


def _panels(table: pl.DataFrame, settings: dict) -> Panels:
    """Check the table against the settings and pick the rows to draw, sorted by task, layer, head."""
    look, method = Looks.read(settings["figures"]), settings["method"]
    missing = [name for name in ["method", *COLUMNS] if name not in table.columns]
    if missing:
        raise HeadAtlasError(f"importance table: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    tasks = task_order(look, settings["tasks"])
    if "rounding" not in table.columns:
        table = table.with_columns(rounding=pl.lit(False))
    rows = table.filter((pl.col("method") == method) & pl.col("task").is_in(tasks))
    found = set(rows["task"])
    absent = [task for task in tasks if task not in found]
    if absent:
        raise HeadAtlasError(
            f"importance table: no rows of method {method} for task {', '.join(absent)}; "
            "rerun `aggregate`, or leave the task out of `figures.order`"
        )
    layers, heads = rows["layer"].max() + 1, rows["head"].max() + 1
    empty = _empty(rows)
    _check_cells(rows, tasks, layers, heads, method, empty)
    place = {task: index for index, task in enumerate(tasks)}
    rows = rows.sort(pl.col("task").replace_strict(place, return_dtype=pl.Int32), "layer", "head")
    rows = rows.filter(~pl.col("layer").is_in(empty))
    return Panels(rows, tasks, layers, heads, look, UNITS.get(method, "nats per answer token"), empty)


def task_order(look: Looks, tasks: list[str]) -> list[str]:
    """The tasks to draw in their order: `figures.order`, else all as given.

    Raises:
        HeadAtlasError: `figures.order` names a task that is not there.
    """
    if look.order is None:
        return tasks
    strange = [task for task in look.order if task not in tasks]
    if strange:
        raise HeadAtlasError(f"figures.order: no task `{strange[0]}` under `tasks`; there are: {', '.join(tasks)}")
    return look.order


def _empty(rows: pl.DataFrame) -> list[int]:
    """Layers without attention: those that have no effect in any row."""
    effects = rows.group_by("layer").agg(pl.col("effect", "importance").is_null().all())
    return effects.filter(pl.col("effect") & pl.col("importance"))["layer"].sort().to_list()


def _check_cells(rows: pl.DataFrame, tasks: list[str], layers: int, heads: int, method: str, empty: list[int]) -> None:
    """Every task has each layer and head once, with finite values: a hole would look like importance zero.

    Args:
        empty: layers without attention, which have no values.
    """
    for task in tasks:
        of_task = rows.filter(pl.col("task") == task)
        cells = of_task.select("layer", "head").n_unique()
        if not cells == len(of_task) == layers * heads:
            raise HeadAtlasError(
                f"importance table: method {method}, task {task} has {len(of_task)} rows for {cells} heads, "
                f"expected one for each of {layers} x {heads}; rerun `aggregate`"
            )
        of_heads = of_task.filter(~pl.col("layer").is_in(empty))
        bad = of_heads.filter(~pl.all_horizontal(pl.col("importance", "effect").is_finite().fill_null(False)))
        if len(bad):
            layer, head = bad["layer"][0], bad["head"][0]
            raise HeadAtlasError(
                f"importance table: method {method}, task {task}, layer {layer}, head {head}: importance "
                f"{bad['importance'][0]}, effect {bad['effect'][0]} cannot be drawn; look at its scores"
            )


def _grid(
    panels: Panels, measure: Measure, settings: dict, notes: dict[str, str], crossed: set[str]
) -> alt.TopLevelMixin:
    look, tasks = panels.look, panels.tasks
    columns = min(look.columns, len(tasks))
    below = _level([looks.wrap(notes.get(task, ""), look.font_size, panels.width) for task in tasks])
    titles = [looks.wrap(looks.task_label(task, look), look.title_size, panels.width) for task in tasks]
    bars = [_bar(panels.values(measure.column, task), measure) for task in tasks] if panels.own_bars else []
    gaps = looks.spaces(titles, panels.layers, panels.heads, look, bars, below)
    length = looks.bar_length(measure.legend_title, _bar_room(panels, columns, gaps.row), look)
    if panels.own_bars:  # a bar longer than its panel must not meet the one below
        gaps = looks.Spaces(gaps.row + length - panels.height, gaps.column)
    bars = bars or [_bar(panels.values(measure.column), measure)] * len(tasks)
    charts = []
    for index, task in enumerate(tasks):
        edge = Edge.of(index, columns, len(tasks))
        colour = _colour(bars[index], measure, length, titled=edge.right or not panels.own_bars)
        title = alt.TitleParams(titles[index], subtitle=below[index]) if below else titles[index]
        charts.append(_panel(panels, task, measure, colour, edge, task in crossed).properties(title=title))
    chart = alt.concat(
        *charts,
        columns=columns,
        spacing={"row": gaps.row, "column": gaps.column},
        bounds="flush",
        data=_inline(panels.rows),
        description=_description(measure, settings),
        usermeta={"embedOptions": {"actions": PAGE_MENU}},
    ).resolve_scale(color="independent" if panels.own_bars else "shared")
    title = _title(panels, measure, settings, columns * (panels.width + gaps.column))
    return (chart if title is None else chart.properties(title=title)).configure(**looks.config(look))


def _level(notes: list[list[str]]) -> list[list[str]]:
    """As many lines for all, so that titles above them stand level; nothing where no panel has any."""
    most = max(len([line for line in lines if line]) for lines in notes)
    return [[*lines, *[" "] * (most - len(lines))] for lines in notes] if most else []


def _bar_room(panels: Panels, columns: int, row_gap: int) -> int:
    """Pixels from the top to the bottom of what a bar stands beside: its panel, or all rows of panels."""
    if panels.own_bars:
        return panels.height
    grid_rows = math.ceil(len(panels.tasks) / columns)
    return grid_rows * panels.height + (grid_rows - 1) * row_gap


@dataclass(frozen=True)
class Edge:
    """Whether a panel is the leftmost or rightmost of its row, and the lowest of its column."""

    left: bool
    right: bool
    bottom: bool

    @classmethod
    def of(cls, index: int, columns: int, count: int) -> "Edge":
        """Edges of panel `index` of `count`, filled row by row; the last row may be short."""
        last_in_row = index % columns == columns - 1 or index == count - 1
        return cls(left=index % columns == 0, right=last_in_row, bottom=index + columns >= count)


def _panel(
    panels: Panels, task: str, measure: Measure, colour: alt.Color, edge: Edge, crossed: bool
) -> alt.TopLevelMixin:
    look, label = panels.look, looks.task_label(task, panels.look)
    zero = (looks.SIGNED_SCHEMES if measure.signed else looks.SCHEMES)[measure.scheme]
    unsure = f"!isValid(datum.q_value) || datum.q_value >= {look.q_threshold}"
    cells = alt.Chart().encode(
        x=_axis(panels, "head", panels.heads, edge.bottom),
        y=_axis(panels, "layer", panels.layers, edge.left),
        tooltip=_tooltip(panels),
    )
    chart = cells.mark_rect(aria=False).encode(color=colour)
    if look.insignificant == "dim":
        chart = chart.encode(opacity=alt.condition(unsure, alt.value(looks.DIM_OPACITY), alt.value(1)))
    if panels.empty:
        chart = alt.layer(_empty_layers(panels), chart)
    if look.insignificant == "mark":
        dots = cells.mark_point(aria=False, **looks.dot(panels.cell)).transform_filter(unsure)
        chart = alt.layer(chart, dots)
    if panels.rounded:
        marks = cells.mark_point(aria=False, **looks.small_cross(panels.cell)).transform_filter("datum.rounding")
        chart = alt.layer(chart, marks)
    if crossed:
        chart = alt.layer(chart, *_cross(panels, measure))
    return (
        chart.transform_filter(f"datum.task === '{task}'")
        .transform_calculate(label=f"'{_quoted(label)}'", interval=_INTERVAL)
        .properties(width=panels.width, height=panels.height, view=alt.ViewConfig(fill=zero))
    )


def _empty_layers(panels: Panels) -> alt.Chart:
    """Grey rows where a layer has no attention."""
    rows = alt.InlineData(values=[{"layer": layer} for layer in panels.empty])
    bands = alt.Chart(rows).mark_rect(aria=False, color=looks.EMPTY_LAYER)
    return bands.encode(y=alt.Y("layer:O"), tooltip=[alt.Tooltip("layer:O", title="No attention in layer")])


def _cross(panels: Panels, measure: Measure) -> list[alt.Chart]:
    """Both diagonals of a panel."""
    once = alt.Chart(alt.InlineData(values=[{}]))
    line = once.mark_rule(color=looks.CROSS_COLOURS[measure.signed], strokeWidth=1.5, aria=False)
    down = {"x": alt.value(0), "x2": alt.value(panels.width), "y": alt.value(0), "y2": alt.value(panels.height)}
    return [line.encode(**down), line.encode(**down | {"y": down["y2"], "y2": down["y"]})]


_INTERVAL = (
    "format(datum.effect, '+.4f') + "
    "(isValid(datum.ci_low) ? "
    "' [' + format(datum.ci_low, '+.4f') + ', ' + format(datum.ci_high, '+.4f') + ']' : '')"
)


def _axis(panels: Panels, field: str, count: int, outer: bool) -> alt.X | alt.Y:
    """An axis of whole numbers from 0; when `outer`, with its title, and with labels if not all have them."""
    ticks = looks.cell_ticks(count, panels.layers, panels.heads, panels.look)
    labelled = outer or panels.look.tick_labels == "all"
    title = field.title() if outer else None
    axis = alt.Axis(values=ticks, title=title, labelAngle=0, domain=False)
    if field == "layer" and title and panels.height < looks.text_width(title, panels.look.font_size):
        axis.titleAngle, axis.titleAlign, axis.titleBaseline = 0, "right", "middle"  # panel too low for it
    if not labelled:
        axis.labelExpr = "''"  # not labels=False: empty labels keep the panel's title at the others' height
    channel = {"head": alt.X, "layer": alt.Y}[field]
    scale = alt.Scale(domain=list(range(count)), paddingInner=0, paddingOuter=0)
    return channel(f"{field}:O", axis=axis, scale=scale)


def _bar(values: pl.Series, measure: Measure) -> looks.Bar:
    """The colour bar for these values: from zero (or symmetric about it) to the limit in the settings."""
    sizes = values.abs()
    largest, rule = sizes.max(), measure.limit
    if rule == "max":
        limit = largest
    elif isinstance(rule, dict):
        limit = sizes.quantile(rule["quantile"], "linear")
    else:
        limit = float(rule)
    limit = limit or largest or 10.0 ** (1 - looks.BAR_DECIMALS)  # all zero: still a bar that starts at 0
    if measure.symlog:
        return looks.symlog_bar(limit, largest > limit, sizes.median())
    return looks.bar(limit, clipped=largest > limit, signed=measure.signed)


def _colour(bar: looks.Bar, measure: Measure, length: int, titled: bool) -> alt.Color:
    return alt.Color(
        f"{measure.column}:Q",
        scale=alt.Scale(scheme=measure.scheme, **bar.scale),
        legend=alt.Legend(**looks.colour_bar(bar, measure.legend_title if titled else None, length)),
    )


def _tooltip(panels: Panels) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("layer:O", title="Layer"),
        alt.Tooltip("head:O", title="Head"),
        alt.Tooltip("importance:Q", title="Importance", format=".5f"),
        alt.Tooltip("interval:N", title=f"Effect [interval], {panels.unit}"),
        alt.Tooltip("rank:Q", title=f"Rank of {(panels.layers - len(panels.empty)) * panels.heads:,}", format=",d"),
        alt.Tooltip("q_value:Q", title="q-value", format=".3~g"),
    ]


def _inline(rows: pl.DataFrame) -> alt.InlineData:
    """All panels' rows once, as CSV text inside the spec: a sixth of the size of one JSON object per cell."""
    columns = [*COLUMNS, "rounding"] if rows["rounding"].any() else COLUMNS
    rows = rows.with_columns(pl.col("rounding").cast(pl.Int8))
    numbers = [name for name in columns if name != "task"]
    floats = [name for name in numbers if rows[name].dtype.is_float()]
    rounded = rows.select(columns).with_columns(pl.col(floats).round_sig_figs(DIGITS))
    parse = dict.fromkeys(numbers, "number")
    return alt.InlineData(values=rounded.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))


def _title(panels: Panels, measure: Measure, settings: dict, width: float) -> alt.TitleParams | None:
    """The figure's title, what it shows and, where cells are dimmed or marked or rows grey, what that means."""
    look, method = panels.look, settings["method"]
    note = {
        "show": None,
        "dim": f"Dimmed: not significant (q ≥ {look.q_threshold:g})",
        "mark": f"Dot: not significant (q ≥ {look.q_threshold:g})",
    }[look.insignificant]
    parts = (
        note,
        panels.empty and "Grey: no attention in this layer",
        panels.rounded and "×: smaller than the rounding of its numbers",
    )
    note = "; ".join(part for part in parts if part) or None
    text = f"Attention heads of {settings['model']}: {measure.words} by {looks.METHOD_WORDS.get(method, method)}"
    title = looks.figure_title(
        _filled(look, settings["model"], method), text, measure.about, note, max(width, looks.LEAST_WIDTH)
    )
    return title and alt.TitleParams(**title)


def _filled(look: Looks, model: str, method: str) -> Looks:
    """The looks with the names in `figures.title` filled in."""
    return look if look.title is None else replace(look, title=filled_title(look.title, model, method))


def filled_title(title: str, model: str, method: str) -> str:
    """The user's own title with the names of model and method in it."""
    return title.replace("{model}", model).replace("{method}", method)


def _description(measure: Measure, settings: dict) -> str:
    what = "Signed effect" if measure.signed else "Importance"
    return f"{what} of each attention head per task: model {settings['model']}, method {settings['method']}"


def _quoted(text: str) -> str:
    """`text` on one line, fit to stand in a Vega expression between single quotes."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'")
