"""The page in a real Chromium, opened from the disk: what one sees, points at, types, sends and saves."""

import base64
import csv
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from browser import Browser, Tab
from headatlas.charts.colour_bar import linear_bar, symlog_bar
from headatlas.files.attention import FULL, Attention, write_attention
from page_samples import items_of, make_data, write_results, write_sample

LAYERS, HEADS = 4, 6
SHIFT = 8  # of the DevTools protocol's modifiers
YELLOW = [253, 231, 37, 255]  # viridis's end
BLOCKS = "document.querySelectorAll('#pinned .head').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser that saves downloads to `browser.saved`."""
    with Browser() as browser:
        browser.saved = tmp_path_factory.mktemp("saved")
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(browser.saved))
        yield browser


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The folder of a sample's results and page."""
    folder = tmp_path_factory.mktemp("page") / "sample"
    write_sample(folder, layers=LAYERS, heads=HEADS)
    return folder


@pytest.fixture
def tab(browser, sample):
    """A tab with the page; the test fails if the console shows a mistake, or the page asks for anything elsewhere."""
    tab = Tab(browser)
    opened(tab, sample)
    yield tab
    assert tab.troubles() == []
    asked = {address.partition("#")[0] for address in tab.requests()} - {"about:blank", "data:,"}
    assert all(address.startswith(f"{sample.parent.as_uri()}/") for address in asked), asked


def opened(tab: Tab, folder: Path, hash: str = "") -> None:
    tab.open((folder / "page/index.html").as_uri() + hash)
    tab.until("document.querySelectorAll('#table tbody tr').length > 0")


def table_of(folder: Path, task="alpha", method="ablation") -> pl.DataFrame:
    table = pl.read_parquet(folder / "importance.parquet")
    return table.filter(pl.col("task") == task, pl.col("method") == method).sort("layer", "head")


def cell(tab: Tab, layer: int, head: int, panel: int = 0) -> tuple[float, float]:
    """The middle of a head's cell on the screen."""
    box = tab.run(f"document.querySelectorAll('canvas')[{panel}].getBoundingClientRect().toJSON()")
    return box["x"] + (head + 0.5) / HEADS * box["width"], box["y"] + (layer + 0.5) / LAYERS * box["height"]


def pixels(tab: Tab, panel: int = 0) -> np.ndarray:
    """[layer, head, 4]: the colours of a panel."""
    canvas = f"document.querySelectorAll('canvas')[{panel}]"
    data = tab.run(f"Array.from({canvas}.getContext('2d').getImageData(0, 0, {HEADS}, {LAYERS}).data)")
    return np.array(data).reshape(LAYERS, HEADS, 4)


def texts(tab: Tab, selector: str) -> list[str]:
    """The text of each element."""
    return tab.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)")


def hash_of(tab: Tab, expected: str) -> None:
    tab.until(f"location.hash === {json.dumps(expected)}")


def pinned(tab: Tab, *names: str) -> None:
    """Wait until these heads are shown as pinned."""
    said = json.dumps([f"Layer {layer}, head {head}" for layer, head in (name[1:].split("H") for name in names)])
    shown = "JSON.stringify([...document.querySelectorAll('#pinned .head')].map((one) => one.ariaLabel))"
    tab.until(f"{shown} === JSON.stringify({said})")


# --- the panels ------------------------------------------------------------------------------------------------------


def test_each_panel_has_the_colours_of_its_task(tab, sample):
    tables = [table_of(sample, task)["importance"].to_numpy().reshape(LAYERS, HEADS) for task in ("alpha", "beta")]
    tab.until("document.querySelectorAll('#shared-bar .tick').length > 0")
    most = max(table.max() for table in tables)
    for panel, table in enumerate(tables):
        seen = pixels(tab, panel)
        order = np.argsort(seen[..., :3].sum(-1).ravel(), kind="stable")  # viridis grows lighter all the way
        np.testing.assert_allclose(table.ravel()[order], np.sort(table.ravel()), atol=most / 150)
        if table.max() == most:
            assert seen.reshape(-1, 4)[table.argmax()].tolist() == YELLOW
    assert texts(tab, ".title") == [
        "Alpha & <b>first</b>",
        "Beta",
    ]
    assert tab.run("[...document.querySelectorAll('.plot')].map((one) => one.querySelector('.cross') !== null)") == [
        False,
        True,
    ]
    assert tab.run("document.title") == "Head Atlas: sample"


