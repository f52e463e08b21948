"""The user's files that jobs read (tasks, weights, tokenizers), and what stands for their content.

Imported at parse time: no torch, no polars.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.models.folder import check_tokenizer, is_local, weight_files
from headatlas.tasks.items import read_task
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.digests import digests, is_large
from headatlas.workflow.settings import canonical, settings_of

TOKENIZER = ("*.json", "*.model", "*.txt", "*.jinja")
NOT_TOKENIZER = {"config.json", "generation_config.json", "model.safetensors.index.json"}


class Inputs:
    """Where the files are that the user brings."""

    def __init__(self, atlas: Atlas):
        self.atlas = atlas

    def source(self, task: str) -> list[str]:
        """A task's files."""
        return self.atlas.config["tasks"][task]["source"]

    def weights(self, model: str) -> list[str]:
        """Files a job that runs the model depends on; none for a hub model, whose revision is in its settings."""
        folder = self._folder(model)
        return sorted({str(folder / "config.json"), *map(str, weight_files(folder))}) if folder else []

    def tokenizer(self, model: str) -> list[str]:
        """Files that `prepare_task` depends on; none for a hub model."""
        folder = self._folder(model)
        found = {file for pattern in TOKENIZER for file in folder.glob(pattern)} if folder else ()
        return sorted(str(file) for file in found if file.name not in NOT_TOKENIZER)

    def _folder(self, model: str) -> Path | None:
        path = self.atlas.models[model]["path"]
        return Path(path) if is_local(path) else None

    def digests(self, model: str) -> dict[str, str]:
        """SHA-256 of each file that a model's results are made from, by its path."""
        sources = {file for task in self.atlas.tasks for file in self.source(task)}
        return digests({*sources, *self.weights(model), *self.tokenizer(model)})

    def check_tasks(self, planned: Iterable[tuple[str, str]]) -> None:
        """Read the tasks' files and tokenizers, as `prepare_task` will: a mistake stops a run before a job has begun.

        Args:
            planned: (model, task) of the jobs that will read them.

        Raises:
            HeadAtlasError: the mistakes of all tasks, a line each.
        """
        mistakes = {}
        for model, task in sorted(planned):
            settings = json.loads(settings_of(self.atlas, "prepare_task", {"model": model, "task": task}))
            try:
                check_tokenizer(self.atlas.models[model])
                read_task(settings, self.source(task))
            except HeadAtlasError as error:
                mistakes[str(error)] = None
        if mistakes:
            raise HeadAtlasError("\n".join(mistakes))


def large_digests(files: Iterable[str]) -> str:
    """What stands for the content of those input files that Snakemake would compare by their times."""
    return canonical(digests(file for file in files if is_large(file)))
