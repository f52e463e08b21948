"""The user's files that jobs read (tasks, weights, tokenizers), and digests of their content.

Imported at parse time: no torch, no polars.
"""

import json
from collections.abc import Iterable

from headatlas.errors import HeadAtlasError
from headatlas.models.folder import check_tokenizer, stored_as, tokenizer_inputs, weight_inputs
from headatlas.tasks.checks import require_checkable
from headatlas.tasks.item import Item
from headatlas.tasks.items import read_task
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.digests import digests, is_large
from headatlas.workflow.settings import canonical, settings_of


class Inputs:
    """Paths of the user's files."""

    def __init__(self, atlas: Atlas):
        self.atlas = atlas

    def source(self, task: str) -> list[str]:
        """A task's files."""
        return self.atlas.config["tasks"][task]["source"]

    def weights(self, model: str) -> list[str]:
        """Files that a job that runs the model depends on; none for a hub model, whose revision is in its settings."""
        return weight_inputs(self.atlas.models[model]["path"])

    def tokenizer(self, model: str) -> list[str]:
        """Files that `prepare_task` depends on; none for a hub model."""
        return tokenizer_inputs(self.atlas.models[model]["path"])

    def stored_as(self, model: str) -> dict[str, int] | None:
        """Number of tensors of the weights by number format or quantisation; None for a hub model."""
        return stored_as(self.atlas.models[model]["path"])

    def digests(self, model: str) -> dict[str, str]:
        """SHA-256 of each file that a model's results are made from, by its path."""
        sources = {file for task in self.atlas.tasks for file in self.source(task)}
        return digests({*sources, *self.weights(model), *self.tokenizer(model)})

    def check_tasks(self, planned: Iterable[tuple[str, str]]) -> None:
        """Read task files and tokenizers as `prepare_task` will, so that a mistake stops a run before its first job.

        Args:
            planned: (model, task) of the jobs that will read them.

        Raises:
            HeadAtlasError: the mistakes of all tasks, one per line.
        """
        mistakes = {}
        for model, task in sorted(planned):
            settings = json.loads(settings_of(self.atlas, "prepare_task", {"model": model, "task": task}))
            try:
                check_tokenizer(self.atlas.models[model])
                self._check_answers(task, read_task(settings, self.source(task)).items)
            except HeadAtlasError as error:
                mistakes[str(error)] = None
        if mistakes:
            raise HeadAtlasError("\n".join(mistakes))

    def _check_answers(self, task: str, items: Iterable[Item]) -> None:
        """Refuse references that no answer of the model can equal by the task's check, if it writes any."""
        if task in self.atlas.generated or self.atlas.writes_without_heads:
            for item in items:
                require_checkable(item.answer, self.atlas.config["tasks"][task]["check"], item.where)


def large_digests(files: Iterable[str]) -> str:
    """Digests of the input files that Snakemake would compare by timestamp."""
    return canonical(digests(file for file in files if is_large(file)))
