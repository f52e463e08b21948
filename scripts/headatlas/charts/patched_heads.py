"""Evidence as scatter plots, one panel per task: effects of the hottest heads when patched from two other prompts."""

from collections.abc import Sequence
from dataclasses import replace

import altair as alt
import polars as pl

from headatlas.charts import layout, marks, palette
from headatlas.charts.frame import Words
from headatlas.charts.layout import CURVE_SIZE
from headatlas.charts.panels import Axis, curve_grid, interval_tooltip, scales
from headatlas.charts.rows import checked
from headatlas.charts.text import text_width
from headatlas.charts.wanted import Wanted
from headatlas.evidence.summary import LEVEL

NAMED = 3  # number of hottest heads of a task with their names beside them
CARRIES = {
    "answer": "the answer",
    "question": "the question",
    "": "undecided",
}  # table -> legend
ACROSS = ("counterfactual", "counterfactual_low", "counterfactual_high")
UPWARD = ("same_answer", "same_answer_low", "same_answer_high")

CORNERS = ((1, 1), (-1, -1), (1, -1), (-1, 1))  # of a dot, right and down, in order of preference
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def same_answer(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """Effect of each hot head, patched from the counterfactual and from another question with the same answer.

    Args:
        tables: the same-answer table.
    """
    columns = ["rank", "layer", "head", *ACROSS, *UPWARD, "p_adjusted", "carries"]
    heads = checked(tables[0], "same-answer", columns, task=wanted.tasks).with_columns(
        pl.col("carries").fill_null("").replace_strict(CARRIES),
        name=pl.format("{}.{}", "layer", "head"),
        label=wanted.label_column(),
        part=pl.lit("head"),
    )
    axes = scales(wanted, f"From the counterfactual ({wanted.unit})", _with_zero(heads), [*ACROSS, *UPWARD])
    upward = [replace(axis, title=f"From the same answer ({wanted.unit})") for axis in axes]
    of_tasks = list(zip(wanted.tasks, axes * (len(wanted.tasks) // len(axes)), strict=True))
    names = [_names(heads.filter(task=task), axis, wanted.look.font_size) for task, axis in of_tasks]
    rows = pl.concat([heads, *(_lines(task, axis) for task, axis in of_tasks), *names], how="diagonal")

    def panel(_task, x, y):
        return _layers(wanted, x, y)

    words = Words(
        f"What the hottest attention heads of {wanted.named} carry",
        "Effect of one head on held-out questions, when its output comes from the counterfactual prompt, which has "
        "another answer (across), and from another question with the same answer (upward). Heads near the horizontal "
        "line carry the token of the answer; heads near the diagonal what is particular to the question.",
        f"Heads are the hottest by exact ablation, the first {NAMED} with layer.head. Bars: {wanted.interval}. "
        f"Colours: Holm-adjusted p < {LEVEL}.",
        "Effect of the hottest heads patched from two other prompts",
    )
    return wanted.finish(curve_grid(wanted, rows, panel, axes, upward), words, wanted.grid_width)


def _with_zero(heads: pl.DataFrame) -> pl.DataFrame:
    """The heads and, for each task, a point at 0, which an axis should hold."""
    zero = heads.select("task").unique().with_columns(pl.lit(0.0).alias(name) for name in (*ACROSS, *UPWARD))
    return pl.concat([heads, zero], how="diagonal")


def _lines(task: str, axis: Axis) -> pl.DataFrame:
    """No effect from either prompt, and equal effects from both."""
    low, high = axis.domain
    ends = [("zero", low, 0.0, high, 0.0), ("zero", 0.0, low, 0.0, high), ("equal", low, low, high, high)]
    names = ["part", "counterfactual", "same_answer", "to_across", "to_upward"]
    return pl.DataFrame(ends, schema=names, orient="row").with_columns(task=pl.lit(task))


def _layers(wanted: Wanted, x, y) -> list[alt.Chart]:
    base = alt.Chart().encode(x=x("counterfactual"), y=y("same_answer"))
    line = base.encode(x2="to_across:Q", y2="to_upward:Q")
    head = base.encode(color=_colour()).transform_filter("datum.part === 'head'")
    shown = [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("name:N", title="Layer.head"),
        alt.Tooltip("rank:Q", title="Rank by ablation", format="d"),
        alt.Tooltip("carries:N", title="Carries"),
        alt.Tooltip("counterfactual:Q", title=f"From the counterfactual ({wanted.unit})", format=".4f"),
        *interval_tooltip(*ACROSS[1:], ".4f"),
        alt.Tooltip("same_answer:Q", title=f"From the same answer ({wanted.unit})", format=".4f"),
        *interval_tooltip(*UPWARD[1:], ".4f"),
        alt.Tooltip("p_adjusted:Q", title="p of the difference (Holm)", format=".3g"),
    ]
    name = base.mark_text(**marks.NAME, fontSize=wanted.look.font_size).encode(text="name:N")
    return [
        line.mark_rule(**marks.ZERO).transform_filter("datum.part === 'zero'"),
        line.mark_rule(**marks.REFERENCE).transform_filter("datum.part === 'equal'"),
        head.mark_rule(**marks.THIN_INTERVAL).encode(x=x(ACROSS[1]), x2=f"{ACROSS[2]}:Q"),
        head.mark_rule(**marks.THIN_INTERVAL).encode(y=y(UPWARD[1]), y2=f"{UPWARD[2]}:Q"),
        head.mark_point(**marks.POINT).encode(tooltip=shown),
        name.transform_filter("datum.part === 'name'"),
    ]


def _colour() -> alt.Color:
    legend = alt.Legend(title="The head carries", orient="right", offset=layout.BAR_OFFSET, symbolOpacity=1)
    return alt.Color(
        "carries:N", scale=alt.Scale(domain=list(CARRIES.values()), range=list(palette.CARRIED)), legend=legend
    )


# --- names beside dots -----------------------------------------------------------------------------------------------


def _names(heads: pl.DataFrame, axis: Axis, size: float) -> pl.DataFrame:
    """The middle of the names of a task's hottest heads, in the units of the axes; none where there is no room."""
    low, high = axis.domain
    across, upward = (length / (high - low) for length in CURVE_SIZE)

    def pixels(points: pl.DataFrame) -> list[Point]:
        return [((x - low) * across, (high - y) * upward) for x, y in points.rows()]

    ends = _lines("", axis)
    starts, stops = pixels(ends[ACROSS[0], UPWARD[0]]), pixels(ends["to_across", "to_upward"])
    names = heads["name"].head(NAMED).to_list()
    places = beside(pixels(heads[ACROSS[0], UPWARD[0]]), names, list(zip(starts, stops, strict=True)), size)
    rows = [(heads["task"][0], "name", name, low + x / across, high - y / upward) for name, (x, y) in places]
    columns = dict.fromkeys(("task", "part", "name"), pl.String) | dict.fromkeys((ACROSS[0], UPWARD[0]), pl.Float64)
    return pl.DataFrame(rows, schema=columns, orient="row")


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
