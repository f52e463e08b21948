"""Judge what the model wrote to a task's items, and make its answers those of the items.

Reads items and answers (JSON); writes the answers judged (JSON: text, reference, correct of every item) and items whose
answers the model wrote (see `headatlas.tasks.generated`); the log counts those it wrote nothing to.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.jobs.cli import run
from headatlas.tasks.generated import answered, judged
from headatlas.tasks.items import read_items, write_items


@dataclass(frozen=True)
class Settings:
    """check: exact | number | first_word."""

    check: str


def main(settings: Settings, questions: Path, written: Path, answers: Path, items: Path) -> None:
    content = read_items(questions)
    found = judged(content, read_items(written), settings.check)
    write_items(answers, found)
    write_items(items, answered(content, found))


if __name__ == "__main__":
    run(main)
