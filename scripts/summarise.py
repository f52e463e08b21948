"""Summarise the maps of one model per method and task: sparsity, depth and hottest heads, with intervals over
questions.

Reads the importance table, the table of measure_capability and the folder of effects; writes tables (Parquet): the
summary, the pairwise comparisons of tasks, the layer profiles, the ten hottest heads.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.evidence.importance import read_importance, with_heads, write_table
from headatlas.evidence.summary import compare_tasks, hottest_heads, importance_left_out, layer_profile, summarise
from headatlas.files.scores import read_completeness, read_maps
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """effects: file names per method in {method}/, with placeholder {task}."""

    effects: dict[str, list[str]]
    tasks: list[str]
    items: str
    confidence: float
    seed: int


def main(
    settings: Settings,
    importance: Path,
    capability: Path,
    effects: Path,
    summary: Path,
    comparisons: Path,
    profiles: Path,
    hottest: Path,
) -> None:
    table = with_heads(read_importance(importance))
    left_out, completeness = {}, {}
    for method, task, read in read_maps(effects, settings.effects, settings.tasks, settings.items):
        first = effects / method / settings.effects[method][0].format(task=task)
        completeness[method, task] = read_completeness(first, read)
        # Nothing can be left out where heads were measured on different items, or without learning again.
        whole = read.complete and read.seeds is None
        left_out[method, task] = importance_left_out(read.flat, read.question, (settings.seed,)) if whole else None
    found = summarise(table, left_out, settings.confidence, completeness)
    write_table(found.join(pl.read_parquet(capability), on="task", how="left", maintain_order="left"), summary)
    write_table(compare_tasks(table, left_out, settings.confidence), comparisons)
    write_table(layer_profile(table, left_out, settings.confidence), profiles)
    write_table(hottest_heads(table), hottest)


if __name__ == "__main__":
    run(main)
