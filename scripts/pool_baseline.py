"""Compute the outputs that replace those of an ablated head, pooled over the score split of all tasks.

Reads the traces of all tasks; writes mean head outputs and a pool for resampling (safetensors).
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.effects import pool_baseline
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of the traces; pool_size: number of items of all tasks in the pool for resampling."""

    tasks: list[str]
    pool_size: int
    seed: int


def main(settings: Settings, traces: list[Path], baseline: Path) -> None:
    by_task = dict(zip(settings.tasks, traces, strict=True))
    pool_baseline(by_task, baseline, settings.pool_size, settings.seed)


if __name__ == "__main__":
    run(main)
