"""Concentration, depth, the jackknife and the summary: values by hand, known laws, calibration."""

import math
import statistics

import numpy as np
import polars as pl
import pytest
from figure_samples import capability
from headatlas.evidence.summary import (
    FIGURES,
    compare_tasks,
    hottest_heads,
    importance_left_out,
    layer_profile,
    summarise,
)
from headatlas.stats import jackknife
from headatlas.stats.concentration import (
    effective_heads,
    elbow,
    gini,
    layer_centre,
    layer_quartiles,
    layer_shares,
    top_share,
)
from headatlas.stats.head_statistics import question_totals
from headatlas.stats.jackknife import (
    bounded_interval,
    difference_p_value,
    interval,
    means_left_out,
    question_groups,
    reach,
)
from importance_samples import importance, planted
from script_runs import run_script, write_effects

# ----- concentration


def test_gini_is_the_mean_absolute_difference():
    values = np.random.default_rng(0).exponential(size=17)
    slow = sum(abs(a - b) for a in values for b in values) / (2 * 17**2 * values.mean())
    assert gini(values) == pytest.approx(slow)
    assert gini(np.array([0, 0, 0, 5.0])) == pytest.approx(3 / 4)
    assert gini(np.ones(4)) == pytest.approx(0)


def test_effective_heads_by_hand():
    assert effective_heads(np.array([3.0, 3, 3, 0])) == pytest.approx(3)
    assert effective_heads(np.array([0.5, 0.25, 0.25])) == pytest.approx(2**1.5)


def test_top_share_by_hand():
    values = np.array([1.0] * 98 + [40, 62])
    assert top_share(values, 0.01) == pytest.approx(62 / 200)
    assert top_share(values, 0.05) == pytest.approx(105 / 200)
    assert top_share(np.array([1.0, 3]), 0.01) == pytest.approx(0.75)  # one head at least


def test_elbow_by_hand():
    assert elbow(np.array([0, 9, 0, 8, 0, 0, 0.5, 0, 0, 0])) == 2
    assert elbow(np.array([5.0] + [0] * 9)) == 1
    assert elbow(np.ones(6)) == 0
    assert elbow(np.zeros(6)) == 0


def test_layers_by_hand():
    layer = np.array([0, 0, 1, 1, 2, 2])
    importance = np.array([1.0, 0, 1, 1, 0, 5])
    assert layer_shares(importance, layer) == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert layer_centre(importance, layer) == pytest.approx(12 / 8)
    assert layer_quartiles(importance, layer) == [1, 2, 2]
    assert layer_quartiles(np.array([1.0, 1, 1, 1, 1, 1]), layer) == [0, 1, 2]


def test_nothing_is_said_where_there_is_no_importance():
    zeros, layer = np.zeros(4), np.array([0, 0, 1, 1])
    for value in (gini(zeros), effective_heads(zeros), top_share(zeros, 0.05), layer_centre(zeros, layer)):
        assert math.isnan(value)
    assert layer_quartiles(zeros, layer) == [None] * 3


# ----- jackknife


def test_jackknife_of_the_mean_is_the_textbook_standard_error():
    values = np.random.default_rng(0).normal(size=20)
    totals, counts = question_totals(values[:, None], np.arange(20))
    left_out = means_left_out(totals, counts, question_groups(20, np.random.default_rng(0)))
    assert left_out.shape == (20, 1)
    assert jackknife.std_error(left_out) == pytest.approx([statistics.stdev(values) / math.sqrt(20)])


def test_means_left_out_by_hand():
    totals, counts = np.array([[1.0, 0], [2, 6], [9, 3]]), np.array([1.0, 2, 3])
    assert means_left_out(totals, counts, np.array([0, 1, 0])).tolist() == [[1, 3], [2.5, 0.75]]


@pytest.mark.parametrize(("confidence", "groups", "t"), [(0.95, 20, 2.0930), (0.95, 8, 2.3646), (0.99, 20, 2.8609)])
def test_reach_is_students_t(confidence, groups, t):
    assert reach(confidence, groups) == pytest.approx(t, abs=1e-4)


def test_difference_p_value_matches_the_interval():
    assert difference_p_value(2.0930, 1.0, 20) == pytest.approx(0.05, abs=0.001)
    assert difference_p_value(2.8609, 1.0, 20) == pytest.approx(0.01, abs=0.001)
    assert (difference_p_value(1.0, 0.0, 20), difference_p_value(0.0, 0.0, 20)) == (0, 1)
    for groups in (2, 3, 8, 20):
        for confidence in (0.8, 0.95, 0.999):
            edge = difference_p_value(reach(confidence, groups), 1.0, groups)
            assert edge == pytest.approx(1 - confidence, abs=1e-12)


def test_a_large_difference_of_eight_groups_passes_any_number_of_tests():
    """19 tasks are 171 pairs; the p-value has no floor that they cannot reach."""
    assert difference_p_value(30.0, 1.0, 8) * 171 < 1e-5


