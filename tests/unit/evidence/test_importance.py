"""Effects files to score files to the importance table: values by hand, order, completeness, messages."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.evidence.importance import COLUMNS, importance_table, read_importance, score_files, write_importance
from headatlas.files.effects import write_effects as write_all
from headatlas.files.scores import SCHEMA, read_completeness, read_effects, write_scores
from headatlas.stats.head_statistics import head_statistics, mean_effects
from headatlas.stats.rounds import Rounds
from safetensors.numpy import save_file
from script_runs import SCRIPTS, run_script, write_effects

SCORE = {
    "model": "m", "method": "ablation", "task": "inference", "layer": 1,
    "items": "all", "confidence": 0.95, "null": False,
}  # fmt: skip


def scores_table(effects: dict, p_value: float = 0.5) -> pl.DataFrame:
    """Scores of `{(method, task, layer, head): effect}`."""
    rows = [
        {
            "model": "m", "method": method, "task": task, "layer": layer, "head": head,
            "effect": float(effect), "std_error": 1.0, "ci_low": None, "ci_high": None, "p_value": p_value,
            "n_items": 4, "n_questions": 2, "stopped": False, "note": None,
        }
        for (method, task, layer, head), effect in effects.items()
    ]  # fmt: skip
    return pl.DataFrame(
        rows, schema_overrides={"layer": pl.Int32, "head": pl.Int32, "ci_low": pl.Float64, "note": pl.String}
    )


def grid(*effects, method="ablation", task="inference") -> dict:
    """Effects of two heads a layer, in order."""
    return {(method, task, i // 2, i % 2): effect for i, effect in enumerate(effects)}


# ----- effects and scores


def test_score_layer_reads_its_layer_out_of_a_block(tmp_path):
    # [item, layer, head]: layers 1 and 2 of a model; questions 5, 5, 8.
    effect = [[[1, 0], [9, 9]], [[3, 0], [9, 9]], [[8, -1], [9, 9]]]
    path = write_effects(tmp_path / "e.safetensors", effect, question=[5, 5, 8], first_layer=1)
    done = run_script("score_layer", SCORE, effects=path, scores=tmp_path / "out" / "s.parquet")
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(tmp_path / "out" / "s.parquet")
    assert table.columns == SCHEMA.names
    assert table.select("model", "method", "task", "layer", "head").rows() == [
        ("m", "ablation", "inference", 1, 0),
        ("m", "ablation", "inference", 1, 1),
    ]
    assert table["effect"].to_list() == pytest.approx([4.0, -1 / 3])
    # Questions of 2 items and 1. Sums 4, 8: residuals -4, 4, sqrt(2 * 32) / 3. Sums 0, -1: residuals 2/3, -2/3.
    assert table["std_error"].to_list() == pytest.approx([8 / 3, 4 / 9])
    assert table["n_items"].to_list() == [3, 3]
    assert table["n_questions"].to_list() == [2, 2]
    assert (table.dtypes[3], table.dtypes[5], table.dtypes[-3]) == (pl.Int32, pl.Float64, pl.Int32)
    assert table.select("ci_low", "ci_high", "p_value").null_count().row(0) == (2, 2, 2)  # two questions


def test_score_layer_takes_the_null_that_the_effects_hold(tmp_path):
    """Layer 1 of two; the draws are those of both layers' heads, of the items asked for."""
    path = tmp_path / "e.safetensors"
    effect = np.array([[[0, 0], [1, 0]], [[0, 0], [3, 0]], [[0, 0], [5, 1]]], np.float32)  # head 0 of layer 1: 1, 3, 5
    null = {f"null_effect_{items}": np.array([[[1, 2], [3, 4]], [[-6, 0], [0, 0]]]) for items in ("all", "correct")}
    null |= {"null_error_all": np.ones((2, 2, 2)), "null_error_correct": np.full((2, 2, 2), 0.1)}
    write_all(path, effect, np.arange(3), np.array([1, 1, 0]), null=null)
    for items, expected in (("all", [4, 6]), ("correct", [6, 9])):
        settings = {**SCORE, "items": items, "null": True}
        done = run_script("score_layer", settings, effects=path, scores=tmp_path / "s.parquet")
        assert done.returncode == 0, done.stderr
        # All: 3 / (2 / sqrt(3)) = 2.6 against 1 2 3 4 6 0 0 0: 3 reach it; head 1 with 1/3 over 1/3: 5 reach 1.
        # Correct: 2 / 1 against 10 20 30 40 60: all 5, and head 1, without any effect: all 8.
        assert pl.read_parquet(tmp_path / "s.parquet")["p_value"].to_list() == [n / 9 for n in expected]
    path = write_effects(tmp_path / "e.safetensors", effect)
    done = run_script("score_layer", {**SCORE, "null": True}, effects=path, scores=tmp_path / "s")
    assert "e.safetensors: holds no null" in done.stderr
    assert "delete it and run again" in done.stderr