def test_signed_effects_are_red_and_blue_and_each_task_may_have_its_own_bar(tab, sample):
    opened(tab, sample, "#show=effect&bar=panel")
    tab.until("document.querySelectorAll('.panel .bar .tick').length > 0")
    for panel, task in enumerate(("alpha", "beta")):
        effect = table_of(sample, task)["effect"].to_numpy().reshape(LAYERS, HEADS)
        red, _, blue, _ = np.moveaxis(pixels(tab, panel).astype(int), -1, 0)
        strong = np.abs(effect) > 0.1 * np.abs(effect).max()
        assert strong.any()
        assert ((blue > red) == (effect > 0))[strong].all()
        largest = np.abs(effect).argmax()
        end = [0x13, 0x4B, 0x85] if effect.ravel()[largest] > 0 else [0x8C, 0x0D, 0x25]
        assert pixels(tab, panel).reshape(-1, 4)[largest, :3].tolist() == end


def test_only_significant_heads_fades_the_others(tab, sample):
    tab.press("#significant")
    q_value = table_of(sample)["q_value"].to_numpy().reshape(LAYERS, HEADS)
    tab.until("new URLSearchParams(location.hash.slice(1)).has('significant')")
    opacity = pixels(tab)[..., 3]
    assert 0 < (q_value < 0.05).sum() < q_value.size
    assert ((opacity == 255) == (q_value < 0.05)).all()
    said = tab.text("#table caption")
    assert said.startswith(f"{(q_value < 0.05).sum()} heads")


def test_pointing_at_a_head_shows_it_in_every_panel(tab, sample):
    tab.point(*cell(tab, 2, 4))
    tab.until("document.getElementById('readout').textContent.startsWith('Layer 2, head 4 · Alpha')")
    places = tab.run(
        "[...document.querySelectorAll('.mark.at')].map((mark) => [mark.hidden, mark.style.left, mark.style.top])"
    )
    assert [hidden for hidden, *_ in places] == [False, False]
    for _, left, top in places:
        assert (float(left[:-1]), top) == (pytest.approx(400 / 6, abs=0.01), "50%")
    row = table_of(sample).row(2 * HEADS + 4, named=True)
    assert f"rank {row['rank']})" in tab.text("#readout")
    assert texts(tab, ".value")[1].endswith(f"rank {table_of(sample, 'beta').row(16, named=True)['rank']}")
    tab.point(5, 5)
    tab.until("document.querySelector('.mark.at').hidden")


# --- pinning ---------------------------------------------------------------------------------------------------------


def test_a_click_pins_shift_pins_a_second_and_escape_frees_them(tab):
    tab.click(*cell(tab, 1, 2, panel=1))
    pinned(tab, "L1H2")
    hash_of(tab, "#L1H2&task=beta")
    tab.run("scrollTo(0, 0)")
    tab.click(*cell(tab, 3, 0), SHIFT)
    pinned(tab, "L1H2", "L3H0")
    hash_of(tab, "#L1H2&L3H0")  # the task is the first panel's again
    tab.key("Escape")
    pinned(tab, "L1H2")
    tab.click(*cell(tab, 0, 5))
    pinned(tab, "L0H5")  # a click alone replaces
    tab.click(*cell(tab, 0, 5))
    tab.until("document.getElementById('details').hidden")
    hash_of(tab, "")


def test_arrow_keys_move_the_pinned_head_and_stop_at_the_edge(tab):
    tab.click(*cell(tab, 0, 4))
    pinned(tab, "L0H4")
    tab.key("ArrowRight")
    tab.key("ArrowRight")  # at the edge
    tab.key("ArrowUp")  # at the edge
    tab.key("ArrowDown")
    pinned(tab, "L1H5")
    hash_of(tab, "#L1H5")
    assert tab.run("document.querySelector('.mark.pin-a').style.top") == "25%"


