"""Full passes of the model with some heads' outputs replaced: slow, plain, the truth that faster ways are held to."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from headatlas.models.batches import Batch, answer_log_probability, exact_match
from headatlas.models.head_model import HeadModel
from headatlas.models.precision import side_by_side

Heads = list[tuple[int, int]]  # (layer, head) pairs that output their baselines together


def scores_of_sets(
    model: HeadModel, batch: Batch, sets: list[Heads], baseline: Tensor, positions: str
) -> tuple[Tensor, Tensor]:
    """Answer log-probability and exact match when all heads of a set output their baselines, by one full pass.

    Args:
        sets: the heads of each row; an empty set is the unedited model.
        baseline: [1 or item, layer, head, d_head]; positions: `answer` or `all`.

    Returns:
        [item, set] float32 nats per answer token, and [item, set] bool.
    """
    rows = batch.repeat(len(sets))
    where = edit_mask(rows, positions)
    layers = {layer for heads in sets for layer, _ in heads}
    edits = {layer: _edit(layer, sets, baseline, where, len(batch)) for layer in layers}
    # Rows are rounded by what they differ in from the first, so that has to be the unedited one.
    rounded = nullcontext() if sets[0] else side_by_side(len(batch), len(sets), batch.input_ids.shape[1], batch.keep)
    with torch.no_grad(), rounded, model.edit_head_outputs(edits):
        logits = rows.gather_kept(model.logits(rows.input_ids, rows.attention_mask, rows.keep))
    found = (kind(logits, rows.targets, rows.answer_mask) for kind in (answer_log_probability, exact_match))
    return tuple(value.unflatten(0, (len(batch), len(sets))) for value in found)


def _edit(layer: int, sets: list[Heads], baseline: Tensor, where: Tensor, items: int) -> Callable[[Tensor], Tensor]:
    """Replaces the heads of `layer` that are in each row's set, at the positions `where` [item * set, position]."""
    n_heads = baseline.shape[2]
    chosen = heads_of_rows(layer, sets, n_heads).repeat(items, 1)  # [item * set, head]
    values = baseline[:, layer].expand(items, -1, -1).repeat_interleave(len(sets), 0)  # [item * set, head, d_head]

    def edit(z: Tensor) -> Tensor:
        replaced = where.to(z.device)[:, :, None, None] & chosen.to(z.device)[:, None, :, None]
        return torch.where(replaced, values.to(z)[:, None], z)

    return edit


def edit_mask(batch: Batch, positions: str) -> Tensor:
    """[item, position] bool: where a head's output is replaced."""
    if positions == "all":
        return batch.attention_mask.bool()
    mask = torch.zeros_like(batch.attention_mask, dtype=torch.bool)
    return mask.scatter(1, batch.positions, True)


def heads_of_rows(layer: int, sets: list[Heads], n_heads: int) -> Tensor:
    """[row, head] bool: which heads of `layer` are in each row's set of (layer, head) pairs."""
    chosen = torch.zeros(len(sets), n_heads, dtype=torch.bool)
    for row, heads in enumerate(sets):
        chosen[row, [head for edited, head in heads if edited == layer]] = True
    return chosen
