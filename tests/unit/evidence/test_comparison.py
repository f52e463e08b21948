"""Models side by side: values by hand, planted depths, coverage by simulation, the tool."""

import json
import math

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.comparison import (
    ALL_TASKS,
    Mapped,
    centre,
    layer_profile,
    pairs,
    profile_correlation,
    side_by_side,
)
from headatlas.evidence.summary import layer_profile as profile_table
from headatlas.stats.jackknife import correlation_interval
from importance_samples import importance
from script_runs import run_script, write_effects

OPTIONS = {"confidence": 0.95, "permutations": 1000, "seed": 0}


def test_profiles_and_centres_by_hand():
    effect = np.array([[1.0, -1], [0, 2], [3, -1]])
    assert layer_profile(effect).tolist() == [0.25, 0.25, 0.5]
    assert centre(layer_profile(effect)) == pytest.approx(0.125 + 0.5)  # depths 0, 1/2, 1
    rows = [("a", layer, head, float(effect[layer, head]), 0.5) for layer in range(3) for head in range(2)]
    assert profile_table(importance(rows), {("ablation", "a"): None}, 0.95)["share"].to_list() == [0.25, 0.25, 0.5]
    assert np.isnan(layer_profile(np.zeros((3, 2)))).all()


def test_profiles_of_unequal_length_are_compared_over_relative_depth():
    """Four layers at depths 0, 1/3, 2/3, 1, seven at steps of 1/6: every second of these lies half way between."""
    short, long = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.25, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05])
    read = np.array([0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1])
    expected = np.corrcoef(read, long)[0, 1]
    assert profile_correlation(short, long) == pytest.approx(expected)
    assert profile_correlation(long, short) == pytest.approx(expected)
    assert profile_correlation(short, np.array([0.0, 0.1, 0.2, 0.3])) == pytest.approx(-1)
    assert math.isnan(profile_correlation(short[:3], long))  # any three layers are similar
    both = profile_correlation(np.stack([short, short[::-1]]), np.stack([long, long]))
    assert both == pytest.approx([expected, np.corrcoef(read[::-1], long)[0, 1]])


def planted(depth: float, layers: int, rng, n: int = 100, noise: float = 0.3) -> np.ndarray:
    """Effects [question, layer, 4 heads] around a relative depth."""
    strength = np.exp(-(((np.linspace(0, 1, layers) - depth) / 0.2) ** 2))
    return strength[:, None] * np.array([1, 0.8, 0.4, 0.2]) + noise * rng.normal(size=(n, layers, 4))


def mapped(effects: np.ndarray) -> Mapped:
    return Mapped(effects, [f"q{i:03}" for i in range(len(effects))])


def test_tasks_that_lie_equally_deep_in_both_models_are_found_and_a_shifted_one_too():
    rng = np.random.default_rng(0)
    depths = {"early": 0.1, "late": 0.9, "middle": 0.5, "first": 0.0, "moved": 0.3}
    a = {("probe", task): mapped(planted(depth, 6, rng)) for task, depth in depths.items()}
    depths["moved"] = 0.7
    b = {("probe", task): mapped(planted(depth, 9, rng)) for task, depth in depths.items()}
    table = pairs({"small": a, "large": b}, **OPTIONS)
    assert table.select("model_a", "model_b", "method").unique().rows() == [("small", "large", "probe")]
    rows = {row["task"]: row for row in table.iter_rows(named=True)}
    assert list(rows) == [*depths, ALL_TASKS]
    for task in ("early", "late", "middle", "first"):
        assert rows[task]["profile_correlation"] > 0.9 > rows[task]["other_tasks"]
        assert rows[task]["ci_low"] < rows[task]["profile_correlation"] < rows[task]["ci_high"] <= 1
        assert rows[task]["p_value"] is None or math.isnan(rows[task]["p_value"])
    assert rows["moved"]["profile_correlation"] < 0.3
    assert rows["moved"]["centre_high"] < 0 < rows["moved"]["centre_p_adjusted"] + 1e-12 < 0.001
    assert min(rows[task]["centre_p_adjusted"] for task in ("late", "middle")) > 0.01
    everything = rows[ALL_TASKS]
    assert everything["profile_correlation"] == pytest.approx(
        np.mean([rows[task]["profile_correlation"] for task in depths])
    )
    assert everything["other_tasks"] < everything["ci_low"]
    assert everything["p_value"] <= 0.05


