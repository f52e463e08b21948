"""The figures: positions, and colours of values."""

import itertools
import json
import math
import re
from xml.etree import ElementTree

import altair as alt
import polars as pl
import pytest
import vl_convert
from evidence_drawings import drawn as evidence
from evidence_drawings import wanted
from evidence_samples import tables_of
from figure_reader import overlaps
from figure_samples import TASKS, TITLES, capability, drawing, make_table, picture, settings, with_cell
from headatlas.charts import head_maps, palette, registry
from headatlas.errors import HeadAtlasError

VIRIDIS_ENDS = "rgb(68, 1, 84)", "rgb(253, 231, 37)"


def titled(drawn):
    """The titles of the panels."""
    return [text for text in drawn.texts if text.words in TITLES]


def first_rows(spec):
    """The spec with some of its rows: nothing moves, and it is drawn much faster."""
    return spec | {"datasets": {name: rows[:1000] for name, rows in spec["datasets"].items()}}


def axes(panel):
    """The encoding of a panel's cells."""
    return (panel["layer"][0] if "layer" in panel else panel)["encoding"]


@pytest.fixture(scope="module")
def big_table():
    return make_table(32, 32)


@pytest.fixture(scope="module")
def big_picture(big_table):
    return picture(big_table, settings())


def test_the_seed_figure_has_its_titles_in_order_two_rows_by_four_columns(big_picture):
    assert [panel.words["title-text"] for panel in big_picture.panels] == [[title] for title in TITLES]
    xs, ys = {panel.x for panel in big_picture.panels}, {panel.y for panel in big_picture.panels}
    assert (len(xs), len(ys)) == (4, 2)
    reading_order = sorted(big_picture.panels, key=lambda panel: (panel.y, panel.x))
    assert reading_order == big_picture.panels


def test_axis_titles_and_numbers_stand_on_outer_panels_only_at_multiples_of_six(big_picture):
    numbers = ["0", "6", "12", "18", "24", "30"]
    for index, panel in enumerate(big_picture.panels):
        left, bottom = index % 4 == 0, index >= 4
        assert panel.words.get("axis-title", []) == ["Head"] * bottom + ["Layer"] * left
        assert panel.words.get("axis-label", []) == numbers * (bottom + left)


def test_tick_labels_all_puts_numbers_on_every_panel():
    drawn = picture(make_table(6, 8), settings(tick_labels="all"))
    for panel in drawn.panels:
        assert panel.words["axis-label"] == list("01234567") + list("012345")
    assert overlaps(drawn.texts) == []
    second_row = drawn.panels[4].y
    numbers = [text for text in drawn.texts if "axis-label" in text.role and text.box[3] < second_row]
    (title,) = (text for text in drawn.texts if text.words == "Semantic Understanding")
    assert title.box[1] - max(text.box[3] for text in numbers) > 8  # room between a row's numbers and the next title


def test_one_bar_far_right_from_zero_with_four_decimals():
    table = make_table(32, 32)
    table = table.with_columns(pl.col("importance") / table["importance"].max() * 0.0031)
    drawn = picture(table, settings())
    assert drawn.words("legend-title") == ["Heads Importance"]
    labels = ["0.0000", "0.0005", "0.0010", "0.0015", "0.0020", "0.0025", "0.0030"]  # as the seed figure's
    assert sorted(drawn.words("legend-label")) == labels
    right_edge = max(panel.x + panel.width for panel in drawn.panels)
    assert min(text.box[0] for text in drawn.texts if "legend" in text.role) > right_edge


def test_the_hottest_cell_is_viridis_yellow_a_zero_cell_its_purple_and_layer_zero_is_on_top():
    table = with_cell(make_table(32, 32), "retrieval", 12, 5, importance=0.5)
    table = with_cell(table, "inference", 0, 31, importance=0.0)
    drawn = picture(table, settings())
    by_title = {panel.words["title-text"][0]: panel for panel in drawn.panels}
    assert by_title["Retrieval"].cell(12, 5, size=6) == (VIRIDIS_ENDS[1], 1)
    assert by_title["Inference"].cell(0, 31, size=6) == (VIRIDIS_ENDS[0], 1)
    hottest = [cell for panel in drawn.panels for cell in panel.cells.values() if cell[0] == VIRIDIS_ENDS[1]]
    assert len(hottest) == 1
    assert all(len(panel.cells) == 1024 for panel in drawn.panels)


