"""Write a model's page: copies its files beside its data, and the looks from the config as a script.

Reads the files of workflow/page; writes them, and `looks.js`, into the page's folder. No numbers pass through here.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.charts.labels import task_label
from headatlas.jobs.cli import atomic, run
from headatlas.page.javascript import write_script


@dataclass(frozen=True)
class Settings:
    """tasks: in the order of the figures; looks: keys of the section `figures`."""

    tasks: list[str]
    looks: dict


def main(settings: Settings, sources: list[Path], page: list[Path], looks: Path) -> None:
    labels = {task: task_label(task, settings.looks["labels"]) for task in settings.tasks}
    for source, copy in zip(sources, page, strict=True):
        with atomic(copy) as draft:
            draft.write_bytes(source.read_bytes())
    with atomic(looks) as draft:
        write_script(draft.parent, looks.stem, settings.looks | {"labels": labels})


if __name__ == "__main__":
    run(main)
