"""Effects files (safetensors) in, score files (Parquet) out; no polars or torch, so that jobs start fast."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from safetensors import SafetensorError, safe_open

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic
from headatlas.stats.head_statistics import FEWEST, HeadStatistics, studentised
from headatlas.stats.rounds import Rounds

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("model", "method", "task")]
    + [(name, pa.int32()) for name in ("layer", "head")]
    + [(name, pa.float64()) for name in ("effect", "std_error", "ci_low", "ci_high", "p_value")]
    + [(name, pa.int32()) for name in ("n_items", "n_questions")]
    + [("stopped", pa.bool_()), ("note", pa.string())]
)
NUMPY = {pa.int32(): np.int32, pa.float64(): np.float64}  # pyarrow 20 wants pandas for its own `to_pandas_dtype`


class Effects(NamedTuple):
    """Per-item effects: `effect` float32 [item, layer, head] in nats per answer token, `question` [item].

    `layers` numbers the second axis; `row` [item] numbers the items among all that the file holds; layers in
    `without_attention` (hybrid models) have no effects but NaN. `rounds` says on which items each head was measured
    (adaptive ablation); its other effects are NaN. None: all heads on all items. `seeds`: None, or where the rows are
    seeds instead of items (see `effects.write_learned`), `n_items` and `n_questions` behind them.
    """

    effect: np.ndarray
    question: np.ndarray
    layers: range
    row: np.ndarray
    without_attention: list[int]
    rounds: Rounds | None = None
    seeds: dict | None = None

    @property
    def flat(self) -> np.ndarray:
        """[item, head]: effects of all existing heads, in order of layer and head."""
        return self.effect[:, self._present].reshape(len(self.effect), -1)

    @property
    def complete(self) -> bool:
        """Whether every head was measured on every item."""
        return self.rounds is None or bool(self.rounds.measured[:, self._present].all())

    @property
    def _present(self) -> np.ndarray:
        """[layer] bool: the layers with attention."""
        return ~np.isin(self.layers, self.without_attention)


def read_effects(path: Path, layer: int | None = None, items: str = "all") -> Effects:
    """Read one effects file, or only `layer` of it.

    Args:
        items: `all`, or `correct` for only the items the model answers correctly.

    Returns:
        at least one item; with `layer`, the layer axis has length 1.

    Raises:
        HeadAtlasError: unreadable file, a layer it does not hold, an effect that is measured but not finite, no item
            left.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["about"])
            first, without_attention = about["first_layer"], about.get("without_attention", [])
            stored = file.get_slice("effect")
            layers = range(first, first + stored.get_shape()[1])
            if layer is None:
                effect = file.get_tensor("effect")
            elif layer in layers:
                effect = stored[:, layer - first : layer - first + 1, :]
                layers = range(layer, layer + 1)
            else:
                raise HeadAtlasError(f"{path}: holds layers {layers[0]} to {layers[-1]}, not layer {layer}")
            rounds = _rounds(file, range(layers[0] - first, layers[-1] + 1 - first))
            question, correct = file.get_tensor("question"), file.get_tensor("correct").astype(bool)
    except (SafetensorError, KeyError, TypeError) as error:
        raise HeadAtlasError(f"{path}: not an effects file ({error}); delete it and run again") from error
    _check_finite(effect, layers, without_attention, rounds, path)
    kept = correct if items == "correct" else np.ones(len(question), dtype=bool)
    if not kept.any():
        raise HeadAtlasError(f"{path}: {_no_item_left(len(question))}")
    rounds = rounds and rounds._replace(item=rounds.item[kept])
    rows = np.flatnonzero(kept)
    return Effects(effect[kept], question[kept], layers, rows, without_attention, rounds, about.get("seeds"))


