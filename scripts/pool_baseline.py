"""What an ablated head outputs instead, pooled over the score split of all tasks.

Reads the traces of all tasks; writes mean head outputs and a pool to resample from (safetensors).
Settings: tasks (keys, in the order of the traces), pool_size, seed.
"""

from pathlib import Path

from headatlas.files.effects import pool_baseline
from headatlas.jobs.cli import run


def main(settings: dict, traces: list[Path], baseline: Path) -> None:
    by_task = dict(zip(settings["tasks"], traces, strict=True))
    pool_baseline(by_task, baseline, settings["pool_size"], settings["seed"])


if __name__ == "__main__":
    run(main)
