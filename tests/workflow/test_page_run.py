"""The page that a run of the demo makes: linked from the page of results, and its numbers are those of the tables."""

import json

import numpy as np
import polars as pl
import pytest
from browser import Browser, Tab
from headatlas.files.attention import FULL, read_attention

STATES = {
    "maps": ("", 1400),
    "signed": ("#show=effect&colour=log&bar=panel", 1400),
    "pinned": ("#L0H2&task=retrieval", 1400),
    "compared": ("#L0H2&L1H6&task=math_calculation", 1400),
    "narrow": ("#L0H2&task=retrieval&significant", 400),
    "dark": ("#L0H2&task=retrieval", 1400),
}


@pytest.fixture(scope="module")
def tab(finished, tmp_path_factory):
    """The page of the finished run, and a screenshot of each state in a folder of its own."""
    place = tmp_path_factory.mktemp("screenshots")
    page = finished / "results/demo/page/index.html"
    with Browser() as browser:
        tab = Tab(browser)
        for name, (hash, width) in STATES.items():
            tab.size(width, 1000)
            tab.media("dark" if name == "dark" else "light")
            tab.open(page.as_uri() + hash)
            tab.until("document.querySelector('#table caption') !== null")
            if "#L" in hash:
                tab.until("document.querySelectorAll('.item .token').length > 0")
            tab.screenshot(place / f"{name}.png")
        yield tab
        assert tab.troubles() == []
        assert all(address.startswith(("file://", "about:", "data:,")) for address in tab.requests())


def test_the_page_of_results_links_it(finished):
    assert 'href="demo/page/index.html"' in (finished / "results/index.html").read_text(encoding="utf-8")
    listed = json.loads((finished / "results/demo/manifest.json").read_text())["current"]
    assert {"page/index.html", "page/looks.js", "page/data"} <= {*listed}


def test_the_table_of_the_page_is_the_importance_table(finished, tab):
    table = pl.read_parquet(finished / "results/demo/importance.parquet")
    for method in ("ablation", "attribution", "probe"):
        effects = "Object.fromEntries(Object.entries(map).map(([task, one]) => [task, Array.from(one.effect)]))"
        seen = tab.run(f"HeadAtlas.model.map('{method}').then((map) => {effects})")
        assert sorted(seen) == ["inference", "math_calculation", "retrieval"]
        for task, effects in seen.items():
            rows = table.filter(pl.col("method") == method, pl.col("task") == task).sort("layer", "head")
            np.testing.assert_array_equal(np.float32(effects), rows["effect"].cast(pl.Float32).to_numpy())


def test_items_and_attention_are_those_of_the_run(finished, tab):
    items = json.loads((finished / "results/demo/items/retrieval.json").read_text())["items"]
    scored = [item for item in items if item["split"] == "score"]
    attention = read_attention(finished / "results/demo/attention/retrieval.safetensors")
    assert [item["start"] for item in attention.items] == [len(item["prompt_ids"]) for item in scored]
    for item, about in zip(scored, attention.items, strict=True):
        text = "".join(about["tokens"])
        assert text.removeprefix("<bos>").split() == (item["prompt"] + " " + item["answer"]).split()
    counts, positions, weights = attention.of_head(0, 2)
    row = int(counts.argmax())
    entries = slice(int(counts[:row].sum()), int(counts[: row + 1].sum()))
    expected = dict(zip(positions[entries].tolist(), (weights[entries] / FULL).tolist(), strict=True))
    rows = "HeadAtlas.load('heads/L0H2').then((head) => HeadAtlas.attention.decoded(head.attention.retrieval))"
    assert dict(map(tuple, tab.run(f"{rows}.then((decoded) => [...decoded({row})])"))) == pytest.approx(expected)
    assert len(expected) > 1
