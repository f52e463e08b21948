"""Lets a plain run continue where a killed one stopped, without unlocking anything or listing what is incomplete.

Snakemake's lock is a file that a `kill -9` leaves behind. This module adds a lock that the kernel releases when the
process ends: a run that gets it knows that no other run is active here, so any remaining lock file belongs to a dead
run. Standard library only, since it is imported with the Snakefile.

A default profile with `rerun-incomplete: true` is not enough: Snakemake ignores it when the user names another workflow
profile, and it removes no lock.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from headatlas.errors import HeadAtlasError

NAME = "headatlas.lock"
_held: dict[Path, IO] = {}  # open while this process lives; children do not inherit it


def recover(workflow) -> None:
    """Have incomplete outputs recomputed, and remove a dead run's locks; call this while Snakemake plans.

    Does nothing in cluster jobs. Leaves locks alone in dry runs and when another run is alive: Snakemake then prints
    its own message.

    Args:
        workflow: Snakemake's workflow object.
    """
    if not workflow.is_main_process or workflow.dag_settings is None:
        return
    workflow.dag_settings.force_incomplete = True
    if workflow.execution_settings is None or workflow.dryrun:
        return
    folder = Path(workflow.persistence.path)
    if hold(folder / NAME):
        for lock in (folder / "locks").glob("*.lock"):
            lock.unlink(missing_ok=True)


def lock_file(results: Path) -> Path:
    """The lock file of runs that write to a results folder."""
    return results.absolute().parent / ".snakemake" / NAME


def hold(path: Path) -> bool:
    """Hold the lock file `path` until this process ends; False if another process holds it or the disk does not support
    it."""
    path = path.absolute()
    if path not in _held:
        file = open(path, "a")  # noqa: SIM115 (stays open)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        _held[path] = file
    return True


def check_folders(folders: Iterable[str]) -> None:
    """Refuse a file in place of a results folder, on which Snakemake would fail while planning.

    Raises:
        HeadAtlasError: names the file.
    """
    for folder in folders:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            what = "a broken link" if os.path.islink(folder) and not os.path.exists(folder) else "a file"
            raise HeadAtlasError(f"{os.path.abspath(folder)}: is {what}, but results need a folder there; move it away")


def check_writable(folder: str = "results") -> None:
    """Refuse a results folder that is not writable, before the first job.

    Raises:
        HeadAtlasError: names the folder.
    """
    if os.path.exists(folder) and not os.access(folder, os.W_OK):
        raise HeadAtlasError(f"{os.path.abspath(folder)}: cannot be written to; make the folder writable")
