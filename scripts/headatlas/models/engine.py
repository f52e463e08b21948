"""Chooses the engine that computes edited passes, and checks its results against plain passes.

`replay` is fast and relies on how a model's layers are called; `hooked` runs the whole model for every edit. With
either, plain unpadded passes with the same edits recompute the task's shortest and longest item. If `replay` does not
fit a model or disagrees, `hooked` replaces it only with the user's permission, and the run reports it.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass

import numpy as np
import torch

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import log
from headatlas.models.batches import Batch, collate, score_answers
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads, scores_of_sets
from headatlas.models.layouts import UnsupportedError
from headatlas.models.precision import float32_reference, weights_in_half
from headatlas.models.replacement import Baseline
from headatlas.models.work import edited_rows, extremes, sequence_length, total, whole_pass

# Largest difference between two ways to compute a number, relative to 1 + the largest number compared, by format of the
# weights: half a unit in the last place of bfloat16 (2^-9) or float16 (2^-12), over some 200 consecutive products.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 3e-2, torch.float16: 3e-3}
NOISIER = 1.2  # multiple of the rounding noise of plain passes that an engine may have


@dataclass(frozen=True)
class Report:
    """How a job's edited passes were computed.

    `engine`: replay or hooked; `reason`: why not replay, None if it was used or not wanted; `padded`: whether items
    of different lengths shared a batch; `work`: work of the passes relative to replay (an estimate in layers x
    positions); `checked`: numbers recomputed by plain passes in float32; `difference`: the largest difference found;
    `noise`: the root mean square of the differences, nats; effects below it are rounding; `half_because`: why the model
    computes in half precision, None if it computes in float32.
    """

    engine: str
    reason: str | None
    padded: bool
    work: float
    checked: int
    difference: float
    noise: float
    half_because: str | None = None

    def as_dict(self) -> dict:
        """The form stored in files."""
        return asdict(self)


def run_checked(
    model: HeadModel,
    items: list[dict],
    baseline: Baseline,
    positions: str,
    wanted: str,
    compute: Callable[[str, bool, Callable[[int], None]], np.ndarray],
    cells: Callable[[np.ndarray, int], tuple[list[Heads], np.ndarray]],
    entries: list[int],
    advance: Callable[[int], None] = lambda _n: None,
    complete: Sequence[int] | None = None,
) -> tuple[np.ndarray, Report]:
    """Compute with the wanted engine, check the result, and report.

    Args:
        baseline: what edited heads output; positions: `answer` or `all`; wanted: `auto`, `replay` or `hooked`.
        compute: (engine, padded, computed) -> the result; calls `computed` with the numbers that each pass gives.
        cells: (result, item) -> sets of heads to recheck on that item, and the drop in the answer's score that the
            result gives each, nats.
        entries: the first edited layer of every edited row (for the amount of work).
        advance: called with the numbers computed; with less than 0 when they are computed again.
        complete: the items for which the result is complete, of which the shortest and the longest are rechecked; None
            for all.

    Raises:
        HeadAtlasError: `replay` is requested but does not hold; or even full passes depend on what shares their batch.
    """
    reason, done = None, 0
    rechecked = extremes(items, complete)

    def run(engine: str, padded: bool) -> np.ndarray:
        nonlocal done
        advance(-done)
        done = 0

        def computed(n: int) -> None:
            nonlocal done
            done += n
            advance(n)

        return compute(engine, padded, computed)

    padded = not padding_matters(model, items)
    if wanted != "hooked":
        try:
            result = run("replay", padded)
            found = _check(model, items, rechecked, baseline, positions, result, cells)
            if found.holds:
                return result, _report(model, found, "replay", None, padded, 1.0)
            reason = f"replayed passes differ from plain ones by {found.difference:.2g} nats"
        except UnsupportedError as error:
            reason = str(error)
        if wanted == "replay":
            raise HeadAtlasError(
                f"model {model.name}: compute.engine: replay is not possible: {reason}; use engine: auto, which runs "
                f"the whole model for every edit ({work_ratio(model, items, positions, entries):.0f} times the work)"
            )
        log.info("engine: full passes, because replay does not fit this model: %s", reason)
    work = work_ratio(model, items, positions, entries)
    for padding in dict.fromkeys((padded, False)):
        result = run("hooked", padding)
        found = _check(model, items, rechecked, baseline, positions, result, cells)
        if found.holds:
            return result, _report(model, found, "hooked", reason, padding, work)
    raise HeadAtlasError(
        f"model {model.name}: passes over several rows differ from a single plain pass by {found.difference:.2g} nats, "
        "even among items of one length; this model's numbers depend on what shares a pass, and cannot be mapped"
    )


def padding_matters(model: HeadModel, items: list[dict]) -> bool:
    """Whether items of different lengths must not share a batch, because the model's positions follow the padded
    length.

    Tested on the shortest item, padded to the length of the longest.

    Raises:
        HeadAtlasError: an item is longer than the number of keys that an indexer of the model selects.
    """
    shortest, longest = extremes(items)
    _refuse_selection(model, sequence_length(items[longest]))
    alone = collate(items, [shortest]).to(model.device)
    padded = collate(items, [shortest], length=sequence_length(items[longest])).to(model.device)
    if alone.input_ids.shape == padded.input_ids.shape:
        return False
    first, second = (_score(model, batch) for batch in (alone, padded))
    matters = bool((first - second).abs() > TOLERANCE[model.arithmetic] * (1 + first.abs()))
    if matters:
        log.info("items of different lengths do not share a batch: this model's numbers depend on the padding")
    return matters


def _refuse_selection(model: HeadModel, longest: int) -> None:
    """Refuse items whose keys an indexer (as in DeepSeek-V3.2) selects: the pass's shape breaks ties."""
    kept = getattr(model.model.config.get_text_config(), "index_topk", None)
    if isinstance(kept, int) and longest > kept:
        raise HeadAtlasError(
            f"model {model.name}: its indexer picks {kept} of up to {longest} keys, and which of equal ones depends on "
            f"what shares a pass; take items of at most {kept} tokens (items.max_tokens)"
        )


