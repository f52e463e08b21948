"""Train the probe on the head outputs of all tasks' score items and score every head on held-out questions.

Reads the traces of all tasks; writes one effects file per task (safetensors, in logits) and a report (JSON):
held-out accuracy and confusion matrix. Settings: tasks (keys, in the order of the traces), seed, probe.
"""

from pathlib import Path

import torch
from headatlas.effects import clean_run, score_outputs, write_effects
from headatlas.job import run, write_json
from headatlas.probe import fit_probe, probe_report


def main(settings: dict, traces: list[Path], effects: list[Path], report: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    outputs, labels, questions = score_outputs(traces)
    result = fit_probe(outputs, labels, questions, settings["probe"], settings["seed"])
    for label, (trace, path) in enumerate(zip(traces, effects, strict=True)):
        write_effects(path, result.effect[labels == label], *clean_run(trace))
    write_json(report, probe_report(result, labels, settings["tasks"]))


if __name__ == "__main__":
    run(main)