def read_null(path: Path, items: str = "all") -> np.ndarray:
    """Studentised effects under the null in an effects file, for all heads of layers with attention: [draw, head].

    Args:
        items: as `read_effects`.

    Raises:
        HeadAtlasError: a file without a null.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            effect, error = (file.get_tensor(f"null_{name}_{items}") for name in ("effect", "error"))
            without_attention = json.loads(file.metadata()["about"])["without_attention"]
    except SafetensorError as reason:
        raise HeadAtlasError(f"{path}: holds no null ({reason}); delete it and run again") from reason
    present = ~np.isin(np.arange(effect.shape[1]), without_attention)
    return studentised(effect[:, present], error[:, present]).reshape(len(effect), -1)


def read_pushed(path: Path) -> dict[str, np.ndarray]:
    """Probabilities of gates to be open after they were pushed `open` and `shut`: [seed, layer, head] each.

    Raises:
        HeadAtlasError: a file without them.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {push: file.get_tensor(f"pushed_{push}") for push in ("open", "shut")}
    except SafetensorError as error:
        raise HeadAtlasError(f"{path}: holds no gates that were pushed ({error}); delete it and run again") from error


def read_completeness(path: Path, read: Effects) -> float:
    """How far the effects of an item's heads are from the sum that they should have (`attribution.path_gains`).

    Args:
        read: all layers of the file at `path`.

    Returns:
        mean absolute error over items, as a share of the mean absolute gain; NaN if the file holds no gains.
    """
    with safe_open(path, framework="numpy") as file:
        if "gain" not in set(file.keys()):
            return float("nan")
        gain = file.get_tensor("gain")[read.row].astype(np.float64)
    error = np.abs(np.nansum(read.effect, axis=(1, 2), dtype=np.float64) - gain).mean()
    return float(error / np.abs(gain).mean()) if gain.any() else float("nan")


def read_task(folder: Path, names: Iterable[str], task: str, items: str = "all") -> Effects:
    """Read all blocks of layers of one method and task as one, in the order of the layers.

    Args:
        folder: the folder of the method's effects; names: its file names, with {task} as a placeholder.

    Raises:
        HeadAtlasError: as in `read_effects`; a missing block; blocks that skip or repeat a layer or differ in items.
    """
    paths = [folder / name.format(task=task) for name in names]
    for path in paths:
        if not path.is_file():
            raise HeadAtlasError(f"{path}: no such effects file; run that method on that task first")
    blocks = sorted((read_effects(path, items=items) for path in paths), key=lambda block: block.layers[0])
    for below, block in pairwise(blocks):
        if block.layers[0] != below.layers[-1] + 1:
            gap = f"layer {below.layers[-1]} is followed by layer {block.layers[0]}"
            raise HeadAtlasError(f"{paths[0]} and its other blocks: {gap}; delete them and run again")
        if not np.array_equal(block.question, below.question):
            raise HeadAtlasError(f"{paths[0]} and its other blocks hold different items; delete them and run again")
    effect = np.concatenate([block.effect for block in blocks], axis=1)
    layers = range(blocks[0].layers[0], blocks[-1].layers[-1] + 1)
    rounds = blocks[0].rounds and Rounds(blocks[0].rounds.item, np.concatenate([block.rounds.head for block in blocks]))
    return blocks[0]._replace(effect=effect, layers=layers, rounds=rounds)


def read_maps(
    folder: Path, names: Mapping[str, Sequence[str]], tasks: Sequence[str], items: str = "all"
) -> Iterator[tuple[str, str, Effects]]:
    """Read all effects of a model: yield (method, task, effects), method by method.

    Args:
        folder: the model's effects, one folder per method; names: file names per method, with placeholder {task}.

    Raises:
        HeadAtlasError: as `read_task`.
    """
    for method, files in names.items():
        for task in tasks:
            yield method, task, read_task(folder / method, files, task, items)


def write_scores(path: Path, *about: object, **more: object) -> None:
    """Write a table of scores; arguments as in `score_table`."""
    with atomic(path) as draft:
        parquet.write_table(score_table(*about, **more), draft)


