"""Which engine computed the edited passes of ablation, or of the knock-outs, and why.

Reads the headers of ablation's effects files in a folder, or of one knock-out file per method; writes JSON, a row per
method and task (see `headatlas.workflow.engine_record`). Settings: effects (names of a task's files, {task} open) and
tasks; or methods (in the order of the knock-outs).
"""

from pathlib import Path

from headatlas.jobs.cli import run, write_json
from headatlas.workflow.engine_record import of_ablation, of_knock_outs


def main(settings: dict, record: Path, effects: Path | None = None, knock_outs: list[Path] = ()) -> None:
    if effects is None:
        rows = of_knock_outs(dict(zip(settings["methods"], knock_outs, strict=True)))
    else:
        names = settings["effects"]
        rows = of_ablation({task: [effects / name.format(task=task) for name in names] for task in settings["tasks"]})
    write_json(record, rows)


if __name__ == "__main__":
    run(main)