SHAPES = [(30, 9), (24, 16), (12, 12), (32, 32), (80, 64), (6, 8), (26, 4), (2, 32)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_panels_cover_four_fifths_of_the_width_and_each_title_is_one_line_over_its_panel(shape):
    drawn = drawing(first_rows(head_maps.draw(make_table(*shape), settings())))
    row = drawn.panels[:4]
    assert sum(panel.width for panel in row) / drawn.width > 0.8
    titles = titled(drawn)
    assert len(titles) == 8
    for panel, title in zip(drawn.panels, titles, strict=True):
        left, top, right, bottom = title.box
        assert bottom - top < 13  # one line of a title
        assert panel.x <= left < right <= panel.x + panel.width
        assert 0 < panel.y - bottom < 13


@pytest.mark.parametrize("figure", ["heatmap-grid", "signed-grid"])
def test_a_tall_narrow_model_has_ticks_at_multiples_of_six_and_one_bar_beside_both_rows(figure):
    drawn = picture(make_table(30, 9), settings(figure=figure))
    for index, panel in enumerate(drawn.panels):
        heads, layers = ["0", "6"] * (index >= 4), ["0", "6", "12", "18", "24"] * (index % 4 == 0)
        assert panel.words.get("axis-label", []) == heads + layers
        assert sorted({x for x, _ in panel.cells}) == [21 * head for head in range(9)]
        assert sorted({y for _, y in panel.cells}) == [6 * layer for layer in range(30)]
    (title,) = (text for text in drawn.texts if "legend-title" in text.role)
    assert title.words == {"heatmap-grid": "Heads Importance", "signed-grid": "Effect (nats per answer token)"}[figure]
    first, last = drawn.panels[0], drawn.panels[-1]
    assert title.box[0] > last.x + last.width
    assert (title.box[1] + title.box[3]) / 2 == pytest.approx((first.y + last.y + last.height) / 2, abs=3)


def test_signed_grid_has_zero_in_the_middle_and_equal_ends():
    table = make_table(6, 8)
    table = with_cell(table, "retrieval", 1, 2, effect=-0.4)
    table = with_cell(table, "retrieval", 3, 4, effect=0.0)
    table = with_cell(table, "inference", 5, 6, effect=0.4)
    wanted = settings(figure="signed-grid", signed_scale="linear")
    colour = axes(head_maps.draw(table, wanted)["concat"][0])["color"]
    assert colour["field"] == "effect"
    assert colour["scale"]["domain"] == [-0.4, 0.4]
    drawn = picture(table, wanted)
    retrieval, inference = drawn.panels[1], drawn.panels[6]
    assert retrieval.cell(3, 4, size=24)[0] == "rgb(242, 239, 238)"  # the middle of red to blue
    assert retrieval.cell(1, 2, size=24)[0] == "rgb(140, 13, 37)"  # harms the answer: red
    assert inference.cell(5, 6, size=24)[0] == "rgb(19, 75, 133)"  # helps it: blue
    assert drawn.words("legend-title") == ["Effect (nats per answer token)"]
    assert "0.0000" in drawn.words("legend-label")


def symlog(value, constant):
    return math.copysign(math.log1p(abs(value) / constant), value)


def test_signed_colours_go_by_powers_of_ten_so_that_small_effects_are_seen():
    """One task's effects are a thousand times smaller than another's: on a linear scale its panel is blank."""
    table = make_table(2, 2, ["large", "small"]).with_columns(
        effect=pl.Series([2.0, -0.5, 0.001, 0.0, 0.002, -0.001, 0.001, 0.0])
    )
    wanted = settings(["large", "small"], "signed-grid")
    scale = axes(head_maps.draw(table, wanted)["concat"][0])["color"]["scale"]
    assert (scale["type"], scale["constant"], scale["domain"]) == ("symlog", 0.001, [-2.0, 2.0])  # the median
    drawn = picture(table, wanted)
    linear = picture(table, settings(["large", "small"], "signed-grid", signed_scale="linear"))
    blank = "rgb(242, 239, 238)"
    assert linear.panels[1].cell(0, 0, size=96)[0] in (blank, "rgb(242, 239, 237)", "rgb(241, 239, 238)")
    assert drawn.panels[1].cell(1, 1, size=96)[0] == blank
    # The same colour as a cell of a linear bar that lies as far from the middle.
    share = symlog(0.002, 0.001) / symlog(2.0, 0.001)
    middle = with_cell(table, "small", 0, 0, effect=2.0 * share)
    same = picture(middle, settings(["large", "small"], "signed-grid", signed_scale="linear"))
    assert drawn.panels[1].cell(0, 0, size=96)[0] == same.panels[1].cell(0, 0, size=96)[0]
    assert drawn.words("legend-label") == ["−1", "−0.1", "−0.01", "0", "0.01", "0.1", "1"]


def test_a_task_that_the_model_does_not_do_is_crossed_out_and_says_so():
    table, failed = make_table(6, 8), ["inference"]
    for figure in ("heatmap-grid", "signed-grid"):
        plain = picture(table, settings(figure=figure))
        drawn = picture(table, settings(figure=figure), capability(failed=failed))
        words = drawn.words("title-subtitle")
        assert words == ["Not done by the model Exact match 0 % [0, 9]"]
        assert [len(panel.cells) for panel in drawn.panels] == [48] * 8
        svg = vl_convert.vegalite_to_svg(
            head_maps.draw(table, settings(figure=figure), capability(failed=failed)), "6.4"
        )
        assert svg.count("mark-rule role-mark") == 2  # both diagonals
        places = [round(panel.y - text.box[3]) for panel, text in zip(drawn.panels, titled(drawn), strict=True)]
        assert len(set(places[:4])) == len(set(places[4:])) == 1  # level within a row
        assert places[0] < 13 < 2 * 13 < places[4]  # room for the two lines only where they are
        done = head_maps.draw(table, settings(figure=figure), capability())
        assert done == head_maps.draw(table, settings(figure=figure))
        assert plain.words("title-subtitle") == []


def test_every_figure_says_its_model_and_method_unless_titles_are_off():
    title = "Attention heads of demo: importance by exact ablation"
    titled = picture(make_table(6, 8), settings(titles=True))
    assert title in titled.words("title-text")
    assert any("each panel sums to 1" in words for words in titled.words("title-subtitle"))
    own = picture(make_table(6, 8), settings(titles=True, title="{model}, {method}"))
    assert "demo, ablation" in own.words("title-text")
    assert picture(make_table(6, 8), settings()).words("title-text") == TITLES


def test_signed_grid_of_the_probe_is_in_logits():
    table = make_table(6, 8, method="probe")
    drawn = picture(table, settings(figure="signed-grid", method="probe"))
    assert drawn.words("legend-title") == ["Effect (logits)"]


@pytest.mark.parametrize(("limit", "end"), [(0.3, 0.3), ({"quantile": 0.75}, 2.5 / 10), ("max", 0.4)])
def test_upper_limit_is_a_number_a_quantile_or_the_maximum(limit, end):
    table = make_table(2, 2, ["a"]).with_columns(importance=pl.Series([0.1, 0.2, 0.2, 0.4]))  # 75 %: 0.2 + 0.05
    spec = head_maps.draw(table, settings(["a"], upper_limit=limit))
    assert axes(spec["concat"][0])["color"]["scale"]["domain"] == pytest.approx([0, end])


def test_a_bar_that_ends_below_the_maximum_says_so():
    table = with_cell(make_table(6, 8), "retrieval", 1, 1, importance=0.9)
    drawn = picture(table, settings(upper_limit=0.2))
    assert "≥ 0.2000" in drawn.words("legend-label")
    assert drawn.panels[1].cell(1, 1, size=24)[0] == VIRIDIS_ENDS[1]
    signed = picture(
        with_cell(table, "inference", 0, 0, effect=-1.0),
        settings(figure="signed-grid", signed_limit=0.01, signed_scale="linear"),
    )
    assert {"≥ 0.0100", "≤ −0.0100"} < set(signed.words("legend-label"))
    assert not any("≥" in label for label in picture(table, settings()).words("legend-label"))


def test_own_scales_give_each_panel_its_bar_and_its_own_brightest_cell():
    drawn = picture(make_table(16, 16), settings(scale="panel"))
    assert drawn.words("legend-label").count("0.0000") == 8
    for panel in drawn.panels:
        assert [fill for fill, _ in panel.cells.values()].count(VIRIDIS_ENDS[1]) == 1


def test_order_labels_columns_and_title_come_from_the_settings():
    wanted = settings(
        order=["inference", "retrieval", "math_calculation"],
        labels={"retrieval": "Look it up: the user's\nown 'label'"},
        columns=2,
        title="{method} of {model}",
    )
    drawn = picture(make_table(32, 32), wanted)
    names = [panel.words["title-text"] for panel in drawn.panels]
    assert names == [["Inference"], ["Look it up: the user's own 'label'"], ["Math Calculation"]]
    assert [panel.words.get("axis-title") for panel in drawn.panels] == [
        ["Layer"],
        ["Head"],
        ["Head", "Layer"],
    ]
    assert "ablation of demo" in drawn.words("title-text")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 12])
