"""Style is defined in one place: colours in `palette`, marks in `marks`, sizes in `layout`."""

import ast
import re
from pathlib import Path

from headatlas.charts import palette

CHARTS = Path(palette.__file__).parent
STYLE = {
    "cornerRadius", "fillOpacity", "labelPadding", "offset", "opacity", "paddingOuter", "size", "strokeDash",
    "strokeOpacity", "strokeWidth", "symbolSize", "symbolStrokeWidth", "titlePadding",
}  # fmt: skip
NOTHING = (0, 1)  # no space, or the whole of it
COLOUR = re.compile(r"#[0-9a-fA-F]{6}|white|black|gr[ae]y", re.IGNORECASE)


def style_literals(path: Path) -> list[str]:
    """Colours that a module writes out, and numbers that it gives to arguments and keys of style."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found += [word.arg for word in node.keywords if word.arg in STYLE and is_number(word.value)]
        elif isinstance(node, ast.Dict):
            keys = [getattr(key, "value", None) for key in node.keys]
            found += [key for key, value in zip(keys, node.values, strict=True) if key in STYLE and is_number(value)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and COLOUR.fullmatch(node.value):
            found.append(node.value)
    return found


def is_number(node: ast.expr) -> bool:
    """A number, or a list of numbers (dashes), written out."""
    if isinstance(node, ast.List | ast.Tuple):
        return all(map(is_number, node.elts))
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value not in NOTHING


def test_no_other_module_writes_out_a_colour_or_a_style():
    homes = {"palette", "marks", "layout"}
    strays = {path.stem: style_literals(path) for path in CHARTS.glob("*.py") if path.stem not in homes}
    assert {name: found for name, found in strays.items() if found} == {}
    assert len(strays) > 10


def test_a_stray_style_is_found(tmp_path):
    module = tmp_path / "chart.py"
    module.write_text(
        'line(strokeWidth=1.5, strokeDash=[4, 3], size=SIZE)\nedge = {"fill": "#ffffff", "opacity": 0.2}\n'
    )
    assert sorted(style_literals(module)) == ["#ffffff", "opacity", "strokeDash", "strokeWidth"]


def test_colours_are_written_in_the_palette_alone():
    assert style_literals(CHARTS / "palette.py")
    assert not [found for found in style_literals(CHARTS / "marks.py") if COLOUR.search(found)]
    assert not [found for found in style_literals(CHARTS / "layout.py") if COLOUR.search(found)]


def test_a_method_keeps_its_colour_and_other_series_never_take_it():
    assert palette.series(["probe"]) == (["#009E73"], ["triangle-up"])
    own, _ = palette.series(["ablation", "attribution", "probe"])
    others, _ = palette.series(["a model", "another"], palette.OTHER_SERIES)
    assert not set(own) & set(others)
