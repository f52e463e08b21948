"""Sizes, widths and dashes of marks, as arguments of Altair's `mark_...`; `palette` has their colours.

`aria` is off throughout: the figure's description covers its thousands of marks.
"""

import math
from types import MappingProxyType

from headatlas.charts import palette

_POINT_AREA = 28  # square pixels
POINT_SIDE = math.sqrt(_POINT_AREA)
_DOT_SHARE = 0.35  # a dot's diameter, as a share of its cell's shorter side


def _style(**style) -> MappingProxyType:
    return MappingProxyType({"aria": False, **style})


CELL = _style()
EMPTY_LAYER = _style(color=palette.EMPTY_LAYER)
MATRIX_CELL = _style(stroke=palette.CELL_EDGE)
NUMBER = _style()  # in a cell of a matrix

CURVE = _style(strokeWidth=1.8)
KNOCK_OUT_CURVE = _style()  # of the top or bottom heads, with these widths
TOP_WIDTH, BOTTOM_WIDTH = 1.8, 1
RANDOM_CURVE = _style(color=palette.RANDOM_CURVE, strokeWidth=1.2)
RANDOM_BAND = _style(color=palette.RANDOM_BAND)
BAND = _style(opacity=palette.BAND_OPACITY)
INTERVAL = _style(strokeWidth=1.5)
OWN_REFERENCE = _style(strokeDash=[4, 3])  # a reference line for one series, in its colour
REFERENCE = _style(color=palette.RULE, **OWN_REFERENCE)
ZERO = _style(color=palette.RULE, strokeWidth=0.8)  # lines of no effect
THIN_INTERVAL = _style(strokeWidth=1, opacity=palette.BAR_OPACITY)  # one of many across one another
NAME = _style(color=palette.TEXT, align="center", baseline="middle")  # beside a dot
POINT = _style(filled=True, size=_POINT_AREA, opacity=1)
_LARGE_POINT = _style(size=2 * _POINT_AREA, opacity=1, strokeWidth=1.5)
SURE_POINT = _style(**_LARGE_POINT, filled=True)
UNSURE_POINT = _style(**_LARGE_POINT, filled=False, fill=palette.HOLLOW)

# Dashes of the curves of knock-outs
SOLID, DASHED, DOTTED, DASH_DOTTED = [1, 0], [5, 3], [1.5, 2], [7, 2, 1.5, 2]
LEGEND_LINE = 300  # square pixels; fits a dashed line in a legend
LEGEND_STROKE = 2


def crossed_out(signed: bool) -> MappingProxyType:
    """The lines across the panel of a task that the model cannot do."""
    colour = palette.SIGNED_CROSS if signed else palette.CROSS
    return _style(color=colour, strokeWidth=1.5, clip=True)  # ends beyond the panel would move its title up


def dot(side: float) -> MappingProxyType:
    """Point on a cell with this shorter side, visible on any colour: the head is not significant."""
    area = math.pi / 4 * (_DOT_SHARE * side) ** 2
    edge = {"stroke": palette.DOT_OUTLINE, "strokeWidth": min(1.0, 0.1 * side)}
    return _style(shape="circle", filled=True, size=area, opacity=palette.DOT_OPACITY, fill=palette.DOT, **edge)


def small_cross(side: float) -> MappingProxyType:
    """Cross on a nearly white cell of the signed grid: the effect is smaller than its rounding error."""
    area = (_DOT_SHARE * side) ** 2
    return _style(
        shape="cross", angle=45, filled=True, size=area, opacity=palette.DOT_OPACITY, fill=palette.DOT_OUTLINE
    )
