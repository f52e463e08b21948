"""Scatter plots, one panel per task: one effect of heads across, another upward, lines of no and of equal effects.

The first dots of a panel have their names beside them, where there is room.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import altair as alt
import polars as pl

from headatlas.charts import layout, marks
from headatlas.charts.layout import CURVE_SIZE
from headatlas.charts.panels import Axis, curve_grid, interval_tooltip, scales
from headatlas.charts.text import text_width
from headatlas.charts.wanted import Wanted

NAMED = 3  # number of first dots of a task with their names beside them
CORNERS = ((1, 1), (-1, -1), (1, -1), (-1, 1))  # of a dot, right and down, in order of preference
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Effects:
    """One of the two effects: its column (with its interval in `{column}_low` and `{column}_high`) and its title."""

    column: str
    title: str

    @property
    def columns(self) -> tuple[str, str, str]:
        """The effect and the ends of its interval."""
        return self.column, f"{self.column}_low", f"{self.column}_high"

    def tooltip(self, unit: str) -> list[alt.Tooltip]:
        """Lines of a tooltip."""
        title = f"{self.title} ({unit})"
        return [
            alt.Tooltip(f"{self.column}:Q", title=title, format=".4f"),
            *interval_tooltip(*self.columns[1:], ".4f"),
        ]


@dataclass(frozen=True)
class Kinds:
    """The colours of the dots by what `column` says, and the title of their legend."""

    column: str
    title: str
    colours: dict[str, str]

    @property
    def channel(self) -> alt.Color:
        """Colour channel with its legend."""
        legend = alt.Legend(title=self.title, orient="right", offset=layout.BAR_OFFSET, symbolOpacity=1)
        scale = alt.Scale(domain=list(self.colours), range=list(self.colours.values()))
        return alt.Color(f"{self.column}:N", scale=scale, legend=legend)


def scatter_grid(
    wanted: Wanted, dots: pl.DataFrame, across: Effects, upward: Effects, kinds: Kinds, tooltip: Sequence[alt.Tooltip]
) -> alt.ConcatChart:
    """The panels.

    Args:
        dots: `task`, `name`, the columns of both effects and of the kinds; the first dots of each task are named.
    """
    dots = dots.with_columns(part=pl.lit("dot"))
    both = [*across.columns, *upward.columns]
    axes = scales(wanted, f"{across.title} ({wanted.unit})", _with_zero(dots, both), both)
    upward_axes = [replace(axis, title=f"{upward.title} ({wanted.unit})") for axis in axes]
    of_tasks = list(zip(wanted.tasks, axes * (len(wanted.tasks) // len(axes)), strict=True))
    lines = [_lines(task, axis, across, upward) for task, axis in of_tasks]
    names = [
        _names(dots.filter(task=task), drawn, axis, (across.column, upward.column), wanted.look.font_size)
        for (task, axis), drawn in zip(of_tasks, lines, strict=True)
    ]

    def panel(_task, x, y):
        return _layers(x, y, across, upward, kinds, tooltip, wanted.look.font_size)

    rows = pl.concat([dots, *lines, *names], how="diagonal")
    return curve_grid(wanted, rows, panel, axes, upward_axes)


def _with_zero(dots: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The dots and, for each task, a point at 0, which an axis should hold."""
    zero = dots.select("task").unique().with_columns(pl.lit(0.0).alias(name) for name in columns)
    return pl.concat([dots, zero], how="diagonal")


def _lines(task: str, axis: Axis, across: Effects, upward: Effects) -> pl.DataFrame:
    """No effect across, none upward, and equal effects."""
    low, high = axis.domain
    ends = [("zero", low, 0.0, high, 0.0), ("zero", 0.0, low, 0.0, high), ("equal", low, low, high, high)]
    names = ["part", across.column, upward.column, "to_across", "to_upward"]
    return pl.DataFrame(ends, schema=names, orient="row").with_columns(task=pl.lit(task))


