"""Compare a model's maps head by head with those of another run whose model has as many layers and heads.

Reads the effects and the items (JSON, in the order of the tasks) of both; writes a table with a row per head and one
with a row per map (Parquet, see `headatlas.evidence.changes`): differences are this model's effects minus the other's.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.evidence.changes import Pair, changes
from headatlas.evidence.importance import write_table
from headatlas.files.scores import read_task
from headatlas.jobs.cli import run
from headatlas.stats.difference import Sample
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """effects, other_effects: names of the effects files by method, with placeholder {task}; compared_to: name of the
    other run; items: all | correct; top: share of the heads that count as top."""

    tasks: list[str]
    effects: dict[str, list[str]]
    other_effects: dict[str, list[str]]
    compared_to: str
    items: str
    confidence: float
    top: float


def main(
    settings: Settings,
    items: list[Path],
    effects: Path,
    other_items: list[Path],
    other_effects: Path,
    heads: Path,
    maps: Path,
) -> None:
    pairs = {}
    for method in settings.effects:
        for task, *prepared in zip(settings.tasks, items, other_items, strict=True):
            sides = (effects, settings.effects), (other_effects, settings.other_effects)
            samples = [
                _sample(folder / method, names[method], task, path, settings.items)
                for (folder, names), path in zip(sides, prepared, strict=True)
            ]
            shapes = [sample.effects.shape[1:] for sample in samples]
            if shapes[0] != shapes[1]:
                held = [f"{layers} layers of {heads} heads" for layers, heads in shapes]
                raise HeadAtlasError(
                    f"{other_effects}: holds {held[1]}, but {effects} {held[0]}; heads of models of different sizes do "
                    "not correspond, so remove compare_to"
                )
            pairs[method, task] = Pair(*samples)
    tables = changes(pairs, settings.compared_to, settings.confidence, settings.top)
    for table, path in zip(tables, (heads, maps), strict=True):
        write_table(table, path)


def _sample(folder: Path, names: list[str], task: str, items: Path, kept: str) -> Sample:
    """An item is the same in two runs if it has the same id and the same answer."""
    read = read_task(folder, names, task, kept)
    every = read_split(items, "score")
    asked = [every[row] for row in read.row]
    identity = [(item["id"], item["answer"].strip()) for item in asked]
    return Sample(read.effect, identity, [item["question_id"] for item in asked])


if __name__ == "__main__":
    run(main)