def test_with_the_keyboard_alone_a_head_is_found_pinned_and_compared(tab):
    tab.run("document.getElementById('grid').focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        tab.key(key)
    pinned(tab, "L1H1")
    tab.key("c")
    assert tab.run("document.getElementById('compare').ariaPressed") == "true"
    tab.key("/")
    assert tab.run("document.activeElement.id") == "search"
    tab.type("2.3")
    tab.key("Enter")
    pinned(tab, "L1H1", "L2H3")
    assert "correlation with head A" in tab.text("#strips figure:nth-child(2)")


def test_a_head_that_does_not_exist_is_not_found(tab):
    tab.run("document.getElementById('search').focus()")
    tab.type("4.0")
    tab.key("Enter")
    assert tab.run("document.getElementById('search').validationMessage") == "layer 0 to 3, head 0 to 5, such as 0.1"
    assert tab.run(BLOCKS) == 0


def test_the_address_is_a_link(tab, sample):
    opened(tab, sample, "#L2H3&L0H1&task=beta&method=attribution&show=effect&colour=log&significant")
    pinned(tab, "L2H3", "L0H1")
    chosen = {
        key: tab.run(f"document.getElementById('{key}').value") for key in ("task", "method", "show", "colour", "bar")
    }
    assert chosen == {"task": "beta", "method": "attribution", "show": "effect", "colour": "log", "bar": "shared"}
    assert tab.run("document.getElementById('significant').checked") is True
    tab.run("location.hash = '#L1H1'")  # as if another link had been followed
    pinned(tab, "L1H1")
    assert tab.run("document.getElementById('method').value") == "ablation"
    opened(tab, sample, "#L9H9&task=none&method=%22%3E&L1H1&<b>")  # nonsense is ignored
    pinned(tab, "L1H1")


# --- what is known of a head -----------------------------------------------------------------------------------------


def test_the_numbers_of_a_pinned_head_are_those_of_the_table(tab, sample):
    opened(tab, sample, "#L2H3&task=beta")
    pinned(tab, "L2H3")
    cells = "[...row.querySelectorAll('td')].map((one) => one.innerText)"
    seen = tab.run(f"[...document.querySelectorAll('.numbers tbody tr')].map((row) => {cells})")
    say = "HeadAtlas.numbers"
    for task, cells in zip(("alpha", "beta"), seen, strict=True):
        for method, text in zip(("ablation", "attribution"), cells, strict=True):
            row = table_of(sample, task, method).row(2 * HEADS + 3, named=True)
            effect = tab.run(f"{say}.signed({row['effect']}) + ' ' + {say}.interval({row['ci_low']}, {row['ci_high']})")
            q_value = tab.run(f"{say}.say({row['q_value']})")
            assert text.split("\n") == [effect, f"q {q_value} · rank {row['rank']}"]
    assert tab.run("document.querySelector('.numbers tr.chosen th').innerText") == "Beta"
    assert "Shares keys and values with heads 2 to 3 of its layer (group 1)." in tab.text(".facts")


def test_items_are_listed_by_effect_with_their_scores_with_and_without_the_head(tab, sample):
    opened(tab, sample, "#L1H0")
    tab.until("document.querySelectorAll('#helps .item').length > 0")
    data = json.loads((sample / "page/data/heads/L1H0.js").read_text().partition(",")[2].rstrip(");\n"))
    helps = data["examples"]["alpha"]["helps"]
    assert texts(tab, "#helps .id") == [f"alpha-{1 + item}" for item in helps]
    strip = np.frombuffer(base64.b64decode(data["effects"]["ablation"]["alpha"]), "<f4")
    first = helps[0]
    without = tab.run(f"HeadAtlas.numbers.score({-(first + 1) - float(strip[first])})")
    assert f"log-prob. −{first + 1}.000" in tab.text("#helps .losses")
    assert f"without it {without} (effect " in tab.text("#helps .losses")
    assert tab.run("document.querySelector('#helps mark').textContent") == f"a{first}"
    least = tab.run("document.querySelectorAll('#strips .slot').length")
    assert least == 24
    tab.run("document.querySelectorAll('#strips g')[23].dispatchEvent(new MouseEvent('click'))")
    assert tab.run("document.getElementById('item').value") == str(int(np.argsort(-strip, kind="stable")[23]))
    assert tab.text("#chosen-item .id") == f"alpha-{1 + int(np.argsort(-strip, kind='stable')[23])}"
    tab.run("document.getElementById('item').value = 5")
    tab.run("document.getElementById('item').dispatchEvent(new Event('change'))")
    assert tab.text("#chosen-item .id") == "alpha-6"


def test_what_the_evidence_found_of_a_head_is_said_in_words(browser, tmp_path):
    settings = write_results(tmp_path, layers=1, heads=4, tasks=("alpha",), count=3)
    ends = {"_low": -0.5, "": 0.25, "_high": 1.0}
    place = {"task": ["alpha"], "layer": [0]}
    both = {f"{name}{end}": [value] for name in ("counterfactual", "same_answer") for end, value in ends.items()}
    described = dict.fromkeys(("previous_token", "induction", "duplicate_token", "sink", "entropy", "copying"), 0.125)
    tables = {
        "answers": place | {"head": [3]} | both | {"carries": ["answer"]},
        "group_effects": place
        | {"first_head": [2], "last_head": [3], "sum": [0.5], "q_value": [0.01]}
        | {f"effect{end}": [value] for end, value in ends.items()},
        "described": {"layer": [0], "head": [3], "promoted": [["<b>", "x"]], "suppressed": [["y"]]}
        | {name: [value] for name, value in described.items()},
        "roles": place
        | {"head": [3], "retrieval_score": [0.75], "span_mass": [None]}
        | {f"direct{end}": [value] for end, value in ends.items()},
        "changes": {"method": ["attribution", "ablation"], "task": ["alpha"] * 2, "compared_to": ["base"] * 2}
        | {"layer": [0] * 2, "head": [3] * 2, "other": [9.0, 0.5], "difference": [9.0, 0.25], "ci_low": [9.0, -0.5]}
        | {"ci_high": [9.0, 1.0], "q_value": [0.5, 0.01], "change": [None, "came"]},
    }
    for name, columns in tables.items():
        pl.DataFrame(columns).write_parquet(tmp_path / f"{name}.parquet")
    make_data(tmp_path, settings, **{name: tmp_path / f"{name}.parquet" for name in tables})
    write_sample_files(tmp_path)
    tab = Tab(browser)
    opened(tab, tmp_path, "#L0H3")
    pinned(tab, "L0H3")
    interval = "[−0.5, +1]"
    assert texts(tab, ".facts li") == [
        "Shares keys and values with heads 2 to 3 of its layer (group 1).",
        f"Its group ablated together: +0.25 {interval}; the sum of its heads' effects: +0.5; q of the difference 0.01.",
        f"Patched on held-out questions, from the counterfactual: +0.25 {interval}; from another question with the "
        f"same answer: +0.25 {interval}: carries the token of the answer.",
        "On random tokens repeated once: attention to the previous token 0.125, to the token behind the first "
        "occurrence (induction) 0.125, to that occurrence 0.125, to the first position 0.125; entropy 0.125 nats; "
        "copying 0.125.",
        "Writes towards “<b>”, “x”; away from “y”.",
        f"On Alpha: direct effect on the logits +0.25 {interval} nats; retrieval score 0.75; "
        "attention to the needed span –.",
        f"In base, exact ablation, baseline mean: +0.5; difference +0.25 {interval}, q 0.01 (came).",
    ]
    opened(tab, tmp_path, "#L0H0")
    pinned(tab, "L0H0")
    assert len(texts(tab, ".facts li")) == 1
    assert tab.troubles() == []


def test_attention_is_shown_token_by_token_for_each_answer_position(browser, tmp_path):
    """Two items; on the second, two rows: the first attends to tokens 0 and 2, the second to token 3 alone."""
    settings = write_results(tmp_path, layers=1, heads=2, tasks=("alpha",), count=2, words=4)
    about = [
        {"tokens": ["a", " b", " c"], "start": 2, "rows": 1},
        {"tokens": ["un", "", "é", "\n", " yes", " no"], "start": 4, "rows": 2},
    ]
    counts = np.array([[[1, 2, 1], [0, 1, 0]]])
    weights = np.array([255, 51, 204, 255, 102])
    write_attention(
        tmp_path / "attention/alpha.safetensors", Attention(counts, np.array([1, 0, 2, 3, 4]), weights, about)
    )
    make_data(tmp_path, settings)
    write_sample_files(tmp_path)
    tab = Tab(browser)
    opened(tab, tmp_path, "#L0H0&L0H1")
    tab.until("document.querySelectorAll('#strips g').length === 4")
    order = texts(tab, "#strips figure:first-child title")
    at = next(index for index, said in enumerate(order) if said.startswith("alpha-2"))
    tab.run(f"document.querySelectorAll('#strips g')[{at}].dispatchEvent(new MouseEvent('click'))")
    item = "#chosen-item .item"
    assert texts(tab, f"{item} .token") == [
        "un", "·", "é", "↵\n", " yes", " no",
    ]  # fmt: skip
    assert texts(tab, f"{item} mark") == [" yes", " no"]
    assert texts(tab, f"{item} .weights p") == [
        "A attends to “é” 80 %, “un” 20 %",
        f"B attends to “ yes” {round(102 / FULL * 100)} %; elsewhere, each below 1 %: 60 %",
    ]
    assert tab.run(f"document.querySelector('{item} .query').textContent") == "↵\n"  # predicts " yes"
    chooser = f"document.querySelector('{item} select')"
    tab.run(f"{chooser}.value = 1; {chooser}.dispatchEvent(new Event('change'))")
    assert tab.run(f"document.querySelector('{item} .weights p').textContent") == "A attends to “↵\n” 100 %"
    assert tab.run(f"document.querySelector('{item} .query').textContent") == " yes"
    tab.run(f"document.querySelectorAll('{item} .token')[0].dispatchEvent(new PointerEvent('pointerenter'))")
    assert tab.run(f"document.querySelector('{item} .weights p').textContent") == "A attends to “un” below 1 %"
    assert tab.troubles() == []


def write_sample_files(folder: Path) -> None:
    """The files of the page beside data that exist."""
    import write_page
    from page_samples import LOOKS, SOURCES

    copies = [folder / "page" / source.name for source in SOURCES]
    write_page.main(write_page.Settings(["alpha"], LOOKS), SOURCES, copies, folder / "page/looks.js")


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_sorts_by_any_column_and_unknown_values_come_last(tab):
    rows = "[{layer: 0, head: 0, q_value: null}, {layer: 0, head: 1, q_value: 0.5}, {layer: 0, head: 2, q_value: 0.1}]"
    for up, expected in ((True, [2, 1, 0]), (False, [1, 2, 0])):
        assert (
            tab.run(f"HeadAtlas.table.inOrder({rows}, 'q_value', {json.dumps(up)}).map((row) => row.head)") == expected
        )
    tab.run("[...document.querySelectorAll('#table th button')].find((one) => one.textContent === 'effect').click()")
    tab.until("document.querySelector('#table th[aria-sort]').textContent === 'effect ▼'")
    assert tab.run("document.querySelector('#table th[aria-sort]').ariaSort") == "descending"


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_selection_is_saved_as_a_file(tab, sample, browser, kind):
    opened(tab, sample, "#method=attribution&task=beta&significant")
    tab.press(f"#save-{kind}")
    file = browser.saved / f"sample.beta.attribution.{kind}"
    wait_for(tab, file)
    text = file.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines())) if kind == "csv" else json.loads(text)["heads"]
    fixed = rows[0] if kind == "csv" else json.loads(text)
    assert (fixed["model"], fixed["task"], fixed["method"], fixed["baseline"]) == (
        "sample",
        "beta",
        "attribution",
        "zero",
    )
    expected = table_of(sample, "beta", "attribution").filter(pl.col("q_value") < 0.05).sort("rank")
    assert expected.height > 0
    assert [(int(row["layer"]), int(row["head"])) for row in rows] == list(expected.select("layer", "head").iter_rows())
    for name in ("effect", "ci_low", "ci_high", "p_value", "q_value", "importance", "rank"):
        assert [float(row[name]) for row in rows] == pytest.approx(expected[name].to_list(), rel=2e-7)


