"""Tables of what heads do, and the overlap of roles with hot heads: counts, chances and correlations by hand."""

from math import comb

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.roles import Map, heads_table, mean_of_items, role_overlap, roles_table
from headatlas.files.effects import write_effects
from headatlas.files.roles import OF_ITEMS, SCORES, Roles, TaskRoles, write_roles
from headatlas.stats.head_statistics import head_statistics
from script_runs import run_script

N = 24  # questions
LAYERS, HEADS = 5, 8  # the last layer has no attention
EXIST = (LAYERS - 1) * HEADS


def scores(values) -> np.ndarray:
    """[layer, head] of the heads that exist, NaN in the last layer."""
    full = np.full((LAYERS, HEADS), np.nan)
    full[:-1] = np.asarray(values, dtype=float).reshape(LAYERS - 1, HEADS)
    return full


def of_items(values) -> np.ndarray:
    """The same for every item: [item, layer, head]."""
    return np.repeat(scores(values)[None], N, 0)


RISING = np.arange(EXIST) / EXIST


def found() -> Roles:
    """Head 31 is the strongest induction head, head 0 the strongest previous-token head; direct effects have noise."""
    sequences = dict.fromkeys(SCORES, scores(RISING)) | {"previous_token": scores(RISING[::-1])}
    sequences["duplicate_token"] = scores(np.zeros(EXIST))
    ids = np.arange(LAYERS * HEADS * 2).reshape(LAYERS, HEADS, 2)
    ids[-1] = -1
    noise = np.where(np.arange(N) % 2, 0.1, -0.1)[:, None, None]
    task = dict.fromkeys(OF_ITEMS, of_items(RISING)) | {"direct": of_items(-RISING) + noise}
    half = of_items(RISING)
    half[: N // 2] = np.nan
    few = half.copy()
    few[N // 2] = np.nan
    task |= {"retrieval_score": half, "span_mass": few}
    about = {"without_attention": [LAYERS - 1], "sequences": {}, "unknown": None}
    return Roles(sequences, {"promoted": ids, "suppressed": ids + 1}, {"a": TaskRoles(task, np.arange(N))}, about)


def test_heads_have_their_scores_and_the_texts_of_their_tokens():
    table = heads_table("m", found().with_texts(lambda token: f"<{token}>"))
    row, absent = (table.filter(layer=layer, head=3).row(0, named=True) for layer in (1, LAYERS - 1))
    assert table.columns == ["model", "layer", "head", *SCORES, "promoted", "suppressed"]
    assert row["model"] == "m"
    assert row["induction"] == pytest.approx(11 / EXIST)
    assert row["previous_token"] == pytest.approx(20 / EXIST)
    assert (row["promoted"], row["suppressed"]) == (["<22>", "<23>"], ["<23>", "<24>"])
    assert absent["promoted"] is None
    assert np.isnan(absent["induction"])


def test_roles_on_a_task_have_means_and_intervals_over_questions():
    table = roles_table(found(), 0.95)
    row = table.filter(layer=1, head=3).row(0, named=True)
    noise = np.where(np.arange(N) % 2, 0.1, -0.1)
    expected = head_statistics((noise - 11 / EXIST)[:, None], np.arange(N), confidence=0.95)
    assert row["direct"] == pytest.approx(-11 / EXIST)
    assert [row["direct_low"], row["direct_high"]] == pytest.approx([expected.ci_low[0], expected.ci_high[0]])
    assert row["retrieval_score"] == pytest.approx(11 / EXIST)  # half of the items have it
    assert np.isnan(row["span_mass"])  # fewer than half have it
    assert (row["n_items"], row["n_questions"]) == (N, N)
    assert np.isnan(table.filter(layer=LAYERS - 1)["direct"].to_numpy()).all()


def test_mean_over_the_items_that_have_a_score():
    values = np.array([1.0, 3.0, np.nan, np.nan])[:, None, None]
    assert mean_of_items(values).item() == 2
    assert np.isnan(mean_of_items(np.array([1.0, np.nan, np.nan])[:, None, None]).item())


def test_hot_heads_among_the_strongest_of_a_role():
    """The ten hottest are heads 22 to 31; a quarter of the heads, 8, count as strongest."""
    maps = {("ablation", "a"): Map(scores(RISING), None)}
    table = role_overlap(found(), maps, 0.25, 0.95)
    rows = {row["role"]: row for row in table.iter_rows(named=True)}
    induction, previous = rows["induction"], rows["previous_token"]
    assert (induction["heads"], induction["hottest"], induction["strongest"], induction["shared"]) == (32, 10, 8, 8)
    assert induction["expected"] == pytest.approx(10 * 8 / 32)
    assert induction["p_value"] == pytest.approx(comb(10, 8) / comb(32, 8))
    assert induction["rank_correlation"] == pytest.approx(1)
    assert (previous["shared"], previous["p_value"]) == (0, pytest.approx(1))
    assert previous["rank_correlation"] == pytest.approx(-1)
    assert rows["direct"]["shared"] == 8  # by its size: these heads write against the answer
    assert (rows["duplicate_token"]["strongest"], rows["duplicate_token"]["expected"]) == (0, 0)  # no head has it
    assert np.isnan(rows["duplicate_token"]["rank_correlation"])
    assert "retrieval_score" in rows
    assert "span_mass" not in rows
    # Holm: the four smallest of seven p-values are equal.
    assert induction["p_adjusted"] == pytest.approx(7 * induction["p_value"])


def test_the_interval_of_the_rank_correlation_is_over_questions():
    """Without any one group, the same order: no spread. With one order turned round: the jackknife by hand."""
    same = np.repeat(RISING[None], 4, 0)
    turned = same.copy()
    turned[0, :2] = turned[0, 1::-1]
    table = {}
    for name, left_out in (("same", same), ("turned", turned)):
        maps = {("ablation", "a"): Map(scores(RISING), left_out)}
        rows = role_overlap(found(), maps, 0.25, 0.95).filter(role="previous_token")
        table[name] = rows.select("rank_correlation", "ci_low", "ci_high").row(0)
    assert table["same"] == pytest.approx((-1, -1, -1))
    one = -1 + 6 * 2 / (EXIST * (EXIST**2 - 1))  # two neighbours swapped: the sum of squared differences falls by 2
    z = np.arctanh(np.clip([one, -1, -1, -1], -1 + 1e-9, 1 - 1e-9))
    error = np.sqrt(3 / 4 * ((z - z.mean()) ** 2).sum())
    whole = np.arctanh(-1 + 1e-9)
    reach = 3.182446 * error  # Student's t of 3 degrees of freedom
    assert table["turned"] == pytest.approx((-1, np.tanh(whole - reach), np.tanh(whole + reach)), abs=1e-6)


def test_the_script_reads_effects_and_texts_of_tokens(tmp_path):
    write_roles(tmp_path / "roles.safetensors", found().with_texts(lambda token: f"<{token}>"))
    (tmp_path / "effects/ablation").mkdir(parents=True)
    effects = np.where(np.isnan(of_items(RISING)), np.nan, of_items(RISING)).astype(np.float32)
    write_effects(tmp_path / "effects/ablation/a.safetensors", effects, np.arange(N), np.ones(N), [LAYERS - 1])
    settings = {"name": "m", "effects": {"ablation": ["{task}.safetensors"]}, "tasks": ["a"]}
    settings |= {"items": "all", "top": 0.25, "confidence": 0.95, "seed": 0}
    names = ("heads", "table", "overlap")
    files = {name: tmp_path / f"{name}.parquet" for name in names}
    run_script("head_roles", settings, roles=tmp_path / "roles.safetensors", effects=tmp_path / "effects", **files)
    heads, table, overlap = (pl.read_parquet(files[name]) for name in names)
    assert heads.filter(layer=1, head=3)["promoted"].to_list() == [["<22>", "<23>"]]
    assert heads["induction"].null_count() == HEADS
    assert table["span_mass"].null_count() == table.height
    row = overlap.filter(role="induction").row(0, named=True)
    assert (row["shared"], row["rank_correlation"]) == (8, pytest.approx(1))
    assert row["ci_low"] == pytest.approx(1)
