"""The evidence figures by name: which tables each takes, in order, and who draws it."""

import polars as pl

from headatlas.charts import curves, dots, matrices
from headatlas.charts.panels import Wanted
from headatlas.errors import HeadAtlasError

FIGURES = {
    "knock-out": (("knock-out",), curves.knock_out),
    "knock-out-accuracy": (("knock-out",), curves.knock_out),
    "layer-profile": (("layer profile", "summary"), curves.layer_profile),
    "dissociation": (("dissociation", "dominance"), matrices.dissociation),
    "task-overlap": (("task overlap",), matrices.task_overlap),
    "agreement": (("agreement", "summary"), dots.agreement),
    "annotated-grid": (("importance", "capability", "reliability"), matrices.annotated_grid),
    "comparison": (("summary", "layer profile", "dominance"), dots.comparison),
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
