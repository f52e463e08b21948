"""Panels in a grid, one per task, and the number axes of curve panels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import altair as alt
import polars as pl

from headatlas.charts import layout, marks, palette
from headatlas.charts.labels import task_label
from headatlas.charts.layout import CURVE_SIZE
from headatlas.charts.looks import Looks
from headatlas.charts.rows import inline
from headatlas.charts.text import widest, wrap
from headatlas.charts.ticks import round_ticks
from headatlas.charts.wanted import Wanted


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


def panel_titles(tasks: list[str], look: Looks, width: float) -> list[list[str]]:
    """Title lines above each panel of this width (pixels)."""
    return [wrap(task_label(task, look.labels), look.title_size, width) for task in tasks]


def concat(panels: list[alt.Chart], columns: int, gaps: layout.Spaces, rows: pl.DataFrame) -> alt.ConcatChart:
    """Panels row by row, drawn from `rows`."""
    spacing = {"row": gaps.row, "column": gaps.column}
    return alt.concat(*panels, columns=columns, spacing=spacing, bounds="flush", data=inline(rows))


def without_labels(axis: alt.Axis) -> None:
    """Empty labels instead of none, so that the panel's title aligns with the others."""
    axis.labelExpr = "''"


def interval_tooltip(low: str, high: str, number: str) -> list[alt.Tooltip]:
    """Two lines of a tooltip for the ends of an interval."""
    return [
        alt.Tooltip(f"{low}:Q", title="Interval, from", format=number),
        alt.Tooltip(f"{high}:Q", title="to", format=number),
    ]


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
        """A linear axis slightly wider than these values, with ticks at round numbers."""
        low, high = values.drop_nans().min() or 0.0, values.drop_nans().max() or 0.0
        room = 0.04 * (high - low) or 1.0
        return cls(title, (low - room, high + room), *round_ticks(low - room, high + room))

    @property
    def labels(self) -> list[str]:
        """The numbers at the ticks, as text."""
        return [f"{tick:{self.number}}" for tick in self.ticks]

    def without_top(self, length: float, look: Looks) -> "Axis":
        """Drop ticks whose numbers would extend above the axis (`length` pixels long) and move the panel's title up."""
        low, high = self.domain
        room = 0.75 * look.font_size * (high - low) / length
        return replace(self, ticks=[tick for tick in self.ticks if tick <= high - room])

    def channel(self, kind: type, field: str, outer: bool, labelled: bool, length: float, look: Looks):
        """`alt.X` or `alt.Y` of a field; only an `outer` panel has a title, on lines no longer than `length`."""
        title = wrap(self.title, look.font_size + 1, length) if outer else None
        axis = alt.Axis(
            values=self.ticks, format=self.number, title=title, domain=False, labelFlush=False, labelOverlap=False
        )
        if kind is alt.Y:
            axis.grid, axis.gridColor = True, palette.GRID
        if not (outer or labelled):
            without_labels(axis)
        shape = {"type": "symlog", "constant": 1} if self.scale == "symlog" else {"type": self.scale}
        return kind(f"{field}:Q", axis=axis, scale=alt.Scale(domain=list(self.domain), nice=False, zero=False, **shape))


# Layers of a panel: from the task and the makers of its x and y channels (field -> channel).
Panel = Callable[[str, Callable[[str], alt.X], Callable[[str], alt.Y]], list[alt.Chart]]


def curve_grid(
    wanted: Wanted, rows: pl.DataFrame, panel: Panel, xs: Sequence[Axis], ys: Sequence[Axis]
) -> alt.ConcatChart:
    """One panel of curves a task; `xs` and `ys` have one axis for all, or one each, then with numbers on all panels."""
    look = replace(wanted.look, tick_labels="all") if len(xs) > 1 else wanted.look
    tasks = wanted.tasks
    width, height = CURVE_SIZE
    columns = min(look.columns, len(tasks))
    titles = panel_titles(tasks, look, width)
    all_x = look.tick_labels == "all"
    all_y = all_x or len(ys) > 1
    inner = [label for axis in ys for label in axis.labels] if all_y else []
    below = [label for axis in xs for label in axis.labels]
    beside = widest(below, look.font_size) / 2 + layout.tick_room(inner, look)
    charts = []
    for index, task in enumerate(tasks):
        edge = Edge.of(index, columns, len(tasks))
        x, y = (axes[index % len(axes)] for axes in (xs, ys))
        across = partial(x.channel, alt.X, outer=edge.bottom, labelled=all_x, length=width, look=look)
        upward = partial(y.channel, alt.Y, outer=edge.left, labelled=all_y, length=height, look=look)
        # All at once: each of Altair's methods copies everything below it.
        only = alt.FilterTransform(f"datum.task === '{task}'")
        layers = panel(task, across, upward)
        charts.append(alt.layer(*layers, transform=[only], width=width, height=height, title=titles[index]))
    return concat(charts, columns, layout.spaces(look, width, titles, beside), rows)


def scales(wanted: Wanted, title: str, rows: pl.DataFrame, columns: Sequence[str]) -> list[Axis]:
    """One value axis for all tasks, or one per task with `figures.scale: panel`."""
    if wanted.look.scale != "panel":
        return [Axis.round(title, pl.concat([rows[column] for column in columns]))]
    parts = [rows.filter(task=task) for task in wanted.tasks]
    axes = [Axis.round(title, pl.concat([part[column] for column in columns])) for part in parts]
    return [axis.without_top(CURVE_SIZE[1], wanted.look) for axis in axes]


def colours(names: list[str], title: str, field: str, start: int | None = None) -> dict:
    """Colour and shape channels of series (`start` as in `palette.series`), with one legend for both."""
    fill, shape = palette.series(names, start)
    legend = alt.Legend(
        title=title, symbolOpacity=1, symbolStrokeWidth=marks.LEGEND_STROKE, orient="right", offset=layout.BAR_OFFSET
    )
    return {
        "color": alt.Color(f"{field}:N", scale=alt.Scale(domain=names, range=fill), legend=legend),
        "shape": alt.Shape(f"{field}:N", scale=alt.Scale(domain=names, range=shape), legend=legend),
    }
