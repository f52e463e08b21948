"""Whether query heads that share a key-value head work together: a group's effect beside its members' sum; polars."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.evidence.answer_control import ENDS, estimate
from headatlas.evidence.summary import LEVEL
from headatlas.stats.head_statistics import head_statistics
from headatlas.stats.multiple_testing import benjamini_hochberg

COLUMNS = (
    {"task": pl.String}
    | dict.fromkeys(("layer", "group", "first_head", "last_head"), pl.Int32)
    | {f"{name}{end}": pl.Float64 for name in ("effect", "sum", "difference") for end in ENDS}
    | dict.fromkeys(("p_value", "q_value"), pl.Float64)
    | {"n_items": pl.Int32, "n_questions": pl.Int32}
)


class GroupEffects(NamedTuple):
    """One task: effects of groups [item, layer, group] and of heads [item, layer, head], nats; question [item]."""

    groups: np.ndarray
    heads: np.ndarray
    question: np.ndarray


def head_groups(tasks: Mapping[str, GroupEffects], confidence: float) -> pl.DataFrame:
    """Effects of whole groups beside the sums of their members' effects, with intervals and tests over questions.

    Returns:
        task, layer, group (of the layer), first_head, last_head; `effect` of the group, `sum` of its members' effects,
        `difference` (effect - sum, paired), nats, each with `_low` and `_high`; `p_value` of the difference and
        `q_value` (Benjamini-Hochberg over a task's groups), n_items, n_questions. Layers without attention have no row.
        With fewer than `FEWEST` questions there is no interval and no test.
    """
    rows = [row for task, found in tasks.items() for row in _rows(task, found, confidence)]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def differs() -> pl.Expr:
    """How a group's effect differs from its heads' sum, in a row of the table.

    `more`: it is further from zero, so the heads back each other up; `less`: nearer to zero, so one does what another
    has done; null: q >= LEVEL, or not tested.
    """
    further = pl.col("effect").abs() > pl.col("sum").abs()
    way = pl.when(further).then(pl.lit("more")).otherwise(pl.lit("less"))
    return pl.when(pl.col("q_value") < LEVEL).then(way)


def _rows(task: str, found: GroupEffects, confidence: float) -> list[tuple]:
    n_items, n_layers, n_groups = found.groups.shape
    size = found.heads.shape[2] // n_groups
    whole = found.groups.astype(np.float64)
    members = found.heads.astype(np.float64).reshape(n_items, n_layers, n_groups, size).sum(-1)
    present = np.flatnonzero(~np.isnan(whole).any((0, 2)))
    parts = [values[:, present].reshape(n_items, -1) for values in (whole, members, whole - members)]
    tested = [head_statistics(values, found.question, confidence=confidence) for values in parts]
    p_values = tested[-1].p_value
    q_values = benjamini_hochberg(p_values)
    rows = []
    for index, (layer, group) in enumerate((layer, group) for layer in present for group in range(n_groups)):
        ends = [value for one in tested for value in estimate(one, index)]
        place = (int(layer), group, group * size, (group + 1) * size - 1)
        tests = (float(p_values[index]), float(q_values[index]))
        rows.append((task, *place, *ends, *tests, tested[0].n_items, tested[0].n_questions))
    return rows
