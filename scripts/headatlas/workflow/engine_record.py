"""What a model's files say about the engine that computed them, gathered and worded; standard library only."""

import json
from collections.abc import Iterable
from pathlib import Path

from headatlas.workflow.provenance import header


def of_effects(rule: str, method: str, effects: dict[str, list[Path]]) -> list[dict]:
    """One row per task: `rule`, `method`, `task` and the fields of `engine.Report`.

    Args:
        effects: the effects files that the rule writes, of heads or of groups, by task.
    """
    return [
        {"rule": rule, "method": method, "task": task} | _together([_engine(file) for file in files])
        for task, files in effects.items()
    ]


def of_knock_outs(knock_outs: dict[str, Path]) -> list[dict]:
    """One row per method and task, as in `of_effects`.

    Args:
        knock_outs: one knock-out file per method (all files of a method report the same engines).
    """
    return [
        {"rule": "knock_out", "method": method, "task": task} | report
        for method, file in knock_outs.items()
        for task, report in _engine(file).items()
    ]


def of_patches(patches: Path) -> list[dict]:
    """One row per task, as `of_effects`: patches from both kinds of prompts together."""
    return [
        {"rule": "patch_answers", "method": "ablation", "task": task} | _together(list(reports.values()))
        for task, reports in _engine(patches).items()
    ]


def read_records(records: Iterable[Path]) -> list[dict]:
    """The rows of several records; a missing record has none."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in records if file.is_file()]
    return [row for rows in found for row in rows]


def _engine(file: Path) -> dict:
    return json.loads(header(file)["about"])["engine"]


def _together(reports: list[dict]) -> dict:
    """Several reports as one: the slowest engine, the largest difference, the first reason."""
    slow = [report for report in reports if report["engine"] == "hooked"]
    worst = max(slow or reports, key=lambda report: report["work"])
    return worst | {
        "reason": next((report["reason"] for report in slow if report["reason"]), None),
        "padded": all(report["padded"] for report in reports),
        "checked": sum(report["checked"] for report in reports),
        "difference": max(report["difference"] for report in reports),
        "noise": max(report["noise"] for report in reports),
    }


def slow_ways(rows: list[dict]) -> list[str]:
    """A sentence for each reason for which full passes replaced replayed ones; empty if none did."""
    sentences = []
    fell_back = [row for row in rows if row["engine"] == "hooked" and row["reason"]]
    for reason in dict.fromkeys(row["reason"] for row in fell_back):
        same = [row for row in fell_back if row["reason"] == reason]
        rules = sorted({row["rule"] for row in same})
        tasks = sorted({row["task"] for row in same})
        work = max(row["work"] for row in same)
        sentences.append(
            f"{' and '.join(rules)} ran the whole model for every edit, {work:.0f} times the work of replay, "
            f"on {', '.join(tasks)}: {reason}"
        )
    return sentences


def noise_floors(rows: list[dict]) -> dict[str, float]:
    """Rounding noise of one item's effect by ablation, nats per answer token, by task (`engine.Report`)."""
    return {row["task"]: row["noise"] for row in rows if row["rule"] == "ablate_layers"}


def rounding(rows: list[dict]) -> str | None:
    """A sentence on the rounding noise of effects; None if nothing was recomputed."""
    known = [row for row in rows if row["checked"] and row["noise"] == row["noise"]]  # NaN: the model overflows
    if not known:
        return None
    least, most = (pick(row["noise"] for row in known) for pick in (min, max))
    again = sum(row["checked"] for row in known)
    return (
        f"Rounding: {again} of the numbers that edited passes gave were computed again by plain passes in float32. "
        f"They differ by {least:.1g} to {most:.1g} nats (root mean square of a task). A head whose mean "
        "effect is smaller than that, divided by the root of the number of items, is marked × in the signed grid."
    )