def test_all_tasks_alike_are_told_apart_by_chance_only():
    """Eight tasks at one depth: which task of the other model has the most similar profile is chance."""
    rng, p_values = np.random.default_rng(0), []
    for _ in range(60):
        a, b = ({("m", str(i)): mapped(planted(0.5, 6, rng, n=20, noise=1)) for i in range(5)} for _ in range(2))
        table = pairs({"a": a, "b": b}, 0.95, 120, 0)
        p_values.append(table.filter(task=ALL_TASKS)["p_value"][0])
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(p_values) <= 0.1) <= 0.1 + 2.5 * math.sqrt(0.09 / 60)


def test_intervals_cover_what_other_questions_give_and_equal_depths_seldom_differ():
    rng = np.random.default_rng(0)

    def draw():
        """Both models find the same questions hard."""
        hard = rng.normal(size=(80, 1, 1))
        return [planted(0.4, layers, rng, 80, 1) * (1 + 0.5 * hard) for layers in (6, 9)]

    def correlation_of(sides):
        return float(profile_correlation(*(layer_profile(side.mean(axis=0)) for side in sides)))

    drawn = [draw() for _ in range(400)]
    truth = np.mean([correlation_of(sides) for sides in drawn])
    difference = np.mean([np.subtract(*(centre(layer_profile(s.mean(axis=0))) for s in sides)) for sides in drawn])
    covered, depth = 0, 0
    for sides in drawn[:150]:
        row = pairs(dict(zip("ab", ({("m", "t"): mapped(s)} for s in sides), strict=True)), **OPTIONS).row(
            0, named=True
        )
        covered += row["ci_low"] <= truth <= row["ci_high"]
        depth += row["centre_low"] <= difference <= row["centre_high"]
    assert covered / 150 >= 0.9
    assert depth / 150 >= 0.9


def test_questions_shared_by_both_models_are_left_out_of_both():
    """The same effects in both models: no question can move one centre without the other."""
    effects = planted(0.4, 6, np.random.default_rng(0), 40, 1)
    row = pairs({m: {("m", "t"): mapped(effects)} for m in "ab"}, **OPTIONS).row(0, named=True)
    assert (row["centre_difference"], row["centre_low"], row["centre_high"], row["centre_p_adjusted"]) == (0, 0, 0, 1)
    assert row["profile_correlation"] == pytest.approx(1)
    assert correlation_interval(1.0, np.ones(20), 0.95)[0] > 0.999999
    apart = {"a": {("m", "t"): mapped(effects)}, "b": {("m", "t"): Mapped(effects, [f"other {i}" for i in range(40)])}}
    other = pairs(apart, **OPTIONS).row(0, named=True)
    assert other["centre_low"] < 0 < other["centre_high"]


def test_too_few_questions_or_layers_leave_blanks():
    few = {("m", "t"): mapped(np.ones((7, 6, 2)) * np.arange(6)[:, None])}
    row = pairs({"a": few, "b": few}, **OPTIONS).row(0, named=True)
    assert row["profile_correlation"] == pytest.approx(1)
    assert all(math.isnan(row[name]) for name in ("ci_low", "centre_low", "centre_p_adjusted"))
    shallow = {("m", t): mapped(planted(0.5, 2, np.random.default_rng(0))) for t in "tu"}
    table = pairs({"a": shallow, "b": shallow}, **OPTIONS)
    assert table["profile_correlation"].is_nan().all()
    assert table["centre_difference"].to_list()[:2] == [0, 0]


def summary(model: str, centre_in_layers: float) -> pl.DataFrame:
    row = {"model": model, "method": "ablation", "task": "t", "heads": 9, "significant": 3, "elbow": 2}
    for name in ("effective_heads", "gini", "top_1_percent", "top_5_percent"):
        row |= {name: 0.5, f"{name}_low": 0.4, f"{name}_high": 0.6}
    ends = {"layer_centre": centre_in_layers, "layer_centre_low": 0.0, "layer_centre_high": centre_in_layers + 1}
    return pl.DataFrame(row | ends)


