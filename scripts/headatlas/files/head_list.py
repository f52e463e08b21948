"""Lists of heads for other programs: JSON, and beside it what the heads output on average (safetensors).

To be read, the JSON needs `{"heads": [{"layer": 0, "head": 3}, ...]}`; other keys are ignored. `{"vectors": {"file":
NAME}}` names a safetensors file in the same folder, whose `mean_all` [head of the list, d_head] float32 holds the mean
of each listed head's output over all positions. What is written follows workflow/schemas/heads.schema.json. Uses only
numpy and safetensors.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic, write_json

MEANS = ("mean_all", "mean_answer")  # over all positions, and over the answer positions


class HeadList(NamedTuple):
    """Heads as (layer, head) pairs in the order of the list, and the file of their vectors, None without one."""

    heads: list[tuple[int, int]]
    vectors: Path | None


def read_head_list(path: Path) -> HeadList:
    """Read a list of heads.

    Raises:
        HeadAtlasError: the file is not such a list.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        heads = [(entry["layer"], entry["head"]) for entry in content["heads"]]
        vectors = content.get("vectors")
        file = None if vectors is None else Path(path).parent / vectors["file"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadAtlasError(
            f"{path}: is not a list of heads ({type(error).__name__}: {error}); it needs "
            '{"heads": [{"layer": 0, "head": 0}, ...]}'
        ) from None
    for number in (number for pair in heads for number in pair):
        if not isinstance(number, int) or isinstance(number, bool):
            raise HeadAtlasError(f"{path}: layers and heads are whole numbers, but {json.dumps(number)} is not one")
    return HeadList(heads, file)


def read_vectors(listed: HeadList, path: Path) -> np.ndarray:
    """The mean outputs [head of the list, d_head] float32 of listed heads over all positions.

    Args:
        path: of the list, for messages.

    Raises:
        HeadAtlasError: the list names no such file, or the file does not hold them.
    """
    if listed.vectors is None:
        raise HeadAtlasError(f"{path}: names no vectors, which mode mean needs; add them, or set the mode to zero")
    try:
        with safe_open(listed.vectors, "np") as file:
            return file.get_tensor("mean_all")
    except (OSError, SafetensorError) as error:
        raise HeadAtlasError(f"{listed.vectors}: holds no mean_all ({error}); write it again") from None


def write_head_list(path: Path, vectors: Path, about: dict, heads: list[dict], pooled: Path) -> None:
    """Write a list of heads, and their mean outputs `mean_all` and `mean_answer` [head of the list, d_head] float32.

    Args:
        path: of the list; vectors: of the means, in the same folder.
        about: the list's other keys; heads: each with `layer` and `head`.
        pooled: what `effects.pool_baseline` wrote.
    """
    with safe_open(pooled, "np") as file:
        means = {name: file.get_tensor(name) for name in MEANS}
    rows = tuple(np.array([[head["layer"], head["head"]] for head in heads], int).reshape(-1, 2).T)
    with atomic(vectors) as draft:
        save_file({name: np.ascontiguousarray(table[rows]) for name, table in means.items()}, draft)
    write_json(path, about | {"vectors": {"file": Path(vectors).name}, "heads": heads})
