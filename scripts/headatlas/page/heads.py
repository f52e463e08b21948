"""What the page shows of a single head: its effects item by item, and the items that it helps and hurts most."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from headatlas.files.attention import Attention
from headatlas.page.javascript import packed, plain

ANY = ""  # in place of a task's name: see `_by_head`
Maps = Mapping[str, np.ndarray]  # by task: effects [item, layer, head], the items that the page shows


@dataclass(frozen=True)
class Heads:
    """Everything behind the files of heads.

    Attributes:
        effects: by method whose effects are those of items, by task.
        method: the one by which examples are chosen; None if no method has effects of items.
        examples: number of items that a head helps most, and of those that it hurts most.
        attention: by task, the attention on the items that the page shows.
        tables: by name, tables with the columns layer, `head` or `first_head` and `last_head`, and mostly task.
    """

    effects: Mapping[str, Maps]
    method: str | None
    examples: int
    attention: Mapping[str, Attention] = field(default_factory=dict)
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def each(self, layers: int, heads: int) -> Iterator[tuple[str, dict]]:
        """Yield the name (`L0H3`) and the content of the file of every head."""
        chosen = {} if self.method is None else self.effects[self.method]
        order = {task: extremes(effect, self.examples) for task, effect in chosen.items()}
        rows = {name: _by_head(table) for name, table in self.tables.items()}
        for layer in range(layers):
            for head in range(heads):
                yield (
                    f"L{layer}H{head}",
                    {
                        "effects": {method: _strips(maps, layer, head) for method, maps in self.effects.items()},
                        "examples": {task: _examples(found, layer, head) for task, found in order.items()},
                        "attention": {task: _attention(kept, layer, head) for task, kept in self.attention.items()},
                        **{name: found.get((layer, head), {}) for name, found in rows.items()},
                    },
                )


def extremes(effect: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The items that each head helps and hurts most, and nothing that it does not help or hurt at all.

    Args:
        effect: [item, layer, head]; NaN where it was not measured.

    Returns:
        two arrays [rank, layer, head] of at most `most` ranks: the index of the item, -1 where there is none.
    """
    return _largest(effect, most), _largest(-effect, most)


def _largest(effect: np.ndarray, most: int) -> np.ndarray:
    order = np.argsort(-effect, axis=0, kind="stable")[:most]  # NaN comes last
    return np.where(np.take_along_axis(effect, order, axis=0) > 0, order, -1)


def _strips(maps: Maps, layer: int, head: int) -> dict[str, str]:
    return {task: packed(effect[:, layer, head].astype(np.float32)) for task, effect in maps.items()}


def _examples(found: tuple[np.ndarray, np.ndarray], layer: int, head: int) -> dict[str, list[int]]:
    kinds = zip(("helps", "hurts"), found, strict=True)
    return {kind: [item for item in index[:, layer, head].tolist() if item >= 0] for kind, index in kinds}


def _attention(kept: Attention, layer: int, head: int) -> dict[str, str]:
    names = ("counts", "positions", "weights")
    return {name: packed(values) for name, values in zip(names, kept.of_head(layer, head), strict=True)}


def _by_head(table: pl.DataFrame) -> dict[tuple[int, int], dict[str, dict]]:
    """Rows of a table by (layer, head) and task; those of a table without tasks count for `ANY` task.

    A row of a group of heads belongs to all of them.
    """
    found: dict[tuple[int, int], dict[str, dict]] = {}
    for row in table.iter_rows(named=True):
        first, last = (row.get(name, row.get("head")) for name in ("first_head", "last_head"))
        for head in range(first, last + 1):
            found.setdefault((row["layer"], head), {})[row.get("task", ANY)] = plain(row)
    return found
