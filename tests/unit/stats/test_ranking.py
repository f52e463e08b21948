"""The hottest heads of a map, by hand."""

import json

import numpy as np
import pytest
from headatlas.stats.ranking import at_least_common, hottest
from script_runs import run_script, write_effects


def test_the_hottest_heads_are_the_largest_in_size_and_ties_go_by_layer_and_head():
    effect = np.array([[0.1, -0.5, 0.0, 0.2], [0.2, 0.0, 0.0, 0.0]])
    assert hottest(effect, 0.5) == [(0, 1), (0, 3), (1, 0), (0, 0)]
    assert hottest(effect, 0.01) == [(0, 1)]  # at least one
    assert hottest(np.zeros((1, 4)), 0.5) == [(0, 0), (0, 1)]


def test_layers_without_attention_have_no_hot_head_and_are_not_counted():
    effect = np.array([[np.nan] * 4, [0.1, 0.2, 0.3, 0.4]])
    assert hottest(effect, 0.5) == [(1, 3), (1, 2)]


def test_the_script_ranks_by_mean_effects_over_the_blocks_of_layers(tmp_path):
    """A head whose effects cancel over items is not hot."""
    folder = tmp_path / "effects/ablation"
    write_effects(folder / "a.layers-0-0.safetensors", [[[1.0, 0.1]], [[-1.0, 0.3]]])
    write_effects(folder / "a.layers-1-1.safetensors", [[[-0.4, 0.0]], [[-0.4, 0.1]]], first_layer=1)
    names = ["{task}.layers-0-0.safetensors", "{task}.layers-1-1.safetensors"]
    settings = {"effects": {"ablation": names}, "tasks": ["a"], "items": "all", "top": 0.5}
    done = run_script("choose_hottest", settings, effects=tmp_path / "effects", heads=tmp_path / "heads.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "heads.json").read_text()) == {"a": [[1, 0], [0, 1]]}


def test_common_heads_of_random_sets():
    """Of 4 heads, two sets of 2 share both in 1 of 6 cases, one or more in 5, any number in all."""
    assert [at_least_common(common, 2, 2, 4) for common in (2, 1, 0)] == pytest.approx([1 / 6, 5 / 6, 1])
    assert at_least_common(3, 2, 2, 4) == 0
