"""Exact effect of replacing one head's output by a baseline: activation patching, one head at a time.

Two engines give the same numbers: `replay` (fast) and `hooked` (one row of a full pass per item and head). `engine`
chooses between them and checks the result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from headatlas.models.batches import collate, halve_on_out_of_memory, run_batches
from headatlas.models.engine import Report, run_checked
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads, scores_of_sets
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
    passes = Passes(model, items, baseline_of(baseline), layers, positions, batch_tokens)

    def compute(engine: str, padded: bool, computed: Callable[[int], None]) -> np.ndarray:
        effects = passes.unmeasured()
        passes.measure(effects, range(len(items)), passes.heads, engine, padded, computed)
        return effects

    return passes.checked(compute, engine, advance)


@dataclass(frozen=True)
class Passes:
    """Passes over items with one head ablated; the fields are the arguments of `ablate_layers`."""

    model: HeadModel
    items: list[dict]
    baseline: Baseline
    layers: range
    positions: str
    batch_tokens: int

    @property
    def heads(self) -> np.ndarray:
        """[layer of `layers`, head] bool: the heads that exist; none in layers without attention."""
        exist = [self.model.attentions[layer] is not None for layer in self.layers]
        return np.repeat(np.array(exist)[:, None], self.model.n_heads, axis=1)

    def unmeasured(self) -> np.ndarray:
        """[item, layer of `layers`, head] float32, all NaN."""
        return np.full((len(self.items), len(self.layers), self.model.n_heads), np.nan, np.float32)

    def measure(
        self,
        effects: np.ndarray,
        rows: Sequence[int],
        heads: np.ndarray,
        engine: str,
        padded: bool,
        computed: Callable[[int], None],
    ) -> None:
        """Fill in `effects` of the items at `rows` and of `heads` ([layer, head] bool)."""
        layer, head = np.nonzero(heads)
        edits = [(self.layers[index], int(of)) for index, of in zip(layer, head, strict=True)]
        run = {"replay": _replayed, "hooked": _hooked}[engine]

        def work(part: list[int], tokens: int) -> None:
            drop = run(self.model, self.items, part, self.baseline, edits, self.positions, tokens, computed)
            effects[np.array(part)[:, None], layer, head] = drop.cpu().numpy()

        # A row of replay is as long as the batch's longest answer, which would make shorter ones more expensive.
        ragged, devices = self.positions != "answer", self.model.devices
        room = self.model.room
        rows = [int(row) for row in rows]
        run_batches(work, self.items, self.batch_tokens, devices, rows, padded=padded, ragged=ragged, room=room)

    def checked(
        self,
        compute: Callable[[str, bool, Callable[[int], None]], np.ndarray],
        engine: str,
        advance: Callable[[int], None],
        complete: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, Report]:
        """What `compute` returns, by an engine whose numbers plain passes confirm (`engine.run_checked`).

        Args:
            complete: the items on which all heads are measured; None for all items.
        """
        present = np.flatnonzero(self.heads.any(axis=1)).tolist()

        def cells(effects: np.ndarray, item: int) -> tuple[list[list[tuple[int, int]]], np.ndarray]:
            chosen = _checked_heads(effects[item], present)
            edits = [[(self.layers[layer], head)] for layer, head in chosen]
            return edits, np.array([effects[item, layer, head] for layer, head in chosen])

        entries = [self.layers[index] for index in present for _ in range(self.model.n_heads)]
        return run_checked(
            self.model, self.items, self.baseline, self.positions, engine, compute, cells, entries, advance, complete
        )


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
    model, items, rows, baseline: Baseline, edits: Heads, positions: str, batch_tokens: int, computed=lambda _n: None
) -> torch.Tensor:
    """[item of `rows`, edit] nats; `edits`: (layer, head) in order of layers."""
    layers = _span(edits)
    replay, most = replay_items(model, items, rows, positions, layers, batch_tokens)
    replacement = baseline.on(model, replay.batch, positions, layers)
    effects = torch.zeros(len(rows), len(edits))
    # The unedited row goes through every pass where rounding is relative to it, with half-precision weights. Otherwise
    # one pass is enough: with long answers it would be every fourth row.
    once = not weights_in_half(model.model)
    clean: list[torch.Tensor] = []

    def work(part: list[int]) -> None:
        with_clean = not (once and clean)
        score = replay.scores([[edits[index]] for index in part], replacement, with_clean)[0].cpu()
        if with_clean:
            clean[:] = [score[:, :1]]
        drop = clean[0] - score[:, int(with_clean) :]
        effects[:, part] = drop
        computed(drop.numel())

    _in_parts(work, len(edits), most)
    return effects


def _hooked(
    model, items, rows, baseline: Baseline, edits: Heads, positions: str, batch_tokens: int, computed=lambda _n: None
) -> torch.Tensor:
    """As `_replayed`."""
    batch = collate(items, rows).to(model.device)
    replacement = baseline.on(model, batch, positions, _span(edits))
    effects = torch.zeros(len(rows), len(edits))

    def work(part: list[int]) -> None:
        sets = [[], *([edits[index]] for index in part)]
        score = scores_of_sets(model, batch, sets, replacement, positions)[0].cpu()
        effects[:, part] = score[:, :1] - score[:, 1:]
        computed(len(rows) * len(part))

    _in_parts(work, len(edits), max(1, batch_tokens // batch.input_ids.numel()))
    return effects


def _span(edits: Heads) -> range:
    """The layers from the first edit to the last."""
    return range(edits[0][0], edits[-1][0] + 1) if edits else range(0)


def _in_parts(work: Callable[[list[int]], None], n: int, most: int) -> None:
    """Call `work` with 0, 1, ... below `n`, at most `most` at a time, and fewer where memory is short."""
    for start in range(0, n, most):
        halve_on_out_of_memory(work, list(range(start, min(start + most, n))))
