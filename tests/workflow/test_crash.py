"""Runs that are killed, or whose disk is full or read-only: afterwards the plain run command finishes the work.

CI kills three runs; `HEADATLAS_KILL_TRIALS=20 pytest tests/workflow/test_crash.py` kills twenty, at seeded random
moments.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from headatlas.jobs import cli
from headatlas.workflow import recovery
from workflow_runs import PATIENCE, ROOT, SNAKEMAKE, environment, finish, snakemake

TRIALS = int(os.environ.get("HEADATLAS_KILL_TRIALS", "3"))
KINDS = ("snakemake", "group", "worker")


def start(folder: Path) -> subprocess.Popen:
    """Snakemake running in its own process group."""
    said = open(folder / "killed.txt", "w", encoding="utf-8")  # noqa: SIM115 (the child's)
    command = [*SNAKEMAKE, "--cores", "all"]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=said, start_new_session=True)


def workers(folder: Path) -> list[int]:
    """Process ids of the jobs at work in a folder, of who waits for them, and of the server they are forked from."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder and b"/scripts" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return sorted(found)


def kill(kind: str, run: subprocess.Popen, folder: Path, moment: float, rng: random.Random) -> bool:
    """Kill -9 part of a run `moment` seconds after its start; False where there was nothing left to kill."""
    try:
        run.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        pass
    if kind == "group":
        os.killpg(run.pid, signal.SIGKILL)
    elif kind == "snakemake":
        os.kill(run.pid, signal.SIGKILL)
    else:
        while not (alive := workers(folder)) and run.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        try:
            os.kill(rng.choice(alive or [run.pid]), signal.SIGKILL)
        except ProcessLookupError:
            return False
    run.wait(PATIENCE)
    return True


def results(folder: Path) -> dict[str, object]:
    """Everything a run leaves except logs: tables as values, other files as bytes without the date of the newest."""
    return {
        str(path.relative_to(folder)): pl.read_parquet(path).to_dict(as_series=False)
        if path.suffix == ".parquet"
        else re.sub(rb"Newest file: [-0-9: ]+ UTC", b"", path.read_bytes())
        for path in sorted((folder / "results").rglob("*"))
        if path.is_file() and "logs" not in path.parts
    }


def assert_same(folder: Path, other: Path) -> None:
    mine, theirs = results(folder), results(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if repr(mine[name]) != repr(theirs[name])] == []


@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_killed_run_is_finished_by_the_plain_command(trial, fresh, independent, tmp_path):
    seconds = float((independent / "seconds.txt").read_text())
    rng = random.Random(trial)
    folder = shutil.copytree(fresh, tmp_path / "run")
    run = start(folder)
    killed = kill(KINDS[trial % 3], run, folder, rng.uniform(0.1, 0.9) * seconds, rng)
    before = set(results(folder)) if killed else set()
    said = finish(folder)  # at once: orphans may still be alive
    assert workers(folder) == []
    assert "--unlock" not in said
    assert_same(folder, independent)
    assert "Nothing to be done" in finish(folder)
    print(f"trial {trial}: {KINDS[trial % 3]} killed={killed} with {len(before)} files there")


def test_an_orphan_publishes_nothing(tmp_path):
    script = tmp_path / "late.py"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom headatlas.jobs import cli\n"
        "def main(output: Path):\n"
        "    with cli.atomic(output) as draft:\n"
        "        draft.write_text('late')\n"
        "        Path(str(output) + '.begun').touch()\n"
        "        time.sleep(3)\n"
        "cli.run(main)\n"
    )
    output = tmp_path / "output"
    shell = f"HEADATLAS_PARENT=$PPID exec {sys.executable} {script} --output {output}"
    parent = (
        "import subprocess, sys; subprocess.run(sys.argv[1], shell=True, executable='/bin/bash')"  # as Snakemake does
    )
    child_path = {"PYTHONPATH": str(ROOT / "scripts")}
    snake = subprocess.Popen([sys.executable, "-c", parent, shell], env=environment() | child_path)
    while not Path(f"{output}.begun").exists():
        assert snake.poll() is None
        time.sleep(0.02)
    snake.kill()
    snake.wait()
    time.sleep(1)
    drafts = list(tmp_path.glob(".output.*"))
    assert len(drafts) == 1  # ended in the middle
    time.sleep(2.5)
    assert not output.exists()
    with cli.atomic(output) as draft:
        draft.write_text("new")
    assert [path.name for path in tmp_path.glob(".output.*")] == []
    assert output.read_text() == "new"


