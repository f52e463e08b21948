"""What every head attends to from the answer positions of items, on the clean model."""

from collections.abc import Callable
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from headatlas.files.attention import FLOOR, FULL, Attention, rows_of
from headatlas.models.batches import collate, run_batches
from headatlas.models.engine import padding_matters
from headatlas.models.head_model import HeadModel
from headatlas.models.patterns import read_patterns


def attend(
    model: HeadModel,
    items: list[dict],
    texts: list[list[str]],
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
) -> Attention:
    """The attention weights of all heads from the answer positions, of at least `FLOOR`.

    Args:
        items: tokenised items; texts: [item][token], the text of each token of prompt and answer.
        batch_tokens: the most padded tokens of one pass; advance: called with the number of items done.

    Raises:
        HeadAtlasError: a layer whose weights cannot be told (`patterns.read_patterns`).
    """
    rows = np.array([rows_of(item) for item in items])
    first = np.array([0, *accumulate(rows)])
    kept: list[np.ndarray] = [np.empty((0, 5), np.int64)]

    def run(chosen: list[int], tokens: int) -> None:
        batch = collate(items, chosen).to(model.device)
        known = torch.arange(batch.positions.shape[1]) < torch.from_numpy(rows[chosen])[:, None]
        found: list[np.ndarray] = []  # apart: a pass that runs out of memory is run again

        def read(layer: int, weights: Tensor) -> None:
            large = (weights >= FLOOR) & known.to(weights.device)[:, None, :, None]
            item, head, query, key = (index.cpu().numpy() for index in large.nonzero(as_tuple=True))
            stored = (weights[large] * FULL).round().cpu().numpy()
            row = first[np.array(chosen)[item]] + query
            found.append(np.stack([np.full(len(item), layer), head, row, key, stored], axis=1).astype(np.int64))

        read_patterns(model, batch, read, batch.positions)
        kept.extend(found)
        advance(len(chosen))

    short = np.flatnonzero(rows).tolist()
    padded = not short or not padding_matters(model, [items[index] for index in short])
    run_batches(run, items, batch_tokens, model.devices, short, padded=padded, room=model.room)
    starts = [len(item["prompt_ids"]) for item in items]
    about = [_about(*each) for each in zip(texts, starts, rows.tolist(), strict=True)]
    return _ordered(np.concatenate(kept), (*model.shape[:2], int(first[-1])), about)


def _about(text: list[str], start: int, rows: int) -> dict:
    return {"tokens": text if rows else [], "start": start, "rows": rows}


def _ordered(entries: np.ndarray, shape: tuple[int, int, int], about: list[dict]) -> Attention:
    """The file's content from [entry, (layer, head, row, position, weight)] in any order."""
    layer, head, row, position, _ = entries.T
    entries = entries[np.lexsort((position, row, head, layer))]
    counts = np.bincount(np.ravel_multi_index((layer, head, row), shape), minlength=int(np.prod(shape)))
    return Attention(counts.reshape(shape), entries[:, 3], entries[:, 4], about)
