"""First-order effects of all heads at once, from gradients.

With one step the trace already holds everything needed (`effects.attribution_from_terms`). With more, this module
integrates gradients along the path from every head's baseline to its own output.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from headatlas.models.batches import Batch, collate, run_batches
from headatlas.models.engine import padding_matters
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import gated_scores
from headatlas.models.replacement import Baseline, Replacement, baseline_of


def integrate(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray | Baseline,
    positions: str,
    steps: int,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Integrated gradients of the answer's score over the heads' gates (Sundararajan et al. 2017, 1703.01365).

    Head output i becomes b_i + m_i (z_i - b_i) with its gate m_i; all gates rise together from 0 to 1 and
    effect_i is the mean of d(score)/d(m_i) at the midpoints of `steps` equal pieces. With more steps the effects of all
    heads approach the sum score(all gates 1) - score(all gates 0), the item's gain (completeness). At gate 1 alone the
    same derivative is attribution patching (Syed et al. 2023, 2310.10348).

    Args:
        items: tokenised items; baseline: a table is [1 or item, layer, head, d_head]; positions: `answer` or `all`.
        advance: called with the number of gradients (items x steps) that a pass computed.

    Returns:
        [item, layer, head] float32, nats (`batches.score_answers`); NaN in layers without attention. And the gains
        [item] float32.
    """
    effects = np.zeros((len(items), model.n_layers, model.n_heads), np.float32)
    gains = np.zeros(len(items), np.float32)
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
        gains[rows] = _gain(model, batch, replacement, positions).cpu().numpy()

    padded = not padding_matters(model, items)
    run_batches(work, items, batch_tokens, model.devices, padded=padded, room=model.room)
    return effects, gains


def _gain(model: HeadModel, batch: Batch, replacement: Replacement, positions: str) -> Tensor:
    """[item]: the answer's score with all gates at 1 minus that with all at 0."""
    with torch.no_grad():
        gates = _of_all_heads(model, batch, torch.tensor([0.0, 1.0]))
        shut, clean = gated_scores(model, batch, gates, replacement, positions).unbind(1)
    return clean - shut


def gate_slopes(model: HeadModel, batch: Batch, replacement: Replacement, gates: Tensor, positions: str) -> Tensor:
    """[item, gate, layer, head]: derivative of an item's score with respect to each head's gate, all gates equal.

    Args:
        replacement: for the batch; gates: [gate], with one copy of the batch each.
    """
    gates = _of_all_heads(model, batch, gates).requires_grad_()
    with torch.enable_grad():
        score = gated_scores(model, batch, gates, replacement, positions)
        (slopes,) = torch.autograd.grad(score.sum(), gates)
    slopes[:, :, model.layers_without_attention] = torch.nan
    return slopes


def _of_all_heads(model: HeadModel, batch: Batch, gates: Tensor) -> Tensor:
    """[item, gate, layer, head]: every head of an item's copy has the same gate."""
    shape = (len(batch), len(gates), model.n_layers, model.n_heads)
    return gates.to(model.device)[None, :, None, None].expand(shape).clone()
