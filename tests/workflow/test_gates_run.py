"""A run with gates: its maps and evidence stand beside ablation's, with what they are over, and nothing runs twice."""

import copy
import json

import polars as pl
import pytest
from headatlas.charts.labels import task_label
from workflow_runs import REDUCED, copy_repository, finish, planned

METHODS = {"ablation": {}, "gates": {"seeds": 2, "steps": 30, "sign": True}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = copy.deepcopy(REDUCED) | {"methods": METHODS, "items": {"max_items": 60}, "figures": {"formats": ["svg"]}}
    del config["tasks"]["math_calculation"]
    folder = copy_repository(tmp_path_factory.mktemp("gates") / "run", config)
    finish(folder)
    return folder


def test_heads_have_scores_over_seeds_and_no_interval(run):
    table = pl.read_parquet(run / "results/demo/importance.parquet").filter(method="gates")
    assert table.height == 2 * 48
    assert table["effect"].null_count() == 0
    assert table.select("ci_low", "p_value", "q_value").null_count().row(0) == (96, 96, 96)
    assert table["note"].unique().to_list() == [
        "mean and standard error over 2 seeds, not questions, so there is no interval"
    ]
    assert (table["n_items"] > 30).all()


def test_seeds_of_different_questions_agree_on_the_demo(run):
    reliable = pl.read_parquet(run / "results/demo/evidence/reliability.parquet").filter(method="gates")
    assert (reliable["reliability"] > 0.5).all()
    assert reliable["ci_low"].null_count() == 2


def test_the_engine_is_recorded_and_checked(run):
    rows = json.loads((run / "results/demo/engines/fit_gates.json").read_text(encoding="utf-8"))
    assert [(row["rule"], row["method"], row["engine"]) for row in rows] == [("fit_gates", "gates", "replay")] * 2
    assert all(row["checked"] == 8 and row["difference"] < 1e-4 for row in rows)


def test_findings_name_the_hottest_heads_and_what_their_scores_are(run):
    said = (run / "results/demo/findings.md").read_text(encoding="utf-8")
    part = said.split("## By `gates`")[1].split("## Controls")[0]
    for untested in ("not tested with fewer", "significant for one task", "busiest layer"):
        assert untested not in part
    hottest = pl.read_parquet(run / "results/demo/evidence/hottest-heads.parquet").filter(method="gates", rank=1)
    for row in hottest.iter_rows(named=True):
        assert f"{row['layer']}.{row['head']} {row['effect']:+.1f}" in part
    assert "log-odds of a head's gate above those of the median head, means over seeds." in said


def test_every_head_has_a_class_and_the_findings_count_them(run):
    table = pl.read_parquet(run / "results/demo/evidence/head-classes.parquet")
    assert table.height == 2 * 48
    assert set(table["stability"].unique()) <= {0.5, 1.0}
    said = (run / "results/demo/findings.md").read_text(encoding="utf-8")
    for (task,), part in table.group_by("task"):
        n = {name: (part["class"] == name).sum() for name in ("facilitating", "interfering", "irrelevant")}
        line = next(line for line in said.splitlines() if line.startswith(f"- {task_label(task, None)}: of 48 heads"))
        assert f"of 48 heads {n['facilitating']} facilitate" in line
        assert f"{n['interfering']} interfere" in line
        assert f"{n['irrelevant']} are irrelevant; on average {part['stability'].mean():.0%} of the seeds agree" in line
        # What gates rank on top holds against being shut.
        top = pl.read_parquet(run / "results/demo/importance.parquet").filter(method="gates", task=task)
        best = top.sort("effect", descending=True).row(0, named=True)
        assert part.filter(layer=best["layer"], head=best["head"])["class"].item() == "facilitating"


def test_nothing_runs_twice(run):
    assert planned(finish(run, "-n")) == {}