@pytest.mark.parametrize("columns", [1, 4, 5])
def test_any_number_of_tasks_keeps_equal_spacing_and_head_below_each_column(count, columns):
    tasks = [f"task_{index}" for index in range(count)]
    drawn = picture(make_table(4, 4, tasks), settings(tasks, columns=columns))
    assert len(drawn.panels) == count
    width = min(columns, count)
    for index, panel in enumerate(drawn.panels):
        below = index + width < count
        assert ("Head" in panel.words.get("axis-title", [])) is not below
        assert ("Layer" in panel.words.get("axis-title", [])) is (index % width == 0)
    for edge in ("x", "y"):
        places = sorted({getattr(panel, edge) for panel in drawn.panels})
        assert len({round(b - a, 6) for a, b in itertools.pairwise(places)}) <= 1


@pytest.mark.parametrize("size", [(2, 2), (6, 8), (30, 9), (32, 32), (80, 8), (2, 32), (80, 64)])
@pytest.mark.parametrize(
    "look",
    [
        {},
        {"tick_labels": "all", "scale": "panel"},
        {
            "title": "Heads of {model}",
            "insignificant": "dim",
            "upper_limit": 0.0001,
            "font_size": 14,
            "title_size": 18,
        },
        {"figure": "signed-grid", "scale": "panel", "signed_limit": 0.01, "columns": 3},
    ],
    ids=["default", "all own", "large", "signed"],
)
def test_no_text_overlaps_another_or_leaves_the_page_and_titles_stand_level(size, look):
    drawn = drawing(first_rows(head_maps.draw(make_table(*size), settings(**look))))
    assert overlaps(drawn.texts) == []
    for text in drawn.texts:
        left, top, right, bottom = text.box
        assert left >= -1 and top >= -1 and right <= drawn.width + 1 and bottom <= drawn.height + 1, text  # noqa: PT018
    titles = titled(drawn)
    gaps = {round(panel.y - title.box[3]) for panel, title in zip(drawn.panels, titles, strict=True)}
    assert len(gaps) == 1


