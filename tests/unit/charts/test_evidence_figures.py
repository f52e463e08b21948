"""The evidence figures: every value, order, colour and word, read back from what is drawn."""

import itertools
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
import pytest
import vl_convert
from evidence_reader import Drawing, axis
from evidence_samples import DRAWINGS, METHODS, PARTS, TABLES, tables_of, wanted
from figure_reader import overlaps
from figure_samples import TASKS, TITLES
from headatlas.charts import layout, palette, registry, render
from headatlas.errors import HeadAtlasError
from headatlas.stats.clustering import clustered_order

ROOT = Path(__file__).parents[3]
BLUE, RED, GREEN = palette.SERIES[:3]


@cache
def plain_spec(figure):
    return json.dumps(registry.draw(tables_of(figure), wanted(figure)))


@cache
def plain(figure):
    return Drawing(vl_convert.vegalite_to_svg(plain_spec(figure), vl_version="6.4"))


def drawn(figure, tables=None, **settings):
    if tables is None and not settings:
        return plain(figure)
    spec = registry.draw(tables_of(figure) if tables is None else tables, wanted(figure, **settings))
    return Drawing(vl_convert.vegalite_to_svg(spec, vl_version="6.4"))


def left_axis(drawing, row):
    """Places to values, from the numbers left of the panels of a row; the first panel has them."""
    panels = sorted({panel.y for panel in drawing.panels if panel.width == layout.CURVE_SIZE[0]})
    top = panels[row]
    found = [(y - 0.3 * 11, words) for x, y, words, anchor in drawing.labels
             if anchor == "end" and words and top - 10 < y - 4 < top + layout.CURVE_SIZE[1] + 10]  # fmt: skip
    return axis(found[: len({round(y) for y, _ in found})])


# ----- knock-outs


def test_knock_out_curves_stand_at_their_values_on_a_scale_of_log_1_plus_k():
    curve = TABLES["knock-out"]
    drawing = drawn("knock-out")
    chosen = curve.filter(pl.col("selection").is_in(["top", "bottom"]))
    draws = curve.filter(pl.col("selection").str.starts_with("random"), pl.col("k") != 3)["score"]
    low = min(chosen["score_low"].min(), draws.min())
    high = max(chosen["score_high"].max(), draws.max())
    for index, task in enumerate(TASKS):
        panel = next(p for p in drawing.panels if p.words.get("title-text") == [TITLES[index]])
        (line,) = [m for m in drawing.of("line", f"concat_{index}", stroke=RED) if m.dashes in (None, "1,0")]
        rows = curve.filter(task=task, method="attribution", selection="top").sort("k")
        xs, ys = zip(*line.points, strict=True)
        across = 192 * np.log1p(rows["k"].to_numpy()) / np.log1p(8)
        np.testing.assert_allclose(xs, panel.x + across, atol=0.01)
        room = 0.04 * (high - low)
        down = 144 * (high + room - rows["score"].to_numpy()) / (high - low + 2 * room)
        np.testing.assert_allclose(ys, panel.y + down, atol=0.01)


def test_knock_out_numbers_on_the_axis_read_as_the_values():
    drawing = drawn("knock-out")
    value = left_axis(drawing, row=0)
    (line,) = [m for m in drawing.of("line", "concat_0", stroke=BLUE) if m.dashes in (None, "1,0")]
    rows = TABLES["knock-out"].filter(task=TASKS[0], method="ablation", selection="top").sort("k")
    np.testing.assert_allclose(value([y for _, y in line.points]), rows["score"], atol=0.05)
    edge = drawing.panels[0].x + layout.CURVE_SIZE[0] + 2
    ks = [(x, words) for x, y, words, anchor in drawing.labels if anchor == "middle" and x < edge and words]
    assert [words for _, words in ks] == ["0", "1", "2", "4", "8"]  # not 3, the elbow of one method
    k = axis(ks, scale=np.log1p, back=np.expm1)
    np.testing.assert_allclose(k([x for x, _ in line.points]), rows["k"], atol=0.06)


