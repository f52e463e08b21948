"""In each split, cut the items of all tasks to the number of the smallest.

Reads and writes items files (JSON), one per task, in the same order.
"""

from pathlib import Path

from headatlas.jobs.cli import run
from headatlas.tasks.items import balance, read_items, write_items


def main(items: list[Path], balanced: list[Path]) -> None:
    contents = balance([read_items(path) for path in items])
    for path, content in zip(balanced, contents, strict=True):
        write_items(path, content)


if __name__ == "__main__":
    run(main)
