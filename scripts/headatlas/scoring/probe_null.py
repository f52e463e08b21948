"""The probe's null: a head's effect when labels carry no information. Uses numpy; no files, no torch.

Labels are permuted between questions and the whole chain is rerun: split, scales, training, early stopping, scores on
held-out questions. A test of a zero mean is not valid: the linear map adds a term to every head's features, which gives
each head a random offset, so its mean effect is not zero even if there is nothing to learn (at 0.05 such a test calls
some 20 % of the heads significant).

Refits are expensive and heads are many, so a head is compared with all heads of the refits. This assumes that effects
over their standard errors have the same distribution under the null for all heads. That holds if features are
standardised, whatever the heads' scales; otherwise heads that hardly vary are called some three times too often, and
others less. The standard error comes from the same fit as the effect, so it also accounts for a probe that has learnt
something, whose gradients are all larger than a refit's. Under this null no head carries label information. If some
heads do, a head that does not is called at 0.05 some 10 % of the time, and a head in the same layer as informative ones
sees part of their information through the layer's mean.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from headatlas.stats.head_statistics import mean_and_error, question_totals

SELECTIONS = ("all", "correct")  # as `statistics.items`


class Fit(Protocol):
    """The parts of a probe's fit that are needed: `effect` [item, layer, head] and `predicted` [item]."""

    effect: np.ndarray
    predicted: np.ndarray


def permuted_labels(labels: np.ndarray, questions: list[str], draws: int, seed: int) -> np.ndarray:
    """Labels permuted between questions: [draw, item].

    The labels of whole groups are permuted, where a group is the items of one question with one label: its items keep a
    common label, and each label keeps its number of groups. The first draws do not depend on `draws`.

    Args:
        labels: [item] integers; questions: [item].
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, 0)))
    _, question = np.unique(questions, return_inverse=True)
    groups, group = np.unique(np.stack([question, labels]), axis=1, return_inverse=True)
    shuffled = [rng.permutation(groups[1])[group.ravel()] for _ in range(draws)]
    return np.array(shuffled, dtype=labels.dtype).reshape(draws, len(labels))


def gather_null(
    refits: Iterable[tuple[np.ndarray, Fit]], questions: list[str], correct: np.ndarray, n_tasks: int
) -> tuple[list[dict[str, np.ndarray]], list[float]]:
    """Collect the null effects of the refits, one after the other.

    Args:
        refits: the labels [item] of each and its fit; questions, correct: [item].

    Returns:
        for each task the tensors of `null_effects`, [refit, layer, head] (none without refits); and the held-out
        accuracy of each refit.
    """
    parts, accuracy = [], []
    for labels, fit in refits:
        parts.append(null_effects(fit.effect, labels, questions, correct, n_tasks))
        accuracy.append(float((fit.predicted == labels).mean()))
    names = parts[0] if parts else ()
    null = [{name: np.stack([part[name][task] for part in parts]) for name in names} for task in range(n_tasks)]
    return null, accuracy


def null_effects(
    effect: np.ndarray, labels: np.ndarray, questions: list[str], correct: np.ndarray, n_tasks: int
) -> dict[str, np.ndarray]:
    """Mean effect of each head on the items of each (permuted) label, and its standard error over questions.

    Args:
        effect: [item, layer, head] of one fit; labels: [item], the labels of that fit; questions: [item];
            correct: [item] whether the model is right.

    Returns:
        `null_effect_{items}` and `null_error_{items}` [task, layer, head] float32 for all items and for the correct
        ones; NaN without items; the error is NaN with a single question, too.
    """
    _, question = np.unique(questions, return_inverse=True)
    present = ~np.isnan(effect).all((0, 2))  # the layers with attention
    found = {}
    for name, kept in zip(SELECTIONS, (np.ones(len(labels), bool), correct.astype(bool)), strict=True):
        both = np.full((2, n_tasks, *effect.shape[1:]), np.nan, np.float32)
        for task in range(n_tasks):
            rows = kept & (labels == task)
            if rows.any():
                totals, counts = question_totals(effect[rows][:, present].reshape(rows.sum(), -1), question[rows])
                both_here = np.stack(mean_and_error(totals, counts))
                both[:, task, present] = both_here.reshape(2, int(present.sum()), effect.shape[2])
        found |= {f"null_effect_{name}": both[0], f"null_error_{name}": both[1]}
    return found