def test_band_runs_from_the_lowest_to_the_highest_draw_of_all_methods_where_all_have_draws():
    drawing = drawn("knock-out")
    random = TABLES["knock-out"].filter(task=TASKS[1], selection="random")
    assert set(random.filter(pl.col("k") == 3)["method"]) == {"probe"}  # probe's own elbow
    (band,) = drawing.of("area", "concat_1", fill=palette.RANDOM_BAND)
    (line,) = [m for m in drawing.of("line", "concat_1", stroke=palette.RANDOM_CURVE) if m.dashes == "1.5,2"]
    value = left_axis(drawing, row=0)
    kept = random.filter(pl.col("k") != 3).group_by("k").agg(
        pl.col("score").min().alias("low"), pl.col("score").max().alias("high"), pl.col("score").mean()
    ).sort("k")  # fmt: skip
    n = kept.height
    edges = value([y for _, y in band.points])
    np.testing.assert_allclose(edges[:n], kept["low"], atol=0.05)
    np.testing.assert_allclose(edges[n : 2 * n][::-1], kept["high"], atol=0.05)
    np.testing.assert_allclose(value([y for _, y in line.points]), kept["score"], atol=0.05)


def test_bottom_is_dashed_and_top_solid_in_the_method_s_colour_and_intervals_are_pale_bands():
    drawing = drawn("knock-out")
    for colour in (BLUE, RED, GREEN):
        assert sorted(m.dashes for m in drawing.of("line", "concat_0", stroke=colour)) == ["1,0", "5,3"]
        assert len(drawing.of("area", "concat_0", fill=colour)) == 1
    assert drawing.words("legend-title") == ["Heads knocked out", "Chosen by"]
    assert drawing.words("legend-label")[-3:] == METHODS


def test_a_method_keeps_its_colour_without_the_others():
    drawing = drawn("knock-out", methods=["probe"])
    assert len(drawing.of("symbol", "concat_0", fill=GREEN)) == 6
    assert not drawing.of("symbol", fill=BLUE)


def test_accuracy_has_one_axis_from_0_to_1():
    drawing = drawn("knock-out-accuracy")
    numbers = [words for x, _, words, anchor in drawing.labels if anchor == "end" and words]
    assert numbers == ["0.00", "0.25", "0.50", "0.75", "1.00"] * 2
    value = left_axis(drawing, row=0)
    (line,) = [m for m in drawing.of("line", "concat_2", stroke=BLUE) if m.dashes == "1,0"]
    rows = TABLES["knock-out"].filter(task=TASKS[2], method="ablation", selection="top").sort("k")
    np.testing.assert_allclose(value([y for _, y in line.points]), rows["accuracy"], atol=0.01)


def test_own_scales_give_each_panel_its_axis():
    shared, own = drawn("knock-out"), drawn("knock-out", scale="panel")
    heights = []
    for drawing in (shared, own):
        ys = [y for mark in drawing.of("area", "concat_0") for _, y in mark.points]
        heights.append(max(ys) - min(ys))
    assert heights[1] > 1.5 * heights[0]
    assert heights[1] == pytest.approx(144 / 1.08, rel=0.01)


# ----- layer profile


def test_layer_profile_shows_shares_an_even_share_and_centres_of_mass_with_intervals():
    drawing = drawn("layer-profile")
    value = left_axis(drawing, row=0)
    rows = TABLES["layer profile"].filter(task=TASKS[0], method="probe").sort("layer")
    (line,) = drawing.of("line", "concat_0", stroke=GREEN)
    np.testing.assert_allclose(value([y for _, y in line.points]), rows["share"], atol=0.003)
    (even,) = drawing.of("rule", "concat_0", dashes="4,3")
    np.testing.assert_allclose(value([y for _, y in even.points]), [1 / 6] * 2, atol=0.003)
    centre = TABLES["summary"].row(
        by_predicate=(pl.col("task") == TASKS[0]) & (pl.col("method") == "probe"), named=True
    )
    panel = drawing.panels[0]
    (rule,) = drawing.of("rule", "concat_0", stroke=GREEN)
    ends = [(x - panel.x) * 5 / 192 for x, _ in rule.points]
    assert ends == pytest.approx([centre["layer_centre_low"], centre["layer_centre_high"]], abs=0.02)
    marks = [m.points[0] for m in drawing.of("symbol", "concat_0", fill=GREEN)]
    at_top = [x for x, y in marks if abs(y - rule.points[0][1]) < 0.6]
    assert [(x - panel.x) * 5 / 192 for x in at_top] == pytest.approx([centre["layer_centre"]], abs=0.02)


