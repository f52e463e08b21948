"""Runs on SLURM: what is submitted and with which requests, and that results are the local run's."""

import itertools
import re
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.workflow.slurm import check_requests
from slurm_runs import ON_GPU, ON_SLURM, TARGETS, ask, first_layers, jobs_of, set_in_profile
from workflow_runs import PATIENCE, SNAKEMAKE, environment

pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[slurm]' has the executor")

QUICK = ["--slurm-init-seconds-before-status-checks", "3", "--seconds-between-status-checks", "3"]


@pytest.fixture
def cluster_copy(tmp_path):
    """The reduced demo, and the profile with the settings of the test SLURM, made by uncommenting its lines."""
    return prepare(tmp_path / "cluster")


def prepare(folder: Path) -> Path:
    first_layers(folder)
    set_in_profile(folder, "# slurm_partition: gpu #", "slurm_partition: test #")
    set_in_profile(folder, "min(120 * attempt, 1440)", "min(10 * attempt, 60)")
    set_in_profile(folder, "mem_mb: 12000 * attempt", "mem_mb: 2000 * attempt")
    set_in_profile(folder, "# config: [", "config: [")
    set_in_profile(folder, "layers_per_job: 8", "layers_per_job: 2")
    return folder


def rule_of(job: dict[str, str]) -> str:
    return re.fullmatch(r"rule_(\w+?)_wildcards_.*", job["Comment"]).group(1)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"slurm_partition": "nope"},
            "--partition=nope: Invalid partition name specified; see workflow/profiles/slurm",
        ),
        ({"gpu": 2}, "--gpus=2: Requested node configuration is not available"),
        ({"gpu": 1, "gpu_model": "h100"}, "--gpus=h100:1: Requested node configuration is not available"),
        ({"slurm_partition": "test", "runtime": 61}, "--time=61: partition test allows 60 minutes"),
        ({"runtime": 61}, "--time=61: partition test allows 60 minutes"),
    ],
)
def test_request_that_slurm_would_refuse(slurm, request_, message):
    with pytest.raises(HeadAtlasError, match=re.escape(message)):
        check_requests([{"runtime": 1, "gpu": 1}, request_])


def test_good_requests_leave_nothing_in_the_queue(slurm):
    check_requests([{"slurm_partition": "test", "runtime": 60, "gpu": 1, "mem_mb": 100}] * 3)
    assert "headatlas-check" not in ask("squeue", "--noheader", "--format=%j")


def test_wrong_partition_is_one_line_and_no_job(slurm, cluster_copy):
    set_in_profile(cluster_copy, "slurm_partition: test #", "slurm_partition: nope #")
    done = subprocess.run(
        [*ON_SLURM, *TARGETS], cwd=cluster_copy, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "nope" in line]
    assert len(lines) == 1
    assert "Invalid partition name specified; see workflow/profiles/slurm/config.yaml" in lines[0]
    assert "Traceback" not in done.stderr
    assert not (cluster_copy / "results/demo").exists()


@pytest.fixture(scope="module")
def runs(slurm, tmp_path_factory):
    """The reduced demo on SLURM, and without it; a first run on SLURM was killed, the second lost its first job.

    Returns both folders and what SLURM says of the jobs of the second and of the first run.
    """
    here = first_layers(tmp_path_factory.mktemp("runs") / "here")
    there = prepare(here.with_name("there"))
    killed, cluster = start(there, "killed.txt"), None
    try:
        first = wait_for(killed, there / "killed.txt", ["PENDING", "RUNNING"])[0]["JobName"]
        killed.kill()
        killed.wait()
        cluster = start(there, "run.txt")
        running = wait_for(cluster, there / "run.txt", ["RUNNING"])[0]
        subprocess.run(["scancel", running["JobId"]], check=True)
        local = subprocess.run(
            [*SNAKEMAKE, "--cores", "1", *TARGETS], cwd=here, env=environment(), capture_output=True, text=True
        )
        assert local.returncode == 0, local.stderr[-3000:]
        assert cluster.wait(timeout=PATIENCE) == 0, (there / "run.txt").read_text()[-3000:]
    finally:
        for run in (killed, cluster):
            if run is not None and run.poll() is None:
                run.terminate()
    return here, there, jobs_of(running["JobName"]), jobs_of(first)