def test_a_lock_is_held_by_the_living_only(tmp_path):
    path = tmp_path / recovery.NAME
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom headatlas.workflow.recovery import hold\n"
        "print(hold(Path(sys.argv[1])), flush=True)\ntime.sleep(60)\n"
    )
    child_path = {"PYTHONPATH": str(ROOT / "scripts")}
    holder = subprocess.Popen(
        [sys.executable, "-c", code, path], env=environment() | child_path, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "True\n"
    assert not recovery.hold(path)
    holder.kill()
    holder.wait()
    assert recovery.hold(path)
    assert recovery.hold(path)


def test_two_runs_at_once_are_refused(independent, tmp_path):
    """The lock of a run that is alive is respected: recovery is for the dead."""
    folder = shutil.copytree(independent, tmp_path / "run")
    shutil.rmtree(folder / "results")
    first = start(folder)
    try:
        while not (folder / ".snakemake/locks/0.output.lock").exists() and first.poll() is None:
            time.sleep(0.02)
        second = snakemake(folder)
        assert second.returncode != 0
        assert "cannot be locked" in second.stdout
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def limited(size: int):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_cannot_be_written_is_named_in_one_line(independent, tmp_path):
    """Prepared items and a trace under a limit on file size: Python's own error, and one hidden by a library."""
    folder = independent
    items, trace = folder / "results/tiny/items/retrieval.json", folder / "results/tiny/trace/retrieval.safetensors"
    output = tmp_path / "effects.safetensors"
    settings = {"task": "retrieval", "seed": 0, "positions": "answer", "baseline": "zero"}
    settings["model"] = {
        "path": str(folder / "tiny"), "revision": None, "dtype": "float32", "attn_implementation": None,
        "trust_remote_code": False,
    }  # fmt: skip
    command = [
        sys.executable, ROOT / "scripts/ablate_layers.py", "--items", items, "--trace", trace, "--effects", output,
        "--settings", json.dumps(settings | {"first_layer": 0, "last_layer": 1}), "--log", tmp_path / "log",
        "--device", "cpu", "--threads", "1", "--batch-tokens", "4096",
        "--engine", "auto", "--memory-mb", "2000",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment(), preexec_fn=limited(400), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    wanted = f"error: {output}: cannot be written: the file is larger than this system allows; raise the limit"
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in tmp_path.iterdir() if path.name != "log"] == []


@pytest.fixture
def small_disk(tmp_path):
    """A way to put a small disk at a folder; skips where this user may not."""
    mounted = []

    def mount(folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("only root can mount a small disk")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_said_and_what_is_there_is_kept(fresh, independent, small_disk, tmp_path):
    folder = shutil.copytree(fresh, tmp_path / "run")
    small_disk(folder / "results", "size=80k")
    done = snakemake(folder)
    assert done.returncode != 0
    assert "cannot be written: no space left on the disk; free some, then run again" in done.stdout
    assert done.stdout.count("Traceback") == 0
    there = results(folder)
    assert {name: there[name] for name in there} == {name: results(independent)[name] for name in there}
    subprocess.run(["mount", "-o", "remount,size=100m", folder / "results"], check=True)
    finish(folder)
    assert_same(folder, independent)


def test_a_read_only_results_folder_is_said_at_once(fresh, small_disk, tmp_path):
    folder = shutil.copytree(fresh, tmp_path / "run")
    small_disk(folder / "results", "ro")
    done = snakemake(folder)
    assert done.returncode != 0
    assert "results: cannot be written to; make the folder writable" in done.stdout
    assert "Traceback" not in done.stdout
