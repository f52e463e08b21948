"""Evidence as curves, one panel per task: heads knocked out or kept over k, share of importance over layers."""

import math
from dataclasses import dataclass, replace

import altair as alt
import polars as pl

from headatlas.charts import layout, marks, palette
from headatlas.charts.frame import Words
from headatlas.charts.layout import CURVE_SIZE, STRIP_LINE
from headatlas.charts.panels import Axis, colours, curve_grid, interval_tooltip, scales
from headatlas.charts.rows import checked
from headatlas.charts.ticks import layer_ticks, spaced
from headatlas.charts.wanted import Wanted
from headatlas.metric import METRICS


@dataclass(frozen=True)
class Sets:
    """The sets of heads in a figure: the legend's title, and of each `selection` its name there and the line's dashes.

    The first two are chosen by methods, the first of them with intervals; the others are random.
    """

    title: str
    selections: dict[str, tuple[str, list[float]]]

    @property
    def first(self) -> str:
        """The selection with intervals."""
        return next(iter(self.selections))


OUT = Sets(
    "Heads knocked out",
    {
        "top": ("top k", marks.SOLID),
        "bottom": ("bottom k", marks.DASHED),
        "random": ("random k, same layers", marks.DOTTED),
        "random_norm": ("random k, same norms", marks.DASH_DOTTED),
    },
)
KEPT = Sets(
    "Heads kept",
    {
        "signed": ("top k, helping first", marks.SOLID),
        "absolute": ("top k, either sign", marks.DASHED),
        "random": ("random k", marks.DOTTED),
    },
)
UNDEFINED = "Not defined"  # in the panel of a task without curves


def _measure(figure: str, metric: str) -> tuple[str, str, str]:
    """Column of the knock-out table, title of its axis and format of its numbers."""
    words = METRICS[metric]
    if figure == "knock-out-accuracy":
        return "accuracy", words.accuracy, ".3f"
    return "score", words.axis, ".4f"


