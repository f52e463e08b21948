"""How figures look: fonts, sizes, colours, ticks and the space between panels. Nothing else decides on these.

Knows the config section `figures` and how wide a text is; knows nothing of tables and of what a chart shows.
"""

import difflib
import math
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from headatlas.errors import HeadAtlasError

# Continuous colour schemes of Vega: name -> the colour of zero (the low end; the middle of a diverging one).
SCHEMES = MappingProxyType(
    {
        "viridis": "#440154",
        "cividis": "#002051",
        "magma": "#000004",
        "inferno": "#000004",
        "plasma": "#0d0887",
        "blues": "#cfe1f2",
        "greys": "#e2e2e2",
    }
)
SIGNED_SCHEMES = MappingProxyType(
    {
        "redblue": "#f2efee",
        "blueorange": "#f2f0eb",
        "purpleorange": "#f3eeea",
        "purplegreen": "#eff0ef",
        "brownbluegreen": "#eef1ea",
        "pinkyellowgreen": "#f5f3ef",
    }
)
# What a figure's title calls a method.
METHOD_WORDS = MappingProxyType(
    {"ablation": "exact ablation", "attribution": "attribution (a gradient's estimate of ablation)", "probe": "a probe"}
)
# Names of tasks that the rule "underscores to spaces, capitals" would not write as the CogQA data does.
PUBLISHED_LABELS = MappingProxyType({"decision_making": "Decision-making"})

TEXT_COLOUR = "#222222"
RULE_COLOUR = "#888888"
EMPTY_LAYER = "#d0d0d0"  # a layer without attention
DIM_OPACITY = 0.2
DOT_COLOUR, DOT_OUTLINE = "#ffffff", "#333333"  # light with a dark edge: seen on any colour of a cell
DOT_SHARE = 0.35  # a dot's diameter, as a share of its cell
CROSS_COLOURS = ("#ffffff", "#444444")  # on importance (dark zero), on signed effects (light zero)

# Okabe and Ito's colours, told apart with any colour vision, and shapes for print without colours.
SERIES_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SERIES_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
METHODS = ("ablation", "attribution", "probe")  # each keeps its colour in whatever company
OTHER_SERIES = len(METHODS)  # where the colours of pairs and models start
GRID_COLOUR = "#ebebeb"
BLANK_COLOUR = "#f0f0f0"  # a cell of a matrix that says nothing
RANDOM_COLOURS = ("#d9d9d9", "#7f7f7f")  # band, line
CURVE_SIZE = (192, 144)  # pixels; a panel of curves
STRIP_LINE = 9  # pixels; a line of marks above curves
LABEL_GAP = 0.4  # of the font size; between labels side by side
CURVE_TICKS = 5  # at most, of a number axis
BAND_OPACITY = 0.15
DASHES = [4, 3]  # of lines to compare with
POINT_SIZE = 28  # square pixels
MATRIX_CELL = (46, 36)  # pixels; a cell that holds a number
LEGEND_WIDTH = 150  # pixels, about; right of panels of curves
MATRIX_SIDE = 160  # pixels, about; labels left of a matrix and its bar
DOTS_WIDTH = 300  # pixels; a panel of rows of dots
DOT_ROW = 26  # pixels; a row of dots with its label is at least so high
DOT_LINE = 10  # pixels; a dot of a row
ANGLE = -40  # of labels below narrow columns

PANEL_SIZE = 192  # pixels; the longer side of a panel when `cell_size` is auto
CELL_RANGE = (3, 32)  # pixels; the smallest and largest cell that auto gives
MOST_TICKS = 8  # on the longer axis when `tick_step` is auto
STEPS = (1, 2, 3, 6, 12, 24, 48, 96)
LEAST_WIDTH = 420  # pixels; below this the lines over a figure do not break
PANEL_GAP = 16  # pixels between panels, beside whatever is written there
TITLE_OFFSET = 6
SUBTITLE_GAP = 3
TICK_SIZE = 4
BAR_OFFSET = 16
BAR_THICKNESS = 16
BAR_DECIMALS = 4  # at least
BAR_TICKS = 7  # at most, zero not counted
SIGNED_TICKS = 4  # at most, on either side of zero
DECADES = (1, 4)  # the fewest and the most powers of ten that a symlog bar shows on either side of zero