def wait_for(tab: Tab, file: Path) -> None:
    for _ in range(6000):
        if file.is_file() and file.stat().st_size:
            return
        tab.run("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError(f"{file} was not saved")


def test_cells_of_a_csv_are_quoted_where_they_must_be(tab):
    said = tab.run("""HeadAtlas.table.csv([{layer: 0, head: 1, effect: null}], {unit: 'a, "b"\\nc'})""")
    assert said.splitlines()[0].startswith("unit,layer,head,")
    assert next(csv.reader(said.split("\n", 1)[1].splitlines(keepends=True)))[:3] == ['a, "b"\nc', "0", "1"]


# --- functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [("0.12345", "0.123"), ("-1234.5", "−1230"), ("0.00012", "1.2e-4"), ("0", "0"), ("NaN", "–"), ("null", "–"),
     ("1e-200", "< 1e-30"), ("1234567", "1.2e+6")],
)  # fmt: skip
def test_numbers_are_said_with_three_digits(tab, value, said):
    assert tab.run(f"HeadAtlas.numbers.say({value})") == said


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("2.3", 15),
        ("L2H3", 15),
        ("layer 2 head 3", 15),
        (" 2 / 3 ", 15),
        ("4.0", None),
        ("0.6", None),
        ("23", None),
        ("", None),
        ("1.2.3", None),
    ],
)
def test_heads_are_found_as_one_types_them(tab, typed, index):
    assert tab.run(f"HeadAtlas.address.head({json.dumps(typed)}, {LAYERS}, {HEADS})") == index


