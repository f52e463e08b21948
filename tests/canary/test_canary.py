"""The short suite for other versions of what we build on: the workflow is planned, run and drawn, numbers compared.

`.ci/canary.py` runs what is marked `canary`, here and elsewhere, on the lowest and on the newest versions.
"""

import json
import os
import shutil
import struct
from pathlib import Path

import polars as pl
import pytest
import yaml
from workflow_runs import ROOT, copy_repository, finish, planned

pytestmark = pytest.mark.canary

SHIPPED = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
TASKS = list(SHIPPED["tasks"])[:2]
METHODS = {
    "ablation": {},
    "attribution": {},
    "probe": {"seeds": 2, "epochs": 10, "permutations": 5},
}
# The file to which the run on the locked versions writes its numbers, and with which the others compare theirs.
NUMBERS = os.environ.get("HEADATLAS_NUMBERS")
# Nats per answer token. Two builds of the same sums differ in the seventh digit of logits of some ten nats.
SAME = 1e-4


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """The demo's first two tasks mapped, all their items, without the evidence."""
    config = SHIPPED | {"tasks": {task: SHIPPED["tasks"][task] for task in TASKS}, "methods": METHODS}
    config |= {"evidence": {"run": False}, "figures": {"formats": ["png"]}}
    config["models"] = {name: entry | {"device": "cpu"} for name, entry in SHIPPED["models"].items()}
    folder = copy_repository(tmp_path_factory.mktemp("canary") / "run", config)
    (folder / "run.txt").write_text(finish(folder), encoding="utf-8")
    return folder


def test_the_shipped_workflow_is_planned(tmp_path):
    jobs = planned(finish(copy_repository(tmp_path / "run", SHIPPED), "--dry-run"))
    rules = {"prepare_task", "trace_task", "ablate_layers", "score_layer", "aggregate", "knock_out", "render_figure"}
    assert rules <= set(jobs)
    assert jobs["trace_task"] == len(SHIPPED["tasks"])


def test_the_demo_is_replayed(mapped):
    rows = json.loads((mapped / "results/demo/provenance.json").read_text(encoding="utf-8"))["engines"]
    assert {row["task"] for row in rows} == set(TASKS)
    assert {(row["engine"], row["reason"]) for row in rows} == {("replay", None)}
    assert all(row["checked"] >= 4 and row["difference"] < 1e-4 for row in rows)


def test_the_numbers_are_those_of_the_locked_versions(mapped, record_property):
    keys = ["method", "task", "layer", "head"]
    table = pl.read_parquet(mapped / "results/demo/importance.parquet")
    assert set(table["method"]) == set(METHODS)
    assert table.filter(method="ablation")["effect"].abs().max() > 0.5  # nats: these tasks have heads that matter
    if NUMBERS is None:
        pytest.skip("HEADATLAS_NUMBERS names no file of the locked run's numbers")
    if not Path(NUMBERS).exists():
        shutil.copy2(mapped / "results/demo/importance.parquet", NUMBERS)
        return
    both = table.join(pl.read_parquet(NUMBERS), on=keys, how="full", suffix="_locked")
    assert both["effect"].null_count() == both["effect_locked"].null_count() == 0
    differences = both.with_columns(difference=(pl.col("effect") - pl.col("effect_locked")).abs())
    largest = {method: part["difference"].max() for (method,), part in differences.group_by("method")}
    record_property("largest difference of an effect", json.dumps({m: f"{largest[m]:.1e}" for m in METHODS}))
    assert max(largest.values()) < SAME


def test_a_chart_is_rendered(mapped):
    for method in METHODS:
        content = (mapped / f"results/demo/figures/heatmap-grid.{method}.png").read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 400
        assert height > 200
        assert len(content) > 10_000
