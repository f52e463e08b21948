"""Choose the sets of heads to knock out, for every task's map of one method: top, bottom and random heads; and to keep.

Reads the folder of effects and the traces of all tasks (for the norms of head outputs); writes JSON: the sets of each
task (see `headatlas.evidence.knock_out_sets`) and the set size at which tasks are compared. It reads effects instead of
the importance table, so that adding a method or changing the confidence of intervals repeats no knock-outs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from headatlas.evidence.knock_out_sets import choose_sets, compared_size, k_grid, keep_top
from headatlas.files.effects import output_norms
from headatlas.files.scores import read_maps
from headatlas.jobs.cli import run, write_json
from headatlas.stats.concentration import elbow
from headatlas.stats.head_statistics import mean_effects


@dataclass(frozen=True)
class Settings:
    """effects: names of the method's files in {method}/, with placeholder {task}; tasks in the order of the traces.

    dissociation_k null: a tenth of the heads. sufficiency: whether to choose sets to keep.
    """

    method: str
    effects: dict[str, list[str]]
    tasks: list[str]
    items: str
    draws: int
    dissociation_k: int | None
    sufficiency: bool
    seed: int


def main(settings: Settings, effects: Path, traces: list[Path], sets: Path) -> None:
    chosen, maps = {}, read_maps(effects, settings.effects, settings.tasks, settings.items)
    for index, ((_, task, read), trace) in enumerate(zip(maps, traces, strict=True)):
        effect = mean_effects(read.effect, read.question)
        sizes = abs(effect[~np.isnan(effect)])
        size = settings.dissociation_k or compared_size(len(sizes))
        ks = {*k_grid(len(sizes), elbow(sizes)), size}
        chosen[task] = choose_sets(effect, output_norms(trace), ks, settings.draws, (settings.seed, index))
        chosen[task] += keep_top(effect) if settings.sufficiency else []
    write_json(sets, {"method": settings.method, "dissociation_k": size, "sets": chosen})


if __name__ == "__main__":
    run(main)
