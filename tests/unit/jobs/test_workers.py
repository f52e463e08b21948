"""Workers run jobs one after the other, hold what they load, and lose one job when they crash."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from headatlas.jobs.fork_server import Server
from server_runs import LIBRARY, call, gone, is_alive, result, wait_for

# A script in place of one that the server runs. Its jobs say which process they are and load a value; the log tells
# whether they loaded it themselves.
SCRIPT = """
import logging, os, signal, sys, time
from pathlib import Path
from headatlas.errors import HeadAtlasError
from headatlas.jobs import cli
from headatlas.jobs.shared import shared
from headatlas.jobs.workers import Place

class Value:
    alive = 0
    def __init__(self):
        Value.alive += 1
        self.itself = self  # freed by the garbage collector only
    def __del__(self):
        Value.alive -= 1

@shared
def load(name):
    cli.log.warning("%s is odd", name)
    if Value.alive:
        cli.log.error("the old one is still there")
    return Value()

def prepare(device: str, name: str) -> Place:
    return Place(device, name)

def main(device: str, name: str, output: Path, mode: str = "work"):
    load(name)
    print(os.getpid(), os.getcwd(), os.environ.get("COLOUR"), flush=True)
    if mode == "mistake":
        raise HeadAtlasError("no such thing")
    if mode == "bug":
        raise MemoryError("too much")
    if mode in ("wait", "meet"):
        Path(str(output) + ".begun").write_text(str(os.getpid()))
        while mode == "wait" or not (output.parent / "go").exists():
            time.sleep(0.02)
    if mode.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, mode))
    with cli.atomic(output) as draft:
        draft.write_text(name)

if __name__ == "__main__":
    cli.run(main)
"""


@pytest.fixture
def run(tmp_path):
    """A function that starts a job on a server: its device and what it loads, how it ends, options of the process."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "headatlas").symlink_to(LIBRARY)
    (folder / "score_layer.py").write_text(SCRIPT)
    server = Server()
    server.start(folder)

    def start(number: int, device: str = "gpu", name: str = "a", mode: str = "work", **options):
        arguments = ["--device", device, "--name", name, "--output", tmp_path / f"{number}", "--mode", mode]
        return call(server, folder / "score_layer.py", *arguments, "--log", tmp_path / f"{number}.log", **options)

    start.server = server
    yield start
    server.stop()


def loads(folder: Path) -> Counter:
    """How often a value was loaded, and how often a job found it there."""
    said = [line for log in folder.glob("*.log") for line in log.read_text().splitlines() if line.startswith("load: ")]
    return Counter("found" if line == "load: shared with other jobs" else "loaded" for line in said)


def test_jobs_of_one_device_run_in_one_process_that_loads_once(run, tmp_path):
    ended = [result(run(number)) for number in range(4)]
    assert {status for status, _, _ in ended} == {0}
    (process,) = {int(said[0]) for _, said, _ in ended}
    assert process not in (os.getpid(), run.server._process.pid)
    assert loads(tmp_path) == {"loaded": 1, "found": 3}
    for number in range(4):
        log = (tmp_path / f"{number}.log").read_text().splitlines()
        assert log[0] == "a is odd"  # every job repeats what loading said
        assert log[-1].startswith("took ")
        assert (tmp_path / f"{number}").read_text() == "a"
    run.server.stop()
    assert gone(process)


def test_a_job_has_its_own_outputs_and_environment(run):
    for number, colour in enumerate(("rouge", "vert")):
        status, said, complaint = result(run(number, env=os.environ | {"COLOUR": colour}))
        assert (status, said[1:], complaint) == (0, [os.getcwd(), colour], "a is odd\n")


def test_another_value_replaces_the_one_that_is_held(run, tmp_path):
    ended = [result(run(number, name=name)) for number, name in enumerate("abba")]
    assert len({said[0] for _, said, _ in ended}) == 1
    assert {complaint for _, _, complaint in ended} == {"a is odd\n", "b is odd\n"}  # the old one is freed first
    assert loads(tmp_path) == {"loaded": 3, "found": 1}


def test_two_jobs_at_once_run_in_two_workers_and_later_ones_where_their_value_is(run, tmp_path):
    together = [run(number, name=name, mode="meet") for number, name in enumerate("ab")]
    for number in range(2):
        wait_for(tmp_path / f"{number}.begun")
    (tmp_path / "go").touch()
    holder = {name: result(process)[1][0] for name, process in zip("ab", together, strict=True)}
    assert holder["a"] != holder["b"]
    for number, name in enumerate("baabba"):
        assert result(run(2 + number, name=name))[1][0] == holder[name]
    assert loads(tmp_path) == {"loaded": 2, "found": 6}


@pytest.mark.parametrize(
    ("mode", "status", "says"),
    [
        ("mistake", 1, "error: no such thing\n"),
        ("bug", 1, "error: score_layer: MemoryError: too much (a bug, not your mistake; the traceback is in"),
        ("SIGKILL", 137, ""),
        ("SIGSEGV", 137, ""),
    ],
)
def test_a_job_that_fails_or_crashes_costs_itself_only(run, tmp_path, mode, status, says):
    before = result(run(0))[1][0]
    failed, _, complaint = result(run(1, mode=mode))
    assert (failed, complaint.startswith(f"a is odd\n{says}")) == (status, True)
    assert not (tmp_path / "1").exists()
    after = [result(run(2 + number)) for number in range(2)]
    assert [ended[0] for ended in after] == [0, 0]
    (process,) = {said[0] for _, said, _ in after}
    assert process != before
    assert not is_alive(int(before))
    assert loads(tmp_path) == {"loaded": 2, "found": 2}


def test_a_worker_killed_while_idle_costs_nothing(run):
    before = int(result(run(0))[1][0])
    os.kill(before, signal.SIGKILL)
    status, said, _ = result(run(1))
    assert (status, int(said[0]) != before) == (0, True)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_job_ends_with_its_caller(run, tmp_path, end):
    process = run(0, mode="wait")
    worker = int(wait_for(tmp_path / "0.begun"))
    process.send_signal(end)
    assert result(process)[0] == -end
    assert gone(worker)
    assert not (tmp_path / "0").exists()
    assert result(run(1))[0] == 0


def test_a_job_ends_with_the_run(run, tmp_path):
    process = run(0, mode="wait")
    worker = int(wait_for(tmp_path / "0.begun"))
    run.server.stop()
    assert gone(worker)
    assert result(process)[0] != 0


def test_a_worker_without_a_server_ends_after_its_job(run, tmp_path):
    process = run(0, mode="wait")
    worker = int(wait_for(tmp_path / "0.begun"))
    idle = int(result(run(1))[1][0])
    run.server._process.kill()
    run.server._process.wait()
    assert gone(idle)
    assert is_alive(worker)
    process.kill()
    process.communicate()
    assert gone(worker)


def test_an_idle_worker_of_another_device_is_gone_before_the_job_begins(run):
    """All GPUs together (`spread`) include the one on which the idle worker holds a model."""
    first = int(result(run(0, device="auto"))[1][0])
    second = result(run(1, device="spread"))[1][0]
    assert not is_alive(first)
    assert result(run(2, device="spread"))[1][0] == second
