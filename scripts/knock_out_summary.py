"""Summarise knock-outs of one model: curves, areas and dissociation matrix, with intervals over questions and draws.

Reads the knock-out files of all methods and source tasks (safetensors); writes tables (Parquet): the curves,
the area per method and task, the dissociation matrix per method, and the dominance of its diagonal; effects in nats.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.importance import write_table
from headatlas.evidence.knock_out_curves import areas, curves, dissociation
from headatlas.files.knock_outs import read_knock_outs
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """Methods and tasks in the order of the rows."""

    methods: list[str]
    tasks: list[str]
    resamples: int
    permutations: int
    confidence: float
    seed: int


def main(settings: Settings, raw: list[Path], curve: Path, area: Path, matrix: Path, dominance: Path) -> None:
    files = list(read_knock_outs(raw, settings.methods, settings.tasks).values())
    options = {"resamples": settings.resamples, "confidence": settings.confidence, "seed": settings.seed}
    write_table(curves(files, settings.confidence), curve)
    write_table(areas(files, **options), area)
    cells, merit = dissociation(files, settings.tasks, permutations=settings.permutations, **options)
    write_table(cells, matrix)
    write_table(merit, dominance)


if __name__ == "__main__":
    run(main)
