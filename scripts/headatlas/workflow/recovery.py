"""Lets a plain run go on where a killed one stopped: nobody need unlock anything or list what is incomplete.

Snakemake's lock is a file that a `kill -9` leaves behind. Beside it stands one that the kernel holds for the life of
the process: whoever gets it knows that no other run is at work here, so that any lock file is a dead run's.
Standard library only, since it is imported with the Snakefile.

A default profile with `rerun-incomplete: true` would not do: Snakemake leaves it out where the user names another
workflow profile, and it removes no lock.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from headatlas.errors import HeadAtlasError

NAME = "headatlas.lock"
_held: dict[Path, IO] = {}  # open as long as this process lives; children do not inherit it


def recover(workflow) -> None:
    """Have incomplete outputs made again, and remove a dead run's locks; to be called while the plan is made.

    Does nothing in the jobs of a cluster, and leaves locks alone in dry runs and where another run is alive:
    Snakemake's own message then stands.

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
    """The lock file of the runs that write to a folder of results."""
    return results.absolute().parent / ".snakemake" / NAME


def hold(path: Path) -> bool:
    """Hold the lock file `path` until this process ends; False where another process holds it or the disk cannot."""
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
    """Refuse a file in the place of a folder of results, at which Snakemake would stumble while it makes its plan.

    Raises:
        HeadAtlasError: names the file.
    """
    for folder in folders:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            what = "a link to nowhere" if os.path.islink(folder) and not os.path.exists(folder) else "a file"
            raise HeadAtlasError(f"{os.path.abspath(folder)}: is {what}, but results need a folder there; move it away")


def check_writable(folder: str = "results") -> None:
    """Refuse a results folder that takes no files, before a job has begun.

    Raises:
        HeadAtlasError: names the folder.
    """
    if os.path.exists(folder) and not os.access(folder, os.W_OK):
        raise HeadAtlasError(f"{os.path.abspath(folder)}: cannot be written to; make the folder writable")
