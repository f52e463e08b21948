"""Tests whether a hot head carries the token of the answer or what is specific to the question; polars.

A head is patched from two other prompts: the item's counterfactual, which has another answer, and another question with
the same answer. arXiv 2606.08292 calls a head ablation-reversible if its effect vanishes with the second patch.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from headatlas.evidence.summary import LEVEL
from headatlas.files.patches import KINDS, Patched
from headatlas.stats.head_statistics import HeadStatistics, head_statistics
from headatlas.stats.multiple_testing import holm

ENDS = ("", "_low", "_high")
COLUMNS = (
    {"task": pl.String}
    | dict.fromkeys(("rank", "layer", "head"), pl.Int32)
    | {f"{name}{end}": pl.Float64 for name in (*KINDS, "difference") for end in ENDS}
    | dict.fromkeys(("p_value", "p_adjusted", "same_answer_p_value", "same_answer_p_adjusted"), pl.Float64)
    | {"carries": pl.String, "n_items": pl.Int32, "n_questions": pl.Int32}
)


def answer_control(tasks: Mapping[str, Patched], confidence: float) -> pl.DataFrame:
    """What each patched head carries, with intervals and tests over questions.

    Returns:
        task, rank (1 = the hottest), layer, head; `counterfactual` and `same_answer` (mean effect, nats, patched from
        that prompt) and `difference` (counterfactual - same_answer, paired), each with `_low` and `_high`; `p_value` of
        the difference and `same_answer_p_value`, both with a `_adjusted` value (Holm over the heads of a task); carries
        (see `carried`), n_items, n_questions. With fewer than `FEWEST` questions there is no interval and no test.
    """
    rows = [row for task, patched in tasks.items() for row in _rows(task, patched, confidence)]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def carried(counterfactual: float, same_answer: float, different: bool, remains: bool) -> str | None:
    """What a head carries, from its two mean effects.

    `answer`: the two effects differ, and the one with the same answer is less than half of the other.
    `question`: the one with the same answer differs from 0, and is not significantly smaller than the other.
    None: neither can be said. Sizes are compared, so that heads that hurt the answer count too.

    Args:
        different: whether the two effects differ significantly.
        remains: whether the effect with the same answer differs significantly from 0.
    """
    if different and abs(same_answer) < abs(counterfactual) / 2:
        return "answer"
    if remains and not (different and abs(same_answer) < abs(counterfactual)):
        return "question"
    return None


def _rows(task: str, patched: Patched, confidence: float) -> list[tuple]:
    effects = [getattr(patched, kind).T.astype(np.float64) for kind in KINDS]
    effects.append(effects[0] - effects[1])
    found = [head_statistics(each, patched.question, confidence=confidence) for each in effects]
    counterfactual, same_answer, difference = found
    tests = [difference.p_value, holm(difference.p_value), same_answer.p_value, holm(same_answer.p_value)]
    rows = []
    for index, (layer, head) in enumerate(patched.heads):
        p_values = [float(values[index]) for values in tests]
        sizes = (float(counterfactual.effect[index]), float(same_answer.effect[index]))
        carries = carried(*sizes, different=p_values[1] < LEVEL, remains=p_values[3] < LEVEL)
        ends = [value for one in found for value in estimate(one, index)]
        counts = (difference.n_items, difference.n_questions)
        rows.append((task, index + 1, layer, head, *ends, *p_values, carries, *counts))
    return rows


def estimate(statistics: HeadStatistics, index: int) -> list[float]:
    """Effect of one head and the ends of its interval, in the order of `ENDS`."""
    return [float(values[index]) for values in (statistics.effect, statistics.ci_low, statistics.ci_high)]
