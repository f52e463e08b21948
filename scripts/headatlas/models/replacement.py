"""What a head outputs instead of its own output: a vector, or its output on another prompt."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headatlas.models.batches import Batch, collate
from headatlas.models.head_model import HeadModel


@dataclass(frozen=True)
class Replacement:
    """What the heads of one batch output instead.

    `values`: layer -> [1 or item, 1 or position, head, d_head]; `where`: [item, position] bool, None for everywhere.
    Positions are the answer positions or those of the whole sequence, depending on the edit.
    """

    values: Callable[[int], Tensor]
    where: Tensor | None = None


class Baseline(ABC):
    """What heads output instead, for any batch of a task's items."""

    @abstractmethod
    def on(self, model: HeadModel, batch: Batch, positions: str, layers: range) -> Replacement:
        """The replacement for a batch, at `answer` positions or at `all`, for the heads of `layers`."""


class VectorBaseline(Baseline):
    """One vector per head, the same at every position: zeros, a mean, another item's head output.

    Args:
        table: [1 or item, layer, head, d_head] float32.
    """

    def __init__(self, table: np.ndarray):
        self.table = torch.from_numpy(np.ascontiguousarray(table))

    def on(self, model: HeadModel, batch: Batch, positions: str, layers: range) -> Replacement:
        """The same vector wherever the head is edited."""
        chosen = self.table if len(self.table) == 1 else self.table[batch.rows.cpu()]
        return Replacement(lambda layer: chosen[:, layer, None])


class PromptBaseline(Baseline):
    """What each head outputs at the same position of another prompt.

    Known as interchange intervention (Geiger et al. 2021, arXiv 2106.02997) and activation patching (Zhang and Nanda
    2024, arXiv 2309.16042). Answer positions correspond one to one, because the item's own answer follows both prompts.
    Other positions correspond if the prompts have the same number of tokens; otherwise only those before and after the
    difference do, and the rest keep their own output.

    Args:
        partners: for each item, `prompt_ids` of the other prompt and the item's own `answer_ids`.
    """

    def __init__(self, partners: list[dict]):
        self.partners = partners

    def on(self, model: HeadModel, batch: Batch, positions: str, layers: range) -> Replacement:
        """One pass over the other prompts of a batch."""
        return self.at(model, batch, (positions,), layers)[positions]

    def at(self, model: HeadModel, batch: Batch, positions: Sequence[str], layers: range) -> dict[str, Replacement]:
        """The replacements for several kinds of positions, by one pass over the other prompts of a batch."""
        other = collate(self.partners, batch.rows.tolist()).to(model.device)
        kept = {at: self._kept(batch, other, at) for at in positions}
        outputs = _head_outputs(model, other, layers, {at: move for at, (move, _) in kept.items()})
        return {at: Replacement(outputs[at].__getitem__, where) for at, (_, where) in kept.items()}

    @staticmethod
    def _kept(batch: Batch, other: Batch, positions: str) -> tuple[Callable[[Tensor], Tensor], Tensor | None]:
        """What maps head outputs on the other prompts to the batch's positions, and where they correspond."""
        if positions == "answer":
            return other.gather, None
        index = _corresponding(batch, other)
        items = torch.arange(len(batch), device=index.device)[:, None]

        def moved(z: Tensor) -> Tensor:
            return z[items.to(z.device), index.clamp_min(0).to(z.device)]

        return moved, index >= 0


def has_partners(items: list[dict], kind: str) -> bool:
    """Whether the items carry the tokens of another prompt, `counterfactual` or `same_answer`."""
    return bool(items) and all(f"{kind}_ids" in item for item in items)


def partners(items: list[dict], kind: str) -> list[dict]:
    """For each item its other prompt, followed by the item's own answer."""
    return [{"prompt_ids": item[f"{kind}_ids"], "answer_ids": item["answer_ids"]} for item in items]


def baseline_of(given: "np.ndarray | Baseline") -> Baseline:
    """Turn a table [1 or item, layer, head, d_head] into a baseline; return a baseline unchanged."""
    return given if isinstance(given, Baseline) else VectorBaseline(given)


def _head_outputs(
    model: HeadModel, batch: Batch, layers: range, kept: dict[str, Callable[[Tensor], Tensor]]
) -> dict[str, dict[int, Tensor]]:
    """By name of `kept`: layer -> what it makes of [item, position, head, d_head] on a clean pass."""
    outputs: dict[str, dict[int, Tensor]] = {name: {} for name in kept}

    def keep(layer: int) -> Callable[[Tensor], Tensor]:
        def edit(z: Tensor) -> Tensor:
            for name, keep_some in kept.items():
                outputs[name][layer] = keep_some(z)
            return z

        return edit

    wanted = [layer for layer in layers if model.attentions[layer]]
    with torch.no_grad(), model.edit_head_outputs({layer: keep(layer) for layer in wanted}):
        model.logits(batch.input_ids, batch.attention_mask, keep=1)
    return outputs


def _corresponding(batch: Batch, other: Batch) -> Tensor:
    """[item, position] long: the corresponding position of the other prompt; -1 if there is none."""
    index = torch.full(batch.input_ids.shape, -1, dtype=torch.long)
    for row in range(len(batch)):
        own, partner = (each.input_ids[row, : int(each.attention_mask[row].sum())].tolist() for each in (batch, other))
        index[row, : len(own)] = torch.tensor(corresponding(own, partner))
    return index.to(batch.input_ids.device)


def corresponding(own: list[int], other: list[int]) -> list[int]:
    """The position of `other` that corresponds to each position of `own`; -1 in the part that differs.

    Sequences of equal length correspond position by position; others by their common beginning and end.
    """
    if len(own) == len(other):
        return list(range(len(own)))
    shorter = min(len(own), len(other))
    before = next((at for at in range(shorter) if own[at] != other[at]), shorter)
    behind = next((at for at in range(shorter - before) if own[-1 - at] != other[-1 - at]), shorter - before)
    middle = len(own) - before - behind
    return [*range(before), *[-1] * middle, *range(len(other) - behind, len(other))]
