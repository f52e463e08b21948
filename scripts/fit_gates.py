"""Learn gates on all heads together from the score items of one task: one score a head and seed.

Reads items, the task's trace and, if the baseline needs it, the pooled baseline; writes an effects file (safetensors)
whose rows are seeds, in log-odds of the head's gate, and with `sign` the gates that were pushed. The log has the loss
on held-out questions, step by step.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.effects import clean_run, trace_shape, write_learned
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.baseline import choose_baseline
from headatlas.scoring.gates import fit_gates
from headatlas.scoring.work import gate_fits
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """gates: the config section; items: all | correct, those to learn from."""

    model: dict
    task: str
    gates: dict
    items: str
    seed: int


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
    _, correct, without_attention = clean_run(trace)
    every = read_split(items, "score")
    chosen = [item for item, right in zip(every, correct, strict=True) if right or settings.items == "all"]
    replacing = settings.gates | {"task": settings.task, "seed": settings.seed}
    replacement = choose_baseline(replacing, chosen, trace_shape(trace), trace, baseline)
    model = model_of_job(settings.model, chosen, device, threads, memory_mb, backward=True)
    total = gate_fits(settings.gates) * settings.gates["steps"]
    with progress("gates", total, "seeds x steps") as advance:
        fit, report = fit_gates(
            model, chosen, replacement, settings.gates, settings.seed, batch_tokens, advance, engine
        )
    questions = {item["question_id"] for item in chosen}
    write_learned(
        effects, fit.score, len(chosen), len(questions), without_attention, report.as_dict(), pushed=fit.pushed
    )


if __name__ == "__main__":
    run(main)
