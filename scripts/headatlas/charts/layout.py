"""Sizes of panels and of cells, and the space between panels. All lengths are pixels."""

import math
from dataclasses import dataclass
from itertools import chain

from headatlas.charts.looks import Looks
from headatlas.charts.text import LINE, text_width, widest

PANEL_WIDTH = 192  # approximate width of a panel in any figure, so that titles fit above it
MAP_HEIGHTS = (64, 192)  # approximate minimum and maximum height of a panel of a head map
LEAST_CELL = 3  # a side of a head's cell
CURVE_SIZE = (PANEL_WIDTH, 144)  # a panel of curves
STRIP_LINE = 9  # a line of marks above curves
MATRIX_CELL = (46, 36)  # a cell that holds a number
MATRIX_SIDE = 160  # approximate; labels left of a matrix, and its bar
DOTS_WIDTH = 300  # a panel of rows of dots
DOT_ROW = 26  # minimum height of a row of dots with its label
DOT_LINE = 10  # a dot of a row
DOT_ROW_EDGE = 0.5  # above and below the dots of a row, in dots
SLANT = -40  # degrees; labels below narrow columns

PANEL_GAP = 16  # between panels, in addition to the text there
TITLE_OFFSET = 6  # between a panel and its title
SUBTITLE_GAP = 3
TICK_SIZE = 4
TICK_LABEL_GAP = 4
MATRIX_LABEL_GAP = 6
BAR_OFFSET = 16  # between the panels and a colour bar or legend
BAR_THICKNESS = 16
LEGEND_WIDTH = 150  # approximate; right of panels of curves
LEAST_WIDTH = 420  # of a figure: lines above a narrower one extend beyond it


@dataclass(frozen=True)
class Cell:
    """Sides of one head's cell in whole pixels, so that cells stay sharp."""

    width: int
    height: int

    @property
    def side(self) -> int:
        """The shorter side."""
        return min(self.width, self.height)


def cell_shape(layers: int, heads: int, look: Looks) -> Cell:
    """`figures.cell_size`, or the cell with which panels of all models have the same width.

    A cell is square, unless that would make the panel higher than wide, or too low to read.
    """
    if look.cell_size != "auto":
        return Cell(look.cell_size, look.cell_size)
    width = max(LEAST_CELL, round(PANEL_WIDTH / heads))
    low, high = (max(LEAST_CELL, round(height / layers)) for height in MAP_HEIGHTS)
    return Cell(width, min(max(width, low), high))


@dataclass(frozen=True)
class Spaces:
    """Between the panels of a grid."""

    row: int
    column: int


def spaces(look: Looks, width: float, titles: list[list[str]], beside: float, notes: list[list[str]] = ()) -> Spaces:
    """Gaps between panels of this width that hold the text there.

    Args:
        titles: lines above each panel, with `notes` below them.
        beside: width of what lies between two panels of a row.
    """
    row = PANEL_GAP + TITLE_OFFSET + LINE * look.title_size * max(map(len, titles))
    row += max((SUBTITLE_GAP + LINE * look.font_size * len(lines) for lines in notes if lines), default=0)
    if look.tick_labels == "all":
        row += TICK_SIZE + TICK_LABEL_GAP + 1.2 * look.font_size
    above = max(widest(chain(*titles), look.title_size), widest(chain(*notes), look.font_size))
    return Spaces(math.ceil(row), math.ceil(PANEL_GAP + max(beside, above - width)))


def tick_room(labels: list[str], look: Looks) -> float:
    """Width of an axis with these labels; 0 without labels."""
    return TICK_SIZE + TICK_LABEL_GAP + widest(labels, look.font_size) if labels else 0.0


def bar_length(title: str, beside: float, look: Looks) -> int:
    """Length of a colour bar next to something of height `beside`: the same, unless its title needs more."""
    return max(beside, math.ceil(text_width(title, look.font_size + 1)))
