"""Runs on SLURM: the command, the reduced demo's smaller config, edits of the profile, what SLURM says of jobs."""

import json
import subprocess
from pathlib import Path

from workflow_runs import PATIENCE, REDUCED, SNAKEMAKE, copy_repository

PROFILE = "workflow/profiles/slurm"
ON_SLURM = [*SNAKEMAKE, "--workflow-profile", PROFILE]
TARGETS = ["results/demo/importance.parquet", "results/demo/evidence/knock-out/ablation/retrieval.safetensors"]
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


def first_layers(folder: Path, n: int = 2) -> Path:
    """A copy of the repository whose model is the demo's first layers: a third of the jobs."""
    config = copy_repository(folder, SMALL) / "workflow/resources/demo-model/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": n}))
    return folder


def jobs_of(run: str) -> list[dict[str, str]]:
    """What SLURM keeps of the jobs of one run of Snakemake, in the order of submission."""
    jobs = [
        dict(field.split("=", 1) for field in line.split() if "=" in field)
        for line in ask("scontrol", "--oneliner", "show", "job").splitlines()
    ]
    return sorted((job for job in jobs if job.get("JobName") == run), key=lambda job: int(job["JobId"]))


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
