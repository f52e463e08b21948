"""Ranks and split-half reliability: values by hand, a slow version, coverage by simulation."""

import itertools
import math
import statistics

import numpy as np
import polars as pl
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.evidence.reliability import paired_seeds, questions_needed, split_half
from headatlas.files.effects import write_learned
from headatlas.files.scores import read_task
from headatlas.stats.ranking import correlation, jaccard, overlap, rank_correlation, ranks, top
from script_runs import run_script, write_effects

OPTIONS = {"halves": 50, "confidence": 0.95, "seed": (0,)}


def slow_ranks(values):
    return [sum(v < value for v in values) + (1 + sum(v == value for v in values)) / 2 for value in values]


def test_ranks_share_ties():
    assert ranks(np.array([3.0, 1, 3, -2])).tolist() == [3.5, 2, 3.5, 1]
    values = np.random.default_rng(0).integers(0, 6, size=(3, 4, 11))
    slow = [[slow_ranks(row.tolist()) for row in block] for block in values]
    assert np.array_equal(ranks(values), np.array(slow))


def test_rank_correlation_by_hand():
    # Without ties 1 - 6 sum d^2 / (n (n^2 - 1)): d = 0, 1, -1, 0 -> 1 - 12 / 60
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([10.0, 30, 20, 99])) == pytest.approx(0.8)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([-1.0, -2, -3])) == pytest.approx(-1)
    assert math.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


def test_rank_correlation_with_ties_is_the_plain_correlation_of_ranks():
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.integers(0, 5, size=(2, 9)).astype(float)
        expected = statistics.correlation(slow_ranks(a.tolist()), slow_ranks(b.tolist()))
        assert rank_correlation(a, b) == pytest.approx(expected)


def test_top_overlap_and_jaccard_by_hand():
    importance = np.array([0.1, 0.4, 0.1, 0.0, 0.4])
    assert top(importance, 3).tolist() == [1, 4, 0]
    assert top(importance, 5).tolist() == [1, 4, 0, 2]  # importance 0 is never among the top
    assert overlap(np.array([1, 2, 3, 4]), np.array([3, 4, 9])) == 0.5
    assert jaccard(np.array([1, 2, 3, 4]), np.array([3, 4, 9])) == pytest.approx(2 / 5)
    assert math.isnan(jaccard(np.array([]), np.array([])))


