"""Evidence as rows of dots with intervals, one row per task: agreement of methods, comparison of models."""

from dataclasses import dataclass
from functools import partial

import altair as alt
import numpy as np
import polars as pl

from headatlas.charts import layout, marks, palette
from headatlas.charts.frame import Words
from headatlas.charts.panels import Axis, colours, curve_grid, interval_tooltip, scales
from headatlas.charts.rows import checked, inline
from headatlas.charts.text import wrap
from headatlas.charts.ticks import round_ticks
from headatlas.charts.wanted import Wanted
from headatlas.errors import HeadAtlasError
from headatlas.evidence.summary import LEVEL
from headatlas.stats.concentration import top_share


@dataclass(frozen=True)
class Dots:
    """What a panel of dots shows: number axis, dashed reference line, rows, and whether row labels are written.

    If `line` names them, each series has its own line in its colour. A `log` axis shows ranks from 1.
    """

    title: str
    domain: tuple[float, float]
    line: float | dict[str, float]
    labels: list[str]
    labelled: bool = True
    log: bool = False


def agreement(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """How far two methods agree on the heads of a task: rank correlation, shared top heads, and the hottest heads.

    Args:
        tables: the agreement table, and the summary (for the number of heads: chance is k over that).
    Raises:
        HeadAtlasError: fewer than two methods; as `checked`.
    """
    if len(wanted.methods) < 2:
        raise HeadAtlasError("figure agreement needs two methods; leave it out, or add one under `methods`")
    columns = ["rank_correlation", "overlap", "same_sign", "hottest_rank", "k", "p_adjusted"]
    pairs = [(a, b) for i, a in enumerate(wanted.methods) for b in wanted.methods[i + 1 :]]
    names = [f"{a} and {b}" for a, b in pairs]
    either = pl.concat([tables[0], tables[0].rename({"method_a": "method_b", "method_b": "method_a"})], how="diagonal")
    either = either.with_columns(series=pl.concat_str("method_a", pl.lit(" and "), "method_b"))
    rows = checked(either, "agreement", columns, task=wanted.tasks, series=names)
    rows = pl.concat([rows.filter(series=name) for name in names])
    rows = rows.with_columns(sure=(pl.col("p_adjusted") < LEVEL).fill_null(False).cast(pl.Int8))
    heads = checked(tables[1], "summary", ["heads"], task=wanted.tasks)["heads"][0]
    k = rows["k"][0]
    rows = rows.with_columns(label=wanted.label_column())
    lowest = min(0.0, rows["rank_correlation"].min() or 0.0)
    correlation = Dots("Rank correlation", (1.1 * lowest - 0.02, 1.02), 0.0, wanted.labels)
    overlap = Dots(f"Shared among the top {k} heads", (-0.02, 1.02), k / heads, wanted.labels, labelled=False)
    signs = Dots(f"Same sign among the top {k} heads by the first", (-0.02, 1.02), 0.5, wanted.labels)
    rank = Dots("Rank, by the second, of the first's hottest head", (1, heads), (1 + heads) / 2, wanted.labels,
                labelled=False, log=True)  # fmt: skip
    by_pair = colours(names, "Methods", "series", palette.OTHER_SERIES)
    shown = {"rank_correlation": correlation, "overlap": overlap, "same_sign": signs, "hottest_rank": rank}
    charts = [
        dots(rows.with_columns(value=pl.col(column).cast(pl.Float64), sure=sure), wanted, panel, by_pair, names)
        for (column, panel), sure in zip(shown.items(), (pl.col("sure"),) * 2 + (pl.lit(1),) * 2, strict=True)
    ]
    rows_of = [alt.hconcat(*charts[i : i + 2], spacing=layout.PANEL_GAP) for i in (0, 2)]
    words = Words(
        f"Agreement between methods on the attention heads of {wanted.named}",
        "Above: how far two methods agree on the ranking of all heads, and which top heads they share, by importance. "
        "Below: what the second method says about the hottest heads of the first; importance hides their signs.",
        f"Dashed: chance. Hollow: not related beyond sharing layers (Holm-adjusted p ≥ {LEVEL}).",
        "Agreement between methods",
    )
    width = 2 * layout.DOTS_WIDTH + layout.LEGEND_WIDTH
    return wanted.finish(alt.vconcat(*rows_of, spacing=2 * layout.PANEL_GAP), words, width)


def comparison(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """Comparison of models by one method: importance over relative depth, sparsity, dissociation.

    Args:
        tables: the summaries of all models, then their layer profiles, then their dominances, if any.
    """
    n = len(wanted.models)
    summaries, profiles, dominances = tables[:n], tables[n : 2 * n], tables[2 * n :]
    by_model = colours(wanted.models, "Model", "series", palette.OTHER_SERIES)
    charts = [_depth(profiles, wanted, by_model), _sparsity(summaries, wanted, by_model)]
    if dominances:
        charts[1] = alt.hconcat(charts[1], _dominance(dominances, wanted, by_model), spacing=3 * layout.PANEL_GAP)
    chart = alt.vconcat(*charts, spacing=2 * layout.PANEL_GAP)
    words = Words(
        f"Attention heads of {wanted.named} compared, {wanted.by}",
        "Above: importance over relative depth (0 is the first layer, 1 the last). Below: share of it that the top 5 % "
        "of heads hold, and how far the diagonal of the dissociation matrix stands out.",
        f"Bands and bars: {wanted.interval}. Dashed: importance spread evenly; no dominance.",
        "Models compared",
    )
    return wanted.finish(chart, words, wanted.grid_width)


def _depth(profiles: list[pl.DataFrame], wanted: Wanted, by_model: dict) -> alt.ConcatChart:
    parts = []
    for model, table in zip(wanted.models, profiles, strict=True):
        part = checked(
            table, f"layer profile of {model}", ["layer", "share", "ci_low", "ci_high"],
            method=[wanted.method], task=wanted.tasks,
        )  # fmt: skip
        layers = part["layer"].max() + 1
        parts.append(part.select(
            "task", "layer", pl.lit(model).alias("series"),
            depth=pl.col("layer") / max(1, layers - 1),
            value=pl.col("share") * layers, low=pl.col("ci_low") * layers, high=pl.col("ci_high") * layers,
        ))  # fmt: skip
    even = pl.DataFrame({"task": wanted.tasks, "value": 1.0})
    rows = pl.concat([*parts, even], how="diagonal").with_columns(
        pl.col("series").fill_null(""),
        label=wanted.label_column(),
    )
    title = "Share of importance, times number of layers"
    x = Axis("Relative depth", (0, 1), [0, 0.5, 1], ".1f")

    def panel(_task, across, upward):
        return _depth_layers(across, upward, by_model, title)

    return curve_grid(wanted, rows, panel, [x], scales(wanted, title, rows, ["value", "low", "high"]))


def _depth_layers(x, y, by_model: dict, title: str) -> list[alt.Chart]:
    shown = [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("series:N", title="Model"),
        alt.Tooltip("layer:Q", title="Layer", format="d"),
        alt.Tooltip("value:Q", title=title, format=".3f"),
        *interval_tooltip("low", "high", ".3f"),
    ]
    even = alt.Chart().mark_rule(**marks.REFERENCE).encode(y=y("value"))
    curve = alt.Chart().encode(x=x("depth"), color=by_model["color"]).transform_filter("datum.series !== ''")
    return [
        even.transform_filter("datum.series === ''"),
        curve.mark_area(**marks.BAND).encode(y=y("low"), y2="high:Q"),
        curve.mark_line(**marks.CURVE).encode(y=y("value")),
        curve.mark_point(**marks.POINT).encode(y=y("value"), shape=by_model["shape"], tooltip=shown),
    ]


def _sparsity(summaries: list[pl.DataFrame], wanted: Wanted, by_model: dict) -> alt.LayerChart:
    names = {"top_5_percent": "value", "top_5_percent_low": "ci_low", "top_5_percent_high": "ci_high", "heads": "heads"}
    parts = [
        checked(table, f"summary of {model}", list(names), method=[wanted.method], task=wanted.tasks)
        .rename(names)
        .with_columns(series=pl.lit(model))
        for model, table in zip(wanted.models, summaries, strict=True)
    ]
    rows = pl.concat([part.drop("heads") for part in parts]).with_columns(label=wanted.label_column(), sure=pl.lit(1))
    even = {model: top_share(np.ones(part["heads"][0]), 0.05) for model, part in zip(wanted.models, parts, strict=True)}
    shown = Dots("Importance held by the top 5 % of heads", (0, 1), even, wanted.labels)
    return dots(rows, wanted, shown, by_model, wanted.models)


def _dominance(tables: list[pl.DataFrame], wanted: Wanted, by_model: dict) -> alt.LayerChart:
    parts = [
        checked(table, f"dominance of {model}", ["dominance", "ci_low", "ci_high"], method=[wanted.method])
        .rename({"dominance": "value"})
        .with_columns(series=pl.lit(model), label=pl.lit(model), sure=pl.lit(1))
        for model, table in zip(wanted.models, tables, strict=True)
    ]
    rows = pl.concat(parts)
    axis = Axis.round("", pl.concat([rows["value"], rows["ci_low"], rows["ci_high"], pl.Series([0.0])]))
    shown = Dots(f"Diagonal dominance ({wanted.unit})", axis.domain, 0.0, wanted.models)
    return dots(rows, wanted, shown, by_model, wanted.models)


def dots(rows: pl.DataFrame, wanted: Wanted, shown: Dots, by_series: dict, names: list[str]) -> alt.LayerChart:
    """A panel with one row for each of `shown.labels`, and in it one dot for each of `names`.

    Args:
        rows: `label`, `series` (one of `names`), `value`, `sure` (0 = hollow); `ci_low`, `ci_high` if known.
        by_series: from `colours`.
    """
    at = partial(_number, shown, wanted)
    y_axis = alt.Axis(title=None, domain=False, ticks=False, labelLimit=0, grid=True, gridColor=palette.GRID,
                      tickBand="extent", labels=shown.labelled)  # fmt: skip
    base = alt.Chart(inline(rows)).encode(
        y=alt.Y("label:N", scale=alt.Scale(domain=shown.labels), axis=y_axis), color=by_series["color"]
    )
    lines = len(names) if rows.height > len(shown.labels) else 1
    if lines > 1:
        base = base.encode(
            yOffset=alt.YOffset("series:N", scale=alt.Scale(domain=names, paddingOuter=layout.DOT_ROW_EDGE))
        )
    tooltip = [
        alt.Tooltip("label:N", title=" "),
        alt.Tooltip("series:N", title="  "),
        alt.Tooltip("value:Q", title=shown.title, format=".3f"),
    ]
    layers = [_line(shown.line, by_series).encode(x=at("line"))]
    if "ci_low" in rows.columns:
        layers.append(base.mark_rule(**marks.INTERVAL).encode(x=at("ci_low"), x2="ci_high:Q"))
        tooltip += interval_tooltip("ci_low", "ci_high", ".3f")
    points = base.encode(x=at("value"), shape=by_series["shape"], tooltip=tooltip)
    layers.append(points.mark_point(**marks.SURE_POINT).transform_filter("datum.sure === 1"))
    layers.append(points.mark_point(**marks.UNSURE_POINT).transform_filter("datum.sure === 0"))
    height = len(shown.labels) * max(layout.DOT_ROW, layout.DOT_LINE * lines)
    return alt.layer(*layers).properties(width=layout.DOTS_WIDTH, height=height)


def _line(line: float | dict[str, float], by_series: dict) -> alt.Chart:
    if not isinstance(line, dict) or len(set(line.values())) == 1:
        same = next(iter(line.values())) if isinstance(line, dict) else line
        return alt.Chart(inline(pl.DataFrame({"line": [float(same)]}))).mark_rule(**marks.REFERENCE)
    own = pl.DataFrame({"series": list(line), "line": list(line.values())})
    return alt.Chart(inline(own)).mark_rule(**marks.OWN_REFERENCE).encode(color=by_series["color"])


def _number(shown: Dots, wanted: Wanted, field: str) -> alt.X:
    ticks, number = ([2**i for i in range(int(shown.domain[1]).bit_length())], "d") if shown.log else (
        round_ticks(*shown.domain)
    )  # fmt: skip
    title = wrap(shown.title, wanted.look.font_size + 1, layout.DOTS_WIDTH)
    kind = {"type": "log", "base": 2} if shown.log else {"zero": False}
    axis = alt.Axis(values=ticks, format=number, title=title, domain=False, labelFlush=False)
    return alt.X(f"{field}:Q", axis=axis, scale=alt.Scale(domain=list(shown.domain), nice=False, **kind))
