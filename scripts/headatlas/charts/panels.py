"""What the evidence figures share: settings, checked tables, rows inside a spec, axes, panels in a grid.

Knows Altair, polars and `looks`; knows nothing of what a figure shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import altair as alt
import polars as pl

from headatlas.charts import looks
from headatlas.charts.head_maps import DIGITS, PAGE_MENU, Edge, filled_title, task_order
from headatlas.charts.looks import Looks
from headatlas.errors import HeadAtlasError


@dataclass(frozen=True)
class Wanted:
    """What to draw: one method of a figure named `dissociation.ablation`, else None; tasks in their order."""

    figure: str
    method: str | None
    methods: list[str]
    models: list[str]
    tasks: list[str]
    look: Looks
    confidence: float
    settings: dict

    @classmethod
    def read(cls, settings: dict) -> "Wanted":
        """From the tool's settings: figure, model (or models), methods, tasks, confidence, figures.

        Raises:
            HeadAtlasError: a figure of a method that is not there; an unknown key or task in `figures`.
        """
        figure, _, method = settings["figure"].partition(".")
        if method and method not in settings["methods"]:
            raise HeadAtlasError(
                f"figure {settings['figure']}: no method `{method}`, there are: {', '.join(settings['methods'])}"
            )
        look = Looks.read(settings["figures"])
        models = settings.get("models") or [settings["model"]]
        tasks = task_order(look, settings["tasks"])
        return cls(figure, method or None, settings["methods"], models, tasks, look, settings["confidence"], settings)

    @property
    def interval(self) -> str:
        """What the intervals of the tables are, in words."""
        return f"{100 * self.confidence:g}\N{NO-BREAK SPACE}% interval over questions"

    @property
    def named(self) -> str:
        """The model or models."""
        *first, last = self.models
        return f"{', '.join(first)} and {last}" if first else last

    @property
    def by(self) -> str:
        """` by exact ablation`, of a figure of one method."""
        return f" by {looks.METHOD_WORDS.get(self.method, self.method)}"

    def label(self, task: str) -> str:
        """What the figure calls a task, on one line."""
        return " ".join(looks.task_label(task, self.look).split())

    @property
    def labels(self) -> list[str]:
        """Of all tasks."""
        return [self.label(task) for task in self.tasks]

    def label_column(self) -> pl.Expr:
        """The labels of a column `task`."""
        return pl.col("task").replace_strict(dict(zip(self.tasks, self.labels, strict=True)), return_dtype=pl.String)


def interval_tooltip(low: str, high: str, number: str) -> list[alt.Tooltip]:
    """Two lines of a tooltip for the ends of an interval."""
    return [
        alt.Tooltip(f"{low}:Q", title="Interval, from", format=number),
        alt.Tooltip(f"{high}:Q", title="to", format=number),
    ]


def checked(table: pl.DataFrame, name: str, columns: Sequence[str], **kept: list[str]) -> pl.DataFrame:
    """The rows of a table whose columns `kept` hold one of the values given, all columns but `columns` gone.

    Sorted as the values are given, then by `columns`.

    Raises:
        HeadAtlasError: a column is missing, or there is no row of a combination of values.
    """
    missing = [column for column in [*kept, *columns] if column not in table.columns]
    if missing:
        raise HeadAtlasError(f"{name} table: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    rows = table.select(*kept, *columns).filter(pl.col(key).is_in(values) for key, values in kept.items())
    found = set(rows.select(*kept).iter_rows())
    for wanted in product(*kept.values()):
        if wanted not in found:
            what = ", ".join(f"{key} {value}" for key, value in zip(kept, wanted, strict=True))
            raise HeadAtlasError(f"{name} table: no row of {what}; make the evidence tables again")
    places = [
        pl.col(key).replace_strict({value: i for i, value in enumerate(values)}, return_dtype=pl.Int32)
        for key, values in kept.items()
    ]
    return rows.sort(*places, *columns)


def inline(rows: pl.DataFrame) -> alt.InlineData:
    """Rows as CSV text inside the spec; an empty cell is null."""
    numbers = [name for name in rows.columns if rows[name].dtype.is_numeric()]
    floats = [name for name in numbers if rows[name].dtype.is_float()]
    rounded = rows.with_columns(pl.col(floats).fill_nan(None).round_sig_figs(DIGITS))
    parse = dict.fromkeys(numbers, "number")
    return alt.InlineData(values=rounded.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))


@dataclass(frozen=True)
class Axis:
    """A number axis of curves: its scale (`linear`, or `symlog` for log(1 + value)), ticks and their format."""

    title: str
    domain: tuple[float, float]
    ticks: list[float]
    number: str = "d"
    scale: str = "linear"

    @classmethod
    def round(cls, title: str, values: pl.Series) -> "Axis":
        """A linear axis that holds these values, a little wider, with ticks at round numbers."""
        low, high = values.drop_nans().min() or 0.0, values.drop_nans().max() or 0.0
        room = 0.04 * (high - low) or 1.0
        return cls(title, (low - room, high + room), *looks.round_ticks(low - room, high + room))

    def without_top(self, length: float, look: Looks) -> "Axis":
        """Without ticks whose numbers would rise above the axis, `length` pixels long, and lift the panel's title."""
        low, high = self.domain
        room = 0.75 * look.font_size * (high - low) / length
        return replace(self, ticks=[tick for tick in self.ticks if tick <= high - room])

    def channel(self, kind: type, field: str, outer: bool, labelled: bool, length: float, look: Looks):
        """`alt.X` or `alt.Y` of a field; only an `outer` panel has the title, on lines no longer than `length`."""
        title = looks.wrap(self.title, look.font_size + 1, length) if outer else None
        axis = alt.Axis(
            values=self.ticks, format=self.number, title=title, domain=False, labelFlush=False, labelOverlap=False
        )
        if kind is alt.Y:
            axis.grid, axis.gridColor = True, looks.GRID_COLOUR
        if not (outer or labelled):
            axis.labelExpr = "''"  # as in `charts`: keeps the panels' titles level
        shape = {"type": "symlog", "constant": 1} if self.scale == "symlog" else {"type": self.scale}
        return kind(f"{field}:Q", axis=axis, scale=alt.Scale(domain=list(self.domain), nice=False, zero=False, **shape))