def test_dim_fades_exactly_the_cells_with_a_q_value_at_or_above_the_threshold():
    table = make_table(6, 8).with_columns(q_value=pl.lit(0.01))
    for head, q_value in enumerate([0.0999, 0.1, 0.9, None, float("nan")]):
        table = with_cell(table, "retrieval", 2, head, q_value=q_value)
    drawn = picture(table, settings(insignificant="dim", q_threshold=0.1))
    opacity = [drawn.panels[1].cell(2, head, size=24)[1] for head in range(6)]
    assert opacity == [1, 0.2, 0.2, 0.2, 0.2, 1]
    assert sum(fade < 1 for panel in drawn.panels for _, fade in panel.cells.values()) == 4
    assert "Dimmed: not significant (q ≥ 0.1)" in drawn.words("title")


def test_mark_puts_a_dot_on_each_insignificant_cell_and_show_none():
    table = make_table(6, 8)
    unsure = [table.filter(pl.col("task") == task, pl.col("q_value") >= 0.05).height for task in TASKS]
    drawn = picture(table, settings(insignificant="mark", title="T"))
    assert [panel.dots for panel in drawn.panels] == unsure
    assert min(unsure) > 0
    assert {"T", "Dot: not significant (q ≥ 0.05)"} < set(drawn.words("title"))
    plain = picture(table, settings())
    assert [panel.dots for panel in plain.panels] == [0] * 8
    assert all(fade == 1 for panel in plain.panels for _, fade in panel.cells.values())