@dataclass(frozen=True)
class Looks:
    """The config section `figures`; the schema (figures.schema.yaml) says what each key means."""

    columns: int = 4
    order: list[str] | None = None
    labels: dict[str, str] | None = field(default_factory=dict)
    titles: bool = True
    title: str | None = None
    legend_title: str = "Heads Importance"
    signed_legend_title: str = "Effect ({unit})"
    scheme: str = "viridis"
    signed_scheme: str = "redblue"
    signed_scale: str = "symlog"
    scale: str = "shared"
    upper_limit: str | float | dict = "max"
    signed_limit: str | float | dict = "max"
    tick_step: str | int = "auto"
    tick_labels: str = "outer"
    cell_size: str | int = "auto"
    font: str = "Liberation Sans, Arial, Helvetica, sans-serif"
    font_size: int = 11
    title_size: int = 13
    insignificant: str = "show"
    q_threshold: float = 0.05
    formats: tuple[str, ...] = ("png", "svg", "pdf", "html")
    png_scale: float = 2

    @classmethod
    def read(cls, section: dict) -> "Looks":
        """Looks from the config section; keys left out take their defaults.

        Raises:
            HeadAtlasError: an unknown key, with the nearest known one.
        """
        known = [option.name for option in fields(cls)]
        for key in section:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
                raise HeadAtlasError(f"figures: unknown key `{key}`; {hint}")
        return cls(**section)


def task_label(task: str, look: Looks) -> str:
    """What a figure calls a task: as `figures.labels` says, else the key in words (Math Calculation)."""
    named = PUBLISHED_LABELS | (look.labels or {})
    return named.get(task, task.replace("_", " ").title())


def config(look: Looks) -> dict:
    """Vega-Lite's `config` block, the same for every figure of the project."""
    small, large = look.font_size, look.title_size
    words = {"labelFontSize": small, "titleFontSize": small + 1, "titleFontWeight": "normal"}
    colours = {"labelColor": TEXT_COLOUR, "titleColor": TEXT_COLOUR}
    return {
        "font": look.font,
        "background": "white",
        "view": {"stroke": None},
        "axis": words
        | colours
        | {"domainColor": RULE_COLOUR, "tickColor": RULE_COLOUR, "tickSize": TICK_SIZE, "grid": False},
        "legend": words | colours | {"titleLimit": 0, "labelLimit": 0},
        "title": {
            "color": TEXT_COLOUR,
            "subtitleColor": TEXT_COLOUR,
            "fontSize": large,
            "fontWeight": "normal",
            "subtitleFontSize": small,
            "subtitlePadding": SUBTITLE_GAP,
            "limit": 0,
        },
    }


