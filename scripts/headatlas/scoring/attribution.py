"""First-order effects of all heads at once, from gradients.

The plain gradient at the heads' own outputs is in the trace already (`effects.attribution_from_terms`). This module
takes gradients elsewhere on the path from every head's baseline to its own output, or by other rules.
"""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from headatlas.models.batches import Batch, collate, run_batches
from headatlas.models.engine import padding_matters
from headatlas.models.gim import gim
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import gated_scores
from headatlas.models.replacement import Baseline, Replacement, baseline_of

RULES = {"plain": lambda _model: nullcontext(), "gim": gim}


def path_points(items: list[dict], path: str, steps: int, seed: int = 0) -> np.ndarray:
    """Where on the path from baseline (0) to own output (1) gradients are taken: [item, step] float32.

    `line`: the midpoints of `steps` equal pieces; with one step, the output itself. `expected`: a random point of each
    piece, so that the mean over them estimates the mean over the whole path without bias (expected gradients, Erion et
    al. 2021, arXiv 1906.10670, along this path). An item's points depend on its id and the seed alone.
    """
    if path == "line":
        points = (np.arange(steps) + 0.5) / steps if steps > 1 else np.ones(1)
        return np.tile(points, (len(items), 1)).astype(np.float32)
    drawn = np.array([_generator(item["id"], seed).random(steps) for item in items])
    return ((np.arange(steps) + drawn) / steps).astype(np.float32)


def _generator(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def integrate(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray | Baseline,
    positions: str,
    points: np.ndarray,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    rule: str = "plain",
) -> np.ndarray:
    """Mean gradient of the answer's score over the heads' gates on a path (Sundararajan et al. 2017, 1703.01365).

    Head output i becomes b_i + m_i (z_i - b_i) with its gate m_i; all gates rise together from 0 to 1 and effect_i is
    the mean of d(score)/d(m_i) over an item's points. With more points of a `line` the effects of all heads approach
    the sum score(all gates 1) - score(all gates 0) (completeness, see `path_gains`). At gate 1 alone the same
    derivative is attribution patching (Syed et al. 2023, 2310.10348).

    Args:
        items: tokenised items; baseline: a table is [1 or item, layer, head, d_head]; positions: `answer` or `all`.
        points: [item, point] (`path_points`).
        advance: called with the number of gradients (items x points) that a pass computed.
        rule: of the backward pass, `plain` or `gim` (see `models.gim`).

    Returns:
        [item, layer, head] float32, nats (`batches.score_answers`); NaN in layers without attention.

    Raises:
        HeadAtlasError: the rule does not fit the model.
    """
    effects = np.zeros((len(items), model.n_layers, model.n_heads), np.float32)
    baseline, n_points = baseline_of(baseline), points.shape[1]

    def work(rows: list[int], tokens: int) -> None:
        batch = collate(items, rows).to(model.device)
        replacement = baseline.on(model, batch, positions, range(model.n_layers))
        total = torch.zeros(effects[rows].shape)
        copies = max(1, tokens // batch.input_ids.numel())
        for start in range(0, n_points, copies):
            gates = torch.from_numpy(points[rows, start : start + copies])
            total += gate_slopes(model, batch, replacement, gates, positions).sum(1).cpu()
            advance(len(rows) * gates.shape[1])
        effects[rows] = (total / n_points).numpy()

    with RULES[rule](model):
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
            gates = _of_all_heads(model, batch, torch.tensor([[0.0, 1.0]]))
            shut, clean = gated_scores(model, batch, gates, replacement, positions).unbind(1)
        gains[rows] = (clean - shut).cpu().numpy()

    _run(model, work, items, batch_tokens)
    return gains


def _run(model: HeadModel, work: Callable[[list[int], int], None], items: list[dict], batch_tokens: int) -> None:
    padded = not padding_matters(model, items)
    run_batches(work, items, batch_tokens, model.devices, padded=padded, room=model.room)


def gate_slopes(model: HeadModel, batch: Batch, replacement: Replacement, gates: Tensor, positions: str) -> Tensor:
    """[item, gate, layer, head]: derivative of an item's score with respect to each head's gate, all gates equal.

    Args:
        replacement: for the batch; gates: [1 or item, gate], with one copy of the batch each.
    """
    gates = _of_all_heads(model, batch, gates).requires_grad_()
    with torch.enable_grad():
        score = gated_scores(model, batch, gates, replacement, positions)
        (slopes,) = torch.autograd.grad(score.sum(), gates)
    slopes[:, :, model.layers_without_attention] = torch.nan
    return slopes


def _of_all_heads(model: HeadModel, batch: Batch, gates: Tensor) -> Tensor:
    """[item, gate, layer, head]: every head of an item's copy has the same gate."""
    shape = (len(batch), gates.shape[1], model.n_layers, model.n_heads)
    return gates.to(model.device)[:, :, None, None].expand(shape).clone()
