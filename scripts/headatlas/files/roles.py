"""The roles file: what a model's heads do, on random sequences and on each task's items; numpy and safetensors only.

There is one file per model. Metadata: a single JSON entry `about`, because safetensors writes several entries in any
order. It holds `tasks` (a list), `without_attention` (layers), `sequences` (how the random sequences were made),
`unknown` (why there are no direct effects, or null) and `texts` (of the tokens that are named, by id). Tensors:
`sequences.{score}` float32 [layer, head] for `SCORES`; `promoted` and `suppressed` int64 [layer, head, token]; for the
i-th task `{i}.{score}` float32 [item, layer, head] for `OF_ITEMS`, `{i}.question` int64 [item]. Items are those of the
score split. NaN (-1 for tokens): not known.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic

SCORES = ("previous_token", "induction", "duplicate_token", "sink", "entropy", "copying")  # on random sequences
OF_ITEMS = ("direct", "retrieval_score", "span_mass", "sink", "entropy")  # on a task's items
TOKENS = ("promoted", "suppressed")


class TaskRoles(NamedTuple):
    """One task: scores of `OF_ITEMS` by name [item, layer, head]; question [item]."""

    scores: dict[str, np.ndarray]
    question: np.ndarray


class Roles(NamedTuple):
    """What the file holds: scores [layer, head] by name, token ids [layer, head, token] by name, tasks, and `about`."""

    sequences: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]
    tasks: dict[str, TaskRoles]
    about: dict

    def with_texts(self, text: Callable[[int], str]) -> "Roles":
        """The same with the texts of all tokens it names."""
        named = sorted({int(token) for ids in self.tokens.values() for token in ids.flat if token >= 0})
        return self._replace(about=self.about | {"texts": {str(token): text(token) for token in named}})


def write_roles(path: Path, roles: Roles) -> None:
    """Write the file, atomically; `roles.about` holds `without_attention`, `sequences`, `unknown` and `texts`.

    Raises:
        HeadAtlasError: a score is infinite, or unknown for some heads of layers with attention only.
    """
    _check(path, roles)
    tensors = {f"sequences.{name}": roles.sequences[name].astype(np.float32) for name in SCORES}
    tensors |= {name: roles.tokens[name].astype(np.int64) for name in TOKENS}
    for index, task in enumerate(roles.tasks.values()):
        tensors |= {f"{index}.{name}": task.scores[name].astype(np.float32) for name in OF_ITEMS}
        tensors[f"{index}.question"] = task.question.astype(np.int64)
    about = roles.about | {"tasks": list(roles.tasks)}
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    with atomic(path) as draft:
        save_file(tensors, draft, metadata={"about": json.dumps(about)})


def read_roles(path: Path) -> Roles:
    """Read the file: tasks in the order of writing.

    Raises:
        HeadAtlasError: not a roles file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["about"])
            tasks = {
                task: TaskRoles(
                    {name: file.get_tensor(f"{index}.{name}") for name in OF_ITEMS},
                    file.get_tensor(f"{index}.question"),
                )
                for index, task in enumerate(about["tasks"])
            }
            sequences = {name: file.get_tensor(f"sequences.{name}") for name in SCORES}
            return Roles(sequences, {name: file.get_tensor(name) for name in TOKENS}, tasks, about)
    except (SafetensorError, KeyError, TypeError) as error:
        raise HeadAtlasError(f"{path}: not a file of roles ({error}); delete it and run again") from error


def _check(path: Path, roles: Roles) -> None:
    """Refuse infinite scores, and NaN for some of the heads that exist."""
    present = ~np.isin(np.arange(roles.sequences["sink"].shape[0]), roles.about["without_attention"])
    named = [(f"{name} on random sequences", values[present]) for name, values in roles.sequences.items()]
    for task, found in roles.tasks.items():
        named += [(f"{name} on {task}", values[:, present]) for name, values in found.scores.items()]
    for what, values in named:
        # Of an item, a score is known for all heads or for none.
        of_items = values.reshape(-1, present.sum() * values.shape[-1])
        unknown = np.isnan(of_items)
        if np.isinf(of_items).any() or (unknown.any(1) != unknown.all(1)).any():
            raise HeadAtlasError(f"{path}: the scores of {what} are not finite; set the model's dtype to float32")
