"""Agreement of maps: values by hand, and a null that keeps the layers."""

import math

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.agreement import (
    method_agreement,
    shuffles_within_layers,
    task_overlap,
    with_adjusted,
    within_layer_p_value,
)
from importance_samples import importance
from script_runs import run_script


def heads(task: str, *effects: float) -> list[tuple]:
    """Four heads a layer, in order."""
    return [(task, i // 4, i % 4, float(effect), 0.5) for i, effect in enumerate(effects)]


def test_agreement_and_overlap_by_hand():
    same = heads("a", 8, 7, -6, 5, 4, 3, 2, 1) + heads("b", 1, 2, 3, 4, 5, 6, 7, 8)
    mixed = heads("a", 7, 8, 5, 6, 4, 3, 2, 1) + heads("b", 1, 2, 3, 4, 5, 6, 7, 8)
    table = pl.concat([importance(same, "ablation"), importance(mixed, "probe")])
    found = method_agreement(table, 0.4, 200, 0)  # k = round(3.2) = 3
    names = ["task", "method_a", "method_b", "rank_correlation", "overlap", "k", "p_value"]
    hottest = ["same_sign", "hottest_rank", "hottest_ratio", "same_unit"]
    assert found.columns == [*names, *hottest, "p_adjusted"]
    assert found.rows()[0][:3] == ("a", "ablation", "probe")
    # d = 1, 1, 1, 1 and zeros: 1 - 6 * 4 / (8 * 63); tops {0, 1, 2} and {1, 0, 3}
    assert found["rank_correlation"].to_list() == pytest.approx([1 - 24 / 504, 1.0])
    assert found["overlap"].to_list() == pytest.approx([2 / 3, 1.0])
    assert found["k"].to_list() == [3, 3]
    tasks = task_overlap(table, 0.4, 200, 0)
    assert tasks.rows()[0][:3] == ("ablation", "a", "b")
    assert tasks["rank_correlation"].to_list() == pytest.approx([-1.0, -1 + 24 / 504])
    assert tasks["jaccard"].to_list() == [0, 0]
    assert task_overlap(table, 0.6, 200, 0)["jaccard"][0] == pytest.approx(2 / 8)  # k = 5: two of eight in both


def test_signs_and_rank_of_the_hottest_heads_by_hand():
    """Importance hides it: both methods rank the heads equally, with opposite signs for the hottest."""
    exact = heads("a", 8, 7, -6, 5, 4, 3, 2, 1)
    estimate = heads("a", -2, 6, -5, 0, 3, 2.5, 1, 1.5)
    table = pl.concat([importance(exact, "ablation"), importance(estimate, "attribution")])
    row = method_agreement(table, 0.5, 50, 0).row(0, named=True)
    assert row["same_sign"] == 2 / 4  # of 8, 7, -6, 5: the first turned round, the last gone
    assert row["hottest_rank"] == 5  # |-2| after 6, 5, 3, 2.5
    assert row["hottest_ratio"] == -2 / 8
    assert row["same_unit"]
    table = pl.concat([importance(exact, "ablation"), importance(estimate, "probe")])
    assert not method_agreement(table, 0.5, 50, 0)["same_unit"][0]


def test_a_map_without_importance_gives_unknown_not_zero():
    table = importance(heads("a", *range(8)) + heads("b", *[0] * 8)).with_columns(pl.col("importance").fill_nan(0))
    row = task_overlap(table, 0.25, 50, 0).row(0, named=True)
    assert math.isnan(row["rank_correlation"])
    assert math.isnan(row["p_value"])
    assert row["jaccard"] == 0


def test_adjusted_p_values_are_of_a_family_of_all_its_rows():
    rows = pl.DataFrame({"method": ["x", "y", "x", "x"], "p_value": [0.04, 0.04, 0.01, float("nan")]})
    found = with_adjusted(rows, ["method"])
    assert found["method"].to_list() == rows["method"].to_list()
    assert found["p_adjusted"].to_list()[:3] == pytest.approx([0.04, 0.04, 0.02])  # two tests of x, one of y
    assert math.isnan(found["p_adjusted"][3])


def test_agreement_on_layers_alone_is_not_called():
    rng = np.random.default_rng(0)
    layer = np.repeat(np.arange(8), 8)
    called, alike = 0, 0
    for _ in range(300):
        left, right = layer + rng.random((2, 64)) * 2  # both rise with depth; heads within a layer are unrelated
        p = within_layer_p_value(left, right, shuffles_within_layers(layer, 200, rng))
        called += p <= 0.05
        alike += np.corrcoef(left, right)[0, 1] > 0.8
    assert alike == 300
    assert called <= 300 * 0.05 + 3.5 * math.sqrt(300 * 0.05 * 0.95)


def test_agreement_within_layers_is_called():
    rng = np.random.default_rng(0)
    layer, shared = np.repeat(np.arange(8), 8), rng.random(64)
    left, right = shared + 0.3 * rng.random((2, 64))
    assert within_layer_p_value(left, right, shuffles_within_layers(layer, 999, rng)) == pytest.approx(0.001)


def test_shuffles_keep_every_head_in_its_layer():
    rng = np.random.default_rng(0)
    layer = rng.integers(4, size=30)
    shuffles = shuffles_within_layers(layer, 50, rng)
    assert (layer[shuffles] == layer).all()
    assert (np.sort(shuffles, axis=1) == np.arange(30)).all()
    assert len(np.unique(shuffles, axis=0)) == 50


def test_order_of_heads_is_of_no_matter_to_the_null():
    rng = np.random.default_rng(0)
    layer, shared = np.repeat(np.arange(8), 8), rng.random(64)
    left, right = layer + shared + 0.3 * rng.random((2, 64))
    mixed = rng.permutation(64)
    p = within_layer_p_value(left[mixed], right[mixed], shuffles_within_layers(layer[mixed], 999, rng))
    assert p == pytest.approx(0.001)


def test_script(tmp_path):
    importance(heads("a", *range(8)) + heads("b", *range(8))).write_parquet(tmp_path / "i.parquet")
    settings = {"top": 0.25, "permutations": 100, "seed": 0}
    outputs = {"agreement": tmp_path / "a.parquet", "overlap": tmp_path / "o.parquet"}
    done = run_script("compare_maps", settings, importance=tmp_path / "i.parquet", **outputs)
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(outputs["agreement"]).height == 0  # one method: nothing to compare
    assert pl.read_parquet(outputs["overlap"])["jaccard"].to_list() == [1.0]
