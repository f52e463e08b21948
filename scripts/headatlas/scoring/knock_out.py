"""What a model can still do when whole sets of heads output their baselines together."""

from collections.abc import Callable

import numpy as np

from headatlas.models.batches import collate, halve_on_out_of_memory, run_batches
from headatlas.models.engine import Report, run_checked
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads, scores_of_sets
from headatlas.models.replacement import Baseline, baseline_of
from headatlas.models.replay import replay_items


def knock_out(
    model: HeadModel,
    items: list[dict],
    sets: list[Heads],
    baseline: np.ndarray | Baseline,
    positions: str,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    engine: str = "auto",
) -> tuple[np.ndarray, np.ndarray, Report]:
    """Answer score and correctness of every item under every set of knocked-out heads; equal sets are run once.

    Args:
        items: tokenised items; sets: heads of each set, an empty one is the clean model.
        advance: called with the number of scores (items x `distinct` sets) that a pass computed; less than 0 where
            they are computed anew by another engine.
        baseline: what a knocked-out head outputs; a table is [1, layer, head, d_head]; positions: `answer` or `all`.
        engine: `replay`, `hooked`, or `auto` (`replay` if it holds).

    Returns:
        score [set, item] float32, nats (`batches.score_answers`); correct [set, item] uint8; and the report of the
        engine.

    Raises:
        HeadAtlasError: as in `engine.run_checked`.
    """
    asked, rows_of_sets = distinct(sets)
    first_layer = [min((layer for layer, _ in heads), default=model.n_layers) for heads in asked]
    order = sorted(range(len(asked)), key=first_layer.__getitem__)
    baseline = baseline_of(baseline)

    def compute(engine: str, padded: bool, computed: Callable[[int], None]) -> np.ndarray:
        found = np.zeros((2, len(asked), len(items)), np.float32)  # score, correctness

        def work(rows: list[int], tokens: int) -> None:
            scores, most = {"replay": _replayed, "hooked": _hooked}[engine](
                model, items, rows, baseline, positions, tokens
            )

            def score(part: list[int]) -> None:
                for kind, value in enumerate(scores([asked[index] for index in part])):
                    found[kind][np.ix_(part, rows)] = value.T.float().cpu().numpy()
                computed(len(part) * len(rows))

            for start in range(0, len(order), most):
                halve_on_out_of_memory(score, order[start : start + most])

        ragged = positions != "answer"  # as in `ablate_layers`
        run_batches(work, items, batch_tokens, model.devices, copies=8, padded=padded, ragged=ragged, room=model.room)
        return found

    def cells(found: np.ndarray, item: int) -> tuple[list[Heads], np.ndarray]:
        drops = found[0, 0, item] - found[0, :, item]
        # The set that costs most, and the first and last among the rows of the replay engine.
        chosen = list(dict.fromkeys([int(np.abs(drops).argmax()), order[0], order[-1]]))
        return [asked[index] for index in chosen], drops[chosen]

    entries = [entry for entry in first_layer if entry < model.n_layers]
    found, report = run_checked(model, items, baseline, positions, engine, compute, cells, entries, advance)
    return found[0, rows_of_sets], found[1, rows_of_sets].astype(np.uint8), report


def distinct(sets: list[Heads]) -> tuple[list[Heads], list[int]]:
    """The clean model and every set that differs from it, once each, and where each of `sets` is among them.

    The clean model is always there: the check wants to know how much the heads are missed.
    """
    places: dict[tuple, int] = {(): 0}
    found = [places.setdefault(tuple(sorted(map(tuple, heads))), len(places)) for heads in sets]
    return [list(heads) for heads in places], found


def _replayed(model: HeadModel, items: list[dict], rows: list[int], baseline: Baseline, positions: str, tokens: int):
    """(function that scores sets as rows of one replay, most sets it takes at once)."""
    replay, most = replay_items(model, items, rows, positions, range(model.n_layers), tokens)
    replacement = baseline.on(model, replay.batch, positions, range(model.n_layers))
    # The unedited row, which comes first, belongs to no set.
    return lambda sets: tuple(found[:, 1:] for found in replay.scores(sets, replacement)), most


def _hooked(model: HeadModel, items: list[dict], rows: list[int], baseline: Baseline, positions: str, tokens: int):
    """(function that scores sets by full passes, most sets it takes at once)."""
    batch = collate(items, rows).to(model.device)
    most = max(1, tokens // batch.input_ids.numel())
    replacement = baseline.on(model, batch, positions, range(model.n_layers))
    return lambda sets: scores_of_sets(model, batch, sets, replacement, positions), most
