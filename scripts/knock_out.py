"""Knock out the chosen sets of heads of every task's map, and measure each task on held-out questions.

A set is of heads to knock out, or of heads to keep while all others are knocked out. Reads the sets (JSON), the items
of all tasks and the pooled baseline; writes one file per source task (safetensors, see `headatlas.files.knock_outs`):
score in nats and correctness of each validate item.
"""

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from headatlas.files.effects import question_index
from headatlas.files.knock_outs import KnockOut, Target, knocked_out, shared_sets, write_knock_out
from headatlas.jobs.cli import log, run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.baseline import choose_baseline
from headatlas.scoring.knock_out import distinct, knock_out
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of items and outputs; baseline: mean | zero | counterfactual; positions: answer | all."""

    model: dict
    tasks: list[str]
    baseline: str
    positions: str


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    return hold_model(settings.model, device, memory_mb)


def main(
    settings: Settings,
    sets: Path,
    items: list[Path],
    baseline: Path,
    knock_outs: list[Path],
    device: str,
    threads: int,
    batch_tokens: int,
    memory_mb: int,
    engine: str,
) -> None:
    chosen = json.loads(sets.read_text(encoding="utf-8"))
    questions = {task: read_split(path, "validate") for task, path in zip(settings.tasks, items, strict=True)}
    model = model_of_job(settings.model, chain(*questions.values()), device, threads, memory_mb)
    targets: dict[str, dict[str, Target]] = {task: {} for task in settings.tasks}
    engines = {}
    every = [(layer, head) for layer in model.attention_layers for head in range(model.n_heads)]
    wanted = {task: {source: shared_sets(chosen, source, task) for source in settings.tasks} for task in settings.tasks}
    heads = {
        task: [knocked_out(chosen["sets"][source][index], every) for source, rows in kept.items() for index in rows]
        for task, kept in wanted.items()
    }
    passes = {task: len(distinct(sets)[0]) for task, sets in heads.items()}
    log.info("%d sets, of which %d differ", sum(map(len, heads.values())), sum(passes.values()))
    total = sum(len(asked) * passes[task] for task, asked in questions.items())
    with progress("knock out", total, "items x sets") as advance:
        for target, asked in questions.items():
            replacement = choose_baseline(vars(settings), asked, model.shape, None, baseline)
            *found, report = knock_out(
                model, asked, heads[target], replacement, settings.positions, batch_tokens, advance, engine
            )
            engines[target] = report.as_dict()
            start = 0
            for source, rows in wanted[target].items():
                part = slice(start, start + len(rows))
                targets[source][target] = Target(rows, found[0][part], found[1][part], question_index(asked))
                start = part.stop
    for source, path in zip(settings.tasks, knock_outs, strict=True):
        known = (chosen["method"], source, chosen["dissociation_k"], chosen["sets"][source])
        write_knock_out(path, KnockOut(*known, targets[source], engines))


if __name__ == "__main__":
    run(main)
