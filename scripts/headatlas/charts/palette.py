"""All colours and opacities of the figures."""

from types import MappingProxyType

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
DARK_AT_ZERO = ("viridis", "cividis", "magma", "inferno", "plasma")

PAGE = "white"
TEXT, TEXT_ON_DARK = "#222222", "white"
RULE = "#888888"  # axes and reference lines
GRID = "#ebebeb"

# Head maps
EMPTY_LAYER = "#d0d0d0"  # a layer without attention
DIM_OPACITY = 0.2  # of a cell that is not significant
DOT, DOT_OUTLINE, DOT_OPACITY = "#ffffff", "#333333", 0.9  # light with a dark edge: visible on any cell colour
CROSS, SIGNED_CROSS = "#ffffff", "#444444"  # over a panel of importance (dark zero), of signed effects (light zero)

# Matrices
BLANK_CELL = "#f0f0f0"  # a cell without information
CELL_EDGE = "white"

# Curves and dots: Okabe and Ito's colours, distinguishable with any colour vision, and shapes for black-and-white print
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
METHODS = ("ablation", "attribution", "probe", "gates")  # each keeps its colour whatever else is drawn
OTHER_SERIES = len(METHODS)  # where colours of pairs and models start
BAND_OPACITY = 0.15
RANDOM_BAND, RANDOM_CURVE = "#d9d9d9", "#7f7f7f"
BAR_OPACITY = 0.5  # of thin intervals that cross one another
CARRIED = (SERIES[1], SERIES[0], RANDOM_CURVE)  # what a head carries: the answer, the question, or unknown
HOLLOW = "white"  # interior of a point that is not significant


def series(names: list[str], start: int | None = None) -> tuple[list[str], list[str]]:
    """Fixed colours and shapes of methods; with `start`, those of other series from that index on."""
    places = [METHODS.index(name) if start is None else start + i for i, name in enumerate(names)]
    return tuple([kind[place % len(kind)] for place in places] for kind in (SERIES, SHAPES))
