"""The figures' files: written by the two command line tools, in every format, sound and complete."""

import json
import re
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from figure_reader import Picture
from figure_samples import TITLES, capability, make_table, picture, settings
from headatlas.charts import render
from headatlas.errors import HeadAtlasError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def table():
    return make_table(32, 32)


@pytest.fixture(scope="module")
def written(table, tmp_path_factory):
    """The figure in all formats, by the two command line tools, with a scale of 2."""
    folder = tmp_path_factory.mktemp("figure")
    table.write_parquet(folder / "importance.parquet")
    spec = folder / "heatmap-grid.json"
    capability().write_parquet(folder / "capability.parquet")
    tables = {name: folder / f"{name}.parquet" for name in ("importance", "capability")}
    run("draw_figure.py", settings(), **tables, spec=spec)
    library = folder / "vega.js"
    run("write_library.py", None, library=library)
    for kind in render.FORMATS:
        run("render_figure.py", {"png_scale": 2}, spec=spec, library=library, images=folder / f"heatmap-grid.{kind}")
    return folder


def run(script, wanted, **paths):
    """Run one rule's command line tool; returns its standard error."""
    command = [sys.executable, str(ROOT / "scripts" / script)]
    command += [] if wanted is None else ["--settings", json.dumps(wanted)]
    for name, path in paths.items():
        command += [f"--{name}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_png_is_twice_the_size_of_the_svg_and_the_svg_is_as_drawn(written, table):
    direct = picture(table, settings())
    head = (written / "heatmap-grid.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == (2 * direct.width, 2 * direct.height)
    drawn = Picture((written / "heatmap-grid.svg").read_text(encoding="utf-8"))
    assert drawn.words("title-text") == TITLES
    assert drawn.panels == direct.panels


def test_pdf_is_whole_and_brings_its_fonts(written):
    content = (written / "heatmap-grid.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert b"LiberationSans" in content


def test_html_holds_everything_it_needs(written):
    page = (written / "heatmap-grid.html").read_text(encoding="utf-8")
    outside = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, given: outside.extend({"src", "href"} & {name for name, _ in given})
    parser.feed(page)
    assert outside == []
    assert "<title>Importance of each attention head per task: model demo, method ablation</title>" in page
    assert "vegaEmbed" in page
    assert "knowledge_recall,0,0," in page


def test_rendering_starts_fast_without_altair_and_polars():
    imports = "import sys; from headatlas.charts import render; from headatlas.jobs import cli"
    code = f"{imports}; print({{'altair', 'polars'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "scripts"
    )
    assert done.stdout.strip() == "set()"


def test_charts_never_import_torch():
    code = "import sys; from headatlas.charts import head_maps; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "scripts"
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("not json", "x.png", "spec.json: not a JSON file"),
        ('{"$schema": "https://vega.github.io/schema/vega-lite/v3.0.json"}', "x.png", "no Vega-Lite version"),
        ("{}", "x.png", "no Vega-Lite version"),
        (
            '{"$schema": "https://vega.github.io/schema/vega-lite/v6.4.1.json"}',
            "x.gif",
            "cannot write `gif`; formats: png",
        ),
    ],
)
def test_what_cannot_be_rendered_is_said(tmp_path, content, name, message):
    spec = tmp_path / "spec.json"
    spec.write_text(content)
    with pytest.raises(HeadAtlasError, match=re.escape(message)):
        render.render(spec, tmp_path / name, 2, tmp_path / "vega.js")
    assert not (tmp_path / name).exists()
