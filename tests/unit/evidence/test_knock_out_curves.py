"""Knock-outs: choice of sets, areas and matrices by hand, a planted model's diagonal, calibration."""

import math
from itertools import permutations

import numpy as np
import polars as pl
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.evidence.knock_out_curves import (
    areas,
    curve_weights,
    curves,
    dissociation,
    dominance,
    dominance_p_value,
)
from headatlas.evidence.knock_out_sets import choose_sets, k_grid
from headatlas.files.knock_outs import KnockOut, Target, read_knock_out, sets_of, write_knock_out
from safetensors.numpy import save_file
from script_runs import run_script

OPTIONS = {"resamples": 500, "confidence": 0.95, "seed": 0}


# ----- the sets


def test_grid_of_k():
    assert k_grid(64, 5) == [1, 2, 4, 5, 8, 16]
    assert k_grid(64, 40) == [1, 2, 4, 8, 16]  # too few others left to compare with
    assert k_grid(1, 1) == []


def test_sets_by_hand():
    importance = np.array([[5.0, 0, 1, 2], [2, 3, 4, 1.5]])
    sets = choose_sets(importance, np.ones((2, 4)), [2], draws=1, seed=(0,))
    assert [one["selection"] for one in sets] == ["none", "top", "bottom", "random", "random_norm"]
    assert sets[0]["heads"] == []
    assert sets[1]["heads"] == [[0, 0], [1, 2]]
    assert sets[2]["heads"] == [[0, 1], [0, 2]]
    assert sets[1]["k"] == 2


def test_top_heads_help_and_bottom_heads_do_nothing():
    effect = np.array([[-5.0, 0.1, 1], [2, -0.2, -4], [0.3, 1.5, -3]])
    sets = choose_sets(effect, np.ones((3, 3)), [2], draws=1, seed=(0,))
    assert sets[1]["heads"] == [[1, 0], [2, 1]]
    assert sets[2]["heads"] == [[0, 1], [1, 1]]


@pytest.mark.parametrize("k", [1, 4, 8, 16])
def test_random_sets_never_hold_a_chosen_head_and_match(k):
    rng = np.random.default_rng(0)
    importance, norms = rng.random((8, 8)), rng.random((8, 8))
    importance[3] += 1  # a crowded layer
    sets = choose_sets(importance, norms, [k], draws=10, seed=(1,))
    top = {tuple(head) for head in sets[1]["heads"]}
    top_layers = np.bincount([layer for layer, _ in top], minlength=8)
    drawn = set()
    for one in sets[3:]:
        heads = {tuple(head) for head in one["heads"]}
        assert len(heads) == one["k"] == k
        assert not heads & top
        drawn.add((one["selection"], frozenset(heads)))
        if one["selection"] == "random":
            layers = np.bincount([layer for layer, _ in heads], minlength=8)
            assert (layers >= np.minimum(top_layers, 8 - top_layers)).all()
    assert len(drawn) >= 10  # draws differ


def test_norm_matched_heads_are_near_in_norm():
    norms = np.arange(64.0).reshape(8, 8)
    importance = np.zeros((8, 8))
    importance[0, :3], importance[7, 7] = 1, 2
    for one in choose_sets(importance, norms, [4], draws=20, seed=(0,)):
        if one["selection"] == "random_norm":
            found = sorted(norms[layer, head] for layer, head in one["heads"])
            assert found[-1] >= 58
            assert found[2] <= 10


def test_too_many_heads_are_refused():
    with pytest.raises(ValueError, match="too few others"):
        choose_sets(np.ones((2, 2)), np.ones((2, 2)), [2], draws=1, seed=(0,))


# ----- a made-up model: knocking a head out costs its strength


