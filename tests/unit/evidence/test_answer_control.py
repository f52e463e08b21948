"""What heads carry: means, tests and verdicts of questions that can be worked out by hand."""

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.answer_control import answer_control, carried
from headatlas.files.patches import Patched, write_patches
from headatlas.stats.head_statistics import head_statistics
from script_runs import run_script

N = 24  # questions
NOISE = np.where(np.arange(N) % 2, 0.1, -0.1)  # mean 0, standard error 0.1 / sqrt(23)


def patched(*heads: tuple, n: int = N) -> Patched:
    """Heads by their two effects, each a number (on every question) or [question]."""
    effects = [np.array([np.broadcast_to(head[kind], n) for head in heads], np.float32) for kind in (0, 1)]
    return Patched([[2, head] for head in range(len(heads))], *effects, np.arange(n), {})


def test_means_intervals_and_the_paired_difference():
    found = answer_control({"a": patched((1 + NOISE, 0.0), (1 + NOISE, 0.25 + NOISE))}, 0.95)
    first, second = found.to_dicts()
    assert [(row["task"], row["rank"], row["layer"], row["head"]) for row in (first, second)] == [
        ("a", 1, 2, 0), ("a", 2, 2, 1),
    ]  # fmt: skip
    assert (first["n_items"], first["n_questions"]) == (N, N)
    reach = 2.0686576 * 0.1 / np.sqrt(23)  # Student's t of 23 degrees of freedom; no skewness, so Hall's is the same
    ends = [first[f"counterfactual{end}"] for end in ("", "_low", "_high")]
    assert ends == pytest.approx([1, 1 - reach, 1 + reach], abs=1e-6)
    assert [first[f"same_answer{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    # Noise that both patches share is no noise of their difference.
    assert [second[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx([0.75] * 3, abs=1e-6)


def test_p_values_are_adjusted_over_the_heads_of_a_task():
    rng = np.random.default_rng(1)
    weak, weaker = (mean + rng.normal(0, 0.2, N) for mean in (0.12, 0.09))
    tasks = {"a": patched((weak, 0.0), (weaker, 0.0)), "b": patched((weak, weaker))}
    rows = answer_control(tasks, 0.95).to_dicts()
    alone = [head_statistics(values.astype(np.float32)[:, None], np.arange(N), confidence=0.95).p_value[0]
             for values in (weak, weaker)]  # fmt: skip
    assert [row["p_value"] for row in rows[:2]] == pytest.approx(alone)
    low, high = sorted(alone)
    adjusted = {low: min(1, 2 * low), high: max(2 * low, high)}
    assert [row["p_adjusted"] for row in rows[:2]] == pytest.approx([adjusted[p] for p in alone])
    assert rows[2]["p_adjusted"] == rows[2]["p_value"]
    assert rows[2]["same_answer_p_adjusted"] == rows[2]["same_answer_p_value"] == pytest.approx(alone[1])
    assert rows[0]["same_answer_p_value"] == 1  # an effect of exactly 0


@pytest.mark.parametrize(
    ("counterfactual", "same_answer", "carries"),
    [
        (1 + NOISE, 0.0, "answer"),
        (1 + NOISE, 0.49 + NOISE, "answer"),  # most of its effect is gone
        (1 + NOISE, 0.51 + NOISE, None),  # significantly smaller, but most of it is left
        (-1 + NOISE, 0.0, "answer"),  # a head that hurts
        (1 + NOISE, 1 - NOISE, "question"),
        (1 + NOISE, 2 + NOISE, "question"),  # significantly larger
        (-1 + NOISE, 1 + NOISE, "question"),  # as large the other way
        (NOISE, NOISE, None),
        (0.0, 0.0, None),
        (NOISE, 1 + NOISE, "question"),
    ],
)
def test_what_a_head_carries(counterfactual, same_answer, carries):
    (row,) = answer_control({"a": patched((counterfactual, same_answer))}, 0.95).to_dicts()
    assert row["carries"] == carries


def test_the_rule_wants_a_significant_difference_and_a_significant_rest():
    assert carried(1.0, 0.4, different=False, remains=False) is None
    assert carried(1.0, 0.4, different=False, remains=True) == "question"
    assert carried(1.0, 0.4, different=True, remains=True) == "answer"
    assert carried(1.0, 0.5, different=True, remains=True) is None


def test_too_few_questions_decide_nothing():
    (row,) = answer_control({"a": patched((1.0, 0.0), n=19)}, 0.95).to_dicts()
    assert (row["counterfactual"], row["carries"]) == (1, None)
    assert np.isnan(row["p_adjusted"])


def test_the_script_writes_the_table_with_null_for_the_unknown(tmp_path):
    write_patches(tmp_path / "patches.safetensors", {"a": patched((1.0, 0.0), n=19)})
    done = run_script("answer_control", {"confidence": 0.95}, patches=tmp_path / "patches.safetensors",
                      table=tmp_path / "table.parquet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = pl.read_parquet(tmp_path / "table.parquet").to_dicts()
    assert (row["p_adjusted"], row["difference"], row["difference_low"]) == (None, 1, None)
