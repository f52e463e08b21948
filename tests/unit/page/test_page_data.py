"""The data of the page: the numbers of the tables, nothing else, and texts that cannot end a script."""

import base64
import json
import re

import numpy as np
import polars as pl
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.files.attention import read_attention
from headatlas.files.effects import write_learned
from headatlas.files.scores import read_effects
from headatlas.page.heads import Heads, extremes
from headatlas.page.items import shown_items
from headatlas.page.javascript import literal, packed, plain, write_script
from headatlas.page.maps import STATISTICS, layers_without_attention, method_map
from importance_samples import importance
from page_samples import items_of, make_data, write_results
from script_runs import write_effects

HOSTILE = "</script><img src=x onerror=alert(1)><!-- \u2028\u202e\ud800 \"'\\ é"


def value_of(path):
    """What a data file passes to HeadAtlas.receive, by a JSON reader."""
    found = re.fullmatch(
        r'HeadAtlas\.receive\("([^"]+)",(.*)\);\n', path.read_text(encoding="ascii").replace('", ', '",', 1)
    )
    return found[1], json.loads(found[2])


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_a_script_passes_on_the_value_and_holds_no_markup(tmp_path):
    value = {HOSTILE: [HOSTILE, 1.5, None, True]}
    write_script(tmp_path, "deep/name", value)
    assert value_of(tmp_path / "deep/name.js") == ("deep/name", value)
    text = (tmp_path / "deep/name.js").read_text(encoding="ascii")
    assert "<" not in text
    assert text.isascii()


def test_numbers_that_json_lacks_are_refused_unless_they_are_made_plain():
    with pytest.raises(ValueError, match="not JSON compliant"):
        literal({"a": float("nan")})
    assert plain({"a": float("nan"), "b": float("inf"), "c": 0.5, "d": "x", "e": 3}) == {
        "a": None, "b": None, "c": 0.5, "d": "x", "e": 3,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["float32", "uint16", "uint8"])
def test_packed_numbers_are_little_endian(kind):
    values = np.array([[0, 1], [200, 3]], kind)
    for given in (values, values.astype(values.dtype.newbyteorder(">"))):
        assert base64.b64decode(packed(given)) == values.astype(f"<{values.dtype.str[1:]}").tobytes()
    with pytest.raises(ValueError, match="float64 cannot be packed"):
        packed(np.zeros(2))


def test_a_map_is_the_table_in_order_of_layer_and_head():
    rows = [("a", 1, 1, -0.5, 0.2), ("a", 0, 0, 0.25, 0.01), ("a", 1, 0, None, None), ("a", 0, 1, 1.0, 0.04)]
    table = importance(rows).with_columns(note=pl.when(pl.col("effect").is_null()).then(pl.lit("no effect")))
    found = method_map(table, "ablation", ["a"])["a"]
    np.testing.assert_array_equal(numbers(found["effect"]), np.float32([0.25, 1, np.nan, -0.5]))
    np.testing.assert_array_equal(numbers(found["q_value"]), np.float32([0.01, 0.04, np.nan, 0.2]))
    np.testing.assert_array_equal(numbers(found["rank"]), np.float32([3, 1, np.nan, 2]))
    assert found["notes"] == [{"text": "no effect", "heads": [2]}]
    everywhere = method_map(table.with_columns(note=pl.lit("few")), "ablation", ["a"])["a"]
    assert everywhere["notes"] == [{"text": "few", "heads": None}]


def test_layers_without_any_effect_have_no_attention():
    rows = [("a", layer, head, None if layer == 1 else 1.0, None) for layer in range(3) for head in range(2)]
    assert layers_without_attention(importance(rows)) == [1]


def test_examples_are_the_items_that_a_head_helps_and_hurts_most():
    effect = np.array([0.5, -1, 0, np.nan, 2, -0.25, 0.5])[:, None, None]
    helps, hurts = extremes(effect, 3)
    assert helps[:, 0, 0].tolist() == [4, 0, 6]  # equal ones in their order
    assert hurts[:, 0, 0].tolist() == [1, 5, -1]  # the third is hurt by nothing


def test_a_row_of_a_group_belongs_to_its_heads():
    table = pl.DataFrame({"task": ["a"], "layer": [1], "first_head": [2], "last_head": [3], "effect": [float("nan")]})
    single = pl.DataFrame({"task": ["a"], "layer": [0], "head": [1], "carries": ["answer"]})
    effects = {"ablation": {"a": np.ones((2, 2, 4), np.float32)}}
    files = dict(Heads(effects, "ablation", 1, tables={"groups": table, "same_answer": single}).each(2, 4))
    assert [name for name, content in files.items() if content["groups"]] == ["L1H2", "L1H3"]
    assert files["L1H3"]["groups"]["a"]["effect"] is None
    assert [name for name, content in files.items() if content["same_answer"]] == ["L0H1"]


