"""Patch the hottest heads of every task, one at a time, from other prompts, on held-out questions.

Reads the heads of each task (JSON) and the items of all tasks; writes one file (safetensors, see
`headatlas.files.patches`): effects in nats on each validate item, patched from the item's counterfactual and from
another question with the same answer.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from headatlas.files.patches import KINDS, write_patches
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.models.batches import longest
from headatlas.models.device import choose_device
from headatlas.models.head_model import hold_model, load_model
from headatlas.models.memory import check_share
from headatlas.scoring.patch_answers import patch_answers
from headatlas.tasks.items import read_items, split_items


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of the items."""

    model: dict
    tasks: list[str]


def prepare(settings: Settings, device: str) -> None:
    hold_model(settings.model, device)


def main(
    settings: Settings,
    heads: Path,
    items: list[Path],
    patches: Path,
    device: str,
    threads: int,
    batch_tokens: int,
    memory_mb: int,
    engine: str,
) -> None:
    chosen = json.loads(heads.read_text(encoding="utf-8"))
    questions = {
        task: split_items(read_items(path), "validate") for task, path in zip(settings.tasks, items, strict=True)
    }
    device = choose_device(device, threads)
    check_share(memory_mb, device, settings.model, max(map(longest, questions.values())))
    model = load_model(settings.model, device).within(memory_mb)
    rows = len(KINDS) * sum(len(asked) * (1 + len(chosen[task])) for task, asked in questions.items())
    with progress("patch", rows, "items x heads") as advance:
        patched = {
            task: patch_answers(model, asked, chosen[task], batch_tokens, advance, engine)
            for task, asked in questions.items()
        }
    write_patches(patches, patched)


if __name__ == "__main__":
    run(main)
