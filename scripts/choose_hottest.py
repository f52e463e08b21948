"""Choose the heads of each task to patch from other prompts: those with the largest effects by exact ablation.

Reads the folder of effects (score split); writes JSON: the heads of each task ([[layer, head], ...], hottest first).
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.scores import read_maps
from headatlas.jobs.cli import run, write_json
from headatlas.stats.head_statistics import mean_effects
from headatlas.stats.ranking import hottest


@dataclass(frozen=True)
class Settings:
    """effects: names of ablation's files in ablation/, with placeholder {task}; top: share of the heads to choose."""

    effects: dict[str, list[str]]
    tasks: list[str]
    items: str
    top: float


def main(settings: Settings, effects: Path, heads: Path) -> None:
    maps = read_maps(effects, settings.effects, settings.tasks, settings.items)
    chosen = {task: hottest(mean_effects(read.effect, read.question), settings.top) for _, task, read in maps}
    write_json(heads, chosen)


if __name__ == "__main__":
    run(main)
