"""Colour bars: their scales, round numbers along them, and their legends."""

import math
from dataclasses import dataclass

from headatlas.charts import layout
from headatlas.charts.looks import Looks
from headatlas.charts.text import widest
from headatlas.charts.ticks import round_step

DECIMALS = 4  # at least
TICKS = 7  # at most, not counting zero
SIGNED_TICKS = 4  # at most, on either side of zero
DECADES = (1, 4)  # minimum and maximum powers of ten on either side of zero of a symlog bar


@dataclass(frozen=True)
class Bar:
    """A colour bar's scale: `domain`, ticks in data units, their d3 format, and whether values lie beyond it.

    With a `constant`, colours follow sign(x) log(1 + |x| / constant): linear near 0, logarithmic far from it.
    """

    domain: tuple[float, float]
    ticks: list[float]
    number: str
    clipped: bool = False
    constant: float | None = None

    @property
    def scale(self) -> dict:
        """Vega-Lite's scale, except for its colours."""
        shape = {"type": "symlog", "constant": self.constant} if self.constant else {}
        return shape | {"domain": list(self.domain), "clamp": True, "nice": False}

    def width(self, look: Looks) -> float:
        """Width in pixels beside a panel, including the widest label."""
        sign = "≥ " if self.clipped else ""
        number = self.number.replace("~", "")  # d3's mark for no trailing zeros; Python's g has none anyway
        labels = [f"{sign}{tick:{number}}" for tick in self.ticks]
        return layout.BAR_OFFSET + layout.BAR_THICKNESS + widest(labels, look.font_size)

    def legend(self, title: str | None, length: int) -> dict:
        """Vega-Lite's legend: a bar of `length` pixels with its title along it."""
        settings = {
            "title": title,
            "titleOrient": "right",
            "type": "gradient",
            "orient": "right",
            "offset": layout.BAR_OFFSET,
            "gradientLength": length,
            "gradientThickness": layout.BAR_THICKNESS,
            "values": self.ticks,
            "format": self.number,
        }
        if self.clipped:
            edge = 0.999 * self.domain[1]
            sign = f"datum.value > {edge!r} ? '≥ ' : datum.value < {-edge!r} ? '≤ ' : ''"
            settings["labelExpr"] = f"({sign}) + datum.label"
        return settings


def linear_bar(limit: float, clipped: bool, signed: bool) -> Bar:
    """The colour bar from 0 to `limit` (from -`limit` when signed), with ticks at round numbers.

    A clipped bar has its last tick at the limit itself, labelled "≥", so that the reader sees the clipping.
    """
    step, decimals = round_step(limit / (SIGNED_TICKS if signed else TICKS))
    up = [round(i * step, 12) for i in range(math.floor(limit / step * (1 + 1e-9)) + 1)]
    if clipped:
        up = [tick for tick in up if tick == 0 or limit - tick > 0.6 * step] + [limit]
    ticks = [-tick for tick in reversed(up[1:])] + up if signed else up
    return Bar((-limit if signed else 0.0, limit), ticks, f".{max(decimals, DECIMALS)}f", clipped)


def symlog_bar(limit: float, clipped: bool, typical: float) -> Bar:
    """The bar from -`limit` to `limit` on a symmetric log scale, with a tick at each power of ten, or at 2 and 5 too.

    Args:
        typical: approximate size of a small value (their median), where the scale turns logarithmic.
    """
    top = math.floor(math.log10(limit) + 1e-9)
    fewest, most = (top - decades for decades in DECADES)
    power = min(fewest, max(most, math.floor(math.log10(typical)))) if typical > 0 else most
    up = [0.0] + [float(f"1e{exponent}") for exponent in range(power + 1, top + 1)]  # the next lower is too close to 0
    if len(up) == 2:
        steps = [float(f"{digit}e{exponent}") for exponent in range(power, top + 1) for digit in (2, 5)]
        up = sorted(tick for tick in up + steps if tick <= limit)
    if clipped:
        up = [tick for tick in up if tick < 0.6 * limit] + [limit]
    return Bar((-limit, limit), [-tick for tick in reversed(up[1:])] + up, "~g", clipped, float(f"1e{power}"))
