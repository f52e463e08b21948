"""First-order effects of all heads at once, from gradients.

With one step the trace already holds all that is needed (`effects.attribution_from_terms`); with more, this
module integrates gradients along the path on which every head fades from its baseline to its own output.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from headatlas.models.batches import Batch, answer_log_probability, collate, run_batches
from headatlas.models.engine import padding_matters
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import edit_mask
from headatlas.scoring.trace import position_sum


def integrate(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray,
    positions: str,
    steps: int,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
) -> np.ndarray:
    """Integrated gradients of the answer log-probability over the heads' gates (Sundararajan et al. 2017, 1703.01365).

    Head output i becomes b_i + m_i (z_i - b_i) with its gate m_i; all gates rise together from 0 to 1 and
    effect_i is the mean of d(log-probability)/d(m_i) at the midpoints of `steps` equal pieces. As steps grow
    the effects of all heads add up to log-probability(all gates 1) - log-probability(all gates 0)
    (completeness, see `path_gains`); at gate 1 alone the same derivative is attribution patching (Syed et al. 2023,
    2310.10348).

    Args:
        items: tokenised items; baseline: [1 or item, layer, head, d_head]; positions: `answer` or `all`.

    Returns:
        [item, layer, head] float32, nats per answer token; NaN in layers without attention.
    """
    effects = np.zeros((len(items), model.n_layers, model.n_heads), np.float32)
    table = torch.from_numpy(np.ascontiguousarray(baseline))

    def work(rows: list[int], tokens: int) -> None:
        chosen = table.expand(len(rows), -1, -1, -1) if len(table) == 1 else table[rows]
        batch = collate(items, rows).to(model.device)
        total = torch.zeros(effects[rows].shape)
        copies = max(1, tokens // batch.input_ids.numel())
        for start in range(0, steps, copies):
            gates = (torch.arange(start, min(start + copies, steps)) + 0.5) / steps
            total += gate_slopes(model, batch, chosen, gates, positions).sum(1).cpu()
        effects[rows] = (total / steps).numpy()
        advance(len(rows))

    run_batches(work, items, batch_tokens, model.devices, padded=not padding_matters(model, items))
    return effects


def path_gains(
    model: HeadModel, items: list[dict], baseline: np.ndarray, positions: str, batch_tokens: int
) -> np.ndarray:
    """Log-probability with all gates at 1 less that with all at 0: [item] float32, what effects should add up to.

    Args:
        as `integrate`.
    """
    gains = np.zeros(len(items), np.float32)
    table = torch.from_numpy(np.ascontiguousarray(baseline))

    def work(rows: list[int], tokens: int) -> None:
        chosen = table.expand(len(rows), -1, -1, -1) if len(table) == 1 else table[rows]
        batch = collate(items, rows).to(model.device)
        with torch.no_grad():
            shut, clean = (_faded(model, batch, chosen, torch.tensor([gate]), positions)[0] for gate in (0.0, 1.0))
        gains[rows] = (clean - shut).cpu().numpy()

    run_batches(work, items, batch_tokens, model.devices, padded=not padding_matters(model, items))
    return gains


def gate_slopes(model: HeadModel, batch: Batch, baseline: Tensor, gates: Tensor, positions: str) -> Tensor:
    """[item, gate, layer, head]: derivative of an item's log-probability by each head's gate, all gates equal.

    Args:
        baseline: [item, layer, head, d_head]; gates: [gate], one copy of the batch each.
    """
    repeated = batch.repeat(len(gates))
    with torch.enable_grad():
        log_prob, kept = _faded(model, repeated, baseline, gates, positions)
        slopes = torch.autograd.grad(log_prob.sum(), [kept[layer][1] for layer in model.attention_layers])
    parts = [
        position_sum(repeated, (kept[layer][0].float() * slope.float()).sum(-1), positions)
        for layer, slope in zip(model.attention_layers, slopes, strict=True)
    ]
    slopes = model.over_layers(torch.stack([part.to(parts[0].device) for part in parts], 1))
    return slopes.unflatten(0, (len(batch), len(gates)))


def _faded(
    model: HeadModel, repeated: Batch, baseline: Tensor, gates: Tensor, positions: str
) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Log-probability [row] of a batch that holds each item once for each of the gates.

    Args:
        baseline: [item, layer, head, d_head].

    Returns:
        and for each layer what its heads' outputs are above the baseline, and what they were replaced by.
    """
    where = edit_mask(repeated, positions)
    rows_baseline = baseline.repeat_interleave(len(gates), 0)
    rows_gate = gates.repeat(len(baseline))
    kept: dict[int, tuple[Tensor, Tensor]] = {}

    def fade(layer: int):
        def edit(z: Tensor) -> Tensor:
            start = rows_baseline[:, layer].to(z)[:, None]  # [row, 1, head, d_head]
            gate = torch.where(where.to(z.device), rows_gate.to(z)[:, None], 1.0).to(z)[..., None, None]
            faded = start + gate * (z - start)
            if torch.is_grad_enabled() and not faded.requires_grad:
                faded = faded.detach().requires_grad_()
            kept[layer] = ((z - start).detach(), faded)
            return faded

        return edit

    with model.edit_head_outputs({layer: fade(layer) for layer in model.attention_layers}):
        logits = repeated.gather_kept(model.logits(repeated.input_ids, repeated.attention_mask, repeated.keep))
        return answer_log_probability(logits, repeated.targets, repeated.answer_mask), kept
