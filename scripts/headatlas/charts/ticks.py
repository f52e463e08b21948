"""Positions of ticks, and the d3 formats of their numbers."""

import math

from headatlas.charts.layout import Cell
from headatlas.charts.looks import Looks
from headatlas.charts.text import LINE, text_width

MOST_TICKS = 8  # on an axis of layers or heads
CURVE_TICKS = 5  # at most, of a number axis
STEPS = (1, 2, 3, 6, 12, 24, 48, 96)
LABEL_GAP = 0.4  # relative to the font size; between adjacent labels


def cell_ticks(layers: int, heads: int, cell: Cell, look: Looks) -> tuple[list[int], list[int]]:
    """Ticks of the layer and head axes: multiples of 6 for 25 to 48 of either, of 1 for up to 8.

    Both axes share one step, unless that would leave one of them with a single tick.
    """
    counts = layers, heads
    if look.tick_step != "auto":
        return tuple(list(range(0, count, look.tick_step)) for count in counts)
    rooms = LINE * look.font_size / cell.height, _label_width(look) / cell.width
    own = [_step(count, room) for count, room in zip(counts, rooms, strict=True)]
    steps = [max(own) if max(own) < count else step for count, step in zip(counts, own, strict=True)]
    return tuple(list(range(0, count, step)) for count, step in zip(counts, steps, strict=True))


def layer_ticks(layers: int, length: float, look: Looks) -> list[int]:
    """Ticks of a horizontal axis of layers, `length` pixels long."""
    step = _step(layers, _label_width(look) * layers / length) if look.tick_step == "auto" else look.tick_step
    return list(range(0, layers, step))


def round_ticks(low: float, high: float, most: int = CURVE_TICKS) -> tuple[list[float], str]:
    """Round numbers from `low` to `high`, at most one more than `most`, and their d3 format."""
    step, decimals = round_step((high - low) / most) if high > low else (1.0, 0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)], f".{decimals}f"


def round_step(least: float) -> tuple[float, int]:
    """Smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`, and its number of decimals."""
    power = math.floor(math.log10(least))
    for digit in (1, 2, 2.5, 5, 10):
        if digit * 10.0**power >= least * (1 - 1e-9):
            break
    decimals = -power + (1 if digit == 2.5 else -1 if digit == 10 else 0)
    return digit * 10.0**power, max(0, decimals)


def spaced(values: list[int], places: list[float], look: Looks) -> list[int]:
    """Those of `values` whose labels fit at `places` (pixels); 0 and powers of two have priority."""
    first = sorted(values, key=lambda v: (v & (v - 1) != 0, v))
    at = dict(zip(values, places, strict=True))
    half = {v: (text_width(str(v), look.font_size) + LABEL_GAP * look.font_size) / 2 for v in values}
    kept: list[int] = []
    for value in first:
        if all(abs(at[value] - at[k]) >= half[value] + half[k] for k in kept):
            kept.append(value)
    return sorted(kept)


def number_format(limit: float) -> str:
    """d3 format of numbers in cells up to `limit` in size: two digits of the largest, at least two decimals."""
    return f".{max(2, 1 - math.floor(math.log10(limit)))}f" if limit > 0 else ".2f"


def _label_width(look: Looks) -> float:
    return text_width("00 ", look.font_size)


def _step(count: int, room: float) -> int:
    """Smallest step of at least `room` cells with at most `MOST_TICKS` ticks on `count` cells."""
    fits = [step for step in STEPS if step >= room and math.ceil(count / step) <= MOST_TICKS]
    return fits[0] if fits else count
