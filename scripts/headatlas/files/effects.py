"""Effects files: per-item effects of heads, the same format for every method, and the baselines they refer to.

Uses only numpy and safetensors, so that light jobs start fast.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic
from headatlas.stats.rounds import Rounds


def write_effects(
    path: Path,
    effect: np.ndarray,
    question: np.ndarray,
    correct: np.ndarray,
    without_attention: Sequence[int] = (),
    first_layer: int = 0,
    null: dict[str, np.ndarray] | None = None,
    engine: dict | None = None,
    gain: np.ndarray | None = None,
    rounds: Rounds | None = None,
    seeds: dict | None = None,
) -> None:
    """Write per-item effects, or with `seeds` those of learned models (see `write_learned`).

    Args:
        effect: [item, layer, head] float32, nats per answer token (probe: logits); positive = the head helps.
        question: [item] int64, index of the item's question; correct: [item] whether the clean model is right.
        without_attention: layers without attention (hybrid models); their effects are NaN.
        first_layer: the layer of `effect[:, 0]`.
        null: further tensors to store, each [draw, layer, head] float32 (see `probe_null.null_effects`), or of seeds.
        engine: how they were computed (`engine.Report.as_dict`), if the model was run for them.
        seeds: number of items and questions behind the rows, where these are seeds.
        gain: [item], what the effects of all heads on an item should add up to (see `attribution.path_gains`).
        rounds: on which items each head was measured (`head` [layer, head]); `effect` is NaN elsewhere. None: on all.

    Metadata: a single JSON entry `about`, because safetensors writes several entries in any order.

    Raises:
        HeadAtlasError: a measured effect is not finite.
    """
    require_finite(path, effect, without_attention, first_layer, rounds)
    tensors = {
        "effect": np.ascontiguousarray(effect, dtype=np.float32),
        "question": np.ascontiguousarray(question, dtype=np.int64),
        "correct": np.ascontiguousarray(correct, dtype=np.uint8),
    }
    tensors |= {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in (null or {}).items()}
    tensors |= {} if gain is None else {"gain": np.ascontiguousarray(gain, dtype=np.float32)}
    if rounds is not None:
        tensors |= {"item_round": rounds.item.astype(np.int64), "head_rounds": rounds.head.astype(np.int64)}
    about = {"first_layer": first_layer, "without_attention": list(without_attention), "engine": engine}
    about |= {"seeds": seeds} if seeds else {}
    with atomic(path) as draft:
        save_file(tensors, draft, metadata={"about": json.dumps(about)})


def require_finite(
    named: object,
    effect: np.ndarray,
    without_attention: Sequence[int] = (),
    first_layer: int = 0,
    rounds: Rounds | None = None,
) -> None:
    """Refuse measured effects that are not finite; arguments as in `write_effects`.

    Args:
        named: what holds the effects, for the message.

    Raises:
        HeadAtlasError: names the first.
    """
    absent = np.isin(np.arange(effect.shape[1]) + first_layer, without_attention)
    strange = ~np.isfinite(effect) & ~absent[:, None] & (True if rounds is None else rounds.measured)
    if strange.any():
        item, layer, head = (int(i) for i in np.argwhere(strange)[0])
        raise HeadAtlasError(
            f"{named}: the effect of layer {first_layer + layer}, head {head} on item {item} is not finite; "
            "the model overflows in this dtype (try dtype: float32)"
        )


def write_learned(
    path: Path,
    score: np.ndarray,
    n_items: int,
    n_questions: int,
    without_attention: Sequence[int] = (),
    engine: dict | None = None,
    pushed: dict[str, np.ndarray] | None = None,
) -> None:
    """Write scores that were learned from all items together: a row is a seed, not an item.

    Args:
        score: [seed, layer, head] float32; every two seeds learned from different halves of the questions.
        n_items, n_questions: what all seeds together learned from.
        pushed: further gates of the same seeds, [seed, layer, head] (`scoring.gates.Fit`).
        others as in `write_effects`.

    Raises:
        HeadAtlasError: as in `write_effects`.
    """
    seeds = {"n_items": n_items, "n_questions": n_questions}
    rows = np.arange(len(score))
    more = {f"pushed_{push}": gates for push, gates in (pushed or {}).items()}
    write_effects(path, score, rows, np.ones(len(score)), without_attention, null=more, engine=engine, seeds=seeds)


def question_index(items: list[dict]) -> np.ndarray:
    """[item] int64: items of one question share a number; numbers count up in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(item["question_id"], len(numbers)) for item in items], dtype=np.int64)


def attribution_from_terms(trace: Path, baseline: np.ndarray | None, positions: str) -> np.ndarray:
    """First-order effects for any baseline from two sums in the trace, without the model.

    sum over positions of (z - b) . g  =  sum of z . g  -  b . (sum of g)

    Args:
        trace: a trace file; positions: `answer` or `all`.
        baseline: [1 or item, layer, head, d_head]; None for head outputs on the counterfactual prompts.

    Returns:
        [item, layer, head] of the score items, nats (`batches.score_answers`).
    """
    with safe_open(trace, "np") as file:
        if baseline is None:
            return file.get_tensor(f"gradient_dot_change_{positions}")
        through, total = (file.get_tensor(f"gradient_{name}_{positions}") for name in ("dot_output", "sum"))
    return through - np.einsum("ilhd,ilhd->ilh", total, np.broadcast_to(baseline, total.shape))


