"""Attribution of every head on the score items of one task, by gradients that the trace does not have.

Reads items, the task's trace and, if the baseline needs it, the pooled baseline; writes effects (safetensors) in nats,
and for integrated gradients the sum that those of an item should have.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.effects import clean_run, trace_shape, write_effects
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.attribution import integrate, path_gains, path_points
from headatlas.scoring.baseline import choose_baseline
from headatlas.scoring.work import effects_add_up
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """positions: answer | all; path: line | expected, steps: points on it; rule: plain | gim, of the backward pass;
    seed: of the draws (only for path expected or baseline resample)."""

    model: dict
    task: str
    baseline: str
    positions: str
    path: str
    steps: int
    rule: str
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
    baseline: Path | None = None,
) -> None:
    chosen = read_split(items, "score")
    replacement = choose_baseline(vars(settings), chosen, trace_shape(trace), trace, baseline)
    model = model_of_job(settings.model, chosen, device, threads, memory_mb, backward=True)
    points = path_points(chosen, settings.path, settings.steps, settings.seed)
    with progress("attribute", points.size, "items x steps") as advance:
        effect = integrate(model, chosen, replacement, settings.positions, points, batch_tokens, advance, settings.rule)
    gain = None
    if effects_add_up(vars(settings)):
        gain = path_gains(model, chosen, replacement, settings.positions, batch_tokens)
    write_effects(effects, effect, *clean_run(trace), gain=gain)


if __name__ == "__main__":
    run(main)
