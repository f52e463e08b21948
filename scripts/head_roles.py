"""Tabulate what each head does, and whether the hottest heads of each task are those of a role.

Reads the file of describe_heads and the folder of effects; writes tables (Parquet, see
`headatlas.evidence.roles`): heads, their roles on each task, and the overlap of roles with effects.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from headatlas.evidence.importance import write_table
from headatlas.evidence.roles import Map, heads_table, role_overlap, roles_table
from headatlas.evidence.summary import importance_left_out
from headatlas.files.roles import read_roles
from headatlas.files.scores import read_maps
from headatlas.jobs.cli import run
from headatlas.stats.head_statistics import mean_effects


@dataclass(frozen=True)
class Settings:
    """name: of the model; effects: file names per method in {method}/, with placeholder {task}; top: share of the
    heads that count as strongest; items: all | correct."""

    name: str
    effects: dict[str, list[str]]
    tasks: list[str]
    items: str
    top: float
    confidence: float
    seed: int


def main(settings: Settings, roles: Path, effects: Path, heads: Path, table: Path, overlap: Path) -> None:
    found = read_roles(roles)
    maps = {}
    for method, task, read in read_maps(effects, settings.effects, settings.tasks, settings.items):
        importance = np.abs(mean_effects(read.effect, read.question))
        # Nothing can be left out where heads were measured on different items, or without learning again.
        whole = read.complete and read.seeds is None
        left_out = importance_left_out(read.flat, read.question, (settings.seed,)) if whole else None
        maps[method, task] = Map(importance, left_out)
    write_table(heads_table(settings.name, found), heads)
    write_table(roles_table(found, settings.confidence), table)
    write_table(role_overlap(found, maps, settings.top, settings.confidence), overlap)


if __name__ == "__main__":
    run(main)
