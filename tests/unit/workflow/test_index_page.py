"""The page of all results: what it links exists, in the order of the manifests, as text and never as markup."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from headatlas.workflow.index_page import write_index
from headatlas.workflow.manifest import finish

TEMPLATE = Path(__file__).resolve().parents[3] / "workflow/report/index.html.j2"
DAY = 1_700_000_000  # 2023-11-14 22:13:20 UTC
FILES = [
    "findings.html", "page/index.html", "page/main.js",
    "importance.csv", "provenance.json", "trace/t.safetensors", "effects/ablation/t.safetensors",
    "evidence/knock-out.parquet", "evidence/knock-out/ablation/sets.json", "logs/aggregate.log",
    "heads/t.json", "heads/t.safetensors",
    "figures/knock-out.json", "figures/knock-out.svg", "figures/heatmap-grid.ablation.json",
    "figures/heatmap-grid.ablation.png", "figures/heatmap-grid.ablation.svg", "figures/heatmap-grid.ablation.html",
]  # fmt: skip


class Page(HTMLParser):
    """Links, images and headings of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.images, self.words, self.tags = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        if tag == "a":
            self.links.append(unquote(given["href"]))
        if tag == "img":
            self.images.append((unquote(given["src"]), given["alt"]))

    def handle_data(self, data):
        self.words.append(data.strip())


def make(results: Path, model: str, files=FILES, caption: str = "Loss over k", config: str = "config/config.yaml"):
    for name in files:
        file = results / model / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"description": caption}) if file.suffix == ".json" else "x")
        os.utime(file, (DAY, DAY - ("trace" in name) * 10**8))
    finish(results, {results / model: files}, [config])


def written(results: Path) -> Page:
    write_index(results, TEMPLATE)
    return Page((results / "index.html").read_text(encoding="utf-8"))


def test_findings_figures_and_tables_are_linked_and_nothing_else(tmp_path):
    make(tmp_path, "demo")
    (tmp_path / "demo/figures/mine.svg").write_text("not of the plan")
    page = written(tmp_path)
    assert page.images == [
        ("demo/figures/heatmap-grid.ablation.png", "Loss over k"),
        ("demo/figures/knock-out.svg", "Loss over k"),
    ]
    figures = ["heatmap-grid.ablation.html"] + [
        f"heatmap-grid.ablation.{form}" for form in ("html", "json", "png", "svg")
    ]
    figures += ["knock-out.svg", "knock-out.json", "knock-out.svg"]
    tables = ["importance.csv", "evidence/knock-out.parquet", "heads/t.json"]
    texts = ["page/index.html", "findings.html", "provenance.json"]
    expected = [*texts, *(f"figures/{name}" for name in figures), *tables]
    assert page.links == [f"demo/{name}" for name in expected]
    assert "the heads, one by one" in page.words
    assert all((tmp_path / link).is_file() for link in page.links)
    assert "Newest file: 2023-11-14 22:13 UTC. Config: config/config.yaml." in page.words


def test_all_models_in_the_folder_have_a_section_and_the_comparison_comes_last(tmp_path):
    make(tmp_path, "comparison", ["models.csv"], config="both.yaml")
    make(tmp_path, "zeta", config="other.yaml")
    make(tmp_path, "demo", ["trace/t.safetensors"])  # no results yet
    page = written(tmp_path)
    assert page.links[:2] == ["#zeta", "#comparison"]
    headings = [word for word in page.words if word in ("zeta", "The models compared", "demo")]
    assert headings == ["zeta", "The models compared", "zeta", "The models compared"]


def test_a_file_that_is_gone_is_not_linked(tmp_path):
    make(tmp_path, "demo")
    (tmp_path / "demo/figures/knock-out.svg").unlink()
    (tmp_path / "demo/findings.html").unlink()
    page = written(tmp_path)
    assert not any("knock-out.svg" in link or "findings" in link for link in page.links)


@pytest.mark.parametrize(
    "text", ["</figcaption><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\u202eabc"]
)
def test_captions_and_paths_are_text(text, tmp_path):
    make(tmp_path, "demo", caption=text, config=text)
    page = written(tmp_path)
    assert "script" not in page.tags
    assert page.images[0][1] == text
    assert any(text in words for words in page.words)
    assert not re.search(r"onerror=alert(?!.*&gt;)", (tmp_path / "index.html").read_text(encoding="utf-8"))


def test_equal_results_give_equal_bytes_and_a_folder_without_results_gives_a_page(tmp_path):
    assert written(tmp_path).links == []
    make(tmp_path, "demo")
    write_index(tmp_path, TEMPLATE)
    first = (tmp_path / "index.html").read_bytes()
    write_index(tmp_path, TEMPLATE)
    assert (tmp_path / "index.html").read_bytes() == first
