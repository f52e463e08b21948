"""The patches file: results of patching single heads from other prompts, item by item; numpy and safetensors only.

There is one file per model. Metadata: a single JSON entry `about`, because safetensors writes several entries in any
order. It holds `tasks` (a list), `heads` (by task: [[layer, head], ...], hottest first) and `engine` (by task and kind:
`engine.Report.as_dict`). For the i-th task: `{i}.counterfactual` and `{i}.same_answer` float32 [head, item] (loss of
the answer's score in nats when the head is patched from that prompt), `{i}.question` int64 [item]. Items are those of
the validate split.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic

KINDS = ("counterfactual", "same_answer")  # the prompts from which heads are patched
_TYPES = dict.fromkeys(KINDS, np.float32) | {"question": np.int64}


class Patched(NamedTuple):
    """One task: heads [[layer, head], ...], hottest first; effects [head, item] by kind; question [item].

    `engine`: how the effects were computed, by kind.
    """

    heads: list[list[int]]
    counterfactual: np.ndarray
    same_answer: np.ndarray
    question: np.ndarray
    engine: dict[str, dict]


def write_patches(path: Path, tasks: dict[str, Patched]) -> None:
    """Write the file, atomically.

    Raises:
        HeadAtlasError: an effect is not finite.
    """
    tensors = {}
    for index, (task, patched) in enumerate(tasks.items()):
        for name, kind in _TYPES.items():
            tensors[f"{index}.{name}"] = np.ascontiguousarray(getattr(patched, name), dtype=kind)
        if not all(np.isfinite(getattr(patched, kind)).all() for kind in KINDS):
            raise HeadAtlasError(f"{path}: effects on {task} are not finite; set the model's dtype to float32")
    about = {"tasks": list(tasks)}
    for field in ("heads", "engine"):
        about[field] = {task: getattr(patched, field) for task, patched in tasks.items()}
    with atomic(path) as draft:
        save_file(tensors, draft, metadata={"about": json.dumps(about)})


def read_patches(path: Path) -> dict[str, Patched]:
    """Read the file: tasks in the order of writing.

    Raises:
        HeadAtlasError: not a patches file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["about"])
            return {
                task: Patched(
                    heads=about["heads"][task],
                    **{name: file.get_tensor(f"{index}.{name}") for name in _TYPES},
                    engine=about["engine"][task],
                )
                for index, task in enumerate(about["tasks"])
            }
    except (SafetensorError, KeyError, TypeError) as error:
        raise HeadAtlasError(f"{path}: not a file of patches ({error}); delete it and run again") from error
