"""What the heads do, as tables, and whether the hot heads of a task are those of a role; polars."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.evidence.agreement import with_adjusted
from headatlas.evidence.answer_control import ENDS, estimate
from headatlas.evidence.summary import HOTTEST
from headatlas.files.roles import OF_ITEMS, SCORES, TOKENS, Roles, TaskRoles
from headatlas.stats import jackknife
from headatlas.stats.head_statistics import head_statistics
from headatlas.stats.ranking import at_least_common, rank_correlation, top, top_count

OF_SEQUENCES = ("previous_token", "induction", "duplicate_token", "sink", "copying")  # roles of a head on any task
OF_TASKS = ("direct", "retrieval_score", "span_mass")  # and on one task
FEWEST_ITEMS = 0.5  # share of a task's items that a score needs
HEADS = {"layer": pl.Int32, "head": pl.Int32}
TASKS = (
    {"task": pl.String}
    | HEADS
    | {f"direct{end}": pl.Float64 for end in ENDS}
    | dict.fromkeys(OF_ITEMS[1:], pl.Float64)
    | {"n_items": pl.Int32, "n_questions": pl.Int32}
)
OVERLAP = (
    dict.fromkeys(("method", "task", "role"), pl.String)
    | dict.fromkeys(("heads", "hottest", "strongest", "shared"), pl.Int32)
    | dict.fromkeys(("expected", "p_value", "rank_correlation", "ci_low", "ci_high"), pl.Float64)
)


class Map(NamedTuple):
    """A task's map by one method.

    `importance`: absolute mean effect [layer, head], NaN in layers without attention; `left_out`: the same without each
    group of questions, for the heads that exist [group, head]; None if that is not known.
    """

    importance: np.ndarray
    left_out: np.ndarray | None


def heads_table(model: str, roles: Roles) -> pl.DataFrame:
    """One row per head: what it does on random tokens repeated once, and which tokens it promotes.

    Returns:
        model, layer, head; the scores of `SCORES` (entropy in nats, the others shares); promoted and suppressed (lists
        of tokens, the strongest first). Null in layers without attention, and where a score is not known.
    """
    n_layers, n_heads = roles.sequences["sink"].shape
    columns = {"model": [model] * (n_layers * n_heads)} | _places(n_layers, n_heads)
    columns |= {name: roles.sequences[name].ravel().astype(np.float64) for name in SCORES}
    texts = roles.about["texts"]
    for name in TOKENS:
        ids = roles.tokens[name].reshape(n_layers * n_heads, -1).tolist()
        columns[name] = [None if row[0] < 0 else [texts[str(token)] for token in row] for row in ids]
    schema = {"model": pl.String} | HEADS | dict.fromkeys(SCORES, pl.Float64)
    return pl.DataFrame(columns, schema=schema | dict.fromkeys(TOKENS, pl.List(pl.String)))


def roles_table(roles: Roles, confidence: float) -> pl.DataFrame:
    """One row per task and head: what it does on the task's items, at their answer positions.

    Returns:
        task, layer, head; direct (nats of logit) with `_low` and `_high` over questions; retrieval_score, span_mass,
        sink (shares), entropy (nats), means over the items that have one; n_items, n_questions. A score that fewer than
        half of the items have is null, as are those of layers without attention.
    """
    return pl.concat([_task_rows(task, found, confidence) for task, found in roles.tasks.items()])


def _task_rows(task: str, found: TaskRoles, confidence: float) -> pl.DataFrame:
    n_items, n_layers, n_heads = found.scores["sink"].shape
    direct = found.scores["direct"].reshape(n_items, -1).astype(np.float64)
    statistics = head_statistics(direct, found.question, confidence=confidence)
    columns = {"task": [task] * (n_layers * n_heads)} | _places(n_layers, n_heads)
    each = np.array([estimate(statistics, index) for index in range(n_layers * n_heads)])
    columns |= {f"direct{end}": each[:, index] for index, end in enumerate(ENDS)}
    columns |= {name: mean_of_items(found.scores[name]).ravel() for name in OF_ITEMS[1:]}
    counts = {"n_items": statistics.n_items, "n_questions": statistics.n_questions}
    columns |= {name: [count] * (n_layers * n_heads) for name, count in counts.items()}
    return pl.DataFrame(columns, schema=TASKS)


def mean_of_items(scores: np.ndarray) -> np.ndarray:
    """[item, layer, head] -> [layer, head]: mean over the items that have a score; NaN if fewer than half do."""
    known = ~np.isnan(scores)
    counts = known.sum(0)
    with np.errstate(invalid="ignore"):
        means = np.where(known, scores, 0).sum(0, dtype=np.float64) / counts
    return np.where(counts >= max(1, FEWEST_ITEMS * len(scores)), means, np.nan)


def _places(n_layers: int, n_heads: int) -> dict[str, np.ndarray]:
    layer, head = np.divmod(np.arange(n_layers * n_heads), n_heads)
    return {"layer": layer, "head": head}


# --- roles against effects --------------------------------------------------------------------------------------------


def role_overlap(roles: Roles, maps: Mapping[tuple[str, str], Map], share: float, confidence: float) -> pl.DataFrame:
    """How many of a task's hottest heads are among the strongest of each role, against chance.

    Args:
        maps: by (method, task); share: of the heads that count as strongest in a role (0.1 = a tenth).

    Returns:
        method, task, role (of `OF_SEQUENCES` and `OF_TASKS`; `direct` by its size); heads, hottest (`HOTTEST`, or as
        many as have an effect), strongest (with a score above 0); shared by the two, expected (by chance, hottest x
        strongest / heads), p_value (of so many or more, hypergeometric), p_adjusted (Holm, over tasks and roles of a
        method); rank_correlation of importance and role over all heads, with its interval over questions (null where
        the map cannot be recomputed without some). Roles that are not known for a task have no row.
    """
    rows = [
        (method, task, *_overlap(role, score, maps[method, task], share, confidence))
        for method, task in maps
        for role, score in role_scores(roles, task)
    ]
    return with_adjusted(pl.DataFrame(rows, schema=OVERLAP, orient="row"), ["method"])


def role_scores(roles: Roles, task: str) -> Iterator[tuple[str, np.ndarray]]:
    """The roles that are known for a task, each with its scores [layer, head], above 0 where a head has the role."""
    named = {name: roles.sequences[name] for name in OF_SEQUENCES}
    named |= {name: mean_of_items(roles.tasks[task].scores[name]) for name in OF_TASKS}
    for name, score in named.items():
        if not np.isnan(score).all():
            yield name, np.abs(score).astype(np.float64)


def _overlap(role: str, score: np.ndarray, found: Map, share: float, confidence: float) -> tuple:
    present = ~np.isnan(found.importance)
    importance, score = found.importance[present], score[present]
    heads = len(importance)
    hot, strong = top(importance, HOTTEST), top(score, top_count(share, heads))
    shared = len(np.intersect1d(hot, strong))
    whole = float(rank_correlation(importance, score))
    low = high = math.nan
    if found.left_out is not None and not math.isnan(whole):
        others = rank_correlation(found.left_out, score)
        low, high = jackknife.correlation_interval(whole, others, confidence)
    expected, p_value = len(hot) * len(strong) / heads, at_least_common(shared, len(hot), len(strong), heads)
    return role, heads, len(hot), len(strong), shared, expected, p_value, whole, low, high
