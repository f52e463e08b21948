"""Which engine computed the edited passes of a method, groups of heads, the knock-outs or the patches, and why.

Reads the headers of a method's effects files in a folder, of the groups' files, of one knock-out file per method, or of
the file of patches; writes JSON, a row per method and task (see `headatlas.workflow.engine_record`).
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.jobs.cli import run, write_json
from headatlas.workflow.engine_record import of_effects, of_knock_outs, of_patches


@dataclass(frozen=True)
class Settings:
    """rule: the rule whose engines are recorded.

    effects: names of the files of its method, with placeholder {task}, and tasks; or tasks in the order of the groups;
    or methods in the order of the knock-outs; or none.
    """

    rule: str
    effects: dict[str, list[str]] | None = None
    tasks: list[str] | None = None
    methods: list[str] | None = None


def main(
    settings: Settings,
    record: Path,
    effects: Path | None = None,
    knock_outs: list[Path] = (),
    patches: Path | None = None,
    groups: list[Path] = (),
) -> None:
    if patches is not None:
        rows = of_patches(patches)
    elif groups:
        files = {task: [file] for task, file in zip(settings.tasks, groups, strict=True)}
        rows = of_effects(settings.rule, "ablation", files)
    elif effects is None:
        rows = of_knock_outs(dict(zip(settings.methods, knock_outs, strict=True)))
    else:
        ((method, names),) = settings.effects.items()
        files = {task: [effects / name.format(task=task) for name in names] for task in settings.tasks}
        rows = of_effects(settings.rule, method, files)
    write_json(record, rows)


if __name__ == "__main__":
    run(main)