def work_ratio(model: HeadModel, items: list[dict], positions: str, entries: list[int]) -> float:
    """Work of full passes relative to replay, counted in layers x positions.

    Args:
        entries: the first edited layer of every edited row.
    """
    above = sum(model.n_layers - entry for entry in entries)
    clean = total(whole_pass(item, model.n_layers) for item in items)
    rows = total(edited_rows(item, len(entries), above, positions) for item in items)
    return clean.layers * (1 + len(entries)) / (clean + rows).layers


@dataclass(frozen=True)
class _Found:
    holds: bool
    cells: int
    difference: float
    noise: float


def _report(model: HeadModel, found: _Found, engine: str, reason: str | None, padded: bool, work: float) -> Report:
    return Report(engine, reason, padded, work, found.cells, found.difference, found.noise, model.half_because)


def _check(model, items, rechecked, baseline, positions, result, cells) -> _Found:
    """Recompute some of the result by plain passes over single unpadded items, in float32.

    With half-precision weights the same passes also run in the arithmetic of the model: an engine may round as they do.
    """
    start = time.perf_counter()
    rounds = weights_in_half(model.model)
    given, plain, truth = [], [], []
    for item in dict.fromkeys(rechecked):
        sets, drops = cells(result, item)
        batch = collate(items, [item]).to(model.device)
        given.append(drops)
        with float32_reference(model.model) if model.half_because is None else nullcontext():
            truth.append(_drops(model, batch, sets, baseline, positions))
        plain.append(_drops(model, batch, sets, baseline, positions) if rounds else truth[-1])
    given, plain, truth = (np.concatenate(parts) for parts in (given, plain, truth))
    if not np.isfinite(truth).all():
        return _Found(True, len(truth), float("nan"), float("nan"))  # overflow: reported where the result is written
    difference, noise = float(np.abs(given - truth).max(initial=0)), rms(given - truth)
    holds = difference <= TOLERANCE[model.kept_in] * (1 + float(np.abs(truth).max(initial=0)))  # False for NaN
    holds = holds or noise <= NOISIER * rms(plain - truth)
    seconds = time.perf_counter() - start
    log.info("check: %d numbers by plain passes, largest difference %.2g, %.2f s", len(truth), difference, seconds)
    return _Found(holds, len(truth), difference, noise)


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def _drops(model, batch, sets, baseline, positions) -> np.ndarray:
    """[set]: drop in the answer's score, for a batch of one item."""
    replacement = baseline.on(model, batch, positions, range(model.n_layers))
    score = scores_of_sets(model, batch, [[], *sets], replacement, positions)[0][0].cpu().numpy()
    return score[0] - score[1:]


def _score(model: HeadModel, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        logits = model.logits(batch.input_ids, batch.attention_mask, batch.gather)
        return score_answers(logits, batch)[0][0]