def test_centres_of_mass_stand_above_all_curves():
    drawing = drawn("layer-profile")
    for index in range(8):
        curves = [y for m in drawing.of("area", f"concat_{index}") for _, y in m.points]
        rules = [m for m in drawing.of("rule", f"concat_{index}") if m.dashes is None]
        assert max(m.points[0][1] for m in rules) < min(curves)


# ----- matrices


def test_dissociation_has_sources_in_rows_and_targets_in_columns_with_their_numbers():
    drawing = drawn("dissociation.ablation")
    values = {row[:2]: row[3] for row in PARTS["dissociation"].iter_rows()}
    width, height = layout.MATRIX_CELL
    ys = [y for _, y, words, anchor in drawing.labels if anchor == "end" and words in TITLES][:]
    cells = sorted(drawing.of("text"), key=lambda mark: (mark.points[0][1], mark.points[0][0]))
    assert len(ys) == 16
    numbers = [mark.words for mark in cells]
    assert numbers == [f"{values[a, b]:.2f}".replace("-", "−") for a in TASKS for b in TASKS]
    steps = [b.points[0][0] - a.points[0][0] for a, b in itertools.pairwise(cells[:8])]
    assert steps == pytest.approx([width] * 7)
    assert cells[8].points[0][1] - cells[0].points[0][1] == pytest.approx(height)
    assert "Top heads of" in drawing.words("axis-title")
    assert "Tested on" in drawing.words("axis-title")


def test_dissociation_zero_is_pale_own_loss_blue_and_only_sure_numbers_are_bold():
    drawing = drawn("dissociation.ablation")
    cells = {mark.words: mark for mark in drawing.of("text")}
    rects = sorted(
        drawing.of("rect"), key=lambda mark: (min(y for _, y in mark.points), min(x for x, _ in mark.points))
    )
    assert rects[0].fill == "rgb(19, 75, 133)"  # the largest loss
    assert rects[1].fill == "rgb(242, 239, 238)"  # 0
    assert cells["2.00"].fill == "white"
    bold = [mark.words for mark in drawing.of("text") if mark.weight == "bold"]
    sure = PARTS["dissociation"].filter((pl.col("ci_low") > 0) | (pl.col("ci_high") < 0))
    assert len(bold) == sure.height == 9  # the diagonal, and one harm
    note = "Diagonal dominance 1.23 [1.10, 1.35] nats per answer token, permutation p = 0.0005."
    assert drawing.words("title-text") == [
        f"{note} Bold: the 95\N{NO-BREAK SPACE}% interval over questions excludes 0."
    ]


def test_dissociation_of_one_task_has_no_dominance():
    cells, merit = (table.filter(method="ablation") for table in tables_of("dissociation.ablation"))
    merit = merit.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("dominance", "ci_low", "ci_high"))
    drawing = drawn("dissociation.ablation", [cells, merit], tasks=TASKS[:1])
    assert drawing.words("title-text")[0].startswith("Diagonal dominance: unknown")
    assert [mark.words for mark in drawing.of("text")] == ["2.00"]


def test_clustered_order_by_hand():
    alike = np.array([[1, 0.1, 0.9, 0.2], [0.1, 1, 0.3, 0.8], [0.9, 0.3, 1, 0.0], [0.2, 0.8, 0.0, 1]])
    # {0, 2} then {1, 3}; of the four ways to join them 2 and 1 (0.3) are the most alike ends.
    assert clustered_order(alike) == [0, 2, 1, 3]
    assert clustered_order(np.ones((1, 1))) == [0]
    assert clustered_order(np.zeros((3, 3))) == [0, 1, 2]


def test_clustered_order_merges_by_the_mean_not_by_the_nearest():
    alike = np.eye(4)
    for a, b, value in [(0, 1, 0.9), (0, 2, 0.6), (1, 2, 0.0), (2, 3, 0.4), (0, 3, 0.0), (1, 3, 0.0)]:
        alike[a, b] = alike[b, a] = value
    # 2 to {0, 1}: mean 0.3, less than 0.4 to 3; single linkage (0.6) would put 2 there first.
    order = clustered_order(alike)
    assert abs(order.index(2) - order.index(3)) == 1
    assert order == [1, 0, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_clustered_order_keeps_planted_groups_together(seed):
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat([0, 1, 2], 4))
    alike = 0.5 * (group[:, None] == group) + 0.1 * rng.random((12, 12))
    order = clustered_order((alike + alike.T) / 2)
    assert sorted(order) == list(range(12))
    assert sum(a != b for a, b in itertools.pairwise(group[order])) == 2


