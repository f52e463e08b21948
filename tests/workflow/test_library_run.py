"""The library by itself gives a run's own numbers on the run's items: maps, and knock-outs on held-out questions."""

import json

import headatlas
import polars as pl
import pytest
from headatlas.files.knock_outs import read_knock_out
from safetensors.numpy import load_file
from workflow_runs import REDUCED

TASKS = sorted(REDUCED["tasks"])
PLAIN = ("id", "question_id", "prompt", "answer")


@pytest.fixture(scope="module")
def atlas(finished):
    return headatlas.open(finished / REDUCED["models"]["demo"]["path"])


def items(finished, split: str) -> dict[str, list[dict]]:
    """By task: what a user would write in a task file."""
    files = {task: json.loads((finished / f"results/demo/items/{task}.json").read_text()) for task in TASKS}
    return {
        task: [{key: item[key] for key in PLAIN} for item in content["items"] if item["split"] == split]
        for task, content in files.items()
    }


@pytest.mark.parametrize("method", ["ablation", "attribution"])
def test_maps_are_those_of_the_run(method, finished, atlas):
    run = pl.read_parquet(finished / "results/demo/importance.parquet").filter(method=method)
    ours = atlas.effects(items(finished, "score"), method)
    assert ours.select("task", "layer", "head", "n_items").equals(run.select("task", "layer", "head", "n_items"))
    for column in ("effect", "std_error", "ci_low", "ci_high", "p_value", "q_value", "importance"):
        assert ours[column].to_list() == pytest.approx(run[column].to_list(), abs=1e-6), column


def test_knock_outs_of_an_exported_list_are_those_of_the_run(finished, atlas):
    means = load_file(finished / "results/demo/baseline.safetensors")["mean_answer"]
    held_out = items(finished, "validate")
    for task in TASKS:
        known = read_knock_out(finished / f"results/demo/evidence/knock-out/ablation/{task}.safetensors")
        target = known.targets[task]
        row = next(row for row, of in enumerate(target.sets) if known.sets[of]["k"] == 8)
        found = atlas.knock_out(known.sets[target.sets[row]]["heads"], held_out[task], baseline=means)
        assert found["id"].to_list() == [item["id"] for item in held_out[task]]
        assert found["score"].to_list() == pytest.approx(target.score[row].tolist(), rel=1e-6, abs=1e-6)
        assert found["correct"].to_list() == target.correct[row].astype(bool).tolist()
