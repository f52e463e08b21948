"""Which engine computed the edited passes of a model, and why.

Reads the headers of ablation's effects files in a folder, and one knock-out file per method; writes JSON, a row per
rule, method and task (see `headatlas.engine_record`). Settings: effects (names of the files by task), methods (in the
order of the knock-outs).
"""

from pathlib import Path

from headatlas.engine_record import gather_engines
from headatlas.job import run, write_json


def main(settings: dict, effects: Path, record: Path, knock_outs: list[Path] = ()) -> None:
    files = {task: [effects / name for name in names] for task, names in settings["effects"].items()}
    write_json(record, gather_engines(files, dict(zip(settings["methods"], knock_outs, strict=True))))


if __name__ == "__main__":
    run(main)
