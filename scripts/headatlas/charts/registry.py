"""The evidence figures by name: the tables that each takes, in order, and the function that draws it."""

import polars as pl

from headatlas.charts import curves, dots, head_changes, head_groups, head_maps, matrices, patched_heads
from headatlas.charts.wanted import Wanted
from headatlas.errors import HeadAtlasError

FIGURES = {  # with `.{method}`: one figure per method
    "knock-out": (("knock-out",), curves.knock_out),
    "knock-out-accuracy": (("knock-out",), curves.knock_out),
    "sufficiency": (("sufficiency", "CPR"), curves.sufficiency),
    "sufficiency-linear": (("sufficiency", "CPR"), curves.sufficiency),
    "layer-profile": (("layer profile", "summary"), curves.layer_profile),
    "dissociation.{method}": (("dissociation", "dominance"), matrices.dissociation),
    "task-overlap.{method}": (("task overlap",), matrices.task_overlap),
    "agreement": (("agreement", "summary"), dots.agreement),
    "annotated-grid.{method}": (("importance", "capability", "reliability"), head_maps.annotated_grid),
    "same-answer": (("same-answer",), patched_heads.same_answer),
    "head-groups": (("head-groups",), head_groups.head_groups),
    "changes.{method}": (("head-changes",), head_changes.head_changes),
    "comparison.{method}": (("summary", "layer profile", "dominance"), dots.comparison),
}


def draw(tables: list[pl.DataFrame], settings: dict) -> dict:
    """The Vega-Lite spec of `settings["figure"]`, one of `FIGURES` with the method filled in.

    Args:
        tables: in the order of `FIGURES`; for `comparison` those of all models, kind by kind in that order (dominances
            are optional).
        settings: `figure`, `model` (`comparison`: `models`), `methods` and `tasks` (in the config's order),
            `confidence` (of the tables' intervals), `metric`, `figures` (the config section).

    Raises:
        HeadAtlasError: unknown figure, wrong number of tables, a table that lacks a column or a row.
    """
    figure = settings["figure"]
    kind, dot, _ = figure.partition(".")
    name = f"{kind}.{{method}}" if dot else kind
    if name not in FIGURES:
        raise HeadAtlasError(f"no figure `{figure}`; there are: {', '.join(FIGURES)}")
    names, draw_it = FIGURES[name]
    wanted = Wanted.read(settings)
    needed = [len(names)]
    if kind == "comparison":
        needed = [2 * len(wanted.models), 3 * len(wanted.models)]
    if len(tables) not in needed:
        raise HeadAtlasError(f"figure {figure} takes the tables {', '.join(names)}; {len(tables)} were given")
    return draw_it(tables, wanted)