def test_figures_are_calibrated():
    """Intervals cover what the same number of questions gives on average; equal tasks seldom differ."""
    rng = np.random.default_rng(0)
    layer = np.repeat(np.arange(8), 16)
    heads = rng.standard_t(3, size=128)

    def draw():
        return heads + rng.normal(size=(100, 128))

    for name in ("gini", "layer_centre"):
        figure = FIGURES[name]

        def value(effects, figure=figure):
            return figure.scale(figure.value(np.abs(effects), layer))

        truth = np.mean([value(draw().mean(axis=0)) for _ in range(300)])
        covered, differ = 0, 0
        for _ in range(100):
            sides = []
            for effects in (draw(), draw()):
                left_out = importance_left_out(effects, np.arange(100), (0,))
                sides.append((value(effects.mean(axis=0)), np.array([value(row) for row in left_out])))
            (a, others_a), (b, others_b) = sides
            low, high = interval(a, others_a, 0.95)
            covered += low <= truth <= high
            error = math.hypot(jackknife.std_error(others_a), jackknife.std_error(others_b))
            differ += difference_p_value(a - b, error, 20) <= 0.05
        assert covered >= 89, name  # 95 less 2.5 binomial standard errors
        assert differ <= 11, name


def test_bounded_interval_by_hand():
    """Left-out values whose log odds are 0 and ln 3: standard error ln 3 / 2, half width t times that."""
    left_out = np.tile([[0.5], [0.75]], (4, 1))
    half = reach(0.95, 8) * jackknife.std_error(np.tile([[0.0], [math.log(3)]], (4, 1)))
    low, high = bounded_interval(np.array([0.5]), left_out, 0.95)
    assert np.log(high / (1 - high)) == pytest.approx(half)
    assert low == pytest.approx(1 - high)
    low, high = bounded_interval(np.array([3.0]), 1 + 4 * left_out, 0.95, 1, 5)  # the same between 1 and 5
    assert np.log((high - 1) / (5 - high)) == pytest.approx(half)
    assert bounded_interval(np.zeros(1), np.zeros((8, 1)), 0.95) == (0, pytest.approx(0, abs=1e-8))
    assert bounded_interval(np.ones(1), np.ones((8, 1)), 0.95) == (pytest.approx(1, abs=1e-8), 1)
    assert bounded_interval(0.0, np.zeros(8), 0.95, 0, 0) == (0, 0)  # a model of one layer


def sampled_tasks():
    """How to draw effects [question, head] of 6 layers x 8 heads: even noise; few questions or one head carry all."""
    heads = np.abs(np.random.default_rng(1).standard_t(2, size=48))
    depth = np.repeat([1, 0.5, 0.1, 0.05, 0.02, 0.01], 8)
    alone = np.append([5.0], np.zeros(47))
    return {
        "even": lambda rng: heads + rng.normal(size=(77, 48)),
        "carried by few": lambda rng: heads * depth * rng.lognormal(0, 1.2, size=(77, 48)),
        "one layer": lambda rng: alone * rng.lognormal(0, 1, size=(77, 1)) + 0.05 * rng.normal(size=(77, 48)),
    }


@pytest.mark.parametrize("kind", sampled_tasks())
def test_intervals_of_shares_heads_and_centres_stay_in_their_range_and_cover(kind):
    rng, draw, layer = np.random.default_rng(0), sampled_tasks()[kind], np.repeat(np.arange(6), 8)
    figures = {name: FIGURES[name] for name in ("effective_heads", "layer_centre", "top_5_percent")}

    def values(means):
        return np.array([*layer_shares(means, layer), *(figure.value(means, layer) for figure in figures.values())])

    ends = [(0, 1)] * 6 + [(1, 48), (0, 5), (0, 1)]
    truth = np.mean([values(np.abs(draw(rng).mean(axis=0))) for _ in range(500)], axis=0)
    runs, covered = 150, np.zeros(9)
    for _ in range(runs):
        effects = draw(rng)
        left_out = importance_left_out(effects, np.arange(77), (0,))
        whole, others = values(np.abs(effects.mean(axis=0))), np.array([values(row) for row in left_out])
        for i, (least, most) in enumerate(ends):
            low, high = bounded_interval(whole[i], others[:, i], 0.95, least, most)
            assert least <= low <= whole[i] <= high <= most
            covered[i] += low <= truth[i] <= high
    assert covered.min() / runs >= 0.905  # 95 % less 2.5 binomial standard errors


# ----- the tables


TWO_TASKS = importance(
    [
        ("a", 0, 0, 1.0, 0.01), ("a", 0, 1, -2.0, 0.01), ("a", 1, 0, 0.0, 0.9), ("a", 1, 1, 1.0, 0.04),
        ("b", 0, 0, 0.0, 0.9), ("b", 0, 1, 3.0, 0.01), ("b", 1, 0, 1.0, 0.05), ("b", 1, 1, 0.0, 0.9),
    ]
)  # fmt: skip


