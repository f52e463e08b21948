"""Matrices of tasks: every number, order and colour, read back from what is drawn."""

import itertools

import polars as pl
import pytest
from evidence_drawings import drawn
from evidence_samples import PARTS, tables_of
from figure_samples import TASKS, TITLES
from headatlas.charts import layout


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


def test_what_is_bold_is_so_whatever_else_is_drawn():
    """Of five tasks' 10 pairs, 0.01 would pass Holm; the table has more, and says no."""
    drawing = drawn("task-overlap.probe", order=[TASKS[i] for i in (0, 1, 2, 3, 5)])
    assert {mark.words for mark in drawing.of("text") if mark.weight == "bold"} == {"0.80"}
