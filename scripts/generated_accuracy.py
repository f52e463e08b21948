"""Judge what the model wrote without heads, and compare the top heads of each map with random ones.

Reads what each method's `generate_without_heads` wrote (JSON); writes a table (Parquet, see
`headatlas.evidence.generated`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from headatlas.evidence.generated import Judged, generated_accuracy
from headatlas.evidence.importance import write_table
from headatlas.files.effects import question_index
from headatlas.jobs.cli import run
from headatlas.tasks.checks import is_right, require_checkable


@dataclass(frozen=True)
class Settings:
    """methods in the order of the answers; checks: of each task, exact | number | first_word."""

    methods: list[str]
    tasks: list[str]
    checks: dict[str, str]
    confidence: float


def main(settings: Settings, answers: list[Path], table: Path) -> None:
    written = [json.loads(path.read_text(encoding="utf-8"))["tasks"] for path in answers]
    found = {
        (method, task): judge(task, tasks[task], settings.checks[task])
        for method, tasks in zip(settings.methods, written, strict=True)
        for task in settings.tasks
    }
    write_table(generated_accuracy(found, settings.confidence), table)


def judge(task: str, written: dict, check: str) -> Judged:
    """Which texts of a task are right under each of its sets."""
    items, sets = written["items"], written["sets"]
    for item in items:
        require_checkable(item["answer"], check, f"task {task}, item {item['id']}")
    pairs = [zip(one["texts"], items, strict=True) for one in sets]
    correct = np.array([[is_right(text, item["answer"], check) for text, item in of_set] for of_set in pairs])
    return Judged(sets, correct, question_index(items))


if __name__ == "__main__":
    run(main)
