"""What hot heads carry: every dot, bar, line and name, read back from what is drawn."""

import numpy as np
import polars as pl
import pytest
from evidence_drawings import drawn
from evidence_reader import axis
from evidence_samples import TABLES
from figure_samples import TASKS
from headatlas.charts import layout, palette
from headatlas.charts.scatter import NAMED, beside
from headatlas.errors import HeadAtlasError

TABLE = TABLES["same-answer"]
COLOURS = {"answer": palette.SERIES[1], "question": palette.SERIES[0], None: palette.RANDOM_CURVE}


def across_axis(drawing, panel):
    """Places to values, from the numbers below a panel."""
    right, bottom = (end + length for end, length in zip((panel.x, panel.y), layout.CURVE_SIZE, strict=True))
    below = [(x, words) for x, y, words, anchor in drawing.labels
             if anchor == "middle" and words and panel.x - 2 < x < right + 2 and bottom < y < bottom + 30]  # fmt: skip
    return axis(below)


def upward_axis(drawing, panel):
    """Places to values, from the numbers left of a panel."""
    top, bottom = panel.y - 2, panel.y + layout.CURVE_SIZE[1] + 8
    left = [(y - 0.3 * 11, words) for x, y, words, anchor in drawing.labels
            if anchor == "end" and words and panel.x - 20 < x < panel.x and top < y < bottom]  # fmt: skip
    return axis(left)


def test_dots_stand_at_their_effects_in_the_colour_of_what_they_carry():
    drawing = drawn("same-answer")
    panel = drawing.panels[4]  # the first of the last row, where both axes have numbers
    x, y = across_axis(drawing, panel), upward_axis(drawing, panel)
    dots = drawing.of("symbol", "concat_4")
    found = sorted((float(x(m.points[0][0])), float(y(m.points[0][1])), m.fill) for m in dots)
    rows = TABLE.filter(task=TASKS[4]).sort("counterfactual")
    assert [colour for *_, colour in found] == [COLOURS[carries] for carries in rows["carries"]]
    np.testing.assert_allclose([dot[0] for dot in found], rows["counterfactual"], atol=0.01)
    np.testing.assert_allclose([dot[1] for dot in found], rows["same_answer"], atol=0.03)
    assert drawing.words("legend-label") == ["the answer", "the question", "undecided"]


def test_bars_are_the_two_intervals_and_unknown_ones_are_not_drawn():
    drawing = drawn("same-answer")
    x, y = across_axis(drawing, drawing.panels[4]), upward_axis(drawing, drawing.panels[4])
    row = TABLE.filter(task=TASKS[4], rank=1).row(0, named=True)
    bars = drawing.of("rule", "concat_4", stroke=COLOURS["answer"])
    ends = {m.points[0][1] == m.points[1][1]: m.points for m in bars}
    assert len(bars) == len(ends) == 2
    found = sorted(float(x(place)) for place, _ in ends[True])
    assert found == pytest.approx([row["counterfactual_low"], row["counterfactual_high"]], abs=0.01)
    found = sorted(float(y(place)) for _, place in ends[False])
    assert found == pytest.approx([row["same_answer_low"], row["same_answer_high"]], abs=0.03)
    undecided = [m for m in drawing.of("rule", "concat_4", stroke=COLOURS[None]) if m.points[0] != m.points[1]]
    assert len(undecided) == 2 * 2  # of three heads, as one has no interval


@pytest.mark.parametrize("scale", ["shared", "panel"])
def test_lines_of_no_effect_and_of_equal_effects(scale):
    """Equal effects run from corner to corner, as both axes of a panel are the same."""
    drawing = drawn("same-answer", scale=scale)
    panel = drawing.panels[4]
    x, y = across_axis(drawing, panel), upward_axis(drawing, panel)
    (equal,) = drawing.of("rule", "concat_4", dashes="4,3")
    corners = [(panel.x, panel.y + 144), (panel.x + 192, panel.y)]
    np.testing.assert_allclose(sorted(equal.points), corners, atol=0.6)
    values = x([place for place, _ in equal.points]), y([place for _, place in equal.points])
    np.testing.assert_allclose(*values, atol=0.03)
    zeros = [m for m in drawing.of("rule", "concat_4", stroke=palette.RULE) if m.dashes is None]
    flat = {m.points[0][1] == m.points[1][1]: m.points[0] for m in zeros}
    assert len(zeros) == len(flat) == 2
    assert float(y(flat[True][1])) == pytest.approx(0, abs=0.02)
    assert float(x(flat[False][0])) == pytest.approx(0, abs=0.01)


def test_the_hottest_heads_have_their_names_beside_them():
    drawing = drawn("same-answer")
    names = drawing.of("text", "concat_0")
    assert [m.words for m in names] == ["0.7", "1.6", "2.5"]
    x, y = across_axis(drawing, drawing.panels[4]), upward_axis(drawing, drawing.panels[0])
    for mark, row in zip(names, TABLE.filter(task=TASKS[0]).head(NAMED).to_dicts(), strict=True):
        place = mark.points[0]
        assert abs(float(x(place[0] - drawing.panels[0].x + drawing.panels[4].x)) - row["counterfactual"]) < 0.3
        assert abs(float(y(place[1])) - row["same_answer"]) < 0.3


def test_a_scale_of_its_own_gives_each_panel_both_axes():
    drawing = drawn("same-answer", scale="panel")
    numbers = [words for _, _, words, anchor in drawing.labels if anchor == "middle" and words]
    assert len(numbers) > 3 * len(TASKS)
    extent = []
    for each in (drawn("same-answer"), drawing):
        xs = [m.points[0][0] for m in each.of("symbol", "concat_0")]
        extent.append(max(xs) - min(xs))
    assert extent[1] > 1.3 * extent[0]


def test_names_keep_off_dots_names_and_edges_and_are_left_out_where_there_is_no_room():
    ((name, (x, y)),) = beside([(100, 70)], ["1.2"], [], 10)
    assert (name, x > 100, y > 70) == ("1.2", True, True)
    ((_, (x, y)),) = beside([(190, 142)], ["1.2"], [], 10)
    assert (x < 190, y < 142) == (True, True)  # in the panel's lower right corner
    ((_, (x, y)),) = beside([(100, 70)], ["1.2"], [((0, 75), (192, 75))], 10)
    assert y < 70  # off the line below
    around = [(100 + x, 70 + y) for x in (-12, 12) for y in (-8, 8)]
    assert beside([(100, 70), *around], ["1.2"], [], 10) == []
    two = beside([(100, 70), (102, 72)], ["1.2", "3.4"], [], 10)
    assert [name for name, _ in two] == ["1.2", "3.4"]
    assert abs(two[0][1][1] - two[1][1][1]) >= 10 or abs(two[0][1][0] - two[1][1][0]) >= 14


def test_a_task_without_patched_heads_is_said():
    with pytest.raises(HeadAtlasError, match="same-answer table: no row of task inference"):
        drawn("same-answer", [TABLE.filter(pl.col("task") != "inference")])
