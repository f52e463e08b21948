"""The plan of a config, against the logs and files of its finished run."""

import json
import re
from pathlib import Path

import pytest
from headatlas.cost.run import plans
from headatlas.files.knock_outs import knocked_out, shared_sets

BARS = {"trace_task": "trace", "ablate_layers": "ablate", "knock_out": "knock out"}


@pytest.fixture
def rows(finished, monkeypatch):
    """The plan's rows by rule."""
    monkeypatch.chdir(finished)
    (plan,) = plans(Path("config/config.yaml"), finished, here=True, cores=2, flops=1e10)
    return {row.rule: row for row in plan.rows}


@pytest.mark.parametrize("rule", BARS)
def test_planned_steps_are_those_that_the_progress_counts(finished, rows, rule):
    """Knock-outs plan all sets that may differ; those that turn out equal run once."""
    logs = [file.read_text() for file in (finished / "results/demo/logs" / rule).glob("*.log")]
    counted = sum(int(re.search(rf"^{BARS[rule]}: (\d+) items", log, re.MULTILINE)[1]) for log in logs)
    row = rows[rule]
    assert row.jobs == len(logs)
    assert row.at_most == (rule == "knock_out")
    planned, run = knock_outs(finished / "results/demo") if row.at_most else (row.steps, row.steps)
    assert (row.steps, counted) == (planned, run)
    assert run > 0.8 * planned


def knock_outs(results: Path) -> tuple[int, int]:
    """Items x sets of all rankings: planned, and of sets that differ.

    48 heads: sizes 1, 2, 4, 8 and the elbow, each with a top, a bottom and two times two random sets. The elbow of a
    map falls away where it is not a size of its own. Sets that rankings share (all heads kept, none kept) count once.
    """
    every = [(layer, head) for layer in range(6) for head in range(8)]
    asked = {file.stem: json.loads(file.read_text())["counts"]["validate"] for file in results.glob("items/*.json")}
    planned = run = 0
    for file in results.glob("evidence/knock-out/*/sets.json"):
        chosen = json.loads(file.read_text())
        for target, questions in asked.items():
            sets = [chosen["sets"][source][row] for source in asked for row in shared_sets(chosen, source, target)]
            run += questions * len({tuple(knocked_out(one, every)) for one in sets} | {()})
            listed = [one for one in sets if one["kind"] == "out" or 0 < one["k"] < len(every)]
            planned += questions * (len(listed) + any(one["kind"] == "keep" for one in sets))  # and none kept
            planned += questions * all(one["kind"] == "keep" for one in sets)  # and the clean model
            sizes = {one["k"] for one in chosen["sets"][target] if one["kind"] == "out" and one["k"]}
            planned += questions * (5 - len(sizes)) * (2 + 2 * 2) * bool(sizes)
    return planned, run


def test_jobs_and_disk_are_those_of_the_run(finished, rows):
    results = finished / "results/demo"
    assert rows["score_layer"].jobs == len(list(results.glob("scores/**/*.parquet")))
    assert rows["figures and tables"].jobs == len(list(results.glob("figures/*.json")))
    for rule, folder in (("trace_task", "trace"), ("score_layer", "scores")):
        size = sum(file.stat().st_size for file in (results / folder).rglob("*") if file.is_file())
        assert rows[rule].disk == pytest.approx(size, rel=0.25), rule