def test_scores_of_one_question_leave_the_spread_empty(tmp_path):
    path = write_effects(tmp_path / "e.safetensors", np.ones((2, 2, 9)), question=[3, 3])
    done = run_script("score_layer", SCORE, effects=path, scores=tmp_path / "s.parquet")
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(tmp_path / "s.parquet")
    assert table.select("std_error", "ci_low", "ci_high", "p_value").null_count().row(0) == (9, 9, 9, 9)
    assert table["note"].to_list() == ["1 questions, too few for an interval"] * 9


def test_the_table_says_why_there_is_no_interval(tmp_path):
    effect = np.random.default_rng(0).normal(size=(20, 2, 9))
    for kept, note in ((19, "19 questions, too few for an interval"), (20, None)):
        path = write_effects(tmp_path / "e.safetensors", effect[:kept])
        done = run_script("score_layer", SCORE, effects=path, scores=tmp_path / "s.parquet")
        assert done.returncode == 0, done.stderr
        table = pl.read_parquet(tmp_path / "s.parquet")
        assert table["note"].to_list() == [note] * 9
        assert table.select("ci_low", "ci_high", "p_value").null_count().row(0) == ((9, 9, 9) if note else (0, 0, 0))
        assert table.select("effect", "std_error").null_count().row(0) == (0, 0)
    statistics = head_statistics(np.where(np.arange(9) == 4, np.nan, effect[:, 0]), np.arange(20), confidence=0.95)
    write_scores(tmp_path / "s.parquet", statistics, SCORE, 0)
    table = pl.read_parquet(tmp_path / "s.parquet")
    assert table["note"].to_list() == [None] * 4 + ["no effect"] + [None] * 4
    assert table.row(4)[5:10] == (None,) * 5


def test_a_head_that_stopped_early_is_marked(tmp_path):
    """40 questions in rounds of 20, 10 and 10; head 0 stopped after the first, head 1 went through all."""
    effect = np.random.default_rng(0).normal(size=(40, 1, 2)).astype(np.float32)
    rounds = Rounds(np.repeat([0, 1, 2], [20, 10, 10]), np.array([[1, 3]]))
    effect[~rounds.measured] = np.nan
    path = tmp_path / "e.safetensors"
    write_all(path, effect, np.arange(40), np.ones(40), rounds=rounds)
    done = run_script("score_layer", {**SCORE, "layer": 0}, effects=path, scores=tmp_path / "s.parquet")
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(tmp_path / "s.parquet")
    assert table["n_questions"].to_list() == [20, 40]
    assert table["stopped"].to_list() == [True, False]
    assert table["note"].to_list() == ["stopped after 20 of 40 questions", None]
    assert table["effect"].to_list() == pytest.approx([effect[:20, 0, 0].mean(), effect[:, 0, 1].mean()])
    usual = head_statistics(effect[:, 0, 1:], np.arange(40), confidence=0.95)
    early = head_statistics(effect[:20, 0, :1], np.arange(20), confidence=1 - 0.05 / 2)  # two rounds could stop it
    assert table["ci_low"].to_list() == pytest.approx([early.ci_low[0], usual.ci_low[0]])
    assert mean_effects(effect, np.arange(40))[0].tolist() == pytest.approx(table["effect"].to_list())


