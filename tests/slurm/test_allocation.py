"""The whole run as one SLURM job: it loads a model once, and a killed one is continued by submitting it again."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from headatlas.models.device import WORKERS
from slurm_runs import TARGETS, ask, first_layers
from workflow_runs import PATIENCE, environment

SCRIPT = "workflow/slurm/atlas.sbatch"
HERE = ("--partition=test", "--time=10", "--mem=6000", "--cpus-per-task=1")  # instead of what the script asks for


def submit(folder: Path) -> str:
    """Submit the run of a folder; the number of its job. Its one GPU is pretended: a worker of the CPU."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sbatch", "--parsable", *HERE, SCRIPT, *TARGETS]
    call = {"cwd": folder, "env": environment() | {"PATH": path, WORKERS: "cpu"}, "text": True}
    return subprocess.run(command, **call, capture_output=True, check=True).stdout.strip()


def wait(job: str, done) -> str:
    """Wait until a job has ended, or `done()`; its state."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        state = re.search(r"JobState=(\w+)", ask("scontrol", "show", "job", job))[1]
        if state not in ("PENDING", "RUNNING", "COMPLETING") or done():
            return state
        time.sleep(0.1)
    raise AssertionError(job)


def snakemake_log(folder: Path) -> str:
    """The newest log of Snakemake in a folder; empty if there is none."""
    logs = sorted((folder / ".snakemake/log").glob("*.log"))  # named after the time
    return logs[-1].read_text(encoding="utf-8") if logs else ""


class Submission:
    """What a submission did, by Snakemake's log and those of its jobs; made before the next one.

    `begun`, `finished`: jobs, by their outputs; `times`: of the files in results/; `loads`: how often a job loaded the
    model itself, and how often it found it there.
    """

    def __init__(self, folder: Path, before: "Submission | None" = None):
        log = snakemake_log(folder)
        jobs = re.findall(
            r"^(?:local)?rule \w+:\n(?: .*\n)*?    output: (.*)\n(?: .*\n)*?    jobid: (\d+)\n", log, re.MULTILINE
        )
        ended = set(re.findall(r"^Finished jobid: (\d+)", log, re.MULTILINE))
        self.begun = {output for output, _ in jobs}
        self.finished = {output for output, number in jobs if number in ended}
        self.times = {
            str(file.relative_to(folder)): file.stat().st_mtime_ns
            for file in (folder / "results").rglob("*")
            if file.is_file()
        }
        logs = [
            (folder / file).read_text(encoding="utf-8")
            for file, written in self.times.items()
            if file.endswith(".log") and not (before and before.times.get(file) == written)
        ]
        said = [line for text in logs for line in re.findall(r"^load_model: (.+)$", text, re.MULTILINE)]
        self.loads = Counter("found" if line == "shared with other jobs" else "loaded" for line in said)


@pytest.fixture(scope="module")
def submissions(slurm, tmp_path_factory):
    """Two submissions of a run: the first was killed after the first of two maps, and left its lock."""
    folder = first_layers(tmp_path_factory.mktemp("allocation") / "run")
    first = submit(folder)
    state = wait(first, lambda: "(Rule: ablate_layers)" in snakemake_log(folder))
    assert state == "RUNNING", (folder / f"headatlas-{first}.log").read_text()[-3000:]
    subprocess.run(["scancel", "--batch", "--signal=KILL", first], check=True)  # Snakemake alone
    wait(first, lambda: False)
    killed = Submission(folder)
    assert list((folder / ".snakemake/locks").iterdir())
    second = submit(folder)
    said = folder / f"headatlas-{second}.log"
    assert wait(second, lambda: False) == "COMPLETED", said.read_text()[-3000:]
    return killed, Submission(folder, killed)


def test_a_submission_loads_the_model_once(submissions):
    """Of five jobs that run it: two traces, two ablations, a knock-out."""
    killed, again = submissions
    assert (killed.loads["loaded"], again.loads["loaded"]) == (1, 1)
    assert killed.loads["found"] + again.loads["found"] >= 3


def test_the_next_submission_repeats_only_what_was_at_work(submissions):
    killed, again = submissions
    assert len(killed.finished) >= 3  # both traces and a map
    assert killed.finished & again.begun == set()
    assert again.finished == again.begun
    repeated = killed.begun & again.begun
    assert repeated <= killed.begun - killed.finished
    assert len(repeated) <= 1  # there is one core
    kept = [file for output in killed.finished for file in output.split(", ")]
    assert [file for file in kept if again.times[file] != killed.times[file]] == []
