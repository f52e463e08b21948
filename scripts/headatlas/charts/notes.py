"""Lines under panel titles: how well the model does a task, and how reliable the task's map is."""

from typing import NamedTuple

import polars as pl

from headatlas.charts.rows import checked
from headatlas.metric import METRICS


class Notes(NamedTuple):
    """`lines` under the titles of some tasks; `undone`: tasks that the model cannot do, to be crossed out."""

    lines: dict[str, str]
    undone: set[str]


def undone_only(capability: pl.DataFrame | None) -> Notes:
    """Notes on the tasks that the model cannot do; none without a table."""
    rows = [] if capability is None else capability.filter(~pl.col("capable")).iter_rows(named=True)
    lines = {row["task"]: _not_done(row) for row in rows}
    return Notes(lines, set(lines))


def on_all(capability: pl.DataFrame, reliability: pl.DataFrame, method: str, tasks: list[str]) -> Notes:
    """Notes on every task: accuracy, mean score, reliability of the map.

    Raises:
        HeadAtlasError: a table lacks a column or a task.
    """
    names = [f"{name}{end}" for name in ("accuracy", "score") for end in ("", "_low", "_high")]
    skills = checked(capability, "capability", [*names, "metric", "n_questions", "capable"], task=tasks)
    halves = checked(reliability, "reliability", ["reliability", "ci_low", "ci_high"], method=[method], task=tasks)
    lines, undone = {}, set()
    for skill, half in zip(skills.iter_rows(named=True), halves.iter_rows(named=True), strict=True):
        task = skill["task"]
        if skill["capable"]:
            of = f"{_accuracy(skill)} of {skill['n_questions']}"
            lines[task] = f"{of}\n{_score(skill)}\n{_reliability(half)}"
        else:
            lines[task] = f"{_not_done(skill)}\n{_score(skill)}"
            undone.add(task)
    return Notes(lines, undone)


def _not_done(row: dict) -> str:
    return f"Not done by the model\n{_accuracy(row)}"


def _accuracy(row: dict) -> str:
    """`Exact match 83 % [71, 91]`, or what the metric calls it."""
    share, low, high = (100 * row[f"accuracy{end}"] for end in ("", "_low", "_high"))
    return f"{METRICS[row['metric']].accuracy} {share:.0f} % [{low:.0f}, {high:.0f}]"


def _score(row: dict) -> str:
    """`Log-prob. −1.500 [−2.250, −1.000]`."""
    low, high = row["score_low"], row["score_high"]
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"{METRICS[row['metric']].short} " + f"{row['score']:.3f}{interval}".replace("-", "−")


def _reliability(row: dict) -> str:
    """`Reliability 0.80 [0.70, 0.90]`."""
    if row["reliability"] is None:
        return "Reliability unknown"
    interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    return f"Reliability {row['reliability']:.2f}{interval}".replace("-", "−")
