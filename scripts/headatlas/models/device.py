"""Chooses where a job's model runs; each job on a machine gets its own GPU if possible.

Jobs on a GPU run in workers of the fork server, which hold the model there. HEADATLAS_WORKERS names the kinds of
devices with workers, separated by commas (default: cuda); the tests add cpu, since no GPU is needed to test a worker.
"""

import ctypes
import fcntl
import json
import os
import tempfile
from functools import cache
from itertools import count
from pathlib import Path

import torch

from headatlas.errors import HeadAtlasError
from headatlas.jobs import shared
from headatlas.jobs.cli import log
from headatlas.jobs.workers import Place

WORKERS = "HEADATLAS_WORKERS"
LEAST_ROOM = 0.5  # share of a GPU that a job which runs no model finds free
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)

_claims = []  # open lock files: a GPU stays claimed until the process ends, however it ends


def choose_device(wanted: str, threads: int = 1) -> str:
    """Set the CPU threads and return the device for this process.

    Args:
        wanted: `auto` (a GPU no other job on this machine has claimed, else the CPU), `cpu`, `cuda`, `cuda:N`,
            or `spread` (all visible GPUs, one model over them).

    Raises:
        HeadAtlasError: a GPU is requested, but torch sees none.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    if _is_cpu(wanted):
        return "cpu"
    if not torch.cuda.is_available():
        raise HeadAtlasError(f"models.*.device: {wanted} is requested, but torch sees no CUDA GPU; use auto or cpu")
    if wanted == "auto":
        wanted = f"cuda:{_own_gpu()}"
    log.info("device: %s", wanted)
    return wanted


def place_of_job(wanted: str, model: dict | None = None) -> Place | None:
    """The worker that runs a job; None if it is forked.

    Args:
        wanted: device, as in `choose_device`; model: settings of the model that the job runs.
    """
    kinds = os.environ.get(WORKERS, "cuda").split(",")
    if ("cpu" if _is_cpu(wanted) else "cuda") not in kinds:
        return None
    return Place(wanted, json.dumps(model, sort_keys=True) if model else "")


def make_room(device: str) -> None:
    """Let go of a model that this process holds for other jobs, if it fills more than half of the job's GPU."""
    if device != "cpu":
        total = torch.cuda.mem_get_info(device)[1]
        if torch.cuda.memory_allocated(device) > (1 - LEAST_ROOM) * total:
            shared.let_go()


def _is_cpu(wanted: str) -> bool:
    return wanted == "cpu" or (wanted in ("auto", "spread") and not torch.cuda.is_available())


@cache
def _own_gpu() -> int:
    """Index of the GPU of this process: all jobs of a worker run on the same."""
    return claim_gpu(visible_gpus(torch.cuda.device_count()))


def keep_freed_memory() -> None:
    """Have the C library (glibc) keep freed memory for the next tensor instead of giving it back to the system.

    Otherwise every larger CPU tensor takes new pages that must be zeroed first: a quarter of a small model's time.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(M_MMAP_THRESHOLD, 1 << 25)  # the largest value that every version accepts
        adjust(M_TRIM_THRESHOLD, 1 << 30)


def device_name(device: "torch.device | str") -> str:
    """`cpu`, or the GPU model: the last digits of results may differ between GPU models."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def visible_gpus(count: int) -> list[str]:
    """A name for each visible GPU, the same for every process on this machine."""
    shown = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return shown if len(shown) == count else [str(index) for index in range(count)]


def claim_gpu(names: list[str], folder: Path | None = None) -> int:
    """Index of a GPU that this process claims until it ends, among those with the fewest living claims.

    Args:
        names: as from `visible_gpus`; folder: where this machine keeps its claims; None: the temporary folder.
    """
    folder = folder or Path(tempfile.gettempdir())
    for place in count():  # a GPU takes a second job only when every GPU has one: more were requested than exist
        for index, name in enumerate(names):
            file = open(folder / f"headatlas-gpu-{name}-{os.getuid()}-{place}.lock", "w")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _claims.append(file)
            return index
