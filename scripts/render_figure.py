"""Render a Vega-Lite spec to images: PNG, SVG, PDF or a self-contained HTML page, by each one's suffix.

`--library` is the JavaScript that pages take in (see `write_library`).
Settings: `png_scale` (pixels of the PNG per pixel of the spec). Needs no network and no display.
"""

from pathlib import Path

from headatlas.charts.render import render
from headatlas.jobs import cli


def main(settings: dict, spec: Path, library: Path, images: list[Path]) -> None:
    for image in images:
        with cli.atomic(image) as draft:
            render(spec, draft, settings["png_scale"], library)


if __name__ == "__main__":
    cli.run(main)
