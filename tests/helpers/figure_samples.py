"""Importance tables made up for the tests of figures, and how to draw them."""

import numpy as np
import polars as pl
import vl_convert
from figure_reader import Picture
from headatlas.charts import head_maps
from headatlas.config.schema import fill_defaults, load_schema
from headatlas.workflow.settings import RENDER_ONLY

TITLES = [
    "Knowledge Recall", "Retrieval", "Logical Reasoning", "Decision-making",
    "Semantic Understanding", "Syntactic Understanding", "Inference", "Math Calculation",
]  # fmt: skip
# What the tests of single marks read: the defaults, but nothing is written over the figure.
PLAIN = fill_defaults(load_schema()["properties"]["figures"], {"titles": False})
PLAIN = {key: value for key, value in PLAIN.items() if key not in RENDER_ONLY}
TASKS = [title.lower().replace(" ", "_").replace("-", "_") for title in TITLES]


def make_table(layers, heads, tasks=TASKS, method="ablation", seed=0):
    """An importance table with sparse hot spots, some of them harmful; q is 0.01 for these, else 0.5."""
    random = np.random.default_rng(seed)
    parts = []
    for task in tasks:
        size = layers * heads
        hot = random.random(size) < 0.1
        effect = random.normal(0, 0.001, size) + hot * random.gamma(2, 0.02, size) * random.choice([1, 1, -1], size)
        importance = np.abs(effect) / np.abs(effect).sum()
        rank = np.empty(size, dtype=int)
        rank[np.argsort(-importance, kind="stable")] = np.arange(1, size + 1)
        parts.append(
            pl.DataFrame(
                {
                    "method": method,
                    "task": task,
                    "layer": np.repeat(np.arange(layers, dtype=np.int32), heads),
                    "head": np.tile(np.arange(heads, dtype=np.int32), layers),
                    "importance": importance,
                    "effect": effect,
                    "ci_low": effect - 0.01,
                    "ci_high": effect + 0.01,
                    "rank": rank,
                    "q_value": np.where(hot, 0.01, 0.5),
                }
            )
        )
    return pl.concat(parts)


def settings(tasks=TASKS, figure="heatmap-grid", method="ablation", **figures):
    return {"figure": figure, "method": method, "model": "demo", "tasks": list(tasks), "figures": PLAIN | figures}


def with_cell(table, task, layer, head, **values):
    """The table with some values of one cell replaced."""
    here = (pl.col("task") == task) & (pl.col("layer") == layer) & (pl.col("head") == head)
    return table.with_columns(
        pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def drawing(spec):
    return Picture(vl_convert.vegalite_to_svg(spec, vl_version="6.4"))


def picture(table, wanted, capability=None):
    return drawing(head_maps.draw(table, wanted, capability))


def capability(tasks=TASKS, failed=()):
    """A capability table: half of 40 questions right, of `failed` none."""
    rows = [
        {"task": task, "n_questions": 40, "n_items": 40, "exact_match": 0.0 if task in failed else 0.5, "chance": 0.1}
        | {"exact_match_low": 0.0 if task in failed else 0.35, "exact_match_high": 0.09 if task in failed else 0.65}
        | {"log_prob": -1.5, "log_prob_low": -2.25, "log_prob_high": -1.0, "capable": task not in failed}
        for task in tasks
    ]
    return pl.DataFrame(rows)
