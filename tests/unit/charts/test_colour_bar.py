"""Colour bars: round numbers, ends that say so, powers of ten."""

import pytest
from headatlas.charts.colour_bar import linear_bar, symlog_bar


@pytest.mark.parametrize(
    ("limit", "clipped", "signed", "ticks", "number"),
    [
        (0.0031, False, False, [0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003], ".4f"),
        (1.0, False, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0], ".4f"),
        (0.00012, False, False, [0, 0.00002, 0.00004, 0.00006, 0.00008, 0.0001, 0.00012], ".5f"),
        (0.0024, True, False, [0, 0.0005, 0.001, 0.0015, 0.002, 0.0024], ".4f"),
        (0.0022, True, False, [0, 0.0005, 0.001, 0.0015, 0.0022], ".4f"),  # 0.0020 would touch 0.0022
        (0.06, False, True, [-0.06, -0.04, -0.02, 0, 0.02, 0.04, 0.06], ".4f"),
        (0.05, True, True, [-0.05, -0.02, 0, 0.02, 0.05], ".4f"),
        (3.65, False, True, [-3, -2, -1, 0, 1, 2, 3], ".4f"),
    ],
)
def test_bar_ticks_are_round_and_a_clipped_bar_ends_with_its_limit(limit, clipped, signed, ticks, number):
    bar = linear_bar(limit, clipped, signed)
    assert bar.ticks == pytest.approx(ticks)
    assert bar.number == number
    assert bar.domain == (-limit if signed else 0, limit)


@pytest.mark.parametrize(
    ("limit", "typical", "ticks", "constant"),
    [
        (3.65, 0.0005, [0.001, 0.01, 0.1, 1], 1e-4),
        (3.65, 0.0, [0.001, 0.01, 0.1, 1], 1e-4),  # most heads do nothing
        (0.00024, 0.0001, [2e-05, 5e-05, 0.0001, 0.0002], 1e-5),
        (1.0, 0.9, [0.2, 0.5, 1.0], 0.1),
    ],
)
def test_a_symlog_bar_has_more_than_three_numbers(limit, typical, ticks, constant):
    bar = symlog_bar(limit, False, typical)
    assert bar.ticks == [-tick for tick in reversed(ticks)] + [0] + ticks
    assert bar.constant == constant
    assert bar.domain == (-limit, limit)
