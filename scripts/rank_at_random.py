"""Rank all heads at random, many times for each task: the sets of heads to keep with which rankings are compared.

Reads one trace (which heads exist); writes JSON as `choose_heads` does, with the method `random`.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.knock_out_sets import keep_random
from headatlas.files.effects import output_norms
from headatlas.files.knock_outs import RANDOM
from headatlas.jobs.cli import run, write_json


@dataclass(frozen=True)
class Settings:
    """rankings: their number for each task."""

    tasks: list[str]
    rankings: int
    seed: int


def main(settings: Settings, trace: Path, sets: Path) -> None:
    norms = output_norms(trace)
    chosen = {
        task: keep_random(norms, settings.rankings, (settings.seed, index)) for index, task in enumerate(settings.tasks)
    }
    write_json(sets, {"method": RANDOM, "dissociation_k": None, "sets": chosen})


if __name__ == "__main__":
    run(main)