def score_table(
    statistics: HeadStatistics,
    names: Mapping[str, str],
    layer: int,
    n_questions: int | None = None,
    seeds: int | None = None,
) -> pa.Table:
    """One row per head of a layer in `SCHEMA`; NaN becomes null, and `note` says why.

    Args:
        names: holds `model`, `method` and `task`.
        n_questions: those of the task; a head that was measured on fewer is `stopped`. None: no head was.
        seeds: their number, if the statistics are over seeds.
    """
    n = len(statistics.effect)
    columns = [_text(names[name], n) for name in ("model", "method", "task")]
    columns += [_numbers(np.full(n, layer, np.int32)), _numbers(np.arange(n, dtype=np.int32))]
    for field in SCHEMA.names[5:-2]:
        values = np.broadcast_to(getattr(statistics, field), n)
        columns.append(_numbers(values.astype(NUMPY[SCHEMA.field(field).type])))
    measured = np.broadcast_to(statistics.n_questions, n)
    stopped = np.zeros(n, bool) if n_questions is None else measured < n_questions
    columns.append(_truths(stopped))
    notes = zip(statistics.effect, measured.tolist(), stopped.tolist(), strict=True)
    columns.append(_texts([_note(*known, n_questions, seeds) for known in notes]))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _note(effect: float, n_questions: int, stopped: bool, of: int | None, seeds: int | None) -> str | None:
    """Why a head has no interval, or the interval of fewer questions than its task has; None if neither."""
    if np.isnan(effect):
        return "no effect"
    if stopped:
        return f"stopped after {n_questions} of {of} questions"
    if seeds is not None:
        return f"mean and standard error over {seeds} seeds, not questions, so there is no interval"
    return f"{n_questions} questions, too few for an interval" if n_questions < FEWEST else None


# Arrow arrays are built from raw buffers, because `pyarrow.array` imports pandas if installed, which takes longer (0.2
# s) than the rest of the job.
def _numbers(values: np.ndarray) -> pa.Array:
    known = pa.py_buffer(np.packbits(~np.isnan(values), bitorder="little").tobytes())
    buffers = [known, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def _truths(values: np.ndarray) -> pa.Array:
    bits = pa.py_buffer(np.packbits(values, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])


def _text(value: str, n: int) -> pa.Array:
    return _texts([value] * n)


def _texts(values: list[str | None]) -> pa.Array:
    known = pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little").tobytes())
    contents = [(value or "").encode() for value in values]
    ends = pa.py_buffer(np.cumsum([0, *map(len, contents)], dtype=np.int32))
    return pa.Array.from_buffers(pa.string(), len(values), [known, ends, pa.py_buffer(b"".join(contents))])


def _no_item_left(n: int) -> str:
    if n == 0:
        return "holds no item of the score split; give the task more questions or lower items.validate_fraction"
    return (
        f"the model answers none of the {n} items correctly, so statistics.items: correct leaves nothing; "
        "set statistics.items to all, or give the task items the model can answer"
    )


def _rounds(file: safe_open, layers: range) -> Rounds | None:
    """The rounds of some layers, numbered from the first in the file; None if all heads were measured on all items."""
    if "item_round" not in set(file.keys()):
        return None
    return Rounds(file.get_tensor("item_round"), file.get_tensor("head_rounds")[layers.start : layers.stop])


def _check_finite(
    effect: np.ndarray, layers: range, without_attention: list[int], rounds: Rounds | None, path: Path
) -> None:
    strange = ~np.isfinite(effect) & ~np.isin(layers, without_attention)[:, None]
    strange &= True if rounds is None else rounds.measured
    if strange.any():
        item, layer, head = (int(i) for i in np.argwhere(strange)[0])
        raise HeadAtlasError(
            f"{path}: the effect of layer {layers[layer]}, head {head} on item {item} is not finite; "
            "the model overflows: set its dtype to bfloat16 or float32"
        )
