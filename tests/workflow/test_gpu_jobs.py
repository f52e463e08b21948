"""One GPU, one job: how many jobs run at once, and on which devices. The devices are emulated."""

import json
import subprocess

import pytest
from workflow_runs import REDUCED, SNAKEMAKE, copy_repository, environment

# A torch that sees as many GPUs as the environment shows, and starts fast.
TORCH = """
import os
class cuda:
    device_count = staticmethod(lambda: len([n for n in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if n]))
    is_available = staticmethod(lambda: cuda.device_count() > 0)
def set_num_threads(threads): pass
"""
SNAKEFILE = """
include: "workflow/rules/common.smk"
rule all:
    default_target: True
    input: expand("out/{model}-{number}.json", model=atlas.models, number=range(4))
rule work:
    output: "out/{model}-{number}.json"
    resources: **RUNS_MODEL
    shell: "headatlas work {output} {resources.device}"
"""
# A job ends only when as many as are wanted have been started (or ten minutes later), so that a slow machine cannot
# keep them from being there together; and lives on for a moment, in which one too many would show.
WORK = """
import json, os, pathlib, sys, time
from headatlas.models.device import choose_device
chosen = choose_device(sys.argv[2])
start = time.time()
started = pathlib.Path("started")
started.mkdir(exist_ok=True)
(started / str(os.getpid())).touch()
while len(list(started.iterdir())) < int(os.environ["WANTED"]) and time.time() < start + 600:
    time.sleep(0.05)
time.sleep(0.5)
json.dump({"device": chosen, "start": start, "end": time.time()}, open(sys.argv[1], "w"))
"""


@pytest.fixture
def run_jobs(tmp_path):
    """A function that runs four jobs under the workflow's GPU rules and returns what each reports.

    It takes the GPUs shown, how many jobs are wanted at once, options for Snakemake and settings of the model.
    """

    def run(shown: str, wanted: int, *arguments: str, **model: str) -> list[dict]:
        models = {"demo": REDUCED["models"]["demo"] | {"device": "auto"} | model}
        folder = copy_repository(tmp_path / "run", REDUCED | {"models": models})
        (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
        (folder / "scripts/work.py").write_text(WORK, encoding="utf-8")
        (folder / "scripts/torch.py").write_text(TORCH, encoding="utf-8")
        (folder / "tmp").mkdir()
        settings = {"CUDA_VISIBLE_DEVICES": shown, "TMPDIR": str(folder / "tmp"), "WANTED": str(wanted)}
        done = subprocess.run(
            [*SNAKEMAKE, "--cores", "16", *arguments], cwd=folder, env=environment() | settings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        return [json.loads(file.read_text()) for file in sorted((folder / "out").glob("*.json"))]

    return run


def most_at_once(jobs: list[dict]) -> int:
    return max(sum(job["start"] <= each["start"] < job["end"] for job in jobs) for each in jobs)


def shared_devices(jobs: list[dict]) -> list[tuple[dict, dict]]:
    """Pairs of jobs that were on one device at the same time."""
    pairs = [(a, b) for i, a in enumerate(jobs) for b in jobs[:i]]
    return [
        (a, b) for a, b in pairs
        if a["device"] == b["device"] and a["start"] < b["end"] and b["start"] < a["end"]
    ]  # fmt: skip


def test_one_gpu_never_runs_two_jobs_at_once(run_jobs):
    jobs = run_jobs("0", 1)
    assert [job["device"] for job in jobs] == ["cuda:0"] * 4
    assert most_at_once(jobs) == 1


def test_three_gpus_run_three_jobs_each_on_its_own(run_jobs):
    jobs = run_jobs("4,5,6", 3)
    assert most_at_once(jobs) == 3
    assert {job["device"] for job in jobs} == {"cuda:0", "cuda:1", "cuda:2"}
    assert shared_devices(jobs) == []


def test_resources_on_the_command_line_win(run_jobs):
    jobs = run_jobs("0,1,2", 2, "--resources", "gpu=2")
    assert most_at_once(jobs) == 2
    assert shared_devices(jobs) == []


def test_without_a_gpu_the_cores_set_the_limit(run_jobs):
    jobs = run_jobs("", 4)
    assert [job["device"] for job in jobs] == ["cpu"] * 4
    assert most_at_once(jobs) == 4


def test_jobs_of_a_named_device_take_turns_on_it(run_jobs):
    jobs = run_jobs("0,1", 1, device="cuda:1")
    assert [job["device"] for job in jobs] == ["cuda:1"] * 4
    assert most_at_once(jobs) == 1
