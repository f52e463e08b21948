"""What a model still can do when whole sets of heads output their baselines together."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from headatlas.ablation import ROW_POSITIONS, edit_mask, working_way
from headatlas.batches import (
    answer_log_probability,
    collate,
    exact_match,
    halve_on_out_of_memory,
    run_batches,
)
from headatlas.model import HeadModel
from headatlas.replay import Replay, heads_of_rows, replay_length

Heads = list[tuple[int, int]]  # (layer, head) pairs that are knocked out together


def knock_out(
    model: HeadModel,
    items: list[dict],
    sets: list[Heads],
    baseline: np.ndarray,
    positions: str,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    way: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Answer log-probability and exact match of every item under every set of knocked-out heads.

    Args:
        items: tokenised items; sets: heads of each set, an empty one is the clean model.
        baseline: [1, layer, head, d_head], what a knocked-out head outputs; positions: `answer` or `all`.
        way: `replay` or `hooked`; None takes the fast one where it holds.

    Returns:
        log_prob [set, item] float32, nats per answer token; correct [set, item] uint8.
    """
    way = way or working_way(model, positions)
    log_prob = np.zeros((len(sets), len(items)), np.float32)
    correct = np.zeros(log_prob.shape, np.uint8)
    order = sorted(range(len(sets)), key=lambda index: min((layer for layer, _ in sets[index]), default=10**9))
    table = torch.from_numpy(np.ascontiguousarray(baseline))

    def work(rows: list[int], tokens: int) -> None:
        run = {"replay": _Replayed, "hooked": _Hooked}[way](model, items, rows, table, positions, tokens)

        def score(part: list[int]) -> None:
            found = run.scores([sets[index] for index in part])
            log_prob[np.ix_(part, rows)], correct[np.ix_(part, rows)] = (value.T.cpu().numpy() for value in found)

        for start in range(0, len(order), run.most):
            halve_on_out_of_memory(score, order[start : start + run.most])
        advance(len(rows))

    run_batches(work, items, batch_tokens, model.devices, copies=8)
    return log_prob, correct


class _Replayed:
    """One clean pass over the items; sets are rows of its replay."""

    def __init__(self, model: HeadModel, items: list[dict], rows: list[int], baseline: Tensor, positions, tokens):
        length = max(len(items[row]["prompt_ids"]) + len(items[row]["answer_ids"]) - 1 for row in rows)
        batch = collate(items, rows, replay_length(model, length)).to(model.device)
        self.replay = Replay(model, batch, positions, range(model.n_layers))
        self.baseline = baseline
        self.most = max(1, tokens // (len(rows) * self.replay.width))
        if positions == "answer":
            self.most = min(self.most, max(1, ROW_POSITIONS // self.replay.width))

    def scores(self, sets: list[Heads]) -> tuple[Tensor, Tensor]:
        return self.replay.scores_of_sets(sets, lambda layer: self.baseline[:, layer])


class _Hooked:
    """Full passes with hooks over items x sets."""

    def __init__(self, model: HeadModel, items: list[dict], rows: list[int], baseline: Tensor, positions, tokens):
        self.model, self.baseline, self.positions = model, baseline, positions
        self.batch = collate(items, rows).to(model.device)
        self.most = max(1, tokens // self.batch.input_ids.numel())

    def scores(self, sets: list[Heads]) -> tuple[Tensor, Tensor]:
        batch = self.batch
        repeated = batch.repeat(len(sets))
        where = edit_mask(repeated, self.positions)
        layers = {layer for heads in sets for layer, _ in heads}
        with torch.no_grad(), self.model.edit_head_outputs({layer: self._edit(layer, sets, where) for layer in layers}):
            logits = self.model.logits(repeated.input_ids, repeated.attention_mask, repeated.keep)
        logits = repeated.gather_kept(logits)
        found = (kind(logits, repeated.targets, repeated.answer_mask) for kind in (answer_log_probability, exact_match))
        return tuple(value.unflatten(0, (len(batch), len(sets))) for value in found)

    def _edit(self, layer: int, sets: list[Heads], where: Tensor) -> Callable[[Tensor], Tensor]:
        chosen = heads_of_rows(layer, sets, self.model.n_heads)
        chosen = chosen.repeat(len(self.batch), 1)

        def edit(z: Tensor) -> Tensor:
            replaced = where.to(z.device)[:, :, None, None] & chosen.to(z.device)[:, None, :, None]
            return torch.where(replaced, self.baseline[:, layer].to(z)[:, None], z)

        return edit
