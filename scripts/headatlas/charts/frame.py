"""The frame of every figure: the words above it, Vega-Lite's config, the page's menu."""

from dataclasses import dataclass

import altair as alt

from headatlas.charts import palette
from headatlas.charts.layout import LEAST_WIDTH, SUBTITLE_GAP, TICK_SIZE, TITLE_OFFSET
from headatlas.charts.looks import Looks
from headatlas.charts.text import wrap

PAGE_MENU = {"export": True, "source": True, "compiled": False, "editor": False}  # the editor needs the network


@dataclass(frozen=True)
class Words:
    """The words above a figure: title, what it shows, what its marks mean; and a short text for screen readers."""

    title: str
    about: str
    note: str | None
    short: str


def finish(chart: alt.TopLevelMixin, look: Looks, words: Words, width: float) -> dict:
    """The spec of a figure of this width (pixels), with its words and the project's style."""
    title = _title(look, words, max(width, LEAST_WIDTH))
    if title:
        chart.title = alt.TitleParams(**title)
    chart.description, chart.usermeta = words.short, {"embedOptions": {"actions": PAGE_MENU}}
    chart.config = alt.Config(**config(look))
    return chart.to_dict()


def _title(look: Looks, words: Words, width: float) -> dict | None:
    """Title over the whole figure with smaller lines below it.

    With `figures.titles` off, only the user's own title and the note remain; None if there is neither.
    """
    text = look.title or (words.title if look.titles else None)
    lines = [*wrap(words.about, look.font_size, width)] if look.titles and words.about else []
    lines += wrap(words.note, look.font_size, width) if words.note else []
    place = {"anchor": "start", "offset": 2 * TITLE_OFFSET}
    if text is None:
        return place | {"text": lines, "fontSize": look.font_size} if lines else None
    return place | {"text": text, "fontSize": look.title_size + 3} | ({"subtitle": lines} if lines else {})


def config(look: Looks) -> dict:
    """Vega-Lite's `config` block, the same for every figure of the project."""
    small, large = look.font_size, look.title_size
    words = {"labelFontSize": small, "titleFontSize": small + 1, "titleFontWeight": "normal"}
    colours = {"labelColor": palette.TEXT, "titleColor": palette.TEXT}
    lines = {"domainColor": palette.RULE, "tickColor": palette.RULE, "tickSize": TICK_SIZE, "grid": False}
    return {
        "font": look.font,
        "background": palette.PAGE,
        "view": {"stroke": None},
        "axis": words | colours | lines,
        "legend": words | colours | {"titleLimit": 0, "labelLimit": 0},
        "title": {
            "color": palette.TEXT,
            "subtitleColor": palette.TEXT,
            "fontSize": large,
            "fontWeight": "normal",
            "subtitleFontSize": small,
            "subtitlePadding": SUBTITLE_GAP,
            "limit": 0,
        },
    }