# Layers of a panel: from the task and the makers of its x and y channels (field -> channel).
Panel = Callable[[str, Callable[[str], alt.X], Callable[[str], alt.Y]], list[alt.Chart]]


def grid(wanted: Wanted, rows: pl.DataFrame, panel: Panel, x: Axis, ys: Sequence[Axis]) -> alt.ConcatChart:
    """One panel of curves a task; `ys` has one axis for all, or one each, then with numbers on all panels."""
    look, tasks = wanted.look, wanted.tasks
    width, height = looks.CURVE_SIZE
    columns = min(look.columns, len(tasks))
    titles = [looks.wrap(looks.task_label(task, look), look.title_size, width) for task in tasks]
    all_x = look.tick_labels == "all"
    all_y = all_x or len(ys) > 1
    numbers = [f"{tick:{axis.number}}" for axis in ys for tick in axis.ticks] if all_y else []
    gaps = looks.curve_spaces(titles, numbers, [f"{tick:{x.number}}" for tick in x.ticks], look)
    charts = []
    for index, task in enumerate(tasks):
        edge, y = Edge.of(index, columns, len(tasks)), ys[index % len(ys)]
        across = partial(x.channel, alt.X, outer=edge.bottom, labelled=all_x, length=width, look=look)
        upward = partial(y.channel, alt.Y, outer=edge.left, labelled=all_y, length=height, look=look)
        # All at once: each of Altair's methods copies all that lies below it.
        only = alt.FilterTransform(f"datum.task === '{task}'")
        layers = panel(task, across, upward)
        charts.append(alt.layer(*layers, transform=[only], width=width, height=height, title=titles[index]))
    spacing = {"row": gaps.row, "column": gaps.column}
    return alt.concat(*charts, columns=columns, spacing=spacing, bounds="flush", data=inline(rows))


def scales(wanted: Wanted, title: str, rows: pl.DataFrame, columns: Sequence[str]) -> list[Axis]:
    """One axis for the values of all tasks, or with `figures.scale: panel` one for each task."""
    if wanted.look.scale != "panel":
        return [Axis.round(title, pl.concat([rows[column] for column in columns]))]
    parts = [rows.filter(task=task) for task in wanted.tasks]
    axes = [Axis.round(title, pl.concat([part[column] for column in columns])) for part in parts]
    return [axis.without_top(looks.CURVE_SIZE[1], wanted.look) for axis in axes]


def colours(names: list[str], title: str, field: str, start: int | None = None) -> dict:
    """Colour and shape channels of a series (`start` as in `looks.series`), with one legend for both."""
    fill, shape = looks.series(names, start)
    legend = alt.Legend(title=title, symbolOpacity=1, symbolStrokeWidth=2, orient="right", offset=looks.BAR_OFFSET)
    return {
        "color": alt.Color(f"{field}:N", scale=alt.Scale(domain=names, range=fill), legend=legend),
        "shape": alt.Shape(f"{field}:N", scale=alt.Scale(domain=names, range=shape), legend=legend),
    }


@dataclass(frozen=True)
class Words:
    """What is written over a figure: its title, what it shows, what its marks mean; for a screen reader, in short."""

    title: str
    about: str
    note: str | None = None
    short: str = ""


def finished(chart: alt.TopLevelMixin, wanted: Wanted, words: Words, width: float | None = None) -> dict:
    """The spec: with what is written over the figure, and the project's looks.

    Args:
        width: pixels of the figure (None: that of a `grid`).
    """
    look, models = wanted.look, ", ".join(wanted.models)
    if look.title is not None:
        look = replace(look, title=filled_title(look.title, models, wanted.method or ", ".join(wanted.methods)))
    panels = min(look.columns, len(wanted.tasks))
    width = width or panels * (looks.CURVE_SIZE[0] + looks.PANEL_GAP) + looks.LEGEND_WIDTH
    title = looks.figure_title(look, words.title, words.about, words.note, max(width, looks.LEAST_WIDTH))
    if title:
        chart.title = alt.TitleParams(**title)
    about = f"{words.short}: model {models}" + (f", method {wanted.method}" if wanted.method else "")
    chart.description, chart.usermeta = about, {"embedOptions": {"actions": PAGE_MENU}}
    chart.config = alt.Config(**looks.config(look))
    return chart.to_dict()
