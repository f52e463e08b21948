"""Measure how well a bag of words, without activations, tells the tasks apart: by prompt, answer, or both.

Reads the items of all tasks (JSON); writes a table (Parquet): task, input (prompt | answer | both),
accuracy, majority (share of the largest task), ci_low, ci_high (of the accuracy, over questions),
n_items. The task "(all)" stands for all items.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.evidence.bag_of_words import surface_control
from headatlas.evidence.importance import write_table
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """matched: use only items matched in their answers' number of words and digits."""

    folds: int
    matched: bool
    confidence: float
    seed: int


def main(settings: Settings, items: list[Path], table: Path) -> None:
    read = [json.loads(path.read_text(encoding="utf-8")) for path in items]
    found = surface_control({content["task"]: content["items"] for content in read}, **vars(settings))
    write_table(pl.DataFrame(found), table)


if __name__ == "__main__":
    run(main)