def _layers(x, y, across: Effects, upward: Effects, kinds: Kinds, tooltip, font_size: float) -> list[alt.Chart]:
    base = alt.Chart().encode(x=x(across.column), y=y(upward.column))
    line = base.encode(x2="to_across:Q", y2="to_upward:Q")
    dot = base.encode(color=kinds.channel).transform_filter("datum.part === 'dot'")
    name = base.mark_text(**marks.NAME, fontSize=font_size).encode(text="name:N")
    left, right = across.columns[1:]
    bottom, top = upward.columns[1:]
    return [
        line.mark_rule(**marks.ZERO).transform_filter("datum.part === 'zero'"),
        line.mark_rule(**marks.REFERENCE).transform_filter("datum.part === 'equal'"),
        dot.mark_rule(**marks.THIN_INTERVAL).encode(x=x(left), x2=f"{right}:Q"),
        dot.mark_rule(**marks.THIN_INTERVAL).encode(y=y(bottom), y2=f"{top}:Q"),
        dot.mark_point(**marks.POINT).encode(tooltip=list(tooltip)),
        name.transform_filter("datum.part === 'name'"),
    ]


# --- names beside dots -----------------------------------------------------------------------------------------------


def _names(dots: pl.DataFrame, lines: pl.DataFrame, axis: Axis, columns: tuple[str, str], size: float) -> pl.DataFrame:
    """The middle of the names of a task's first dots, in the units of the axes; none where there is no room."""
    low, high = axis.domain
    across, upward = (length / (high - low) for length in CURVE_SIZE)

    def pixels(points: pl.DataFrame) -> list[Point]:
        return [((x - low) * across, (high - y) * upward) for x, y in points.rows()]

    starts, stops = pixels(lines[columns]), pixels(lines["to_across", "to_upward"])
    names = dots["name"].head(NAMED).to_list()
    places = beside(pixels(dots[columns]), names, list(zip(starts, stops, strict=True)), size)
    rows = [(dots["task"][0], "name", name, low + x / across, high - y / upward) for name, (x, y) in places]
    schema = dict.fromkeys(("task", "part", "name"), pl.String) | dict.fromkeys(columns, pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def beside(
    dots: Sequence[Point], texts: Sequence[str], lines: Sequence[tuple[Point, Point]], size: float
) -> list[tuple[str, Point]]:
    """Where the texts of the first dots stand: inside the panel, off other dots and texts, and on few lines.

    Args:
        dots: in pixels from the upper left corner of a panel of curves; texts: of the first of them; lines: from point
            to point; size: of the font.

    Returns:
        Each text that has room, with its middle.
    """
    taken = [_box(dot, marks.POINT_SIDE, marks.POINT_SIDE) for dot in dots]
    placed = []
    for (x, y), text in zip(dots, texts, strict=False):
        width, height = text_width(text, size), size
        off = (width + marks.POINT_SIDE) / 2, (height + marks.POINT_SIDE) / 2
        corners = [(x + right * off[0], y + down * off[1]) for right, down in CORNERS]
        free = [place for place in corners if _is_free(_box(place, width, height), taken)]
        if free:
            best = min(free, key=lambda place: sum(_crosses(line, _box(place, width, height)) for line in lines))
            placed.append((text, best))
            taken.append(_box(best, width, height))
    return placed


def _box(middle: Point, width: float, height: float) -> Box:
    x, y = middle
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    left, top, right, bottom = box
    inside = left >= 0 and top >= 0 and right <= CURVE_SIZE[0] and bottom <= CURVE_SIZE[1]
    return inside and not any(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in taken)


def _crosses(line: tuple[Point, Point], box: Box) -> bool:
    """Whether the corners of a box lie on both sides of a line."""
    (x, y), (to_x, to_y) = line
    sides = [(to_x - x) * (v - y) - (to_y - y) * (u - x) for u in box[::2] for v in box[1::2]]
    return min(sides) < 0 < max(sides)
