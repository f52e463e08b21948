"""Compare models: sparsity, depth and dissociation of each, and profiles over layers of every two.

Reads each model's summary, its items (JSON, model by model in the order of the tasks), the folder of its effects and,
if heads were knocked out, its dominances; writes two tables, each as Parquet and as CSV: one row per model, method and
task, and one per pair of models, method and task (see `headatlas.evidence.comparison`). Depth is relative: 0 is the
first layer, 1 the last.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from headatlas.evidence.comparison import Mapped, pairs, side_by_side
from headatlas.evidence.importance import write_csv, write_table
from headatlas.files.scores import read_maps
from headatlas.jobs.cli import run
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """Models in the order of the files; effects: file names per model and method, with placeholder {task}."""

    models: list[str]
    tasks: list[str]
    effects: dict[str, dict[str, list[str]]]
    items: str
    permutations: int
    confidence: float
    seed: int


def main(
    settings: Settings,
    summaries: list[Path],
    items: list[Path],
    effects: list[Path],
    table: Path,
    csv: Path,
    paired: Path,
    paired_csv: Path,
    dominances: list[Path] = [],  # noqa: B006 (never changed)
) -> None:
    models, n_tasks = settings.models, len(settings.tasks)
    maps = {
        model: _maps(settings, model, items[i * n_tasks : (i + 1) * n_tasks], effects[i])
        for i, model in enumerate(models)
    }
    layers = {model: next(iter(found.values())).effects.shape[1] for model, found in maps.items()}
    known = [dict(zip(models, map(pl.read_parquet, files), strict=False)) for files in (summaries, dominances)]
    for found, parquet, text in (
        (side_by_side(known[0], layers, known[1]), table, csv),
        (pairs(maps, settings.confidence, settings.permutations, settings.seed), paired, paired_csv),
    ):
        write_table(found, parquet)
        write_csv(found, text)


def _maps(settings: Settings, model: str, items: list[Path], effects: Path) -> dict[tuple[str, str], Mapped]:
    """One model's maps by (method, task)."""
    questions = {
        task: [item["question_id"] for item in read_split(path, "score")]
        for task, path in zip(settings.tasks, items, strict=True)
    }
    maps = {}
    for method, task, read in read_maps(effects, settings.effects[model], settings.tasks, settings.items):
        # A layer without attention has no share of the importance: it has no heads.
        effect = np.nan_to_num(read.effect) if read.without_attention else read.effect
        # Seeds count as a single question, which has no interval.
        asked = [questions[task][row] for row in read.row] if read.seeds is None else [""] * len(effect)
        maps[method, task] = Mapped(effect, asked)
    return maps


if __name__ == "__main__":
    run(main)
