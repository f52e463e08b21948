"""What the page knows before a head is chosen: the model, its tasks, and the methods in words."""

from collections.abc import Mapping, Sequence

import polars as pl

from headatlas.charts.labels import METHOD_WORDS, sign_words, unit_of
from headatlas.metric import METRICS
from headatlas.page.javascript import plain
from headatlas.page.maps import layers_without_attention, shape_of


def overview(settings: Mapping, importance: pl.DataFrame, capability: pl.DataFrame, example_method: str | None) -> dict:
    """The content of `atlas.js`.

    Args:
        settings: `model` (its name), `groups` (key-value heads of a layer), `metric`, `confidence`, `tasks`, `methods`
            (by name, their settings); importance, capability: the tables.
        example_method: by which the examples of heads are chosen.
    """
    layers, heads = shape_of(importance)
    metric = METRICS[settings["metric"]]
    done = {row["task"]: plain(row) for row in capability.iter_rows(named=True)}
    return {
        "model": settings["model"],
        "layers": layers,
        "heads": heads,
        "groups": settings["groups"],
        "without_attention": layers_without_attention(importance),
        "metric": {"name": metric.short, "unit": metric.unit, "accuracy": metric.accuracy, "chance": metric.chance},
        "confidence": settings["confidence"],
        "tasks": {task: done[task] | _counts(importance, task) for task in settings["tasks"]},
        "methods": {name: _method(name, given, settings["metric"]) for name, given in settings["methods"].items()},
        "example_method": example_method,
    }


def example_method(methods: Sequence[str]) -> str | None:
    """The method by which the examples of heads are chosen, of those whose effects are those of items: the first."""
    return next(iter(methods), None)


def _counts(importance: pl.DataFrame, task: str) -> dict[str, int]:
    """Items and questions behind the maps of a task; the most of any method."""
    of_task = importance.filter(pl.col("task") == task)
    return {f"map_{name}": int(of_task[f"n_{name}"].max()) for name in ("items", "questions")}


def _method(name: str, given: Mapping, metric: str) -> dict:
    kept = {key: given[key] for key in ("baseline", "positions") if key in given}
    return kept | {"words": METHOD_WORDS[name], "unit": unit_of(name, metric), "signs": sign_words(name)}