def test_an_effect_that_is_missing_and_not_marked_is_refused(tmp_path):
    effect = np.full((40, 1, 2), 0.5, np.float32)
    effect[0, 0, 1] = np.nan
    rounds = Rounds(np.repeat([0, 1, 2], [20, 10, 10]), np.array([[1, 3]]))
    with pytest.raises(HeadAtlasError, match="layer 0, head 1 on item 0 is not finite"):
        write_all(tmp_path / "e", effect, np.arange(40), np.ones(40), rounds=rounds)


def test_only_correct_items_where_asked(tmp_path):
    path = write_effects(tmp_path / "e.safetensors", [[[1]], [[2]], [[9]]], correct=[1, 1, 0])
    assert read_effects(path, 0, "correct").effect.ravel().tolist() == [1, 2]
    assert read_effects(path, 0, "all").effect.ravel().tolist() == [1, 2, 9]


def test_no_correct_item_names_model_task_and_remedy(tmp_path):
    path = write_effects(tmp_path / "e.safetensors", np.ones((3, 2, 1)), correct=[0, 0, 0])
    done = run_script("score_layer", {**SCORE, "items": "correct"}, effects=path, scores=tmp_path / "s.parquet")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "model m, task inference" in done.stderr
    assert "none of the 3 items correctly" in done.stderr
    assert "set statistics.items to all" in done.stderr
    assert not (tmp_path / "s.parquet").exists()


def test_effects_files_that_cannot_be_used(tmp_path):
    path = write_effects(tmp_path / "e.safetensors", np.ones((3, 2, 1)), first_layer=4)
    with pytest.raises(HeadAtlasError, match="holds layers 4 to 5, not layer 6"):
        read_effects(path, 6)
    (tmp_path / "junk").write_bytes(b"junk" * 10)
    with pytest.raises(HeadAtlasError, match="junk: not an effects file"):
        read_effects(tmp_path / "junk")
    save_file({"other": np.ones(3)}, tmp_path / "other", metadata={"about": '{"first_layer": 0}'})
    with pytest.raises(HeadAtlasError, match="not an effects file"):
        read_effects(tmp_path / "other")
    effect = np.ones((3, 2, 2))
    effect[2, 1, 0] = np.inf
    path = write_effects(tmp_path / "e.safetensors", effect)
    with pytest.raises(HeadAtlasError, match=r"layer 1, head 0 on item 2 is not finite.*dtype"):
        read_effects(path)
    path = write_effects(tmp_path / "e.safetensors", np.ones((0, 2, 2)))
    with pytest.raises(HeadAtlasError, match="holds no item of the score split"):
        read_effects(path)