def start(folder: Path, log: str) -> subprocess.Popen:
    with open(folder / log, "w") as output:
        call = {"env": environment(), "stdout": output, "stderr": subprocess.STDOUT}
        return subprocess.Popen([*ON_SLURM, *QUICK, *TARGETS], cwd=folder, **call)


def wait_for(cluster: subprocess.Popen, log: Path, states: list[str]) -> list[dict[str, str]]:
    """Wait until a run has jobs in all these states; return its jobs, those in the last state first."""
    while cluster.poll() is None:
        found = re.search(r"SLURM run ID: (\S+)", log.read_text())
        jobs = jobs_of(found[1]) if found else []
        if set(states) <= {job["JobState"] for job in jobs}:
            return sorted(jobs, key=lambda job: job["JobState"] != states[-1])
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


def test_jobs_of_a_killed_run_are_gone_before_the_next_submits(runs):
    """Otherwise two jobs would write the same file at once. The killed run had one job at work and one waiting."""
    _, there, jobs, of_killed = runs
    assert {job["JobState"] for job in of_killed} == {"CANCELLED"}
    assert len(of_killed) == 2
    assert max(job["EndTime"] for job in of_killed) <= min(job["SubmitTime"] for job in jobs)
    numbers = {job["JobId"] for job in of_killed}
    said = re.search(
        r"Jobs that a killed run had left on SLURM were cancelled: (.*)\.", (there / "run.txt").read_text()
    )
    assert set(said[1].split(", ")) == numbers


def test_submitted_jobs_ask_for_a_gpu_memory_and_time(runs):
    jobs = runs[2]
    assert {rule_of(job) for job in jobs} == ON_GPU
    for job in jobs:
        assert job["Partition"] == "test"
        assert job["TimeLimit"] in ("00:10:00", "00:20:00")
        assert int(job["MinMemoryNode"].removesuffix("M")) >= 2000
        assert job["TresPerJob"] == "gres:gpu:1"


def test_nothing_light_is_submitted(runs):
    completed = [rule_of(job) for job in runs[2] if job["JobState"] == "COMPLETED"]
    assert {rule: completed.count(rule) for rule in set(completed)} == {
        "trace_task": 2, "ablate_layers": 2, "fit_probe": 1, "knock_out": 1,
    }  # fmt: skip


def test_cancelled_job_is_submitted_again_with_more_time(runs):
    first, *others = runs[2]
    assert first["JobState"] == "CANCELLED"
    again = [job for job in others if job["Comment"] == first["Comment"]]
    assert [job["JobState"] for job in again] == ["COMPLETED"]
    assert (first["TimeLimit"], again[0]["TimeLimit"]) == ("00:10:00", "00:20:00")
    assert int(again[0]["MinMemoryNode"][:-1]) == pytest.approx(2 * int(first["MinMemoryNode"][:-1]), abs=1)
    assert len(others) == 6


def test_one_gpu_ran_one_job_at_a_time(runs):
    on_gpu = sorted((job["StartTime"], job["EndTime"]) for job in runs[2] if "TresPerJob" in job)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(on_gpu))


def test_results_equal_the_local_run(runs):
    here, there, *_ = runs
    tables = sorted(path.relative_to(here) for path in (here / "results").rglob("*.parquet"))
    assert len(tables) == 1 + 3 * 2 * 2  # importance; scores of 3 methods, 2 tasks, 2 layers
    for table in tables:
        assert pq.read_table(here / table).equals(pq.read_table(there / table)), table
    arrays = sorted(path.relative_to(here) for path in (here / "results").rglob("*.safetensors"))
    assert len(arrays) >= 2 * 5 + 1  # of each task: trace, three effects, knock-out; the baseline
    for array in arrays:
        assert (here / array).read_bytes() == (there / array).read_bytes(), array