def test_tooltip_shows_task_place_values_interval_rank_and_q(big_table):
    spec = head_maps.draw(big_table, settings())
    shown = {line["title"]: line["field"] for line in axes(spec["concat"][1])["tooltip"]}
    assert shown == {
        "Task": "label",
        "Layer": "layer",
        "Head": "head",
        "Importance": "importance",
        "Effect [interval], nats per answer token": "interval",
        "Rank of 1,024": "rank",
        "q-value": "q_value",
    }
    vega = vl_convert.vegalite_to_vega(spec, vl_version="6.4")
    assert "Retrieval" in json.dumps(vega["data"])


def test_tooltip_texts_are_the_cell_s_own_values():
    values = {"effect": -0.01234, "ci_low": -0.02, "ci_high": 0.00456}
    table = with_cell(make_table(2, 2), "retrieval", 1, 0, **values)
    table = with_cell(table, "retrieval", 1, 1, effect=0.5, ci_low=None, ci_high=None)
    spec = head_maps.draw(table, settings(labels={"retrieval": "It's \\ here"}))
    shown = {field: written_out(spec, panel=1, field=field) for field in ("label", "interval")}
    assert shown["label"] == ["It's \\ here"] * 4
    assert shown["interval"][2:] == ["−0.0123 [−0.0200, +0.0046]", "+0.5000"]


def written_out(spec, panel, field):
    """What a tooltip line would say, cell by cell, written as text into a picture."""
    chart = {key: spec[key] for key in ("$schema", "data", "datasets")}
    chart |= {"transform": spec["concat"][panel]["transform"], "mark": "text"}
    chart["encoding"] = {"text": {"field": field}}
    svg = ElementTree.fromstring(vl_convert.vegalite_to_svg(chart, vl_version="6.4"))
    return [node.text for node in svg.iter() if node.tag.endswith("}text")]


def test_the_spec_is_valid_small_and_holds_each_value_once(big_table):
    spec = head_maps.draw(big_table, settings())
    alt.Chart.from_dict(spec)  # validates against the Vega-Lite schema
    text = json.dumps(spec)
    assert text.count("task,layer,head,importance") == 1
    (rows,) = spec["datasets"].values()
    assert len(rows.splitlines()) == 1 + 8192
    assert len(text) < 1_000_000  # beyond, Snakemake compares by time instead of content


def test_the_same_numbers_give_the_same_bytes_in_any_order_of_rows(big_table):
    first = json.dumps(head_maps.draw(big_table, settings()))
    other_method = big_table.with_columns(method=pl.lit("probe"), importance=0.0)
    shuffled = pl.concat([big_table, other_method]).sample(fraction=1.0, shuffle=True, seed=3)
    assert json.dumps(head_maps.draw(shuffled, settings())) == first


