"""The evidence figures by name: which tables each takes, in order, and who draws it."""

import polars as pl

from headatlas import curve_charts, dot_charts, matrix_charts
from headatlas.errors import HeadAtlasError
from headatlas.evidence_panels import Wanted

FIGURES = {
    "knock-out": (("knock-out",), curve_charts.knock_out),
    "knock-out-accuracy": (("knock-out",), curve_charts.knock_out),
    "layer-profile": (("layer profile", "summary"), curve_charts.layer_profile),
    "dissociation": (("dissociation", "dominance"), matrix_charts.dissociation),
    "task-overlap": (("task overlap",), matrix_charts.task_overlap),
    "agreement": (("agreement", "summary"), dot_charts.agreement),
    "annotated-grid": (("importance", "capability", "reliability"), matrix_charts.annotated_grid),
    "comparison": (("summary", "layer profile", "dominance"), dot_charts.comparison),
}
OF_ONE_METHOD = ("dissociation", "task-overlap", "annotated-grid", "comparison")


def draw(tables: list[pl.DataFrame], settings: dict) -> dict:
    """The Vega-Lite spec of `settings["figure"]`: one of `FIGURES`, with `.method` if one of `OF_ONE_METHOD`.

    Args:
        tables: as `FIGURES` names them; for `comparison` those of all models, kind by kind in that order (the
            dominances may be left out).
        settings: `figure`, `model` (`comparison`: `models`), `methods` and `tasks` (in the config's order),
            `confidence` (of the tables' intervals), `figures` (the config section).

    Raises:
        HeadAtlasError: another figure, another number of tables, a table that lacks a column or a row.
    """
    figure = settings["figure"]
    kind = figure.partition(".")[0]
    if kind not in FIGURES or (kind in OF_ONE_METHOD) != ("." in figure):
        known = [name + (".{method}" if name in OF_ONE_METHOD else "") for name in FIGURES]
        raise HeadAtlasError(f"no figure `{figure}`; there are: {', '.join(known)}")
    names, draw_it = FIGURES[kind]
    wanted = Wanted.read(settings)
    needed = [len(names)]
    if kind == "comparison":
        needed = [2 * len(wanted.models), 3 * len(wanted.models)]
    if len(tables) not in needed:
        raise HeadAtlasError(f"figure {figure} takes the tables {', '.join(names)}; {len(tables)} were given")
    return draw_it(tables, wanted)