@pytest.mark.parametrize("values", [[0.0, 0.003, 0.0011], [1.67, -0.2, 0.004, 1e-5, 0.01], [0.5, 0.4, 0.3], [0.0, 0.0]])
@pytest.mark.parametrize("signed", [False, True])
def test_bars_have_the_ticks_of_the_figures(tab, values, signed):
    sizes = np.abs(values)
    code = f"HeadAtlas.colours.scale({values}, {{signed: {json.dumps(signed)}, log: %s, scheme: 'viridis'}}).ticks"
    limit = float(sizes.max()) or 1e-3
    assert tab.run(code % "false") == pytest.approx(linear_bar(limit, False, signed).ticks)
    if signed:
        assert tab.run(code % "true") == pytest.approx(symlog_bar(limit, False, float(np.median(sizes))).ticks)


def test_schemes_are_vegas(tab):
    vl_convert = pytest.importorskip("vl_convert")
    bundle = vl_convert.javascript_bundle()
    known = {name.lower(): stops for name, stops in re.findall(r'[{,](\w+):"((?:[0-9a-f]{6}){9,})"', bundle)}
    ours = tab.run("HeadAtlas.colours.SCHEMES")
    assert len(ours) == 13
    assert ours == {name: known[name] for name in ours}


# --- whoever reads it ------------------------------------------------------------------------------------------------