def clean_run(trace: Path) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """`question` [item] and `correct` [item] of a trace's score items, and the model's layers without attention."""
    with safe_open(trace, "np") as file:
        score = file.get_tensor("validate") == 0
        without_attention = json.loads(file.metadata()["without_attention"])
        return file.get_tensor("question")[score], file.get_tensor("correct")[score], without_attention


def trace_shape(trace: Path) -> tuple[int, int, int]:
    """(layer, head, d_head) of the model a trace comes from."""
    with safe_open(trace, "np") as file:
        return tuple(file.get_slice("mean_all").get_shape())


def output_norms(trace: Path) -> np.ndarray:
    """[layer, head]: mean length of each head's output (mean at answer positions) over a trace's score items.

    NaN in layers without attention.
    """
    with safe_open(trace, "np") as file:
        score = file.get_tensor("validate") == 0
        return np.linalg.norm(file.get_tensor("head_output")[score], axis=-1).mean(0)


def score_outputs(traces: list[Path]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Mean head outputs [item, layer, head, d_head] of all traces' score items, with labels [item] and questions."""
    outputs, labels, questions = [], [], []
    for label, trace in enumerate(traces):
        with safe_open(trace, "np") as file:
            score = file.get_tensor("validate") == 0
            outputs.append(file.get_tensor("head_output")[score])
            names = json.loads(file.metadata()["questions"])
        labels += [label] * len(outputs[-1])
        questions += [name for name, chosen in zip(names, score, strict=True) if chosen]
    return np.concatenate(outputs), np.array(labels), questions


def pool_baseline(traces: dict[str, Path], path: Path, pool_size: int, seed: int) -> None:
    """Write the outputs that can replace those of an ablated head, from the score split of all tasks.

    Tensors: `mean_answer`, `mean_all` [layer, head, d_head]: mean over all tasks' items of the item's mean head
    output at answer positions, at all positions; `pool` [n, layer, head, d_head]: head outputs (mean at answer
    positions) of a seeded sample of items, the same number per task, for `baseline: resample`. The metadata
    key `questions` lists the pool items' "task/question".
    """
    sums, count, pool, owners = {"mean_answer": 0.0, "mean_all": 0.0}, 0, [], []
    share = -(-pool_size // len(traces))
    for task in sorted(traces):
        with safe_open(traces[task], "np") as file:
            rows = np.flatnonzero(file.get_tensor("validate") == 0)
            names = json.loads(file.metadata()["questions"])
            outputs = file.get_slice("head_output")
            for row in rows:  # one item at a time: the file may be larger than memory
                sums["mean_answer"] = sums["mean_answer"] + outputs[int(row) : int(row) + 1][0].astype(np.float64)
            sums["mean_all"] = sums["mean_all"] + len(rows) * file.get_tensor("mean_all").astype(np.float64)
            count += len(rows)
            order = sorted(rows, key=lambda row: _draw(seed, f"{task}/{names[row]}/{row}"))[:share]
            pool += [outputs[int(row) : int(row) + 1] for row in order]
            owners += [f"{task}/{names[row]}" for row in order]
    tensors = {name: (total / count).astype(np.float32) for name, total in sums.items()}
    tensors["pool"] = np.concatenate(pool).astype(np.float32)
    with atomic(path) as draft:
        save_file(tensors, draft, metadata={"questions": json.dumps(owners)})


def read_baseline(
    settings: dict, items: list[dict], shape: tuple[int, int, int], trace: Path, pooled: Path | None
) -> np.ndarray:
    """The baseline of each of a task's score items.

    Args:
        settings: `baseline` (zero | mean | task_mean | resample), `positions` (answer | all), `task`, `seed`.
        items: the task's score items; shape: (layer, head, d_head).
        trace: the task's own trace; pooled: what `pool_baseline` wrote (for mean and resample).

    Returns:
        [1, layer, head, d_head] if all items share it, otherwise [item, layer, head, d_head]; float32.
    """
    kind, positions = settings["baseline"], settings["positions"]
    if kind == "zero":
        return np.zeros((1, *shape), np.float32)
    with safe_open(trace if kind == "task_mean" else pooled, "np") as file:
        if kind == "mean":
            return file.get_tensor(f"mean_{positions}")[None]
        if kind == "resample":
            owners = np.array(json.loads(file.metadata()["questions"]))
            chosen = [_resample(owners, settings["task"], item, settings["seed"]) for item in items]
            return file.get_tensor("pool")[chosen]
        if positions == "all":
            return file.get_tensor("mean_all")[None]
        score = file.get_tensor("validate") == 0
        return file.get_tensor("head_output")[score].mean(0, dtype=np.float64, keepdims=True).astype(np.float32)


def _resample(owners: np.ndarray, task: str, item: dict, seed: int) -> int:
    """Index of the pool item whose head outputs replace this item's: any item of another question."""
    others = np.flatnonzero(owners != f"{task}/{item['question_id']}")
    return int(min(others, key=lambda other: _draw(seed, f"{task}/{item['id']}/{other}")))


def _draw(seed: int, name: str) -> bytes:
    """A random rank that depends only on seed and name, not on the rest of the list."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
