"""A machine with less memory makes smaller passes and finds the same."""

import json
import re
from pathlib import Path

import polars as pl
from headatlas.models.work import sequence_length
from workflow_runs import INDEPENDENT, copy_run, finish, write_config


def tokens_of_passes(folder: Path) -> set[int]:
    """Of the traces, by their logs; they fit what a job may take."""
    logs = (folder / "results/tiny/logs/trace_task").glob("*.log")
    return {int(found) for log in logs for found in re.findall(r"tokens of one pass: (\d+)", log.read_text())}


def score_tokens(folder: Path) -> list[int]:
    """Tokens of the items to score, of each task."""
    found = [json.loads(path.read_text())["items"] for path in (folder / "results/tiny/items").glob("*.json")]
    return [sum(sequence_length(item) for item in items if item["split"] == "score") for items in found]


def test_results_do_not_depend_on_the_memory_of_the_machine(independent, fresh):
    """422 MB leave 2 for passes of a job, which hold fewer tokens than its items have; more hold all of them."""
    folder = copy_run(fresh, fresh.parent / "less")
    write_config(folder, INDEPENDENT | {"compute": {"memory": 422}})
    finish(folder)
    tokens = score_tokens(folder)
    assert min(tokens_of_passes(folder)) < min(tokens) <= max(tokens) < min(tokens_of_passes(independent))
    less, more = (pl.read_parquet(run / "results/tiny/importance.parquet") for run in (folder, independent))
    assert less.height == more.height > 0
    measured = ["effect", "std_error", "ci_low", "ci_high"]
    for name in more.columns:
        if name in measured:
            assert (less[name] - more[name]).abs().max() <= 1e-5, name
        elif name in ("model", "method", "task", "layer", "head", "n_items", "n_questions", "note"):
            assert less[name].equals(more[name]), name
    assert more["effect"].abs().max() > 1e-3