def test_every_control_has_a_name_that_a_screen_reader_says(tab, sample):
    opened(tab, sample, "#L1H1")
    tab.until("document.querySelectorAll('.item').length > 0")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    kinds = ("button", "combobox", "textbox", "checkbox", "image", "link", "table", "img")
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    controls = [(kind, name) for kind, name in found if kind in kinds]
    assert len(controls) > 20
    assert [kind for kind, name in controls if not name.strip()] == []
    assert ("button", "Pin L1H1") in controls
    assert any(
        kind in ("image", "img")
        and name.startswith("Beta: heads by exact ablation, baseline mean. The most important is layer")
        for kind, name in controls
    )


@pytest.mark.parametrize("width", [360, 700])
def test_a_narrow_screen_scrolls_down_only(tab, sample, width):
    tab.size(width, 800)
    opened(tab, sample, "#L1H1&L2H2")
    tab.until("document.querySelectorAll('.item').length > 0")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("document.querySelector('canvas').clientWidth") > width / 4


def test_the_theme_follows_the_system_until_one_chooses(tab):
    background = "getComputedStyle(document.body).backgroundColor"
    seen = []
    for scheme in ("light", "dark"):
        tab.media(scheme)
        seen.append(tab.run(background))
    assert seen == ["rgb(255, 255, 255)", "rgb(23, 25, 28)"]
    tab.press("#theme")
    assert tab.run(background) == "rgb(255, 255, 255)"