def test_a_layer_is_scored_without_torch_polars_or_pandas(tmp_path):
    """There are hundreds of these jobs, so they must start fast."""
    path = write_effects(tmp_path / "e.safetensors", np.random.default_rng(0).normal(size=(30, 2, 4)))
    command = [sys.executable, "-X", "importtime", SCRIPTS / "score_layer.py", "--settings", json.dumps(SCORE)]
    command += ["--effects", path, "--scores", tmp_path / "s.parquet"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numpy" in imported
    assert not imported & {"torch", "polars", "pandas", "scipy"}


def test_two_runs_write_the_same_bytes(tmp_path):
    path = write_effects(tmp_path / "e.safetensors", np.random.default_rng(0).normal(size=(30, 2, 4)))
    for name in ("a", "b"):
        assert run_script("score_layer", SCORE, effects=path, scores=tmp_path / name).returncode == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_completeness_by_hand(tmp_path):
    # Sums over heads 3, 7 and -1 where 4, 5 and -1 should be: errors 1, 2, 0 of 4, 5 and 1: 3 / 10.
    effect = np.array([[[1, 2]], [[3, 4]], [[0, -1]]], np.float32)
    path = tmp_path / "e.safetensors"
    write_all(path, effect, np.arange(3), np.array([1, 0, 1]), gain=np.array([4, 5, -1]))
    assert read_completeness(path, read_effects(path)) == pytest.approx(0.3)
    assert read_completeness(path, read_effects(path, items="correct")) == pytest.approx(1 / 5)
    write_all(path, effect, np.arange(3), np.array([1, 0, 1]))
    assert np.isnan(read_completeness(path, read_effects(path)))


# ----- the importance table


def test_importance_rank_and_q_value_by_hand():
    scores = scores_table(grid(1, -4, 0, 5)).with_columns(p_value=pl.Series([0.04, 0.03, 1.0, 0.01]))
    table = importance_table(scores, ["ablation"], ["inference"])
    assert tuple(table.columns) == COLUMNS
    assert table["importance"].to_list() == pytest.approx([0.1, 0.4, 0.0, 0.5])
    assert table["rank"].to_list() == [3, 2, 4, 1]
    assert table["q_value"].to_list() == pytest.approx([4 * 0.04 / 3, 4 * 0.04 / 3, 1.0, 0.04])
    assert table["effect"].to_list() == [1, -4, 0, 5]  # the sign is kept


def test_q_values_and_shares_are_per_method_and_task():
    effects = grid(1, 1, task="a") | grid(2, 6, task="b") | grid(1, 3, task="a", method="probe")
    effects |= grid(0, 3, task="b", method="probe")
    table = importance_table(scores_table(effects, 0.01), ["ablation", "probe"], ["a", "b"])
    assert table["importance"].to_list() == pytest.approx([0.5, 0.5, 0.25, 0.75, 0.25, 0.75, 0, 1])
    assert table["q_value"].to_list() == pytest.approx([0.01] * 8)


def test_what_has_no_p_value_is_no_test_and_what_has_no_effect_no_rank():
    scores = scores_table(grid(1, -4, 0, 5)).with_columns(
        p_value=pl.Series([0.04, None, None, 0.01]), effect=pl.Series([1.0, -4, None, 5])
    )
    table = importance_table(scores, ["ablation"], ["inference"])
    assert table["q_value"].to_list() == pytest.approx([0.04, None, None, 0.02])  # two tests, not four
    assert table["importance"].to_list() == pytest.approx([0.1, 0.4, None, 0.5])
    assert table["rank"].to_list() == [3, 2, None, 1]


def test_ties_are_ranked_by_layer_then_head():
    table = importance_table(scores_table(grid(2, -2, 3, 2)), ["ablation"], ["inference"])
    assert table["rank"].to_list() == [2, 3, 1, 4]


def test_no_effect_at_all_gives_zeros_and_a_warning(caplog):
    with caplog.at_level("WARNING", logger="headatlas"):
        table = importance_table(scores_table(grid(0, 0)), ["ablation"], ["inference"])
    assert table["importance"].to_list() == [0, 0]
    assert table["rank"].to_list() == [1, 2]
    assert "no head has any effect on task inference by ablation" in caplog.text


def test_rows_follow_the_settings_not_the_input():
    effects = {}
    for method in ("a", "b"):
        for task in ("x", "y"):
            effects |= grid(1, 2, 3, 4, method=method, task=task)
    scores = scores_table(effects)
    table = importance_table(scores, ["b", "a"], ["y", "x"])
    keys = table.select("method", "task").unique(maintain_order=True).rows()
    assert keys == [("b", "y"), ("b", "x"), ("a", "y"), ("a", "x")]
    assert table.select("layer", "head").rows()[:4] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert table.equals(importance_table(scores.sample(fraction=1, shuffle=True, seed=1), ["b", "a"], ["y", "x"]))


def without(effects: dict, *keys) -> dict:
    return {key: value for key, value in effects.items() if key[2:] not in keys}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            scores_table(without(grid(1, 2, 3, 4), (0, 0))),
            "inference: 1 of 4 heads are missing, first layer 0, head 0",
        ),
        (scores_table(without(grid(*range(6)), (1, 0), (1, 1))), "missing, first layer 1, head 0"),
        (scores_table(grid(1, 2) | grid(1, 2, 3, 4, task="x")), "inference: 2 of 4 heads are missing"),
        (pl.concat([scores_table(grid(1, 2)), scores_table(grid(1))]), "layer 0, head 0 occurs twice"),
        (scores_table(grid(1, 2) | grid(1, 2, task="stale")), "task stale, settings only inference"),
        (scores_table(grid(1, 2, method="probe")), "method probe, settings only ablation"),
        (
            pl.concat([scores_table(grid(1)), scores_table(grid(1)).with_columns(model=pl.lit("n"))]),
            r"models \(m, n\)",
        ),
    ],
)
def test_incomplete_scores_are_refused(scores, message):
    tasks = ["inference", "x"] if "x" in scores["task"] else ["inference"]
    with pytest.raises(HeadAtlasError, match=message):
        importance_table(scores, ["ablation"], tasks)


