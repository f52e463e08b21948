"""How the edited copies of an item (its rows) are arranged in the sequences that a model's layers take.

Edits at answer positions recompute only these: the rows of an item follow one another in one sequence, and each sees
the prompt and itself (`RowsAsPositions`). Edits at all positions recompute everything: rows are items of a larger batch
(`RowsAsItems`). A layout arranges the rows, and adapts the other arguments of a layer's clean call.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from headatlas.models.batches import Batch


class UnsupportedError(Exception):
    """Why a model's layers cannot be rerun for edited rows; `engine` uses full passes instead, if allowed."""


class Layout(ABC):
    """Args: batch: items padded to a length that differs from all of the model's dimensions, on the device."""

    def __init__(self, batch: Batch):
        self.batch = batch

    @property
    @abstractmethod
    def width(self) -> int:
        """Positions of one row."""

    @abstractmethod
    def kept(self, values: Tensor) -> Tensor:
        """[item, position, ...] of a clean pass -> the positions that rows have."""

    @abstractmethod
    def at_answers(self, rows: Tensor) -> Tensor:
        """[item, row, position, ...] -> the answer positions."""

    @abstractmethod
    def flat(self, rows: Tensor) -> Tensor:
        """[item, row, position, hidden] as the layers take it."""

    @abstractmethod
    def _fit_tensor(self, value: Tensor, rows: int) -> Tensor:
        """A tensor argument of the clean pass, adapted to `rows` rows per item."""

    def fit(self, value, rows: int):
        """An argument of a layer's clean call, adapted to `rows` rows per item.

        Raises:
            UnsupportedError: a tensor of an unknown shape.
        """
        if isinstance(value, tuple | list):
            return type(value)(self.fit(part, rows) for part in value)
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return self._fit_tensor(value, rows)


class RowsAsItems(Layout):
    """Rows are items of a larger batch, each a whole sequence."""

    @property
    def width(self) -> int:
        """The whole sequence."""
        return self.batch.input_ids.shape[1]

    def kept(self, values: Tensor) -> Tensor:
        """All positions."""
        return values

    def at_answers(self, rows: Tensor) -> Tensor:
        """[item, row, answer, ...]."""
        return self.batch.gather(rows.transpose(1, 2)).transpose(1, 2)

    def flat(self, rows: Tensor) -> Tensor:
        """[item * row, position, hidden]."""
        return rows.flatten(0, 1)

    def _fit_tensor(self, value: Tensor, rows: int) -> Tensor:
        items, length = self.batch.input_ids.shape
        if value.ndim == 3 and value.shape[1:] == (1, length):  # ALiBi: [item * head, 1, position]
            return value.unflatten(0, (items, -1)).repeat_interleave(rows, dim=0).flatten(0, 1)
        if value.shape[0] == items:
            return value.repeat_interleave(rows, dim=0)
        if value.shape[0] == 1:
            return value
        raise UnsupportedError(f"a layer takes a tensor of shape {tuple(value.shape)}")


class RowsAsPositions(Layout):
    """Rows are additional positions of the item's sequence; a cache holds keys and values of the prompt."""

    def __init__(self, batch: Batch):
        super().__init__(batch)
        self._masks: dict[tuple[int, int], Tensor] = {}

    @property
    def width(self) -> int:
        """The answer positions."""
        return self.batch.positions.shape[1]

    def kept(self, values: Tensor) -> Tensor:
        """The answer positions."""
        return self.batch.gather(values)

    def at_answers(self, rows: Tensor) -> Tensor:
        """The rows themselves."""
        return rows

    def flat(self, rows: Tensor) -> Tensor:
        """[item, row * answer, hidden]."""
        return rows.flatten(1, 2)

    def _fit_tensor(self, value: Tensor, rows: int) -> Tensor:
        items, length = self.batch.input_ids.shape
        if length not in value.shape:
            return value
        if value.ndim == 4 and value.shape[-2:] == (length, length):
            key = (id(value), rows)
            if key not in self._masks:
                self._masks[key] = self._row_mask(value, rows)
            return self._masks[key]
        if value.ndim in (3, 4) and value.shape[-2:] == (1, length):  # ALiBi: [item (*) head, 1, key position]
            keys = value.reshape(items, -1, length)
            at = self.batch.positions.to(value.device)[:, None].expand(-1, keys.shape[1], -1)
            own = keys.gather(2, at).repeat(1, 1, rows)
            return torch.cat([keys, own], dim=2).reshape(*value.shape[:-1], -1)
        if value.ndim in (2, 3) and value.shape[0] in (1, items) and value.shape[1] == length:
            answer = self.batch.gather(value.expand(items, *value.shape[1:]))
            return answer.repeat(1, rows, *[1] * (value.ndim - 2))
        raise UnsupportedError(f"a layer takes a tensor of shape {tuple(value.shape)}")

    def _row_mask(self, mask: Tensor, rows: int) -> Tensor:
        """[item, head or 1, row * answer, position + row * answer] from the clean [item or 1, ..., position, position].

        A row's query sees what the clean query at its position saw, with the answer positions replaced by the
        row's own.
        """
        items, length = self.batch.input_ids.shape
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        mask = mask.expand(items, -1, -1, -1)
        at = self.batch.positions.to(mask.device)
        answers = at.shape[1]
        item = torch.arange(items, device=mask.device)[:, None]
        queries = mask[item, :, at].transpose(1, 2)  # [item, head, answer, position]
        own = mask[item[..., None], :, at[:, :, None], at[:, None]].permute(0, 3, 1, 2)
        later = torch.ones(answers, answers, dtype=torch.bool, device=mask.device).triu(1)
        own = own.masked_fill(later, hidden)
        recomputed = torch.arange(length, device=mask.device) >= at[:, :1]  # [item, position]
        prompt = queries.masked_fill(recomputed[:, None, None], hidden)
        block = own.new_full((*own.shape[:2], rows, answers, rows, answers), hidden)
        index = torch.arange(rows, device=mask.device)
        block[:, :, index, :, index] = own
        return torch.cat([prompt.repeat(1, 1, rows, 1), block.flatten(4, 5).flatten(2, 3)], dim=-1)
