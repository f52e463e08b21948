"""Format control: a task's map on items whose answers match the format of another task's answers; numpy only.

A head that serves answers of two digits looks like a head for a task with such answers. The effects on each item are
already known, so a map on a subset of the items needs no model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from headatlas.stats import jackknife
from headatlas.stats.head_statistics import question_totals
from headatlas.stats.multiple_testing import holm
from headatlas.stats.ranking import overlap, rank_correlation, top, top_count


class Answered(NamedTuple):
    """A task's items: `effects` [item, head], `question` [item], and the format of each answer."""

    effects: np.ndarray
    question: np.ndarray
    formats: Sequence[tuple]


def format_control(
    tasks: Mapping[str, Answered], *, top: float, shuffles: int, confidence: float, seed: int
) -> list[dict]:
    """Compare each task's map with its map on items matched in format to each other task.

    A matched sample has as many items of each format as the task with fewer has. The map is the mean over all such
    samples, in which each item has the weight of how often it occurs, so no chance is involved.

    Args:
        top: share of the heads that count as top; shuffles: number of shuffles of formats, see `shuffled`.

    Returns:
        task, matched_to, formats (that both have), n_items (matched), n_all, rank_correlation (of importance with the
        map on all items), ci_low and ci_high (jackknife over questions), expected (the mean correlation over shuffles:
        what fewer items do by themselves), p_value (share of shuffles with no higher correlation), k (top heads),
        top_kept (share of them that stay on top), top_expected, p_adjusted (Holm, over all different maps). NaN without
        matched items, or if matching leaves the mix of formats unchanged.
    """
    known: dict[tuple, dict] = {}
    rows = []
    for task, other in permutations(tasks, 2):
        mine, theirs = tasks[task].formats, tasks[other].formats
        weights = matched_weights(mine, theirs)
        key = (task, weights.tobytes())
        if key not in known:
            known[key] = _compare(tasks[task], weights, top, shuffles, confidence, seed)
        row = {"task": task, "matched_to": other, "formats": len({*mine} & {*theirs})}
        rows.append((row | {"n_items": round(weights.sum()), "n_all": len(weights)}, key))
    adjusted = holm(np.array([found["p_value"] for found in known.values()]))
    for found, p_value in zip(known.values(), adjusted, strict=True):
        found["p_adjusted"] = float(p_value)
    return [row | known[key] for row, key in rows]


def matched_weights(mine: Sequence[tuple], theirs: Sequence[tuple]) -> np.ndarray:
    """How often each item of `mine` occurs in a sample matched to `theirs`: [item], 0 to 1.

    A sample has as many items of each format as the task with fewer has.
    """
    have, want = Counter(mine), Counter(theirs)
    return np.array([min(have[form], want[form]) / have[form] for form in mine])


def shuffled(weights: np.ndarray, question: np.ndarray, shuffles: int, rng: np.random.Generator) -> np.ndarray:
    """Exchange the weights of questions among questions with as many items: [shuffle, item].

    Weights are then unrelated to formats, while the numbers of questions and items in the sample stay the same.
    """
    _, position, counts = np.unique(question, return_inverse=True, return_counts=True)
    items, starts = np.argsort(position, kind="stable"), np.cumsum(counts) - counts
    dealt = np.empty((shuffles, len(weights)))
    for count in np.unique(counts):
        alike = items[starts[counts == count][:, None] + np.arange(count)]  # [question, item of it]
        order = rng.permuted(np.tile(np.arange(len(alike)), (shuffles, 1)), axis=1)
        dealt[:, alike] = weights[alike][order]
    return dealt


def _compare(task: Answered, weights: np.ndarray, share: float, shuffles: int, confidence: float, seed: int) -> dict:
    n_heads = task.effects.shape[1]
    k = top_count(share, n_heads)
    names = ("rank_correlation", "ci_low", "ci_high", "expected", "p_value", "top_kept", "top_expected")
    found = {"k": k} | dict.fromkeys(names, float("nan"))
    if np.ptp(weights) == 0:  # no item matches, or the mix of formats stays the same
        return found
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    effects = task.effects.astype(np.float64)
    full, matched = np.abs(effects.mean(axis=0)), _importance(effects, weights)
    dealt = _importance(effects, shuffled(weights, task.question, shuffles, rng))
    null, hottest = rank_correlation(np.broadcast_to(full, dealt.shape), dealt), top(full, k)
    correlation = float(rank_correlation(full, matched))
    low, high = _interval(task, effects, weights, correlation, confidence, rng)
    return found | {
        "rank_correlation": correlation,
        "ci_low": low,
        "ci_high": high,
        "expected": float(null.mean()),
        "p_value": float(((null <= correlation + 1e-12).sum() + 1) / (shuffles + 1)),
        "top_kept": overlap(hottest, top(matched, k)),
        "top_expected": float(np.mean([overlap(hottest, top(one, k)) for one in dealt])),
    }


def _importance(effects: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Absolute weighted mean effect [..., head] of `weights` [..., item]."""
    return np.abs(weights @ effects / weights.sum(axis=-1, keepdims=True))


def _interval(
    task: Answered, effects: np.ndarray, weights: np.ndarray, whole: float, confidence: float, rng
) -> tuple[float, float]:
    """Interval of the correlation over questions; NaN if fewer than 8 questions have matched items."""
    totals, counts = question_totals(effects, task.question)
    parts, _ = question_totals(np.column_stack([effects * weights[:, None], weights]), task.question)
    inside = parts[:, -1] > 0  # questions with matched items
    if inside.sum() < jackknife.FEWEST:
        return float("nan"), float("nan")
    groups = np.empty(len(counts), dtype=np.int64)  # each has matched questions
    groups[inside] = jackknife.question_groups(int(inside.sum()), rng)
    groups[~inside] = rng.permutation(int((~inside).sum())) % (groups[inside].max() + 1)
    full, matched = (
        np.abs(jackknife.means_left_out(sums, per, groups))
        for sums, per in ((totals, counts), (parts[:, :-1], parts[:, -1]))
    )
    return jackknife.correlation_interval(whole, rank_correlation(full, matched), confidence)
