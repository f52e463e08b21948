"""Which ranking predicts best: differences by hand, paired over questions, calibrated; the tool that writes them."""

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.ranking_tests import ranking_tests
from headatlas.evidence.sufficiency import areas_of_curves
from headatlas.files.knock_outs import RANDOM, write_knock_out
from headatlas.stats.multiple_testing import holm
from kept_samples import kept_file
from script_runs import run_script

STRENGTHS = np.array([[3.0, 2, 1, 0.5], [0, 0, 0, -1]])
HOW = (0.95, 0)


def files(effects: dict[str, np.ndarray], tasks: tuple[str, ...] = ("t",), **options) -> dict:
    """Rankings by these effects of heads with the same strengths."""
    return {
        (method, task): kept_file(STRENGTHS, effect, method=method, task=task, ks=(1, 2), **options)
        for method, effect in effects.items()
        for task in tasks
    }


def test_differences_by_hand():
    """One ranking is by strength, the other upside down; what varies is shared, so nothing is left to chance."""
    table = ranking_tests(files({"ablation": STRENGTHS, "probe": -STRENGTHS}), ["t"], *HOW)
    assert table["figure"].to_list() == ["area", "cpr", "cmd"]
    rows = {row["figure"]: row for row in table.to_dicts()}
    share = np.array([0, 1, 2, 4, 8]) / 8
    forward, backward = (np.array(f) / 5.5 for f in ([0, 3, 5, 6.5, 5.5], [0, -1, -1, -1, 5.5]))
    expected = np.trapezoid(forward, share) - np.trapezoid(backward, share)
    assert rows["cpr"]["difference"] == pytest.approx(expected)
    # By size, both rankings are the same.
    assert (rows["cmd"]["difference"], rows["cmd"]["p_value"]) == (0, 1)
    assert rows["cpr"]["p_value"] == 0
    area = {row["figure"]: row for row in table.to_dicts()}["area"]
    assert area["difference"] > 1  # by hand: `knock_out_curves` has its own tests
    assert area["ci_low"] < area["difference"] < area["ci_high"]  # the random heads of either area differ


def test_the_better_ranking_is_found_although_questions_differ():
    """Each question scales all heads, so CPR varies less between rankings than between questions."""
    made = files({"ablation": STRENGTHS, "probe": STRENGTHS[:, [1, 0, 3, 2]]}, noise=0.5) | {
        (RANDOM, "t"): kept_file(STRENGTHS, method=RANDOM, rankings=20, noise=0.5)
    }
    table = ranking_tests(made, ["t"], *HOW)
    pairs = table.select("figure", "method_a", "method_b").rows()
    assert pairs == [("area", "ablation", "probe")] + [
        (figure, *pair)
        for figure in ("cpr", "cmd")
        for pair in (("ablation", "probe"), ("ablation", RANDOM), ("probe", RANDOM))
    ]
    known = areas_of_curves(made.values(), "mean", *HOW)
    values = dict(known.select("method", "cpr").rows())
    for row in table.filter(figure="cpr").to_dicts():
        assert row["difference"] == pytest.approx(values[row["method_a"]] - values[row["method_b"]])
        assert row["difference"] > 0
        assert row["p_value"] < 0.01
    np.testing.assert_allclose(
        table.filter(figure="cpr")["p_adjusted"], holm(table.filter(figure="cpr")["p_value"].to_numpy())
    )


def test_undefined_figures_are_not_compared_and_tasks_are_adjusted_together():
    flat = {(method, "u"): kept_file(0 * STRENGTHS, STRENGTHS, method=method, task="u", ks=(1, 2)) for method in "ab"}
    made = files({"a": STRENGTHS, "b": STRENGTHS[::-1]}, ("t", "s"), noise=0.5) | flat
    table = ranking_tests(made, ["t", "s", "u"], *HOW)
    assert table.filter(figure="cpr")["task"].to_list() == ["t", "s"]
    assert table.filter(figure="area")["task"].to_list() == ["t", "s", "u"]
    for figure in ("area", "cpr", "cmd"):
        part = table.filter(figure=figure)
        np.testing.assert_allclose(part["p_adjusted"], holm(part["p_value"].to_numpy()))


def test_rankings_equally_good_are_told_apart_in_five_percent_of_cases():
    """Two heads of equal strength are swapped: over questions the difference has mean 0."""
    strengths = np.array([[1.0, 1, 0, 0, 0, 0, 0, 0]])
    effects = {"a": strengths + 0.1 * np.eye(1, 8, 0), "b": strengths + 0.1 * np.eye(1, 8, 1)}
    found = []
    for seed in range(300):
        made = {
            (method, "t"): kept_file(strengths, effect, method=method, noise=0.5, seed=seed, n=80, ks=(1, 2))
            for method, effect in effects.items()
        }
        found.append(ranking_tests(made, ["t"], *HOW).filter(figure="cpr")["p_value"].item())
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09


def test_too_few_questions_test_nothing():
    table = ranking_tests(files({"a": STRENGTHS, "b": -STRENGTHS}, noise=0.5, n=14), ["t"], *HOW)
    assert table["p_value"].is_nan().all()
    assert table["difference"].is_finite().all()


def test_tool(tmp_path):
    tasks, rankings = ["t1", "t0"], ["ablation", "probe", RANDOM]
    raw = []
    for method in rankings:
        for task in tasks:
            raw.append(tmp_path / f"{method}-{task}.safetensors")
            write_knock_out(raw[-1], kept_file(STRENGTHS, method=method, task=task, ks=(1, 2), rankings=3, noise=0.3))
    settings = {"rankings": rankings, "tasks": tasks, "baseline": "zero", "confidence": 0.95, "seed": 0}
    outputs = {name: tmp_path / f"{name}.parquet" for name in ("curve", "areas", "tests")}
    done = run_script("sufficiency_summary", settings, raw=raw[::-1], **outputs)
    assert done.returncode == 0, done.stderr
    areas = pl.read_parquet(outputs["areas"])
    assert areas.select("method", "task").rows() == [(method, task) for method in rankings for task in tasks]
    assert set(areas["baseline"]) == {"zero"}
    curve = pl.read_parquet(outputs["curve"])
    assert curve.filter(method=RANDOM, task="t0").height == 3 * 5
    assert pl.read_parquet(outputs["tests"]).height == 2 * (1 + 3 + 3)
    done = run_script("sufficiency_summary", settings, raw=raw[:-1], **outputs)
    assert "no knock-out file of random, t0 was given; run knock_out first" in done.stderr
