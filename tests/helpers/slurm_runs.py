"""Runs by the SLURM profile: the command, the reduced demo's smaller config, edits of the profile."""

from pathlib import Path

from workflow_runs import REDUCED, SNAKEMAKE

PROFILE = "workflow/profiles/slurm"
ON_SLURM = [*SNAKEMAKE, "--workflow-profile", PROFILE]
ON_GPU = {"trace_task", "ablate_layers", "fit_probe", "knock_out"}
SMALL = REDUCED | {
    "models": {"demo": {"path": "workflow/resources/demo-model"}},
    "tasks": {task: REDUCED["tasks"][task] for task in ("retrieval", "inference")},
    "items": {"max_items": 12},
}


def set_in_profile(folder: Path, old: str, new: str) -> None:
    file = folder / PROFILE / "config.yaml"
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new), encoding="utf-8")
