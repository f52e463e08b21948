"""Train the probe on the head outputs of all tasks' score items and score every head on held-out questions.

Reads the traces of all tasks; writes one effects file per task (safetensors, in logits) and a report (JSON):
held-out accuracy and confusion matrix. `permutations` in the probe's settings is the number of refits with permuted
labels; each effects file holds its task's null, and the report the accuracies under the null.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from headatlas.files.effects import clean_run, score_outputs, write_effects
from headatlas.jobs.cli import run, write_json
from headatlas.jobs.workers import Place
from headatlas.models.device import choose_device, make_room, place_of_job
from headatlas.scoring.probe import fit_probes, probe_report
from headatlas.scoring.probe_null import gather_null, permuted_labels


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of the traces; probe: the config section."""

    tasks: list[str]
    seed: int
    probe: dict


def prepare(device: str) -> Place | None:
    return place_of_job(device)


def main(settings: Settings, traces: list[Path], effects: list[Path], report: Path, device: str, threads: int) -> None:
    device = choose_device(device, threads)
    make_room(device)
    outputs, labels, questions = score_outputs(traces)
    runs = [clean_run(trace) for trace in traces]
    permuted = permuted_labels(labels, questions, settings.probe["permutations"], settings.seed)
    fits = fit_probes(outputs, [labels, *permuted], questions, settings.probe, settings.seed, device)
    result = next(fits)
    correct = np.concatenate([correct for _, correct, _ in runs])
    null, accuracy = gather_null(zip(permuted, fits, strict=True), questions, correct, len(traces))
    for label, path in enumerate(effects):
        write_effects(path, result.effect[labels == label], *runs[label], null=null[label])
    write_json(report, probe_report(result, labels, settings.tasks, accuracy))


if __name__ == "__main__":
    run(main)
