"""Asks SLURM before submission whether it accepts the jobs of a run, and whether jobs of a dead run remain.

Otherwise a wrong partition or account fails every job at every retry, each with a page of output, and jobs that outlive
a killed Snakemake would write the same files as the next run. Standard library only; imported at parse time.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from headatlas.errors import HeadAtlasError

PROFILE = "workflow/profiles/slurm/config.yaml"
AGAIN = "run the same command again"
PATIENCE = 180  # seconds until a cancelled job must be gone; SLURM allows KillWait (30) and an epilog
ADVICE = {
    "TIMEOUT": f"over the time limit; raise runtime in {PROFILE} and {AGAIN}",
    "OUT_OF_MEMORY": f"out of memory; raise mem_mb in {PROFILE} and {AGAIN}",
    "CANCELLED": f"cancelled from outside; {AGAIN}",
    "NODE_FAIL": f"the node failed; {AGAIN}",
}


def check_requests(resources: Iterable[Mapping]) -> None:
    """Ask SLURM whether it would run each kind of job.

    Args:
        resources: of every job to be submitted, by Snakemake's names.

    Raises:
        HeadAtlasError: it would not; names the request, the reason and where to change it.
    """
    kinds = {request_options(each): each for each in resources}
    for options, each in sorted(kinds.items()):
        why = _refusal(options) or _too_long(each)
        if why:
            raise HeadAtlasError(f"SLURM cannot run a job with {shlex.join(options)}: {why}; see {PROFILE}")


def cancel_leftovers(state: Path, submits: bool) -> list[str]:
    """Cancel the jobs that a killed run in this folder left on SLURM, and wait until they are gone.

    Call this from the only active run in this folder, before it submits a job.

    Args:
        state: Snakemake's folder `.snakemake` of the run; submits: whether this run also uses SLURM.

    Returns:
        the numbers of the jobs.

    Raises:
        HeadAtlasError: SLURM does not list them, or they do not end.
    """
    if not (submits or (state / "slurm_logs").is_dir()) or shutil.which("squeue") is None:
        return []  # no run in this folder ever used SLURM, or SLURM is not installed
    found = left = _jobs_of(state)
    if found:
        subprocess.run(["scancel", *found], capture_output=True, timeout=60)
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        time.sleep(1)
        left = _jobs_of(state)
    if left:
        raise HeadAtlasError(
            f"SLURM jobs {', '.join(left)} of a run that was killed do not end, and would write what this run writes; "
            f"scancel them and {AGAIN} when squeue does not show them any more"
        )
    return found


def request_options(resources: Mapping) -> tuple[str, ...]:
    """The sbatch options for a job's resources, as the executor plugin would pass them."""
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


def advise(log: str) -> list[str]:
    """One line per reason for which SLURM ended jobs, from the log of a run, with what to do about it."""
    ended: dict[str, list[str]] = {}
    for job, status in re.findall(r"SLURM-job '([\d_]+)' failed.*?SLURM status is: '([A-Z_]+)", log):
        ended.setdefault(status, []).append(job)
    return [f"SLURM jobs {', '.join(ended[status])}: {what}" for status, what in ADVICE.items() if status in ended]


def allocated_memory(environment: Mapping[str, str] = os.environ) -> float:
    """Bytes of memory that SLURM gave the batch job in which this run is; infinite outside one, or for a whole node.

    A cluster need not enforce this by a control group: it may kill the job instead.
    """
    for unit, count in (
        ("SLURM_MEM_PER_NODE", None),
        ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
        ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
    ):
        megabytes = int(environment.get(unit, 0)) * int(environment.get(count, 1) if count else 1)
        if megabytes:
            return megabytes * 2**20
    return float("inf")


def minutes(limit: str) -> float:
    """SLURM's `[days-]hours:minutes:seconds`, `minutes:seconds` or `infinite` as minutes."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return float("inf")
    seconds = sum(int(part) * 60**place for place, part in enumerate(reversed(parts)))
    return 1440 * int(days or 0) + seconds / 60


def _jobs_of(state: Path) -> list[str]:
    """Ids of this user's running or waiting jobs that a Snakemake executor submitted in this folder."""
    call = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%k|%Z"]  # number, comment, working folder
    asked = subprocess.run(call, capture_output=True, text=True, timeout=60)
    if asked.returncode:
        if not any((state / "incomplete").iterdir()):
            return []
        said = " ".join(asked.stderr.split())
        raise HeadAtlasError(f"squeue cannot say whether a killed run has jobs left ({said}); {AGAIN} later")
    jobs = [line.split("|", 2) for line in asked.stdout.splitlines()]
    here = os.path.realpath(state.parent)
    return [job[0] for job in jobs if job[1].startswith("rule_") and os.path.realpath(job[2]) == here]


def _refusal(options: tuple[str, ...]) -> str | None:
    """Submit a job for a later time and cancel it at once; return SLURM's message if it refuses.

    `--test-only` also refuses what would merely wait for a drained node, and `--hold` accepts what no node could ever
    run.
    """
    call = ["sbatch", "--parsable", "--begin=now+1hour", "--job-name=headatlas-check", "--output=/dev/null"]
    done = subprocess.run([*call, *options, "--wrap=true"], capture_output=True, text=True)
    if done.returncode == 0:
        subprocess.run(["scancel", done.stdout.strip().split(";")[0]], capture_output=True)
        return None
    said = done.stderr.strip().splitlines() or ["sbatch failed and said nothing"]
    return said[-1].removeprefix("sbatch: error: ").removeprefix("Batch job submission failed: ")


def _too_long(resources: Mapping) -> str | None:
    """Why a job is too long: many clusters accept a job that exceeds the limit of its partition, and never start it."""
    wanted, partition = resources.get("runtime"), resources.get("slurm_partition")
    shown = subprocess.run(["sinfo", "--noheader", "--format=%P %l"], capture_output=True, text=True).stdout
    limits = dict(line.split() for line in shown.splitlines())
    default = [name for name in limits if name.endswith("*")]  # sinfo's mark
    chosen = str(partition).split(",") if partition else default
    known = [minutes(limits[name]) for each in chosen for name in (each, f"{each}*") if name in limits]
    if not wanted or not known or int(wanted) <= max(known):
        return None
    return f"partition {','.join(chosen).rstrip('*')} allows {max(known):g} minutes"
