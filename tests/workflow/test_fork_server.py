"""Jobs as forks of a server: the same outcome as by themselves, whatever dies in between."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from headatlas.jobs.fork_server import HARMLESS, SCRIPTS, Server
from server_runs import LIBRARY, call, gone, is_alive, result, wait_for
from workflow_runs import INDEPENDENT, ROOT, build_tiny, copy_repository, finish

# A script in place of one that the server runs; it reports its process and waits on request.
SCRIPT = """
import os, sys, time
from pathlib import Path
from headatlas.jobs import cli
from headatlas.errors import HeadAtlasError

def main(output: Path, mode: str):
    if mode == "fail":
        raise HeadAtlasError("no such thing")
    print("parent", os.getppid(), "folder", os.getcwd(), "colour", os.environ.get("COLOUR"), flush=True)
    with cli.atomic(output) as draft:
        draft.write_text(mode)
        if mode == "wait":
            Path(str(output) + ".begun").write_text(str(os.getpid()))
            time.sleep(3600)

if __name__ == "__main__":
    cli.run(main)
"""


@pytest.fixture
def scripts(tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "headatlas").symlink_to(LIBRARY)
    (folder / "score_layer.py").write_text(SCRIPT)
    (folder / "draw_figure.py").write_text(SCRIPT)
    return folder


@pytest.fixture
def server(scripts):
    server = Server()
    server.start(scripts)
    yield server
    server.stop()
    assert not Path(server.address).parent.exists()


def waiting(server, scripts, tmp_path) -> tuple[subprocess.Popen, int, Path]:
    """A call whose job is at work, the job's process id, and its output."""
    output = tmp_path / "output"
    process = call(server, scripts / "score_layer.py", "--output", output, "--mode", "wait")
    return process, int(wait_for(Path(f"{output}.begun"))), output


