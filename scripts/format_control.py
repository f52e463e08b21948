"""How a task's map changes when its items are matched to another task's in their answers' number of words and digits.

Reads items (JSON) and the folder of effects; writes a table (Parquet): method, and the columns of
`headatlas.evidence.answer_format`. Not for the probe, which learns answer formats and would have to be retrained.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.evidence.answer_format import Answered, format_control
from headatlas.evidence.bag_of_words import answer_format
from headatlas.evidence.importance import write_table
from headatlas.files.scores import read_maps
from headatlas.jobs.cli import run
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """effects: file names per method in {method}/, with placeholder {task}; tasks in the order of the items."""

    effects: dict[str, list[str]]
    tasks: list[str]
    items: str
    top: float
    shuffles: int
    confidence: float
    seed: int


def main(settings: Settings, items: list[Path], effects: Path, table: Path) -> None:
    options = {"top": settings.top, "shuffles": settings.shuffles}
    options |= {"confidence": settings.confidence, "seed": settings.seed}
    scored = {
        task: [answer_format(item["answer"]) for item in read_split(path, "score")]
        for task, path in zip(settings.tasks, items, strict=True)
    }
    rows = []
    for method, names in settings.effects.items():
        tasks = {
            task: Answered(read.flat, read.question, [scored[task][row] for row in read.row])
            for _, task, read in read_maps(effects, {method: names}, settings.tasks, settings.items)
        }
        rows += [{"method": method} | row for row in format_control(tasks, **options)]
    write_table(pl.DataFrame(rows, infer_schema_length=None), table)


if __name__ == "__main__":
    run(main)
