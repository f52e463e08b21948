"""Gather all score files of one model into one tidy table.

Reads the folder of the score files ({method}/{task}/layer-{layer}.parquet); writes the importance table (Parquet
and CSV), one row per method, task, layer and head; effects in nats per token.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.importance import gather, score_files, write_importance
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """Methods and tasks in the order of the rows; layers: number of layers of the model."""

    methods: list[str]
    tasks: list[str]
    layers: int


def main(settings: Settings, scores: Path, table: Path, csv: Path) -> None:
    methods, tasks = settings.methods, settings.tasks
    files = score_files(scores, methods, tasks, settings.layers)
    write_importance(gather(files, methods, tasks), table, csv)


if __name__ == "__main__":
    run(main)
