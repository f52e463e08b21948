"""Exact effect of replacing one head's output by a baseline: activation patching, one head at a time.

Two ways to the same numbers: `replay` (fast) and full passes with hooks, one row per item and head (slow but
plain). The fast way is tried on a short random input when the model is first used, and left where it does not
agree with the slow one.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from headatlas.batches import Batch, answer_log_probability, collate, halve_on_out_of_memory, run_batches
from headatlas.job import log
from headatlas.model import HeadModel
from headatlas.replay import Replay, UnsupportedError, check_attention_kind, replay_length

# Most query positions that the rows of one item may take in one sequence: attention among rows that do not see
# each other is wasted and grows with the square.
ROW_POSITIONS = 256


def ablate_layers(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray,
    layers: range,
    positions: str,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    way: str | None = None,
) -> np.ndarray:
    """Drop in answer log-probability when each head of `layers` outputs its baseline, alone.

    Everything downstream is recomputed (activation patching; Vig et al. 2020, arXiv 2004.12265).

    Args:
        items: tokenised items; baseline: [1 or item, layer, head, d_head] of all the model's layers.
        positions: `answer` replaces the head's output at the answer positions only, `all` everywhere.
        batch_tokens: the most positions of one pass, over all rows.
        advance: called with the number of items done.
        way: `replay` or `hooked`; None takes the fast one where it holds.

    Returns:
        [item, layer of `layers`, head] float32, nats per answer token; positive = the head helps; NaN in layers
        without attention.
    """
    way = way or working_way(model, positions)
    run = {"replay": _replayed, "hooked": _hooked}[way]
    effects = np.zeros((len(items), len(layers), model.n_heads), np.float32)
    table = torch.from_numpy(np.ascontiguousarray(baseline))

    def work(rows: list[int], tokens: int) -> None:
        chosen = table if len(table) == 1 else table[rows]
        effects[rows] = run(model, items, rows, chosen, layers, positions, tokens).cpu().numpy()
        advance(len(rows))

    run_batches(work, items, batch_tokens, model.devices)
    effects[:, [layer - layers.start for layer in layers if not model.attentions[layer]]] = np.nan
    return effects


def working_way(model: HeadModel, positions: str) -> str:
    """`replay` where it agrees with hooked passes on a short random input, else `hooked`, with a line in the log."""
    try:
        check_attention_kind(model)
        error = replay_error(model, positions)
    except (UnsupportedError, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as reason:
        log.info("ablation by full passes: the fast way does not fit this model (%s)", reason)
        return "hooked"
    if not error <= 1:
        log.info("ablation by full passes: the fast way differs from them by %.2g times the tolerance", error)
        return "hooked"
    return "replay"


def replay_error(model: HeadModel, positions: str) -> float:
    """Largest difference between both ways on two random items, first, middle and last layer, over the tolerance."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = model.model.get_input_embeddings().weight.shape[0]
    draw = torch.randint(0, vocabulary, (2, 16), generator=generator).tolist()
    items = [
        {"prompt_ids": draw[0][:9], "answer_ids": draw[0][9:12]},
        {"prompt_ids": draw[1][:6], "answer_ids": draw[1][6:7]},
    ]
    baseline = torch.zeros(1, model.n_layers, model.n_heads, model.d_head)
    slack = 1e-4 if next(model.model.parameters()).dtype == torch.float32 else 3e-2
    worst = 0.0
    for layer in sorted({0, model.n_layers // 2, model.n_layers - 1}):
        block = range(layer, layer + 1)
        fast, slow = (way(model, items, [0, 1], baseline, block, positions, 1024) for way in (_replayed, _hooked))
        error = (fast - slow).abs().max() / (slack * (1 + slow.abs().max()))
        worst = max(worst, float(error.nan_to_num(torch.inf)))
    return worst


def _replayed(model, items, rows, baseline: Tensor, layers: range, positions: str, batch_tokens: int) -> Tensor:
    length = max(len(items[row]["prompt_ids"]) + len(items[row]["answer_ids"]) - 1 for row in rows)
    batch = collate(items, rows, replay_length(model, length)).to(model.device)
    replay = Replay(model, batch, positions, layers)
    effects = torch.zeros(len(rows), len(layers), model.n_heads)
    most = max(1, batch_tokens // (len(rows) * replay.width))
    if replay.at_answers:
        most = min(most, max(1, ROW_POSITIONS // replay.width))
    edits = [(layer, head) for layer in layers for head in range(model.n_heads)]
    # The unedited row goes through every pass, so that half precision rounds it as it rounds the others; a whole
    # sequence more in each is much, and in full precision once will do.
    once = not replay.at_answers and next(model.model.parameters()).dtype == torch.float32
    clean: list[Tensor] = []

    def work(part: list[tuple[int, int]]) -> None:
        with_clean = not (once and clean)
        log_prob = replay.log_prob(part, lambda layer: baseline[:, layer], with_clean).float().cpu()
        if with_clean:
            clean[:] = [log_prob[:, :1]]
        drop = clean[0] - log_prob[:, int(with_clean) :]
        for row, (layer, head) in enumerate(part):
            effects[:, layer - layers.start, head] = drop[:, row]

    for start in range(0, len(edits), most):
        halve_on_out_of_memory(work, edits[start : start + most])
    return effects


def _hooked(model, items, rows, baseline: Tensor, layers: range, positions: str, batch_tokens: int) -> Tensor:
    batch = collate(items, rows).to(model.device)
    most = max(1, batch_tokens // batch.input_ids.numel())
    effects = torch.zeros(len(rows), len(layers), model.n_heads)

    def work(heads: list[int], layer: int) -> None:
        drop = hooked_effects(model, batch, layer, heads, baseline[:, layer], positions)
        effects[:, layer - layers.start, heads] = drop.cpu()

    for layer in (layer for layer in layers if model.attentions[layer]):
        for start in range(0, model.n_heads, most):
            heads = list(range(model.n_heads))[start : start + most]
            halve_on_out_of_memory(partial(work, layer=layer), heads)
    return effects


def hooked_effects(
    model: HeadModel, batch: Batch, layer: int, heads: list[int], baseline: Tensor, positions: str
) -> Tensor:
    """[item, head of `heads`]: effects by one full pass over items x (1 + heads) rows, the first row unedited."""
    copies = 1 + len(heads)
    edited = torch.tensor(heads)
    where = edit_mask(batch, positions)

    def edit(z: Tensor) -> Tensor:
        z = z.unflatten(0, (len(batch), copies)).clone()  # [item, copy, position, head, d_head]
        replacement = baseline.to(z)[:, None].expand(len(batch), z.shape[2], *z.shape[3:])
        for copy, head in enumerate(edited.tolist(), start=1):
            z[:, copy, :, head] = torch.where(
                where.to(z.device)[..., None], replacement[:, :, head], z[:, copy, :, head]
            )
        return z.flatten(0, 1)

    repeated = batch.repeat(copies)
    with torch.no_grad(), model.edit_head_outputs({layer: edit}):
        logits = model.logits(repeated.input_ids, repeated.attention_mask, repeated.keep)
        log_prob = answer_log_probability(
            repeated.gather_kept(logits), repeated.targets, repeated.answer_mask
        ).unflatten(0, (len(batch), copies))
    return log_prob[:, :1] - log_prob[:, 1:]


def edit_mask(batch: Batch, positions: str) -> Tensor:
    """[item, position] bool: where a head's output is replaced."""
    if positions == "all":
        return batch.attention_mask.bool()
    mask = torch.zeros_like(batch.attention_mask, dtype=torch.bool)
    return mask.scatter(1, batch.positions, True)
