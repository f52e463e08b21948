"""Vega-Lite specs to image files with vl-convert: no browser, no network, no display.

Knows file formats, but not what a figure shows; never imports Altair, to start fast.
"""

import html
import json
import re
from pathlib import Path

import vl_convert

from headatlas.errors import HeadAtlasError

FORMATS = ("png", "svg", "pdf", "html")


def render(spec_file: Path, image: Path, png_scale: float, library: Path) -> None:
    """Write the spec in `spec_file` to `image`, in the format of the image's suffix.

    Args:
        library: what `write_library` wrote, for inclusion in HTML pages.

    Raises:
        HeadAtlasError: unknown format, or a spec that is not JSON or of a Vega-Lite version vl-convert lacks.
    """
    kind = image.suffix.removeprefix(".")
    try:
        spec = json.loads(spec_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HeadAtlasError(f"{spec_file}: not a JSON file ({error}); delete it and run again") from error
    version = _version(spec, spec_file)
    if kind == "png":
        image.write_bytes(vl_convert.vegalite_to_png(spec, vl_version=version, scale=png_scale))
    elif kind == "pdf":
        image.write_bytes(vl_convert.vegalite_to_pdf(spec, vl_version=version))
    elif kind == "svg":
        image.write_text(vl_convert.vegalite_to_svg(spec, vl_version=version), encoding="utf-8")
    elif kind == "html":
        image.write_text(_page(spec, library.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        raise HeadAtlasError(f"{image}: cannot write `{kind}`; formats: {', '.join(FORMATS)}")


def _version(spec: dict, spec_file: Path) -> str:
    """The Vega-Lite release in the spec's `$schema`, in vl-convert's notation (`6.4`)."""
    named = re.search(r"/vega-lite/v(\d+\.\d+)", str(spec.get("$schema", "")))
    known = vl_convert.get_vegalite_versions()
    if named is None or named[1] not in known:
        raise HeadAtlasError(
            f"{spec_file}: $schema {spec.get('$schema')!r} is no Vega-Lite version that vl-convert can draw "
            f"({', '.join(known)}); install the versions of altair and vl-convert-python in pyproject.toml"
        )
    return named[1]


def write_library(path: Path) -> None:
    """Write the JavaScript of all pages (Vega-Embed, Vega-Lite, Vega), without network.

    This takes vl-convert two seconds, so it is done once, not for each page.
    """
    path.write_text(vl_convert.javascript_bundle(), encoding="utf-8")


def _page(spec: dict, library: str) -> str:
    """One HTML file with all JavaScript inside, titled with the spec's description."""
    name = html.escape(spec.get("description", "Chart"))
    data = json.dumps(spec, ensure_ascii=False).replace("</", "<\\/")  # no text in the spec can close the script
    return PAGE.replace("{name}", name).replace("{spec}", data).replace("{library}", library)


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{name}</title>
<style>#chart.vega-embed { width: 100%; display: flex; }</style>
</head>
<body>
<div id="chart"></div>
<script>{library}</script>
<script>vegaEmbed("#chart", {spec}, {renderer: "svg"}).catch(console.error);</script>
</body>
</html>
"""