def test_layers_without_attention_are_empty_and_stepped_over(browser, tmp_path):
    effect = np.random.default_rng(0).normal(size=(24, 3, 2)).astype(np.float32)
    effect[:, 1] = np.nan
    write_sample(
        tmp_path, layers=3, heads=2, tasks=("alpha",), effects={"alpha": {"ablation": effect}}, attention=False
    )
    tab = Tab(browser)
    opened(tab, tmp_path, "#L0H1")
    pinned(tab, "L0H1")
    data = "Array.from(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 2, 3).data)"
    assert np.array(tab.run(data)).reshape(3, 2, 4)[..., 3].tolist() == [[255, 255], [0, 0], [255, 255]]
    tab.key("ArrowDown")
    pinned(tab, "L2H1")
    box = tab.run("document.querySelector('canvas').getBoundingClientRect().toJSON()")
    tab.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    tab.until("document.getElementById('readout').textContent.endsWith('no attention in this layer')")
    assert tab.run("HeadAtlas.state.get().pins") == [5]
    assert len(texts(tab, "#table tbody tr")) == 4
    assert tab.troubles() == []


def test_a_missing_file_is_said_on_the_page(browser, tmp_path):
    write_sample(tmp_path, layers=1, heads=2, attention=False, count=3)
    (tmp_path / "page/data/heads/L0H1.js").unlink()
    tab = Tab(browser)
    opened(tab, tmp_path, "#L0H1")
    tab.until("!document.getElementById('trouble').hidden")
    assert tab.text("#trouble").startswith("data/heads/L0H1.js cannot be loaded; run Snakemake again")


# --- somebody else's texts -------------------------------------------------------------------------------------------

HOSTILE = (
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\"><svg onload=alert(1)>",
    "\u202eright to left\u2066 and \u2028 a line, \ud800 half a pair, <!-- a comment",
    "A" * 100_000 + "<b>",
)


@pytest.mark.parametrize("attention", [False, True])
def test_hostile_texts_are_shown_as_text(browser, tmp_path, attention):
    items = items_of("alpha", len(HOSTILE), 4)
    for item, text in zip(items[1:], HOSTILE, strict=True):
        item |= {"prompt": text, "answer": text[:200], "id": text[:60]}
    effects = {"alpha": {"ablation": np.linspace(1, 2, len(HOSTILE))[:, None, None] * np.ones((1, 1, 2))}}
    page = write_sample(
        tmp_path, layers=1, heads=2, tasks=("alpha",), items={"alpha": items}, effects=effects, attention=attention
    )
    tab = Tab(browser)
    opened(tab, tmp_path, "#L0H0&" + HOSTILE[1])
    tab.until("document.querySelectorAll('#helps .item').length === 4")
    assert tab.run("document.title") == "Head Atlas: sample"
    assert tab.run("document.querySelectorAll('img, script[src=\"\"], .item svg, .item b, .item script').length") == 0
    seen = texts(tab, "#helps .item .text")
    for text, shown in zip(HOSTILE[::-1], seen, strict=True):
        words = text.replace("\ud800", "\ufffd")
        if attention:  # the sample's tokens are the words of the prompt
            words = " " + " ".join(words.split())
        assert shown.replace("\ud800", "\ufffd").startswith(words)
    assert tab.run("Math.max(...[...document.querySelectorAll('.item .text')].map((one) => one.clientHeight))") < 400
    assert tab.troubles() == []
    assert not any(event["method"] == "Page.javascriptDialogOpening" for event in browser.events)
    assert page.is_file()
