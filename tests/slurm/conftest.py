"""The SLURM of these tests: that of tests/slurm/start.sh where it is up, else started as root in CI or where
HEADATLAS_SLURM=1 says so; elsewhere they are skipped. No other cluster is ever given a job.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from slurm_runs import ask
from workflow_runs import PATIENCE, ROOT


def ours_is_up() -> bool:
    return bool(shutil.which("scontrol")) and "headatlas-test" in ask("scontrol", "show", "config")


@pytest.fixture(scope="session")
def slurm():
    """A SLURM of one node with one GPU."""
    wanted = os.environ.get("HEADATLAS_SLURM") == "1" or bool(os.environ.get("CI"))
    if ours_is_up():
        yield
        return
    if not (wanted and os.geteuid() == 0 and Path("/etc/debian_version").is_file()):
        pytest.skip("no test SLURM is up: run tests/slurm/start.sh, or set HEADATLAS_SLURM=1, as root on Debian")
    subprocess.run([ROOT / "tests/slurm/start.sh"], check=True, timeout=PATIENCE)
    yield
    subprocess.run([ROOT / "tests/slurm/stop.sh"], check=True, timeout=PATIENCE)
