"""Asks SLURM, before anything is submitted, whether it takes the jobs of a run.

A wrong partition or account otherwise fails every job at every retry, each with a page of command line.
Standard library only; imported at parse time.
"""

import shlex
import subprocess
from collections.abc import Iterable, Mapping

from headatlas.errors import HeadAtlasError

PROFILE = "workflow/profiles/slurm/config.yaml"


def check_requests(resources: Iterable[Mapping]) -> None:
    """Submit one job of each kind as held, and take it back at once.

    `sbatch --test-only` will not do: it also refuses what would only have to wait, for a drained node.

    Args:
        resources: of every job to be submitted, as Snakemake names them.

    Raises:
        HeadAtlasError: SLURM refuses a kind; says what was asked for, what SLURM said and where it is set.
    """
    for options in sorted({request_options(each) for each in resources}):
        call = ["sbatch", "--parsable", "--hold", "--job-name=headatlas-check", "--output=/dev/null"]
        done = subprocess.run([*call, *options, "--wrap=true"], capture_output=True, text=True)
        if done.returncode == 0:
            subprocess.run(["scancel", done.stdout.strip().split(";")[0]], capture_output=True)
            continue
        said = done.stderr.strip().splitlines() or ["nothing"]
        why = said[-1].removeprefix("sbatch: error: ").removeprefix("Batch job submission failed: ")
        raise HeadAtlasError(f"SLURM refuses a job that asks for {shlex.join(options)}: {why}; see {PROFILE}")


def request_options(resources: Mapping) -> tuple[str, ...]:
    """The options of sbatch for a job's resources, as the executor plugin would pass them."""
    flags = {
        "slurm_partition": "--partition",
        "slurm_account": "--account",
        "qos": "--qos",
        "constraint": "--constraint",
        "runtime": "--time",
        "mem_mb": "--mem",
    }
    options = [f"{flag}={resources[name]}" for name, flag in flags.items() if resources.get(name)]
    if resources.get("gpu"):
        model = f"{resources['gpu_model']}:" if resources.get("gpu_model") else ""
        options.append(f"--gpus={model}{resources['gpu']}")
    if resources.get("gres"):
        options.append(f"--gres={resources['gres']}")
    return (*options, *shlex.split(str(resources.get("slurm_extra") or "")))
