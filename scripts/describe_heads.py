"""Score what each head does: on random tokens repeated once, and on the score items of all tasks.

Reads the items of all tasks; writes one file (safetensors, see `headatlas.files.roles`): shares of attention, direct
effects in nats of logit, the tokens that a head promotes with their texts.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from headatlas.files.roles import write_roles
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.roles import describe_heads
from headatlas.scoring.work import SEQUENCES
from headatlas.tasks.items import read_split
from headatlas.tasks.tokens import load_tokeniser


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of the items; seed: of the random tokens."""

    model: dict
    tokenizer: dict
    tasks: list[str]
    seed: int


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    return hold_model(settings.model, device, memory_mb)


def main(
    settings: Settings, items: list[Path], roles: Path, device: str, threads: int, batch_tokens: int, memory_mb: int
) -> None:
    tasks = {task: read_split(path, "score") for task, path in zip(settings.tasks, items, strict=True)}
    chosen = list(chain(*tasks.values()))
    model = model_of_job(settings.model, chosen, device, threads, memory_mb)
    with progress("describe", SEQUENCES + len(chosen), "sequences and items") as advance:
        found = describe_heads(model, tasks, settings.seed, batch_tokens, advance)
    tokeniser = load_tokeniser(settings.tokenizer)
    write_roles(roles, found.with_texts(lambda token: tokeniser.decode([token], True)))


if __name__ == "__main__":
    run(main)
