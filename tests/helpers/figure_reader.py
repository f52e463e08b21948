"""Reads a rendered SVG back: panels with their cells' colours, and every text with its box on the page."""

import math
import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"


@dataclass
class Text:
    """One line of text and the box it covers, estimated from Arial's widths."""

    words: str
    box: tuple[float, float, float, float]
    role: str


@dataclass
class Panel:
    """One heatmap: place on the page, and colour and opacity of the cell at each (x, y) inside it."""

    x: float
    y: float
    width: float
    height: float
    background: str
    cells: dict[tuple[int, int], tuple[str, float]] = field(default_factory=dict)
    dots: int = 0
    words: dict[str, list[str]] = field(default_factory=dict)

    def cell(self, layer: int, head: int, size: int) -> tuple[str, float]:
        return self.cells[head * size, layer * size]


class Picture:
    """An SVG written by Vega, as numbers."""

    def __init__(self, svg: str):
        root = ElementTree.fromstring(svg)
        self.width, self.height = float(root.get("width")), float(root.get("height"))
        self.panels: list[Panel] = []
        self.texts: list[Text] = []
        self._walk(root, (1, 0, 0, 1, 0, 0), "", None)

    def words(self, role: str) -> list[str]:
        return [text.words for text in self.texts if role in text.role]

    def _walk(self, node, matrix, role, panel):
        matrix = _multiply(matrix, _matrix(node.get("transform", "")))
        name = node.get("class") or ""
        role = name if "role-" in name else role
        kind = node.tag.rsplit("}", 1)[-1]
        if kind == "path" and "background" in name and "concat_" in role and (_size(node) or (0, 0))[0] > 0:
            panel = Panel(matrix[4], matrix[5], *_size(node), node.get("fill"))
            self.panels.append(panel)
        elif kind == "path" and "mark-rect" in role and panel is not None:
            x, y = (float(part) for part in re.match(rf"M({NUMBER}),({NUMBER})", node.get("d")).groups())
            panel.cells[x, y] = (node.get("fill"), float(node.get("opacity", 1)))
        elif kind == "path" and "mark-symbol" in role and panel is not None:
            panel.dots += 1
        elif kind == "text":
            self._text(node, matrix, role, panel)
        for child in node:
            self._walk(child, matrix, role, panel)
            if kind == "g" and self.panels and child.get("class") == "background":
                panel = self.panels[-1] if "concat_" in role else panel

    def _text(self, node, matrix, role, panel):
        lines = [child.text or "" for child in node] or [node.text or ""]
        if not any(lines):
            return
        size = float(node.get("font-size").removesuffix("px"))
        width = max(_arial(line) for line in lines) * size
        left = {"middle": -width / 2, "end": -width}.get(node.get("text-anchor"), 0)
        below = sum(float(child.get("dy", 0)) for child in node)
        top, bottom = -0.72 * size, 0.05 * size + below  # the letters' own height
        corners = [_apply(matrix, x, y) for x in (left, left + width) for y in (top, bottom)]
        xs, ys = zip(*corners, strict=True)
        text = Text(" ".join(lines), (min(xs), min(ys), max(xs), max(ys)), role)
        self.texts.append(text)
        if panel is not None:
            panel.words.setdefault(role.split("role-")[-1], []).append(text.words)


def overlaps(texts: list[Text]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a pixel in both directions."""
    found = []
    for index, first in enumerate(texts):
        for second in texts[index + 1 :]:
            a, b = first.box, second.box
            if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1:
                found.append((first.words, second.words))
    return found


def _size(node):
    found = re.match(rf"M0,0h({NUMBER})v({NUMBER})h", node.get("d", ""))
    return found and (float(found[1]), float(found[2]))


def _matrix(transform):
    matrix = (1, 0, 0, 1, 0, 0)
    for name, numbers in re.findall(r"(\w+)\(([^)]*)\)", transform):
        values = [float(value) for value in re.findall(NUMBER, numbers)]
        if name == "translate":
            step = (1, 0, 0, 1, values[0], values[1])
        else:
            assert name == "rotate", name
            turn = math.radians(values[0])
            step = (math.cos(turn), math.sin(turn), -math.sin(turn), math.cos(turn), 0, 0)
        matrix = _multiply(matrix, step)
    return matrix


def _multiply(m, n):
    return (
        m[0] * n[0] + m[2] * n[1],
        m[1] * n[0] + m[3] * n[1],
        m[0] * n[2] + m[2] * n[3],
        m[1] * n[2] + m[3] * n[3],
        m[0] * n[4] + m[2] * n[5] + m[4],
        m[1] * n[4] + m[3] * n[5] + m[5],
    )


def _apply(m, x, y):
    return m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5]


# Widths of Arial (= Liberation Sans), in thousandths of the font size, from the font's published metrics.
_WIDTHS = {
    **dict.fromkeys("abdeghnopqu0123456789_", 556),
    **dict.fromkeys("cksvxyzJ", 500),
    **dict.fromkeys("ABEKPSVXY", 667),
    **dict.fromkeys("CDHNRUw", 722),
    **dict.fromkeys("GOQ", 778),
    **dict.fromkeys("FTZ", 611),
    **dict.fromkeys(" ft.,:;/I\\", 278),
    **dict.fromkeys("r-()", 333),
    **dict.fromkeys("ijl'", 222),
    **dict.fromkeys("≥≤", 549),
    **dict.fromkeys("mM", 833),
    **dict.fromkeys("−=+<", 584),
    **dict.fromkeys("[]", 278),
    "%": 889,
    "\N{NO-BREAK SPACE}": 278,
    **dict.fromkeys("L", 556),
    **dict.fromkeys("W", 944),
}


def _arial(text):
    return sum(_WIDTHS[letter] for letter in text) / 1000