def test_task_overlap_puts_alike_tasks_together_and_mirrors_its_numbers():
    drawing = drawn("task-overlap.probe")
    rows = [words for _, _, words, anchor in drawing.labels if anchor == "end" and words in TITLES]
    order = rows[:8]
    assert rows == order * 4  # the same on all sides of both matrices
    twins = {TITLES[i] for i in (0, 5)}  # planted
    assert abs(order.index(TITLES[0]) - order.index(TITLES[5])) == 1, twins
    for chart, column in (("concat_0", "rank_correlation"), ("concat_1", "jaccard")):
        cells = drawing.of("text", chart)
        pairs = {frozenset(row[:2]): row[2] for row in PARTS["overlap"].select("task_a", "task_b", column).iter_rows()}
        keys = [TASKS[TITLES.index(title)] for title in order]
        expected = [f"{pairs[frozenset((a, b))]:.2f}".replace("-", "−") for a in keys for b in keys if a != b]
        found = sorted(cells, key=lambda mark: (round(mark.points[0][1]), mark.points[0][0]))
        assert [mark.words for mark in found] == expected
    bold = {mark.words for mark in drawing.of("text") if mark.weight == "bold"}
    assert bold == {"0.80"}  # p = 0.001 x 28 pairs; the others' 0.01 x 27 is not below 0.05


def test_what_is_bold_or_filled_is_so_whatever_else_is_drawn():
    """Of five tasks' 10 pairs, 0.01 would pass Holm, and of two tasks 0.02; the tables have more, and say no."""
    drawing = drawn("task-overlap.probe", order=[TASKS[i] for i in (0, 1, 2, 3, 5)])
    assert {mark.words for mark in drawing.of("text") if mark.weight == "bold"} == {"0.80"}
    drawing, colour = drawn("agreement", order=TASKS[:2]), palette.SERIES[4]
    dots = drawing.of("symbol", "concat_0", stroke=colour) + drawing.of("symbol", "concat_0", fill=colour)
    dots = sorted({(m.points[0][1], m.fill) for m in dots})
    assert [fill == colour for _, fill in dots] == [True, False]


# ----- agreement, models


def test_agreement_dots_stand_at_their_values_hollow_where_chance_would_do():
    drawing = drawn("agreement")
    rows = TABLES["agreement"].filter(method_a="ablation", method_b="probe")
    colour = palette.SERIES[4]
    value = axis([(x, words) for x, _, words, anchor in drawing.labels if anchor == "middle"][:5])
    dots = drawing.of("symbol", "concat_0", stroke=colour) + drawing.of("symbol", "concat_0", fill=colour)
    dots = [mark for mark in dots if value(mark.points[0][0]) < 1.1]  # of the left panel
    dots = sorted({(m.points[0][1], m.points[0][0], m.fill) for m in dots})
    expected = [rows.filter(task=task)["rank_correlation"][0] for task in TASKS]
    np.testing.assert_allclose(value([x for _, x, _ in dots]), expected, atol=0.005)
    assert [fill == colour for _, _, fill in dots] == [True] + [False] * 7  # p = 0.001 x 8; the rest 0.02 x 7
    numbers = [(x, y, words) for x, y, words, anchor in drawing.labels if anchor == "middle"]
    second = axis([(x, words) for x, _, words in numbers[5:10]])
    chances = [mark.points[0][0] for mark in drawing.of("rule", dashes="4,3")]
    assert any(second(x) == pytest.approx(5 / 48, abs=0.005) for x in chances)
    ranks = axis([(x, words) for x, _, words in numbers[15:]], scale=np.log2, back=np.exp2)
    assert [words for _, _, words in numbers[15:]] == ["1", "2", "4", "8", "16", "32"]
    first = min(x for x, _, _ in numbers[15:]) - 1
    below = [m for m in drawing.of("symbol", fill=colour) if m.points[0][1] > numbers[0][1] and m.points[0][0] > first]
    found = ranks([m.points[0][0] for m in sorted(below, key=lambda m: m.points[0][1])])
    np.testing.assert_allclose(found, [1 + 6 * i for i in range(8)], rtol=0.02)
    assert drawing.words("legend-label") == ["ablation and attribution", "ablation and probe", "attribution and probe"]


