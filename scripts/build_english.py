"""Rebuild the English tasks: writes `{task}.jsonl` into the folder `--tasks`. The seed is fixed, so the files are
reproduced byte for byte."""

from pathlib import Path

from headatlas.english import pack
from headatlas.jobs import cli


def main(tasks: Path) -> None:
    pack.write_tasks(tasks)


if __name__ == "__main__":
    cli.run(main)