def slow_reliability(effects: list[list[float]], questions: list[int]) -> float:
    """Every split into halves of the questions, in plain Python."""
    names = sorted(set(questions))
    correlations = []
    for chosen in itertools.combinations(names, len(names) // 2):
        sides = []
        for inside in (True, False):
            rows = [e for e, q in zip(effects, questions, strict=True) if (q in chosen) == inside]
            sides.append([statistics.mean(column) for column in zip(*rows, strict=True)])
        correlations.append(statistics.correlation(*map(slow_ranks, sides)))
    r = statistics.mean(correlations)
    return 2 * r / (1 + r)


def test_reliability_agrees_with_all_splits_done_slowly():
    rng = np.random.default_rng(4)
    questions = np.array([0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7])
    effects = rng.normal(size=(11, 12)) + np.arange(12) / 4
    found, low, high = split_half(effects, questions, **{**OPTIONS, "halves": 4000})
    assert found == pytest.approx(slow_reliability(effects.tolist(), questions.tolist()), abs=0.01)
    assert low < found < high


def test_perfect_and_absent_reliability():
    heads = np.random.default_rng(0).normal(size=64)
    assert split_half(np.tile(heads, (20, 1)), np.arange(20), **OPTIONS) == pytest.approx((1, 1, 1))
    noise = np.random.default_rng(0).normal(size=(100, 1024))
    found, low, high = split_half(noise, np.arange(100), **OPTIONS)
    assert abs(found) < 0.1
    assert low < 0 < high


def test_items_of_one_question_stay_in_one_half():
    """Duplicated items of pure noise would look reliable if they fell into both halves."""
    noise = np.random.default_rng(0).normal(size=(40, 200))
    found, _, _ = split_half(np.repeat(noise, 5, axis=0), np.repeat(np.arange(40), 5), **OPTIONS)
    as_items, _, _ = split_half(np.repeat(noise, 5, axis=0), np.arange(200), **OPTIONS)
    assert abs(found) < 0.3 < as_items


def test_too_little_to_split_is_unknown():
    assert np.isnan(split_half(np.ones((7, 3)), np.arange(7), **OPTIONS)).all()
    assert np.isnan(split_half(np.ones((30, 3)), np.arange(30), **OPTIONS)).all()


def test_interval_covers_the_reliability_of_new_questions():
    rng = np.random.default_rng(0)
    heads = rng.standard_t(3, size=64) * 0.2

    def draw():
        return heads + rng.normal(size=(80, 64))

    truth = np.mean([rank_correlation(draw().mean(axis=0), draw().mean(axis=0)) for _ in range(1000)])
    found = np.array([split_half(draw(), np.arange(80), **OPTIONS) for _ in range(150)])
    assert found[:, 0].mean() == pytest.approx(truth, abs=0.02)
    assert 0.89 <= ((found[:, 1] <= truth) & (truth <= found[:, 2])).mean() <= 1


def test_correlation_by_hand():
    # Deviations -1, 0, 1 and -2, -1, 3: 5 / sqrt(2 * 14)
    assert correlation(np.array([1.0, 2, 3]), np.array([0.0, 1, 5])) == pytest.approx(5 / math.sqrt(28))
    assert math.isnan(correlation(np.ones(3), np.arange(3.0)))


def test_reliability_of_values_is_the_share_of_variance_that_heads_have_of_their_own():
    """Heads of variance 1, questions that scatter by 5 around them: 1 / (1 + 25 / n), 0.9 with n = 225."""
    rng = np.random.default_rng(0)
    heads = 20 + rng.normal(size=2000)  # all positive: importance is the effect
    for n in (50, 225):
        found, low, high = split_half(heads + 5 * rng.normal(size=(n, 2000)), np.arange(n), of="values", **OPTIONS)
        assert found == pytest.approx(1 / (1 + 25 / n), abs=0.015)
        assert low < found < high
        assert questions_needed(found, n) == pytest.approx(225, rel=0.1)


def test_questions_needed_by_hand():
    assert questions_needed(0.5, 100) == 900
    assert questions_needed(0.75, 30) == 90
    assert questions_needed(0.9, 77) == 77
    assert questions_needed(0.95, 57) == 27
    assert questions_needed(1.0, 50) == 1
    assert [questions_needed(r, 50) for r in (0.0, -0.5, math.nan)] == [None] * 3


def test_values_count_heads_by_their_size_and_ranks_all_alike():
    """Four hot heads over noise: their values come back, the order of the sixty others does not."""
    rng = np.random.default_rng(0)
    heads = np.append([4.0, -3, 2, -1], np.zeros(60))
    effects = heads + rng.normal(size=(100, 64))
    ranking, values = (split_half(effects, np.arange(100), of=of, **OPTIONS)[0] for of in ("ranking", "values"))
    assert values > 0.97 > 0.6 > ranking


def test_interval_of_values_covers_the_reliability_of_new_questions():
    rng = np.random.default_rng(0)
    heads = rng.standard_t(3, size=64) * 0.2

    def draw():
        return heads + rng.normal(size=(80, 64))

    def once():
        return correlation(*(np.abs(draw().mean(axis=0)) for _ in range(2)))

    truth = np.mean([once() for _ in range(1000)])
    found = np.array([split_half(draw(), np.arange(80), of="values", **OPTIONS) for _ in range(150)])
    assert found[:, 0].mean() == pytest.approx(truth, abs=0.03)
    assert 0.89 <= ((found[:, 1] <= truth) & (truth <= found[:, 2])).mean() <= 1


def test_blocks_of_layers_are_put_together_in_order(tmp_path):
    effect = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    folder = tmp_path / "ablation"
    write_effects(folder / "logic.layers-0-1.safetensors", effect[:, :2])
    write_effects(folder / "logic.layers-2-4.safetensors", effect[:, 2:], first_layer=2)
    write_effects(folder / "logic.layers-0-4.safetensors", -effect)  # left behind by larger blocks
    names = ["{task}.layers-0-1.safetensors", "{task}.layers-2-4.safetensors"]
    for order in (names, names[::-1]):
        read = read_task(folder, order, "logic")
        assert np.array_equal(read.effect, effect)
        assert read.layers == range(5)
    write_effects(folder / "late.safetensors", effect[:, :1], first_layer=3)
    with pytest.raises(HeadAtlasError, match="layer 1 is followed by layer 3"):
        read_task(folder, [names[0], "late.safetensors"], "logic")
    write_effects(folder / "other.safetensors", effect[:, 2:], first_layer=2, question=[0, 0])
    with pytest.raises(HeadAtlasError, match="different items"):
        read_task(folder, [names[0], "other.safetensors"], "logic")
    with pytest.raises(HeadAtlasError, match=r"maths\.layers-0-1\.safetensors: no such effects file; run that method"):
        read_task(folder, names, "maths")


def test_script(tmp_path):
    rng = np.random.default_rng(0)
    heads = rng.normal(size=(3, 4))
    for task, noise in (("steady", 0.1), ("noise", 1e6)):
        effect = heads + noise * rng.normal(size=(60, 3, 4))
        noisy = write_effects(tmp_path / "probe" / f"{task}.safetensors", effect)
    settings = {"effects": {"probe": ["{task}.safetensors"]}, "tasks": ["steady", "noise"], "items": "all"}
    settings |= OPTIONS | {"seed": 0}
    done = run_script("reliability", settings, effects=tmp_path, table=tmp_path / "r.parquet")
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(tmp_path / "r.parquet")
    names = ["reliability", "ci_low", "ci_high"]
    counts = ["n_questions", "questions_needed", "value_questions_needed"]
    assert table.columns == ["method", "task", *names, *(f"value_{name}" for name in names), *counts]
    assert table["n_questions"].to_list() == [60, 60]
    for kind in ("", "value_"):
        assert table[f"{kind}reliability"][0] > 0.95
        assert table[f"{kind}questions_needed"][0] < 60
        assert table[f"{kind}questions_needed"][1] == questions_needed(table[f"{kind}reliability"][1], 60)
    assert table["task"].to_list() == ["steady", "noise"]
    assert table["reliability"][0] > 0.95 > 0.7 > table["reliability"][1]
    noisy.unlink()
    done = run_script("reliability", settings, effects=tmp_path, table=tmp_path / "r.parquet")
    assert f"{noisy}: no such effects file; run that method on that task first" in done.stderr


def test_seeds_of_pairs_by_hand():
    """Rank correlations of the pairs: 1 and 0.8 (as above), mean 0.9; corrected 2 x 0.9 / 1.9."""
    scores = np.array([[1.0, 2, 3, 4], [5.0, 6, 7, 9], [1.0, 2, 3, 4], [10.0, 30, 20, 99]])
    assert paired_seeds(scores) == pytest.approx(1.8 / 1.9)
    assert paired_seeds(scores[[0, 2]], of="values") == pytest.approx(1)


def test_script_on_learned_maps(tmp_path):
    """Rows are seeds: no interval, and the questions are those behind them."""
    scores = np.array([[1.0, 2, 3, 4], [5.0, 6, 7, 9], [1.0, 2, 3, 4], [10.0, 30, 20, 99]], np.float32)
    (tmp_path / "gates").mkdir()
    write_learned(tmp_path / "gates" / "logic.safetensors", scores.reshape(4, 2, 2), n_items=90, n_questions=30)
    settings = {"effects": {"gates": ["{task}.safetensors"]}, "tasks": ["logic"], "items": "correct"}
    settings |= OPTIONS | {"seed": 0}
    done = run_script("reliability", settings, effects=tmp_path, table=tmp_path / "r.parquet")
    assert done.returncode == 0, done.stderr
    (row,) = pl.read_parquet(tmp_path / "r.parquet").to_dicts()
    assert (row["method"], row["n_questions"], row["ci_low"]) == ("gates", 30, None)
    assert row["reliability"] == pytest.approx(1.8 / 1.9)
    names = {"model": "m", "method": "gates", "task": "logic", "layer": 1}
    settings = names | {"items": "all", "confidence": 0.95, "null": False}
    done = run_script(
        "score_layer", settings, effects=tmp_path / "gates/logic.safetensors", scores=tmp_path / "s.parquet"
    )
    assert done.returncode == 0, done.stderr
    scored = pl.read_parquet(tmp_path / "s.parquet")
    assert scored["effect"].to_list() == pytest.approx([(3 + 7 + 3 + 20) / 4, (4 + 9 + 4 + 99) / 4])
    assert scored["std_error"][0] == pytest.approx(np.std([3, 7, 3, 20], ddof=1) / 2)
    assert scored.select("ci_low", "p_value").null_count().row(0) == (2, 2)
    assert scored.select("n_items", "n_questions").row(0) == (90, 30)
    assert scored["note"][0] == "mean and standard error over 4 seeds, not questions, so there is no interval"
