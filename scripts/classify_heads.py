"""Classify each head by the gates that were pushed open and shut: facilitating, interfering or irrelevant.

Reads the effects of gates of all tasks (safetensors); writes a table (Parquet, see `headatlas.evidence.head_classes`).
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.head_classes import head_classes
from headatlas.evidence.importance import write_table
from headatlas.files.scores import read_pushed
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """tasks in the order of the files."""

    tasks: list[str]


def main(settings: Settings, effects: list[Path], table: Path) -> None:
    gates = {task: read_pushed(path) for task, path in zip(settings.tasks, effects, strict=True)}
    write_table(head_classes(gates), table)


if __name__ == "__main__":
    run(main)