def test_agreement_does_not_mind_which_method_is_a():
    table, summary = tables_of("agreement")
    swapped = table.rename({"method_a": "method_b", "method_b": "method_a"})
    drawn_again = registry.draw([swapped.sample(fraction=1, shuffle=True), summary], wanted("agreement"))
    assert json.dumps(drawn_again) == plain_spec("agreement")


def test_comparison_shows_depth_from_0_to_1_and_shares_relative_to_an_even_one():
    drawing = drawn("comparison.ablation")
    colours = palette.SERIES[3:5]
    value = left_axis(drawing, row=0)
    panel = drawing.panels[0]
    for table, colour, layers in zip(tables_of("comparison.ablation")[2:4], colours, (6, 12), strict=True):
        rows = table.filter(task=TASKS[0], method="ablation").sort("layer")
        (line,) = [
            m
            for m in drawing.of("line", stroke=colour)
            if m.points[0][0] < panel.x + 192 and m.points[0][1] < panel.y + 144
        ]
        depth = [(x - panel.x) / 192 for x, _ in line.points]
        np.testing.assert_allclose(depth, np.arange(layers) / (layers - 1), atol=0.001)
        np.testing.assert_allclose(value([y for _, y in line.points]), rows["share"] * layers, atol=0.03)
    assert drawing.words("legend-label") == ["demo", "other"]


def test_comparison_has_each_model_s_own_even_share():
    """5 % of 48 heads are 2, of 144 heads 7: together they hold 2 / 48 and 7 / 144 where all heads are alike."""
    drawing = drawn("comparison.ablation")
    panel = next(panel for panel in drawing.panels if panel.width == layout.DOTS_WIDTH)
    for colour, share in zip(palette.SERIES[3:5], (2 / 48, 7 / 144), strict=True):
        (rule,) = [mark for mark in drawing.of("rule", stroke=colour) if mark.dashes == "4,3"]
        assert [(x - panel.x) / layout.DOTS_WIDTH for x, _ in rule.points] == pytest.approx([share] * 2, abs=1e-4)
    tables = tables_of("comparison.ablation")
    tables[1] = tables[1].with_columns(heads=48)  # of one size: one grey line
    assert not [
        m for m in drawn("comparison.ablation", tables).of("rule", stroke=palette.SERIES[3]) if m.dashes == "4,3"
    ]


def test_comparison_without_dissociation_leaves_that_panel_out():
    tables = tables_of("comparison.ablation")
    assert "Diagonal dominance (nats per answer token)" in drawn("comparison.ablation").words("axis-title")
    rest = drawn("comparison.ablation", tables[:4]).words("axis-title")
    assert "Importance held by the top 5 % of heads" in rest
    assert "Diagonal dominance (nats per answer token)" not in rest


# ----- annotated grid


def test_annotated_grid_is_the_grid_with_reliability_under_each_title():
    drawing = drawn("annotated-grid.ablation")
    assert drawing.words("title-text") == TITLES
    notes = drawing.words("title-subtitle")
    done = "Exact match 50 % [35, 65] of 40 Log-prob. −1.500 [−2.250, −1.000]"
    assert notes[0] == f"{done} Reliability 0.91 [0.85, 0.95]"
    assert notes[1] == f"{done} Reliability −0.20 [−0.40, 0.10]"
    assert notes[2] == f"{done} Reliability unknown"
    assert notes[3] == "Not done by the model Exact match 0 % [0, 9] Log-prob. −1.500 [−2.250, −1.000]"
    assert len(notes) == 8
    assert all(len(panel.cells) == 48 for panel in drawing.panels)
    assert {mark.chart for mark in drawing.of("rule")} == {"concat_3"}  # crossed out


