"""Patch the hottest heads of every task, one at a time, from other prompts, on held-out questions.

Reads the heads of each task (JSON) and the items of all tasks; writes one file (safetensors, see
`headatlas.files.patches`): effects in nats on each validate item, patched from the item's counterfactual and from
another question with the same answer.
"""

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from headatlas.files.patches import KINDS, write_patches
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.patch_answers import patch_answers
from headatlas.tasks.items import read_split


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of the items."""

    model: dict
    tasks: list[str]


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    return hold_model(settings.model, device, memory_mb)


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
    questions = {task: read_split(path, "validate") for task, path in zip(settings.tasks, items, strict=True)}
    model = model_of_job(settings.model, chain(*questions.values()), device, threads, memory_mb)
    rows = len(KINDS) * sum(len(asked) * (1 + len(chosen[task])) for task, asked in questions.items())
    with progress("patch", rows, "items x heads") as advance:
        patched = {
            task: patch_answers(model, asked, chosen[task], batch_tokens, advance, engine)
            for task, asked in questions.items()
        }
    write_patches(patches, patched)


if __name__ == "__main__":
    run(main)
