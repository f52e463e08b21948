"""What holds for every figure of the evidence: words, layout, order of rows, bad input, the tool."""

import json
import re
import subprocess
import sys
from pathlib import Path

import altair as alt
import polars as pl
import pytest
from evidence_drawings import drawn, plain_spec
from evidence_samples import DRAWINGS, tables_of, wanted
from figure_reader import overlaps
from figure_samples import TITLES
from headatlas.charts import registry, render
from headatlas.errors import HeadAtlasError
from headatlas.workflow.targets import COMPARISON, FIGURES

ROOT = Path(__file__).parents[3]


def test_the_workflow_asks_for_the_figures_and_as_many_tables_as_are_here():
    figures = {name: len(tables) for name, (tables, _) in registry.FIGURES.items()}
    assert {name: len(tables) for name, tables in FIGURES.items()} | {"comparison.{method}": len(COMPARISON)} == figures


@pytest.mark.parametrize(
    ("figure", "title", "about"),
    [
        ("knock-out", "Attention heads of demo knocked out together", "held-out questions"),
        ("sufficiency", "Attention heads of demo kept alone", "from 0 (no head) to 1 (all heads)"),
        ("layer-profile", "Attention heads of demo: share of importance by layer", "by each method"),
        ("dissociation.ablation", "Dissociation of tasks in demo, top 4 heads by exact ablation", "the top 4 heads"),
        ("task-overlap.probe", "Overlap of the tasks' maps in demo by a probe", "the top 5 heads"),
        ("agreement", "Agreement between methods on the attention heads of demo", "hottest"),
        ("annotated-grid.ablation", "Attention heads of demo: importance by exact ablation", "two halves"),
        ("same-answer", "What the hottest attention heads of demo carry", "another question with the same answer"),
        ("head-groups", "Query heads that share keys and values in demo", "Off the diagonal"),
        ("changes.ablation", "Attention heads of demo: effect minus that in base, by exact ablation", "Above 0"),
        ("comparison.ablation", "Attention heads of demo and other compared, by exact ablation", "relative depth"),
    ],
)
def test_titles_name_model_and_method_and_say_what_is_shown(figure, title, about):
    drawing = drawn(figure, titles=True)
    assert title in drawing.words("title-text")
    assert any(about in words for words in drawing.words("title-subtitle"))


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_overlaps_another_or_leaves_the_page(name):
    figure, settings = DRAWINGS[name]
    drawing = drawn(figure, **settings)
    slanted = {text.words for text in drawing.texts if "axis-label" in text.role} if "." in figure else set()
    level = [text for text in drawing.texts if not (text.words in slanted and text.box[3] - text.box[1] > 14)]
    assert len(level) > 5
    assert overlaps(level) == []
    for text in drawing.texts:
        left, top, right, bottom = text.box
        assert min(left, top) >= -2, text
        assert right <= drawing.width + 2, text
        assert bottom <= drawing.height + 2, text


def test_titles_of_panels_stand_level_whatever_their_axes_say():
    drawing = drawn("knock-out", scale="panel")
    places = [text.box[3] for text in drawing.texts if text.words in TITLES]
    assert len({round(place, 3) for place in places}) == 2


@pytest.mark.parametrize("figure", [name for name in DRAWINGS if "," not in name])
def test_specs_are_valid_and_the_same_in_any_order_of_rows(figure):
    figure, _ = DRAWINGS[figure]
    tables = tables_of(figure)
    first = plain_spec(figure)
    alt.Chart.from_dict(json.loads(first))
    shuffled = [table.sample(fraction=1.0, shuffle=True, seed=4) for table in tables]
    assert json.dumps(registry.draw(shuffled, wanted(figure))) == first
    assert "tooltip" in first


@pytest.mark.parametrize(
    ("figure", "change", "message"),
    [
        ("knock-outs", None, "no figure `knock-outs`; there are: knock-out, knock-out-accuracy"),
        ("dissociation", None, "no figure `dissociation`; there are: "),
        ("knock-out.ablation", None, "no figure `knock-out.ablation`"),
        ("dissociation.lens", None, "figure dissociation.lens: no method `lens`, there are: ablation"),
        ("agreement", lambda t: t[:1], "figure agreement takes the tables agreement, summary; 1 were given"),
        ("knock-out", lambda t: [t[0].drop("k")], "knock-out table: no column k; it has method"),
        (
            "sufficiency",
            lambda t: [t[0].filter(pl.col("method") != "random"), t[1]],
            "sufficiency table: no row of task",
        ),
        (
            "layer-profile",
            lambda t: [t[0], t[1].filter(pl.col("task") != "inference")],
            "summary table: no row of task inference, method ablation",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(figure, change, message):
    tables = change(tables_of(figure)) if change else []
    with pytest.raises(HeadAtlasError, match=re.escape(message)):
        registry.draw(tables, wanted(figure))


def test_the_tool_writes_a_spec_that_becomes_a_page(tmp_path):
    files = []
    for i, table in enumerate(tables_of("dissociation.ablation")):
        files.append(str(tmp_path / f"{i}.parquet"))
        table.write_parquet(files[-1])
    spec, page, library = (tmp_path / name for name in ("spec.json", "page.html", "library.js"))
    settings = json.dumps(wanted("dissociation.ablation"))
    tool = [sys.executable, str(ROOT / "scripts/draw_evidence.py"), "--settings", settings, "--tables", *files]
    subprocess.run([*tool, "--spec", str(spec)], check=True)
    assert json.dumps(json.loads(spec.read_text())) == plain_spec("dissociation.ablation")
    library.write_text("library")
    render.render(spec, page, 1, library)
    assert "Loss of each task without the top heads of each task: model demo, method ablation" in page.read_text()


def test_evidence_charts_never_import_torch():
    code = "import sys; from headatlas.charts import registry; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "scripts"
    )
    assert done.stdout.strip() == "False"
