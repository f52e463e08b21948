"""Write a transformers folder in which the listed heads output zero or their mean, whatever the input.

Reads a list of heads (JSON, see `headatlas.files.head_list`) and a task's items; writes weights, config and tokenizer
to a new folder. Its baked.json says which heads are gone, where the means went, and how far the log-probabilities
(nats) are from those of hooks on a few of the items. The folder appears only if they agree.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from headatlas.files.head_list import read_head_list, read_vectors
from headatlas.jobs.cli import log, run
from headatlas.models.bake import bake
from headatlas.models.device import choose_device
from headatlas.tasks.items import read_items


@dataclass(frozen=True)
class Settings:
    """mode: zero | mean (over all positions); prune: whether to cut the heads out of the projections, too."""

    model: dict
    mode: str
    prune: bool = False


def main(settings: Settings, heads: Path, items: Path, folder: Path, device: str = "cpu", threads: int = 1) -> None:
    listed = read_head_list(heads)
    vectors = torch.from_numpy(read_vectors(listed, heads)) if settings.mode == "mean" else None
    chosen = read_items(items)["items"]
    _, check = bake(
        settings.model, listed.heads, vectors, chosen, folder, choose_device(device, threads), settings.prune
    )
    log.info(
        "%d heads output their %s; log-probabilities are within %.2g nats of those of hooks (%d numbers on %d items, "
        "which the heads change by up to %.2g nats)",
        len(listed.heads), settings.mode, check.difference, check.numbers, check.items, check.change,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
