"""Sizes of cells."""

import pytest
from figure_samples import PLAIN
from headatlas.charts.layout import Cell, cell_shape
from headatlas.charts.looks import Looks


@pytest.mark.parametrize(
    ("layers", "heads", "cell"),
    [
        (32, 32, (6, 6)),
        (12, 12, (16, 16)),
        (6, 8, (24, 24)),
        (80, 64, (3, 3)),
        (2, 2, (96, 96)),
        (30, 9, (21, 6)),  # square cells would make a panel of 54 x 180 pixels
        (24, 16, (12, 8)),
        (26, 4, (48, 7)),
        (2, 32, (6, 32)),  # square cells would make a panel of 192 x 12 pixels
    ],
)
def test_cells_are_square_unless_a_panel_would_be_higher_than_wide_or_too_low(layers, heads, cell):
    assert cell_shape(layers, heads, Looks.read(PLAIN)) == Cell(*cell)
    assert cell_shape(layers, heads, Looks.read(PLAIN | {"cell_size": 9})) == Cell(9, 9)
