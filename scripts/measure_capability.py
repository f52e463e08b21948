"""Measure whether the model can do each task: accuracy and mean score.

Reads traces (safetensors) and items (JSON), each in the order of the tasks; writes a table (Parquet), one row per
task: see `headatlas.evidence.capability`; scores in nats.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.evidence.capability import COLUMNS, measure, read_answers
from headatlas.evidence.importance import write_table
from headatlas.jobs.cli import run
from headatlas.tasks.items import read_items


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of traces and items; metric: log_prob | margin."""

    tasks: list[str]
    confidence: float
    metric: str


def main(settings: Settings, traces: list[Path], items: list[Path], table: Path) -> None:
    rows = []
    for task, trace, prepared in zip(settings.tasks, traces, items, strict=True):
        answers = [item["answer"] for item in read_items(prepared)["items"]]
        rows.append({"task": task} | measure(*read_answers(trace), answers, settings.confidence, settings.metric))
    write_table(pl.DataFrame(rows, schema=COLUMNS), table)


if __name__ == "__main__":
    run(main)