def test_without_effects_of_items_there_are_no_examples():
    (_, content), *_ = Heads({}, None, 5).each(1, 1)
    assert content == {"effects": {}, "examples": {}, "attention": {}}


def test_all_files_agree_with_the_results(tmp_path):
    settings = write_results(tmp_path, layers=3, heads=4, count=24) | {"shown": 10, "examples": 2}
    make_data(tmp_path, settings)
    data, table = tmp_path / "page/data", pl.read_parquet(tmp_path / "importance.parquet")
    _, atlas = value_of(data / "atlas.js")
    assert (atlas["layers"], atlas["heads"], atlas["example_method"]) == (3, 4, "ablation")
    assert atlas["tasks"]["beta"]["capable"] is False
    assert atlas["tasks"]["alpha"]["map_items"] == 24
    assert atlas["methods"]["attribution"]["baseline"] == "zero"
    for method in settings["methods"]:
        name, maps = value_of(data / f"maps/{method}.js")
        assert name == f"maps/{method}"
        for task in settings["tasks"]:
            rows = table.filter(pl.col("method") == method, pl.col("task") == task).sort("layer", "head")
            for column in STATISTICS:
                np.testing.assert_array_equal(numbers(maps[task][column]), rows[column].cast(pl.Float32).to_numpy())
    _, items = value_of(data / "items/beta.js")
    assert [item["score"] for item in items] == [-float(n) for n in range(1, 11)]  # the first is held out
    assert [item["correct"] for item in items] == [n % 3 > 0 for n in range(1, 11)]
    assert items[0]["tokens"][items[0]["start"]] == items[0]["answer"]
    name, head = value_of(data / "heads/L2H1.js")
    strip = numbers(head["effects"]["ablation"]["beta"])
    assert (name, len(strip)) == ("heads/L2H1", 10)
    order = np.argsort(-strip, kind="stable")
    assert head["examples"]["beta"]["helps"] == [int(item) for item in order[:2] if strip[item] > 0]
    assert len(list((data / "heads").iterdir())) == 12


def test_gates_alone_have_maps_but_no_items(tmp_path):
    settings = write_results(tmp_path, tasks=("alpha",), layers=2, heads=3, count=5)
    (tmp_path / "effects/gates").mkdir()
    score = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    write_learned(tmp_path / "effects/gates/alpha.safetensors", score, 5, 5)
    table = pl.read_parquet(tmp_path / "importance.parquet").with_columns(method=pl.lit("gates"))
    table.unique(["layer", "head"]).write_parquet(tmp_path / "importance.parquet")
    gates = {"methods": {"gates": {"baseline": "mean"}}, "effects": {"gates": ["{task}.safetensors"]}}
    make_data(tmp_path, settings | gates)
    _, atlas = value_of(tmp_path / "page/data/atlas.js")
    assert atlas["example_method"] is None
    assert value_of(tmp_path / "page/data/items/alpha.js")[1] == []
    assert value_of(tmp_path / "page/data/heads/L0H0.js")[1]["effects"] == {}


def test_only_items_that_count_are_shown(tmp_path):
    """With `statistics.items: correct`: of the first ten items some are wrong, and no later one takes their place."""
    settings = write_results(tmp_path, layers=2, heads=2, count=24) | {"shown": 10, "items": "correct"}
    for method in settings["methods"]:
        for task in settings["tasks"]:
            path = tmp_path / f"effects/{method}/{task}.safetensors"
            effect = read_effects(path).effect
            write_effects(path, effect, correct=np.arange(1, 25) % 3 > 0)
    make_data(tmp_path, settings)
    _, items = value_of(tmp_path / "page/data/items/beta.js")
    assert [item["score"] for item in items] == [-1.0, -2, -4, -5, -7, -8, -10]
    _, head = value_of(tmp_path / "page/data/heads/L1H0.js")
    strip = read_effects(tmp_path / "effects/ablation/beta.safetensors", items="correct").effect[:7, 1, 0]
    np.testing.assert_array_equal(numbers(head["effects"]["ablation"]["beta"]), strip)
    counts = np.frombuffer(base64.b64decode(head["attention"]["beta"]["counts"]), "<u2")
    whole = read_attention(tmp_path / "attention/beta.safetensors").of_head(1, 0)[0]
    np.testing.assert_array_equal(counts, whole[[0, 1, 3, 4, 6, 7, 9]])


def test_items_and_trace_must_belong_together(tmp_path):
    write_results(tmp_path, tasks=("alpha",), count=5)
    short = tmp_path / "short.json"
    short.write_text(json.dumps({"task": "alpha", "counts": {}, "items": items_of("alpha", 3, 4)}))
    with pytest.raises(HeadAtlasError, match=r"alpha\.safetensors: holds 6 items, but .*short\.json 4; .*run again"):
        shown_items(short, tmp_path / "trace/alpha.safetensors", [0])
