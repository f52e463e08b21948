"""Small task files for the tests of sources and tasks."""

import json
from pathlib import Path

from headatlas.tasks.items import Task


def lines(path: Path, *entries: object) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def question(text: str, *steps: tuple) -> dict:
    """A CogQA question with steps (subquestion, answer, label)."""
    keys = ("subquestion", "answer", "cognitive_skill")
    return {
        "question": text,
        "answer": "",
        "generated": [dict(zip(keys, step, strict=True)) for step in steps],
    }


def settings_of(**changes) -> dict:
    return {
        "task": "t",
        "format": "jsonl",
        "join": "auto",
        "seed": 0,
        "validate_fraction": 0.3,
        "partners": [],
    } | changes


def cogqa_file(path: Path, *questions: dict) -> Path:
    path.write_text(json.dumps(questions), encoding="utf-8")
    return path


def numbered(path: Path, n: int, per_question: int = 1) -> Path:
    """A file of n questions."""
    entries = (
        {"prompt": f"p{number}.{part}", "answer": "a", "question_id": f"q{number}"}
        for number in range(n)
        for part in range(per_question)
    )
    return lines(path, *entries)


def splits_of(task: Task) -> dict[str, str]:
    splits: dict[str, str] = {}
    for item in task.items:
        assert splits.setdefault(item.question_id, item.split) == item.split
    return splits
