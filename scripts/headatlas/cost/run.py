"""Plans every model of a config: reads the task files and tokenizers, runs no model and downloads nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import yaml
from huggingface_hub import try_to_load_from_cache

from headatlas.config.check import check_config_file, load_config
from headatlas.cost.plan import Plan
from headatlas.cost.speed import Speed, assumed_gpu, given, probe_cpu
from headatlas.errors import HeadAtlasError
from headatlas.models.folder import is_local, read_model_config
from headatlas.models.memory import sizes
from headatlas.tasks.generated import with_room
from headatlas.tasks.items import balance
from headatlas.tasks.prepare import prepare_items
from headatlas.tasks.tokens import load_tokeniser
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.inputs import Inputs
from headatlas.workflow.resources import Requests
from headatlas.workflow.settings import settings_of


def plans(file: Path, base: Path, here: bool, cores: int, flops: float | None = None) -> Iterator[Plan]:
    """The plan of each model.

    Args:
        file: the config; base: the folder of this repository.
        here: whether jobs run on this machine; cores: that they share; flops: operations per second of a job, None to
            measure or assume them.

    Raises:
        HeadAtlasError: mistakes in the config, the task files or the models; a hub model that is not in the cache.
    """
    check_config_file(file)
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    for entry in load_config(content, base)["models"].values():
        check_cached(entry)
    atlas = Atlas(content, base)
    asks = Requests(atlas, here, cores)
    for model in atlas.models:
        yield Plan(atlas, asks, model, items_of(atlas, model), speed_of(asks, model, flops))


def check_cached(entry: dict) -> None:
    """Refuse a hub model whose config.json is not in the cache, because a plan downloads nothing.

    Args:
        entry: of `models` in the config.
    """
    path, revision = entry["path"], entry["revision"]
    if is_local(path) or isinstance(try_to_load_from_cache(path, "config.json", revision=revision), str):
        return
    at = f" --revision {revision}" if revision else ""
    raise HeadAtlasError(
        f"{path}: is not in the cache of the Hugging Face hub, and a plan downloads nothing; get its small files "
        f"first: hf download {path}{at} --include '*.json' '*.model' '*.txt'"
    )


def items_of(atlas: Atlas, model: str) -> dict[str, dict]:
    """The content of each task's items file, as `prepare_task` and `balance_tasks` would write it.

    Answers that the model will write itself are as long as there is room for.
    """
    contents = {}
    for task in atlas.tasks:
        settings = json.loads(settings_of(atlas, "prepare_task", {"model": model, "task": task}))
        load_tokeniser.prepare(settings["tokenizer"])  # once for all tasks
        contents[task] = content = prepare_items(settings, Inputs(atlas).source(task))
        if task in atlas.generated:
            room = with_room(content["items"], atlas.config["generation"]["max_tokens"], settings["max_tokens"])
            content["items"] = [item | other for item, other in zip(content["items"], room, strict=True)]
    if atlas.config["items"]["balance"]:
        return dict(zip(contents, balance(list(contents.values())), strict=True))
    return contents


def speed_of(asks: Requests, model: str, flops: float | None) -> Speed:
    """The speed of a job that runs the model: as given, measured on the CPU, assumed for a GPU."""
    entry = asks.atlas.models[model]
    if flops is not None:
        return given(flops, entry["dtype"], asks.on_gpu(model))
    if asks.on_gpu(model):
        return assumed_gpu(entry["dtype"])
    found = sizes(read_model_config(entry))
    hidden = found["hidden"] or 1024
    return probe_cpu(hidden, found["between"] or 4 * hidden, asks.atlas.config["compute"]["threads"])