@pytest.mark.parametrize(
    ("figure", "title", "about"),
    [
        ("knock-out", "Attention heads of demo knocked out together", "held-out questions"),
        ("layer-profile", "Attention heads of demo: share of importance by layer", "each method's map"),
        ("dissociation.ablation", "Dissociation of tasks in demo, top 4 heads by exact ablation", "the top 4 heads"),
        ("task-overlap.probe", "Overlap of the tasks' maps in demo by a probe", "the top 5 heads"),
        ("agreement", "Agreement between methods on the attention heads of demo", "hottest"),
        ("annotated-grid.ablation", "Attention heads of demo: importance by exact ablation", "two halves"),
        ("comparison.ablation", "Attention heads of demo and other compared, by exact ablation", "relative depth"),
    ],
)
def test_titles_name_model_and_method_and_say_what_is_shown(figure, title, about):
    drawing = drawn(figure, titles=True)
    assert title in drawing.words("title-text")
    assert any(about in words for words in drawing.words("title-subtitle"))


# ----- all of them


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_overlaps_another_or_leaves_the_page(name):
    figure, settings = DRAWINGS[name]
    drawing = drawn(figure, **settings)
    slanted = {text.words for text in drawing.texts if "axis-label" in text.role} if "." in figure else set()
    level = [text for text in drawing.texts if not (text.words in slanted and text.box[3] - text.box[1] > 14)]
    assert len(level) > 5
    assert overlaps(level) == []
    for text in drawing.texts:
        left, top, right, bottom = text.box
        assert min(left, top) >= -2, text
        assert right <= drawing.width + 2, text
        assert bottom <= drawing.height + 2, text


def test_titles_of_panels_stand_level_whatever_their_axes_say():
    drawing = drawn("knock-out", scale="panel")
    places = [text.box[3] for text in drawing.texts if text.words in TITLES]
    assert len({round(place, 3) for place in places}) == 2


@pytest.mark.parametrize("figure", list(DRAWINGS)[:8])
def test_specs_are_valid_and_the_same_in_any_order_of_rows(figure):
    figure, _ = DRAWINGS[figure]
    tables = tables_of(figure)
    first = plain_spec(figure)
    alt.Chart.from_dict(json.loads(first))
    shuffled = [table.sample(fraction=1.0, shuffle=True, seed=4) for table in tables]
    assert json.dumps(registry.draw(shuffled, wanted(figure))) == first
    assert "tooltip" in first


@pytest.mark.parametrize(
    ("figure", "change", "message"),
    [
        ("knock-outs", None, "no figure `knock-outs`; there are: knock-out, knock-out-accuracy"),
        ("dissociation", None, "no figure `dissociation`; there are: "),
        ("knock-out.ablation", None, "no figure `knock-out.ablation`"),
        ("dissociation.lens", None, "figure dissociation.lens: no method `lens`, there are: ablation"),
        ("agreement", lambda t: t[:1], "figure agreement takes the tables agreement, summary; 1 were given"),
        ("knock-out", lambda t: [t[0].drop("k")], "knock-out table: no column k; it has method"),
        (
            "layer-profile",
            lambda t: [t[0], t[1].filter(pl.col("task") != "inference")],
            "summary table: no row of task inference, method ablation",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(figure, change, message):
    tables = change(tables_of(figure)) if change else []
    with pytest.raises(HeadAtlasError, match=re.escape(message)):
        registry.draw(tables, wanted(figure))


def test_one_method_has_no_agreement():
    with pytest.raises(HeadAtlasError, match="agreement needs two methods"):
        registry.draw(tables_of("agreement"), wanted("agreement", methods=["probe"]))


def test_the_tool_writes_a_spec_that_becomes_a_page(tmp_path):
    files = []
    for i, table in enumerate(tables_of("dissociation.ablation")):
        files.append(str(tmp_path / f"{i}.parquet"))
        table.write_parquet(files[-1])
    spec, page, library = (tmp_path / name for name in ("spec.json", "page.html", "library.js"))
    settings = json.dumps(wanted("dissociation.ablation"))
    tool = [sys.executable, str(ROOT / "scripts/draw_evidence.py"), "--settings", settings, "--tables", *files]
    subprocess.run([*tool, "--spec", str(spec)], check=True)
    assert json.dumps(json.loads(spec.read_text())) == plain_spec("dissociation.ablation")
    library.write_text("library")
    render.render(spec, page, 1, library)
    assert "Loss of each task without the top heads of each task: model demo, method ablation" in page.read_text()


def test_evidence_charts_never_import_torch():
    code = "import sys; from headatlas.charts import registry; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "scripts"
    )
    assert done.stdout.strip() == "False"
