"""The plan of a config, against the logs and files of its finished run."""

import json
import re
from pathlib import Path

import pytest
from headatlas.cost.run import plans

BARS = {"trace_task": "trace", "ablate_layers": "ablate", "knock_out": "knock out"}


@pytest.fixture
def rows(finished, monkeypatch):
    """The plan's rows by rule."""
    monkeypatch.chdir(finished)
    (plan,) = plans(Path("config/config.yaml"), finished, here=True, cores=2, flops=1e10)
    return {row.rule: row for row in plan.rows}


@pytest.mark.parametrize("rule", BARS)
def test_planned_steps_are_those_that_the_progress_counts(finished, rows, rule):
    """Knock-outs plan a size of sets for the elbow of each map, which falls away where it is not a size of its own.

    48 heads: sizes 1, 2, 4, 8 and the elbow, each with a top, a bottom and two times two random sets.
    """
    results = finished / "results/demo"
    logs = [file.read_text() for file in (results / "logs" / rule).glob("*.log")]
    counted = sum(int(re.search(rf"^{BARS[rule]}: (\d+) items", log, re.MULTILINE)[1]) for log in logs)
    row, fallen = rows[rule], 0
    if rule == "knock_out":
        asked = {file.stem: json.loads(file.read_text())["counts"]["validate"] for file in results.glob("items/*.json")}
        for file in results.glob("evidence/knock-out/*/sets.json"):
            for task, sets in json.loads(file.read_text())["sets"].items():
                fallen += (5 - len({one["k"] for one in sets if one["k"]})) * (2 + 2 * 2) * asked[task]
    assert row.jobs == len(logs)
    assert row.steps == counted + fallen
    assert row.at_most == (rule == "knock_out")


def test_jobs_and_disk_are_those_of_the_run(finished, rows):
    results = finished / "results/demo"
    assert rows["score_layer"].jobs == len(list(results.glob("scores/**/*.parquet")))
    assert rows["figures and tables"].jobs == len(list(results.glob("figures/*.json")))
    for rule, folder in (("trace_task", "trace"), ("score_layer", "scores")):
        size = sum(file.stat().st_size for file in (results / folder).rglob("*") if file.is_file())
        assert rows[rule].disk == pytest.approx(size, rel=0.25), rule
