"""Exact effect of replacing one head's output by a baseline: activation patching, one head at a time.

Two engines give the same numbers: `replay` (fast) and `hooked` (one row of a full pass per item and head). `engine`
chooses between them and checks the result.
"""

from collections.abc import Callable

import numpy as np
import torch

from headatlas.models.batches import collate, halve_on_out_of_memory, run_batches
from headatlas.models.engine import Report, run_checked
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import scores_of_sets
from headatlas.models.precision import weights_in_half
from headatlas.models.replacement import Baseline, baseline_of
from headatlas.models.replay import replay_items


def ablate_layers(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray | Baseline,
    layers: range,
    positions: str,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    engine: str = "auto",
) -> tuple[np.ndarray, Report]:
    """Drop in the answer's score when a single head outputs its baseline, for each head of `layers`.

    Everything downstream is recomputed (activation patching; Vig et al. 2020, arXiv 2004.12265). Plain, unpadded passes
    recompute the largest effects of the shortest and the longest item for comparison.

    Args:
        items: tokenised items; baseline: what an ablated head outputs; a table is [1 or item, layer, head, d_head].
        positions: `answer` replaces the head's output at the answer positions only, `all` everywhere.
        batch_tokens: the most positions of one pass, over all rows.
        advance: called with the number of effects (items x heads) that a pass computed; less than 0 where they are
            computed anew by another engine.
        engine: `replay`, `hooked`, or `auto` (`replay` if it holds).

    Returns:
        [item, layer of `layers`, head] float32, nats (`batches.score_answers`); positive = the head helps; NaN in
        layers without attention. And the report of the engine.

    Raises:
        HeadAtlasError: `replay` is requested but does not hold; or full passes disagree with plain ones, too.
    """
    baseline = baseline_of(baseline)
    with_heads = [layer for layer in layers if model.attentions[layer]]

    def compute(engine: str, padded: bool, computed: Callable[[int], None]) -> np.ndarray:
        effects = np.zeros((len(items), len(layers), model.n_heads), np.float32)

        def work(rows: list[int], tokens: int) -> None:
            run = {"replay": _replayed, "hooked": _hooked}[engine]
            effects[rows] = run(model, items, rows, baseline, layers, positions, tokens, computed).cpu().numpy()

        # A row of replay is as long as the batch's longest answer, which would make shorter ones more expensive.
        ragged = positions != "answer"
        run_batches(work, items, batch_tokens, model.devices, padded=padded, ragged=ragged, room=model.room)
        effects[:, [layer - layers.start for layer in layers if layer not in with_heads]] = np.nan
        return effects

    def cells(effects: np.ndarray, item: int) -> tuple[list[list[tuple[int, int]]], np.ndarray]:
        chosen = _checked_heads(effects[item], [layer - layers.start for layer in with_heads])
        edits = [[(layers.start + layer, head)] for layer, head in chosen]
        return edits, np.array([effects[item, layer, head] for layer, head in chosen])

    entries = [layer for layer in with_heads for _ in range(model.n_heads)]
    return run_checked(model, items, baseline, positions, engine, compute, cells, entries, advance)


def _checked_heads(effects: np.ndarray, layers: list[int]) -> list[tuple[int, int]]:
    """Cells of [layer, head] to recompute: the largest in the first, middle and last layer, and some others.

    Late heads come last among the side-by-side rows of the replay engine, farthest from the prompt.

    Args:
        layers: the layers with attention.
    """
    if not layers:
        return []
    first, middle, last = layers[0], layers[(len(layers) - 1) // 2], layers[-1]
    largest = [(layer, int(np.abs(effects[layer]).argmax())) for layer in (first, middle, last)]
    end = effects.shape[1] - 1
    return list(dict.fromkeys([*largest, (first, 0), (middle, end), (last, end)]))


def _replayed(
    model, items, rows, baseline: Baseline, layers: range, positions: str, batch_tokens: int, computed=lambda _n: None
) -> torch.Tensor:
    replay, most = replay_items(model, items, rows, positions, layers, batch_tokens)
    replacement = baseline.on(model, replay.batch, positions, layers)
    effects = torch.zeros(len(rows), len(layers), model.n_heads)
    edits = [(layer, head) for layer in layers for head in range(model.n_heads)]
    # The unedited row goes through every pass, because rounding of half-precision weights is relative to it. A whole
    # extra sequence per pass is expensive; with float32 weights one is enough.
    once = not replay.at_answers and not weights_in_half(model.model)
    clean: list[torch.Tensor] = []

    def work(part: list[tuple[int, int]]) -> None:
        with_clean = not (once and clean)
        score = replay.scores([[edit] for edit in part], replacement, with_clean)[0].cpu()
        if with_clean:
            clean[:] = [score[:, :1]]
        drop = clean[0] - score[:, int(with_clean) :]
        for row, (layer, head) in enumerate(part):
            effects[:, layer - layers.start, head] = drop[:, row]
        computed(drop.numel())

    for start in range(0, len(edits), most):
        halve_on_out_of_memory(work, edits[start : start + most])
    return effects


def _hooked(
    model, items, rows, baseline: Baseline, layers: range, positions: str, batch_tokens: int, computed=lambda _n: None
) -> torch.Tensor:
    batch = collate(items, rows).to(model.device)
    replacement = baseline.on(model, batch, positions, layers)
    most = max(1, batch_tokens // batch.input_ids.numel())
    effects = torch.zeros(len(rows), len(layers), model.n_heads)

    def work(edits: list[tuple[int, int]]) -> None:
        score = scores_of_sets(model, batch, [[], *([edit] for edit in edits)], replacement, positions)[0].cpu()
        for row, (layer, head) in enumerate(edits, start=1):
            effects[:, layer - layers.start, head] = score[:, 0] - score[:, row]
        computed(len(rows) * len(edits))

    for layer in (layer for layer in layers if model.attentions[layer]):
        edits = [(layer, head) for head in range(model.n_heads)]
        for start in range(0, model.n_heads, most):
            halve_on_out_of_memory(work, edits[start : start + most])
    return effects
