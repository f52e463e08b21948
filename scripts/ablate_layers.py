"""Exact effect of ablating each head of a block of layers, one at a time, on the score items of one task.

Reads items, the task's trace and, if the baseline needs it, the pooled baseline; writes effects (safetensors) in nats.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.effects import clean_run, question_index, write_effects
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.adaptive import ablate_adaptively
from headatlas.scoring.baseline import choose_baseline
from headatlas.stats.adaptive import Bound
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """positions: answer | all; seed: of the draws (only for baseline resample).

    adaptive: `bound` (`stats.adaptive.Bound`) and `seed` (of the order of questions), to measure on all items only
    heads that may reach the bound.
    """

    model: dict
    task: str
    first_layer: int
    last_layer: int
    baseline: str
    positions: str
    seed: int | None = None
    adaptive: dict | None = None


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
    layers = range(settings.first_layer, settings.last_layer + 1)
    with_heads = sum(model.attentions[layer] is not None for layer in layers)
    passes, rounds = (model, chosen, replacement, layers, settings.positions, batch_tokens), None
    with progress("ablate", len(chosen) * with_heads * model.n_heads, "items x heads") as advance:
        if settings.adaptive is None:
            effect, report = ablate_layers(*passes, advance, engine)
        else:
            rule = (question_index(chosen), Bound(**settings.adaptive["bound"]), (settings.adaptive["seed"],))
            effect, rounds, report = ablate_adaptively(*passes, *rule, advance, engine)
    clean = clean_run(trace)
    write_effects(effects, effect, *clean, first_layer=layers.start, engine=report.as_dict(), rounds=rounds)


if __name__ == "__main__":
    run(main)