def test_all_effects_zero_still_draws():
    table = make_table(4, 4, ["a"]).with_columns(effect=pl.lit(0.0), importance=pl.lit(0.0))
    drawn = picture(table, settings(["a"]))
    assert {fill for fill, _ in drawn.panels[0].cells.values()} == {VIRIDIS_ENDS[0]}
    assert "0.0000" in drawn.words("legend-label")


def test_a_layer_without_attention_is_a_grey_row_and_said_so():
    """Layer 1 of 4 has no values in any task: 12 cells and one grey band a panel; nothing else changes colour."""
    table = make_table(4, 4)
    numbers = [name for name, kind in table.schema.items() if kind.is_float() or name == "rank"]
    hybrid = table.with_columns(pl.when(pl.col("layer") != 1).then(pl.col(name)).alias(name) for name in numbers)
    spec = head_maps.draw(hybrid, settings())
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert svg.count(palette.EMPTY_LAYER) == len(TASKS)
    assert "Grey: no attention in this layer" in svg
    assert {panel["layer"][0]["encoding"]["y"]["field"] for panel in spec["concat"]} == {"layer"}
    cells = {panel.words["title-text"][0]: panel.cells for panel in picture(hybrid, settings()).panels}
    assert palette.EMPTY_LAYER not in vl_convert.vegalite_to_svg(head_maps.draw(table, settings()), vl_version="6.4")
    assert set(cells) == set(TITLES)