def test_a_fork_has_the_callers_outputs_folder_and_environment(server, scripts, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    environment = os.environ | {"COLOUR": "rouge"}
    arguments = ("--output", "here", "--mode", "a b")
    process = call(server, scripts / "score_layer.py", *arguments, cwd=place, env=environment)
    status, said, complaint = result(process)
    assert (status, complaint) == (0, "")
    assert said == ["parent", str(server._process.pid), "folder", str(place), "colour", "rouge"]
    assert (place / "here").read_text() == "a b"


def test_a_failure_is_told_as_by_the_script_itself(server, scripts, tmp_path):
    log = tmp_path / "job.log"
    arguments = ("--output", tmp_path / "x", "--mode", "fail", "--log", log)
    status, _, complaint = result(call(server, scripts / "score_layer.py", *arguments))
    assert (status, complaint) == (1, "error: no such thing\n")
    assert log.read_text() == "error: no such thing\n"
    status, _, complaint = result(call(server, scripts / "score_layer.py", "--nonsense"))
    assert status == 2
    assert "usage: score_layer" in complaint


@pytest.mark.parametrize("script", ["draw_figure.py", "broken"])
def test_what_the_server_does_not_take_runs_by_itself(server, scripts, tmp_path, script):
    if script == "broken":
        script = "trace_task.py"
        (scripts / script).write_text("raise RuntimeError('broken')")
        status, _, complaint = result(call(server, scripts / script))
        assert status == 1
        assert complaint.endswith("RuntimeError: broken\n")
    else:
        process = call(server, scripts / script, "--output", tmp_path / "x", "--mode", "alone")
        status, said, _ = result(process)
        assert (status, said[1]) == (0, str(os.getpid()))


def test_where_the_system_does_not_tell_of_threads_nothing_is_forked(server, scripts, tmp_path):
    """The server imports the script before forking, and the script hides /proc from it."""
    hide = (
        "from pathlib import Path\nfrom headatlas.jobs import fork_server\n"
        "fork_server.THREADS = Path('/nowhere/task')\n"
    )
    (scripts / "score_layer.py").write_text(hide + SCRIPT)
    process = call(server, scripts / "score_layer.py", "--output", tmp_path / "x", "--mode", "alone")
    status, said, _ = result(process)
    assert (status, said[1]) == (0, str(os.getpid()))  # otherwise its parent would be the server


def test_without_a_server_a_script_runs_by_itself(scripts, tmp_path):
    process = call(Server(), scripts / "score_layer.py", "--output", tmp_path / "x", "--mode", "alone")
    assert result(process)[1][1] == str(os.getpid())


def test_who_goes_away_while_asking_does_no_harm(server, scripts, tmp_path):
    for said in (b"", b"1234", (100).to_bytes(8, "big") + b"{"):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(server.address)
            asking.sendall(said)
    process = call(server, scripts / "score_layer.py", "--output", tmp_path / "x", "--mode", "a")
    assert result(process)[1][1] == str(server._process.pid)


def test_a_killed_fork_is_a_killed_job(server, scripts, tmp_path):
    process, job, output = waiting(server, scripts, tmp_path)
    os.kill(job, signal.SIGKILL)
    assert result(process)[0] == 137
    assert not output.exists()


def test_a_fork_ends_with_its_caller(server, scripts, tmp_path):
    process, job, output = waiting(server, scripts, tmp_path)
    process.kill()
    assert gone(job)
    process.communicate()
    assert not output.exists()


def test_forks_and_callers_end_with_the_run(server, scripts, tmp_path):
    process, job, output = waiting(server, scripts, tmp_path)
    server.stop()
    assert gone(job)
    assert result(process)[0] != 0
    assert not output.exists()


def test_forks_outlive_a_killed_server(server, scripts, tmp_path):
    process, job, _ = waiting(server, scripts, tmp_path)
    server._process.kill()
    server._process.wait()
    assert is_alive(job)
    alone = call(server, scripts / "score_layer.py", "--output", tmp_path / "x", "--mode", "alone")
    assert result(alone)[1][1] == str(os.getpid())
    process.kill()
    process.communicate()
    assert gone(job)


def test_an_interrupt_ends_caller_and_fork(server, scripts, tmp_path):
    process, job, _ = waiting(server, scripts, tmp_path)
    process.send_signal(signal.SIGINT)
    status, _, complaint = result(process)
    assert (status, complaint) == (-signal.SIGINT, "")
    assert gone(job)


def test_the_scripts_of_the_server_start_no_threads_and_do_not_import_polars():
    code = (
        "import importlib, sys\nfrom headatlas.jobs import fork_server\n"
        "for name in sorted(fork_server.SCRIPTS):\n    importlib.import_module(name)\n"
        "print(sorted(fork_server._threads() | ({'polars', 'altair', 'vl_convert'} & set(sys.modules))))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert set(eval(said.stdout)) <= HARMLESS
    assert all((ROOT / "scripts" / f"{name}.py").exists() for name in SCRIPTS)


def test_all_scripts_that_load_a_model_are_run_by_the_server():
    """Otherwise each of their jobs loads it."""
    loading = {path.stem for path in (ROOT / "scripts").glob("*.py") if "\ndef prepare(" in path.read_text()}
    assert {"trace_task", "ablate_groups", "describe_heads"} <= loading <= SCRIPTS


def test_a_run_without_a_server_gives_the_same(independent, tmp_path, monkeypatch):
    folder = copy_repository(tmp_path / "run", INDEPENDENT)
    build_tiny(folder / "tiny")
    far = tmp_path / ("x" * 120)  # no socket has such a long path
    far.mkdir()
    monkeypatch.setenv("TMPDIR", str(far))
    finish(folder)
    files = sorted(p.relative_to(folder) for p in (folder / "results").rglob("*.safetensors"))
    assert files
    for file in files:
        assert (folder / file).read_bytes() == (independent / file).read_bytes()


def test_a_run_loads_each_model_and_tokenizer_once(independent):
    """Four jobs run the model, two read its tokenizer; the log of a job by itself would say how long its load took."""
    logs = {path: path.read_text(encoding="utf-8") for path in (independent / "results").rglob("*.log")}
    loads = re.compile(r"^(load_model|load_tokeniser): (.+)$", re.MULTILINE)
    found = Counter(match for text in logs.values() for match in loads.findall(text))
    said = "shared with other jobs"
    assert found == {("load_model", said): 4, ("load_tokeniser", said): 2}
