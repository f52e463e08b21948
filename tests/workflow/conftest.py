"""Shared by the workflow tests: finished runs of small workflows. Read-only: use `copy_run` to modify one."""

import time

import pytest
from workflow_runs import INDEPENDENT, REDUCED, build_tiny, copy_repository, copy_run, finish


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy of the repository in which the reduced demo has run; run.txt holds Snakemake's output."""
    folder = copy_repository(tmp_path_factory.mktemp("finished") / "run", REDUCED)
    (folder / "run.txt").write_text(finish(folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """A copy of the repository ready to run a tiny model on independent tasks, before the run."""
    folder = copy_repository(tmp_path_factory.mktemp("independent") / "fresh", INDEPENDENT)
    build_tiny(folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def independent(fresh):
    """The same after an undisturbed run; run.txt holds Snakemake's output, seconds.txt the time it took."""
    folder = copy_run(fresh, fresh.parent / "run")
    start = time.monotonic()
    (folder / "run.txt").write_text(finish(folder), encoding="utf-8")
    (folder / "seconds.txt").write_text(str(time.monotonic() - start))
    return folder
