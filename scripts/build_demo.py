"""Rebuild the built-in demo: the eight task files and the model trained to solve them.

Writes `{task}.jsonl` into the folder `--tasks` and a model folder `--model`. The seed is fixed in the recipe;
`--recipe` takes JSON that overrides settings of `headatlas.demo_training.Recipe`; `--parts` is `all`, `tasks`
or `model`. Training takes about a quarter of an hour on one thread.
"""

import time
from pathlib import Path

from headatlas import demo, job
from headatlas.errors import HeadAtlasError


def main(tasks: Path, model: Path, recipe: dict = {}, parts: str = "all") -> None:  # noqa: B006 (never changed)
    if parts not in ("all", "tasks", "model"):
        raise HeadAtlasError(f"--parts {parts}: must be all, tasks or model")
    if parts != "model":
        demo.write_tasks(tasks)
    if parts != "tasks":
        build_model(model, recipe)


def build_model(folder: Path, settings: dict) -> None:
    import torch
    from headatlas import demo_training

    torch.set_num_threads(1)
    recipe = demo_training.read_recipe(settings)
    start = time.monotonic()
    trained, _ = demo_training.train(recipe, report=job.log.info)
    accuracy = demo_training.accuracy_per_task(trained)
    for task, share in accuracy.items():
        job.log.info(f"{task}: {share:.1%} exact match")
    card = demo_training.model_card(recipe, time.monotonic() - start, accuracy, trained.num_parameters())
    demo_training.save(trained, folder, card)


if __name__ == "__main__":
    job.run(main)
