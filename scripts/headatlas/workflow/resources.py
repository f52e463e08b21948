"""What a job requests from the machine: GPUs, device, memory, size of a pass. None of it changes a result.

Imported at parse time: no torch. The class is not called `Resources`: rules share a namespace with Snakemake, which
uses that name.
"""

import math
import os
from collections.abc import Iterable
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path

from headatlas.models.folder import read_model_config
from headatlas.models.memory import LIBRARIES, MB, USABLE, machine_memory, pass_bytes, token_bytes, weights_of
from headatlas.models.work import longest
from headatlas.tasks.items import read_items
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.slurm import allocated_memory

LEAST_PASSES = 0.25  # share of the memory for passes that a CPU job gets at least, even if fewer jobs then run at once


class Requests:
    """What each job of a config requests.

    Args:
        here: whether jobs run on this machine; elsewhere the profile sets the GPUs of each job.
        cores: cores that all jobs on this machine share; None if unknown.
    """

    def __init__(self, atlas: Atlas, here: bool = True, cores: int | None = None):
        self.atlas, self.here, self.cores = atlas, here, cores

    @cached_property
    def gpus(self) -> int:
        """GPU jobs that may run at once on this machine; 0 if it has no GPU."""
        wanted = self.atlas.config["compute"]["gpus"]
        return count_gpus() if wanted == "auto" else wanted

    def job_gpus(self, model: str) -> int:
        """GPUs that one job of this model holds.

        All GPUs of this machine if the model is spread over them, or if the config names its device, so that no other
        job uses that device.
        """
        entry = self.atlas.models[model]
        if entry["device"] == "cpu":
            return 0
        alone = entry["device_map"] == "auto" or entry["device"] != "auto"
        return max(1, self.gpus) if alone and self.here else 1

    def probe_gpus(self, model: str) -> int:
        """GPUs that this model's probe holds: as `job_gpus`, except that a probe is never spread."""
        return 1 if self.probe_device(model) == "auto" else self.job_gpus(model)

    def device(self, model: str) -> str:
        """The `--device` of a job that runs this model."""
        return "spread" if self.atlas.models[model]["device_map"] == "auto" else self.probe_device(model)

    def probe_device(self, model: str) -> str:
        """The `--device` of a job that trains this model's probe."""
        return self.atlas.models[model]["device"]

    def on_gpu(self, model: str) -> bool:
        """Whether the jobs of this model run on a GPU."""
        return self.atlas.models[model]["device"] != "cpu" and (self.gpus > 0 or not self.here)

    @cached_property
    def total_mb(self) -> int:
        """Memory that all jobs on this machine may use together, MB."""
        wanted = self.atlas.config["compute"]["memory"]
        return usable_mb() if wanted == "auto" else wanted

    def memory_mb(self, model: str, attempt: int, backward: bool = False, longest: int | None = None) -> int:
        """Host memory that a job running this model may use, MB.

        Args:
            backward: whether it needs gradients; longest: tokens of its longest item (`tokens_of_longest`), None as
                long as that is not known.
        """
        entry = self.atlas.models[model]
        longest = longest or self.atlas.config["items"]["max_tokens"]
        weights = weights_of(entry)
        if self.on_gpu(model):
            return math.ceil((2000 + 1.5 * weights / MB) * attempt)
        config = read_model_config(entry)
        fixed, passes = LIBRARIES + weights, pass_bytes(config, backward, longest)
        wanted = math.ceil((fixed + passes) / MB) * attempt
        if not self.here:
            return wanted
        one = (longest or 0) * token_bytes(config, backward)
        least = math.ceil((fixed + max(LEAST_PASSES * passes, one)) / MB)
        return min(wanted, max(least, self.total_mb // self.at_once), self.total_mb)

    @property
    def at_once(self) -> int:
        """Jobs that run a model at once on this machine's CPU."""
        return max(1, (self.cores or 1) // self.atlas.config["compute"]["threads"])

    def batch_tokens(self, attempt: int) -> int:
        """Positions of one pass of the model; halved at each retry, in case memory was the reason."""
        return max(1, self.atlas.config["compute"]["batch_tokens"] >> (attempt - 1))


def tokens_of_longest(files: str | Iterable[str]) -> int | None:
    """Tokens of the longest item in items files; None without a file, or if one has not been written yet."""
    paths = [files] if isinstance(files, str) else list(files)
    if not all(map(os.path.isfile, paths)):
        return None
    return max((_longest_of(path, os.stat(path).st_mtime_ns) for path in paths), default=None)


@cache
def _longest_of(path: str, written: int) -> int:
    return longest(read_items(Path(path))["items"])


def usable_mb() -> int:
    """Memory that jobs may use on this machine, within its control group or SLURM job, MB."""
    return int(USABLE * min(machine_memory(), allocated_memory()) / MB)


def count_gpus(devices: str = "/dev") -> int:
    """NVIDIA GPUs of this machine that this process may use, without asking torch."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:  # CUDA shows those before the first that is not there
        return len(list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, shown.split(",")))))
    return len([name for name in os.listdir(devices) if name.startswith("nvidia") and name[6:].isdigit()])