@pytest.mark.parametrize(
    ("change", "wanted", "message"),
    [
        (
            lambda t: t.filter(pl.col("task") != "inference"),
            settings(),
            "importance table: no row of method ablation, task inference; delete the table and run again",
        ),
        (
            lambda t: t,
            settings(method="probe"),
            "importance table: no row of method probe, task knowledge_recall",
        ),
        (lambda t: t.drop("q_value"), settings(), "no column q_value"),
        (
            lambda t: t[1:],
            settings(),
            "task knowledge_recall has 15 rows for 15 heads, expected one for each of 4 x 4",
        ),
        (lambda t: pl.concat([t, t[:1]]), settings(), "knowledge_recall has 17 rows for 16 heads"),
        (
            lambda t: with_cell(t, "retrieval", 1, 2, importance=float("nan")),
            settings(),
            "task retrieval, layer 1, head 2: importance nan",
        ),
        (
            lambda t: with_cell(t, "retrieval", 1, 2, importance=None, effect=None),
            settings(),
            "task retrieval, layer 1, head 2: importance None",
        ),
        (
            lambda t: t,
            settings(order=["inference", "recall"]),
            "figures.order: no task `recall` under `tasks`",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(change, wanted, message):
    with pytest.raises(HeadAtlasError, match=re.escape(message)):
        head_maps.draw(change(make_table(4, 4)), wanted)


@pytest.mark.parametrize(
    ("figure", "option", "scheme", "zero"),
    [("heatmap-grid", "scheme", *pair) for pair in palette.SCHEMES.items()]
    + [("signed-grid", "signed_scheme", *pair) for pair in palette.SIGNED_SCHEMES.items()],
)
def test_the_panel_behind_the_cells_has_the_colour_of_zero(figure, option, scheme, zero):
    table = with_cell(make_table(2, 2, ["a"]), "a", 1, 1, importance=0.0, effect=0.0)
    (panel,) = picture(table, settings(["a"], figure, **{option: scheme})).panels
    red, green, blue = (int(part) for part in re.findall(r"\d+", panel.cell(1, 1, size=96)[0]))
    assert panel.background == zero == f"#{red:02x}{green:02x}{blue:02x}"


def test_heads_that_stopped_early_are_counted_above_the_figure_and_in_tooltips():
    table = make_table(4, 5, ["a", "b"])
    stopped = (pl.col("layer") < 2) & ~((pl.col("task") == "b") & (pl.col("head") == 0))
    table = table.with_columns(stopped=stopped, n_questions=pl.when(stopped).then(20).otherwise(77))
    wanted = settings(["a", "b"], titles=True)
    spec = head_maps.draw(table, wanted)
    said = "Measured on some of the questions only: 8 to 10 of 20 heads"
    assert said in vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert '"field": "n_questions"' in json.dumps(spec)
    none = json.dumps(head_maps.draw(table.with_columns(stopped=pl.lit(False)), wanted))
    assert "n_questions" not in none
    assert "Measured on" not in none


def test_effects_smaller_than_their_rounding_are_marked():
    """Of 4 items, half the noise of one: 0.001 nats; of the cells below, one is of a task without noise."""
    table = make_table(3, 4).with_columns(effect=pl.lit(0.5), n_items=4)
    table = with_cell(table, TASKS[0], 1, 2, effect=-0.0009)
    table = with_cell(table, TASKS[0], 2, 2, effect=0.0011)
    table = with_cell(table, TASKS[1], 0, 0, effect=0.0009)
    noise = {TASKS[0]: 0.002, "another": 1.0}
    spec = head_maps.draw(table, settings(figure="signed-grid"), noise=noise)
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert "×: smaller than rounding error" in svg
    (values,) = spec["datasets"].values()
    rows = [line.split(",") for line in values.splitlines()]
    at = rows[0].index("rounding")
    assert [row[:3] for row in rows[1:] if row[at] == "1"] == [[TASKS[0], "1", "2"]]
    for plain in (settings(), settings(figure="signed-grid")):
        level = noise if plain["figure"] == "heatmap-grid" else {TASKS[0]: 0.0}
        assert "rounding" not in json.dumps(head_maps.draw(table, plain, noise=level))


def test_annotated_grid_is_the_grid_with_reliability_under_each_title():
    drawing = evidence("annotated-grid.ablation")
    assert drawing.words("title-text") == TITLES
    notes = drawing.words("title-subtitle")
    done = "Exact match 50 % [35, 65] of 40 Log-prob. −1.500 [−2.250, −1.000]"
    assert notes[0] == f"{done} Reliability 0.91 [0.85, 0.95]"
    assert notes[1] == f"{done} Reliability −0.20 [−0.40, 0.10]"
    assert notes[2] == f"{done} Reliability unknown"
    assert notes[3] == "Not done by the model Exact match 0 % [0, 9] Log-prob. −1.500 [−2.250, −1.000]"
    assert len(notes) == 8
    assert all(len(panel.cells) == 48 for panel in drawing.panels)
    assert {mark.chart for mark in drawing.of("rule")} == {"concat_3"}  # crossed out


def test_the_caption_promises_intervals_where_there_are_any():
    importance, skills, reliability = tables_of("annotated-grid.ablation")
    without = reliability.with_columns(pl.lit(None, pl.Float64).alias(end) for end in ("ci_low", "ci_high"))
    look = wanted("annotated-grid.ablation", titles=True)
    for table, end in ((reliability, "each with its 95\xa0% interval over questions."), (without, "corrected).")):
        spec = registry.draw([importance, skills, table], look)
        assert " ".join(spec["title"]["subtitle"]).endswith(end)


def test_lines_under_titles_do_not_break_however_long_their_numbers_are():
    long = {"score": -10.5, "score_low": -12.25, "score_high": -11.0, "n_questions": 2095}
    skills = capability().with_columns(pl.lit(value).alias(name) for name, value in long.items())
    _, _, reliability = tables_of("annotated-grid.ablation")
    drawn = evidence("annotated-grid.ablation", [make_table(30, 9), skills, reliability])
    notes = [text for text in drawn.texts if "title-subtitle" in text.role]
    assert "Log-prob. −10.500 [−12.250, −11.000]" in notes[0].words
    assert {round(text.box[3] - text.box[1]) for text in notes} == {34}  # three lines of 13 pixels, less what is empty
    assert overlaps(drawn.texts) == []
