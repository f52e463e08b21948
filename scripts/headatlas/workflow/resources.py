"""What a job asks of the machine: GPUs, device, memory, size of a pass. None of it changes a result.

Imported at parse time: no torch. Rules are read among the names of a module of Snakemake's, where `Resources` is taken.
"""

import math
import os
from functools import cached_property
from itertools import takewhile

from headatlas.models.folder import is_local, read_model_config, weight_bytes
from headatlas.workflow.atlas import Atlas

UNKNOWN_WEIGHTS = 32_000_000_000  # bytes, where a hub model's config.json does not tell them


class Requests:
    """What each job of a config asks for.

    Args:
        here: whether jobs run on this machine; elsewhere the profile says how many GPUs each takes.
    """

    def __init__(self, atlas: Atlas, here: bool = True):
        self.atlas, self.here = atlas, here

    @cached_property
    def gpus(self) -> int:
        """GPU jobs that may run at once on this machine; 0 where it has no GPU and the CPU sets the limit."""
        wanted = self.atlas.config["compute"]["gpus"]
        return count_gpus() if wanted == "auto" else wanted

    def job_gpus(self, model: str) -> int:
        """GPUs that one job of this model holds.

        All of this machine's where the model is spread over them, and where its one device is named: so no other job
        is on that device.
        """
        entry = self.atlas.models[model]
        if entry["device"] == "cpu":
            return 0
        alone = entry["device_map"] == "auto" or entry["device"] != "auto"
        return max(1, self.gpus) if alone and self.here else 1

    def probe_gpus(self, model: str) -> int:
        """GPUs that this model's probe holds: as `job_gpus`, but that a probe is never spread."""
        return 1 if self.probe_device(model) == "auto" else self.job_gpus(model)

    def device(self, model: str) -> str:
        """The `--device` of a job that runs this model."""
        return "spread" if self.atlas.models[model]["device_map"] == "auto" else self.probe_device(model)

    def probe_device(self, model: str) -> str:
        """The `--device` of a job that trains this model's probe."""
        return self.atlas.models[model]["device"]

    def memory_mb(self, model: str, attempt: int) -> int:
        """Host memory to ask a cluster for: the weights, as much again as half, and what libraries take."""
        entry = self.atlas.models[model]
        if is_local(entry["path"]):
            weights = weight_bytes(entry["path"], entry["dtype"])
        else:
            weights = estimate_weights(read_model_config(entry), entry["dtype"])
        return math.ceil((2000 + 1.5 * weights / 1e6) * attempt)

    def batch_tokens(self, attempt: int) -> int:
        """Positions of one pass of the model; half as many at each retry, should memory have been the reason."""
        return max(1, self.atlas.config["compute"]["batch_tokens"] >> (attempt - 1))


def count_gpus(devices: str = "/dev") -> int:
    """NVIDIA GPUs of this machine that this process may use, without asking torch."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:  # CUDA shows those before the first that is not there
        return len(list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, shown.split(",")))))
    return len([name for name in os.listdir(devices) if name.startswith("nvidia") and name[6:].isdigit()])


def estimate_weights(config: dict, dtype: str) -> int:
    """Bytes of a dense decoder's weights by its config.json, some 10% too many; 32 GB where it is silent."""
    text = config.get("text_config") or config
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")
    if not all(isinstance(text.get(name), int) for name in names):
        return UNKNOWN_WEIGHTS
    vocabulary, hidden, layers, between = (text[name] for name in names)
    parameters = 2 * vocabulary * hidden + layers * (4 * hidden**2 + 3 * hidden * between)
    return parameters * (4 if dtype == "float32" else 2)