def knock_out(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """Log-probability, or accuracy, of each task without its top, bottom and random heads, over k.

    Top heads by method, in colours, with intervals; random heads of all methods together as a grey band (from the
    lowest to the highest draw) and their mean, at the k for which all methods have draws.

    Args:
        tables: the knock-out curves.
    """
    column, title, digits = _measure(wanted.figure, wanted.metric)
    ends = [f"{column}_low", f"{column}_high"]
    columns = ["selection", "k", column, *ends]
    curves = checked(tables[0], "knock-out", columns, task=wanted.tasks, method=wanted.methods)
    curves = curves.rename({column: "value", ends[0]: "low", ends[1]: "high"})
    rows = _rows(curves, OUT, wanted, len(wanted.methods))
    ks = _common(rows)
    ys = [_accuracy_axis(title)] if column == "accuracy" else scales(wanted, title, rows, ["value", "low", "high"])

    def panel(_task, x, y):
        return _layers_of_sets(wanted, OUT, x, y, digits, title)

    words = Words(
        f"Attention heads of {wanted.named} knocked out together",
        f"{title} on held-out questions without k heads: top and bottom heads of each method's map, or random ones.",
        f"Coloured bands: {wanted.interval}. Grey band: from the lowest to the highest draw of random heads. A point "
        "between two ticks is a task's elbow.",
        f"{title} without heads, over k",
    )
    chart = curve_grid(wanted, rows, panel, [_k_axis(OUT, ks, rows["k"].max(), wanted)], ys)
    return wanted.finish(chart, words, wanted.grid_width)


def sufficiency(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """Faithfulness of each task with only the top heads of each ranking, over k (log or linear).

    Top heads by method, in colours, with intervals; random rankings as a grey band (from the lowest to the highest) and
    their mean.

    Args:
        tables: the curves, and the areas below them (for the baseline and the tasks without curves).
    """
    columns = ["k", "faithfulness", "faithfulness_low", "faithfulness_high", "draw", "ranking"]
    rankings = [*wanted.methods, "random"]
    curves = checked(tables[0], "sufficiency", columns, task=wanted.tasks, method=rankings)
    curves = curves.rename({"ranking": "selection"} | dict(zip(columns[1:4], ("value", "low", "high"), strict=True)))
    areas = checked(tables[1], "CPR", ["baseline", "cpr"], task=wanted.tasks, method=rankings)
    undefined = areas.filter(pl.col("cpr").is_null())["task"].unique().sort()
    blank = pl.DataFrame({"task": undefined, "selection": "blank"}, schema={"task": pl.String, "selection": pl.String})
    drawn = _rows(curves.filter(~pl.col("task").is_in(undefined.implode())), KEPT, wanted, 1)
    whole = pl.DataFrame({"task": drawn["task"].unique(), "selection": "whole", "value": 1.0})
    rows = pl.concat([drawn, blank, whole.sort("task")], how="diagonal")
    title = "Faithfulness"
    ys = scales(wanted, title, rows, ["value", "low", "high"])

    def panel(_task, x, y):
        return [*_layers_of_sets(wanted, KEPT, x, y, ".3f", title), *_whole_and_blank(y)]

    words = Words(
        f"Attention heads of {wanted.named} kept alone",
        "Score on held-out questions with only k heads, while all other heads output the baseline "
        f"({areas['baseline'][0]}), on a scale from 0 (no head) to 1 (all heads).",
        f"Coloured bands: {wanted.interval}. Grey band: from the lowest to the highest random ranking."
        + (
            "" if undefined.is_empty() else f" {UNDEFINED}: the score with all heads is not clearly above that of none."
        ),
        "Faithfulness with only k heads",
    )
    ks = sorted(curves["k"].unique())
    chart = curve_grid(wanted, rows, panel, [_k_axis(KEPT, ks, ks[-1], wanted)], ys)
    return wanted.finish(chart, words, wanted.grid_width)


def _whole_and_blank(y) -> list[alt.Chart]:
    """The line of all heads, or the words that stand where there are no curves."""
    rule = alt.Chart().mark_rule(**marks.REFERENCE).encode(y=y("value")).transform_filter("datum.selection === 'whole'")
    middle = {"x": alt.value(CURVE_SIZE[0] / 2), "y": alt.value(CURVE_SIZE[1] / 2), "text": alt.value(UNDEFINED)}
    blank = alt.Chart().mark_text(**marks.NAME).encode(**middle).transform_filter("datum.selection === 'blank'")
    return [rule, blank]


def layer_profile(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """Share of importance held by each layer, methods in colours, with intervals; centres of mass on top.

    Args:
        tables: the layer profiles and the summary.
    """
    ends = ["ci_low", "ci_high"]
    kept = {"task": wanted.tasks, "method": wanted.methods}
    profile = checked(tables[0], "layer profile", ["layer", "share", *ends], **kept)
    profile = profile.rename({"share": "value", "ci_low": "low", "ci_high": "high"})
    names = ["layer_centre", "layer_centre_low", "layer_centre_high"]
    centre = checked(tables[1], "summary", names, **kept).rename(
        dict(zip(names, ("layer", "low", "high"), strict=True))
    )
    layers, wide = profile["layer"].max() + 1, pl.col("layer").cast(pl.Float64)
    with_heads = profile.drop_nulls("value")["layer"].n_unique()  # hybrid models have layers without attention
    even = 1 / (with_heads or layers)
    rows = pl.concat(
        [
            profile.with_columns(wide, part=pl.lit("layer")),
            centre.with_columns(part=pl.lit("centre")),
            pl.DataFrame({"task": wanted.tasks, "value": even, "part": "even"}),
        ],
        how="diagonal",
    ).with_columns(label=wanted.label_column())
    x = Axis("Layer", (0, max(1, layers - 1)), layer_ticks(layers, CURVE_SIZE[0], wanted.look))
    title = "Share of importance"
    shares = profile.with_columns(even=pl.lit(even))
    ys = [_with_strip(y, len(wanted.methods)) for y in scales(wanted, title, shares, ["value", "low", "high", "even"])]

    def panel(_task, across, upward):
        return _profile_layers(wanted, across, upward)

    words = Words(
        f"Attention heads of {wanted.named}: share of importance by layer",
        "Total importance of a layer's heads, by each method; the layers of a map sum to 1.",
        f"Bands: {wanted.interval}. Marks on top: centre of mass, with interval. Dashed: an even share.",
        "Share of importance of each layer",
    )
    return wanted.finish(curve_grid(wanted, rows, panel, [x], ys), words, wanted.grid_width)


def _with_strip(y: Axis, methods: int) -> Axis:
    """Room above the curves for the centres of mass, one line each."""
    strip = (methods + 0.5) * STRIP_LINE
    low, high = y.domain
    return replace(y, domain=(low, low + (high - low) * CURVE_SIZE[1] / (CURVE_SIZE[1] - strip)))


def _profile_layers(wanted: Wanted, x, y) -> list[alt.Chart]:
    by_method = colours(wanted.methods, "Method", "method")
    curve = alt.Chart().encode(x=x("layer"), color=by_method["color"]).transform_filter("datum.part === 'layer'")
    shown = [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("method:N", title="Method"),
        alt.Tooltip("layer:Q", title="Layer", format="d"),
        alt.Tooltip("value:Q", title="Share of importance", format=".4f"),
        *interval_tooltip("low", "high", ".4f"),
    ]
    layers = [
        alt.Chart().mark_rule(**marks.REFERENCE).encode(y=y("value")).transform_filter("datum.part === 'even'"),
        curve.mark_area(**marks.BAND).encode(y=y("low"), y2="high:Q"),
        curve.mark_line(**marks.CURVE).encode(y=y("value")),
        curve.mark_point(**marks.POINT).encode(y=y("value"), shape=by_method["shape"], tooltip=shown),
    ]
    return layers + [layer for i, method in enumerate(wanted.methods) for layer in _centre(method, i, x, by_method)]


def _centre(method: str, place: int, x, by_method: dict) -> list[alt.Chart]:
    """Centre of mass of one method on its line above the curves, with interval."""
    base = alt.Chart().encode(y=alt.value((place + 0.75) * STRIP_LINE), color=by_method["color"])
    base = base.transform_filter(f"datum.part === 'centre' && datum.method === '{method}'")
    shown = [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("method:N", title="Method"),
        alt.Tooltip("layer:Q", title="Centre of mass, layer", format=".2f"),
        *interval_tooltip("low", "high", ".2f"),
    ]
    rule = base.mark_rule(**marks.INTERVAL).encode(x=x("low"), x2="high:Q")
    point = base.mark_point(**marks.POINT)
    return [rule, point.encode(x=x("layer"), shape=by_method["shape"], tooltip=shown)]


def _rows(curves: pl.DataFrame, sets: Sets, wanted: Wanted, methods: int) -> pl.DataFrame:
    """Rows of the curves: of each method, and of the random sets of so many methods together (`method` is empty)."""
    chosen = curves.filter(~pl.col("selection").str.starts_with("random")).sort("k", maintain_order=True)
    return pl.concat([chosen, _random(curves, methods)], how="diagonal").with_columns(
        pl.col("method").fill_null(""),
        heads=pl.col("selection").replace_strict({key: label for key, (label, _) in sets.selections.items()}),
        label=wanted.label_column(),
    )


def _random(curves: pl.DataFrame, methods: int) -> pl.DataFrame:
    """Mean and range of the draws of all methods, at the k that all methods share (not every elbow)."""
    rows = curves.filter(pl.col("selection").str.starts_with("random"))
    pooled = rows.group_by("task", "selection", "k", maintain_order=True).agg(
        pl.col("value").mean(),
        pl.col("value").min().alias("low"),
        pl.col("value").max().alias("high"),
        pl.col("method").n_unique().alias("methods"),
    )
    return pooled.filter(pl.col("methods") == methods).drop("methods").sort("k", maintain_order=True)


def _common(rows: pl.DataFrame) -> list[int]:
    """The k that all curves share; a task's elbow is its own."""
    curves = rows.filter(selection="top").group_by("k").len()
    return sorted(curves.filter(pl.col("len") == curves["len"].max())["k"])


def _k_axis(sets: Sets, ks: list[int], largest: int, wanted: Wanted) -> Axis:
    linear = wanted.figure.endswith("linear")
    place = float if linear else math.log1p
    ticks = spaced(ks, [CURVE_SIZE[0] * place(k) / place(largest) for k in ks], wanted.look)
    return Axis(f"{sets.title}, k", (0, largest), ticks, scale="linear" if linear else "symlog")


def _accuracy_axis(title: str) -> Axis:
    return Axis(title, (-0.02, 1.02), [0, 0.25, 0.5, 0.75, 1], ".2f")


def _layers_of_sets(wanted: Wanted, sets: Sets, x, y, digits: str, title: str) -> list[alt.Chart]:
    labels, dashes = zip(*sets.selections.values(), strict=True)
    legend = alt.Legend(
        title=sets.title,
        symbolStrokeColor=palette.TEXT,
        symbolSize=marks.LEGEND_LINE,
        offset=layout.BAR_OFFSET,
    )
    dash = alt.StrokeDash("heads:N", scale=alt.Scale(domain=list(labels), range=list(dashes)), legend=legend)
    by_method = colours(wanted.methods, "Chosen by", "method")
    base = alt.Chart().encode(x=x("k"))
    top, random = f"datum.selection === '{sets.first}'", "slice(datum.selection, 0, 6) === 'random'"
    interval = base.encode(y=y("low"), y2="high:Q")
    return [
        interval.mark_area(**marks.RANDOM_BAND).transform_filter("datum.selection === 'random'"),
        base.mark_line(**marks.RANDOM_CURVE).encode(y=y("value"), strokeDash=dash).transform_filter(random),
        interval.mark_area(**marks.BAND).encode(color=by_method["color"]).transform_filter(top),
        base.mark_line(**marks.KNOCK_OUT_CURVE)
        .encode(
            y=y("value"),
            color=by_method["color"],
            strokeDash=dash,
            strokeWidth=alt.condition(top, alt.value(marks.TOP_WIDTH), alt.value(marks.BOTTOM_WIDTH)),
        )
        .transform_filter("datum.method !== ''"),
        base.mark_point(**marks.POINT)
        .encode(y=y("value"), **by_method, tooltip=_tooltip(sets, title, digits))
        .transform_filter(top),
    ]


def _tooltip(sets: Sets, title: str, digits: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("method:N", title="Chosen by"),
        alt.Tooltip("heads:N", title=sets.title),
        alt.Tooltip("k:Q", title="k", format="d"),
        alt.Tooltip("value:Q", title=title, format=digits),
        *interval_tooltip("low", "high", digits),
    ]
