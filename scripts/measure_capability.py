"""Measure whether the model can do each task: accuracy and mean score.

Reads traces (safetensors) and items (JSON), each in the order of the tasks, and what the model wrote itself (JSON), in
the order of these tasks; writes a table (Parquet), one row per task: see `headatlas.evidence.capability`; scores in
nats.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from headatlas.evidence.capability import COLUMNS, WRITTEN, measure, read_answers
from headatlas.evidence.importance import write_table
from headatlas.files.effects import question_index
from headatlas.jobs.cli import run
from headatlas.tasks.items import read_items


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of traces and items; metric: log_prob | margin; generated: tasks in the order of the answers,
    with the check of each."""

    tasks: list[str]
    confidence: float
    metric: str
    generated: dict[str, str] | None = None


def main(settings: Settings, traces: list[Path], items: list[Path], table: Path, answers: list[Path] = ()) -> None:
    written = {task: read_items(path) for task, path in zip(settings.generated or (), answers, strict=True)}
    rows = []
    for task, trace, prepared in zip(settings.tasks, traces, items, strict=True):
        score, correct, question = read_answers(trace)
        if task in written:
            judged = written[task]["items"]
            correct, texts = np.array([one["correct"] for one in judged]), [one["reference"] for one in judged]
            found = measure(
                score, correct, question, texts, settings.confidence, settings.metric, question_index(judged)
            ) | {"check": settings.generated[task], "n_empty": written[task]["counts"]["empty"]}
        else:
            texts = [item["answer"] for item in read_items(prepared)["items"]]
            found = measure(score, correct, question, texts, settings.confidence, settings.metric)
        rows.append({"task": task} | found)
    write_table(pl.DataFrame(rows, schema=COLUMNS | (WRITTEN if written else {})), table)


if __name__ == "__main__":
    run(main)
