"""Asks SLURM, before anything is submitted, whether it takes the jobs of a run.

A wrong partition or account otherwise fails every job at every retry, each with a page of command line.
Standard library only; imported at parse time.
"""

import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping

from headatlas.errors import HeadAtlasError

PROFILE = "workflow/profiles/slurm/config.yaml"
AGAIN = "run the same command again"
ADVICE = {
    "TIMEOUT": f"over the time limit; raise runtime in {PROFILE} and {AGAIN}",
    "OUT_OF_MEMORY": f"out of memory; raise mem_mb in {PROFILE} and {AGAIN}",
    "CANCELLED": f"cancelled from outside; {AGAIN}",
    "NODE_FAIL": f"the node failed; {AGAIN}",
}


def check_requests(resources: Iterable[Mapping]) -> None:
    """Ask SLURM whether it would run each kind of job.

    Args:
        resources: of every job to be submitted, as Snakemake names them.

    Raises:
        HeadAtlasError: it would not; says what was asked for, why not and where it is set.
    """
    kinds = {request_options(each): each for each in resources}
    for options, each in sorted(kinds.items()):
        why = _refusal(options) or _too_long(each)
        if why:
            raise HeadAtlasError(f"SLURM cannot run a job with {shlex.join(options)}: {why}; see {PROFILE}")


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


def advise(log: str) -> list[str]:
    """A line for each reason for which SLURM itself ended jobs, as told by the log of a run: what to do about it."""
    ended: dict[str, list[str]] = {}
    for job, status in re.findall(r"SLURM-job '([\d_]+)' failed.*?SLURM status is: '([A-Z_]+)", log):
        ended.setdefault(status, []).append(job)
    return [f"SLURM jobs {', '.join(ended[status])}: {what}" for status, what in ADVICE.items() if status in ended]


def minutes(limit: str) -> float:
    """SLURM's `[days-]hours:minutes:seconds`, `minutes:seconds` or `infinite` as minutes."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return float("inf")
    seconds = sum(int(part) * 60**place for place, part in enumerate(reversed(parts)))
    return 1440 * int(days or 0) + seconds / 60


def _refusal(options: tuple[str, ...]) -> str | None:
    """Submit a job for some later time and take it back at once; what SLURM said if it refuses.

    `--test-only` will not do, since it also refuses what would only have to wait, for a drained node; nor `--hold`,
    which takes what no node could ever run.
    """
    call = ["sbatch", "--parsable", "--begin=now+1hour", "--job-name=headatlas-check", "--output=/dev/null"]
    done = subprocess.run([*call, *options, "--wrap=true"], capture_output=True, text=True)
    if done.returncode == 0:
        subprocess.run(["scancel", done.stdout.strip().split(";")[0]], capture_output=True)
        return None
    said = done.stderr.strip().splitlines() or ["sbatch failed and said nothing"]
    return said[-1].removeprefix("sbatch: error: ").removeprefix("Batch job submission failed: ")


def _too_long(resources: Mapping) -> str | None:
    """Many a cluster takes a job that is longer than its partition allows, and never starts it."""
    wanted, partition = resources.get("runtime"), resources.get("slurm_partition")
    shown = subprocess.run(["sinfo", "--noheader", "--format=%P %l"], capture_output=True, text=True).stdout
    limits = dict(line.split() for line in shown.splitlines())
    default = [name for name in limits if name.endswith("*")]  # sinfo's mark
    chosen = str(partition).split(",") if partition else default
    known = [minutes(limits[name]) for each in chosen for name in (each, f"{each}*") if name in limits]
    if not wanted or not known or int(wanted) <= max(known):
        return None
    return f"partition {','.join(chosen).rstrip('*')} allows {max(known):g} minutes"
