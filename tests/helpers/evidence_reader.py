"""Reads an evidence figure back from its SVG: marks in data units (by its axes' own labels), cells, texts."""

import re
from dataclasses import dataclass

import numpy as np
from figure_reader import NUMBER, Picture, _apply, _matrix, _multiply


@dataclass
class Mark:
    """One drawn mark: `kind` (line, area, rule, symbol, rect, text), points on the page, looks, place in the figure."""

    kind: str
    chart: str  # "concat_0" of "mark-line role-mark concat_0_layer_1_marks"
    points: list[tuple[float, float]]
    stroke: str | None
    fill: str | None
    dashes: str | None
    weight: str | None
    words: str | None


class Drawing(Picture):
    """An SVG as marks, in addition to what `Picture` reads."""

    def __init__(self, svg: str):
        self.marks: list[Mark] = []
        self.labels: list[tuple[float, float, str, str]] = []  # x, y of the anchor, words, its text-anchor
        super().__init__(svg)

    def of(self, kind: str, chart: str | None = None, **looks) -> list[Mark]:
        """Marks of a kind, in a panel (`concat_3`), with these looks."""
        found = [mark for mark in self.marks if mark.kind == kind and chart in (None, mark.chart)]
        return [mark for mark in found if all(getattr(mark, key) == value for key, value in looks.items())]

    def _walk(self, node, matrix, role, panel):
        here = _multiply(matrix, _matrix(node.get("transform", "")))
        name = node.get("class") or ""
        now = name if "role-" in name else role
        kind = node.tag.rsplit("}", 1)[-1]
        if "role-mark" in now and kind in ("path", "line", "text") and "ground" not in name:
            self._mark(node, here, now, kind)
        if "role-axis-label" in now and kind == "text":
            self.labels.append((here[4], here[5], node.text, node.get("text-anchor")))
        super()._walk(node, matrix, role, panel)

    def _mark(self, node, matrix, role, kind):
        if kind == "line":
            ends = [(0.0, 0.0), (float(node.get("x2", 0)), float(node.get("y2", 0)))]
        elif kind == "text" or "mark-symbol" in role:
            ends = [(0.0, 0.0)]
        else:
            ends = [(float(x), float(y)) for x, y in re.findall(rf"({NUMBER}),({NUMBER})", node.get("d"))]
        style = [node.get(key) for key in ("stroke", "fill", "stroke-dasharray", "font-weight")]
        chart = re.search(r"concat_\d+|$", role)[0]
        points = [_apply(matrix, x, y) for x, y in ends]
        self.marks.append(Mark(re.search(r"mark-(\w+)", role)[1], chart, points, *style, node.text))


def axis(labels: list[tuple[float, str]], scale=lambda value: value, back=lambda value: value):
    """From (place on the page, label) of an axis: the function from places to values, by a straight line."""
    numbers = [scale(float(text.replace("−", "-"))) for _, text in labels]
    slope, start = np.polyfit([place for place, _ in labels], numbers, 1)
    return lambda place: back(start + slope * np.asarray(place))
