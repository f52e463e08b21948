"""Evidence tables made up for the tests of their figures, and settings to draw them."""

from itertools import combinations

import numpy as np
import polars as pl
from figure_samples import PLAIN, TASKS, capability, make_table
from headatlas.evidence.agreement import with_adjusted

METHODS = ["ablation", "attribution", "probe"]


def _knock_out() -> pl.DataFrame:
    """Tops fall, randoms scatter; the probe has an elbow at k = 3 of its own; the last task falls deepest."""
    rng, rows = np.random.default_rng(0), []
    for (m, method), (t, task) in ((a, b) for a in enumerate(METHODS) for b in enumerate(TASKS)):
        for k in [0, 1, 2, 4, 8] + [3] * (method == "probe"):
            kinds = {"top": 1, "bottom": 1, "random": 4 if k else 1, "random_norm": 4 if k else 1}
            for selection, draws in kinds.items():
                cost = {"top": (1 + t) * (3 - m) / 4, "bottom": 0.02}.get(selection, 0.1) * np.log1p(k)
                for draw in range(draws):
                    value = -0.5 - cost + (0.1 * rng.normal() if "random" in selection and k else 0)
                    right = 1 / (1 + cost)
                    rows.append((method, task, selection, draw, k, value, value - 0.2, value + 0.15,
                                 right, right * 0.9, min(1, right * 1.1), 40))  # fmt: skip
    names = ["method", "task", "selection", "draw", "k", "score", "score_low", "score_high",
             "accuracy", "accuracy_low", "accuracy_high", "n_items"]  # fmt: skip
    return pl.DataFrame(rows, schema=names, orient="row")


def _kept() -> pl.DataFrame:
    """Faithfulness rises to 1, faster by the earlier methods; the fourth task has none (`_cpr` says so)."""
    rng, rows, sizes = np.random.default_rng(5), [], [0, 1, 2, 5, 24, 48]
    for (m, method), (t, task) in ((a, b) for a in enumerate([*METHODS, "random"]) for b in enumerate(TASKS)):
        rankings = {"random": 4} if method == "random" else {"signed": 1, "absolute": 1}
        for ranking, draws in rankings.items():
            for draw in range(draws):
                for k in sizes:
                    inner = 0 < k < 48
                    value = (k / 48) ** ((1 + m) / 4) + inner * (0.1 * rng.normal() - 0.1 * (ranking == "absolute"))
                    ends = (value - 0.1 * inner, value + 0.05 * inner)
                    rows.append((method, task, ranking, draw, k, *((value, *ends) if t != 3 else (None,) * 3)))
    names = ["method", "task", "ranking", "draw", "k", "faithfulness", "faithfulness_low", "faithfulness_high"]
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def _cpr() -> pl.DataFrame:
    rows = [
        (method, task, "mean", None if t == 3 else 0.8)
        for method in [*METHODS, "random"]
        for t, task in enumerate(TASKS)
    ]
    return pl.DataFrame(rows, schema=["method", "task", "baseline", "cpr"], orient="row", infer_schema_length=None)


def _profile(layers: int) -> pl.DataFrame:
    rng, parts = np.random.default_rng(layers), []
    for method in METHODS:
        for task in TASKS:
            share = rng.dirichlet(np.ones(layers))
            parts.append(pl.DataFrame({
                "method": method, "task": task, "layer": range(layers), "share": share,
                "ci_low": share - 0.03, "ci_high": share + 0.03, "significant": 1,
            }))  # fmt: skip
    return pl.concat(parts)


def _summary(model: str, heads: int) -> pl.DataFrame:
    rng, rows = np.random.default_rng(heads), []
    for method in METHODS:
        for task in TASKS:
            centre, top = 1 + 3 * rng.random(), 0.2 + 0.4 * rng.random()
            rows.append({
                "model": model, "method": method, "task": task, "heads": heads, "layer_centre": centre,
                "layer_centre_low": centre - 0.4, "layer_centre_high": centre + 0.3, "top_5_percent": top,
                "top_5_percent_low": top - 0.1, "top_5_percent_high": top + 0.1,
            })  # fmt: skip
    return pl.DataFrame(rows)


