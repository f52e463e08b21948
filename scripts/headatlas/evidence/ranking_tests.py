"""Which ranking predicts best what sets of heads do: paired tests between methods on held-out questions; polars."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import polars as pl

from headatlas.evidence.agreement import with_adjusted
from headatlas.evidence.knock_out_curves import area_gap
from headatlas.evidence.sufficiency import of_figures
from headatlas.files.knock_outs import RANDOM, KnockOut
from headatlas.stats.estimates import Estimate, difference, means

# Each figure, and whether more of it is better.
FIGURES = {"area": True, "cpr": True, "cmd": False}


def ranking_tests(
    files: Mapping[tuple[str, str], KnockOut], tasks: Sequence[str], confidence: float, seed: int
) -> pl.DataFrame:
    """Compare every two rankings on every task by each of `FIGURES`; random rankings have no knock-out area.

    Args:
        files: by method and task, in the order of the rows.

    Returns:
        figure, task, method_a, method_b, difference (a - b) with ci_low and ci_high (not adjusted), p_value, p_adjusted
        (Holm, over all tasks and pairs of a figure); no rows where a figure is undefined.
    """
    rows = []
    for task in tasks:
        found = {method: _figures(file, confidence, seed) for (method, of), file in files.items() if of == task}
        for figure in FIGURES:
            known = {method: figures[figure] for method, figures in found.items() if figure in figures}
            rows += [
                (figure, task, a, b, *difference(known[a], known[b], confidence)) for a, b in combinations(known, 2)
            ]
    schema = dict.fromkeys(("figure", "task", "method_a", "method_b"), pl.String)
    schema |= dict.fromkeys(("difference", "ci_low", "ci_high", "p_value"), pl.Float64)
    place = {figure: index for index, figure in enumerate(FIGURES)}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    ordered = table.sort(pl.col("figure").replace_strict(place, return_dtype=pl.Int32), maintain_order=True)
    return with_adjusted(ordered, ["figure"])


def _figures(file: KnockOut, confidence: float, seed: int) -> dict[str, Estimate]:
    """The figures of one method and task that are defined."""
    found = {}
    if file.method != RANDOM:
        gap = area_gap(file)
        found["area"] = means(gap[:, None], file.targets[file.task].question, seed).then(lambda means: means[..., 0])
    signed, absolute = of_figures(file, confidence, seed)
    if not _undefined(signed.cpr):
        found |= {"cpr": signed.cpr, "cmd": absolute.cmd}
    return found


def _undefined(estimate: Estimate) -> bool:
    return bool(estimate.value != estimate.value)
