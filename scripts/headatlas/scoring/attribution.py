"""First-order effects of all heads at once, from gradients.

With one step the trace already holds everything needed (`effects.attribution_from_terms`). With more, this module
integrates gradients along the path from every head's baseline to its own output.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from headatlas.models.batches import Batch, collate, run_batches, score_answers
from headatlas.models.engine import padding_matters
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import on_sequence
from headatlas.models.replacement import Baseline, Replacement, baseline_of
from headatlas.scoring.trace import position_sum


def integrate(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray | Baseline,
    positions: str,
    steps: int,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
) -> np.ndarray:
    """Integrated gradients of the answer's score over the heads' gates (Sundararajan et al. 2017, 1703.01365).

    Head output i becomes b_i + m_i (z_i - b_i) with its gate m_i; all gates rise together from 0 to 1 and
    effect_i is the mean of d(score)/d(m_i) at the midpoints of `steps` equal pieces. With more steps the effects of all
    heads approach the sum score(all gates 1) - score(all gates 0) (completeness, see `path_gains`). At gate 1 alone the
    same derivative is attribution patching (Syed et al. 2023, 2310.10348).

    Args:
        items: tokenised items; baseline: a table is [1 or item, layer, head, d_head]; positions: `answer` or `all`.
        advance: called with the number of gradients (items x steps) that a pass computed.

    Returns:
        [item, layer, head] float32, nats (`batches.score_answers`); NaN in layers without attention.
    """
    effects = np.zeros((len(items), model.n_layers, model.n_heads), np.float32)
    baseline = baseline_of(baseline)

    def work(rows: list[int], tokens: int) -> None:
        batch = collate(items, rows).to(model.device)
        replacement = baseline.on(model, batch, positions, range(model.n_layers))
        total = torch.zeros(effects[rows].shape)
        copies = max(1, tokens // batch.input_ids.numel())
        for start in range(0, steps, copies):
            gates = (torch.arange(start, min(start + copies, steps)) + 0.5) / steps
            total += gate_slopes(model, batch, replacement, gates, positions).sum(1).cpu()
            advance(len(rows) * len(gates))
        effects[rows] = (total / steps).numpy()

    _run(model, work, items, batch_tokens)
    return effects


def path_gains(
    model: HeadModel, items: list[dict], baseline: np.ndarray | Baseline, positions: str, batch_tokens: int
) -> np.ndarray:
    """Answer score with all gates at 1 minus that with all at 0: [item] float32, the sum that effects should have.

    Args:
        as in `integrate`.
    """
    gains = np.zeros(len(items), np.float32)
    baseline = baseline_of(baseline)

    def work(rows: list[int], tokens: int) -> None:
        batch = collate(items, rows).to(model.device)
        replacement = baseline.on(model, batch, positions, range(model.n_layers))
        with torch.no_grad():
            shut, clean = (_faded(model, batch, replacement, torch.tensor([gate]), positions)[0] for gate in (0.0, 1.0))
        gains[rows] = (clean - shut).cpu().numpy()

    _run(model, work, items, batch_tokens)
    return gains


def _run(model: HeadModel, work: Callable[[list[int], int], None], items: list[dict], batch_tokens: int) -> None:
    padded = not padding_matters(model, items)
    run_batches(work, items, batch_tokens, model.devices, padded=padded, room=model.room)


def gate_slopes(model: HeadModel, batch: Batch, replacement: Replacement, gates: Tensor, positions: str) -> Tensor:
    """[item, gate, layer, head]: derivative of an item's score with respect to each head's gate, all gates equal.

    Args:
        replacement: for the batch; gates: [gate], with one copy of the batch each.
    """
    repeated = batch.repeat(len(gates))
    with torch.enable_grad():
        score, kept = _faded(model, batch, replacement, gates, positions)
        slopes = torch.autograd.grad(score.sum(), [kept[layer][1] for layer in model.attention_layers])
    parts = [
        position_sum(repeated, (kept[layer][0].float() * slope.float()).sum(-1), positions)
        for layer, slope in zip(model.attention_layers, slopes, strict=True)
    ]
    slopes = model.over_layers(torch.stack([part.to(parts[0].device) for part in parts], 1))
    return slopes.unflatten(0, (len(batch), len(gates)))


def _faded(
    model: HeadModel, batch: Batch, replacement: Replacement, gates: Tensor, positions: str
) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Answer score [item * gate] of a batch that is run once for each gate.

    Returns:
        and for each layer the heads' outputs minus the baseline, and their replacements.
    """
    repeated, replacement = batch.repeat(len(gates)), on_sequence(replacement, batch, positions)
    gates = gates.repeat(len(batch))
    kept: dict[int, tuple[Tensor, Tensor]] = {}

    def rows_of(values: Tensor) -> Tensor:
        return values.expand(len(batch), *values.shape[1:]).repeat_interleave(len(repeated) // len(batch), 0)

    def fade(layer: int):
        def edit(z: Tensor) -> Tensor:
            start = rows_of(replacement.values(layer).to(z))  # [row, 1 or position, head, d_head]
            where = rows_of(replacement.where.to(z.device))[..., None, None]
            above = (z - start) * where
            faded = z - (1 - gates.to(z)[:, None, None, None]) * above
            if torch.is_grad_enabled() and not faded.requires_grad:
                faded = faded.detach().requires_grad_()
            kept[layer] = (above.detach(), faded)
            return faded

        return edit

    with model.edit_head_outputs({layer: fade(layer) for layer in model.attention_layers}):
        logits = model.logits(repeated.input_ids, repeated.attention_mask, repeated.gather)
        return score_answers(logits, repeated)[0], kept