def test_heads_may_differ_between_layers():
    effects = {
        ("ablation", "inference", 0, 0): 1,
        ("ablation", "inference", 1, 0): 1,
        ("ablation", "inference", 1, 1): 2,
    }
    assert importance_table(scores_table(effects), ["ablation"], ["inference"])["importance"].sum() == 1


def test_from_effects_to_the_table_by_the_scripts(tmp_path):
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(20, 3, 4)) + np.arange(12).reshape(3, 4)
    for task in ("b_task", "a_task"):
        path = write_effects(tmp_path / f"{task}.safetensors", effect)
        for layer in range(3):
            scores = tmp_path / "scores" / "ablation" / task / f"layer-{layer}.parquet"
            done = run_script("score_layer", {**SCORE, "task": task, "layer": layer}, effects=path, scores=scores)
            assert done.returncode == 0, done.stderr
    settings = {"methods": ["ablation"], "tasks": ["b_task", "a_task"], "layers": 3}
    made = {"table": tmp_path / "i.parquet", "csv": tmp_path / "i.csv"}
    done = run_script("aggregate", settings, scores=tmp_path / "scores", **made)
    assert done.returncode == 0, done.stderr
    table = read_importance(made["table"])
    assert table.height == 24
    assert table["task"].to_list() == ["b_task"] * 12 + ["a_task"] * 12
    mean = effect.astype(np.float32).astype(float).mean(axis=0)
    assert table["effect"].to_list()[:12] == pytest.approx(mean.ravel().tolist())
    assert table["importance"].sum() == pytest.approx(2)
    assert pl.read_csv(made["csv"])["effect"].to_list() == table["effect"].to_list()
    done = run_script("aggregate", settings | {"layers": 2}, scores=tmp_path / "scores", **made)
    assert done.returncode == 0, done.stderr
    fewer = read_importance(made["table"])  # a model of fewer layers took this one's place: layer 2 is a leftover
    assert fewer["layer"].unique().to_list() == [0, 1]
    assert fewer["importance"].sum() == pytest.approx(2)
    missing = tmp_path / "scores" / "ablation" / "a_task" / "layer-1.parquet"
    missing.unlink()
    done = run_script("aggregate", settings, scores=tmp_path / "scores", **made)
    assert done.stderr == f"error: {missing}: no such score file; run score_layer first\n"


def test_a_folder_gives_only_what_is_asked_for(tmp_path):
    for task in ("kept", "stale"):
        (tmp_path / "ablation" / task).mkdir(parents=True)
        for layer in (0, 1, 2, 10):
            (tmp_path / "ablation" / task / f"layer-{layer}.parquet").touch()
    kept = tmp_path / "ablation" / "kept"
    assert score_files(tmp_path, ["ablation"], ["kept"], 2) == [kept / "layer-0.parquet", kept / "layer-1.parquet"]
    with pytest.raises(HeadAtlasError, match=r"nowhere/ablation/kept/layer-0\.parquet: no such score file"):
        score_files(tmp_path / "nowhere", ["ablation"], ["kept"], 1)


def test_read_importance_refuses_other_files(tmp_path):
    table = importance_table(scores_table(grid(1, 2)), ["ablation"], ["inference"])
    write_importance(table, tmp_path / "i.parquet", tmp_path / "i.csv")
    assert read_importance(tmp_path / "i.parquet").equals(table)
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(HeadAtlasError, match="junk: cannot be read as Parquet"):
        read_importance(tmp_path / "junk")
    table.drop("rank").write_parquet(tmp_path / "other")
    with pytest.raises(HeadAtlasError, match="lacks rank"):
        read_importance(tmp_path / "other")