def _dissociation() -> pl.DataFrame:
    """Own loss 2.0 down to 1.3, 0 elsewhere but -0.5 of the first on the last task; not symmetric."""
    rows = []
    for i, source in enumerate(TASKS):
        for j, target in enumerate(TASKS):
            value = 2 - i / 10 if i == j else -0.5 if (i, j) == (0, 7) else 0.01 * i
            wide = 0.1 if i == j or (i, j) == (0, 7) else 0.3
            rows.append((source, target, 4, value, value - wide, value + wide))
    return pl.DataFrame(rows, schema=["source_task", "target_task", "k", "effect", "ci_low", "ci_high"], orient="row")


def _agreement() -> pl.DataFrame:
    rng, rows = np.random.default_rng(3), []
    for i, task in enumerate(TASKS):
        for a, b in combinations(METHODS, 2):
            rows.append(
                (task, a, b, rng.random(), 0.2 * rng.integers(6), 5, 0.001 if i == 0 else 0.02, i / 10, 1 + 6 * i)
            )
    names = ["task", "method_a", "method_b", "rank_correlation", "overlap", "k", "p_value", "same_sign", "hottest_rank"]
    return with_adjusted(pl.DataFrame(rows, schema=names, orient="row"), ["method_a", "method_b"])


def _overlap() -> pl.DataFrame:
    """The first and the sixth task are very similar, the others slightly."""
    rng, rows = np.random.default_rng(4), []
    for (i, a), (j, b) in combinations(enumerate(TASKS), 2):
        twins = (i, j) == (0, 5)
        value = 0.8 if twins else rng.uniform(-0.2, 0.3)
        rows.append((a, b, value, rng.random(), 5, 0.001 if twins else 0.01))
    names = ["task_a", "task_b", "rank_correlation", "jaccard", "k", "p_value"]
    return with_adjusted(pl.DataFrame(rows, schema=names, orient="row"), ["k"])  # one family


def _reliability() -> pl.DataFrame:
    known = {TASKS[0]: (0.91, 0.85, 0.95), TASKS[1]: (-0.2, -0.4, 0.1), TASKS[2]: (None, None, None)}
    rows = [("ablation", task, *known.get(task, (0.8, 0.7, 0.9))) for task in TASKS]
    return pl.DataFrame(rows, schema=["method", "task", "reliability", "ci_low", "ci_high"], orient="row")


def _same_answer() -> pl.DataFrame:
    """Five heads a task: the hottest near the horizontal line, the second near the diagonal, three near 0."""
    places = [(1.0, 0.05, "answer"), (0.6, 0.7, "question"), (0.1, -0.1, None), (-0.2, 0.0, None), (0.02, 0.01, None)]
    rows = []
    for t, task in enumerate(TASKS):
        for i, (across, upward, carries) in enumerate(places):
            x, y = (value * (1 + t / 10) for value in (across, upward))
            wide = (0.2, 0.1) if i < 4 else (None, None)
            ends = [end and value + sign * end for value, end in ((x, wide[0]), (y, wide[1])) for sign in (-1, 1)]
            rows.append((task, i + 1, i, 7 - i, x, *ends[:2], y, *ends[2:], 0.001 if carries else None, carries))
    names = ["task", "rank", "layer", "head", "counterfactual", "counterfactual_low", "counterfactual_high",
             "same_answer", "same_answer_low", "same_answer_high", "p_adjusted", "carries"]  # fmt: skip
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def _head_groups() -> pl.DataFrame:
    """Four groups a task: one far above the diagonal, one below, two on it."""
    places = [(1.0, 1.8, 0.001), (0.9, 0.4, 0.01), (0.1, 0.12, 0.6), (-0.2, -0.2, 0.9)]
    rows = []
    for t, task in enumerate(TASKS):
        for i, (x, y, q) in enumerate(places):
            x, y = x * (1 + t / 10), y * (1 + t / 10)
            wide = [value + end for value in (x, y, y - x) for end in (-0.1, 0.1)]
            rows.append((task, i, i % 2, 4 * (i % 2), 4 * (i % 2) + 3, x, *wide[:2], y, *wide[2:4], y - x, q))
    names = ["task", "layer", "group", "first_head", "last_head", "sum", "sum_low", "sum_high", "effect", "effect_low",
             "effect_high", "difference", "q_value"]  # fmt: skip
    return pl.DataFrame(rows, schema=names, orient="row")


