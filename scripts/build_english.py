"""Rebuild the English tasks: writes `{task}.jsonl` into the folder `--tasks`. The seed is fixed; same bytes again."""

from pathlib import Path

from headatlas import english, job


def main(tasks: Path) -> None:
    english.write_tasks(tasks)


if __name__ == "__main__":
    job.run(main)
