"""Exact effect of ablating each group of query heads that share a key-value head, on the score items of one task.

Reads items, the task's trace and, if the baseline needs it, the pooled baseline; writes effects (safetensors), [item,
layer, group] in nats.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.effects import clean_run, write_effects
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.ablate_groups import ablate_groups
from headatlas.scoring.baseline import choose_baseline
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """groups: key-value heads of a layer; positions: answer | all; seed: of the draws (only for baseline resample)."""

    model: dict
    task: str
    groups: int
    baseline: str
    positions: str
    seed: int | None = None


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    return hold_model(settings.model, device, memory_mb)


def main(
    settings: Settings,
    items: Path,
    trace: Path,
    effects: Path,
    device: str,
    threads: int,
    batch_tokens: int,
    memory_mb: int,
    engine: str,
    baseline: Path | None = None,
) -> None:
    chosen = read_split(items, "score")
    model = model_of_job(settings.model, chosen, device, threads, memory_mb)
    replacement = choose_baseline(vars(settings), chosen, model.shape, trace, baseline)
    scores = len(chosen) * (1 + len(model.attention_layers) * settings.groups)
    with progress("ablate", scores, "items x groups") as advance:
        effect, report = ablate_groups(
            model, chosen, replacement, settings.groups, settings.positions, batch_tokens, advance, engine
        )
    write_effects(effects, effect, *clean_run(trace), engine=report.as_dict())


if __name__ == "__main__":
    run(main)