def _head_changes() -> pl.DataFrame:
    """Heads of `make_table` beside another run; the second head of each layer has changed significantly."""
    table = make_table(6, 8)
    changed = pl.col("head") == 1
    return table.select(
        "method", "task", "layer", "head", "effect", compared_to=pl.lit("base"), other=pl.col("effect") / 2,
        difference=pl.col("effect") / 2, ci_low=pl.col("effect") / 2 - 0.1, ci_high=pl.col("effect") / 2 + 0.1,
        q_value=pl.when(changed).then(0.01).otherwise(0.6), change=pl.when(changed).then(pl.lit("stronger")),
    )  # fmt: skip


def _every(table: pl.DataFrame) -> pl.DataFrame:
    """The same for each method."""
    return pl.concat([table.select(pl.lit(method).alias("method"), pl.all()) for method in METHODS])


PARTS = {"dissociation": _dissociation(), "overlap": _overlap()}
_MERIT = pl.DataFrame({"dominance": [1.234], "ci_low": [1.1], "ci_high": [1.35], "p_value": [0.0005]})
TABLES = {
    "knock-out": _knock_out(),
    "sufficiency": _kept(),
    "CPR": _cpr(),
    "layer profile": _profile(6),
    "summary": _summary("demo", 48),
    "dissociation": _every(PARTS["dissociation"]),
    "dominance": _every(_MERIT),
    "task overlap": _every(PARTS["overlap"]),
    "agreement": _agreement(),
    "importance": make_table(6, 8),
    "reliability": _reliability(),
    "capability": capability(failed=TASKS[3:4]),
    "same-answer": _same_answer(),
    "head-groups": _head_groups(),
    "head-changes": _head_changes(),
}


def tables_of(figure: str) -> list[pl.DataFrame]:
    """The tables of a figure, in its order."""
    if figure.startswith("comparison"):
        of = {"summary": _summary("other", 144), "layer profile": _profile(12), "dominance": TABLES["dominance"]}
        return [table for kind in of for table in (TABLES[kind], of[kind])]
    kinds = {
        "knock-out": ["knock-out"],
        "knock-out-accuracy": ["knock-out"],
        "sufficiency": ["sufficiency", "CPR"],
        "sufficiency-linear": ["sufficiency", "CPR"],
        "layer-profile": ["layer profile", "summary"],
        "dissociation": ["dissociation", "dominance"],
        "task-overlap": ["task overlap"],
        "agreement": ["agreement", "summary"],
        "same-answer": ["same-answer"],
        "head-groups": ["head-groups"],
        "changes": ["head-changes"],
        "annotated-grid": ["importance", "capability", "reliability"],
    }
    return [TABLES[kind] for kind in kinds[figure.partition(".")[0]]]


def wanted(figure: str, methods=METHODS, tasks=TASKS, **figures) -> dict:
    """Settings of the tool."""
    named = {"models": ["demo", "other"]} if figure.startswith("comparison") else {"model": "demo"}
    return {"figure": figure, "methods": list(methods), "tasks": list(tasks), "confidence": 0.95, "metric": "log_prob",
            "figures": PLAIN | figures} | named  # fmt: skip


# What a figure is drawn with in the tests of its layout: name -> figure, settings.
_PLAIN = [
    "knock-out", "knock-out-accuracy", "sufficiency", "sufficiency-linear", "layer-profile", "dissociation.ablation",
    "task-overlap.probe", "agreement", "annotated-grid.ablation", "same-answer", "head-groups", "changes.ablation",
    "comparison.ablation",
]  # fmt: skip
_LARGE = {"font_size": 13, "title_size": 17, "title": "Heads of {model}"}
DRAWINGS = {figure: (figure, {}) for figure in _PLAIN} | {
    f"{figure}, {name}": (figure, settings)
    for figure in _PLAIN
    if figure not in ("knock-out-accuracy", "sufficiency-linear")
    for name, settings in {
        "large": _LARGE,
        "titled": {"titles": True},
        "few": {"tasks": TASKS[:3], "columns": 2, "scale": "panel", "tick_labels": "all"},
    }.items()
}