def test_summary_by_hand():
    table = summarise(TWO_TASKS, {("ablation", "a"): None, ("ablation", "b"): None}, 0.95)
    a, b = table.rows(named=True)
    assert (a["heads"], a["significant"], a["helping"], a["hurting"], a["exclusive"]) == (4, 3, 2, 1, 2)
    assert (b["heads"], b["significant"], b["helping"], b["hurting"], b["exclusive"]) == (4, 1, 1, 0, 0)
    assert (a["density_lower"], a["density_upper"]) == (1.0, 0.5)
    assert (a["layer_centre"], b["layer_centre"]) == (pytest.approx(0.25), pytest.approx(0.25))
    assert (a["effective_heads"], a["top_1_percent"]) == (pytest.approx(2**1.5), pytest.approx(0.5))
    assert math.isnan(a["gini_low"])  # too few questions for an interval


def test_hottest_heads_come_in_order():
    table = hottest_heads(TWO_TASKS)
    assert table["rank"].to_list() == [1, 2, 3, 4] * 2
    assert table.row(0, named=True)["head"] == 1
    assert table.row(0, named=True)["effect"] == -2


def test_a_deeper_task_is_called_deeper_and_a_twin_is_not(tmp_path):
    rng = np.random.default_rng(0)
    tasks = {"low": planted(1, rng), "twin": planted(1, rng), "deep": planted(4, rng)}
    rows = []
    for name, effect in tasks.items():
        write_effects(tmp_path / "probe" / f"{name}.safetensors", effect)
        mean = effect.mean(axis=0)
        rows += [(name, layer, head, float(mean[layer, head]), 0.5) for layer in range(6) for head in range(8)]
    importance(rows, "probe").write_parquet(tmp_path / "i.parquet")
    outputs = {name: tmp_path / f"{name}.parquet" for name in ("summary", "comparisons", "profiles", "hottest")}
    settings = {"effects": {"probe": ["{task}.safetensors"]}, "tasks": list(tasks)}
    settings |= {"items": "all", "confidence": 0.95, "seed": 0}
    capability(list(tasks)).write_parquet(tmp_path / "c.parquet")
    inputs = {"importance": tmp_path / "i.parquet", "capability": tmp_path / "c.parquet", "effects": tmp_path}
    done = run_script("summarise", settings, **inputs, **outputs)
    assert done.returncode == 0, done.stderr

    tests = pl.read_parquet(outputs["comparisons"]).filter(pl.col("figure") == "layer_centre")
    p = {(a, b): value for a, b, value in tests.select("task_a", "task_b", "p_adjusted").iter_rows()}
    assert p["low", "twin"] > 0.05 > 0.001 > max(p["low", "deep"], p["twin", "deep"])
    assert (tests.filter(task_b="deep")["ci_high"] < 0).all()
    for row in pl.read_parquet(outputs["summary"]).iter_rows(named=True):
        assert (row["accuracy"], row["n_questions"], row["capable"]) == (0.5, 40, True)
        for name in FIGURES:
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"], name
    profiles = pl.read_parquet(outputs["profiles"])
    assert profiles.columns == ["method", "task", "layer", "share", "ci_low", "ci_high", "significant"]
    assert profiles.filter(task="deep").sort("share")["layer"][-1] == 4
    assert profiles.group_by("task").agg(pl.col("share").sum())["share"].to_list() == pytest.approx([1, 1, 1])
    assert pl.read_parquet(outputs["hottest"]).height == 30


def test_tasks_without_importance_or_questions_are_left_out_of_comparisons():
    rows = [(task, 0, head, effect, 1.0) for task, effect in (("a", 1.0), ("b", 1.0), ("zero", 0.0)) for head in (0, 1)]
    table = importance(rows).with_columns(pl.col("importance").fill_nan(0))
    some = np.ones((9, 2))
    left_out = {("ablation", "a"): some, ("ablation", "b"): None, ("ablation", "zero"): np.zeros((9, 2))}
    assert compare_tasks(table, left_out, 0.95).height == 0
    row = summarise(table, left_out, 0.95).row(by_predicate=pl.col("task") == "zero", named=True)
    assert row["effective_heads"] is None or math.isnan(row["effective_heads"])
    assert layer_profile(table, left_out, 0.95).filter(task="zero")["share"].is_nan().all()


def test_too_few_questions_leave_no_interval():
    assert importance_left_out(np.ones((7, 2)), np.arange(7), (0,)) is None
    assert importance_left_out(np.ones((8, 2)), np.arange(8), (0,)).shape == (8, 2)


def test_heads_that_could_not_be_tested_are_not_significant_and_break_nothing():
    rows = [("a", layer, head, 1.0 + head, None if layer else 0.01) for layer in range(2) for head in range(2)]
    rows += [("b", layer, head, 1.0 + head, None) for layer in range(2) for head in range(2)]
    table = importance(rows).with_columns(pl.col("q_value").cast(pl.Float64))
    found = summarise(table, {("ablation", "a"): None, ("ablation", "b"): None}, 0.95)
    assert found["significant"].to_list() == [2, 0]
    assert found["tested"].to_list() == [2, 0]
    assert found["exclusive"].to_list() == [2, 0]
    assert found.select("density_lower", "density_upper").rows() == [(1.0, 0.0), (0.0, 0.0)]
    profile = layer_profile(table, {("ablation", "a"): None, ("ablation", "b"): None}, 0.95)
    assert profile["significant"].to_list() == [2, 0, 0, 0]
