"""Render a Vega-Lite spec to images by their suffixes: PNG, SVG, PDF or a self-contained HTML page.

`--library` is the JavaScript for HTML pages (see `write_library`). Needs no network and no display.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.charts.render import render
from headatlas.jobs import cli


@dataclass(frozen=True)
class Settings:
    """png_scale: PNG pixels per pixel of the spec; null if no PNG is wanted."""

    png_scale: float | None


def main(settings: Settings, spec: Path, library: Path, images: list[Path]) -> None:
    for image in images:
        with cli.atomic(image) as draft:
            render(spec, draft, settings.png_scale, library)


if __name__ == "__main__":
    cli.run(main)
