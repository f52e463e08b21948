"""First-order effect of every head (attribution with one step) on the score items of one task; no model needed.

Reads items, the task's trace with its gradient terms and, if the baseline needs it, the pooled baseline; writes effects
(safetensors) in nats.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.effects import attribution_from_terms, clean_run, read_baseline, trace_shape, write_effects
from headatlas.jobs.cli import run
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """positions: answer | all; seed: of the draws (only for baseline resample)."""

    task: str
    baseline: str
    positions: str
    seed: int | None = None


def main(settings: Settings, items: Path, trace: Path, effects: Path, baseline: Path | None = None) -> None:
    chosen = read_split(items, "score")
    replacement = None  # the trace has the terms of the counterfactual prompts
    if settings.baseline != "counterfactual":
        replacement = read_baseline(vars(settings), chosen, trace_shape(trace), trace, baseline)
    write_effects(effects, attribution_from_terms(trace, replacement, settings.positions), *clean_run(trace))


if __name__ == "__main__":
    run(main)
