"""Rebuild the built-in demo: the eight task files and the model trained to solve them.

Writes `{task}.jsonl` into the folder `--tasks` and a model folder `--model`. The seed is fixed in the recipe;
`--recipe` takes JSON that overrides settings of `headatlas.demo.training.Recipe`; `--parts` is `all`, `tasks`
or `model`. Training takes about a quarter of an hour on one thread.
"""

import time
from pathlib import Path

from headatlas.demo import languages
from headatlas.errors import HeadAtlasError
from headatlas.jobs import cli


def main(tasks: Path, model: Path, recipe: dict = {}, parts: str = "all") -> None:  # noqa: B006 (never changed)
    if parts not in ("all", "tasks", "model"):
        raise HeadAtlasError(f"--parts {parts}: must be all, tasks or model")
    if parts != "model":
        languages.write_tasks(tasks)
    if parts != "tasks":
        build_model(model, recipe)


def build_model(folder: Path, settings: dict) -> None:
    import torch
    from headatlas.demo import training

    torch.set_num_threads(1)
    recipe = training.read_recipe(settings)
    start = time.monotonic()
    trained, _ = training.train(recipe, report=cli.log.info)
    accuracy = training.accuracy_per_task(trained)
    for task, share in accuracy.items():
        cli.log.info(f"{task}: {share:.1%} exact match")
    card = training.model_card(recipe, time.monotonic() - start, accuracy, trained.num_parameters())
    training.save(trained, folder, card)


if __name__ == "__main__":
    cli.run(main)
