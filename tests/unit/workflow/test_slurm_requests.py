"""Requests to SLURM, its answers, and the jobs that are cancelled; no SLURM is needed."""

import os

import pytest
from headatlas.config.overrides import read_values
from headatlas.errors import HeadAtlasError
from headatlas.workflow import resources
from headatlas.workflow import slurm as slurm_module
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.slurm import advise, allocated_memory, cancel_leftovers, minutes, request_options
from workflow_runs import REDUCED, ROOT


def test_texts_of_the_command_line_become_values():
    given = {
        "compute": {"layers_per_job": "8", "gpus": "auto"},
        "seed": 3,
        "tasks": {"t": {"source": ["1", "a.jsonl"]}},
    }
    assert read_values(given) == {
        "compute": {"layers_per_job": 8, "gpus": "auto"}, "seed": 3, "tasks": {"t": {"source": [1, "a.jsonl"]}},
    }  # fmt: skip
    assert read_values({"a": "null", "b": "false", "c": "0.5", "d": "{x: 1}", "e": "a: b: c", "f": "2024-01-01"}) == {
        "a": None, "b": False, "c": 0.5, "d": "{x: 1}", "e": "a: b: c", "f": "2024-01-01",
    }  # fmt: skip


def test_request_in_options_of_sbatch():
    resources = {"slurm_partition": "gpu", "runtime": 90, "mem_mb": 2007, "gpu": 4, "gpu_model": "h100", "disk_mb": 1}
    assert request_options(resources) == ("--partition=gpu", "--time=90", "--mem=2007", "--gpus=h100:4")
    assert request_options({"gpu": 0, "gpu_model": "h100", "slurm_extra": "--qos=low --exclude='a b'"}) == (
        "--qos=low", "--exclude=a b",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "mebibytes"),
    [
        ({"SLURM_MEM_PER_NODE": "6000", "SLURM_CPUS_ON_NODE": "4"}, 6000),
        ({"SLURM_MEM_PER_CPU": "2000", "SLURM_CPUS_ON_NODE": "4"}, 8000),
        ({"SLURM_MEM_PER_GPU": "2000", "SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_ON_NODE": "4"}, 4000),
        ({"SLURM_MEM_PER_NODE": "0", "SLURM_CPUS_ON_NODE": "4"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_memory_of_the_batch_job_that_a_run_is_in(monkeypatch, environment, mebibytes):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert allocated_memory() == mebibytes * 2**20
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(resources, "machine_memory", lambda: 10**11)
    expected = 80_000 if mebibytes == float("inf") else int(0.8 * mebibytes * 2**20 / 10**6)
    assert resources.Requests(Atlas(REDUCED, ROOT)).total_mb == expected


def test_advice_for_what_slurm_ended():
    failed = "    message: SLURM-job '{}' failed, SLURM status is: '{}'. Detailed failure reason unavailable"
    log = "\n".join(
        failed.format(*each) for each in [(58, "TIMEOUT"), (60, "FAILED"), (61, "TIMEOUT"), (7, "CANCELLED")]
    )
    assert advise(log) == [
        "SLURM jobs 58, 61: over the time limit; raise runtime in workflow/profiles/slurm/config.yaml and run the same "
        "command again",
        "SLURM jobs 7: cancelled from outside; run the same command again",
    ]
    assert advise("Error in rule trace_task:") == []


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """A folder of a run, and a squeue and a scancel that work on the lines of a file."""
    folder, queue, tools = tmp_path / "mein Lauf", tmp_path / "queue", tmp_path / "tools"
    (folder / ".snakemake" / "incomplete").mkdir(parents=True)
    tools.mkdir()
    (tools / "squeue").write_text(
        f"#!/bin/sh\n[ -e {queue} ] || {{ echo 'no\ncontroller' >&2; exit 1; }}\ncat {queue}\n"
    )
    (tools / "scancel").write_text(f'#!/bin/sh\nfor job in "$@"; do sed -i "/^$job|/d" {queue}; done\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return folder, queue


def test_only_jobs_that_a_run_of_this_folder_submitted_are_cancelled(pretended):
    folder, queue = pretended
    others = [f"1|rule_trace_task_wildcards_a|{folder}-2", f"2|(null)|{folder}", "3|rule_x|/elsewhere"]
    mine = [f"17|rule_trace_task_wildcards_a_b|{folder}", f"4|rule_fit_probe|{folder.parent}/./{folder.name}"]
    queue.write_text("\n".join([*mine, *others]) + "\n")
    assert cancel_leftovers(folder / ".snakemake", submits=False) == []  # this folder never was on SLURM
    (folder / ".snakemake" / "slurm_logs").mkdir()
    assert cancel_leftovers(folder / ".snakemake", submits=False) == ["17", "4"]
    assert queue.read_text().splitlines() == others
    assert cancel_leftovers(folder / ".snakemake", submits=True) == []


def test_jobs_that_do_not_end_and_a_silent_slurm_stop_the_run(pretended, monkeypatch):
    folder, queue = pretended
    monkeypatch.setattr(slurm_module, "PATIENCE", 0)
    queue.write_text(f"7[2-3]|rule_x|{folder}\n")  # which the pretended scancel leaves alone
    with pytest.raises(
        HeadAtlasError, match=r"SLURM jobs 7\[2-3\] of a run that was killed do not end.*; scancel them"
    ):
        cancel_leftovers(folder / ".snakemake", submits=True)
    queue.unlink()
    assert cancel_leftovers(folder / ".snakemake", submits=True) == []
    (folder / ".snakemake" / "incomplete" / "b3V0cHV0").touch()
    with pytest.raises(HeadAtlasError, match=r"squeue cannot say whether a killed run has jobs left \(no controller\)"):
        cancel_leftovers(folder / ".snakemake", submits=True)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("1:00:00", 60), ("30:00", 30), ("2-12:00:00", 3600), ("1-00:00:00", 1440), ("infinite", float("inf"))],
)
def test_limits_in_minutes(limit, expected):
    assert minutes(limit) == expected
