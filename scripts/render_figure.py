"""Render a Vega-Lite spec to one image: PNG, SVG, PDF or a self-contained HTML page, by the image's suffix.

Settings: `png_scale` (pixels of the PNG per pixel of the spec). Needs no network and no display.
"""

from pathlib import Path

from headatlas import images, job


def main(settings: dict, spec: Path, image: Path) -> None:
    with job.atomic(image) as draft:
        images.render(spec, draft, settings["png_scale"])


if __name__ == "__main__":
    job.run(main)