def test_side_by_side_by_hand():
    merit = pl.DataFrame(
        {"method": ["ablation"], "dominance": [1.5], "ci_low": [1.0], "ci_high": [2.0], "p_value": 0.01}
    )
    table = side_by_side({"a": summary("a", 2.0), "b": summary("b", 2.0)}, {"a": 5, "b": 9}, {"a": merit})
    a, b = table.rows(named=True)
    assert (a["centre"], a["centre_low"], a["centre_high"]) == (0.5, 0, 0.75)
    assert (b["layers"], b["centre"]) == (9, 0.25)
    assert [a[f"dominance{end}"] for end in ("", "_low", "_high", "_p")] == [1.5, 1.0, 2.0, 0.01]
    assert b["dominance"] is None
    assert (a["effective_heads"], a["gini_low"], a["top_5_percent_high"], a["heads"], a["elbow"]) == (
        0.5,
        0.4,
        0.6,
        9,
        2,
    )


@pytest.mark.parametrize("with_dominance", [True, False])
def test_script(tmp_path, with_dominance):
    rng, results = np.random.default_rng(0), tmp_path / "results"
    profiles, given = [], {"summaries": [], "items": [], "effects": [], "dominances": []}
    for model, layers in (("ab", 6), ("a", 4)):
        given["summaries"].append(results / model / "summary.parquet")
        given["dominances"].append(results / model / "evidence/dominance.parquet")
        given["dominances"][-1].parent.mkdir(parents=True)
        summary(model, 1.0).write_parquet(given["summaries"][-1])
        pl.DataFrame(
            {"method": ["ablation"], "dominance": [1.5], "ci_low": [1.0], "ci_high": [2.0], "p_value": [0.01]}
        ).write_parquet(given["dominances"][-1])
        rows = [
            {"question_id": f"q{i // 2}", "split": "validate" if i % 10 > 7 else "score", "answer": "x"}
            for i in range(100)
        ]
        given["items"].append(results / model / "items/t.json")
        given["items"][-1].parent.mkdir()
        given["items"][-1].write_text(json.dumps({"task": "t", "counts": {}, "items": rows}))
        question = np.repeat(np.arange(40), 2)
        effects = planted(0.2, layers, rng, 80)
        given["effects"].append(results / model / "effects")
        write_effects(given["effects"][-1] / "ablation/t.safetensors", effects, question=question)
        profiles.append(layer_profile(effects.mean(axis=0)))
    settings = {"models": ["ab", "a"], "tasks": ["t"], "items": "all", **OPTIONS}
    settings["effects"] = {model: {"ablation": ["{task}.safetensors"]} for model in ("ab", "a")}
    outputs = {"table": "m.parquet", "csv": "m.csv", "paired": "p.parquet", "paired-csv": "p.csv"}
    outputs = {name: tmp_path / file for name, file in outputs.items()}
    if not with_dominance:
        del given["dominances"]
    done = run_script("compare_models", settings, **given, **outputs)
    assert done.returncode == 0, done.stderr
    models, paired = (pl.read_parquet(outputs[name]) for name in ("table", "paired"))
    assert models.select("model", "layers").rows() == [("ab", 6), ("a", 4)]
    assert models["centre"].to_list() == pytest.approx([1 / 5, 1 / 3])
    assert models["dominance"].to_list() == ([1.5, 1.5] if with_dominance else [None, None])
    assert paired["task"].to_list() == ["t", ALL_TASKS]
    assert paired["profile_correlation"].to_list() == pytest.approx([float(profile_correlation(*profiles))] * 2)
    assert paired["p_value"].to_list() == [None, None]  # one task: nothing to pair
    for name, table in (("csv", models), ("paired-csv", paired)):
        text = pl.read_csv(outputs[name])
        assert text.columns == table.columns
        assert text.height == table.height
