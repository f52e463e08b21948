"""Turn a task's files into items of tokens, split by question.

Reads the task's files and the model's tokenizer (no weights); writes an items file (JSON) with lengths in tokens.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.jobs.cli import run
from headatlas.tasks.items import write_items
from headatlas.tasks.prepare import prepare_items
from headatlas.tasks.tokens import load_tokeniser


@dataclass(frozen=True)
class Settings:
    """The task's complete config entry; max_tokens null: no limit; skill and context: for cogqa only.

    partners: the texts required of every item (`headatlas.tasks.partners.PARTNERS`).
    """

    task: str
    format: str
    join: str | None
    max_items: int | None
    max_tokens: int | None
    seed: int
    validate_fraction: float
    tokenizer: dict
    skill: str | None = None
    context: str | list[str] | None = None
    partners: list[str] = ()


def prepare(settings: Settings) -> None:
    load_tokeniser.prepare(settings.tokenizer)


def main(settings: Settings, source: list[Path], items: Path) -> None:
    write_items(items, prepare_items(vars(settings), source))


if __name__ == "__main__":
    run(main)
