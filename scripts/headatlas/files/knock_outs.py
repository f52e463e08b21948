"""Knock-out files: results of knocking out sets of heads, item by item; numpy and safetensors only.

There is one file per method and source task (whose map chose the heads), and one per task for random rankings, whose
method is `RANDOM`. Metadata: a single JSON entry `about`, because safetensors writes several entries in any order. It
holds `method`, `task`, `dissociation_k` (None for random rankings), `sets` (a list, see `knock_out_sets`), `targets`
(a list of tasks) and `engine` (`engine.Report.as_dict` by target). For the i-th target: `{i}.sets` int64 [set] (indices
into `sets`), `{i}.score` float32 [set, item] (nats, `batches.score_answers`), `{i}.correct` uint8 [set, item],
`{i}.question` int64 [item].

Each set has a `kind`: its heads are knocked out (`out`), or all other heads are (`keep`). The source task is a target
with all sets; other targets need only the sets of k = `dissociation_k` that are knocked out and `top` or `random`.
Items are those of the validate split, in the same order in the files of all sources.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic

RANDOM = "random"  # stands for a method where heads are ranked at random
_TYPES = {"sets": np.int64, "score": np.float32, "correct": np.uint8, "question": np.int64}


class Target(NamedTuple):
    """Results on one task: sets [set], score and correct [set, item], question [item]."""

    sets: np.ndarray
    score: np.ndarray
    correct: np.ndarray
    question: np.ndarray


class KnockOut(NamedTuple):
    """One file; `sets` are dicts, `targets` are by task, and so is `engine` (how the target was computed)."""

    method: str
    task: str
    dissociation_k: int | None
    sets: list[dict]
    targets: dict[str, Target]
    engine: dict[str, dict]


def knocked_out(one: dict, heads: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The heads that output their baselines for a set: its own, or with kind `keep` all of `heads` but its own."""
    named = {(layer, head) for layer, head in one["heads"]}
    return sorted(named) if one["kind"] == "out" else [head for head in heads if head not in named]


def shared_sets(chosen: dict, source: str, target: str) -> np.ndarray:
    """Which of a source task's sets are run on a target: all on the source itself, the compared ones on others.

    Args:
        chosen: what `choose_heads` wrote: `dissociation_k`, and `sets` by source task.
    """
    compared = [
        index
        for index, one in enumerate(chosen["sets"][source])
        if source == target or _compared(one, chosen["dissociation_k"])
    ]
    return np.array(compared, dtype=np.int64)


def _compared(one: dict, k: int | None) -> bool:
    return one["kind"] == "out" and one["selection"] in ("top", "random") and one["k"] == k


def compared_sets(chosen: dict, source: str) -> list[dict]:
    """A source task's sets that are compared on other tasks, after the empty one.

    Args:
        chosen: as in `shared_sets`.
    """
    sets = chosen["sets"][source]
    return [sets[0], *(one for one in sets if _compared(one, chosen["dissociation_k"]))]


def write_knock_out(path: Path, knock_out: KnockOut) -> None:
    """Write one file, atomically."""
    tensors = {}
    for i, target in enumerate(knock_out.targets.values()):
        for name, values in target._asdict().items():
            tensors[f"{i}.{name}"] = np.ascontiguousarray(values, dtype=_TYPES[name])
    about = knock_out._asdict() | {"targets": list(knock_out.targets)}
    with atomic(path) as draft:
        save_file(tensors, draft, metadata={"about": json.dumps(about)})


def read_knock_out(path: Path) -> KnockOut:
    """Read one file.

    Raises:
        HeadAtlasError: not a knock-out file, or a score that is not finite.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["about"])
            targets = {
                task: Target(*(file.get_tensor(f"{i}.{name}") for name in Target._fields))
                for i, task in enumerate(about["targets"])
            }
            known = (about["method"], about["task"], about["dissociation_k"], about["sets"], targets, about["engine"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise HeadAtlasError(f"{path}: not a knock-out file ({error}); delete it and run again") from error
    for name, target in targets.items():
        if not np.isfinite(target.score).all():
            raise HeadAtlasError(f"{path}: log-probabilities on {name} are not finite; set dtype to float32")
    return KnockOut(*known)


def read_knock_outs(
    paths: Iterable[Path], methods: Sequence[str], tasks: Sequence[str]
) -> dict[tuple[str, str], KnockOut]:
    """The files of these methods and tasks, by method and task in this order.

    Raises:
        HeadAtlasError: as in `read_knock_out`; a file that was not given.
    """
    found = {(file.method, file.task): file for file in map(read_knock_out, paths)}
    wanted = list(product(methods, tasks))
    for method, task in wanted:
        if (method, task) not in found:
            raise HeadAtlasError(f"no knock-out file of {method}, {task} was given; run knock_out first")
    return {key: found[key] for key in wanted}


def sets_of(knock_out: KnockOut, target: str, selection: str, k: int, kind: str = "out") -> np.ndarray:
    """Rows of the target's arrays that hold this selection of k heads, in order of draw."""
    found = [(row, knock_out.sets[index]) for row, index in enumerate(knock_out.targets[target].sets)]
    wanted = [(one["draw"], row) for row, one in found if _named(one) == (kind, selection, k)]
    return np.array([row for _, row in sorted(wanted)], dtype=np.int64)


def _named(one: dict) -> tuple[str, str, int]:
    return one["kind"], one["selection"], one["k"]
