"""How often the model still writes a right answer without heads: the top ones against random ones; polars."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.evidence.answer_control import ENDS, estimate
from headatlas.evidence.capability import wilson_interval
from headatlas.stats.head_statistics import head_statistics
from headatlas.stats.multiple_testing import holm

COLUMNS = (
    {"method": pl.String, "task": pl.String, "selection": pl.String, "draw": pl.Int32, "k": pl.Int32}
    | {f"{name}{end}": pl.Float64 for name in ("accuracy", "below_random") for end in ENDS}
    | {"p_value": pl.Float64, "p_adjusted": pl.Float64, "n_items": pl.Int32, "n_questions": pl.Int32}
)


class Judged(NamedTuple):
    """One method and task: its sets (dicts of `knock_out_sets`), correct bool [set, item], question [item]."""

    sets: list[dict]
    correct: np.ndarray
    question: np.ndarray


def generated_accuracy(found: Mapping[tuple[str, str], Judged], confidence: float) -> pl.DataFrame:
    """The share of right answers that the model writes under every set of knocked-out heads.

    Args:
        found: by method and task; each with an empty set, the top heads, and draws of as many random heads.

    Returns:
        method, task, selection (none | top | random), draw, k; `accuracy` with Wilson's interval (items of one question
        count as one observation). Of the top heads, null elsewhere, `below_random`: mean accuracy of all draws less
        theirs, paired over questions, with interval and p-value (`head_statistics`: NaN with fewer than `FEWEST`
        questions), and `p_adjusted` (Holm, over a method's tasks). n_items, n_questions.
    """
    tested = {key: _below_random(judged, confidence) for key, judged in found.items()}
    methods = dict.fromkeys(method for method, _ in found)
    adjusted = {}
    for method in methods:
        tasks = [key for key in found if key[0] == method]
        adjusted |= zip(tasks, holm(np.array([tested[key][-1] for key in tasks])), strict=True)
    rows = [
        (*key, one["selection"], one["draw"], one["k"], *_accuracy(correct, judged.question, confidence))
        + ((*tested[key], adjusted[key]) if one["selection"] == "top" else (None,) * 5)
        + (len(judged.question), len(np.unique(judged.question)))
        for key, judged in found.items()
        for one, correct in zip(judged.sets, judged.correct, strict=True)
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def _accuracy(correct: np.ndarray, question: np.ndarray, confidence: float) -> tuple[float, float, float]:
    share = float(correct.mean())
    return share, *wilson_interval(share, len(np.unique(question)), confidence)


def _below_random(judged: Judged, confidence: float) -> list[float]:
    """How much less often it is right without the top heads than without random ones: mean, interval, p-value."""
    random = [one["selection"] == "random" for one in judged.sets]
    top = next(row for row, one in enumerate(judged.sets) if one["selection"] == "top")
    lost = judged.correct[random].mean(0) - judged.correct[top]
    tested = head_statistics(lost[:, None], judged.question, confidence=confidence)
    return [*estimate(tested, 0), float(tested.p_value[0])]
