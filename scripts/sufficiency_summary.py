"""Summarise the heads kept alone: curves, head-CPR, head-CMD, and tests of which ranking predicts best.

Reads the knock-out files of all methods, of random rankings, and of all tasks (safetensors); writes tables (Parquet):
the curves, the areas per ranking and task, and paired tests between rankings; scores in nats.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.importance import write_table
from headatlas.evidence.ranking_tests import ranking_tests
from headatlas.evidence.sufficiency import areas_of_curves, sufficiency_curves
from headatlas.files.knock_outs import read_knock_outs
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """rankings: the methods and `random`, in the order of the rows, as are tasks; baseline: of the heads not kept."""

    rankings: list[str]
    tasks: list[str]
    baseline: str
    confidence: float
    seed: int


def main(settings: Settings, raw: list[Path], curve: Path, areas: Path, tests: Path) -> None:
    files = read_knock_outs(raw, settings.rankings, settings.tasks)
    how = (settings.confidence, settings.seed)
    write_table(sufficiency_curves(files.values(), *how), curve)
    write_table(areas_of_curves(files.values(), settings.baseline, *how), areas)
    write_table(ranking_tests(files, settings.tasks, *how), tests)


if __name__ == "__main__":
    run(main)
