"""Write the JavaScript that draws charts in a browser to one file, for use in all HTML pages. No settings."""

from pathlib import Path

from headatlas.charts.render import write_library
from headatlas.jobs.cli import atomic, run


def main(library: Path) -> None:
    with atomic(library) as draft:
        write_library(draft)


if __name__ == "__main__":
    run(main)