def text_width(text: str, size: float) -> float:
    """Width of one line in pixels, on the safe side, in the default font (as wide as Arial)."""
    return size * sum(_em(letter) for letter in text)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Lines of `text` that fit in `width` pixels, broken at spaces; line breaks in the text are kept."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in filter(None, paragraph.split(" ")):  # a no-break space holds its words together
            longer = f"{line} {word}".strip()
            if line and text_width(longer, size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def cell_size(layers: int, heads: int, look: Looks) -> int:
    """Side of a square cell in whole pixels, so that cells stay crisp."""
    if look.cell_size != "auto":
        return look.cell_size
    smallest, largest = CELL_RANGE
    return min(largest, max(smallest, round(PANEL_SIZE / max(layers, heads))))


def cell_ticks(count: int, layers: int, heads: int, look: Looks) -> list[int]:
    """Where ticks stand on an axis of `count` cells: multiples of 6 for 25 to 48 layers or heads, 1 up to 8.

    Both axes share the step of the longer one, unless that would leave this one with fewer than three ticks.
    """
    cell = cell_size(layers, heads, look)
    step = look.tick_step
    if step == "auto":
        step = _tick_step(max(layers, heads), cell, look)
        if count <= 2 * step:
            step = min(step, _tick_step(count, cell, look))
    return list(range(0, count, step))


@dataclass(frozen=True)
class Bar:
    """A colour bar's scale: `domain`, ticks in data units, their d3 format; are there values beyond it?

    With a `constant` colours go by sign(x) log(1 + |x| / constant): evenly near 0, by powers of ten far from it.
    """

    domain: tuple[float, float]
    ticks: list[float]
    number: str
    clipped: bool
    constant: float | None = None

    @property
    def scale(self) -> dict:
        """Vega-Lite's scale, but for its colours."""
        shape = {"type": "symlog", "constant": self.constant} if self.constant else {}
        return shape | {"domain": list(self.domain), "clamp": True, "nice": False}

    def width(self, look: Looks) -> float:
        """Pixels that the widest label takes."""
        sign = "≥ " if self.clipped else ""
        number = self.number.replace("~", "")  # d3's sign for no zeros at the end; Python's g has none anyway
        return max(text_width(f"{sign}{tick:{number}}", look.font_size) for tick in self.ticks)


def bar(limit: float, clipped: bool, signed: bool) -> Bar:
    """The colour bar from 0 to `limit` (from -`limit` when signed), with ticks at round numbers.

    A clipped bar has its last tick at the limit itself, to be labelled "≥": the reader must see that it ends.
    """
    step, decimals = _round_step(limit / (SIGNED_TICKS if signed else BAR_TICKS))
    up = [round(i * step, 12) for i in range(math.floor(limit / step * (1 + 1e-9)) + 1)]
    if clipped:
        up = [tick for tick in up if tick == 0 or limit - tick > 0.6 * step] + [limit]
    ticks = [-tick for tick in reversed(up[1:])] + up if signed else up
    decimals = max(decimals, BAR_DECIMALS)
    return Bar((-limit if signed else 0.0, limit), ticks, f".{decimals}f", clipped)


def symlog_bar(limit: float, clipped: bool, typical: float) -> Bar:
    """The bar from -`limit` to `limit` on a symmetric log scale, with a tick at each power of ten, or at 2 and 5 too.

    Args:
        typical: about the size of a small value (their median), around which colours begin to go by powers of ten.
    """
    top = math.floor(math.log10(limit) + 1e-9)
    fewest, most = (top - decades for decades in DECADES)
    power = min(fewest, max(most, math.floor(math.log10(typical)))) if typical > 0 else most
    up = [0.0] + [float(f"1e{exponent}") for exponent in range(power + 1, top + 1)]  # the next lower is too near 0
    if len(up) == 2:
        steps = [float(f"{digit}e{exponent}") for exponent in range(power, top + 1) for digit in (2, 5)]
        up = sorted(tick for tick in up + steps if tick <= limit)
    if clipped:
        up = [tick for tick in up if tick < 0.6 * limit] + [limit]
    return Bar((-limit, limit), [-tick for tick in reversed(up[1:])] + up, "~g", clipped, float(f"1e{power}"))


@dataclass(frozen=True)
class Spaces:
    """Pixels between the panels of a grid, from what is written between them."""

    row: int
    column: int


def spaces(
    titles: list[list[str]], layers: int, heads: int, look: Looks, bars: list[Bar], notes: list[list[str]]
) -> Spaces:
    """Gaps for the widest and tallest panel title, `notes` below it, tick labels if all have them, own `bars`."""
    cell = cell_size(layers, heads, look)
    row = PANEL_GAP + TITLE_OFFSET + 1.3 * look.title_size * max(len(lines) for lines in titles)
    row += max((SUBTITLE_GAP + 1.3 * look.font_size * len(lines) for lines in notes), default=0)
    column = float(PANEL_GAP)
    if look.tick_labels == "all":
        row += TICK_SIZE + 4 + 1.2 * look.font_size
        column += TICK_SIZE + 4 + text_width(str(layers - 1), look.font_size)
    if bars:
        column += BAR_OFFSET + BAR_THICKNESS + max(bar.width(look) for bar in bars)
    widest = max(text_width(text, look.title_size) for lines in titles for text in lines)
    widest = max([widest, *(text_width(text, look.font_size) for lines in notes for text in lines)])
    return Spaces(math.ceil(row), math.ceil(max(column, widest - heads * cell + PANEL_GAP)))


def bar_length(title: str, beside: int, look: Looks) -> int:
    """Pixels of a colour bar beside something `beside` pixels tall: as long, unless its title needs more."""
    return max(beside, math.ceil(text_width(title, look.font_size + 1)))


def series(names: list[str], start: int | None = None) -> tuple[list[str], list[str]]:
    """Colours and shapes of methods, each always the same, or with `start` of other series from that place on."""
    places = [METHODS.index(name) if start is None else start + i for i, name in enumerate(names)]
    return tuple([kind[place % len(kind)] for place in places] for kind in (SERIES_COLOURS, SERIES_SHAPES))


def round_ticks(low: float, high: float, most: int = CURVE_TICKS) -> tuple[list[float], str]:
    """Round numbers from `low` to `high`, at most one more than `most`, and the d3 format that holds them."""
    step, decimals = _round_step((high - low) / most) if high > low else (1.0, 0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)], f".{decimals}f"


def spaced(values: list[int], places: list[float], look: Looks) -> list[int]:
    """Those of `values` whose labels have room at `places` (pixels); 0 and powers of two go first."""
    first = sorted(values, key=lambda v: (v & (v - 1) != 0, v))
    at = dict(zip(values, places, strict=True))
    half = {v: (text_width(str(v), look.font_size) + LABEL_GAP * look.font_size) / 2 for v in values}
    kept: list[int] = []
    for value in first:
        if all(abs(at[value] - at[k]) >= half[value] + half[k] for k in kept):
            kept.append(value)
    return sorted(kept)


