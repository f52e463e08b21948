"""What a model is compared with head by head: another model of the config, or one in the results of another run.

Imported at parse time: no torch, no polars.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.workflow import manifest
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.files import Files


@dataclass(frozen=True)
class Other:
    """The other run's folder of this model, and paths in it: items by task, effects files by method and {task}."""

    folder: str
    items: dict[str, str]
    effects: dict[str, list[str]]

    def inputs(self) -> list[str]:
        """All its effects files."""
        return [
            f"{self.folder}/effects/{method}/{name.format(task=task)}"
            for method, names in self.effects.items()
            for task in self.items
            for name in names
        ]


@cache  # a plan asks for it with every figure and setting
def compared_with(atlas: Atlas, model: str) -> Other | None:
    """What the config compares a model with, on the tasks and methods that both have; None if with nothing.

    Raises:
        HeadAtlasError: a folder that holds no results, or none to compare.
    """
    other = atlas.models[model]["compare_to"]
    if not atlas.compares_heads(model):
        return None
    if not atlas.matchable:
        raise HeadAtlasError(f"models.{model}.compare_to: needs effects of single items; add ablation to methods")
    if other in atlas.models:
        _check_shapes(atlas, model, other)
        files = Files(atlas)
        items = {task: files.items.format(model=other, task=task) for task in atlas.tasks}
        return Other(f"results/{other}", items, files.effect_names(other, atlas.matchable))
    return _in_folder(atlas, model, other)


def _in_folder(atlas: Atlas, model: str, folder: str) -> Other:
    at = f"models.{model}.compare_to: {folder}"
    own = {os.path.abspath(f"results/{name}"): name for name in atlas.models}
    if name := own.get(os.path.abspath(folder)):
        raise HeadAtlasError(f"{at} is made by this config; give the model's key '{name}' instead")
    known = manifest.read(Path(folder))
    if known is None:
        raise HeadAtlasError(
            f"{at} is neither a model of this config nor a folder of results; give a key under models, or a folder "
            "such as other-run/results/NAME"
        )
    kept = (name for name in known.current if name.startswith(("balanced/", "items/", "effects/")))
    made = [name for name in kept if Path(folder, name).is_file()]
    _check_metric(atlas, folder, at)
    items = {task: path for task in atlas.tasks if (path := _items(made, task))}
    names = {method: [_effects(made, method, task) for task in items] for method in atlas.matchable}
    effects = {method: of_tasks[0] for method, of_tasks in names.items() if of_tasks and all(of_tasks)}
    if not effects:
        raise HeadAtlasError(f"{at} holds no map of the same method and task as this config makes; remove compare_to")
    return Other(folder, {task: f"{folder}/{path}" for task, path in items.items()}, effects)


def _check_shapes(atlas: Atlas, model: str, other: str) -> None:
    shapes = [(atlas.geometry[name].n_layers, atlas.geometry[name].n_heads) for name in (model, other)]
    if shapes[0] != shapes[1]:
        sizes = [f"{layers} layers of {heads} heads" for layers, heads in shapes]
        raise HeadAtlasError(
            f"models.{model}.compare_to: '{other}' has {sizes[1]}, '{model}' {sizes[0]}, so their heads do not "
            "correspond; remove it (evidence compares models of different sizes by depth)"
        )


def _items(made: list[str], task: str) -> str | None:
    return next((path for path in (f"balanced/{task}.json", f"items/{task}.json") if path in made), None)


def _effects(made: list[str], method: str, task: str) -> list[str]:
    """Names of the files of one map, with {task} instead of its name."""
    start = f"effects/{method}/"
    names = (name.removeprefix(start) for name in made if name.startswith(start))
    return sorted(f"{{task}}{name.removeprefix(task)}" for name in names if name.startswith(f"{task}."))


def _check_metric(atlas: Atlas, folder: str, at: str) -> None:
    path = os.path.join(folder, "provenance.json")
    try:
        with open(path, encoding="utf-8") as file:
            metric = json.load(file)["config"]["metric"]
    except (OSError, ValueError, KeyError, TypeError):
        raise HeadAtlasError(f"{at}: {path} does not say what was measured; finish that run first") from None
    if metric != atlas.config["metric"]:
        raise HeadAtlasError(f"{at} has effects by metric: {metric}, this config by {atlas.config['metric']}")