def knock_out(task, targets, strengths, ks, seed=0, draws=10, noise=0.0, n=40, method="ablation") -> KnockOut:
    """Strengths [layer, head] of each target; the source task's map is its own strengths."""
    importance = np.abs(strengths[task])
    sets = choose_sets(importance, np.ones_like(importance), ks, draws, (seed,))
    results = {}
    for j, name in enumerate(targets):
        rng = np.random.default_rng((j, n))
        item = -1 + rng.normal(size=n)
        wanted = [i for i, one in enumerate(sets) if name == task or (one["k"], one["selection"]) in (
            (ks[-1], "top"), (ks[-1], "random"))]  # fmt: skip
        scale = 1 + noise * rng.normal(size=n)  # the same knock-out costs some items more than others
        cost = np.array([sum(strengths[name][tuple(head)] for head in sets[i]["heads"]) for i in wanted])
        score = item - cost[:, None] * scale
        results[name] = Target(np.array(wanted), score, score > -1.5, np.arange(n) // 2)
    return KnockOut(method, task, ks[-1], sets, results, {})


def planted(tasks: int, layers=4, heads=6) -> dict[str, np.ndarray]:
    """Each task has its own two heads, strength 1 and 0.5, in layers 0 and 1."""
    strengths = {f"t{i}": np.zeros((layers, heads)) for i in range(tasks)}
    for i, name in enumerate(strengths):
        strengths[name][0, i], strengths[name][1, i] = 1, 0.5
    return strengths


def test_file_round_trip_and_bad_files(tmp_path):
    made = knock_out("t0", ["t0", "t1"], planted(2), [1, 2])
    write_knock_out(tmp_path / "k.safetensors", made)
    read = read_knock_out(tmp_path / "k.safetensors")
    assert (read.method, read.task, read.dissociation_k, read.sets) == made[:4]
    written = (tmp_path / "k.safetensors").read_bytes()
    for _ in range(5):
        write_knock_out(tmp_path / "k.safetensors", made)
        assert (tmp_path / "k.safetensors").read_bytes() == written
    assert list(read.targets) == ["t0", "t1"]
    for name, target in made.targets.items():
        for ours, theirs in zip(target, read.targets[name], strict=True):
            assert theirs == pytest.approx(np.asarray(ours, dtype=theirs.dtype))
    save_file({"x": np.ones(2)}, tmp_path / "other")
    with pytest.raises(HeadAtlasError, match="not a knock-out file"):
        read_knock_out(tmp_path / "other")
    made.targets["t1"].score[0, 0] = np.nan
    write_knock_out(tmp_path / "k.safetensors", made)
    with pytest.raises(HeadAtlasError, match="on t1 are not finite"):
        read_knock_out(tmp_path / "k.safetensors")


def test_sets_of_finds_rows_in_order_of_draw():
    made = knock_out("t0", ["t0", "t1"], planted(2), [1, 2], draws=3)
    rows = sets_of(made, "t1", "random", 2)
    named = [made.sets[made.targets["t1"].sets[row]] for row in rows]
    assert [(one["selection"], one["k"], one["draw"]) for one in named] == [("random", 2, d) for d in range(3)]
    assert len(sets_of(made, "t1", "random", 1)) == 0


def test_curves_by_hand():
    made = knock_out("t0", ["t0"], planted(1), [1, 2], draws=2)
    table = curves([made], OPTIONS["confidence"])
    clean = made.targets["t0"].score[0].mean()
    value = {(s, d, k): v for s, d, k, v in table.select("selection", "draw", "k", "score").iter_rows()}
    assert [value[s, 0, 0] for s in ("top", "bottom", "random", "random_norm")] == [pytest.approx(clean)] * 4
    assert value["top", 0, 1] == pytest.approx(clean - 1)
    assert value["top", 0, 2] == pytest.approx(clean - 1.5)
    assert value["bottom", 0, 2] == pytest.approx(clean)
    assert value["random", 1, 1] == pytest.approx(clean)
    assert table.height == 4 + 2 * (2 + 2 * 2)
    top = table.filter(selection="top", k=1).row(0, named=True)
    assert top["accuracy"] == np.mean(made.targets["t0"].score[1] > -1.5)
    assert top["score_low"] < top["score"] < top["score_high"]
    assert top["n_items"] == 40


def test_area_by_hand():
    # k = 1, 3: log2(1 + k) = 1, 2. Gaps 0, 1, 1.5: trapezoids 0.5 and 1.25 over a width of 2.
    assert curve_weights([1, 3]).tolist() == pytest.approx([0.5, 0.25])
    strengths = planted(1)
    table = areas([knock_out("t0", ["t0"], strengths, [1, 3])], **OPTIONS)
    assert table["area"].to_list() == pytest.approx([(0.5 + 1.25) / 2])
    assert table["ci_low"].to_list() == table["ci_high"].to_list() == pytest.approx([0.875])  # nothing varies


def test_area_of_a_map_without_meaning_is_zero_within_its_interval():
    """Calibration: where top heads are no better than others, intervals exclude 0 in about 5 % of cases."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        cost = {"t0": rng.random((4, 6))}
        made = knock_out("t0", ["t0"], cost, [1, 2], seed=seed, draws=10, noise=0.5)
        for one, row in zip(made.sets, made.targets["t0"].score, strict=True):  # costs of heads drawn anew
            row[:] = -1 + rng.normal(size=40) * 0.1 - one["k"] * rng.normal(0.5, 0.2)
        top = [row for one, row in zip(made.sets, made.targets["t0"].score, strict=True) if one["selection"] == "top"]
        for row, k in zip(top, (1, 2), strict=True):
            row[:] = -1 + rng.normal(size=40) * 0.1 - k * 0.5
        low, high = areas([made], **OPTIONS).select("ci_low", "ci_high").row(0)
        covered += low <= 0 <= high
    assert 0.89 * 200 <= covered <= 0.99 * 200


def test_a_planted_model_gives_a_diagonal_matrix():
    tasks = [f"t{i}" for i in range(5)]
    files = [knock_out(task, tasks, planted(5), [2], seed=i, noise=0.3) for i, task in enumerate(tasks)]
    cells, merit = dissociation(files, tasks, permutations=200, **OPTIONS)
    own = cells.filter(pl.col("source_task") == pl.col("target_task"))
    others = cells.filter(pl.col("source_task") != pl.col("target_task"))
    assert own["effect"].to_list() == pytest.approx([1.5] * 5, rel=0.15)
    assert (own["ci_low"] > 1).all()
    assert (others["effect"] < 0.01).all()  # random heads may hit the other task's own: never more than 0
    assert not (others["ci_low"] > 0).any()
    row = merit.row(0, named=True)
    assert row["dominance"] > 1.5
    assert row["ci_low"] > 1.2
    assert row["p_value"] == pytest.approx(1 / 120)
    assert cells.select("source_task", "target_task").rows() == [(a, b) for a in tasks for b in tasks]


def test_tasks_that_share_their_heads_are_not_called_separate():
    tasks = [f"t{i}" for i in range(5)]
    rng = np.random.default_rng(0)
    shared = rng.random((4, 6)) * (rng.random((4, 6)) < 0.3)
    strengths = {task: shared * (1 + i) for i, task in enumerate(tasks)}  # the same heads, tasks of other strength
    files = [knock_out(task, tasks, strengths, [2], seed=i, noise=0.3) for i, task in enumerate(tasks)]
    _, merit = dissociation(files, tasks, permutations=200, **OPTIONS)
    row = merit.row(0, named=True)
    assert row["ci_low"] <= 0 <= row["ci_high"]
    assert row["p_value"] > 0.05


def test_dominance_by_hand():
    matrix = np.array([[3.0, 0, 1], [0, 1, 0], [2, 0, 2]])
    assert dominance(matrix) == pytest.approx(2 - 3 / 6)
    slow = [sum(matrix[order[j], j] for j in range(3)) for order in permutations(range(3))]
    expected = sum(value >= 6 for value in slow) / 6
    assert dominance_p_value(matrix, 6, np.random.default_rng(0)) == expected
    assert dominance_p_value(matrix, 5, np.random.default_rng(0)) > 1 / 6  # Monte Carlo
    assert math.isnan(dominance(np.ones((1, 1))))
    assert dominance_p_value(np.ones((1, 1)), 100, np.random.default_rng(0)) == 1


def test_dominance_p_value_is_calibrated():
    rng = np.random.default_rng(0)
    p_values = [dominance_p_value(rng.normal(size=(6, 6)) + rng.normal(size=6) * 3, 720, rng) for _ in range(400)]
    for level in (0.05, 0.2):
        assert np.mean(np.array(p_values) <= level) <= level + 3.5 * math.sqrt(level * (1 - level) / 400)


def test_one_question_gives_no_interval():
    made = knock_out("t0", ["t0"], planted(1), [1, 2], n=2)
    assert areas([made], **OPTIONS)["ci_low"].is_nan().all()


def test_script(tmp_path):
    tasks, raw = ["t1", "t0"], []
    for task in tasks:
        raw.append(tmp_path / f"{task}.safetensors")
        write_knock_out(raw[-1], knock_out(task, tasks, planted(2), [1, 2], noise=0.3))
    settings = OPTIONS | {"methods": ["ablation"], "tasks": tasks, "permutations": 100}
    outputs = {name: tmp_path / f"{name}.parquet" for name in ("curve", "area", "matrix", "dominance")}
    done = run_script("knock_out_summary", settings, raw=raw[::-1], **outputs)
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(outputs["area"])["task"].to_list() == tasks
    assert pl.read_parquet(outputs["matrix"]).columns == [
        "method", "source_task", "target_task", "k", "effect", "ci_low", "ci_high",
    ]  # fmt: skip
    assert pl.read_parquet(outputs["dominance"]).row(0)[0] == "ablation"
    assert {"selection", "draw", "k", "score", "accuracy", "n_items"} <= set(pl.read_parquet(outputs["curve"]).columns)
    done = run_script("knock_out_summary", settings, raw=raw[:1], **outputs)
    assert "no knock-out file of ablation, t0 was given" in done.stderr