def curve_spaces(titles: list[list[str]], inner: list[str], below: list[str], look: Looks) -> Spaces:
    """Gaps between panels of curves; `inner`: numbers left of every panel, if any; `below`: under the last row."""
    row = PANEL_GAP + TITLE_OFFSET + 1.3 * look.title_size * max(len(lines) for lines in titles)
    if look.tick_labels == "all":
        row += TICK_SIZE + 4 + 1.2 * look.font_size
    column = PANEL_GAP + max(text_width(label, look.font_size) for label in below) / 2
    if inner:
        column += TICK_SIZE + 4 + max(text_width(label, look.font_size) for label in inner)
    return Spaces(math.ceil(row), math.ceil(column))


def number_format(limit: float) -> str:
    """d3 format of numbers up to `limit` in size in cells: two digits of the largest, at least two decimals."""
    return f".{max(2, 1 - math.floor(math.log10(limit)))}f" if limit > 0 else ".2f"


def colour_bar(bar: Bar, title: str | None, length: int) -> dict:
    """Legend of a continuous scale: a bar of `length` pixels with its title along it."""
    settings = {
        "title": title,
        "titleOrient": "right",
        "type": "gradient",
        "orient": "right",
        "offset": BAR_OFFSET,
        "gradientLength": length,
        "gradientThickness": BAR_THICKNESS,
        "values": bar.ticks,
        "format": bar.number,
    }
    if bar.clipped:
        edge = 0.999 * bar.domain[1]
        sign = f"datum.value > {edge!r} ? '≥ ' : datum.value < {-edge!r} ? '≤ ' : ''"
        settings["labelExpr"] = f"({sign}) + datum.label"
    return settings


def dot(cell: int) -> dict:
    """Point that marks a cell, whatever its colour."""
    size = math.pi / 4 * (DOT_SHARE * cell) ** 2  # Vega's size is an area
    edge = {"stroke": DOT_OUTLINE, "strokeWidth": min(1.0, 0.1 * cell)}
    return {"shape": "circle", "filled": True, "size": size, "opacity": 0.9, "fill": DOT_COLOUR} | edge


def small_cross(cell: int) -> dict:
    """Point that marks a cell of the signed grid as no number to read; such a cell is nearly white."""
    size = (DOT_SHARE * cell) ** 2
    return {"shape": "cross", "angle": 45, "filled": True, "size": size, "opacity": 0.9, "fill": DOT_OUTLINE}


def figure_title(look: Looks, title: str, about: str, note: str | None, width: float) -> dict | None:
    """Title over the whole figure with smaller lines below it: what it shows, and what its marks mean.

    With `figures.titles` off only the user's own title and the note are left; None where there is neither.

    Args:
        title: where `figures.title` names none; width: pixels after which the smaller lines break.
    """
    text = look.title or (title if look.titles else None)
    lines = [*wrap(about, look.font_size, width)] if look.titles and about else []
    lines += wrap(note, look.font_size, width) if note else []
    place = {"anchor": "start", "offset": 2 * TITLE_OFFSET}
    if text is None:
        return place | {"text": lines, "fontSize": look.font_size} if lines else None
    return place | {"text": text, "fontSize": look.title_size + 3} | ({"subtitle": lines} if lines else {})


def _tick_step(count: int, cell: int, look: Looks) -> int:
    """Smallest step with at most `MOST_TICKS` ticks on `count` cells whose labels have room."""
    room = text_width("00 ", look.font_size) / cell
    fits = [step for step in STEPS if step >= room and math.ceil(count / step) <= MOST_TICKS]
    return fits[0] if fits else count


def _round_step(least: float) -> tuple[float, int]:
    """Smallest of 1, 2, 2.5, 5 times a power of ten that is not below `least`, and the decimals it needs."""
    power = math.floor(math.log10(least))
    for digit in (1, 2, 2.5, 5, 10):
        if digit * 10.0**power >= least * (1 - 1e-9):
            break
    decimals = -power + (1 if digit == 2.5 else -1 if digit == 10 else 0)
    return digit * 10.0**power, max(0, decimals)


def _em(letter: str) -> float:
    if letter in "ijltfIr.,:;'|!()[]-/ ":
        return 0.34
    if letter in "mwMW@%" or letter > "\u2e80":
        return 1.0
    return 0.74 if letter.isupper() else 0.57
