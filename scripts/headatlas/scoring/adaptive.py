"""Exact effects of ablating heads, where further questions go only to heads that may still matter."""

from collections.abc import Callable

import numpy as np

from headatlas.models.engine import Report
from headatlas.models.head_model import HeadModel
from headatlas.models.replacement import Baseline, baseline_of
from headatlas.scoring.ablation import Passes
from headatlas.stats.adaptive import Bound, draw_rounds, measure_in_rounds
from headatlas.stats.rounds import Rounds


def ablate_adaptively(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray | Baseline,
    layers: range,
    positions: str,
    batch_tokens: int,
    questions: np.ndarray,
    bound: Bound,
    seed: tuple[int, ...],
    advance: Callable[[int], None] = lambda _n: None,
    engine: str = "auto",
) -> tuple[np.ndarray, Rounds, Report]:
    """As `ablation.ablate_layers`, in rounds of questions (`stats.adaptive`).

    The effects of a round are computed like all others: its items, times the heads that go on. Plain passes recompute
    those of the shortest and the longest item of the first round.

    Args:
        questions: [item], items of one question share one; bound: what a head must be able to reach to go on; seed: of
            the order of questions.

    Returns:
        [item, layer of `layers`, head] float32, nats, NaN where a head was not measured; the rounds, with `head`
        [layer, head]; and the report of the engine.
    """
    passes = Passes(model, items, baseline_of(baseline), layers, positions, batch_tokens)
    rounds: list[Rounds] = []

    def compute(engine: str, padded: bool, computed: Callable[[int], None]) -> np.ndarray:
        effects = passes.unmeasured()

        def measure(rows: np.ndarray, heads: np.ndarray) -> None:
            passes.measure(effects, rows, heads, engine, padded, computed)

        rounds[:] = [measure_in_rounds(effects, passes.heads, questions, bound, seed, measure)]
        return effects

    first = np.flatnonzero(draw_rounds(questions, seed) == 0).tolist()
    effects, report = passes.checked(compute, engine, advance, complete=first)
    return effects, rounds[0], report
