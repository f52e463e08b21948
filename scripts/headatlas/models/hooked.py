"""Full passes of the model with some heads' outputs replaced: slow and simple, the reference for faster engines."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from headatlas.models.batches import Batch, score_answers
from headatlas.models.head_model import HeadModel
from headatlas.models.precision import side_by_side
from headatlas.models.replacement import Replacement

Heads = list[tuple[int, int]]  # (layer, head) pairs that output their baselines together


def scores_of_sets(
    model: HeadModel, batch: Batch, sets: list[Heads], replacement: Replacement, positions: str
) -> tuple[Tensor, Tensor]:
    """Answer score and correctness when all heads of a set output their replacement, by one full pass.

    Args:
        sets: the heads of each row; an empty set is the unedited model.
        replacement: for this batch; positions: `answer` or `all`.

    Returns:
        [item, set] float32 nats (`batches.score_answers`), and [item, set] bool.
    """
    rows = batch.repeat(len(sets))
    replacement = on_sequence(replacement, batch, positions)
    layers = {layer for heads in sets for layer, _ in heads}
    edits = {layer: edit_of_sets(layer, sets, replacement, model.n_heads) for layer in layers}
    widths = (batch.input_ids.shape[1], batch.positions.shape[1])
    # Rows are rounded by their difference from the first, which must therefore be the unedited row.
    rounded = nullcontext() if sets[0] else side_by_side(len(batch), len(sets), *widths)
    with torch.no_grad(), rounded, model.edit_head_outputs(edits):
        logits = model.logits(rows.input_ids, rows.attention_mask, rows.gather)
    return tuple(value.unflatten(0, (len(batch), len(sets))) for value in score_answers(logits, rows))


def gated_scores(model: HeadModel, batch: Batch, gates: Tensor, replacement: Replacement, positions: str) -> Tensor:
    """Answer score when every head outputs a mixture: gate x its own output + (1 - gate) x its replacement.

    Keeps the graph from the gates to the scores, if gradients are enabled.

    Args:
        gates: [item, row, layer, head], 0 to 1; each item is run once for each of its rows.
        replacement: for this batch; positions: `answer` or `all`.

    Returns:
        [item, row] float32 nats (`batches.score_answers`).
    """
    rows, replacement = batch.repeat(gates.shape[1]), on_sequence(replacement, batch, positions)
    edits = {layer: mixture(layer, gates, replacement) for layer in model.attention_layers}
    with model.edit_head_outputs(edits):
        logits = model.logits(rows.input_ids, rows.attention_mask, rows.gather)
    return score_answers(logits, rows)[0].unflatten(0, gates.shape[:2])


def mixture(layer: int, gates: Tensor, replacement: Replacement) -> Callable[[Tensor], Tensor]:
    """An edit that mixes the heads of `layer` with their replacement, in every row of a batch.

    It takes rows as items of a larger batch, [item * row, position, head, d_head], or one after the other in their
    item's sequence, [item, row * position, head, d_head].

    Args:
        gates: [item, row, layer, head], the share of its own output that a head keeps.
    """
    items, n_rows = gates.shape[:2]

    def edit(z: Tensor) -> Tensor:
        rows = z.reshape(items, n_rows, -1, *z.shape[-2:])
        lost = rows - replacement.values(layer).to(z)[:, None]
        if replacement.where is not None:
            lost = lost * replacement.where.to(z.device)[:, None, :, None, None]
        return (rows - (1 - gates[:, :, None, layer, :, None].to(z)) * lost).reshape(z.shape)

    return edit


def edit_of_sets(layer: int, sets: list[Heads], replacement: Replacement, n_heads: int) -> Callable[[Tensor], Tensor]:
    """Replaces the heads of `layer` in each row's set, in [item * set, position, head, d_head]."""
    chosen = heads_of_rows(layer, sets, n_heads)[None, :, None, :, None]
    values, where = replacement.values(layer)[:, None], replacement.where[:, None, :, None, None]

    def edit(z: Tensor) -> Tensor:
        rows = z.unflatten(0, (-1, len(sets)))
        replaced = where.to(z.device) & chosen.to(z.device)
        return torch.where(replaced, values.to(z), rows).flatten(0, 1)

    return edit


def on_sequence(replacement: Replacement, batch: Batch, positions: str) -> Replacement:
    """A replacement extended to the positions of the whole sequence."""
    where = edit_mask(batch, positions)
    if replacement.where is not None:
        where = where & (batch.scatter(replacement.where) if positions == "answer" else replacement.where)

    def values(layer: int) -> Tensor:
        found = replacement.values(layer)
        spread = positions == "answer" and found.shape[1] > 1
        return batch.scatter(found) if spread else found

    return Replacement(values, where)


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
