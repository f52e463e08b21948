"""Curves of knock-outs and layer profiles: every value, order and colour, read back from what is drawn."""

import numpy as np
import polars as pl
import pytest
from evidence_drawings import drawn, left_axis
from evidence_reader import axis
from evidence_samples import METHODS, TABLES
from figure_samples import TASKS, TITLES
from headatlas.charts import layout, palette

BLUE, RED, GREEN = palette.SERIES[:3]


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


@pytest.mark.parametrize("figure", ["sufficiency", "sufficiency-linear"])
def test_sufficiency_curves_stand_at_their_values_over_log_k_or_k(figure):
    drawing = drawn(figure)
    place = np.asarray if figure.endswith("linear") else np.log1p
    value = left_axis(drawing, row=0)
    panel = next(p for p in drawing.panels if p.words.get("title-text") == [TITLES[1]])
    for colour, method in ((BLUE, "ablation"), (GREEN, "probe")):
        for ranking, dashes in (("signed", "1,0"), ("absolute", "5,3")):
            (line,) = [m for m in drawing.of("line", "concat_1", stroke=colour) if m.dashes == dashes]
            rows = TABLES["sufficiency"].filter(task=TASKS[1], method=method, ranking=ranking).sort("k")
            xs, ys = zip(*line.points, strict=True)
            np.testing.assert_allclose(xs, panel.x + 192 * place(rows["k"].to_numpy()) / place(48), atol=0.01)
            np.testing.assert_allclose(value(list(ys)), rows["faithfulness"], atol=0.01)
        (band,) = drawing.of("area", "concat_1", fill=colour)
        rows = TABLES["sufficiency"].filter(task=TASKS[1], method=method, ranking="signed").sort("k")
        edges = value([y for _, y in band.points])
        np.testing.assert_allclose(edges[:6], rows["faithfulness_low"], atol=0.01)
        np.testing.assert_allclose(edges[6:12][::-1], rows["faithfulness_high"], atol=0.01)


def test_the_floor_is_the_range_and_mean_of_random_rankings_and_a_line_marks_all_heads():
    drawing = drawn("sufficiency")
    value = left_axis(drawing, row=0)
    random = TABLES["sufficiency"].filter(task=TASKS[0], method="random").group_by("k").agg(
        pl.col("faithfulness").min().alias("low"), pl.col("faithfulness").max().alias("high"), pl.mean("faithfulness")
    ).sort("k")  # fmt: skip
    (band,) = drawing.of("area", "concat_0", fill=palette.RANDOM_BAND)
    edges = value([y for _, y in band.points])
    np.testing.assert_allclose(edges[:6], random["low"], atol=0.01)
    np.testing.assert_allclose(edges[6:12][::-1], random["high"], atol=0.01)
    (line,) = drawing.of("line", "concat_0", stroke=palette.RANDOM_CURVE)
    np.testing.assert_allclose(value([y for _, y in line.points]), random["faithfulness"], atol=0.01)
    (whole,) = drawing.of("rule", "concat_0", dashes="4,3")
    np.testing.assert_allclose(value([y for _, y in whole.points]), [1, 1], atol=0.01)
    assert drawing.words("legend-title") == ["Heads kept", "Chosen by"]
    assert drawing.words("legend-label") == ["top k, helping first", "top k, either sign", "random k", *METHODS]


def test_a_task_whose_ends_do_not_differ_has_words_instead_of_curves():
    drawing = drawn("sufficiency")
    assert not drawing.of("line", "concat_3")
    assert [text.words for text in drawing.texts].count("Not defined") == 1
    assert any("Not defined: the score" in text.words for text in drawing.texts)
    assert not drawing.of("rule", "concat_3", dashes="4,3")
    tables = [TABLES["sufficiency"], TABLES["CPR"]]
    none = drawn("sufficiency", [table.filter(task=TASKS[3]) for table in tables], tasks=TASKS[3:4])
    assert [text.words for text in none.texts].count("Not defined") == 1
    without = drawn("sufficiency", [table.filter(pl.col("task") != TASKS[3]) for table in tables], tasks=TASKS[:3])
    assert not any("Not defined" in text.words for text in without.texts)


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
