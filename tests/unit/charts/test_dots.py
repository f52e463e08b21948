"""Rows of dots: every value and colour, read back from what is drawn."""

import json

import numpy as np
import pytest
from evidence_drawings import drawn, left_axis, plain_spec
from evidence_reader import axis
from evidence_samples import TABLES, tables_of, wanted
from figure_samples import TASKS
from headatlas.charts import layout, palette, registry
from headatlas.errors import HeadAtlasError


def test_agreement_dots_stand_at_their_values_hollow_where_chance_would_do():
    drawing = drawn("agreement")
    rows = TABLES["agreement"].filter(method_a="ablation", method_b="probe")
    colour = palette.SERIES[palette.OTHER_SERIES + 1]
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
    colours = palette.SERIES[palette.OTHER_SERIES :][:2]
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
    """5 % of 48 heads are 2, of 144 heads 7: together they hold 2 / 48 and 7 / 144 if all heads are equal."""
    drawing = drawn("comparison.ablation")
    panel = next(panel for panel in drawing.panels if panel.width == layout.DOTS_WIDTH)
    for colour, share in zip(palette.SERIES[palette.OTHER_SERIES :][:2], (2 / 48, 7 / 144), strict=True):
        (rule,) = [mark for mark in drawing.of("rule", stroke=colour) if mark.dashes == "4,3"]
        assert [(x - panel.x) / layout.DOTS_WIDTH for x, _ in rule.points] == pytest.approx([share] * 2, abs=1e-4)
    tables = tables_of("comparison.ablation")
    tables[1] = tables[1].with_columns(heads=48)  # of one size: one grey line
    assert not [
        m
        for m in drawn("comparison.ablation", tables).of("rule", stroke=palette.SERIES[palette.OTHER_SERIES])
        if m.dashes == "4,3"
    ]


def test_comparison_without_dissociation_leaves_that_panel_out():
    tables = tables_of("comparison.ablation")
    assert "Diagonal dominance (nats per answer token)" in drawn("comparison.ablation").words("axis-title")
    rest = drawn("comparison.ablation", tables[:4]).words("axis-title")
    assert "Importance held by the top 5 % of heads" in rest
    assert "Diagonal dominance (nats per answer token)" not in rest


def test_what_is_filled_is_so_whatever_else_is_drawn():
    """Of two tasks' 2 pairs, 0.02 would pass Holm; the table has more, and says no."""
    drawing, colour = drawn("agreement", order=TASKS[:2]), palette.SERIES[palette.OTHER_SERIES + 1]
    dots = drawing.of("symbol", "concat_0", stroke=colour) + drawing.of("symbol", "concat_0", fill=colour)
    dots = sorted({(m.points[0][1], m.fill) for m in dots})
    assert [fill == colour for _, fill in dots] == [True, False]


def test_one_method_has_no_agreement():
    with pytest.raises(HeadAtlasError, match="agreement needs two methods"):
        registry.draw(tables_of("agreement"), wanted("agreement", methods=["probe"]))
