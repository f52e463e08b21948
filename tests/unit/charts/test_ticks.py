"""Positions of ticks."""

import pytest
from figure_samples import PLAIN
from headatlas.charts.layout import cell_shape
from headatlas.charts.looks import Looks
from headatlas.charts.ticks import cell_ticks, layer_ticks, spaced

LOOK = Looks.read(PLAIN)


@pytest.mark.parametrize(
    ("layers", "heads", "step", "of_layers", "of_heads"),
    [
        (32, 32, "auto", range(0, 32, 6), range(0, 32, 6)),
        (6, 8, "auto", range(6), range(8)),
        (12, 12, "auto", range(0, 12, 2), range(0, 12, 2)),
        (80, 64, "auto", range(0, 80, 12), range(0, 64, 12)),
        (28, 16, "auto", range(0, 28, 6), range(0, 16, 6)),
        (24, 16, "auto", range(0, 24, 3), range(0, 16, 3)),
        (30, 9, "auto", range(0, 30, 6), [0, 6]),
        (26, 4, "auto", range(0, 26, 6), range(4)),  # heads have a step of their own: of 6 they would have one tick
        (80, 8, "auto", range(0, 80, 12), range(8)),
        (2, 32, "auto", range(2), range(0, 32, 6)),
        (32, 32, 8, range(0, 32, 8), range(0, 32, 8)),
        (1, 1, "auto", [0], [0]),
    ],
)
def test_both_axes_share_a_step_unless_one_would_have_a_single_tick(layers, heads, step, of_layers, of_heads):
    look = Looks.read(PLAIN | {"tick_step": step})
    assert cell_ticks(layers, heads, cell_shape(layers, heads, look), look) == (list(of_layers), list(of_heads))


@pytest.mark.parametrize(("layers", "step"), [(6, 1), (12, 2), (30, 6), (48, 6), (80, 12)])
def test_an_axis_of_layers_below_curves_has_the_steps_of_a_head_map(layers, step):
    assert layer_ticks(layers, 192, LOOK) == list(range(0, layers, step))
    assert layer_ticks(layers, 192, Looks.read(PLAIN | {"tick_step": 5})) == list(range(0, layers, 5))


def test_labels_of_k_that_would_meet_are_left_out_powers_of_two_last():
    assert spaced([0, 1, 2, 3, 4], [0, 40, 80, 120, 160], LOOK) == [0, 1, 2, 3, 4]
    assert spaced([0, 1, 2, 3, 4], [0, 20, 29, 36, 43], LOOK) == [0, 1, 4]  # 2 meets 1, 3 meets 4
    assert spaced([0, 7, 8], [0, 100, 104], LOOK) == [0, 8]
    assert spaced([0, 8, 10], [0, 100, 104], LOOK) == [0, 8]
