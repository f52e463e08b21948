"""Attention files: what each head attends to from the answer positions of some items; numpy and safetensors only.

There is one file per task. A row is an item's answer position: all rows of the first item, then those of the second,
and so on. Of its weights only those of at least `FLOOR` are kept, in steps of 1 / `FULL`. Metadata: a single JSON entry
`about` with `items`, for each its `tokens` (texts), `start` (index of the first token of the answer) and `rows` (0 for
an item that is too long). Tensors: `counts` uint16 [layer, head, row], the number of weights kept; `positions` uint16
and `weights` uint8, in order of layer, head, row and position.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic

FLOOR = 0.01  # a row has at most a hundred such weights, however long its item is
FULL = 255  # what a weight of 1 is stored as
MOST_ROWS = 8  # of an item: its first answer positions
LONGEST = 2048  # tokens of an item; a longer one has no rows
_TYPES = {"counts": np.uint16, "positions": np.uint16, "weights": np.uint8}


class Attention(NamedTuple):
    """The content of a file; `items` are dicts."""

    counts: np.ndarray
    positions: np.ndarray
    weights: np.ndarray
    items: list[dict]

    def of_items(self, kept: Sequence[int]) -> "Attention":
        """The same with only some of the items, in their order."""
        rows = np.array([item["rows"] for item in self.items])
        chosen = np.repeat(np.isin(np.arange(len(rows)), kept), rows)
        entries = np.repeat(np.broadcast_to(chosen, self.counts.shape).ravel(), self.counts.ravel())
        items = [self.items[index] for index in kept]
        return Attention(self.counts[..., chosen], self.positions[entries], self.weights[entries], items)

    def of_head(self, layer: int, head: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One head's counts [row], positions and weights."""
        sums = self.counts.sum(-1, dtype=np.int64)
        end = int(sums.ravel()[: layer * sums.shape[1] + head + 1].sum())
        entries = slice(end - int(sums[layer, head]), end)
        return self.counts[layer, head], self.positions[entries], self.weights[entries]


def rows_of(item: dict) -> int:
    """Number of rows of a tokenised item."""
    length = len(item["prompt_ids"]) + len(item["answer_ids"])
    return min(len(item["answer_ids"]), MOST_ROWS) if length <= LONGEST else 0


def write_attention(path: Path, attention: Attention) -> None:
    """Write the file, atomically."""
    tensors = {name: np.ascontiguousarray(getattr(attention, name), dtype=kind) for name, kind in _TYPES.items()}
    with atomic(path) as draft:
        save_file(tensors, draft, metadata={"about": json.dumps({"items": attention.items})})


def read_attention(path: Path) -> Attention:
    """Read the file.

    Raises:
        HeadAtlasError: it is not an attention file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            items = json.loads(file.metadata()["about"])["items"]
            return Attention(**{name: file.get_tensor(name) for name in _TYPES}, items=items)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise HeadAtlasError(f"{path}: not a file of attention weights ({error}); delete it and run again") from error
