"""Evidence figures drawn from made-up tables, to be read back."""

import json
from functools import cache

import vl_convert
from evidence_reader import Drawing, axis
from evidence_samples import tables_of, wanted
from headatlas.charts import layout, registry


@cache
def plain_spec(figure):
    return json.dumps(registry.draw(tables_of(figure), wanted(figure)))


@cache
def plain(figure):
    return Drawing(vl_convert.vegalite_to_svg(plain_spec(figure), vl_version="6.4"))


def drawn(figure, tables=None, **settings):
    if tables is None and not settings:
        return plain(figure)
    spec = registry.draw(tables_of(figure) if tables is None else tables, wanted(figure, **settings))
    return Drawing(vl_convert.vegalite_to_svg(spec, vl_version="6.4"))


def left_axis(drawing, row):
    """Places to values, from the numbers left of the panels of a row; the first panel has them."""
    panels = sorted({panel.y for panel in drawing.panels if panel.width == layout.CURVE_SIZE[0]})
    top = panels[row]
    found = [(y - 0.3 * 11, words) for x, y, words, anchor in drawing.labels
             if anchor == "end" and words and top - 10 < y - 4 < top + layout.CURVE_SIZE[1] + 10]  # fmt: skip
    return axis(found[: len({round(y) for y, _ in found})])
