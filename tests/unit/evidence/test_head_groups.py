"""Groups beside the sums of their heads: means, paired intervals and q-values of questions worked out by hand."""

import numpy as np
import pytest
from headatlas.evidence.head_groups import GroupEffects, head_groups
from headatlas.files.effects import write_effects
from headatlas.stats.head_statistics import head_statistics
from headatlas.stats.multiple_testing import benjamini_hochberg
from script_runs import run_script

N = 24  # questions
NOISE = np.where(np.arange(N) % 2, 0.1, -0.1)


def found(n: int = N) -> GroupEffects:
    """One layer of two groups of two heads; the layer above has no attention.

    The first group does 3 where its heads do 1 + noise and 0.5; the second does the sum of its heads.
    """
    heads, groups = np.full((n, 2, 4), np.nan, np.float32), np.full((n, 2, 2), np.nan, np.float32)
    heads[:, 0] = np.stack([1 + NOISE[:n], np.full(n, 0.5), NOISE[:n], 2 * NOISE[:n]], -1)
    groups[:, 0] = np.stack([np.full(n, 3.0), 3 * NOISE[:n]], -1)
    return GroupEffects(groups, heads, np.arange(n))


def test_effect_sum_and_paired_difference():
    first, second = head_groups({"a": found()}, 0.95).to_dicts()
    assert [first[name] for name in ("task", "layer", "group", "first_head", "last_head")] == ["a", 0, 0, 0, 1]
    assert [second[name] for name in ("layer", "group", "first_head", "last_head")] == [0, 1, 2, 3]
    reach = 2.0686576 * 0.1 / np.sqrt(23)  # Student's t of 23 degrees of freedom; no skewness, so Hall's is the same
    assert [first[f"effect{end}"] for end in ("", "_low", "_high")] == [3, 3, 3]
    assert [first[f"sum{end}"] for end in ("", "_low", "_high")] == pytest.approx([1.5, 1.5 - reach, 1.5 + reach])
    assert [first[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx(
        [1.5, 1.5 - reach, 1.5 + reach]
    )
    # The second group's noise is that of its heads, so nothing is left of the difference.
    assert second["difference"] == pytest.approx(0, abs=1e-7)
    assert (first["n_items"], first["n_questions"]) == (N, N)


def test_q_values_are_over_the_groups_of_a_task():
    rng = np.random.default_rng(0)
    heads = rng.normal(0.1, 0.3, (N, 3, 4)).astype(np.float32)
    groups = (heads.reshape(N, 3, 2, 2).sum(-1) + rng.normal(0.1, 0.3, (N, 3, 2))).astype(np.float32)
    table = head_groups({"a": GroupEffects(groups, heads, np.arange(N))}, 0.95)
    apart = (groups.astype(np.float64) - heads.astype(np.float64).reshape(N, 3, 2, 2).sum(-1)).reshape(N, -1)
    p_values = head_statistics(apart, np.arange(N), confidence=0.95).p_value
    assert table["p_value"].to_list() == pytest.approx(p_values.tolist())
    assert table["q_value"].to_list() == pytest.approx(benjamini_hochberg(p_values).tolist())


def test_few_questions_have_neither_interval_nor_test():
    row = head_groups({"a": found(10)}, 0.95).to_dicts()[0]
    assert row["effect"] == 3
    assert all(np.isnan(row[name]) for name in ("effect_low", "difference_high", "p_value", "q_value"))


def test_the_script_reads_blocks_of_layers_and_leaves_out_wrong_answers(tmp_path):
    import polars as pl

    kept, correct = found(), np.arange(N) != 3
    question = np.arange(N)
    (tmp_path / "ablation").mkdir()
    for layer in range(2):
        file = tmp_path / f"ablation/a.layers-{layer}-{layer}.safetensors"
        write_effects(file, kept.heads[:, layer : layer + 1], question, correct, [1], layer)
    write_effects(tmp_path / "a.safetensors", kept.groups, question, correct, [1])
    names = [f"{{task}}.layers-{layer}-{layer}.safetensors" for layer in range(2)]
    settings = {"tasks": ["a"], "effects": names, "items": "correct", "confidence": 0.95}
    options = {"groups": tmp_path / "a.safetensors", "effects": tmp_path / "ablation", "table": tmp_path / "t.parquet"}
    run_script("head_groups", settings, **options)
    first = pl.read_parquet(tmp_path / "t.parquet").to_dicts()[0]
    assert first["n_items"] == N - 1
    assert first["sum"] == pytest.approx(1.5 + np.delete(NOISE, 3).mean())
