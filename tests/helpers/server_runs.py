"""Jobs that ask a fork server, and what becomes of them."""

import subprocess
import sys
import time
from pathlib import Path

from workflow_runs import PATIENCE, ROOT

LIBRARY = ROOT / "scripts" / "headatlas"


def call(server, script: Path, *arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-IS", LIBRARY / "jobs" / "fork_client.py", server.address, script, *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, **options)


def result(process: subprocess.Popen) -> tuple[int, list[str], str]:
    said, complaint = process.communicate(timeout=PATIENCE)
    return process.returncode, said.split(), complaint


def wait_for(path: Path) -> str:
    end = time.monotonic() + PATIENCE
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return path.read_text()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    end = time.monotonic() + PATIENCE
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_alive(pid)
